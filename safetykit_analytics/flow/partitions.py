"""What observations may come as: a DataFrame, or anything with partitions, one per UTC day.

Place in the flow: frame → **flow** ← store. This package never imports the store: whatever has `partitions()`
will do.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import pandas as pd
import pyarrow as pa

from safetykit_analytics.calendar import from_us
from safetykit_analytics.frame import table_from_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

_Result = TypeVar("_Result")

# Tasks handed to an executor ahead of the one whose result is due: enough to keep a few dozen workers
# busy, few enough that finished results cannot pile up.
_AHEAD = 64
# Results that a thread may be ahead of the one that is due, while whoever takes them is busy.
_PER_THREAD = 6
# More threads than this wait for one another.
_THREADS = 4


class Partition(Protocol):
    """The observations of one UTC day: picklable, so that another process can read it."""

    @property
    def date(self) -> dt.date:
        """The UTC day of ``observed_at``."""

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """Read a pyarrow.Table of these columns: no duplicates, sorted by (batch_id, observed_at)."""


@runtime_checkable
class Partitioned(Protocol):
    """Something that holds observations by day, such as a SnapshotStore."""

    def partitions(self, start: dt.date | None = None, end: dt.date | None = None) -> Sequence[Partition]:
        """List the days that have observations, start ≤ day < end, in order."""


@dataclass(frozen=True)
class FramePartition:
    """A DataFrame as one partition that covers all of its days."""

    table: Any
    date: dt.date = dt.date.min

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """Give the table, which is in memory."""
        return self.table if columns is None else self.table.select(list(columns))


@dataclass(frozen=True)
class Stretch:
    """Days that follow one another, as one partition."""

    days: tuple[Partition, ...]

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """Read all of them, day by day."""
        return concat([day.read(columns) for day in self.days])


def concat(tables: list[Any]) -> Any:
    """Put tables end to end; strings may be plain in one and dictionary-encoded in another."""
    if any(table.schema != tables[0].schema for table in tables):
        tables = [_encoded(table) for table in tables]
    return pa.concat_tables(tables)


def _encoded(table: Any) -> Any:
    columns = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def list_partitions(observations: Any, as_of_date: dt.date | None = None) -> list[Partition]:
    """List the partitions of observations, without the days after `as_of_date`.

    Raises
    ------
    TypeError
        Neither a DataFrame nor anything with partitions.
    InvalidFrame
        The DataFrame does not hold observations.
    """
    if isinstance(observations, pd.DataFrame):
        return [FramePartition(table_from_frame(observations))]
    if isinstance(observations, Partitioned):
        end = None if as_of_date is None else as_of_date + dt.timedelta(days=1)
        return list(observations.partitions(None, end))
    raise TypeError(
        f"expected a DataFrame of observations or a SnapshotStore, found {type(observations).__name__}"
    )


def stored_days(observations: Any, as_of_us: int | None) -> Sequence[Partition]:
    """List the partitions that are not in memory, without days after `as_of_us`; none of a DataFrame."""
    if isinstance(observations, pd.DataFrame) or not isinstance(observations, Partitioned):
        return []
    days = list_partitions(observations, None if as_of_us is None else from_us(as_of_us).date())
    # What is in memory may be unsorted, and have a key twice.
    return [day for day in days if not isinstance(day, FramePartition)]


def ordered_map(
    function: Callable[..., _Result], items: Iterable[tuple[Any, ...]], executor: Executor | None
) -> Iterator[_Result]:
    """Apply a module-level function to argument tuples and give the results in their order.

    Without an executor a few threads of this process do it: reading and array passes leave the interpreter
    free for one another. At most a fixed number of tasks is ahead of the result that is due, so that memory
    is bounded whatever the number of items. If one fails, or the caller stops, those not begun are cancelled.
    """
    tasks = list(items)
    if len(tasks) == 1:
        yield function(*tasks[0])
    elif executor is not None:
        yield from in_order(function, tasks, executor, lambda _: _AHEAD)
    else:
        threads = min(_THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            yield from in_order(function, tasks, pool, lambda _: _PER_THREAD * threads)


def in_order(
    function: Callable[..., _Result],
    tasks: Iterable[tuple[Any, ...]],
    executor: Executor,
    ahead: Callable[[_Result | None], int],
) -> Iterator[_Result]:
    """Apply a function in an executor and give the results in their order.

    `ahead` says by the last result, None at first, how many tasks may be begun whose result is not yet due.
    """
    running: deque[Future[_Result]] = deque()
    most = ahead(None)
    try:
        for task in tasks:
            running.append(executor.submit(function, *task))
            while len(running) >= most:
                result = running.popleft().result()
                most = ahead(result)
                yield result
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
