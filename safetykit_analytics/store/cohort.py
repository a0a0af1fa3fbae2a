"""All observations of the batches created on one UTC day: the unit in which a store is read."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import run_starts
from safetykit_analytics.errors import UnknownName
from safetykit_analytics.keys import concat, ranked, sorted_unique
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.listing import Listing, open_file
from safetykit_analytics.store.names import add_facts
from safetykit_analytics.store.parquet import ROWS_PER_GROUP, Snapshot, facts_of
from safetykit_analytics.store.recent import read_recent
from safetykit_analytics.store.row_filter import ALL, RowFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from safetykit_analytics.store.files import Files
    from safetykit_analytics.store.names import StoredFile


@dataclass(frozen=True)
class Cohort:
    """The observations of the batches created on one UTC day (`name`), or of the ``undated`` ones. Picklable.

    No ``created_at`` or ``observed_at`` is before `earliest`; times are microseconds since 1970, UTC.
    `n_rows` and `n_open` are upper bounds, as a row may be in two files.
    """

    name: str
    earliest: int
    first_observed: int
    last_observed: int
    n_rows: int
    n_open: int
    stored: tuple[StoredFile, ...] = field(repr=False)
    recent: Any = field(repr=False)
    files: Files = field(repr=False)
    generation: object = field(repr=False)

    def tables(
        self,
        columns: Sequence[str] | None = None,
        *,
        row_filter: RowFilter = ALL,
        skip_damaged: bool = False,
    ) -> Iterator[Any]:
        """Read the cohort row group by row group, cut between batches; text as dictionaries.

        Sorted by key, no key twice. Raises StoreChanged if a compaction has moved rows since the store was
        listed: list it again. Recent rows were selected when they were read: `row_filter` is for those in
        files.
        """
        names = known_columns(columns)
        snapshots = [
            snapshot
            for file in self.stored
            if row_filter.overlaps(file.facts.first, file.facts.last)
            and (snapshot := open_file(self.files, self.generation, file, skip_damaged=skip_damaged))
            is not None
        ]
        if len(snapshots) == 1 and (self.recent is None or snapshots[0].has_id_ranges):
            yield from self._merged(snapshots[0], names, row_filter)
            return
        tables = [
            row_filter.read(snapshot, row_filter.groups(snapshot), OBSERVATION_SCHEMA.names)
            for snapshot in snapshots
        ]
        tables += [] if self.recent is None else [self.recent]
        if tables:
            for piece in _pieces(sorted_unique(concat(tables))):
                yield piece.select(names)

    def _merged(self, snapshot: Snapshot, names: list[str], row_filter: RowFilter) -> Iterator[Any]:
        """Read a file group by group, each with the recent rows that sort into it."""
        ids, begins = _batches(self.recent)
        done = 0
        groups = row_filter.groups(snapshot)
        for group in groups:
            ends = None if group == groups[-1] else snapshot.id_range(group)
            until = len(ids) if ends is None else bisect_right(ids, ends[1])
            rows = self.recent.slice(begins[done], begins[until] - begins[done]) if until > done else None
            done = max(done, until)
            yield _group(snapshot, group, names, rows, row_filter)
        if done < len(ids):
            yield self.recent.slice(begins[done]).select(names)


def _group(snapshot: Snapshot, group: int, names: list[str], recent: Any, row_filter: RowFilter) -> Any:
    if recent is None and row_filter.is_all:
        return snapshot.read([group], names)
    keyed = [*names, *(name for name in KEY_COLUMNS if name not in names)]
    table = row_filter.read(snapshot, [group], keyed)
    if recent is not None:
        both = concat([table, recent.select(keyed)])
        table = sorted_unique(both)
        if table.num_rows < both.num_rows:
            # Which of two rows with one key stays is decided by all columns.
            table = row_filter.read(snapshot, [group], OBSERVATION_SCHEMA.names)
            table = sorted_unique(concat([table, recent]))
    return table.select(names)


def known_columns(columns: Sequence[str] | None) -> list[str]:
    """Return the columns asked for, all by default."""
    names = OBSERVATION_SCHEMA.names if columns is None else list(columns)
    for name in names:
        if name not in OBSERVATION_SCHEMA.names:
            raise UnknownName("column", name, OBSERVATION_SCHEMA.names)
    return list(names)


def list_cohorts(
    listing: Listing,
    *,
    wanted: Callable[[Cohort], bool] | None = None,
    row_filter: RowFilter = ALL,
    skip_damaged: bool = False,
) -> list[Cohort]:
    """Read the recent rows of a listing and give each cohort its own; see `SnapshotStore.cohorts`."""
    # All columns: of two rows with one key, any column may decide which stays.
    recent = read_recent(listing, OBSERVATION_SCHEMA.names, row_filter=row_filter, skip_damaged=skip_damaged)
    stored = {
        name
        for name, files in listing.cohorts.items()
        if row_filter.is_all or any(row_filter.overlaps(file.facts.first, file.facts.last) for file in files)
    }
    cohorts = [make_cohort(name, listing, recent.pop(name, None)) for name in sorted({*stored, *recent})]
    chosen = [cohort for cohort in cohorts if wanted is None or wanted(cohort)]
    return sorted(chosen, key=lambda cohort: (cohort.earliest, cohort.name))


def make_cohort(name: str, listing: Listing, recent: Any) -> Cohort:
    """Return a cohort of a listing with its recent rows, None if it has none."""
    stored = listing.cohorts.get(name, ())
    some = [file.facts for file in stored]
    if recent is not None:
        some.append(facts_of(recent, np.flatnonzero(run_starts(ranked(recent)[1]))))
    facts = add_facts(some)
    return Cohort(
        name,
        facts.earliest,
        facts.first,
        facts.last,
        facts.n_rows,
        facts.n_open,
        stored,
        recent,
        listing.files,
        listing.generation,
    )


def _batches(table: Any) -> tuple[list[str], list[int]]:
    """Return the batches of a table that is sorted by key, and where each begins, and the end."""
    if table is None:
        return [], [0]
    table, rank = ranked(table)
    begins = np.flatnonzero(run_starts(rank))
    return table.column("batch_id").take(pa.array(begins)).to_pylist(), [*begins.tolist(), table.num_rows]


def _pieces(table: Any) -> Iterable[Any]:
    """Cut a table that is sorted by key between batches."""
    _, begins = _batches(table)
    at = 0
    while at < table.num_rows:
        fits = bisect_right(begins, at + ROWS_PER_GROUP) - 1
        end = begins[fits] if begins[fits] > at else begins[bisect_right(begins, at)]
        yield table.slice(at, end - at)
        at = end
