"""Fetching: ours against the official SDK, plain httpx and raw aiohttp, all in one run.

The whole job each time: ids → answers → validated → DataFrame. Every candidate runs in a process of its
own, one after the other, in several rounds; the table shows the best of each. The server is nginx with the
echo module (Debian: ``nginx-light libnginx-mod-http-echo``) in one worker process. What it can do alone is
printed first, so that you see whether it was the bottleneck.

    python benchmarks/fetch.py [--rounds 5] [--ids 4000]
    python benchmarks/fetch.py --memory            # 50,000 ids through fetch_batches: how much memory grows
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-benchmark"
# title, path of the server with that latency, requests in flight
SCENARIOS = [
    ("0 ms, 100 in flight", "0", 100),
    ("50 ms, 100 in flight", "50", 100),
    ("50 ms, 500 in flight", "50", 500),
]
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
{module}
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000; keepalive_timeout 600s; tcp_nodelay on;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/0/v1/batches/(.+)$ {{ default_type application/json; return 200 '{body}'; }}
    location ~ ^/50/v1/batches/(.+)$ {{ default_type application/json; echo_sleep 0.05; echo -n '{body}'; }}
  }}
}}
"""
BODY = json.dumps(
    {
        "batch_count": 2000,
        "batch_id": "$1",
        "batch_status": "SUCCESS",
        "cancelled_count": 0,
        "download_url": "https://downloads.example.com/some/long/path/results.jsonl?signature=0123456789abcdef",
        "error_count": 12,
        "pending_count": 0,
        "success_count": 1988,
        "upload_url": None,
        "policy_id": "policy_spam",
        "policy_version": "v7",
    }
)


def ids(count: int) -> list[str]:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return [
        "batch_01hf89meed" + "".join(alphabet[number >> 5 * digit & 31] for digit in reversed(range(16)))
        for number in range(count)
    ]


# --- the candidates
# ---------------------------------------------------------------------------------------------------


async def _workers(names: list[str], in_flight: int, one) -> list:
    """N workers pulling from one iterator: the fair form for every asynchronous candidate."""
    source, found = iter(names), []

    async def work() -> None:
        for name in source:
            found.append(await one(name))  # noqa: PERF401 -- the workers share the list

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return found


def sdk_async(url: str, names: list[str], in_flight: int):
    import httpx
    import pandas as pd
    from safetykit import AsyncSafetykit

    async def main() -> list:
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        async with AsyncSafetykit(
            api_key=KEY, base_url=url, http_client=httpx.AsyncClient(base_url=url, limits=limits, timeout=60)
        ) as client:
            return [batch.to_dict() for batch in await _workers(names, in_flight, client.batches.get)]

    return pd.DataFrame(asyncio.run(main()))


def sdk_threads(url: str, names: list[str], in_flight: int):  # noqa: ARG001 -- 32 threads whatever is asked
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd
    from safetykit import Safetykit

    with Safetykit(api_key=KEY, base_url=url) as client, ThreadPoolExecutor(32) as pool:
        return pd.DataFrame([batch.to_dict() for batch in pool.map(client.batches.get, names)])


def plain_httpx(url: str, names: list[str], in_flight: int):
    import httpx
    import pandas as pd

    from safetykit_analytics import BatchStatus

    async def main() -> list:
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=url, limits=limits, headers=headers, timeout=60) as client:

            async def one(name: str) -> dict:
                response = (await client.get(f"/v1/batches/{name}")).raise_for_status()
                return BatchStatus.model_validate_json(response.content).model_dump()

            return await _workers(names, in_flight, one)

    return pd.DataFrame(asyncio.run(main()))


def raw_aiohttp(url: str, names: list[str], in_flight: int):
    import aiohttp
    import pandas as pd

    from safetykit_analytics import BatchStatus

    async def main() -> list:
        connector = aiohttp.TCPConnector(limit=in_flight)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

            async def one(name: str) -> dict:
                async with session.get(f"{url}/v1/batches/{name}") as response:
                    return BatchStatus.model_validate_json(await response.read()).model_dump()

            return await _workers(names, in_flight, one)

    return pd.DataFrame(asyncio.run(main()))


def ours(url: str, names: list[str], in_flight: int):
    from safetykit_analytics import fetch_batches

    result = fetch_batches(names, api_key=KEY, base_url=url, concurrency=in_flight)
    return result.raise_for_failures().frame


CANDIDATES = {
    "safetykit 0.3.0a0, async": sdk_async,
    "safetykit 0.3.0a0, 32 threads": sdk_threads,
    "plain httpx": plain_httpx,
    "raw aiohttp": raw_aiohttp,
    "safetykit-analytics": ours,
}
SLOW = ("safetykit 0.3.0a0, async", "safetykit 0.3.0a0, 32 threads", "plain httpx")


# --- measuring
# --------------------------------------------------------------------------------------------------------


def run_one(candidate: str, url: str, count: int, in_flight: int) -> None:
    """In a fresh process: warm up (imports, first calls), then time the job."""
    job, names = CANDIDATES[candidate], ids(count)
    job(url, names[:50], in_flight)
    began, cpu = time.perf_counter(), time.process_time()
    frame = job(url, names, in_flight)
    print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
    assert len(frame) == count
    assert set(frame["batch_id"]) == set(names)


def run_memory(url: str, count: int) -> None:
    """In a fresh process: how far the peak rises above the imported package."""
    import resource

    from safetykit_analytics import fetch_batches

    fetch_batches(ids(10), api_key=KEY, base_url=url)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = fetch_batches((name for name in ids(count)), api_key=KEY, base_url=url)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(result.frame) == count
    print(json.dumps([before / 1024, (after - before) / 1024]))


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    module = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
    if not (Path(program).exists() and module.exists()):
        sys.exit("needs nginx with the echo module: apt-get install nginx-light libnginx-mod-http-echo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nginx.conf").write_text(
            NGINX.format(folder=folder, port=port, module=f"load_module {module};", body=BODY)
        )
        Path(folder).chmod(0o755)
        server = subprocess.Popen([program, "-c", f"{folder}/nginx.conf", "-p", folder])
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def in_own_process(*arguments: object) -> list[float]:
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def server_alone(url: str) -> float:
    """Answers per second to a client that does next to nothing: one connection, pipelined."""
    request = f"GET /v1/batches/{ids(1)[0]} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    path = url.split("/", 3)[3].encode()
    request = request.replace(b"GET /", b"GET /" + path + b"/")
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(request)
        size = len(client.recv(65536))
        count, began = 20_000, time.perf_counter()
        received = 0
        for _ in range(count // 100):
            client.sendall(request * 100)
            received = 0
            while received < size * 100:
                received += len(client.recv(262144))
        return count / (time.perf_counter() - began)


def versions() -> str:
    from importlib.metadata import version

    names = ["aiohttp", "httpx", "httpx-aiohttp", "pydantic", "pandas", "safetykit"]
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ids", type=int, default=4000)
    parser.add_argument("--only", help="part of a candidate's name")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--memory-child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        candidate, url, count, in_flight = arguments.child
        run_one(candidate, url, int(count), int(in_flight))
    elif arguments.memory_child:
        run_memory(arguments.memory_child[0], int(arguments.memory_child[1]))
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}; {versions()}")
    with nginx() as url:
        if arguments.memory:
            before, growth = in_own_process("--memory-child", f"{url}/0", 50_000)
            print(f"50,000 ids from a generator: +{growth:.0f} MB over {before:.0f} MB, the package in use")
            return
        print(f"nginx alone, one connection, pipelined: {server_alone(f'{url}/0'):,.0f} answers/s")
        for title, path, in_flight in SCENARIOS:
            times: dict[str, list[list[float]]] = {}
            chosen = [name for name in CANDIDATES if not arguments.only or arguments.only in name]
            for turn in range(arguments.rounds):
                for name in chosen:
                    if name in SLOW and turn >= 2:
                        continue
                    # Fewer ids, and two rounds, for those that take ten times as long; the table is per id.
                    count = arguments.ids // 4 if name in SLOW else arguments.ids
                    measured = in_own_process("--child", name, f"{url}/{path}", count, in_flight)
                    times.setdefault(name, []).append([seconds / count * 1e6 for seconds in measured])
            walls = {name: min(wall for wall, _ in found) for name, found in times.items()}
            cpus = {name: min(cpu for _, cpu in found) for name, found in times.items()}
            print(f"\n{title}: {arguments.ids:,} ids, best of {arguments.rounds} rounds")
            print(f"{'':32}{'µs per id':>10}{'CPU µs':>9}{'wall / ours':>13}{'wall / aiohttp':>16}")
            for name, wall in walls.items():
                print(
                    f"{name:32}{wall:10,.0f}{cpus[name]:9,.0f}"
                    f"{wall / walls.get('safetykit-analytics', wall):13.2f}"
                    f"{wall / walls.get('raw aiohttp', wall):16.2f}"
                )


if __name__ == "__main__":
    main()
