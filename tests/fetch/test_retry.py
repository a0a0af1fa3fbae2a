"""What is tried again, when, how often, and when it is given up."""

import asyncio
import itertools
import random
import socket
import ssl
from collections import Counter

import httpx
import pytest

from safetykit_analytics import afetch_batches, fetch_batches
from tests.fetch.helpers import (
    KEY,
    Api,
    Script,
    Server,
    Steps,
    always,
    answer_well,
    batch_id,
    close,
    hang,
    reset,
    response,
    status,
    status_of,
    truncate,
)


def ids(count):
    return [batch_id(number) for number in range(count)]


def fetch(names, server, **settings):
    return fetch_batches(names, base_url=server.url, api_key=KEY, **settings)


def gaps(server, name):
    """Seconds between the requests for one id."""
    times = [request.arrived for request in server.requests if request.batch_id == name]
    return [after - before for before, after in itertools.pairwise(times)]


async def half_close(request):
    """End our side of the connection in the middle of a body, and keep listening."""
    await request.send(response(status_of(request.batch_id))[:-40])
    request.writer.write_eof()
    await asyncio.sleep(0.05)
    request.close()


PASSING = {
    **{str(code): status(code) for code in (408, 409, 429, 500, 502, 503, 504, 529)},
    "reset": reset,
    "close": close,
    "truncate": truncate,
    "half-close": half_close,
    "404 that says retry": status(404, x_should_retry="true"),
}


def test_passing_trouble_is_tried_again_and_leaves_no_trace(no_waiting):
    steps = {batch_id(place): [fault] for place, fault in enumerate(PASSING.values())}
    names = list(steps)
    with Server(Script(steps)) as server:
        result = fetch(names, server)
        assert server.asked == dict.fromkeys(names, 2)
    assert result.frame["batch_id"].tolist() == names


@pytest.mark.parametrize(
    "answer", [status(400), status(404), status(422), status(500, x_should_retry="false")]
)
def test_lasting_trouble_is_not_tried_again(answer):
    with Server(answer) as server:
        assert fetch(ids(1), server).failures["attempts"].tolist() == [1]
        assert len(server.requests) == 1


def test_retry_after_is_obeyed_and_never_undercut():
    a, b, c, d = ids(4)
    steps = {
        a: [status(429, retry_after="1")],
        b: [status(503, retry_after="30", retry_after_ms="400")],
        # A date counts from the server's own clock, however wrong that is.
        c: [
            status(429, date="Mon, 01 Jan 2024 00:00:00 GMT", retry_after="Mon, 01 Jan 2024 00:00:01 GMT"),
        ],
        d: [status(429, retry_after="Mon, 01 Jan 2001 00:00:00 GMT")],
    }
    with Server(Script(steps)) as server:
        assert len(fetch([a, b, c, d], server).frame) == 4
        assert gaps(server, a)[0] >= 1.0
        assert 0.4 <= gaps(server, b)[0] < 25
        assert gaps(server, c)[0] >= 1.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "120"}, 120.0), ({"retry_after": "0", "retry_after_ms": "90500"}, 90.5)],
)
def test_a_wait_beyond_the_time_budget_is_given_up_at_once_and_reported(headers, seconds):
    with Server(status(503, **headers)) as server:
        failure = fetch(ids(1), server).failures.iloc[0]
    assert (failure["kind"], failure["status_code"], failure["attempts"]) == ("http_status", 503, 1)
    assert failure["retry_after_s"] == seconds
    assert "longer than timeout_s" in failure["message"]


NO_TIME = ["-5", "nan", "inf", "1e400", "soon", "", "-1e400", "Mon, 99 Foo 0000 99:99:99 GMT", "9" * 5000]


@pytest.mark.parametrize("said", NO_TIME, ids=[said[:12] or "nothing" for said in NO_TIME])
@pytest.mark.parametrize("header", ["retry_after", "retry_after_ms"])
def test_a_wait_that_is_no_time_is_as_if_not_asked_for(no_waiting, header, said):
    (name,) = ids(1)
    with Server(Script({name: [status(429, **{header: said})]})) as server:
        assert fetch([name], server).frame["batch_id"].tolist() == [name]
        assert server.asked == {name: 2}


@pytest.mark.parametrize("said", ["1e300", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_wait_is_given_up_at_once_and_reported_as_it_was_asked_for(said):
    with Server(status(429, retry_after=said)) as server:
        failure = fetch(ids(1), server).failures.iloc[0]
    assert (failure["status_code"], failure["attempts"]) == (429, 1)
    assert failure["retry_after_s"] > 1e10
    assert "longer than timeout_s" in failure["message"]


def test_attempts_are_the_requests_that_left_this_machine(no_waiting):
    a, b, c = ids(3)
    steps = {b: [close] * 100, c: [status(500)] * 100}
    with Server(Script(steps)) as server:
        # One after the other over one connection: b finds it alive, kept from a, then closed on it, which is
        # no fault of the API's: ten attempts follow on connections of their own.
        result = fetch([a, b, c], server, concurrency=1)
        attempts = dict(zip(result.failures["batch_id"], result.failures["attempts"], strict=True))
        assert attempts == {b: server.asked[b], c: server.asked[c]} == {b: 11, c: 10}
        again = result.retry()
        assert again.failures["attempts"].tolist() == [21, 20]


def test_an_id_that_never_gets_an_answer_is_a_transport_failure():
    with Server(hang) as server:
        result = fetch(ids(5), server, timeout_s=0.4)
    assert result.failures["kind"].tolist() == ["transport"] * 5
    assert (result.failures["attempts"] >= 1).all()
    assert result.failures["status_code"].isna().all()


def test_a_body_that_drips_is_cut_off_at_the_deadline():
    async def drip(request):
        content = response(status_of(request.batch_id))
        for at in range(len(content)):
            await request.send(content[at : at + 1])
            await asyncio.sleep(0.05)

    with Server(drip) as server:
        result = fetch(ids(3), server, timeout_s=0.5)
        assert server.wait_until_no_connections()
    assert result.failures["kind"].tolist() == ["transport"] * 3


SILENCE_S = 1e6


def test_an_id_ends_at_its_deadline_and_an_attempt_that_hangs_leaves_time_for_two_others():
    a, b = ids(2)
    api = Api(Steps({a: [SILENCE_S] * 9, b: [SILENCE_S, SILENCE_S]}))
    result = api.fetch([a, b], timeout_s=60.0)
    assert result.frame["batch_id"].tolist() == [b]
    assert len(api.times_of(a)) == 3
    assert api.ended == pytest.approx(60.0)


def test_at_the_deadline_the_last_answer_is_reported_if_there_was_one():
    name = batch_id(1)
    api = Api(Steps({name: [httpx.Response(500), *[SILENCE_S] * 4]}))
    failure = api.fetch([name], timeout_s=3.0).failures.iloc[0]
    assert (failure["kind"], failure["status_code"]) == ("http_status", 500)
    assert failure["attempts"] >= 2


def test_back_off_counts_against_the_time_budget():
    api = Api(Steps({batch_id(0): [httpx.Response(500)] * 99}))
    failure = api.fetch(ids(1), timeout_s=1.0).failures.iloc[0]
    assert api.ended <= 1.0
    assert failure["status_code"] == 500
    assert 1 <= failure["attempts"] <= 5
    assert "timeout_s" in failure["message"]


def test_waiting_for_a_place_or_for_the_rate_costs_no_time_budget():
    slow = {name: [0.29] for name in ids(5)}
    assert len(Api(Steps(slow)).fetch(ids(5), concurrency=1, timeout_s=0.9).frame) == 5
    assert len(Api(Steps({})).fetch(ids(4), max_rate=0.5, timeout_s=0.9).frame) == 4


OUTAGES = {"reset": reset, "503": status(503), "hang": hang}


@pytest.mark.parametrize(
    ("outage", "count"),
    [
        *((outage, 400) for outage in ("refused", *OUTAGES)),
        ("503", 2500),
        *(pytest.param(outage, 10_000, marks=pytest.mark.heavy) for outage in ("refused", *OUTAGES)),
    ],
)
def test_a_full_outage_ends_with_few_retries_and_everything_in_failures(no_waiting, outage, count):
    names = ids(count)
    with Server(OUTAGES.get(outage, hang)) as server:
        if outage == "refused":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                server.port = free.getsockname()[1]
        result = fetch(names, server, timeout_s=0.3 if outage == "hang" else 60.0)
    assert len(result.frame) == 0
    assert result.failures["batch_id"].tolist() == names
    attempts = result.failures["attempts"]
    assert attempts.sum() - (attempts > 0).sum() <= max(100, 0.05 * count)
    kind = "http_status" if outage == "503" else "transport"
    assert set(result.failures["kind"]) == {kind, "not_attempted"}
    assert (attempts[result.failures["kind"] == "not_attempted"] == 0).all()


def test_an_outage_in_the_middle_ends_the_run_and_retry_takes_up_the_rest(no_waiting):
    names = ids(500)
    seen = []

    async def dies(request):
        seen.append(request)
        await (answer_well if len(seen) <= 200 else reset)(request)

    with Server(dies) as server:
        first = fetch(names, server)
        assert len(first.frame) == 200
        seen.clear()
        server.answer = answer_well
        server.requests.clear()
        second = first.retry()
        assert server.asked == dict.fromkeys(first.failures["batch_id"], 1)
    assert second.frame["batch_id"].tolist() == names


def test_an_outage_lists_a_generator_to_its_end(no_waiting):
    names = ids(300)
    with Server(reset) as server:
        result = fetch(iter(names), server)
    assert result.failures["batch_id"].tolist() == names


def test_a_generator_without_an_end_can_be_stopped_in_an_outage_too(no_waiting):
    async def scene(url):
        pulled = 0

        def endless():
            nonlocal pulled
            for pulled in itertools.count():
                if pulled == 1000:
                    asyncio.get_running_loop().call_soon(fetching.cancel)
                # Else the test would take all memory instead of failing.
                assert pulled < 100_000
                yield f"id-{pulled}"

        fetching = asyncio.create_task(afetch_batches(endless(), base_url=url, api_key=KEY))
        await fetching

    with Server(reset) as server, pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(scene(server.url))
    failures = caught.value.partial.failures
    assert len(failures) == 1001
    assert "the API is down" in failures["message"].iloc[1000]


def test_scattered_faults_on_a_fifth_of_the_answers_are_all_retried(no_waiting):
    names = ids(500)
    draw = random.Random(5)

    async def flaky(request):
        await (status(500) if draw.random() < 0.2 else answer_well)(request)

    with Server(flaky) as server:
        result = fetch(names, server)
    assert result.frame["batch_id"].tolist() == names


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.heavy)])
def test_ids_with_a_tenth_of_all_answers_bad_are_all_resolved_each_once(no_waiting, count):
    names = ids(count)
    draw = random.Random(7)
    good = Counter()
    faults = [status(429), status(429, retry_after="0"), status(500), reset, truncate]

    async def flaky(request):
        if draw.random() < 0.1:
            await draw.choice(faults)(request)
        else:
            good[request.batch_id] += 1
            await answer_well(request)

    with Server(flaky) as server:
        result = fetch(names, server)
    assert result.frame["batch_id"].tolist() == names
    assert len(result.failures) == 0
    assert good == dict.fromkeys(names, 1)


def test_everything_at_once_is_one_outcome_each(no_waiting):
    faults = {
        "well": (answer_well, None),
        "html": (always(response(b"<html>")), "protocol"),
        "missing": (status(404), "http_status"),
        "mixed-up": (always(response(status_of("another"))), "id_mismatch"),
        "wrong": (always(response({"batch_id": 1})), "validation"),
        "reset": (reset, "transport"),
        "half": (truncate, "transport"),
        "..": (answer_well, "invalid_id"),
    }
    names = list(faults)
    with Server(Script({name: [fault] * 50 for name, (fault, _) in faults.items()})) as server:
        result = fetch([*names, *names], server)
    assert result.frame["batch_id"].tolist() == ["well"]
    found = dict(zip(result.failures["batch_id"], result.failures["kind"], strict=True))
    assert found == {name: kind for name, (_, kind) in faults.items() if kind}


def test_a_port_where_nobody_listens_is_a_transport_failure(no_waiting):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = fetch_batches(ids(1), base_url=f"http://127.0.0.1:{port}", api_key=KEY)
    assert result.failures["kind"].tolist() == ["transport"]
    assert "refused" in result.failures["message"].iloc[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl.SSLCertVerificationError(1, "CANARY"), "certificate"),
        (ssl.SSLError(1, "CANARY"), "TLS"),
        (socket.gaierror(-2, "CANARY"), "host name"),
        (TimeoutError("CANARY"), "timed out"),
        (ConnectionResetError(104, "CANARY"), "Connection reset"),
        (LookupError("CANARY"), "LookupError"),
    ],
)
def test_a_transport_failure_says_what_happened_and_nothing_that_it_was_told(error, words, no_waiting):
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise httpx.ConnectTimeout("CANARY") from error

    message = fetch_batches(["a"], api_key=KEY, transport=Broken()).failures["message"].iloc[0]
    assert words in message
    assert "CANARY" not in message
