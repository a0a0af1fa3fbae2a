"""The key and the presigned URLs are nowhere: canaries are planted, and every output is searched for them."""

import asyncio
import copy
import io
import logging
import os
import pickle
import signal
import traceback
import warnings

import httpx
import pytest
from pydantic import SecretStr

from safetykit_analytics import (
    FetchFailed,
    FetchFailures,
    MissingApiKey,
    Unauthorized,
    afetch_batches,
    aget_batch,
    fetch_batches,
    get_batch,
)
from tests.fetch.helpers import (
    KEY,
    Server,
    always,
    batch_id,
    hang,
    reset,
    response,
    status,
    status_of,
)

URL = "https://downloads.example.com/results?signature=CANARY-URL-51c0"
CANARIES = (KEY, "CANARY")
GOOD, MISSING, MIXED, WRONG, CUT, HTML = (batch_id(number) for number in range(6))


async def leaky(request):
    """An API that puts secrets wherever it can."""
    headers = {"Location": URL, "X-Request-Key": request.headers["authorization"], "Set-Cookie": f"a={URL}"}
    document = status_of(request.batch_id, download_url=URL, upload_url=URL, note=URL)
    answers = {
        MISSING: response({"error": request.headers["authorization"], "url": URL}, 404, headers),
        MIXED: response(document | {"batch_id": URL}, headers=headers),
        WRONG: response(document | {"error_count": URL, "policy_id": [URL]}, headers=headers),
        CUT: response(document, headers=headers)[:-30],
        HTML: response(f"<html>{URL}{KEY}".encode(), headers=headers | {"Content-Type": f"text/{URL}"}),
    }
    await request.send(answers.get(request.batch_id, response(document, headers=headers)))
    if request.batch_id == CUT:
        request.close()


def whole_traceback(error):
    """What error trackers collect: every frame with its locals, of all causes too.

    The frames of this file are left out: they hold the key, as a caller's do.
    """
    told = [repr(error), str(error), repr(vars(error))]
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    told += traceback.StackSummary.extract(iter(frames), capture_locals=True).format()
    told += [whole_traceback(cause) for cause in (error.__cause__, error.__context__) if cause is not None]
    return "".join(told)


def searched(text):
    return [canary for canary in CANARIES if canary in text]


@pytest.fixture
def everything_logged():
    """Every record of every logger, with all that it carries."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    handler.addFilter(lambda record: out.write(f"{vars(record)}\n") or True)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield out
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def planted(no_waiting, everything_logged):
    with Server(leaky) as server:
        result = fetch_batches(
            [GOOD, MISSING, MIXED, WRONG, CUT, HTML], base_url=server.url, api_key=KEY, progress=False
        )
    assert len(result.frame) == 1
    assert len(result.failures) == 5
    return result, everything_logged


def test_no_log_record_at_any_level_holds_a_secret(planted):
    _, logged = planted
    assert searched(logged.getvalue()) == []
    assert "HTTP Request" not in logged.getvalue()


def test_no_part_of_a_result_holds_a_secret(planted):
    result, _ = planted
    frames = result.frame.to_csv() + result.failures.to_csv() + result.failures.to_json()
    assert searched(repr(result) + str(result) + frames + repr(vars(result))) == []
    assert result.frame["has_download"].tolist() == [True]


def test_no_pickle_of_a_result_or_of_its_errors_holds_a_secret(planted):
    result, _ = planted
    with pytest.raises(FetchFailures) as caught:
        result.raise_for_failures()
    for thing in (result, caught.value, copy.deepcopy(result)):
        pickled = pickle.dumps(thing)
        assert not any(canary.encode() in pickled for canary in CANARIES)


def errors():
    """All errors of this stage, each made by the way that would leak most easily."""

    def failing(answer, error, job):
        with Server(answer) as server, pytest.raises(error) as caught:
            job(server.url)
        return caught.value

    yield failing(status(401), Unauthorized, lambda url: fetch_batches(["a"], base_url=url, api_key=KEY))
    yield failing(status(401), Unauthorized, lambda url: get_batch("a", base_url=url, api_key=KEY))
    for name in (MISSING, MIXED, WRONG, HTML):
        yield failing(leaky, FetchFailed, lambda url, name=name: get_batch(name, base_url=url, api_key=KEY))
    for answer in (reset, hang, always(b"HELLO\r\n\r\n")):
        yield failing(
            answer, FetchFailed, lambda url: get_batch("a", base_url=url, api_key=KEY, timeout_s=0.3)
        )
    yield failing(
        reset, FetchFailed, lambda url: asyncio.run(aget_batch("a", base_url=url, api_key=KEY, timeout_s=0.3))
    )
    yield failing(
        leaky,
        FetchFailures,
        lambda url: fetch_batches([MISSING], base_url=url, api_key=SecretStr(KEY)).raise_for_failures(),
    )
    yield failing(
        leaky, ValueError, lambda url: fetch_batches([GOOD], api_key=KEY, base_url="http://user:password@x")
    )
    yield failing(leaky, ValueError, lambda url: fetch_batches([GOOD], api_key=KEY, base_url=f"{url}?a=1"))
    yield failing(leaky, ValueError, lambda url: fetch_batches([GOOD], api_key=KEY, concurrency=0))
    yield failing(leaky, TypeError, lambda url: fetch_batches(GOOD, api_key=KEY, base_url=url))
    yield failing(leaky, TypeError, lambda url: fetch_batches([GOOD], api_key=KEY, base_url=url, clock=5))
    for bad_key in (f"{KEY}\n", f"{KEY} x", f"ключ{KEY}"):
        yield failing(leaky, MissingApiKey, lambda url, key=bad_key: fetch_batches([], api_key=key))
        yield failing(leaky, MissingApiKey, lambda url, key=bad_key: get_batch(GOOD, api_key=key))
    yield failing(leaky, MissingApiKey, lambda url: fetch_batches([], api_key=KEY.encode()))


def test_no_traceback_of_ours_holds_a_secret_with_captured_locals_either(no_waiting):
    for error in errors():
        told = whole_traceback(error)
        assert "safetykit_analytics/fetch" in told
        assert searched(told) == [], told


def test_an_error_of_a_callers_transport_is_not_behind_the_error_that_we_raise():
    class Leaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise ConnectionError(f"{dict(request.headers)}")

    with pytest.raises(FetchFailed) as caught:
        get_batch(GOOD, api_key=KEY, transport=Leaky(), timeout_s=0.1)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def hang_and_tell(server):
    """Leave one id without an answer; return what is set when it was asked for."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    async def answer(request):
        if request.batch_id != "hung":
            await leaky(request)
            return
        loop.call_soon_threadsafe(arrived.set)
        await hang(request)

    server.answer = answer
    return arrived


def test_a_cancelled_run_holds_no_secret():
    async def scene(server):
        arrived = hang_and_tell(server)
        fetching = asyncio.create_task(
            afetch_batches([GOOD, "hung"], base_url=server.url, api_key=SecretStr(KEY), concurrency=1)
        )
        await arrived.wait()
        fetching.cancel()
        await fetching

    with Server() as server, pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(scene(server))
    assert searched(whole_traceback(caught.value) + repr(caught.value.partial)) == []
    assert len(caught.value.partial.frame) == 1


async def cancelled(server):
    arrived = hang_and_tell(server)
    asking = asyncio.create_task(aget_batch("hung", base_url=server.url, api_key=SecretStr(KEY)))
    await arrived.wait()
    asking.cancel()
    await asking


async def timed_out(server):
    arrived = hang_and_tell(server)
    async with asyncio.timeout(None) as limit:
        asking = asyncio.create_task(aget_batch("hung", base_url=server.url, api_key=SecretStr(KEY)))
        await arrived.wait()
        limit.reschedule(0.0)
        await asking


def interrupted(server):
    async def interrupt(request):
        os.kill(os.getpid(), signal.SIGINT)
        await hang(request)

    server.answer = interrupt
    # A test run in the background passes on that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        get_batch("hung", base_url=server.url, api_key=SecretStr(KEY))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (lambda server: asyncio.run(cancelled(server)), asyncio.CancelledError),
        (lambda server: asyncio.run(timed_out(server)), TimeoutError),
        (interrupted, KeyboardInterrupt),
    ],
)
def test_one_batch_that_is_not_waited_for_any_longer_leaves_no_secret_and_nothing_open(job, error):
    with Server() as server:
        with pytest.raises(error) as caught:
            job(server)
        assert len(server.requests) == 1
        assert server.wait_until_no_connections()
    told = whole_traceback(caught.value)
    assert "safetykit_analytics/fetch" in told
    assert searched(told) == []


def test_an_unknown_status_is_shown_in_part_only():
    async def answer(request):
        await request.send(response(status_of(request.batch_id, batch_status="x" * 500)))

    with Server(answer) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fetch_batches(["a"], base_url=server.url, api_key=KEY)
    assert len(str(warned[0].message)) < 300


def test_the_key_goes_out_in_the_authorization_header_only():
    with Server() as server:
        fetch_batches([GOOD], base_url=server.url, api_key=KEY)
        request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in request.path
    assert [name for name, value in request.headers.items() if KEY in value] == ["authorization"]
    assert "cookie" not in request.headers


def test_no_cookie_is_kept():
    with Server(leaky) as server:
        fetch_batches([GOOD, batch_id(9)], base_url=server.url, api_key=KEY, concurrency=1)
        assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize("address", ["http://api.example.com", "http://192.168.0.5"])
def test_plain_http_reaches_this_machine_only_unless_asked_for(address):
    with pytest.raises(ValueError, match="in the clear"):
        fetch_batches([], api_key=KEY, base_url=address)
    transport = httpx.MockTransport(lambda request: httpx.Response(404))
    assert len(fetch_batches(["a"], api_key=KEY, base_url=address, transport=transport).failures) == 1


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1"])
def test_plain_http_to_this_machine_by_any_of_its_names_is_no_risk(host):
    with Server() as server:
        found = fetch_batches([GOOD], api_key=KEY, base_url=f"http://{host}:{server.port}")
    assert found.frame["batch_id"].tolist() == [GOOD]


@pytest.mark.parametrize("host", ["localhost.example.com", "127.0.0.1.example.com", "localhost@example.com"])
def test_a_name_that_only_begins_like_this_machine_is_another(host):
    with pytest.raises(ValueError, match=r"in the clear|user name"):
        fetch_batches([], api_key=KEY, base_url=f"http://{host}")


@pytest.mark.parametrize(
    "address", ["", "api.example.com", "ftp://x", "https://", "https://x/?a=1", "https://x#a", "http://[::1"]
)
def test_an_address_that_cannot_be_meant_is_refused_and_not_shown(address):
    with pytest.raises(ValueError, match="base_url") as caught:
        fetch_batches([], api_key=KEY, base_url=address)
    assert not address or address not in str(caught.value).replace("https://api.safetykit.com", "")


def test_a_path_in_the_address_is_kept():
    with Server() as server:
        fetch_batches(["a"], base_url=f"{server.url}/gateway/", api_key=KEY)
        assert server.requests[0].path == "/gateway/v1/batches/a"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://api.safetykit.com/v1", "ends in /v1"),
        ("https://gateway.example.com/a/v1/", "ends in /v1"),
        ("https://api.safety kit.com", "blank|not a URL"),
        ("https://api.safetykit.com/a b", "has a blank"),
        ("http://0.0.0.0:8000", "use 127.0.0.1"),
    ],
)
def test_an_address_with_a_usual_mistake_says_which(address, words):
    with pytest.raises(ValueError, match=words):
        fetch_batches([], api_key=KEY, base_url=address)


def test_blanks_around_an_address_are_no_mistake():
    with Server() as server:
        assert len(fetch_batches(["a"], base_url=f" {server.url}\n", api_key=KEY).frame) == 1


def test_plain_http_never_goes_through_a_proxy(monkeypatch):
    with Server() as server, Server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert len(fetch_batches(["a"], base_url=server.url, api_key=KEY).frame) == 1
        assert not proxy.requests
