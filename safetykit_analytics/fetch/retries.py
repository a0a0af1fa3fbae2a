"""Requests for one batch until it is answered or given up: attempts, back-off, deadline.

Ids share the limits, the pause and the retry budget, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from safetykit_analytics.fetch import pacing
from safetykit_analytics.fetch.failures import transport_failure
from safetykit_analytics.fetch.request import batch_path, id_hint
from safetykit_analytics.fetch.responses import (
    Answer,
    Failure,
    http_date,
    http_failure,
    read_answer,
    skip_body,
)

if TYPE_CHECKING:
    from safetykit_analytics.fetch.pacing import Ticket
    from safetykit_analytics.fetch.progress import Progress
    from safetykit_analytics.fetch.request import Call
    from safetykit_analytics.fetch.transport import Channel, Reply

_ATTEMPTS = 10
_LOCAL_RETRIES = 2
# An attempt that hangs leaves time for two others.
_ATTEMPTS_IN_TIME = 3
_JITTER_S = 1.0
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


class Refused(Exception):  # noqa: N818 -- a signal to the run, never seen outside
    """The API refused the key: 401."""

    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


@dataclass(slots=True)
class Trial:
    """The attempts for one id."""

    batch_id: str
    left_s: float
    #: Requests that left this machine.
    attempts: int = 0
    #: Those that failed for the API's reasons, and those for this machine's.
    n_passing: int = 0
    n_local: int = 0
    n_waits: int = 0
    was_stale: bool = False
    last_answer: Failure | None = None


@dataclass
class Retrier:
    """The retries of one run, with everything that its ids share."""

    call: Call
    channel: Channel
    n_ids: int | None
    progress: Progress
    #: Why the run ends before all ids were asked for, as the outcome of those that were not.
    over: Failure | None = None
    budget: pacing.RetryBudget = field(init=False)
    limit: pacing.AdaptiveLimit = field(init=False)

    def __post_init__(self) -> None:
        self.budget = pacing.RetryBudget(self.n_ids)
        self.limit = pacing.AdaptiveLimit(self.call.concurrency)
        self._rate = None if self.call.max_rate is None else pacing.MaxRate(self.call.max_rate)
        self._ended = asyncio.Event()
        self._answers = 0
        self._why = ""

    def trial(self, batch_id: str) -> Trial:
        """Return the trial of a new id, and count it."""
        self.budget.id_taken()
        return Trial(batch_id, self.call.timeout_s)

    async def fetch(self, trial: Trial) -> Answer | Failure:
        """Fetch the status of one batch; raise Refused for the key, and what the caller's clock raises."""
        while True:
            answers_before = self._answers
            outcome = await self._attempt(trial)
            if isinstance(outcome, Answer):
                return outcome
            if self.over is not None or outcome.fault == "final":
                if outcome.fault == "wait":
                    outcome = replace(outcome, message=f"{outcome.message}; {self._why}")
                break
            delay, reason = self._next_delay_s(trial, outcome)
            if reason:
                self._gave_up(outcome, is_for_all=self._answers == answers_before)
                outcome = replace(outcome, message=f"{outcome.message}; {reason}")
                break
            trial.left_s -= delay
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), delay)
        if outcome.status_code is None and trial.last_answer is not None:
            outcome = trial.last_answer
        if outcome.status_code in (400, 404) and (hint := id_hint(trial.batch_id)):
            outcome = replace(outcome, message=f"{outcome.message}; {hint}")
        return replace(outcome, attempts=trial.attempts)

    def _gave_up(self, outcome: Failure, *, is_for_all: bool) -> None:
        """Count an id that ended without an answer, or end the run if no id would get one."""
        if outcome.fault == "passing":
            self.budget.gave_up()
        elif outcome.fault == "local" and is_for_all:
            self._end(f"no id would get through ({outcome.message})")

    def _end(self, why: str, retry_after_s: float | None = None) -> None:
        """End the run: send nothing more, and end all waits."""
        if self.over is None:
            self._why = why
            self.over = Failure("not_attempted", f"never sent: {why}", retry_after_s=retry_after_s)
            self._ended.set()
            self.limit.close()

    def _next_delay_s(self, trial: Trial, outcome: Failure) -> tuple[float, str]:
        """Return the seconds to wait before the next attempt, or a reason why there is none."""
        if outcome.fault == "stale":
            return 0.0, ""
        asked_s = outcome.retry_after_s
        if outcome.fault == "wait":
            delay = _wait_s(asked_s, trial.n_waits - 1) + pacing.jitter_s(0.05)
        elif outcome.fault == "local":
            if trial.n_local > _LOCAL_RETRIES:
                return 0.0, f"the same {trial.n_local} times"
            delay = 2 * pacing.backoff_s(trial.n_local)
        else:
            if trial.n_passing >= _ATTEMPTS:
                return 0.0, f"gave up after {_ATTEMPTS} attempts"
            delay = max(asked_s or 0.0, pacing.backoff_s(trial.n_passing - 1)) + pacing.jitter_s(_JITTER_S)
        if delay >= trial.left_s:
            what = "try again" if asked_s is None else f"wait {asked_s:g} s as asked"
            return 0.0, f"timeout_s = {self.call.timeout_s:g} s leaves no time to {what}"
        if outcome.fault == "passing" and not self.budget.take():
            return 0.0, "the retries of this run are used up"
        return delay, ""

    async def _attempt(self, trial: Trial) -> Answer | Failure:
        ticket = self.limit.enter() or await self.limit.wait()
        if ticket is None:
            assert self.over is not None
            return trial.last_answer or self.over
        try:
            if self._rate is not None:
                await self._rate.wait()
            trial.attempts += 1
            began = _loop_time()
            try:
                async with asyncio.timeout(min(trial.left_s, self.call.timeout_s / _ATTEMPTS_IN_TIME)):
                    outcome = await self._exchange(trial)
            except TimeoutError:
                outcome = Failure("transport", "no whole answer came in time", fault="passing")
            finally:
                trial.left_s -= _loop_time() - began
            self._judge(trial, outcome, ticket)
            return outcome
        finally:
            self.limit.leave()

    async def _exchange(self, trial: Trial) -> Answer | Failure:
        """Send one request and read its answer; whatever the transport raises is a failure."""
        try:
            reply = await self.channel.get(batch_path(trial.batch_id), fresh=trial.was_stale)
        except Exception as error:  # noqa: BLE001 -- a transport may raise anything
            return transport_failure(error)
        try:
            if reply.status_code != 200:
                trial.last_answer = http_failure(reply)
                await skip_body(reply)
                return trial.last_answer
            observed_at_us = self._stamp(reply)
            if isinstance(observed_at_us, Failure):
                return observed_at_us
            try:
                return await read_answer(reply, trial.batch_id, observed_at_us)
            except Exception as error:  # noqa: BLE001
                return transport_failure(error)
        finally:
            # The outcome is known; if closing fails, the connection is lost and nothing else.
            with contextlib.suppress(Exception):
                await reply.aclose()

    def _judge(self, trial: Trial, outcome: Answer | Failure, ticket: Ticket) -> None:
        """Update the trial, the budget and the limits by one outcome."""
        if isinstance(outcome, Answer):
            self._answered(ticket)
            return
        trial.was_stale = trial.was_stale or outcome.fault == "stale"
        trial.n_passing += outcome.fault == "passing"
        trial.n_local += outcome.fault == "local"
        trial.n_waits += outcome.fault == "wait"
        if outcome.status_code == 401:
            self._end("the API refused the key")
            raise Refused(401)
        if outcome.fault == "wait":
            self._asked_to_wait(outcome, ticket)
        elif outcome.status_code == 503:
            self.limit.throttled(ticket)
        elif outcome.status_code is not None and outcome.fault == "final":
            self._answered(ticket)

    def _answered(self, ticket: Ticket) -> None:
        self._answers += 1
        self.budget.answered()
        self.limit.answered(ticket)

    def _asked_to_wait(self, outcome: Failure, ticket: Ticket) -> None:
        pause, asked_s, timeout_s = self.limit.pause, outcome.retry_after_s, self.call.timeout_s
        if not asked_s:
            self.limit.throttled(ticket)
        wait_s = _wait_s(asked_s, pause.count)
        if self.limit.asked_to_wait(ticket, wait_s):
            self.progress.wait(wait_s)
        now = _loop_time()
        assert pause.began is not None
        if (asked_s or 0) > timeout_s:
            why = f"the API asked to wait {asked_s:g} s, longer than timeout_s = {timeout_s:g} s"
        elif now + wait_s - pause.began > timeout_s:
            why = f"the API let nothing through for timeout_s = {timeout_s:g} s, and asks to wait on"
        else:
            return
        self._end(why, asked_s)

    def _stamp(self, reply: Reply) -> int | Failure:
        """Return when a response arrived, in microseconds since 1970."""
        clock = self.call.clock
        if clock is None:
            return time.time_ns() // 1000
        if clock == "server":
            date = http_date(reply.headers.get("date"))
            if date is None:
                return Failure(
                    "protocol",
                    'clock="server" needs a Date header, found none that is a date',
                    reply.status_code,
                )
            return (date - _EPOCH) // _MICROSECOND
        instant = clock()
        if not isinstance(instant, datetime):
            raise TypeError(f"clock must return an aware datetime, found {type(instant).__name__}")
        if instant.utcoffset() is None:
            raise ValueError("clock must return an aware datetime, found one without a time zone")
        return (instant - _EPOCH) // _MICROSECOND


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _wait_s(asked_s: float | None, n_before: int) -> float:
    """Return the seconds of a wait: the time asked for and a little more, at least the back-off."""
    return max((asked_s or 0.0) * (1 + pacing.jitter_s(0.02)), pacing.backoff_s(n_before))
