"""A small HTTP/1.1 server on loopback that can be as bad as the real world, and an API in virtual time.

The server speaks bytes: what it sends is exactly what a test says, for broken framing, slow drips, resets and
endless bodies. It runs in a thread with an event loop of its own.

Promises about *when* something happens are tested in virtual time: the event loop jumps to its next timer.
Hours pass at once, to the microsecond, however busy the machine is.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import unquote

import httpx

from safetykit_analytics import FetchResult, afetch_batches

KEY = "sk-test-CANARY-7f3a9c"
if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
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


class Listening:
    """A server of streams on loopback, in a thread with an event loop of its own. It leaves nothing open."""

    def __init__(
        self,
        handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        *,
        port: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.handle, self.port, self.context = handle, port, context
        self.connections = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        # A client that refuses our certificate.
        self._loop.set_exception_handler(lambda *_: None)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="server", daemon=True)
        self._thread.start()
        assert ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _serve(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(
                self._connected, "127.0.0.1", self.port, backlog=1024, ssl=self.context
            )
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            # A connection that was accepted a moment ago gets its handler before the server closes. asyncio
            # would leave it open, and the ResourceWarning fail whichever test runs when it is collected.
            self._loop.remove_reader(server.sockets[0].fileno())
            for _ in range(10):
                await asyncio.sleep(0)
            server.close()
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await asyncio.sleep(0)

        try:
            self._loop.run_until_complete(main())
        finally:
            self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handle(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


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
        self._listening = Listening(self._connected, port=self.port).__enter__()
        self.port = self._listening.port
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.__exit__()

    def wait_until_no_connections(self, within_s: float = 60.0) -> bool:
        """Whether all clients have gone, within some time."""
        until = time.monotonic() + within_s
        while self.open_connections and time.monotonic() < until:
            time.sleep(0.01)
        return not self.open_connections

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        finally:
            self.open_connections -= 1


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


class _VirtualTime(asyncio.SelectorEventLoop):
    """An event loop whose time does not pass but jumps to the next timer."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if timers and not self._ready:
            self._now = max(self._now, min(timers))
        super()._run_once()


@dataclass
class Api(httpx.AsyncBaseTransport):
    """An API in virtual time: `answer` gets an id and the time in seconds since the run began."""

    answer: Callable[[str, float], Awaitable[httpx.Response]]
    requests: list[tuple[float, str]] = field(default_factory=list)
    ended: float = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name, now = unquote(request.url.path.rsplit("/", 1)[-1]), asyncio.get_running_loop().time()
        self.requests.append((now, name))
        return await self.answer(name, now)

    def fetch(self, names: list[str], **settings: Any) -> FetchResult:
        """Fetch from this API; note when the run ended."""

        async def run() -> FetchResult:
            result = await afetch_batches(names, api_key=KEY, transport=self, **settings)
            self.ended = asyncio.get_running_loop().time()
            return result

        return in_virtual_time(run())

    def times_of(self, name: str) -> list[float]:
        return [at for at, asked in self.requests if asked == name]


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_VirtualTime) as runner:
        return runner.run(work)


def good(name: str) -> httpx.Response:
    return httpx.Response(200, json=status_of(name))


@dataclass
class Steps:
    """What comes first, second, … for each id: a response, or seconds of silence; then it answers well."""

    steps: dict[str, list[httpx.Response | float]]

    async def __call__(self, name: str, _: float) -> httpx.Response:
        step = self.steps[name].pop(0) if self.steps.get(name) else good(name)
        if isinstance(step, httpx.Response):
            return step
        await asyncio.sleep(step)
        return good(name)
