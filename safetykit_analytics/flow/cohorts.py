"""Cohorts: those of a store, each read once, or a DataFrame as the only one."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa

from safetykit_analytics.arrays import NEVER
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.calendar import BEYOND
from safetykit_analytics.errors import StoreChanged, StoreFailed
from safetykit_analytics.flow.observations import Rows, instants, one_array, rows_of
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.keys import sorted_unique
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

_Result = TypeVar("_Result")

_EMPTY = OBSERVATION_SCHEMA.empty_table()
# Small cohorts are read together up to this many rows.
_ROWS_PER_TASK = 180_000
# Tasks begun ahead of the result that is due: enough for some dozen workers, few enough for little memory.
_AHEAD = 32
_THREADS = min(4, os.cpu_count() or 1)
# Compactions that a call may meet before it gives up.
_TRIES = 20


class Cohort(Protocol):
    """All observations of the batches created on one UTC day. Picklable, so another process can read it."""

    @property
    def name(self) -> str | None:
        """The day, as ``2026-03-02``, or ``undated``; None for any batches."""

    @property
    def earliest(self) -> int:
        """The earliest ``created_at`` or ``observed_at``, in microseconds since 1970 UTC."""

    @property
    def first_observed(self) -> int:
        """The earliest ``observed_at``."""

    @property
    def last_observed(self) -> int:
        """The latest ``observed_at``."""

    @property
    def n_rows(self) -> int:
        """How many observations there are at most."""

    @property
    def n_open(self) -> int:
        """How many batches are open at most."""

    def tables(self, columns: Sequence[str]) -> Iterable[Any]:
        """Read pieces that end between batches, each sorted by (batch_id, observed_at), no key twice."""


@runtime_checkable
class HasCohorts(Protocol):
    """Something that holds observations by cohort, such as a SnapshotStore."""

    def cohorts(self, columns: Sequence[str] | None = None) -> Sequence[Cohort]:
        """List the cohorts in the order of their earliest instants."""


@dataclass(frozen=True)
class TableCohort:
    """Observations in memory, sorted by key and unique."""

    table: Any
    earliest: int
    first_observed: int
    last_observed: int
    name: None = None

    @property
    def n_rows(self) -> int:
        """Return the number of observations."""
        return int(self.table.num_rows)

    @property
    def n_open(self) -> int:
        """Return an upper bound: any batch may be open."""
        return self.n_rows

    def tables(self, columns: Sequence[str]) -> Iterable[Any]:
        """Return the table."""
        return [self.table.select(list(columns))]


@dataclass(frozen=True)
class Listing:
    """Cohorts as they were at one moment.

    Attributes
    ----------
    cohorts : tuple of Cohort
        In the order of their earliest instants; without those first observed after `as_of`.
    as_of : int
        Microseconds since 1970 UTC: the last observation, unless one was given; 0 without observations.
    """

    cohorts: tuple[Cohort, ...]
    as_of: int

    @property
    def latest(self) -> int:
        """Return the last observation, or `as_of` if that is earlier."""
        return min(max((cohort.last_observed for cohort in self.cohorts), default=self.as_of), self.as_of)

    @property
    def earliest(self) -> int:
        """Return the earliest instant; later than `as_of` if there are no observations."""
        return min((cohort.earliest for cohort in self.cohorts), default=self.as_of + 1)

    def where(self, wanted: Callable[[Cohort], bool]) -> Listing:
        """Return the listing of some of the cohorts."""
        return replace(self, cohorts=tuple(filter(wanted, self.cohorts)))


def table_cohorts(table: Any) -> list[TableCohort]:
    """Return observations in memory as one cohort; none if there are no rows."""
    if not table.num_rows:
        return []
    table = sorted_unique(table)
    observed, created = instants(table.column("observed_at")), instants(table.column("created_at"))
    first = int(observed.min())
    earliest = min(first, int(created.min(where=created != NEVER, initial=first)))
    return [TableCohort(table, earliest, first, int(observed.max()))]


def with_listing(
    observations: Any, columns: Sequence[str], as_of: int | None, function: Callable[[Listing], _Result]
) -> _Result:
    """Apply a function to the cohorts of observations; start anew if a compaction removed files meanwhile.

    The function may pass its listing on as observations: all then read the same files. Raises InvalidFrame
    for a DataFrame that does not hold observations, StoreFailed if every attempt met a compaction.
    """
    if isinstance(observations, Listing):
        return function(_listing(observations, columns, as_of))
    for attempt in range(_TRIES):
        try:
            return function(_listing(observations, columns, as_of))
        except StoreChanged:
            time.sleep(0.01 * attempt)
    raise StoreFailed(
        f"the store was compacted during each of {_TRIES} attempts to read it; compact it less often"
    )


def last_observed(observations: Any) -> int | None:
    """Return the last ``observed_at``, in microseconds since 1970 UTC; None without observations."""
    listing = _listing(observations, ("observed_at",), None)
    return listing.as_of if listing.cohorts else None


def _listing(observations: Any, columns: Sequence[str], as_of: int | None) -> Listing:
    cohorts: Sequence[Cohort]
    if isinstance(observations, Listing):
        cohorts, as_of = observations.cohorts, observations.as_of if as_of is None else as_of
    elif isinstance(observations, pd.DataFrame):
        cohorts = table_cohorts(table_from_frame(observations))
    else:
        cohorts = observations.cohorts(columns)
    if as_of is None:
        as_of = max((cohort.last_observed for cohort in cohorts), default=0)
    return Listing(tuple(cohort for cohort in cohorts if cohort.first_observed <= as_of), as_of)


def reduced(
    listing: Listing,
    reducer: Callable[[Rows], _Result],
    *,
    columns: Sequence[str],
    labels: Sequence[str] = (),
    own: Any = None,
    executor: Executor | None = None,
) -> Iterator[tuple[int, _Result]]:
    """Read each cohort once and reduce it alone; yield results in the order of the listing.

    Each result comes after the earliest instant that a later one can touch, BEYOND with the last. Without
    cohorts there is one result, of no observations. `reducer` is a module-level function or a partial of one.
    `labels` are the label columns among `columns`; `own` has ``batch_id`` and columns of text, one row each.
    """
    if not listing.cohorts:
        yield BEYOND, reducer(rows_of([_EMPTY], labels=labels, own=own))
        return
    cuts = list(_tasks(listing.cohorts))
    follows = [cut[0].earliest for cut in cuts[1:]] + [BEYOND]
    tasks = list(zip(cuts, _by_task(own, cuts), strict=True))
    function = partial(_reduce, reducer, tuple(columns), tuple(labels), listing.as_of)
    for follow, cut, results in zip(follows, cuts, ordered_map(function, tasks, executor), strict=True):
        for result in results[:-1]:
            yield cut[0].earliest, result
        yield follow, results[-1]


def _tasks(cohorts: Iterable[Cohort]) -> Iterator[tuple[Cohort, ...]]:
    """Cut the listing into tasks, small cohorts together."""
    task: list[Cohort] = []
    for cohort in cohorts:
        if task and sum(other.n_rows for other in task) + cohort.n_rows > _ROWS_PER_TASK:
            yield tuple(task)
            task = []
        task.append(cohort)
    if task:
        yield tuple(task)


def _by_task(own: Any, cuts: list[tuple[Cohort, ...]]) -> list[Any]:
    """Cut own columns by task: each gets the rows of its cohorts, a table in memory all."""
    if own is None:
        return [None] * len(cuts)
    days = cohort_days(one_array(own.column("batch_id")))
    return [
        own
        if any(cohort.name is None for cohort in cut)
        else own.filter(pa.array(np.isin(days, [cohort_day(cohort.name) for cohort in cut])))
        for cut in cuts
    ]


def cohort_day(name: str | None) -> int:
    """Return the day of a named cohort as `cohort_days` does."""
    return -1 if name == "undated" else (dt.date.fromisoformat(str(name)) - dt.date(1970, 1, 1)).days


def _reduce(
    reducer: Callable[[Rows], _Result],
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    as_of: int,
    task: tuple[tuple[Cohort, ...], Any],
) -> list[_Result]:
    """Read a task and reduce it: a large cohort table by table, small cohorts together."""
    cohorts, own = task
    rows = partial(rows_of, labels=labels, own=own)
    tables = (_until(table, cohort, as_of) for cohort in cohorts for table in cohort.tables(columns))
    pieces = ([table] for table in tables) if len(cohorts) == 1 else [[*tables] or [_EMPTY]]
    return [reducer(rows(piece)) for piece in pieces] or [reducer(rows([_EMPTY]))]


def _until(table: Any, cohort: Cohort, as_of: int) -> Any:
    """Return the rows of a cohort observed up to `as_of`."""
    if cohort.last_observed <= as_of:
        return table
    return table.filter(pa.array(instants(table.column("observed_at")) <= as_of))


def ordered_map(
    function: Callable[[Any], _Result], tasks: Sequence[Any], executor: Executor | None
) -> Iterator[_Result]:
    """Apply a function to tasks and yield the results in their order, a bounded number of tasks ahead."""
    if len(tasks) == 1:
        yield function(tasks[0])
    elif executor is not None:
        yield from _in_order(function, tasks, executor, _AHEAD)
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from _in_order(function, tasks, pool, 2 * _THREADS)


def _in_order(
    function: Callable[[Any], _Result], tasks: Iterable[Any], executor: Executor, ahead: int
) -> Iterator[_Result]:
    running: deque[Future[_Result]] = deque()
    try:
        for task in tasks:
            running.append(executor.submit(function, task))
            if len(running) >= ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
