"""What the simulator answers, over real HTTP on loopback."""

import asyncio
import datetime as dt
import http.client
import json
import subprocess
import sys
from collections import Counter
from urllib.parse import urlsplit

import pytest
from safetykit import AuthenticationError, NotFoundError, Safetykit

from safetykit_analytics.simulator import (
    STATUSES,
    Faults,
    batch_body,
    make_fleet,
    parse_faults,
    serve,
    simulator_app,
    to_ms,
)

FLEET = make_fleet(seed=5, batches=300, weeks=1)
LATER = FLEET.end + dt.timedelta(days=2)
KEY = "simulated-key"


def get(url, path, *, key=KEY, method="GET"):
    """One request on its own connection: status, headers, body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def outcomes(faults, requests=400):
    """How often each status, or exception, comes back."""
    path = f"/v1/batches/{FLEET.batch_ids[0]}"
    seen = Counter()
    with serve(FLEET, clock=lambda: LATER, api_key=KEY, faults=faults) as url:
        for _ in range(requests):
            try:
                status, _, body = get(url, path)
                json.loads(body)
                seen[status] += 1
            except (http.client.IncompleteRead, ConnectionResetError) as error:
                seen[type(error).__name__] += 1
    return seen


def test_the_official_sdk_reads_every_field_of_every_kind_of_batch():
    # During the week, so that every status is among them.
    at = FLEET.start + dt.timedelta(days=5)
    seen = set()
    with (
        serve(FLEET, clock=lambda: at, api_key=KEY) as url,
        Safetykit(api_key=KEY, base_url=url, max_retries=0) as client,
    ):
        for batch in range(FLEET.created_by(at)):
            answer = client.batches.get(FLEET.batch_ids[batch])
            assert answer.to_dict() == batch_body(FLEET, batch, to_ms(at))
            seen.add(answer.batch_status)
    assert seen >= {"PENDING", "SUCCESS", "CANCELLED"}


def test_a_batch_is_answered_as_documented_in_each_stage_of_its_life():
    batch = next(
        i for i in range(300) if STATUSES[FLEET.ending[i]] == "SUCCESS" and FLEET.labels[FLEET.label[i]][0]
    )
    created = int(FLEET.created_ms[batch])
    waiting = batch_body(FLEET, batch, created)
    assert list(waiting) == [
        "batch_count", "batch_id", "batch_status", "cancelled_count", "download_url", "error_count",
        "pending_count", "success_count", "upload_url", "policy_id", "policy_version",
    ]  # fmt: skip
    assert (waiting["batch_status"], waiting["batch_count"], waiting["policy_id"]) == (
        "WAITING_FOR_UPLOAD",
        0,
        None,
    )
    assert waiting["upload_url"]
    running = batch_body(FLEET, batch, int(FLEET.started_ms[batch]))
    assert (running["batch_status"], running["pending_count"]) == ("PENDING", FLEET.batch_count[batch])
    assert (running["policy_id"], running["policy_version"]) == FLEET.labels[FLEET.label[batch]]
    done = batch_body(FLEET, batch, to_ms(LATER))
    assert (done["batch_status"], done["error_count"]) == ("SUCCESS", FLEET.errors[batch])
    assert done["download_url"]
    assert running["download_url"] is None
    assert running["upload_url"] is done["upload_url"] is None


def test_a_missing_policy_is_the_empty_string_as_the_api_writes_it():
    none = next(i for i in range(300) if FLEET.labels[FLEET.label[i]] == ("", ""))
    body = batch_body(FLEET, none, to_ms(LATER))
    assert (body["policy_id"], body["policy_version"]) == ("", "")


def test_a_wrong_or_missing_key_is_401_and_an_unknown_batch_404():
    path = f"/v1/batches/{FLEET.batch_ids[0]}"
    with serve(FLEET, clock=lambda: LATER, api_key=KEY) as url:
        assert get(url, path)[0] == 200
        assert get(url, path, key="wrong")[0] == 401
        assert get(url, path, key=None)[0] == 401
        assert get(url, "/v1/batches/batch_unknown")[0] == 404
        assert get(url, f"{path}/items")[0] == 404
        assert get(url, f"/elsewhere/{FLEET.batch_ids[0]}")[0] == 404
        assert get(url, FLEET.batch_ids[0])[0] in {400, 404}
        assert get(url, path, method="POST")[0] == 405
        with (
            Safetykit(api_key="wrong", base_url=url, max_retries=0) as client,
            pytest.raises(AuthenticationError),
        ):
            client.batches.get(FLEET.batch_ids[0])
        with Safetykit(api_key=KEY, base_url=url, max_retries=0) as client, pytest.raises(NotFoundError):
            client.batches.get("batch_unknown")


def test_time_is_the_callers_and_the_date_header_says_it():
    now = FLEET.start + dt.timedelta(days=2, microseconds=999_999)
    created = FLEET.created_by(now)
    with serve(FLEET, clock=lambda: now, api_key=KEY) as url:
        status, headers, body = get(url, f"/v1/batches/{FLEET.batch_ids[created - 1]}")
        assert status == 200
        assert headers.get_all("Date") == ["Wed, 03 Sep 2025 00:00:00 GMT"]
        assert json.loads(body) == batch_body(FLEET, created - 1, to_ms(now.replace(microsecond=0)))
        next_id = FLEET.batch_ids[created]
        assert get(url, f"/v1/batches/{next_id}")[0] == 404
        now = LATER.astimezone(dt.timezone(dt.timedelta(hours=9)))
        status, headers, _ = get(url, f"/v1/batches/{next_id}")
        assert (status, headers["Date"]) == (200, "Wed, 10 Sep 2025 00:00:00 GMT")


def test_every_kind_of_fault_comes_about_as_often_as_asked():
    faults = Faults(
        unauthorized=0.05, not_found=0.1, too_many_requests=0.1, server_error=0.15, reset=0.1, truncated=0.2
    )
    seen = outcomes(faults)
    expected = {
        401: 20,
        404: 40,
        429: 40,
        500: 60,
        "ConnectionResetError": 40,
        "IncompleteRead": 80,
        200: 120,
    }
    assert set(seen) == set(expected)
    assert all(abs(seen[kind] - count) < 4 * count**0.5 for kind, count in expected.items())
    assert outcomes(faults) == seen, "the same seed draws the same faults"


def test_a_429_says_how_long_to_wait():
    path = f"/v1/batches/{FLEET.batch_ids[0]}"
    for seconds, header, value in ((7.0, "Retry-After", "7"), (0.25, "retry-after-ms", "250")):
        faults = Faults(too_many_requests=1.0, retry_after_s=seconds)
        with serve(FLEET, clock=lambda: LATER, api_key=KEY, faults=faults) as url:
            status, headers, _ = get(url, path)
            assert (status, headers[header]) == (429, value)


def test_without_a_network_the_app_raises_a_reset_and_waits_for_latency():
    sent = []

    async def call(faults):
        async def send(message):
            sent.append(message)

        app = simulator_app(FLEET, clock=lambda: LATER, api_key=KEY, faults=faults)
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/batches/{FLEET.batch_ids[0]}",
            "headers": [(b"authorization", f"Bearer {KEY}".encode())],
            "client": None,
        }
        began = asyncio.get_running_loop().time()
        await app(scope, None, send)
        return asyncio.get_running_loop().time() - began

    with pytest.raises(ConnectionResetError):
        asyncio.run(call(Faults(reset=1.0)))
    assert not sent
    assert asyncio.run(call(Faults(latency_s=0.1))) >= 0.05
    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    "faults",
    [
        {"server_error": 1.5},
        {"reset": -0.1},
        {"reset": 0.6, "truncated": 0.6},
        {"latency_s": -1.0},
        {"server_error": float("nan")},
    ],
)
def test_shares_that_are_none_are_refused(faults):
    with pytest.raises(ValueError, match=r"share|seconds"):
        Faults(**faults)


def test_faults_are_read_from_text():
    assert parse_faults(" server_error=0.02, latency_s=0.5,seed=7 ") == Faults(
        server_error=0.02, latency_s=0.5, seed=7
    )
    assert parse_faults("") == Faults()
    with pytest.raises(ValueError, match="unknown fault 'sever_error'; known: latency_s"):
        parse_faults("sever_error=0.02")
    with pytest.raises(ValueError, match="reset needs a number"):
        parse_faults("reset=often")


def test_the_model_needs_nothing_of_the_other_stages_and_no_server():
    code = (
        "import sys, safetykit_analytics.simulator as s; s.make_fleet(batches=5);"
        "mine = [m for m in sys.modules if m.startswith('safetykit_analytics.') and '.simulator' not in m];"
        "print(mine, [m for m in ('pandas', 'pyarrow', 'uvicorn', 'aiohttp') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[] []"


def test_a_taken_port_is_named_with_the_way_out():
    with serve(FLEET, clock=lambda: LATER, api_key=KEY) as url:
        port = urlsplit(url).port
        with (
            pytest.raises(OSError, match=f"127.0.0.1:{port}: .*; port 0 takes a free one"),
            serve(FLEET, clock=lambda: LATER, api_key=KEY, port=port),
        ):
            pass
        assert get(url, "/v1/batches/unknown")[0] == 404


def test_a_host_that_is_not_this_machine_is_named():
    with (
        pytest.raises(OSError, match=r"cannot listen on 192.0.2.1:0"),
        serve(FLEET, clock=lambda: LATER, api_key=KEY, host="192.0.2.1"),
    ):
        pass


def test_a_quota_refuses_what_is_too_much_and_says_for_how_long():
    with serve(FLEET, clock=lambda: LATER, api_key=KEY, faults=Faults(quota=3, quota_s=30.0)) as url:
        answers = [get(url, f"/v1/batches/{FLEET.batch_ids[0]}") for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
    assert 0 < int(answers[3][1]["retry-after-ms"]) <= 30_000


def test_a_closing_server_answers_whole_and_closes_without_a_word():
    with serve(FLEET, clock=lambda: LATER, api_key=KEY, faults=Faults(closing=1.0)) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request(
            "GET", f"/v1/batches/{FLEET.batch_ids[0]}", headers={"Authorization": f"Bearer {KEY}"}
        )
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["batch_id"] == FLEET.batch_ids[0]
        assert response.headers["connection"] is None
        assert connection.sock.recv(1) == b""
        connection.close()
