"""One run: workers pull ids from one iterator, and each id gets exactly one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from safetykit_analytics.fetch.progress import Progress
from safetykit_analytics.fetch.request import id_problem
from safetykit_analytics.fetch.responses import Answer, Failure
from safetykit_analytics.fetch.retries import Retrier
from safetykit_analytics.fetch.transport import open_channel
from safetykit_analytics.frame import row_of

if TYPE_CHECKING:
    from safetykit_analytics.fetch.request import Call
    from safetykit_analytics.frame import Row
    from safetykit_analytics.models import BatchStatus

_END = object()
_DAY_S = 86_400.0
_OUTAGE = Failure(
    "not_attempted",
    "never sent: as many ids as the run has retries failed in a row, so the API is down",
)


class Run:
    """Ids and what became of them: ``batch_ids[i]`` ended in ``outcomes[i]``.

    Ids are pulled lazily: at most ``call.concurrency`` of them are held without an outcome. `keep` is called
    every `every_s` seconds with the rows that have arrived since, on another thread. An answer becomes a row,
    or stays `whole`.
    """

    def __init__(
        self,
        call: Call,
        batch_ids: Iterable[object],
        *,
        keep: Callable[[list[Row]], object] | None = None,
        every_s: float = math.inf,
        whole: bool = False,
    ) -> None:
        self.call = call
        self._keep = keep
        self._every_s = every_s
        self._whole = whole
        self._rows: list[Row] = []
        self._n_kept = 0
        self.batch_ids: list[str] = []
        self.outcomes: list[Row | BatchStatus | Failure] = []
        self._source: Iterator[object] = iter(batch_ids)
        self.n_ids = len(batch_ids) if isinstance(batch_ids, Sized) else None
        self._seen: set[tuple[str, bool]] = set()

    async def go(self) -> None:
        """Fetch everything; raise Refused for the key, and what cancels the run or the ids or clock raise.

        Every id that was pulled then has an outcome too, and nothing is left running or open.
        """
        channel = open_channel(self.call)
        try:
            with contextlib.closing(Progress(self.call.progress, self.n_ids)) as progress:
                await self._go(Retrier(self.call, channel, self.n_ids, progress), progress)
        finally:
            await channel.aclose()

    def drop_rest(self, outcome: Failure) -> Iterator[None]:
        """Set the outcome of the ids that were not pulled, one at each step."""
        while (place := self._pull()) is not None:
            self.outcomes[place] = outcome
            yield

    async def _go(self, retrier: Retrier, progress: Progress) -> None:
        n_workers = self.call.concurrency if self.n_ids is None else min(self.call.concurrency, self.n_ids)
        workers = [asyncio.create_task(self._work(retrier, progress)) for _ in range(n_workers)]
        working = asyncio.ensure_future(asyncio.gather(*workers))
        keeping = asyncio.create_task(self._keep_pieces())
        try:
            both: list[asyncio.Future[Any]] = [working, keeping]
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            running: list[asyncio.Future[Any]] = [*workers, working, keeping]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if retrier.over is not None or retrier.budget.is_outage:
            for _ in self.drop_rest(retrier.over or _OUTAGE):
                # A generator may be long, or have no end: whoever waits for us must be able to stop us.
                await asyncio.sleep(0)

    async def _keep_pieces(self) -> None:
        """Hand over what has arrived, again and again, until the run ends."""
        while True:
            await asyncio.sleep(min(self._every_s, _DAY_S))
            await asyncio.to_thread(self.keep_rest)

    def keep_rest(self) -> None:
        """Hand over the rows that have arrived and were not handed over yet."""
        rows = self._rows[self._n_kept :]
        if rows and self._keep is not None:
            self._keep(rows)
            # Counted last: rows that failed are handed over again, and a repeated append changes nothing.
            self._n_kept += len(rows)

    async def _work(self, retrier: Retrier, progress: Progress) -> None:
        while retrier.over is None and not retrier.budget.is_outage and (place := self._pull()) is not None:
            trial = retrier.trial(self.batch_ids[place])
            try:
                outcome = await retrier.fetch(trial)
            except BaseException:
                if trial.attempts:
                    self.outcomes[place] = Failure(
                        "not_attempted",
                        "cut off: the run was stopped before the answer came",
                        attempts=trial.attempts,
                    )
                raise
            if isinstance(outcome, Answer):
                row = row_of(outcome.status, outcome.observed_at_us)
                self.outcomes[place] = outcome.status if self._whole else row
                if self._keep is not None:
                    self._rows.append(row)
            else:
                self.outcomes[place] = outcome
            progress.count(failed=isinstance(outcome, Failure))

    def _pull(self) -> int | None:
        """Return the next id that can be asked for and was not seen; give its place, or None at the end."""
        while (batch_id := next(self._source, _END)) is not _END:
            problem = id_problem(batch_id)
            # A str subclass, as NumPy's, is shown and stored as a plain one; half a surrogate pair fits no
            # table.
            text = str(batch_id).encode("utf-8", "backslashreplace").decode("utf-8")
            if (text, problem is None) in self._seen:
                continue
            self._seen.add((text, problem is None))
            self.batch_ids.append(text)
            if problem is None:
                self.outcomes.append(Failure("not_attempted", "never sent: the run was stopped before"))
                return len(self.batch_ids) - 1
            self.outcomes.append(Failure("invalid_id", problem))
        return None
