"""What hostile answers may cost: a process of its own, whose peak is read after each sort of them."""

import functools
import gzip
import subprocess
import sys

import pytest

from tests.fetch.helpers import KEY, Server, answer_well, response

SCRIPT = """
import resource, sys
from safetykit_analytics import fetch_batches
url, key, *kinds = sys.argv[1:]
fetch_batches(["well-0"], base_url=url, api_key=key)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for count in (1, 100):
    for kind in kinds:
        result = fetch_batches([f"{kind}-{number}" for number in range(count)], base_url=url, api_key=key)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(count, kind, grown, *result.failures["kind"].unique())
"""


@functools.cache
def zeros(times):
    """Return 100 MB of zeros packed so many times over: packed thrice, they are a few hundred bytes."""
    return gzip.compress(zeros(times - 1)) if times else b"\0" * 100_000_000


async def endless(request):
    await request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await request.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


async def endless_without_a_length(request):
    await request.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        await request.send(b" " * 65536)


async def endless_failure(request):
    await request.send(b"HTTP/1.1 404 No\r\nConnection: close\r\n\r\n")
    while True:
        await request.send(b" " * 65536)


async def bomb(request):
    await request.send(response(zeros(1), headers={"Content-Encoding": "gzip"}))


async def nested_bomb(request):
    await request.send(response(zeros(3), headers={"Content-Encoding": "gzip, gzip, gzip"}))


async def nested_bomb_that_lies(request):
    await request.send(response(zeros(3), headers={"Content-Encoding": "gzip"}))


HOSTILE = {
    answer.__name__: answer
    for answer in (
        endless,
        endless_without_a_length,
        endless_failure,
        bomb,
        nested_bomb,
        nested_bomb_that_lies,
    )
}


@pytest.mark.heavy
def test_hostile_bodies_cost_at_most_32_mb_alone_and_250_mb_a_hundred_at_once():
    assert len(zeros(3)) < 400

    async def answer(request):
        await HOSTILE.get(request.batch_id.rsplit("-", 1)[0], answer_well)(request)

    with Server(answer) as server:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, server.url, KEY, *HOSTILE],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        assert server.wait_until_no_connections()
    measured = [line.split() for line in done.stdout.splitlines()]
    assert len(measured) == 2 * len(HOSTILE)
    for count, name, grown_mb, kind in measured:
        assert float(grown_mb) <= (32 if count == "1" else 250)
        assert kind == ("http_status" if name == "endless_failure" else "protocol")
