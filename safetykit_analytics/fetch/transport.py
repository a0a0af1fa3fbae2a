"""The default way to the network: aiohttp behind httpx's transport interface.

Place in the flow: used by fetch.run where the caller brings no transport. httpx's own pool scans every
connection for each request and opens a new one for most; aiohttp's does neither.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

if TYPE_CHECKING:
    import ssl

    from aiohttp.client_middlewares import ClientHandlerType


def open_transport(base_url: str) -> httpx.AsyncBaseTransport:
    """Make a transport that opens connections when asked to and knows nothing of proxies in the environment.

    How many are open at once is for the caller to limit. Certificates are found as httpx finds them
    (``SSL_CERT_FILE`` is honoured).

    Raises
    ------
    OSError
        The certificates that the environment names cannot be read.
    """
    # Loading the certificates takes as long as fetching a hundred batches, and plain http has no use for
    # them.
    context = _certificates() if base_url.lower().startswith("https:") else False

    def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_send_once,),
            trust_env=False,
        )

    transport: httpx.AsyncBaseTransport = AiohttpTransport(verify=context, client=open_session)
    return transport


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        # OpenSSL does not say which file it means.
        named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        places = " and ".join(f"{name}={place!r}" for name, place in named.items())
        raise OSError(
            error.errno, f"cannot read the certificates of {places or 'this machine'}: {error.strerror}"
        ) from error


class BrokenFraming(httpx.RemoteProtocolError):
    """What came is not HTTP."""


async def _send_once(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request a second time where a kept-alive connection turns out dead.

    aiohttp does that silently for a GET, for these two exceptions. Here each request that leaves is
    counted, paced and taken from the retry budget, so the exception has to come out.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except aiohttp.ClientResponseError as error:
        raise BrokenFraming(type(error).__name__) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise httpx.ReadError(type(error).__name__) from error
