"""The documented answer, over ASGI, for a fleet and a clock, with the faults that a network has."""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, fields
from email.utils import format_datetime
from typing import Any

from safetykit_analytics.simulator.fleet import STATUSES, Fleet, to_ms

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_PREFIX = "/v1/batches/"


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong: shares of the requests in [0, 1], drawn one after another from a seed.

    Attributes
    ----------
    latency_s : float
        Every answer takes about that long: uniformly between half and one and a half times.
    unauthorized, not_found, too_many_requests, server_error : float
        Answered 401, 404, 429 (with ``Retry-After``), 500.
    reset : float
        The connection is reset instead of an answer.
    truncated : float
        The answer breaks off in the middle of its body.
    retry_after_s : float
        What a 429 asks for; whole seconds are sent as ``Retry-After``, others as ``retry-after-ms``.
    quota : int
        So many requests are answered in each `quota_s` seconds, the others get 429 and the time that is left.
        0 for no quota.
    quota_s : float
    closing : float
        The connection is closed after the answer, without a word of it.
    seed : int

    Examples
    --------
    >>> Faults(server_error=0.02, latency_s=0.05).latency_s
    0.05
    """

    latency_s: float = 0.0
    unauthorized: float = 0.0
    not_found: float = 0.0
    too_many_requests: float = 0.0
    server_error: float = 0.0
    reset: float = 0.0
    truncated: float = 0.0
    retry_after_s: float = 1.0
    quota: int = 0
    quota_s: float = 1.0
    closing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*_KINDS, "closing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is a share of the requests in [0, 1], found {getattr(self, name)!r}"
                )
        if (total := sum(getattr(self, name) for name in _KINDS)) > 1:
            raise ValueError(f"the shares of all faults together are at most 1, found {total:g}")
        if not (self.latency_s >= 0 and self.retry_after_s >= 0):
            raise ValueError("latency_s and retry_after_s are seconds, at least 0")
        if not (self.quota >= 0 and self.quota_s > 0):
            raise ValueError(
                "quota is a number of requests, at least 0, and quota_s are seconds, more than 0"
            )


# In the order in which they are drawn.
_KINDS = ("unauthorized", "not_found", "too_many_requests", "server_error", "reset", "truncated")
_STATUS = {"unauthorized": 401, "not_found": 404, "too_many_requests": 429, "server_error": 500}


def simulator_app(
    fleet: Fleet,
    *,
    clock: Callable[[], dt.datetime],
    api_key: str,
    faults: Faults | None = None,
    reset: Callable[[tuple[str, int]], None] | None = None,
    close: Callable[[tuple[str, int]], None] | None = None,
) -> AsgiApp:
    """Make the ASGI app that answers ``GET /v1/batches/{batch_id}`` as documented.

    Parameters
    ----------
    fleet : Fleet
    clock : callable
        The fleet's time; aware. It is cut to whole seconds, which is all that the ``Date`` header can say: so
        the header is exactly the time that an answer is true for.
    api_key : str
        What ``Authorization: Bearer`` must hold; anything else is answered 401.
    faults : Faults, optional
        None for none.
    reset : callable, optional
        Resets the connection of a client (host, port); `serve` provides it. Without it, a reset is raised as
        ConnectionResetError, which is what a transport without a network makes of one.
    close : callable, optional
        Closes the connection of a client after an answer; `serve` provides it.

    Returns
    -------
    ASGI callable
        Batches not created yet, like unknown ones, are 404; a method other than GET is 405.
    """
    answer = _answerer(fleet, api_key)
    faults = faults or Faults()
    rng = random.Random(faults.seed)  # noqa: S311 -- chance, not secrecy
    quota = _Quota(faults.quota, faults.quota_s) if faults.quota else None

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        fault = _draw(rng, faults)
        if faults.latency_s:
            await asyncio.sleep(faults.latency_s * rng.uniform(0.5, 1.5))
        at = clock().astimezone(dt.UTC).replace(microsecond=0)
        if fault == "reset":
            if reset is None:
                raise ConnectionResetError("simulated")
            reset(scope["client"])
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        status, body = (_STATUS[fault], _problem("simulated")) if fault in _STATUS else answer(scope, at)
        wait_s = faults.retry_after_s
        if quota is not None and (left_s := quota.left_s()) > 0:
            status, body, wait_s = 429, _problem("too many requests"), left_s
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"date", format_datetime(at, usegmt=True).encode()),
        ]
        if status == 429:
            headers.append(_retry_after(wait_s))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        # Promising more and then returning makes the server close the connection in the middle of the body.
        sent = body[: len(body) // 2] if fault == "truncated" else body
        await send({"type": "http.response.body", "body": sent, "more_body": fault == "truncated"})
        if close is not None and faults.closing and rng.random() < faults.closing:
            close(scope["client"])

    return app


class _Quota:
    """Requests in the current stretch of time."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count, self._seconds = count, seconds
        self._ends = -math.inf
        self._used = 0

    def left_s(self) -> float:
        """Count a request; return the seconds that it came too early, 0 if it did not."""
        now = time.monotonic()
        if now >= self._ends:
            self._ends, self._used = now + self._seconds, 0
        self._used += 1
        return 0.0 if self._used <= self._count else self._ends - now


def _answerer(fleet: Fleet, api_key: str) -> Callable[[Message, dt.datetime], tuple[int, bytes]]:
    """Return the function that answers a request (an ASGI scope) at a time, without faults."""
    index = {batch_id: i for i, batch_id in enumerate(fleet.batch_ids)}
    expected = f"Bearer {api_key}".encode()

    def answer(scope: Message, at: dt.datetime) -> tuple[int, bytes]:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        path = scope["path"]
        batch = index.get(path.removeprefix(_PREFIX)) if path.startswith(_PREFIX) else None
        at_ms = to_ms(at)
        if scope["method"] != "GET":
            return 405, _problem("method not allowed")
        if not hmac.compare_digest(given, expected):
            return 401, _problem("invalid API key")
        if batch is None or fleet.created_ms[batch] > at_ms:
            return 404, _problem("batch not found")
        return 200, json.dumps(batch_body(fleet, batch, at_ms)).encode()

    return answer


def batch_body(fleet: Fleet, batch: int, at_ms: int) -> dict[str, str | int | None]:
    """Build the documented answer of one batch (an index) at a time (ms since 1970, UTC): its 11 fields.

    Until its upload is complete, a batch has an ``upload_url`` and no policy; after SUCCESS, a
    ``download_url``. The host of both is reserved for examples and answers nowhere.
    """
    counts = fleet.counts_at(batch, at_ms)
    batch_id = fleet.batch_ids[batch]
    status = STATUSES[int(counts.status)]
    waiting = status == "WAITING_FOR_UPLOAD"
    policy_id, policy_version = (None, None) if waiting else fleet.labels[fleet.label[batch]]
    signed = f"{batch_id}?X-Amz-Expires=3600&X-Amz-Signature=simulated"
    return {
        "batch_count": int(counts.batch_count),
        "batch_id": batch_id,
        "batch_status": status,
        "cancelled_count": int(counts.cancelled_count),
        "download_url": f"https://downloads.example.com/{signed}" if status == "SUCCESS" else None,
        "error_count": int(counts.error_count),
        "pending_count": int(counts.pending_count),
        "success_count": int(counts.success_count),
        "upload_url": f"https://uploads.example.com/{signed}" if waiting else None,
        "policy_id": policy_id,
        "policy_version": policy_version,
    }


def parse_faults(text: str) -> Faults:
    """Read faults as the command line writes them: ``server_error=0.02,latency_s=0.05``.

    Raises
    ------
    ValueError
        An unknown name, or a value that is not a number or out of range.

    Examples
    --------
    >>> parse_faults("server_error=0.02,reset=0.01").reset
    0.01
    """
    known = [field.name for field in fields(Faults)]
    given: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = item.partition("=")
        if name not in known:
            raise ValueError(f"unknown fault {name!r}; known: {', '.join(known)}")
        try:
            given[name] = int(value) if name in {"seed", "quota"} else float(value)
        except ValueError:
            raise ValueError(f"{name} needs a number, as in {name}=0.02; found {value!r}") from None
    return Faults(**given)


def _draw(rng: random.Random, faults: Faults) -> str:
    left = rng.random()
    for name in _KINDS:
        left -= getattr(faults, name)
        if left < 0:
            return name
    return ""


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    if seconds == int(seconds):
        return b"retry-after", str(int(seconds)).encode()
    return b"retry-after-ms", str(math.ceil(seconds * 1000)).encode()


def _problem(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()
