"""How a run ends early: a refused key, Ctrl-C, cancellation, an error of the caller's own."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from safetykit_analytics import Unauthorized, afetch_batches, fetch_batches
from tests.fetch.helpers import (
    KEY,
    Script,
    Server,
    answer_well,
    batch_id,
    hang,
    response,
    status,
    status_of,
)


def ids(count):
    return [batch_id(number) for number in range(count)]


async def slow(request):
    await asyncio.sleep(0.05)
    await answer_well(request)


def test_a_401_in_the_middle_keeps_what_arrived_and_stops_at_once():
    names = ids(400)
    refused = []

    async def answer(request):
        if request.batch_id == names[50]:
            refused.append(request)
            await status(401)(request)
        else:
            # From then on the run has to end by itself.
            await (hang if refused else answer_well)(request)

    with Server(answer) as server:
        with pytest.raises(Unauthorized, match="SAFETYKIT_API_KEY") as caught:
            fetch_batches(names, base_url=server.url, api_key=KEY, concurrency=5)
        assert len(server.requests) <= 51 + 2 * 4
        assert server.wait_until_no_connections()
    result = caught.value.result
    assert caught.value.status_code == 401
    assert 46 <= len(result.frame) <= 54
    assert len(result.frame) + len(result.failures) == 400
    assert set(result.failures["kind"]) == {"not_attempted"}


def test_a_401_leaves_a_generator_where_it_is():
    source = iter(ids(1000))
    with Server(status(401)) as server, pytest.raises(Unauthorized) as caught:
        fetch_batches(source, base_url=server.url, api_key=KEY, concurrency=3)
    assert len(caught.value.result.failures) == 3
    assert next(source) == batch_id(3)


def test_a_403_is_that_ids_failure():
    names = ids(60)
    with Server(Script({name: [status(403)] for name in names[5:50]})) as server:
        result = fetch_batches(names, base_url=server.url, api_key=KEY, concurrency=1)
    assert result.failures["batch_id"].tolist() == names[5:50]
    assert result.failures["status_code"].tolist() == [403] * 45


def test_403_for_every_id_is_their_failure_too_and_the_result_says_what_it_may_mean():
    with Server(status(403)) as server:
        result = fetch_batches(ids(75), base_url=server.url, api_key=KEY)
        assert len(server.requests) == 75
    assert result.failures["status_code"].tolist() == [403] * 75
    assert "all are 403: is the key that of the team" in repr(result)


def test_ids_are_pulled_lazily_and_at_most_concurrency_ahead():
    pulled = 0
    ahead = []

    def source():
        nonlocal pulled
        for name in ids(60):
            pulled += 1
            yield name

    with Server() as server:

        async def answer(request):
            ahead.append(pulled - answered[0])
            answered[0] += 1
            await answer_well(request)

        answered = [0]
        server.answer = answer
        assert len(fetch_batches(source(), base_url=server.url, api_key=KEY, concurrency=4).frame) == 60
    assert max(ahead) <= 4


def test_an_error_of_the_iterable_comes_out_unchanged():
    error = LookupError("the database is gone")

    def source():
        yield from ids(10)
        raise error

    with Server(slow) as server:
        with pytest.raises(LookupError) as caught:
            fetch_batches(source(), base_url=server.url, api_key=KEY, concurrency=3)
        assert server.wait_until_no_connections()
    assert caught.value is error


@pytest.mark.parametrize(
    ("clock", "error"), [(lambda: datetime(2024, 1, 1), ValueError), (lambda: 5, TypeError)]
)
def test_a_clock_that_gives_no_aware_datetime_is_an_error(clock, error):
    with Server() as server, pytest.raises(error, match="clock"):
        fetch_batches(ids(1), base_url=server.url, api_key=KEY, clock=clock)


def test_each_answer_is_stamped_by_the_clock_when_it_arrives():
    ticks = iter(range(100))
    with Server() as server:
        frame = fetch_batches(
            ids(3),
            base_url=server.url,
            api_key=KEY,
            concurrency=1,
            clock=lambda: datetime(2024, 1, 1, 0, next(ticks), tzinfo=UTC),
        ).frame
    assert frame["observed_at"].dt.minute.tolist() == [0, 1, 2]


def test_this_machines_clock_is_the_default():
    before = datetime.now(UTC)
    with Server(slow) as server:
        stamp = fetch_batches(ids(1), base_url=server.url, api_key=KEY).frame["observed_at"].iloc[0]
    assert before <= stamp <= datetime.now(UTC)


def test_the_servers_clock_is_its_date_header():
    async def answer(request):
        dated = {} if request.batch_id == batch_id(1) else {"Date": "Wed, 15 Nov 2023 02:00:00 GMT"}
        await request.send(response(status_of(request.batch_id), headers=dated))

    with Server(answer) as server:
        result = fetch_batches(ids(2), base_url=server.url, api_key=KEY, clock="server")
    assert [stamp.isoformat() for stamp in result.frame["observed_at"]] == ["2023-11-15T02:00:00+00:00"]
    assert result.failures["kind"].tolist() == ["protocol"]
    assert "Date" in result.failures["message"].iloc[0]


def hang_and_set(event):
    """Hang, and set an event of the running loop for each request that does."""
    loop = asyncio.get_running_loop()

    async def answer(request):
        loop.call_soon_threadsafe(event.set)
        await hang(request)

    return answer


def test_cancelling_leaves_nothing_running_or_open_and_keeps_what_arrived():
    async def scene(server):
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        server.answer.steps = {name: [hang_and_set(arrived)] for name in ids(500)[100:]}
        task = asyncio.create_task(afetch_batches(ids(500), base_url=server.url, api_key=KEY, concurrency=10))
        while server.in_flight < 10 or len(server.requests) < 110:
            arrived.clear()
            await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert asyncio.all_tasks(loop) == {asyncio.current_task()}
        return caught.value.partial

    with Server(Script({})) as server:
        partial = asyncio.run(scene(server))
        assert server.wait_until_no_connections()
    assert partial.frame["batch_id"].tolist() == ids(100)
    assert len(partial.failures) == 400
    assert set(partial.failures["kind"]) == {"not_attempted"}
    assert partial.failures["attempts"].sum() == 10


def test_a_timeout_around_the_call_has_the_partial_result_as_its_context():
    async def scene(server):
        arrived = asyncio.Event()
        server.answer.steps = {"hung": [hang_and_set(arrived)]}
        async with asyncio.timeout(None) as limit:
            names = [batch_id(1), "hung"]
            fetching = asyncio.create_task(
                afetch_batches(names, base_url=server.url, api_key=KEY, concurrency=1)
            )
            await arrived.wait()
            limit.reschedule(0.0)
            await fetching

    with Server(Script({})) as server, pytest.raises(TimeoutError) as caught:
        asyncio.run(scene(server))
    assert caught.value.__context__.partial.frame["batch_id"].tolist() == [batch_id(1)]


SCRIPT = """
import asyncio, signal, threading
from safetykit_analytics import fetch_batches
signal.signal(signal.SIGINT, signal.default_int_handler)
names = [f"id-{number}" for number in range(100)]
def job():
    try:
        fetch_batches(names, concurrency=5)
    except KeyboardInterrupt as stop:
        partial = stop.partial
        kinds = set(partial.failures["kind"])
        print(len(partial.frame), len(partial.failures), kinds, threading.active_count(), flush=True)
async def notebook():
    job()
job()
asyncio.new_event_loop().run_until_complete(notebook())
"""


def test_ctrl_c_keeps_what_arrived_and_leaves_nothing_open_in_a_script_and_in_a_notebook():
    five_hang = {15: threading.Event(), 30: threading.Event()}

    async def answer(request):
        if is_due := five_hang.get(len(server.requests)):
            is_due.set()
        await (answer_well if int(request.batch_id[3:]) < 10 else hang)(request)

    with Server(answer) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=os.environ
            | {"SAFETYKIT_API_KEY": KEY, "SAFETYKIT_BASE_URL": server.url, "PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for due in five_hang.values():
            assert due.wait(100)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert server.wait_until_no_connections()
    assert out == "10 90 {'not_attempted'} 1\n" * 2, err
    assert err == ""


def test_a_transport_of_the_callers_is_used_and_not_closed():
    class Counting(httpx.AsyncBaseTransport):
        closed = False

        async def handle_async_request(self, request):
            assert request.headers["host"] == "api.example.com"
            return httpx.Response(404)

        async def aclose(self):
            self.closed = True

    transport = Counting()
    result = fetch_batches(["a"], api_key=KEY, base_url="http://api.example.com", transport=transport)
    assert result.failures["status_code"].tolist() == [404]
    assert result.retry().failures["attempts"].tolist() == [2]
    assert not transport.closed


def test_a_transport_that_belongs_to_another_event_loop_is_named_as_the_cause_at_once():
    async def answer(request):
        await request.send(response(status_of(request.batch_id), headers={"Connection": "close"}))
        request.close()

    transport = AiohttpTransport()
    with Server(answer) as server:
        first = fetch_batches(["a"], base_url=server.url, api_key=KEY, transport=transport)
        second = fetch_batches(["a"], base_url=server.url, api_key=KEY, transport=transport)
    asyncio.run(transport.aclose())
    assert len(first.frame) == 1
    assert second.failures["kind"].tolist() == ["transport"]
    assert second.failures["attempts"].tolist() == [1]
    assert "bring a new one for each" in second.failures["message"].iloc[0]


def test_a_transport_with_connections_serves_all_calls_of_one_event_loop():
    async def scene(url):
        transport = AiohttpTransport()
        settings = {"base_url": url, "api_key": KEY, "transport": transport}
        results = [await afetch_batches(["a", "b"], **settings) for _ in range(2)]
        results += [await results[0].aretry()]
        await transport.aclose()
        return results

    with Server(Script({"b": [status(404), status(404)]})) as server:
        results = asyncio.run(scene(server.url))
    assert [len(result.frame) for result in results] == [1, 1, 2]


def test_whatever_a_transport_raises_is_a_transport_failure(no_waiting):
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise RuntimeError("CANARY")

    result = fetch_batches(["a"], api_key=KEY, transport=Broken())
    assert result.failures["kind"].tolist() == ["transport"]
    assert "CANARY" not in result.failures["message"].iloc[0]


def test_nothing_is_left_running_after_a_good_run():
    with Server() as server:
        fetch_batches(ids(20), base_url=server.url, api_key=KEY)
        assert server.wait_until_no_connections()
    assert [thread.name for thread in threading.enumerate() if "safetykit" in thread.name] == []
