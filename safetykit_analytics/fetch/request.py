"""Arguments of a call, checked before anything is sent: the key, the address, the ids."""

from __future__ import annotations

import ipaddress
import math
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import httpx
import pandas as pd
import pyarrow as pa
from pydantic import SecretStr

from safetykit_analytics.errors import MissingApiKey
from safetykit_analytics.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    Clock = Callable[[], datetime] | Literal["server"] | None

_KEY_VARIABLE = "SAFETYKIT_API_KEY"
_URL_VARIABLE = "SAFETYKIT_BASE_URL"
_DEFAULT_URL = "https://api.safetykit.com"
_LONGEST_ID = 256
_ID_LENGTH = len("batch_") + 26


@dataclass(frozen=True)
class Call:
    """Everything that one run was asked for besides its ids. Checked when made."""

    api_key: SecretStr
    base_url: str
    concurrency: int = 1
    max_rate: float | None = None
    timeout_s: float = 60.0
    progress: bool | None = False
    transport: httpx.AsyncBaseTransport | None = None
    clock: Clock = None

    def __post_init__(self) -> None:
        _check_base_url(self.base_url, own_transport=self.transport is not None)
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, Integral):
            raise TypeError(f"concurrency must be a whole number, found {type(self.concurrency).__name__}")
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, found {self.concurrency}")
        _check_positive("timeout_s", self.timeout_s)
        if self.max_rate is not None:
            _check_positive("max_rate", self.max_rate)
        if self.progress not in (None, True, False):
            raise TypeError("progress must be None, True or False")
        if self.transport is not None and not isinstance(self.transport, httpx.AsyncBaseTransport):
            raise TypeError(
                f"transport must be an httpx.AsyncBaseTransport, found {type(self.transport).__name__}; "
                "a synchronous transport or a client does not fit"
            )
        if not (self.clock is None or self.clock == "server" or callable(self.clock)):
            raise TypeError('clock must be None, "server" or a function that returns an aware datetime')


def checked_key(api_key: str | SecretStr | None) -> SecretStr | MissingApiKey:
    """Return the key, if there is one that can be sent.

    The error is returned, not raised: a traceback with captured locals would show the plain key in this
    frame.
    """
    if api_key is None:
        api_key = os.environ.get(_KEY_VARIABLE)
        source = f"the environment variable {_KEY_VARIABLE}"
    else:
        source = "api_key"
    if isinstance(api_key, SecretStr):
        api_key = api_key.get_secret_value()
    if api_key is not None and not isinstance(api_key, str):
        return MissingApiKey(f"api_key is a string, not {type(api_key).__name__}")
    if not api_key:
        return MissingApiKey(
            f"no API key: set {_KEY_VARIABLE} in the environment, or pass api_key=... "
            f"(to the command: --api-key-file FILE)"
        )
    unfit = next((at for at, letter in enumerate(api_key) if not "!" <= letter <= "~"), None)
    if unfit is not None:
        return MissingApiKey(
            f"{source} cannot be sent in a header: character {unfit + 1} of {len(api_key)} is white space, a "
            "control character or not ASCII; was it copied with a line break?"
        )
    return SecretStr(api_key)


def known_base_url(base_url: str | None) -> str:
    """Return the address to ask: the argument, else the environment's, else the public one."""
    found = base_url if base_url is not None else os.environ.get(_URL_VARIABLE) or _DEFAULT_URL
    return str.strip(found) if isinstance(found, str) else found  # type: ignore[redundant-expr] # a caller may err


def _check_base_url(base_url: str, *, own_transport: bool) -> None:
    """Refuse an address that would not reach the API, or not in secret. Messages never show the address."""
    if not isinstance(base_url, str):
        raise TypeError(f"base_url is a string, not {type(base_url).__name__}")
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, UnicodeError):
        problem: str | None = "is not a URL"
    else:
        problem = _url_problem(url, base_url) or _host_problem(url, own_transport=own_transport)
    if problem is not None:
        raise ValueError(f"base_url {problem}")


def _url_problem(url: httpx.URL, base_url: str) -> str | None:
    if url.scheme not in ("http", "https") or not url.host:
        return "needs a scheme and a host, such as https://api.safetykit.com"
    if url.userinfo:
        return "holds a user name or password; the key goes into api_key"
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        return "has a query or a fragment; only scheme, host, port and a path belong there"
    if any(letter.isspace() for letter in base_url):
        return "has a blank in it"
    if url.path.rstrip("/").endswith("/v1"):
        return "ends in /v1, which is added to it; leave it out, as in https://api.safetykit.com"
    return None


def _host_problem(url: httpx.URL, *, own_transport: bool) -> str | None:
    if url.host == "0.0.0.0":  # noqa: S104 -- refused
        return "is 0.0.0.0, an address to listen on, not to ask; use 127.0.0.1"
    if url.scheme == "http" and not own_transport and not _is_loopback(url.host):
        return (
            "is http:// to another machine: the key would travel in the clear; use https://, or pass a "
            "transport of your own, such as httpx_aiohttp.AiohttpTransport(), to ask for it"
        )
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_positive(name: str, value: object) -> None:
    # Not int and float: NumPy's numbers are numbers too.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, found {type(value).__name__}")
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a positive number, found {value}")


def checked_ids(batch_ids: object) -> Iterable[object]:
    """Return ids as an iterable of Python objects; raise TypeError for a single id or a table.

    Any iterable of text will do, or a column of pandas, Polars or pyarrow.
    """
    if isinstance(batch_ids, str | bytes):
        raise TypeError(
            "batch_ids: expected an iterable of ids, found a single one; pass [batch_id], or call get_batch"
        )
    if isinstance(batch_ids, pd.DataFrame):
        raise _a_table(len(batch_ids.columns))
    if isinstance(batch_ids, pa.Array | pa.ChunkedArray):
        return list(batch_ids.to_pylist())
    if hasattr(batch_ids, "__arrow_c_stream__") and not isinstance(batch_ids, pd.Series):
        return _from_stream(batch_ids)
    if not isinstance(batch_ids, Iterable):
        raise TypeError(f"batch_ids: expected an iterable of ids, found {type(batch_ids).__name__}")
    return batch_ids


def _from_stream(stream: object) -> list[object]:
    """Read a column, or a table of one column, through the Arrow C stream interface."""
    reader = pa.RecordBatchReader.from_stream(stream) if _is_table(stream) else None
    if reader is None:
        return list(pa.chunked_array(stream).to_pylist())
    names = reader.schema.names
    if len(names) != 1:
        raise _a_table(len(names))
    return list(reader.read_all().column(0).to_pylist())


def _a_table(width: int) -> TypeError:
    return TypeError(
        f"batch_ids: expected an iterable of ids, found a table of {plural(width, 'column')}; "
        "pass one column, such as table['batch_id']"
    )


def _is_table(stream: object) -> bool:
    # A table has names for its columns; a column has none.
    return hasattr(stream, "columns") or hasattr(stream, "column_names")


def id_problem(batch_id: object) -> str | None:  # noqa: PLR0911 -- one reason each
    """Return why an id cannot be asked for, or None where it can.

    Everything else is sent, percent-encoded into exactly one segment of the path: whether such a batch
    exists is for the API to say.
    """
    if not isinstance(batch_id, str):
        return f"an id is a string, found {type(batch_id).__name__}"
    if not batch_id:
        return "an id has at least one character, found an empty string"
    if batch_id in (".", ".."):
        return f"{batch_id!r} is a step in a path, not an id"
    if len(batch_id) > _LONGEST_ID:
        return f"an id has at most {_LONGEST_ID} characters, found {len(batch_id)}"
    if not (batch_id.isascii() and batch_id.isprintable()):
        categories = {unicodedata.category(letter) for letter in batch_id}
        if "Cc" in categories:
            return "an id has no control characters, found one"
        if "Cs" in categories:
            return "an id is Unicode text, found half of a surrogate pair"
    return None


def id_hint(batch_id: str) -> str:
    """Return what is odd about an id that the API does not know; empty where it looks like one."""
    if batch_id != batch_id.strip():
        return "the id has blanks around it"
    if batch_id.lower() != batch_id and batch_id.lower().startswith("batch_"):
        return "the id has capital letters; ids are in lower case"
    if not batch_id.startswith("batch_"):
        return 'the id does not begin with "batch_"'
    if len(batch_id) != _ID_LENGTH:
        return f"the id has {len(batch_id)} characters; ids have {_ID_LENGTH}"
    return ""


def batch_path(batch_id: str) -> str:
    """Return the path of a batch below the base URL."""
    return "/v1/batches/" + quote(batch_id, safe="")
