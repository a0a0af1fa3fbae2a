"""One answer of the API: read within limits, judged, and told in words that hold nothing of the body.

Place in the flow: fetch.run → **wire** → models. Trouble of a server's making is a `Failure`, nothing raises.
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

from safetykit_analytics.models import BatchStatus, NotJson, WrongShape, parse_batch_status

if TYPE_CHECKING:
    import httpx

#: No answer of the API comes near this size; the documented one has 400 bytes.
MOST_BYTES = 2**20

_SKIP_BYTES = 2**16
_SKIP_S = 1.0

_RETRIED = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """A batch's status and when it arrived, in microseconds since 1970 (UTC)."""

    status: BatchStatus
    observed_at_us: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer for an id. The kinds are those of ``FetchResult.failures``."""

    kind: str
    message: str
    status_code: int | None = None
    retry_after_s: float | None = None
    attempts: int = 0
    #: Whether the same request may well succeed later.
    is_passing: bool = False


async def read_answer(response: httpx.Response, batch_id: str, observed_at_us: int) -> Answer | Failure:
    """Read a 200 to its end, unless it is too long, and judge it. The caller closes the stream.

    Raises
    ------
    Exception
        What the transport raises while the body arrives.
    """
    body = await _read_body(response)
    if isinstance(body, Failure):
        return body
    try:
        status = parse_batch_status(body)
    except NotJson as error:
        return Failure("protocol", f"{error}{_media_type(response)}", 200)
    except WrongShape as error:
        return Failure("validation", str(error), 200)
    if status.batch_id != batch_id:
        found = status.batch_id if re.fullmatch(r"batch_[0-9a-z]{26}", status.batch_id) else "something else"
        return Failure("id_mismatch", f"asked for this batch, found the status of {found}", 200)
    return Answer(status, observed_at_us)


async def _read_body(response: httpx.Response) -> bytes | Failure:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        return Failure("protocol", "expected plain or gzip content, found another or a nested encoding", 200)
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > MOST_BYTES:
        return _too_long(200)
    chunks = []
    length = 0
    async for chunk in body_stream(response):
        length += len(chunk)
        if length > MOST_BYTES:
            return _too_long(200)
        chunks.append(chunk)
    body = b"".join(chunks)
    return _gunzip(body) if encoding == "gzip" else body


def body_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    """Give the body of a response of an asynchronous transport; httpx's type allows for both sorts."""
    return cast("httpx.AsyncByteStream", response.stream)


def _gunzip(body: bytes) -> bytes | Failure:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, MOST_BYTES + 1)
    except zlib.error:
        return Failure("protocol", "expected gzip content as its header says, found something else", 200)
    if len(plain) > MOST_BYTES:
        return _too_long(200)
    if not unpacker.eof or unpacker.unused_data:
        return Failure("protocol", "expected one whole gzip stream, found less or more", 200)
    return plain


def _too_long(status_code: int) -> Failure:
    return Failure(
        "protocol", f"expected an answer of at most {MOST_BYTES:,} bytes, found a longer one", status_code
    )


async def skip_body(response: httpx.Response) -> None:
    """Read over a body that nobody needs, so that its connection can be used again.

    A long or a slow one is not worth it.
    """
    length = 0
    try:
        async with asyncio.timeout(_SKIP_S):
            async for chunk in body_stream(response):
                length += len(chunk)
                if length > _SKIP_BYTES:
                    break
    except Exception:  # noqa: BLE001, S110 -- a transport may raise anything, and the status has arrived
        pass


def http_failure(response: httpx.Response) -> Failure:
    """Describe a status other than 200."""
    code = response.status_code
    should_retry = response.headers.get("x-should-retry", "").strip().lower()
    return Failure(
        "http_status",
        f"expected 200, found {code}{_meaning(code)}",
        code,
        retry_after_s=retry_after_s(response.headers),
        is_passing=should_retry == "true" or (should_retry != "false" and (code in _RETRIED or code >= 500)),
    )


def _meaning(code: int) -> str:
    meanings = {
        401: ": the API refuses the key",
        403: ": the key may not see this batch; does it belong to another team?",
        404: ": the API knows no such batch",
        429: ": too many requests",
    }
    if 300 <= code < 400:
        return ": a redirect, which is never followed; is base_url right?"
    return meanings.get(code, "")


def _media_type(response: httpx.Response) -> str:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip()
    is_plain = re.fullmatch(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", media_type, re.IGNORECASE)
    return f"; the answer calls itself {media_type}" if is_plain else ""


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Give the seconds that a response asks to wait, or None.

    ``retry-after-ms`` wins over ``Retry-After``, which is a number of seconds or a date. A date counts from
    the response's own Date header if it has one, so that this machine's clock does not matter.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if seconds >= 0 and math.isfinite(seconds):
            return seconds
    until = http_date(headers.get("retry-after"))
    if until is None:
        return None
    now = http_date(headers.get("date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def http_date(text: str | None) -> datetime | None:
    """Read the date of a header, or None."""
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
