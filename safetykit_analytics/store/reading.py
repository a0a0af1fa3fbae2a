"""Rows of a store → a DataFrame, and what a frame must be to become rows of a store."""

from __future__ import annotations

import datetime as dt
import itertools
import time
import warnings
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.calendar import DAY_US, from_us, to_us
from safetykit_analytics.errors import InvalidFrame
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.keys import concat, sorted_unique
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.batches import latest_rows, of_policy, with_batches
from safetykit_analytics.store.cohort import list_cohorts
from safetykit_analytics.store.names import cohort_order
from safetykit_analytics.store.row_filter import RowFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from safetykit_analytics.store.cohort import Cohort
    from safetykit_analytics.store.listing import Listing

_FIRST_US = to_us(dt.datetime(1, 1, 1, tzinfo=dt.UTC))
_LAST_US = to_us(dt.datetime(9999, 12, 31, tzinfo=dt.UTC)) + DAY_US


def read_rows(
    listing: Listing, row_filter: RowFilter, policy: str | None, names: Sequence[str], *, skip_damaged: bool
) -> list[Any]:
    """Read the selected rows, cohort by cohort; only of batches that ever have a policy, if one is named."""
    if row_filter.batch_ids is not None:
        listing = with_batches(listing, list(row_filter.batch_ids))
    # What policies a batch has is told by all of its rows.
    reading = row_filter if policy is None else RowFilter(row_filter.batch_ids)
    needed = list(dict.fromkeys([*names, *KEY_COLUMNS, *(["policy_id"] if policy is not None else [])]))

    def in_time(cohort: Cohort) -> bool:
        return row_filter.overlaps(cohort.first_observed, cohort.last_observed)

    cohorts = list_cohorts(listing, wanted=in_time, row_filter=reading, skip_damaged=skip_damaged)
    tables = [
        table if policy is None else row_filter.rows(of_policy(table, policy))
        for cohort in sorted(cohorts, key=lambda cohort: cohort_order(cohort.name))
        for table in cohort.tables(needed, row_filter=reading, skip_damaged=skip_damaged)
    ]
    return [table for table in tables if table.num_rows]


def read_latest(listing: Listing) -> list[Any]:
    """Read the last row of each batch."""
    cohorts = sorted(list_cohorts(listing), key=lambda cohort: cohort_order(cohort.name))
    return [table for cohort in cohorts for table in latest_rows(cohort)]


def known_policies(listing: Listing) -> set[str]:
    """Read which policies any batch has ever reported, `NONE` for none."""
    return {
        NONE if name is None else name
        for cohort in list_cohorts(listing)
        for table in cohort.tables(["policy_id"])
        for name in pc.unique(table.column("policy_id").cast(pa.string())).to_pylist()
    }


def frame_of(tables: Sequence[Any], names: Sequence[str]) -> pd.DataFrame:
    """Join tables, each sorted by key and unique, into a frame sorted by key."""
    if not tables:
        return frame_from_table(OBSERVATION_SCHEMA.empty_table().select(names))
    if len(tables) > 1 and not _follow(tables):
        tables = [sorted_unique(concat(tables))]
    # large_string, as a year of ids can be more than the 2 GB of a string array.
    plain = [
        pa.field(field.name, pa.large_string()) if pa.types.is_dictionary(field.type) else field
        for field in tables[0].select(names).schema
    ]
    return frame_from_table(pa.concat_tables(table.select(names).cast(pa.schema(plain)) for table in tables))


def _follow(tables: Sequence[Any]) -> bool:
    """Return whether each table's batches come after those of the table before it."""
    ids = [table.column("batch_id") for table in tables]
    return all(before[-1].as_py() < after[0].as_py() for before, after in itertools.pairwise(ids))


def check_times(table: Any) -> None:
    """Refuse times that no file name can hold, and warn of clocks that are ahead."""
    for name in ("observed_at", "created_at"):
        at = table.column(name).cast(pa.int64()).drop_null().to_numpy()
        if (at < _FIRST_US).any() or (name == "observed_at" and (at >= _LAST_US).any()):
            raise InvalidFrame(f"column {name!r} holds a time outside of the years 1 to 9999")
    at = table.column("observed_at").cast(pa.int64()).to_numpy()
    if len(at) and at.max() > time.time_ns() // 1000 + DAY_US:
        late = int(at.argmax())
        warnings.warn(
            f"batch {table.column('batch_id')[late].as_py()!r} was observed at "
            f"{from_us(int(at[late])):%Y-%m-%d %H:%M} UTC, more than a day ahead of this machine's clock: "
            f"if that is wrong, correct it, because every default as_of is the last observation",
            UserWarning,
            stacklevel=3,
        )
