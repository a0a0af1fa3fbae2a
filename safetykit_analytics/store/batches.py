"""Facts about single batches of a store: labels, last rows, which are open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, last_valid, run_bounds, run_starts
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.formatting import NONE
from safetykit_analytics.keys import concat, ranked, sorted_unique
from safetykit_analytics.labels import LABELS
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.cohort import Cohort, make_cohort
from safetykit_analytics.store.listing import Listing, open_file
from safetykit_analytics.store.names import cohort_name
from safetykit_analytics.store.recent import read_recent
from safetykit_analytics.store.row_filter import RowFilter

if TYPE_CHECKING:
    from safetykit_analytics.store.parquet import Snapshot

_LAST_ROW = (*KEY_COLUMNS, "is_terminal", "success_count", "error_count", "cancelled_count")


def with_batches(listing: Listing, batch_ids: list[str]) -> Listing:
    """Leave out the cohorts that none of some batches is in."""
    names = set(_cohorts_of(batch_ids))
    return replace(listing, cohorts={name: files for name, files in listing.cohorts.items() if name in names})


def of_policy(table: Any, policy: str) -> Any:
    """Keep the batches that ever have a policy once their labels are filled. The table is sorted by key."""
    column = table.column("policy_id").cast(pa.string())
    batch = np.cumsum(_batch_starts(table)) - 1
    # Filling gives a batch no label that it has not reported, and leaves it without only if it reported none.
    has = np.zeros(int(batch.max(initial=-1)) + 1, dtype=np.bool_)
    reports = (
        column.is_valid() if policy == NONE else pc.fill_null(pc.equal(column, policy), fill_value=False)
    )
    has[batch[reports.to_numpy()]] = True
    return table.filter(pa.array(has[batch] != (policy == NONE)))


def latest_rows(cohort: Cohort) -> list[Any]:
    """Return the last row of each batch of a cohort, with the labels that it has lately been known by."""
    recent = cohort.recent
    if recent is not None and len(cohort.stored) == 1:
        begins = _seen(recent, run_bounds(_batch_starts(recent))[0])
        parts = [_last_labelled(table) for table in replace(cohort, recent=None).tables()]
        mine = RowFilter(sorted(begins))
        ends = [_seen(mine.rows(part)) for part in parts]
        if all(at < begins[batch][0] for some in ends for batch, (at, _) in some.items()):
            # The file and the recent rows have no key in common: their last rows suffice.
            return [_last_labelled(sorted_unique(concat([*parts, _last_labelled(recent)])))]
    return [_last_labelled(table) for table in cohort.tables()]


def _last_labelled(table: Any) -> Any:
    """Keep the last row of each batch of a sorted table, and of each label the last that is not null."""
    begin, end = run_bounds(_batch_starts(table))
    last = table.take(pa.array(end - 1))
    for name in LABELS:
        column = table.column(name)
        if column.null_count:
            rows = last_valid(column.is_valid().to_numpy(), np.repeat(begin, end - begin))[end - 1]
            labels = column.take(pa.array(rows, mask=rows < 0))
            last = last.set_column(last.schema.get_field_index(name), last.schema.field(name), labels)
    return last


def last_seen(table: Any) -> dict[str, tuple[int, bool]]:
    """Return when each batch was last seen, and whether it was terminal. The table is sorted by key."""
    return _seen(table, run_bounds(_batch_starts(table))[1] - 1)


def open_ids(listing: Listing) -> list[str]:
    """Find open batches from footers and recent rows; cohorts are read only for what these leave in doubt."""
    lately, doubtful = _seen_lately(listing)
    in_files: dict[str, int] = {}
    for files in listing.cohorts.values():
        for file in files:
            snapshot = open_file(listing.files, listing.generation, file) if file.facts.n_open else None
            if snapshot is not None:
                doubtful |= snapshot.open.keys() if len(files) > 1 else set()
                in_files |= snapshot.open
    for (batch, (at, terminal)), name in zip(lately.items(), _cohorts_of(list(lately)), strict=True):
        files = listing.cohorts.get(name, ())
        # Where a file does not name a batch, it may have a later row, which is terminal.
        may_be_later = (
            at == in_files[batch] and terminal
            if batch in in_files
            else not terminal and any(at <= file.facts.last for file in files)
        )
        if may_be_later or len(files) > 1:
            doubtful.add(batch)
    found = [
        batch
        for batch in {*in_files, *lately} - doubtful
        if batch not in lately or not lately[batch][1] or lately[batch][0] < in_files.get(batch, NEVER)
    ]
    return found + (_open_of(listing, sorted(doubtful)) if doubtful else [])


def _seen_lately(listing: Listing) -> tuple[dict[str, tuple[int, bool]], set[str]]:
    """Return when each recent batch was last seen, whether it was terminal then, and where files differ."""
    lately: dict[str, tuple[int, bool]] = {}
    differ: set[str] = set()
    for file in listing.recent:
        snapshot = open_file(listing.files, listing.generation, file)
        for batch, (at, terminal) in (_told(snapshot) if snapshot is not None else {}).items():
            seen = lately.get(batch)
            if seen is None or at > seen[0]:
                lately[batch] = at, terminal
            elif at == seen[0] and terminal != seen[1]:
                differ.add(batch)
    return lately, differ


def _told(snapshot: Snapshot) -> dict[str, tuple[int, bool]]:
    """Return when each batch of a recent file was last seen there, and whether it was terminal."""
    if snapshot.ended is None:
        return last_seen(sorted_unique(snapshot.read(range(snapshot.n_groups), _LAST_ROW)))
    told = {batch: (at, False) for batch, at in snapshot.open.items()}
    return told | {batch: (at, True) for batch, at in snapshot.ended.items()}


def _open_of(listing: Listing, batch_ids: list[str]) -> list[str]:
    """Read some batches, and return those that are open."""
    row_filter = RowFilter(batch_ids)
    recent = read_recent(listing, OBSERVATION_SCHEMA.names, row_filter=row_filter)
    return [
        batch
        for name in dict.fromkeys(_cohorts_of(batch_ids))
        for table in make_cohort(name, listing, recent.get(name)).tables(_LAST_ROW, row_filter=row_filter)
        for batch, (_, terminal) in last_seen(table).items()
        if not terminal
    ]


def _seen(table: Any, rows: Any = None) -> dict[str, tuple[int, bool]]:
    """Return of each row, or of some, the batch with its instant and whether it was terminal."""
    some = table.select(["batch_id", "observed_at", "is_terminal"])
    some = some if rows is None else some.take(pa.array(rows))
    at = some.column("observed_at").cast(pa.int64()).to_pylist()
    terminal = some.column("is_terminal").to_pylist()
    return dict(zip(some.column("batch_id").to_pylist(), zip(at, terminal, strict=True), strict=True))


def _cohorts_of(batch_ids: list[str]) -> list[str]:
    """Return the name of the cohort of each batch."""
    return [cohort_name(day) for day in cohort_days(batch_ids).tolist()]


def _batch_starts(table: Any) -> Any:
    return run_starts(ranked(table)[1])
