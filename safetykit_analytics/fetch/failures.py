"""Exceptions of transports as failures: those of a network pass, those of this machine last.

An exception is described by its kind and errno alone: its text may hold anything, even a key.
"""

from __future__ import annotations

import os
import re
import socket
import ssl

import aiohttp
import httpx

from safetykit_analytics.fetch.responses import Failure
from safetykit_analytics.fetch.transport import BrokenFraming, StaleConnection

# What asyncio says of a lock, a task or a connection of another event loop.
_ANOTHER_LOOP = re.compile(r"loop is closed|different (event )?loop")
# OpenSSL's numbers of what is wrong with a certificate.
_CERTIFICATE = {
    9: "it is not valid yet; is this machine's clock right?",
    10: "it has expired",
    18: "it is self-signed; SSL_CERT_FILE can name the certificates to trust",
    19: "its issuer is unknown; SSL_CERT_FILE can name the certificates to trust",
    20: "its issuer is unknown; SSL_CERT_FILE can name the certificates to trust",
    21: "its issuer is unknown; SSL_CERT_FILE can name the certificates to trust",
    23: "it has been revoked",
    62: "it is for another host; is base_url right?",
    64: "it is for another IP address; is base_url right?",
    85: "it has no authority key identifier, which Python requires from 3.13 on; its issuer can add one",
}


def transport_failure(error: BaseException) -> Failure:
    """Describe what a transport raised."""
    if isinstance(error, StaleConnection):
        return Failure(
            "transport", "a kept connection was closed before anything was answered", fault="stale"
        )
    if isinstance(error, BrokenFraming):
        return Failure("protocol", "expected an HTTP response, found something that breaks its rules")
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    if any(isinstance(link, RuntimeError) and _ANOTHER_LOOP.search(str(link)) for link in chain):
        return Failure(
            "transport",
            "the transport belongs to the event loop in which it was first used, and each synchronous call "
            "has its own: bring a new one for each, or call from asynchronous code",
        )
    if (refused := next((known for link in chain if (known := _proxy_refusal(link))), None)) is not None:
        return refused
    # The innermost exception is the most specific: each layer wraps it in a type of its own.
    for link in reversed(chain):
        if (reason := _lasting_reason(link)) is not None:
            return Failure("transport", f"no connection: {reason}", fault="local")
        if (reason := _passing_reason(link)) is not None:
            break
    else:
        reason = type(chain[-1]).__name__
    is_proxy = any(isinstance(link, aiohttp.ClientProxyConnectionError) for link in chain)
    where = " (from the proxy of HTTPS_PROXY)" if is_proxy else ""
    return Failure("transport", f"no whole answer came: {reason}{where}", fault="passing")


def _proxy_refusal(error: BaseException) -> Failure | None:
    """Describe a status of a proxy other than 200: 407, or what it makes of a host that it cannot reach."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        code: int | None = error.status
    elif isinstance(error, httpx.ProxyError) and (found := re.match(r"[45]\d\d\b", str(error))):
        code = int(found[0])
    else:
        return None
    if code == 407:
        return Failure(
            "transport",
            "no connection: the proxy wants a user name and a password, or refuses those that it got (407)",
            fault="local",
        )
    if code == 403:
        return Failure("transport", "no connection: the proxy does not allow it (403)", fault="local")
    return Failure("transport", f"no whole answer came: the proxy answered {code}", fault="passing")


def _lasting_reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the server is not accepted: {_certificate_reason(error)}"
    if isinstance(error, socket.gaierror):
        return "the host name is not known; is base_url right, and is there a network?"
    return None


def _certificate_reason(error: ssl.SSLCertVerificationError) -> str:
    known = _CERTIFICATE.get(getattr(error, "verify_code", 0))
    if known is not None:
        return known
    # OpenSSL's own words, which are from a fixed list; with a host name only under 62 and 64.
    words = str(getattr(error, "verify_message", "") or "")
    return words[:1].lower() + words[1:] if re.fullmatch(r"[A-Za-z ]{1,80}", words) else "it fails a check"


def _passing_reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLError):
        return "no TLS connection"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno)
    return None
