"""Rows that are not yet in the files of their cohorts: read once, split by cohort."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import run_bounds, run_starts
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.keys import concat, sorted_unique
from safetykit_analytics.store.listing import Listing, open_file
from safetykit_analytics.store.names import cohort_name
from safetykit_analytics.store.row_filter import ALL, RowFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Tables are joined until they are so many or have so many rows.
_TABLES = 500
_ROWS = 100_000


def read_recent(
    listing: Listing,
    columns: Sequence[str],
    *,
    row_filter: RowFilter = ALL,
    skip_damaged: bool = False,
) -> dict[str, Any]:
    """Read the recent rows of a store, by cohort: sorted by key and unique, in memory of their own.

    `columns` include the key; text is read as dictionaries.
    """

    def tables() -> Iterator[Any]:
        for file in listing.recent:
            if not row_filter.overlaps(file.facts.first, file.facts.last):
                continue
            snapshot = open_file(listing.files, listing.generation, file, skip_damaged=skip_damaged)
            if snapshot is not None:
                for group in row_filter.groups(snapshot):
                    yield row_filter.read(snapshot, [group], columns)

    return split(tables())


def split(tables: Iterable[Any]) -> dict[str, Any]:
    """Split tables by cohort; each part is sorted by key and unique, and shares no memory with them."""
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for table in _joined(tables):
        days = cohort_days(table.column("batch_id"))
        order = np.argsort(days, kind="stable")
        for begin, end in zip(*run_bounds(run_starts(days[order])), strict=True):
            part = _compact(table.take(pa.array(order[begin:end])))
            parts[cohort_name(int(days[order[begin]]))].append(part)
    return {name: sorted_unique(concat(parts.pop(name))) for name in sorted(parts)}


def _joined(tables: Iterable[Any]) -> Iterator[Any]:
    """Join small tables, each of which has an overhead of kilobytes, but not all: that would double them."""
    some: list[Any] = []
    for table in tables:
        if table.num_rows:
            some.append(table)
        if len(some) == _TABLES or sum(one.num_rows for one in some) > _ROWS:
            yield concat(some)
            some = []
    if some:
        yield concat(some)


def by_cohort(table: Any) -> Any:
    """Sort a table that is sorted by key by cohort first, undated last."""
    days = cohort_days(table.column("batch_id")).astype(np.int64)
    days[days < 0] = np.iinfo(np.int32).max
    return table if (np.diff(days) >= 0).all() else table.take(pa.array(np.argsort(days, kind="stable")))


def _compact(table: Any) -> Any:
    """Drop the values that no row of a table has from its dictionaries."""
    columns = [
        column.cast(column.type.value_type).dictionary_encode()
        if pa.types.is_dictionary(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema).combine_chunks()
