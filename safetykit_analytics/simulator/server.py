"""The simulator on a loopback port, in a thread: real HTTP for the demo, the tests and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from safetykit_analytics.simulator.app import Faults, simulator_app

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from safetykit_analytics.simulator.fleet import Fleet

_Transports: TypeAlias = "dict[Any, asyncio.Transport]"


@contextlib.contextmanager
def serve(
    fleet: Fleet,
    *,
    clock: Callable[[], dt.datetime],
    api_key: str,
    faults: Faults | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[str]:
    """Serve a fleet until the block ends.

    Parameters
    ----------
    fleet : Fleet
    clock : callable
        The fleet's time, aware; called for each request, from another thread.
    api_key : str
    faults : Faults, optional
    host : str
    port : int
        0 for a free one.

    Yields
    ------
    str
        The base URL.

    Raises
    ------
    OSError
        The address is in use or not of this machine.
    """
    transports: _Transports = {}
    app = simulator_app(
        fleet,
        clock=clock,
        api_key=api_key,
        faults=faults,
        reset=partial(_reset, transports),
        close=partial(_close, transports),
    )
    config = uvicorn.Config(
        app,
        http=_protocol(transports),
        log_config=None,
        log_level="critical",  # a truncated body is an error to uvicorn; here it was asked for
        access_log=False,
        lifespan="off",
        date_header=False,
        server_header=False,
        proxy_headers=False,
    )
    with _listen(host, port) as listening, _running(uvicorn.Server(config), listening, transports):
        address, bound = listening.getsockname()[:2]
        yield f"http://[{address}]:{bound}" if ":" in address else f"http://{address}:{bound}"


def _protocol(transports: _Transports) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, which also keeps the transport of each client."""

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type] # which one it is, uvicorn finds out
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            transports.pop(self.client, None)
            super().connection_lost(exc)

    return Protocol


def _reset(transports: _Transports, client: tuple[str, int]) -> None:
    transport = transports[tuple(client)]
    # Closing a socket that lingers for no time sends RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    transport.abort()


def _close(transports: _Transports, client: tuple[str, int]) -> None:
    if (transport := transports.get(tuple(client))) is not None:
        transport.close()


@contextlib.contextmanager
def _running(server: uvicorn.Server, listening: socket.socket, transports: _Transports) -> Iterator[None]:
    """Run a server in a thread until the block ends; then its connections are aborted."""
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await stop.wait()
        # Not uvicorn's own way to stop, which sleeps for a while.
        serving.cancel()
        for connection in list(transports.values()):
            connection.abort()
        await asyncio.wait([serving])

    def run_in_thread() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=run_in_thread, name="safetykit-simulator", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    # asyncio switches Nagle's delay off only where the socket says that it speaks TCP, and one made by
    # socket.create_server does not: every answer would take 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        said = f"cannot listen on {host}:{port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            said += "; port 0 takes a free one"
        raise OSError(error.errno, said) from error
    return listening
