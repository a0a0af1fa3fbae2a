"""A small HTTP/1.1 server on loopback that can be as bad as the real world.

It speaks bytes: what it sends is exactly what a test says, so that broken framing, slow drips, resets and
endless bodies can be told. It runs in a thread of its own with its own event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self
from urllib.parse import unquote

KEY = "sk-test-CANARY-7f3a9c"
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def batch_id(number: int) -> str:
    """A well-formed id of a batch created in November 2023, the same for the same number."""
    tail = ""
    for _ in range(16):
        number, digit = divmod(number, 32)
        tail = _DIGITS[digit] + tail
    return "batch_01hf89meed" + tail


def status_of(name: str, **changes: Any) -> dict[str, Any]:
    """The documented answer for a batch, with changes."""
    return {
        "batch_count": 2000,
        "batch_id": name,
        "batch_status": "PENDING",
        "cancelled_count": 3,
        "download_url": None,
        "error_count": 7,
        "pending_count": 540,
        "success_count": 1450,
        "upload_url": None,
        "policy_id": "policy-a",
        "policy_version": "v1",
    } | changes


def response(body: bytes | dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """A whole response with a correct length, unless the headers say otherwise."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.lower() for name in headers or {}}
    lines = [f"HTTP/1.1 {status} Status"]
    if not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(content)}")
    if "content-type" not in given:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass
class Request:
    """A request as it came, and the way back."""

    path: str
    headers: dict[str, str]
    arrived: float
    connection: int
    nth: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    keep_alive: bool = True

    @property
    def batch_id(self) -> str:
        return unquote(self.path.rsplit("/", 1)[-1])

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    def close(self) -> None:
        """End the connection in an orderly way."""
        self.keep_alive = False

    def reset(self) -> None:
        """End it with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.keep_alive = False


Answer = Callable[[Request], Awaitable[None]]


async def answer_well(request: Request) -> None:
    await request.send(response(status_of(request.batch_id)))


@dataclass
class Server:
    """``with Server(answer) as server: fetch_batches(ids, base_url=server.url, api_key=KEY)``."""

    answer: Answer = answer_well
    requests: list[Request] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0
    open_connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> Counter[str]:
        """How often each id was asked for."""
        return Counter(request.batch_id for request in self.requests)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="server", daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def wait_until_no_connections(self, within_s: float = 5.0) -> bool:
        """Whether all clients have gone, within some time."""
        until = time.monotonic() + within_s
        while self.open_connections and time.monotonic() < until:
            time.sleep(0.01)
        return not self.open_connections

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def main() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1024)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

        try:
            self._loop.run_until_complete(main())
        finally:
            self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.open_connections += 1
        number = self.open_connections
        nth = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines[1:] if line)
                nth += 1
                request = Request(
                    lines[0].split(" ")[1],
                    {name.lower(): value for name, value in headers.items()},
                    time.monotonic(),
                    number,
                    nth,
                    reader,
                    writer,
                )
                self.requests.append(request)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await self.answer(request)
                finally:
                    self.in_flight -= 1
                if not request.keep_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()


@dataclass
class Script:
    """Answers that say, for each id, what comes first, second, …; then it answers well."""

    steps: dict[str, list[Answer]]

    async def __call__(self, request: Request) -> None:
        left = self.steps.get(request.batch_id)
        await (left.pop(0) if left else answer_well)(request)


def always(content: bytes) -> Answer:
    """The same bytes for every request."""

    async def answer(request: Request) -> None:
        await request.send(content)

    return answer


def status(code: int, **headers: str) -> Answer:
    """A status with a small JSON body; ``retry_after="1"`` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return always(response({"error": "no"}, code, named))


async def reset(request: Request) -> None:
    request.reset()


async def close(request: Request) -> None:
    request.close()


async def truncate(request: Request) -> None:
    await request.send(response(status_of(request.batch_id))[:-40])
    request.close()


async def hang(request: Request) -> None:
    """Say nothing until the client has gone."""
    await request.reader.read()
    request.close()
