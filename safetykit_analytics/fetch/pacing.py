"""How hard a run may press: how many retries, how many requests at once, how many a second.

Place in the flow: used by fetch.run. Each object belongs to one run and one event loop, so none needs a lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

_FEWEST_RETRIES = 100
_RETRIES_PER_ID = 0.05
# Half a retry earned per answer carries any mix of faults up to one in three for as long as it lasts.
_RETRIES_PER_ANSWER = 0.5


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
        """Whether the API is plainly not there."""
        return self._failed_in_a_row >= self.allowance

    def id_taken(self) -> None:
        """Count an id; tells a run over a generator how many there are."""
        self._n_taken += 1

    def answered(self) -> None:
        """Pay back: the API answered about a batch, be it that there is no such batch."""
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


class Ticket(NamedTuple):
    """When a request was let through `AdaptiveLimit`: how many cuts before it, how many in flight with it."""

    cuts: int
    load: int


class AdaptiveLimit:
    """How many requests may be in flight: halved when the API says that it is too many, grown again.

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
        self._limit = most
        self._ceiling = most
        self._in_flight = 0
        self._cuts = 0
        self._calm = 0
        self._wait = self._FIRST_WAIT
        self._queue: deque[asyncio.Future[Ticket]] = deque()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Requests that are in flight now."""
        return self._in_flight

    def enter(self) -> Ticket | None:
        """Take a place if one is free and nobody waits for it."""
        if self._in_flight >= self._limit or self._queue:
            return None
        self._in_flight += 1
        return Ticket(self._cuts, self._in_flight)

    async def wait(self) -> Ticket:
        """Wait in line for a place."""
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # It was given in the same moment: pass it on.
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._in_flight -= 1
        self._admit()

    def throttled(self, ticket: Ticket) -> None:
        """Note that the request of this ticket was refused for load."""
        self._calm = 0
        if ticket.cuts == self._cuts:
            self._cuts += 1
            was_try = ticket.load > self._ceiling
            self._wait = min(2 * self._wait, self._LONGEST_WAIT) if was_try else self._FIRST_WAIT
            self._ceiling = max(1, min(self._ceiling, ticket.load - 1))
            self._limit = max(1, min(self._limit // 2, self._ceiling))
        elif ticket.cuts == self._cuts - 1:
            # Sent before the cut, so no reason for another one; the lowest refused load of a burst tells
            # the most.
            self._ceiling = max(1, min(self._ceiling, ticket.load - 1))
            self._limit = min(self._limit, self._ceiling)

    def answered(self, ticket: Ticket) -> None:
        """Note that the request of this ticket was not refused."""
        if self._limit >= self._most:
            return
        if ticket.load > self._ceiling and ticket.cuts == self._cuts:
            self._ceiling = ticket.load
            self._wait = max(1, self._wait // 2)
        self._calm += 1
        if self._limit < self._ceiling:
            self._limit += 1
        elif self._limit == self._ceiling and self._calm >= self._wait:
            self._calm = 0
            self._limit += 1
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._in_flight < self._limit:
            place = self._queue.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(Ticket(self._cuts, self._in_flight))


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
        self._window = (
            max(self._WINDOW_S, self._WINDOW_S * whole / per_second) if per_second < 1 else self._WINDOW_S
        )
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
