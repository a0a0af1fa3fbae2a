"""Limits of a run: retries, pauses, requests in flight, requests per second.

Each object belongs to one run and one event loop, so none needs a lock.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from typing import NamedTuple

_FEWEST_RETRIES = 100
_RETRIES_PER_ID = 0.05
# Half a retry earned per answer carries any mix of faults up to one in three for as long as it lasts.
_RETRIES_PER_ANSWER = 0.5

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
# Requests that test, after a pause, whether the run may go on.
_PROBES = 2
# Refusals without an answer between them that pause the run. A single one may be about a single id.
_REFUSALS_THAT_PAUSE = 3


def backoff_s(n_before: int) -> float:
    """Return the seconds to wait after a failure that `n_before` others preceded; no jitter."""
    return min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(n_before, 10))


def jitter_s(most_s: float) -> float:
    """Return a random number of seconds, so that many clients do not come back at once."""
    return random.random() * most_s  # noqa: S311 -- spreads load, protects nothing


class RetryBudget:
    """Retries that all ids of a run share, so that an outage is not answered with a storm.

    A retry is owed; an answer pays back half a one. At most max(100, 5 % of the ids) may be owed, so that
    is how many retries a full outage sees, whenever in the run it begins. As many ids that fail in a row,
    with no answer between them, are an outage: asking for the others is of no use.
    """

    def __init__(self, n_ids: int | None) -> None:
        self._n_ids = n_ids
        self._n_taken = 0
        self._owed = 0.0
        self._failed_in_a_row = 0

    @property
    def allowance(self) -> float:
        """The largest number of retries that may be owed now."""
        n_ids = self._n_taken if self._n_ids is None else self._n_ids
        return max(_FEWEST_RETRIES, _RETRIES_PER_ID * n_ids)

    @property
    def is_outage(self) -> bool:
        """Whether the API is down."""
        return self._failed_in_a_row >= self.allowance

    def id_taken(self) -> None:
        """Count an id that a worker has taken; a generator has no length."""
        self._n_taken += 1

    def answered(self) -> None:
        """Refill the retry budget: the API answered about a batch, even if there is no such batch."""
        self._owed = max(0.0, self._owed - _RETRIES_PER_ANSWER)
        self._failed_in_a_row = 0

    def gave_up(self) -> None:
        """Count an id that ended without an answer."""
        self._failed_in_a_row += 1

    def take(self) -> bool:
        """Ask for one retry."""
        if self._owed + 1 > self.allowance:
            return False
        self._owed += 1
        return True


class Pause:
    """When the whole run waits because the API asked for it, and how carefully it goes on afterwards.

    Three refusals in a row, with no answer between them, pause the run until the latest time that they asked
    for. Then two requests test whether it may go on; one answer opens it again. As many requests as were
    answered between the last two pauses follow at once, because the API most likely counts requests per time.
    Beyond them, the number in flight starts at one and grows with every answer. So a quota is met with one
    or two refused requests each time, not with as many as fit in flight.
    """

    def __init__(self) -> None:
        self.until = -math.inf
        self.is_on = False
        #: Pauses since the last answer.
        self.count = 0
        #: When the first refusal since the last answer came.
        self.began: float | None = None
        #: The number of pauses that have ended.
        self.window = 0
        self._quota = math.inf
        self._sent = 0
        self._granted = 0
        self._beyond = 1
        self._refused_in_a_row = 0

    def admits(self, in_flight: int) -> bool:
        """Whether one more request may leave."""
        if self.is_on:
            return False
        if self.window and not self._granted:
            return in_flight < _PROBES
        return self._sent < self._quota or in_flight < self._beyond

    def sent(self) -> int:
        """Count a request that leaves; its number since the last pause."""
        self._sent += 1
        return self._sent

    def answered(self, window: int, nth: int) -> None:
        """Note an answer to the n-th request of a window."""
        self.count = 0
        self.began = None
        self._refused_in_a_row = 0
        if window == self.window:
            self._granted += 1
            if nth > self._quota:
                self._beyond += 1

    def refused(self, window: int, now: float, wait_s: float, most_in_flight: int) -> None:
        """Note that a request of a window was asked to wait."""
        self.began = now if self.began is None else self.began
        if window != self.window:
            return
        self._refused_in_a_row += 1
        self.until = max(self.until, now + wait_s)
        expected = self.window and (not self._granted or self._sent > self._quota)
        if self._refused_in_a_row >= (1 if expected else min(_REFUSALS_THAT_PAUSE, most_in_flight)):
            self.count += not self.is_on
            self.is_on = True

    def end(self) -> None:
        """Go on, carefully."""
        self.is_on = False
        self.until = -math.inf
        self.window += 1
        self._quota = self._granted
        self._sent = self._granted = self._refused_in_a_row = 0
        self._beyond = 1


class Ticket(NamedTuple):
    """How a request was let through: cuts and pauses before it, and requests in flight with it."""

    cuts: int
    load: int
    window: int = 0
    nth: int = 0


class AdaptiveLimit:
    """How many requests may be in flight: none in a pause, fewer while the API refuses, more afterwards.

    The API names no limit, so it is searched for. A 429 or 503 halves the limit, once per burst, and the
    load at which the refused request had been sent marks the ceiling. Up to the ceiling every answer adds
    one: so much was fine before. Above, one more is tried after a number of answers that doubles with each
    refused try and halves with each that went well. So a fixed limit is found, kept at and rarely
    disturbed, and one that was lifted is followed ever faster.
    """

    _FIRST_WAIT = 16
    _LONGEST_WAIT = 1024

    def __init__(self, most: int) -> None:
        self._most = most
        #: Requests that may be in flight, and those that are.
        self.limit = most
        self.in_flight = 0
        self._ceiling = most
        self._cuts = 0
        self._calm = 0
        self._wait = self._FIRST_WAIT
        self._queue: deque[asyncio.Future[Ticket | None]] = deque()
        self._is_closed = False
        self.pause = Pause()

    def enter(self) -> Ticket | None:
        """Occupy a place if one is free and nobody waits for it."""
        return None if self._queue or self._is_closed or not self._has_room() else self._take()

    async def wait(self) -> Ticket | None:
        """Wait in line for a place; None when the run is over."""
        if self._is_closed:
            return None
        place: asyncio.Future[Ticket | None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result() is not None:
                # The place was granted just before: pass it on.
                self.leave()
            raise

    def leave(self) -> None:
        """Return the place."""
        self.in_flight -= 1
        self._admit()

    def close(self) -> None:
        """Let nobody in any more, and send away all who wait."""
        self._is_closed = True
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)

    def asked_to_wait(self, ticket: Ticket, wait_s: float) -> bool:
        """Note that the request of this ticket was asked to wait; whether the run pauses from now on."""
        loop, pause = asyncio.get_running_loop(), self.pause
        was_on = pause.is_on
        pause.refused(ticket.window, loop.time(), wait_s, self.limit)
        if not pause.is_on or was_on:
            return False
        loop.call_at(pause.until, self._end_pause)
        return True

    def _end_pause(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self.pause.until:  # extended meanwhile
            loop.call_at(self.pause.until, self._end_pause)
            return
        self.pause.end()
        self._admit()

    def throttled(self, ticket: Ticket) -> None:
        """Note that the request of this ticket was refused for load."""
        self._calm = 0
        if ticket.cuts == self._cuts:
            self._cuts += 1
            was_try = ticket.load > self._ceiling
            self._wait = min(2 * self._wait, self._LONGEST_WAIT) if was_try else self._FIRST_WAIT
            self._ceiling = max(1, min(self._ceiling, ticket.load - 1))
            self.limit = max(1, min(self.limit // 2, self._ceiling))
        elif ticket.cuts == self._cuts - 1:
            # Sent before the cut, so no reason for another one; the lowest refused load of a burst tells
            # the most.
            self._ceiling = max(1, min(self._ceiling, ticket.load - 1))
            self.limit = min(self.limit, self._ceiling)

    def answered(self, ticket: Ticket) -> None:
        """Note that the request of this ticket was not refused."""
        self.pause.answered(ticket.window, ticket.nth)
        if self.limit >= self._most:
            return
        if ticket.load > self._ceiling and ticket.cuts == self._cuts:
            self._ceiling = ticket.load
            self._wait = max(1, self._wait // 2)
        self._calm += 1
        if self.limit < self._ceiling:
            self.limit += 1
        elif self.limit == self._ceiling and self._calm >= self._wait:
            self._calm = 0
            self.limit += 1
        self._admit()

    def _has_room(self) -> bool:
        return self.in_flight < self.limit and self.pause.admits(self.in_flight)

    def _take(self) -> Ticket:
        self.in_flight += 1
        return Ticket(self._cuts, self.in_flight, self.pause.window, self.pause.sent())

    def _admit(self) -> None:
        while self._queue and self._has_room():
            place = self._queue.popleft()
            if not place.done():
                place.set_result(self._take())


class MaxRate:
    """At most so many requests in any second.

    Even spacing, with a small allowance to catch up after a late wake-up, and behind it a strict count: the
    n-th request before this one left at least a window ago. The window is a little longer than a second,
    because requests do not travel equally long and the second that counts is the server's.
    """

    _WINDOW_S = 1.05
    _CATCH_UP_S = 0.05

    def __init__(self, per_second: float) -> None:
        whole = max(1, int(per_second))
        self._window = self._WINDOW_S / min(1.0, per_second)
        self._gap = self._window / whole
        self._sent: deque[float] = deque(maxlen=whole)
        self._next = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Return when the next request may leave, and count it."""
        time = asyncio.get_running_loop().time
        async with self._turn:
            while True:
                now = time()
                earliest = self._next - self._CATCH_UP_S if self._gap < self._CATCH_UP_S else self._next
                if len(self._sent) == self._sent.maxlen:
                    earliest = max(earliest, self._sent[0] + self._window)
                if now >= earliest:
                    break
                await asyncio.sleep(earliest - now)
            self._next = max(self._next, now - self._CATCH_UP_S) + self._gap
            self._sent.append(now)
