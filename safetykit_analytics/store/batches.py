"""Facts about single batches of a store: labels, last rows, which are open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import run_starts
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.keys import ranked
from safetykit_analytics.labels import LABELS, fill
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.cohort import make_cohort
from safetykit_analytics.store.listing import Listing, open_file
from safetykit_analytics.store.names import cohort_name
from safetykit_analytics.store.recent import read_recent
from safetykit_analytics.wording import NONE

_LAST_ROW = (*KEY_COLUMNS, "is_terminal", "success_count", "error_count", "cancelled_count")


def with_batches(listing: Listing, batch_ids: list[str]) -> Listing:
    """Leave out the cohorts that none of some batches is in."""
    names = {cohort_name(day) for day in cohort_days(batch_ids).tolist()}
    return replace(listing, cohorts={name: files for name, files in listing.cohorts.items() if name in names})


def of_policy(table: Any, policy: str) -> Any:
    """Keep the batches that ever have a policy once their labels are filled. The table is sorted by key."""
    column = table.column("policy_id").cast(pa.string())
    batch = _batch_numbers(table)
    # Filling gives a batch no label that it has not reported, and leaves it without only if it reported none.
    has = np.zeros(int(batch.max(initial=-1)) + 1, dtype=np.bool_)
    reports = (
        column.is_valid() if policy == NONE else pc.fill_null(pc.equal(column, policy), fill_value=False)
    )
    has[batch[reports.to_numpy()]] = True
    return table.filter(pa.array(has[batch] != (policy == NONE)))


def filled(table: Any) -> Any:
    """Fill the labels of a table that is sorted by key."""
    batch = _batch_numbers(table)
    for name in LABELS:
        column = table.column(name).combine_chunks()
        codes = fill(column.indices.fill_null(-1).to_numpy(), batch)
        labels = pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int32(), mask=codes < 0), column.dictionary
        )
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), labels)
    return table


def last_rows(table: Any) -> Any:
    """Keep the last row of each batch of a table that is sorted by key."""
    rank = ranked(table)[1]
    return table.take(pa.array(np.flatnonzero(np.append(rank[1:] != rank[:-1], len(rank) > 0))))


def open_ids(listing: Listing) -> list[str]:
    """Find open batches from footers and recent rows; cohorts are read only for what these leave in doubt."""
    recent = read_recent(listing, _LAST_ROW)
    found: list[str] = []
    for name in {*listing.cohorts, *recent}:
        stored = listing.cohorts.get(name, ())
        in_files: dict[str, int] = {}
        for file in stored:
            snapshot = open_file(listing.files, listing.generation, file) if file.facts.n_open else None
            in_files |= snapshot.open if snapshot is not None else {}
        lately = last_seen(recent[name]) if name in recent else {}
        doubtful = {
            batch
            for batch, (at, terminal) in lately.items()
            if stored and (at <= in_files[batch] if batch in in_files else not terminal)
        } | ({*in_files, *lately} if len(stored) > 1 else set())
        found += [batch for batch in in_files if batch not in lately and batch not in doubtful]
        found += [batch for batch, (_, terminal) in lately.items() if not terminal and batch not in doubtful]
        if doubtful:
            found += _open_of(listing, name, sorted(doubtful))
    return found


def _open_of(listing: Listing, name: str, batch_ids: list[str]) -> list[str]:
    rows = read_recent(listing, OBSERVATION_SCHEMA.names, batch_ids=batch_ids).get(name)
    cohort = make_cohort(name, listing, rows)
    return [
        batch
        for table in cohort.tables(_LAST_ROW, batch_ids=batch_ids)
        for batch, (_, terminal) in last_seen(table).items()
        if not terminal
    ]


def last_seen(table: Any) -> dict[str, tuple[int, bool]]:
    """Return when each batch was last seen, and whether it was terminal. The table is sorted by key."""
    ends = last_rows(table)
    at = ends.column("observed_at").cast(pa.int64()).to_pylist()
    terminal = ends.column("is_terminal").to_pylist()
    return dict(zip(ends.column("batch_id").to_pylist(), zip(at, terminal, strict=True), strict=True))


def _batch_numbers(table: Any) -> Any:
    return np.cumsum(run_starts(ranked(table)[1])) - 1
