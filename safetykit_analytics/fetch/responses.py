"""Responses of the API: read within limits and validated. Messages quote nothing of the body.

What a server does wrong is a `Failure`, never an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from safetykit_analytics.models import BatchStatus, NotJson, WrongShape, parse_batch_status

if TYPE_CHECKING:
    from safetykit_analytics.fetch.transport import Headers, Reply

#: No answer of the API comes near this size; the documented one has 400 bytes.
MOST_BYTES = 2**20

_SKIP_BYTES = 2**16
_SKIP_S = 1.0

_RETRIED = frozenset({408, 409})

#: Whose fault a failure is decides what follows. ``final``: the same request would fail again. ``passing``:
#: worth another try. ``wait``: the API asks the whole run to wait. ``stale``: a connection that was kept open
#: was dead. ``local``: nothing gets through from this machine, for any id.
Fault = Literal["final", "passing", "wait", "stale", "local"]


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
    fault: Fault = "final"


async def read_answer(reply: Reply, batch_id: str, observed_at_us: int) -> Answer | Failure:
    """Read and validate the body of a 200, unless it is too long. The caller closes the reply."""
    body = await _read_body(reply)
    if isinstance(body, Failure):
        return body
    try:
        status = parse_batch_status(body)
    except NotJson as error:
        return Failure("protocol", f"{error}{_media_type(reply.headers)}", 200)
    except WrongShape as error:
        return Failure("validation", str(error), 200)
    if status.batch_id != batch_id:
        found = status.batch_id if re.fullmatch(r"batch_[0-9a-z]{26}", status.batch_id) else "something else"
        return Failure("id_mismatch", f"asked for this batch, found the status of {found}", 200)
    return Answer(status, observed_at_us)


async def _read_body(reply: Reply) -> bytes | Failure:
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        return Failure("protocol", "expected plain or gzip content, found another or a nested encoding", 200)
    declared = reply.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > MOST_BYTES:
        return _too_long()
    body = await reply.read(MOST_BYTES)
    if body is None:
        return _too_long()
    return _gunzip(body) if encoding == "gzip" else body


def _gunzip(body: bytes) -> bytes | Failure:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, MOST_BYTES + 1)
    except zlib.error:
        return Failure("protocol", "expected gzip content as its header says, found something else", 200)
    if len(plain) > MOST_BYTES:
        return _too_long()
    if not unpacker.eof or unpacker.unused_data:
        return Failure("protocol", "expected one whole gzip stream, found less or more", 200)
    return plain


def _too_long() -> Failure:
    return Failure("protocol", f"expected an answer of at most {MOST_BYTES:,} bytes, found a longer one", 200)


async def skip_body(reply: Reply) -> None:
    """Read over a body that nobody needs: its connection can be used again. Long and slow ones are left."""
    with contextlib.suppress(Exception):  # a transport may raise anything, and the status has arrived
        async with asyncio.timeout(_SKIP_S):
            await reply.read(_SKIP_BYTES)


def http_failure(reply: Reply) -> Failure:
    """Describe a status other than 200."""
    code = reply.status_code
    wait_s = retry_after_s(reply.headers)
    return Failure(
        "http_status",
        f"expected 200, found {code}{_meaning(code)}",
        code,
        retry_after_s=wait_s,
        fault=_fault(code, reply.headers.get("x-should-retry", "").strip().lower(), asked=wait_s is not None),
    )


def _fault(code: int, should_retry: str, *, asked: bool) -> Fault:
    if code == 407:
        return "local"
    if should_retry == "false":
        return "final"
    if code == 429 or (code == 503 and asked):
        return "wait"
    return "passing" if should_retry == "true" or code in _RETRIED or code >= 500 else "final"


def _meaning(code: int) -> str:
    meanings = {
        401: ": the API refuses the key",
        403: ": the key may not see this batch; does it belong to another team?",
        404: ": the API knows no such batch",
        407: ": the proxy wants a user name and a password, or refuses those of HTTPS_PROXY",
        429: ": too many requests",
    }
    if 300 <= code < 400:
        return ": a redirect, which is never followed; is base_url right?"
    return meanings.get(code, "")


def _media_type(headers: Headers) -> str:
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    is_plain = re.fullmatch(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", media_type, re.IGNORECASE)
    return f"; the answer calls itself {media_type}" if is_plain else ""


def retry_after_s(headers: Headers) -> float | None:
    """Return the seconds that a response asks to wait, or None.

    ``retry-after-ms`` wins over ``Retry-After``, which is a number of seconds or a date; of several the
    longest counts. A date counts from the response's own Date header if it has one, so that this machine's
    clock does not matter.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        values = headers.getall(name, ())
        numbers = [_number(part) for value in values for part in value.split(",")]
        asked = [number * unit for number in numbers if number is not None]
        if unit == 1:
            now = http_date(headers.get("date")) or datetime.now(UTC)
            dates = [date for value in values if (date := http_date(value)) is not None]
            asked += [max(0.0, (date - now).total_seconds()) for date in dates]
        if asked:
            return max(asked)
    return None


def _number(text: str) -> float | None:
    """Read a number of seconds, at least 0 and finite, or None."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def http_date(text: str | None) -> datetime | None:
    """Read the date of a header, or None."""
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
