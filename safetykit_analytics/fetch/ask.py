"""Asking for one batch until there is an answer or no use: attempts, back-off, deadline.

Place in the flow: fetch.run → **ask** → wire, pacing, transport. Knows nothing of the other ids but what
they share: the limits and the retry budget.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import socket
import ssl
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import stamina

from safetykit_analytics import __version__
from safetykit_analytics.fetch.pacing import AdaptiveLimit, MaxRate, RetryBudget
from safetykit_analytics.fetch.request import batch_path
from safetykit_analytics.fetch.transport import BrokenFraming
from safetykit_analytics.fetch.wire import (
    Answer,
    Failure,
    body_stream,
    http_date,
    http_failure,
    read_answer,
    skip_body,
)

if TYPE_CHECKING:
    from safetykit_analytics.fetch.pacing import Ticket
    from safetykit_analytics.fetch.request import Call

# stamina reports each retry as a warning of its own logger. Where nobody configured logging, Python would
# print those to stderr, in the middle of the progress bar; where somebody did, they still arrive.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_ATTEMPTS = 10
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_JITTER_S = 1.0
_CONNECT_TIMEOUT_S = 10.0
_ANSWERS_THAT_DECIDE_403 = 20
# What asyncio says of a lock, a task or a connection of another event loop.
_ANOTHER_LOOP = re.compile(r"loop is closed|different (event )?loop")
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


class Refused(Exception):  # noqa: N818 -- a signal to the run, never seen outside
    """The API refused the key for the whole run: 401, or 403 as each of the first 20 answers."""

    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


class _TryAgain(Exception):  # noqa: N818 -- what stamina is told
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind, failure.status_code)
        self.failure = failure


@dataclass(slots=True)
class Trial:
    """What has been tried for one id."""

    batch_id: str
    left_s: float
    attempts: int = 0
    last_answer: Failure | None = None


@dataclass
class Asker:
    """What all ids of a run share."""

    call: Call
    transport: httpx.AsyncBaseTransport
    n_ids: int | None = None
    budget: RetryBudget = field(init=False)
    limit: AdaptiveLimit = field(init=False)

    def __post_init__(self) -> None:
        self.budget = RetryBudget(self.n_ids)
        self.limit = AdaptiveLimit(self.call.concurrency)
        self._rate = None if self.call.max_rate is None else MaxRate(self.call.max_rate)
        self._n_answers = 0
        self._all_403 = True
        self._base = self.call.base_url.rstrip("/")
        self._headers = httpx.Request(
            "GET",
            self._base,
            headers={
                "Authorization": f"Bearer {self.call.api_key.get_secret_value()}",
                "Accept": "application/json",
                # The answers have 400 bytes: packing them costs more than it saves.
                "Accept-Encoding": "identity",
                "User-Agent": f"safetykit-analytics/{__version__}",
            },
        ).headers

    def trial(self, batch_id: str) -> Trial:
        """Begin with an id."""
        self.budget.id_taken()
        return Trial(batch_id, self.call.timeout_s)

    async def ask(self, trial: Trial) -> Answer | Failure:
        """Get the status of one batch.

        Raises
        ------
        Refused
            The key is no good for the whole run.
        Exception
            What the caller's clock raised; TypeError or ValueError if it gave no aware datetime.
        """
        outcome = await self._ask_once(trial)
        if isinstance(outcome, Answer):
            return outcome
        # stamina's machinery costs as much as a request, and most ids need none of it.
        if outcome.is_passing:
            outcome = await self._ask_again(trial, outcome)
            if isinstance(outcome, Answer):
                return outcome
        if outcome.is_passing:
            self.budget.gave_up()
        return replace(outcome, attempts=trial.attempts)

    async def _ask_again(self, trial: Trial, outcome: Answer | Failure) -> Answer | Failure:
        reason = ""

        def delay_s(error: Exception) -> float | bool:
            nonlocal reason
            if not isinstance(error, _TryAgain):
                return False
            delay, reason = self._next_delay_s(trial, error.failure.retry_after_s)
            return False if reason else delay

        async def next_try(*, is_first: bool) -> Answer | Failure:
            # The first attempt has been made: stamina is only told how it ended.
            found = outcome if is_first else await self._ask_once(trial)
            if isinstance(found, Failure) and found.is_passing:
                raise _TryAgain(found)
            return found

        try:
            async for attempt in stamina.retry_context(on=delay_s, attempts=None, timeout=None):
                with attempt:
                    outcome = await next_try(is_first=attempt.num == 1)
        except _TryAgain as last:
            outcome = last.failure
            if reason:
                outcome = replace(outcome, message=f"{outcome.message}; {reason}")
        return outcome

    def _next_delay_s(self, trial: Trial, asked_s: float | None) -> tuple[float, str]:
        """Give the seconds to wait before the next attempt, or a reason why there is none."""
        delay = _backoff_s(trial.attempts, asked_s)
        if trial.attempts >= _ATTEMPTS:
            return delay, f"gave up after {_ATTEMPTS} attempts"
        if delay >= trial.left_s:
            what = "try again" if asked_s is None else f"wait {asked_s:g} s as asked"
            return delay, f"timeout_s = {self.call.timeout_s:g} s leaves no time to {what}"
        if not self.budget.take():
            return delay, "the retries of this run are used up"
        trial.left_s -= delay
        return delay, ""

    async def _ask_once(self, trial: Trial) -> Answer | Failure:
        ticket = self.limit.enter() or await self.limit.wait()
        try:
            if self._rate is not None:
                await self._rate.wait()
            trial.attempts += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(trial.left_s):
                    outcome = await self._exchange(trial)
            except TimeoutError:
                return trial.last_answer or Failure(
                    "transport", "no whole answer came in time", is_passing=True
                )
            finally:
                trial.left_s -= time.monotonic() - began
            self._judge(outcome, ticket)
            return outcome
        finally:
            self.limit.leave()

    async def _exchange(self, trial: Trial) -> Answer | Failure:
        """Send one request and read its answer; whatever the transport raises is a failure."""
        # Given a stream, httpx takes the headers as they are; without one it works the same out again for
        # each request, which costs as much as checking the answer does.
        request = httpx.Request(
            "GET",
            self._base + batch_path(trial.batch_id),
            headers=self._headers,
            stream=httpx.ByteStream(b""),
            extensions={"timeout": {"connect": _CONNECT_TIMEOUT_S}},
        )
        request.headers.encoding = "ascii"
        request.read()
        try:
            response = await self.transport.handle_async_request(request)
        except Exception as error:  # noqa: BLE001 -- a transport may raise anything
            return _transport_failure(error)
        try:
            if response.status_code != 200:
                trial.last_answer = http_failure(response)
                await skip_body(response)
                return trial.last_answer
            observed_at_us = self._stamp(response)
            if isinstance(observed_at_us, Failure):
                return observed_at_us
            try:
                return await read_answer(response, trial.batch_id, observed_at_us)
            except Exception as error:  # noqa: BLE001
                return _transport_failure(error)
        finally:
            # The outcome is known; if closing fails, the connection is lost and nothing else.
            with contextlib.suppress(Exception):
                await body_stream(response).aclose()

    def _judge(self, outcome: Answer | Failure, ticket: Ticket) -> None:
        """Let all others learn from one outcome."""
        if isinstance(outcome, Answer):
            code: int | None = 200
            self.budget.answered()
        else:
            code = outcome.status_code
            if code is None:
                return
            if not outcome.is_passing:
                self.budget.answered()
        if code in (429, 503):
            self.limit.throttled(ticket)
        else:
            self.limit.answered(ticket)
        if self._n_answers < _ANSWERS_THAT_DECIDE_403:
            self._n_answers += 1
            self._all_403 = self._all_403 and code == 403
            if self._n_answers == _ANSWERS_THAT_DECIDE_403 and self._all_403:
                raise Refused(403)
        if code == 401:
            raise Refused(401)

    def _stamp(self, response: httpx.Response) -> int | Failure:
        """Say when a response arrived, in microseconds since 1970."""
        clock = self.call.clock
        if clock is None:
            return time.time_ns() // 1000
        if clock == "server":
            date = http_date(response.headers.get("date"))
            if date is None:
                return Failure(
                    "protocol",
                    'clock="server" needs a Date header, found none that is a date',
                    response.status_code,
                )
            return (date - _EPOCH) // _MICROSECOND
        instant = clock()
        if not isinstance(instant, datetime):
            raise TypeError(f"clock must return an aware datetime, found {type(instant).__name__}")
        if instant.utcoffset() is None:
            raise ValueError("clock must return an aware datetime, found one without a time zone")
        return (instant - _EPOCH) // _MICROSECOND


def _backoff_s(attempts: int, retry_after_s: float | None) -> float:
    """Give the seconds to wait: what was asked for and a little more, or exponential back-off with jitter."""
    jitter = random.random()  # noqa: S311 -- spreads load, protects nothing
    if retry_after_s is not None:
        return retry_after_s + jitter * min(_JITTER_S, _FIRST_BACKOFF_S + 0.1 * retry_after_s)
    return min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** (attempts - 1)) + _JITTER_S * jitter


def _transport_failure(error: BaseException) -> Failure:
    """Describe an exception by its kind and errno alone: its text may hold anything, even a key."""
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
    # The deepest one knows best: what is above it was renamed on the way up.
    reason = next(
        (known for link in reversed(chain) if (known := _known_reason(link))), type(chain[-1]).__name__
    )
    return Failure("transport", f"no whole answer came: {reason}", is_passing=True)


def _known_reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate of the server is not accepted"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection"
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno)
    return None
