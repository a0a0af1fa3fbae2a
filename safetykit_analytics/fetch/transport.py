"""Transports: aiohttp by default, or an httpx transport of the caller's.

httpx's own pool scans every connection for each request and opens a new one for most; aiohttp's does neither.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakSet

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict

from safetykit_analytics import __version__
from safetykit_analytics.fetch.environment import proxy_for, tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from aiohttp import ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from multidict import CIMultiDictProxy
    from pydantic import SecretStr

    from safetykit_analytics.fetch.request import Call

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_CONNECT_TIMEOUT_S = 10.0
# Gateways add headers of their own, and some are long.
_LONGEST_HEADER = 2**16
# From this many kept connections that were dead, and more than were alive, none is kept any more.
_DEAD_THAT_TELL = 3


class StaleConnection(Exception):  # noqa: N818 -- a signal, never seen outside
    """A connection that was kept open turned out to be dead before anything was answered."""


class BrokenFraming(Exception):  # noqa: N818
    """What came is not HTTP."""


class Disconnected(Exception):  # noqa: N818
    """The connection broke before anything was answered."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response whose body has not been read.

    `read` reads the body to its end, or returns None if it is longer than so many bytes. `aclose` releases
    the connection; one whose body was not read to its end is closed.
    """

    status_code: int
    headers: Headers
    read: Callable[[int], Awaitable[bytes | None]]
    aclose: Callable[[], Awaitable[None]]


def open_channel(call: Call) -> Channel:
    """Open the way to the API: through the caller's transport if there is one, else by aiohttp."""
    return _AiohttpChannel(call) if call.transport is None else _HttpxChannel(call, call.transport)


def _headers(api_key: SecretStr) -> dict[str, str]:
    """Return the headers of every request. Never keep them in a local variable: they hold the plain key."""
    return {
        "Authorization": f"Bearer {api_key.get_secret_value()}",
        "Accept": "application/json",
        # The answers have 400 bytes: packing them costs more than it saves.
        "Accept-Encoding": "identity",
        "User-Agent": f"safetykit-analytics/{__version__}",
    }


class _HttpxChannel:
    """The caller's httpx transport. It stays open, and it keeps its connections as it likes."""

    def __init__(self, call: Call, transport: httpx.AsyncBaseTransport) -> None:
        self._base = call.base_url.rstrip("/")
        self._headers = httpx.Request("GET", self._base, headers=_headers(call.api_key)).headers
        self._transport = transport

    async def get(self, path: str, *, fresh: bool = False) -> Reply:
        del fresh
        # Given a stream, httpx takes the headers as they are; without one it works them out anew.
        request = httpx.Request(
            "GET",
            self._base + path,
            headers=self._headers,
            stream=httpx.ByteStream(b""),
            extensions={"timeout": {"connect": _CONNECT_TIMEOUT_S}},
        )
        request.headers.encoding = "ascii"
        request.read()
        response = await self._transport.handle_async_request(request)
        # httpx's type allows for both sorts; that of an asynchronous transport is asynchronous.
        stream = cast("httpx.AsyncByteStream", response.stream)
        headers = CIMultiDict(response.headers.multi_items())
        return Reply(response.status_code, headers, partial(_joined, stream), stream.aclose)

    async def aclose(self) -> None:
        """Leave the transport open: it is the caller's."""


async def _joined(stream: AsyncIterable[bytes], most: int) -> bytes | None:
    """Read a stream to its end; None once it has more than `most` bytes."""
    chunks = []
    length = 0
    async for chunk in stream:
        length += len(chunk)
        if length > most:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


class _AiohttpChannel:
    """Connections that are opened when they are needed and kept while the server keeps them."""

    def __init__(self, call: Call) -> None:
        self._base = call.base_url.rstrip("/")
        # With every request, and not as the session's own: those would go to a proxy, too, the key included.
        self._options: dict[str, Any] = {
            "allow_redirects": False,
            "headers": CIMultiDict(_headers(call.api_key)),
        }
        if (proxy := proxy_for(call.base_url)) is not None:
            self._options["proxy"] = proxy.url
            if proxy.authorization is not None:
                self._options["proxy_headers"] = {
                    "Proxy-Authorization": proxy.authorization.get_secret_value()
                }
        # Loading the certificates takes as long as fetching a hundred batches, and plain http has no use for
        # them.
        self._tls = tls_context() if call.base_url.lower().startswith("https:") else True
        # By whether their connections are closed after each answer.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._n_dead = 0
        self._n_alive = 0

    async def get(self, path: str, *, fresh: bool = False) -> Reply:
        """Send one GET below the base URL; `fresh` asks for a new connection."""
        is_fresh = fresh or self._n_dead > max(_DEAD_THAT_TELL, self._n_alive)
        if is_fresh not in self._sessions:
            self._sessions[is_fresh] = self._session(_Connector(self._tls, force_close=is_fresh))
        url = yarl.URL(self._base + path, encoded=True)
        response = await self._sessions[is_fresh].get(url, **self._options)
        return Reply(response.status, response.headers, partial(_read, response), partial(_release, response))

    async def aclose(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def _send_once(self, request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        """Keep aiohttp from sending a request again by itself: each one is counted and paced here.

        aiohttp does that silently for a GET, for these exceptions.
        """
        try:
            response: aiohttp.ClientResponse = await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            raise
        except aiohttp.ClientResponseError as error:
            raise BrokenFraming(type(error).__name__) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _was_used(request):
                self._n_dead += 1
                raise StaleConnection from error
            raise Disconnected(type(error).__name__) from error
        self._n_alive += _was_used(request)
        return response

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(self._send_once,),
            request_class=_Request,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    declared = response.content_length
    if declared is not None and declared <= most:
        return await response.read()
    return await _joined(response.content.iter_any(), most)


async def _release(response: aiohttp.ClientResponse) -> None:
    response.release()


#: A way to the API, for one run.
Channel: TypeAlias = _AiohttpChannel | _HttpxChannel


class _Request(aiohttp.ClientRequest):
    """A request that knows whether its connection had been used before."""

    is_on_used_connection = False


def _was_used(request: aiohttp.ClientRequest) -> bool:
    return isinstance(request, _Request) and request.is_on_used_connection


class _Connector(aiohttp.TCPConnector):
    """Connections whose number the caller limits, to hosts that are looked up on threads of their own."""

    def __init__(self, tls: Any, *, force_close: bool) -> None:
        super().__init__(limit=0, ssl=tls, resolver=_Resolver(), force_close=force_close)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 -- aiohttp's
        connection = await super().connect(req, traces, timeout)
        if connection.protocol is not None and isinstance(req, _Request):
            req.is_on_used_connection = connection.protocol in self._used
            self._used.add(connection.protocol)
        return connection


class _Resolver(AbstractResolver):
    """Host names, looked up on daemon threads: nobody waits for a lookup that hangs, not even at exit.

    The threads of an event loop's executor are joined when the loop ends, however long they take.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found: Future[list[Any]] = Future()

        # The caller may be cancelled while it waits; the answer is then dropped.
        found.set_running_or_notify_cancel()

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
            except Exception as error:  # noqa: BLE001 -- told to the one who waits
                found.set_exception(error)

        threading.Thread(target=look_up, name="safetykit-analytics-dns", daemon=True).start()
        return [
            ResolveResult(
                hostname=host,
                # A link-local address of IPv6 is of no use without its scope.
                host=f"{address[0]}%{address[3]}" if len(address) > 3 and address[3] else address[0],
                port=address[1],
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in await asyncio.wrap_future(found)
        ]

    async def close(self) -> None:
        """Do nothing: the threads end by themselves."""
