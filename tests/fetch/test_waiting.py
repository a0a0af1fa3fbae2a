"""Being told to wait, and connections that were dead: nobody's fault, and no id is lost for it."""

import asyncio
import io
import math
import sys
from collections import Counter

import httpx
import pytest

from safetykit_analytics import fetch_batches
from safetykit_analytics.fetch import pacing
from tests.fetch.helpers import (
    KEY,
    Api,
    Script,
    Server,
    Steps,
    answer_well,
    batch_id,
    good,
    response,
    status,
    status_of,
)


def ids(count):
    return [batch_id(number) for number in range(count)]


def fetch(names, server, **settings):
    return fetch_batches(names, base_url=server.url, api_key=KEY, **settings)


class Quota:
    """So many requests per window of time; else 429 and how long the window lasts yet."""

    def __init__(self, count, window_s, header="retry-after-ms"):
        self.count, self.window_s, self.header = count, window_s, header
        self.ends = self.used = 0

    async def __call__(self, name, now):
        if now >= self.ends:
            self.ends, self.used = now + self.window_s, 0
        self.used += 1
        answer = good(name) if self.used <= self.count else wait(self.ends - now, self.header)
        await asyncio.sleep(0.02)
        return answer


def wait(seconds, header="retry-after-ms", code=429):
    said = seconds * 1000 if header == "retry-after-ms" else seconds
    return httpx.Response(code, headers={header: str(math.ceil(said))})


@pytest.mark.parametrize("header", ["retry-after-ms", "retry-after"])
@pytest.mark.parametrize("window_s", [0.5, 2.0])
def test_a_quota_is_met_with_few_requests_too_many_and_no_id_is_lost(window_s, header):
    api = Api(Quota(40, window_s, header))
    assert len(api.fetch(ids(240)).frame) == 240
    assert len(api.requests) <= 1.5 * 240
    # Six windows hold 240 answers; a header of whole seconds may name a time after the window's end.
    assert api.ended < 6 * (window_s if header == "retry-after-ms" else math.ceil(window_s)) * 1.1 + 0.5


@pytest.mark.parametrize("header", ["retry-after-ms", "retry-after"])
def test_an_api_that_is_closed_for_a_while_is_waited_for_with_a_few_probes(header):
    async def closed_for_6_s(name, now):
        return wait(3, header, code=503) if now < 6 else good(name)

    api = Api(closed_for_6_s)
    assert len(api.fetch(ids(500)).frame) == 500
    assert len(api.requests) <= 1.5 * 500


def test_being_told_to_wait_costs_an_id_none_of_its_attempts(no_waiting):
    (name,) = ids(1)
    with Server(Script({name: [status(429)] * 25})) as server:
        assert fetch([name], server).frame["batch_id"].tolist() == [name]
        assert len(server.requests) == 26


@pytest.mark.parametrize("said", ["0", "Mon, 01 Jan 2001 00:00:00 GMT", None])
def test_no_time_to_wait_is_no_licence_to_hammer(said):
    async def refuse(_name, _now):
        await asyncio.sleep(0.02)
        return httpx.Response(429, headers={} if said is None else {"Retry-After": said})

    api = Api(refuse)
    result = api.fetch(ids(200), timeout_s=3.0)
    assert len(api.requests) <= 100 + 2 * 8
    asked = result.failures["attempts"] > 0
    assert set(result.failures.loc[asked, "kind"]) == {"http_status"}
    assert set(result.failures.loc[~asked, "kind"]) == {"not_attempted"}
    assert result.failures["message"].str.contains("timeout_s = 3 s").all()


@pytest.mark.parametrize("headers", ["Retry-After: 0, 1", "Retry-After: 0\r\nRetry-After: 1"])
def test_of_several_waits_the_longest_is_obeyed(headers):
    (name,) = ids(1)

    async def twice(request):
        await request.send(f"HTTP/1.1 429 Status\r\nContent-Length: 0\r\n{headers}\r\n\r\n".encode())

    with Server(Script({name: [twice]})) as server:
        assert len(fetch([name], server).frame) == 1
        first, second = (request.arrived for request in server.requests)
    assert second - first >= 1.0


def test_a_wait_that_is_too_long_ends_the_run_and_the_rest_say_how_long():
    with Server(status(429, retry_after="3600")) as server:
        result = fetch(ids(300), server, concurrency=10)
        assert len(server.requests) <= 10
    unsent = result.failures[result.failures["kind"] == "not_attempted"]
    assert len(unsent) >= 290
    assert (unsent["retry_after_s"] == 3600).all()
    assert unsent["message"].str.contains("asked to wait 3600 s, longer than timeout_s = 60 s").all()


def test_scattered_refusals_do_not_pause_the_run():
    names = ids(400)
    api = Api(Steps({name: [wait(1)] if at % 50 == 0 else [0.02] for at, name in enumerate(names)}))
    assert len(api.fetch(names).frame) == 400
    assert all(api.times_of(name)[-1] < 1.0 for at, name in enumerate(names) if at % 50)


def test_the_progress_bar_says_that_it_waits(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    assert len(Api(Quota(10, 0.5)).fetch(ids(30), progress=True).frame) == 30
    assert "s as the API asked" in shown.getvalue()
    assert "as the API asked" not in shown.getvalue().splitlines()[-1].rpartition("\r")[2]


async def close_after(request):
    """Answer, and close without having said so."""
    await answer_well(request)
    request.close()


@pytest.mark.parametrize(("count", "concurrency"), [(200, 100), (60, 4), (60, 1)])
def test_a_server_that_closes_after_every_answer_without_saying_so_loses_no_id(count, concurrency):
    with Server(close_after) as server:
        result = fetch(ids(count), server, concurrency=concurrency)
        assert len(server.requests) == count
    assert len(result.frame) == count


def test_a_dead_connection_takes_no_retry_and_no_back_off(monkeypatch):
    waited = []
    monkeypatch.setattr(pacing, "backoff_s", lambda n_before: waited.append(n_before) or 0.001)

    async def at_the_second(request):
        if request.nth > 1:
            request.reset()
        else:
            await answer_well(request)

    with Server(at_the_second) as server:
        result = fetch(ids(100), server, concurrency=1)
    assert len(result.frame) == 100
    assert waited == []


def test_a_dead_connection_is_resent_once_and_each_request_waits_for_its_turn(no_waiting, monkeypatch):
    seen, turns = Counter(), []
    wait_for_turn = pacing.MaxRate.wait
    monkeypatch.setattr(pacing.MaxRate, "wait", lambda rate: turns.append(rate) or wait_for_turn(rate))

    async def dies_twice(request):
        seen[request.batch_id] += 1
        if request.batch_id == batch_id(1) and seen[request.batch_id] < 3:
            request.reset()
        else:
            await answer_well(request)

    with Server(dies_twice) as server:
        assert len(fetch(ids(3), server, concurrency=1, max_rate=1000).frame) == 3
        assert len(server.requests) == len(turns) == 5


def test_ids_that_wait_go_before_those_that_were_never_sent():
    unanswered = []
    quota = Quota(5, 0.3)

    async def answer(name, now):
        asked.add(name)
        response = await quota(name, now)
        if response.status_code == 200:
            asked.remove(name)
        unanswered.append(len(asked))
        return response

    asked = set()
    assert len(Api(answer).fetch(ids(60), concurrency=10, timeout_s=60.0).frame) == 60
    assert max(unanswered) <= 10


def test_a_pause_gives_way_to_cancellation():
    from safetykit_analytics import afetch_batches

    async def scene(url):
        async with asyncio.timeout(0.5):
            await afetch_batches(ids(50), base_url=url, api_key=KEY)

    with Server(status(429, retry_after="30")) as server, pytest.raises(TimeoutError) as caught:
        asyncio.run(scene(server.url))
    partial = caught.value.__context__.partial
    assert len(partial.failures) == 50


def test_a_byte_order_mark_is_no_fault():
    import json

    async def marked(request):
        await request.send(response(b"\xef\xbb\xbf" + json.dumps(status_of(request.batch_id)).encode()))

    with Server(marked) as server:
        assert len(fetch(ids(1), server).frame) == 1


def test_a_header_of_16_kilobytes_is_read():
    async def long(request):
        await request.send(response(status_of(request.batch_id), headers={"X-Long": "x" * 16_384}))

    with Server(long) as server:
        assert len(fetch(ids(1), server).frame) == 1
