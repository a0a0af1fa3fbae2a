"""One run: workers pull ids from one iterator, and each id ends in exactly one outcome.

Place in the flow: fetch.calls → **run** → ask. Knows no tables and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING

from safetykit_analytics.fetch.ask import Asker
from safetykit_analytics.fetch.progress import Progress
from safetykit_analytics.fetch.request import id_problem
from safetykit_analytics.fetch.transport import open_transport
from safetykit_analytics.fetch.wire import Answer, Failure
from safetykit_analytics.frame import row_of

if TYPE_CHECKING:
    from safetykit_analytics.fetch.request import Call
    from safetykit_analytics.frame import Row

_END = object()


class Run:
    """Ids and what became of them: ``batch_ids[i]`` ended in ``outcomes[i]``.

    Parameters
    ----------
    call : Call
    batch_ids : iterable
        Pulled lazily: at most ``call.concurrency`` ids are held without an outcome. Each is asked for once.
    """

    def __init__(self, call: Call, batch_ids: Iterable[object]) -> None:
        self.call = call
        self.batch_ids: list[str] = []
        self.outcomes: list[Row | Failure] = []
        self._source: Iterator[object] = iter(batch_ids)
        self._n_ids = len(batch_ids) if isinstance(batch_ids, Sized) else None
        self._seen: set[tuple[str, bool]] = set()

    async def go(self) -> None:
        """Fetch everything.

        Raises
        ------
        Refused
            The API refused the key.
        asyncio.CancelledError
            Cancelled from outside.
        Exception
            What the iterable of ids or the clock raised.

        Whatever is raised, every id that was pulled has an outcome and nothing is left running or open.
        """
        transport = self.call.transport or open_transport(self.call.base_url)
        try:
            with Progress(self.call.progress, self._n_ids) as progress:
                await self._go(Asker(self.call, transport, self._n_ids), progress)
        finally:
            if transport is not self.call.transport:
                await transport.aclose()

    def drop_rest(self, why: str) -> None:
        """Give an outcome to all ids that were not pulled."""
        while (place := self._pull()) is not None:
            self.outcomes[place] = Failure("not_attempted", why)

    @property
    def is_sized(self) -> bool:
        """Whether the ids are a collection, so that pulling the rest ends."""
        return self._n_ids is not None

    async def _go(self, asker: Asker, progress: Progress) -> None:
        n_workers = self.call.concurrency if self._n_ids is None else min(self.call.concurrency, self._n_ids)
        workers = [asyncio.create_task(self._work(asker, progress)) for _ in range(n_workers)]
        try:
            if workers:
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                for worker in done:
                    worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        await self._drop_rest_of_outage()

    async def _drop_rest_of_outage(self) -> None:
        """Give an outcome to the ids that an outage left, if there are any."""
        why = "never sent: as many ids as the run has retries failed in a row, so the API is not there"
        while (place := self._pull()) is not None:
            self.outcomes[place] = Failure("not_attempted", why)
            # A generator may be long, or have no end: whoever waits for us must be able to stop us.
            await asyncio.sleep(0)

    async def _work(self, asker: Asker, progress: Progress) -> None:
        while not asker.budget.is_outage and (place := self._pull()) is not None:
            trial = asker.trial(self.batch_ids[place])
            try:
                outcome = await asker.ask(trial)
            except BaseException:
                if trial.attempts:
                    self.outcomes[place] = Failure(
                        "not_attempted",
                        "cut off: the run was stopped before the answer came",
                        attempts=trial.attempts,
                    )
                raise
            self.outcomes[place] = (
                row_of(outcome.status, outcome.observed_at_us) if isinstance(outcome, Answer) else outcome
            )
            progress.count(failed=isinstance(outcome, Failure))

    def _pull(self) -> int | None:
        """Take the next id that can be asked for and was not seen; give its place, or None at the end."""
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
