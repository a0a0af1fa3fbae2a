"""Fetching when things go wrong: ours beside the official SDK with nine retries, in one run.

Servers on loopback: with a quota; one that keeps connections; one that closes them without saying so; with
10 % of faults; slow in 1 % of the answers; always 503. The table has how many ids were answered, in what
time, with how many CPU seconds of the client and how many requests.

    python benchmarks/fetch_faults.py [SCENARIO ...]
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time

from fetch import BODY, KEY, ids

IN_FLIGHT = 100


class Server:
    """HTTP/1.1, with one way to go wrong."""

    def __init__(self, scenario: str) -> None:
        self.scenario, self.requests = scenario, 0
        self.draw = random.Random(1)
        self.window_ends = 0.0
        self.used = 0
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True).start()
        ready.wait()

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                name = head.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode()
                if not await getattr(self, self.scenario)(writer, name):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def send(self, writer: asyncio.StreamWriter, name: str, code: int = 200, header: str = "") -> None:
        body = BODY.replace("$1", name).encode()
        lines = (
            f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}"
        )
        writer.write(lines.encode() + b"\r\n" + body)

    async def quota(self, writer: asyncio.StreamWriter, name: str) -> bool:
        now = time.monotonic()
        if now >= self.window_ends:
            self.window_ends, self.used = now + 2.0, 0
        self.used += 1
        wait_ms = int((self.window_ends - now) * 1000) + 1
        if self.used <= 40:
            self.send(writer, name)
        else:
            self.send(writer, name, 429, f"retry-after-ms: {wait_ms}\r\n")
        return True

    async def keeping(self, writer: asyncio.StreamWriter, name: str) -> bool:
        self.send(writer, name)
        return True

    async def outage(self, writer: asyncio.StreamWriter, name: str) -> bool:
        self.send(writer, name, 503)
        return True

    async def closing(self, writer: asyncio.StreamWriter, name: str) -> bool:
        self.send(writer, name)
        return False

    async def faulty(self, writer: asyncio.StreamWriter, name: str) -> bool:
        if self.draw.random() >= 0.1:
            self.send(writer, name)
            return True
        if (kind := self.draw.randrange(3)) == 2:
            writer.transport.abort()
            return False
        self.send(writer, name, (500, 429)[kind])
        return True

    async def slow(self, writer: asyncio.StreamWriter, name: str) -> bool:
        await asyncio.sleep(2.0 if self.draw.random() < 0.01 else 0.02)
        self.send(writer, name)
        return True


def sdk(url: str, names: list[str]) -> int:
    import httpx
    from safetykit import AsyncSafetykit

    async def main() -> int:
        answered, source = 0, iter(names)
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        http_client = httpx.AsyncClient(base_url=url, limits=limits, timeout=60)
        async with AsyncSafetykit(
            api_key=KEY, base_url=url, max_retries=9, http_client=http_client
        ) as client:

            async def work() -> None:
                nonlocal answered
                for name in source:
                    try:
                        await client.batches.get(name)
                    except Exception:  # noqa: BLE001 -- counted by what is missing
                        continue
                    answered += 1

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return answered

    return asyncio.run(main())


def ours(url: str, names: list[str]) -> int:
    from safetykit_analytics import fetch_batches

    return len(fetch_batches(names, api_key=KEY, base_url=url, concurrency=IN_FLIGHT, progress=False).frame)


CANDIDATES = {"safetykit 0.3.0a0": sdk, "safetykit-analytics": ours}
SCENARIOS = {"quota": 240, "keeping": 3000, "closing": 3000, "faulty": 3000, "slow": 3000, "outage": 2000}


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] in CANDIDATES:
        job, url, count = CANDIDATES[sys.argv[1]], sys.argv[2], int(sys.argv[3])
        job("http://127.0.0.1:9", [])  # imports
        began, cpu = time.perf_counter(), time.process_time()
        print(json.dumps([job(url, ids(count)), time.perf_counter() - began, time.process_time() - cpu]))
        return
    print(f"{'':10}{'':22}{'answered':>10}{'seconds':>9}{'CPU':>7}{'requests':>10}")
    for scenario in sys.argv[1:] or SCENARIOS:
        count = SCENARIOS[scenario]
        for name in CANDIDATES:
            if scenario == "outage" and name != "safetykit-analytics":
                continue  # ten requests for each id, and half a minute between the first and the last
            server = Server(scenario)
            url = f"http://127.0.0.1:{server.port}"
            done = subprocess.run(
                [sys.executable, __file__, name, url, str(count)], capture_output=True, text=True, check=True
            )
            answered, seconds, cpu = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{scenario:10}{name:22}{answered:10,}{seconds:9.1f}{cpu:7.2f}{server.requests:10,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
