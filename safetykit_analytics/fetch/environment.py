"""What the environment says about the network: proxies and certificates, for https alone.

Read once for each run. The userinfo of a proxy's URL is a secret: no message shows it.
"""

from __future__ import annotations

import ipaddress
import os
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # not in typeshed

import httpx
from pydantic import SecretStr

from safetykit_analytics.errors import InvalidEnvironment

if TYPE_CHECKING:
    import ssl


class Proxy(NamedTuple):
    """A proxy's address without userinfo, and the value of its Proxy-Authorization header."""

    url: str
    authorization: SecretStr | None


def proxy_for(base_url: str) -> Proxy | None:
    """Return the proxy that ``HTTPS_PROXY`` and ``NO_PROXY`` name for an address, if there is one."""
    parts = urlsplit(base_url)
    proxies = getproxies_environment()
    given = proxies.get("https", "").strip()
    host = parts.hostname or ""
    if parts.scheme != "https" or not given or _is_exempt(host, parts.port or 443, proxies):
        return None
    proxy, problem = _parsed(given)
    if problem is not None:
        variable = "https_proxy" if os.environ.get("https_proxy") else "HTTPS_PROXY"
        del given, proxies  # a traceback with captured locals would show the userinfo
        raise InvalidEnvironment(
            f"the environment variable {variable} {problem}; expected an HTTP proxy such as "
            "http://proxy.example.com:3128",
            variable=variable,
        )
    return proxy


def _parsed(given: str) -> tuple[Proxy | None, str | None]:
    """Return a proxy, or what is wrong with its URL."""
    try:
        url = urlsplit(given if "://" in given else f"http://{given}")
        port = url.port
    except ValueError:
        return None, "is not a URL"
    if url.scheme.startswith("socks"):
        return None, "names a SOCKS proxy, which is not supported"
    if url.scheme not in ("http", "https"):
        return None, "has a scheme other than http and https"
    if not url.hostname:
        return None, "names no host"
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    authorization = None
    if url.username is not None:
        userinfo = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = SecretStr("Basic " + b64encode(userinfo.encode()).decode())
    default = 443 if url.scheme == "https" else 80
    return Proxy(f"{url.scheme}://{host}:{port or default}", authorization), None


def _is_exempt(host: str, port: int, proxies: dict[str, str]) -> bool:
    """Whether ``NO_PROXY`` names a host, by name, domain, port, address or network."""
    if proxy_bypass_environment(f"{host}:{port}", proxies) or proxy_bypass_environment(host, proxies):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(_contains(entry.strip(), address) for entry in proxies.get("no", "").split(","))


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def tls_context() -> ssl.SSLContext:
    """Return a TLS context with the certificates of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's.

    Raises InvalidEnvironment if one of these cannot be read, or the key log not be written.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    for variable, path, is_right, expected in (
        ("SSL_CERT_FILE", file, os.path.isfile, "a file of certificates in PEM form"),
        ("SSL_CERT_DIR", folder, os.path.isdir, "a folder of certificates"),
    ):
        if path and not is_right(path):
            raise InvalidEnvironment(
                f"the environment variable {variable} names {path!r}, which is not there; "
                f"expected {expected}",
                variable=variable,
            )
    if key_log := os.environ.get("SSLKEYLOGFILE"):
        try:
            with open(key_log, "ab"):  # noqa: PTH123 -- as OpenSSL will
                pass
        except OSError as error:
            raise InvalidEnvironment(
                f"the environment variable SSLKEYLOGFILE names {key_log!r}, which cannot be written: "
                f"{error.strerror}; unset it, or name a file in a folder that exists",
                variable="SSLKEYLOGFILE",
            ) from None
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # OpenSSL's errors are OSErrors, too
        variable = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
        raise InvalidEnvironment(
            f"cannot read the certificates of {variable}={(file or folder)!r}: "
            f"{error.strerror or 'not in PEM form'}",
            variable=variable,
        ) from None
