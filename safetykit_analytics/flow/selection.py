"""Selection of the observations that numbers about a window can depend on, in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER
from safetykit_analytics.flow.cohorts import TableCohort, reduced, table_cohorts, with_listing
from safetykit_analytics.flow.observations import instants
from safetykit_analytics.keys import inside_of_runs, same_as_before
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from safetykit_analytics.flow.cohorts import Cohort, Listing
    from safetykit_analytics.flow.observations import Rows

_SAID = tuple(name for name in OBSERVATION_SCHEMA.names if name not in KEY_COLUMNS)


@dataclass(frozen=True)
class Selection:
    """Chosen observations, as something that every table of this library reads.

    Attributes
    ----------
    table : pyarrow.Table
        Columns of `OBSERVATION_SCHEMA`, sorted by key and unique.
    as_of : int
        Microseconds since 1970 UTC: nothing later was chosen.
    last_observed : int or None
        The last observation of all, chosen or not, that is not later than `as_of`.
    """

    table: Any
    as_of: int
    last_observed: int | None = None

    def cohorts(self, columns: Sequence[str] | None = None) -> list[TableCohort]:
        """Return everything as one cohort."""
        del columns
        return table_cohorts(self.table)

    def of_batches(self, batch_ids: Any) -> Selection:
        """Return the observations of some batches."""
        ids = pa.array(batch_ids, type=pa.string(), from_pandas=True)
        column = self.table.column("batch_id").cast(pa.string())
        return replace(self, table=self.table.filter(pc.is_in(column, value_set=ids)))

    def observed_since(self, start: int) -> Selection:
        """Return the observations made at `start` or later."""
        t = instants(self.table.column("observed_at"))
        return replace(self, table=self.table.filter(pa.array(t >= start)))

    def seen_within(self, start: int, end: int) -> Any:
        """Return the batch of each observation made in [start, end), as an Arrow array of strings."""
        t = instants(self.table.column("observed_at"))
        return self.table.column("batch_id").filter(pa.array((t >= start) & (t < end))).cast(pa.string())


def select(
    observations: Any, *, start: int, end: int, as_of: int | None = None, executor: Executor | None = None
) -> Selection:
    """Select the observations that numbers about [start, end) can depend on, in microseconds since 1970 UTC.

    A week is not only what was observed in it: a batch last seen before it and again in it did part of that
    work in it; one that never was seen to end is still open; and work first seen after the week may have
    been done in it. Outside the window, what repeats both of its neighbours is left out: nothing happened
    there.

    Within the window, every table is the same from the selection as from all observations, except for the
    intervals of error rates, which learn from 29 buckets before the window.
    """

    def run(listing: Listing) -> Selection:
        def matters(cohort: Cohort) -> bool:
            return cohort.earliest < end and (cohort.n_open > 0 or cohort.last_observed >= start)

        results = reduced(
            listing.where(matters),
            partial(_chosen, start=start, end=end),
            columns=OBSERVATION_SCHEMA.names,
            executor=executor,
        )
        tables = [OBSERVATION_SCHEMA.empty_table()]
        # What is not read was last observed before the window, and so before `as_of`.
        lasts = [cohort.last_observed for cohort in listing.cohorts if not matters(cohort)]
        for _, (table, last) in results:
            tables.append(table)
            lasts.append(last)
        last_observed = max((last for last in lasts if last != NEVER), default=None)
        return Selection(pa.concat_tables(tables).combine_chunks(), listing.as_of, last_observed)

    return with_listing(observations, OBSERVATION_SCHEMA.names, as_of, run)


def _chosen(rows: Rows, *, start: int, end: int) -> tuple[Any, int]:
    """Return the observations of the batches that matter, in the types of the schema, and the last of all."""
    first, last = rows.first[:-1], rows.first[1:] - 1
    begun = np.minimum(rows.t[first], np.where(rows.created < 0, rows.t[first], rows.created))
    matters = (begun < end) & ((rows.t[last] >= start) | ~rows.terminal[last])
    # A batch without an end is still open, and one that was seen again after it is not: its last row tells.
    kept = rows.table.filter(pa.array(matters[rows.batch])).cast(OBSERVATION_SCHEMA)
    return _thinned(kept.combine_chunks(), start, end), int(rows.t.max(initial=NEVER))


def _thinned(table: Any, start: int, end: int) -> Any:
    """Leave out, outside the window, the observations that say the same as both of their neighbours."""
    if not table.num_rows:
        return table
    period = np.searchsorted(np.array([start, end]), instants(table.column("observed_at")), side="right")
    same = same_as_before(table, ("batch_id", *_SAID))
    same[1:] &= period[1:] == period[:-1]
    inside = inside_of_runs(same) & (period != 1)
    return table.filter(pa.array(~inside)) if inside.any() else table
