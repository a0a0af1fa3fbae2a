"""A year of observations → the few that a week's report can depend on.

Place in the flow: flow, store → **window** → `facts`. Reads partitions; opens no file itself and imports
neither the store nor any drawing.

A week is not only what was observed in it. A batch that was last seen before the week and again in it did
part of that work in the week; one that was never seen to end is still open, however long ago that was; and
work that was first seen after the week may have been done in it. So two passes run over the days. The first
reads two columns of every day, keeps the ids of the batches that are still open, and so learns which
batches matter. The second reads those batches whole, and outside the window leaves out what repeats its
neighbours: between two equal observations of a batch nothing happened, so that no number inside the window
can depend on a third one between them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.calendar import to_us
from safetykit_analytics.flow.partitions import FramePartition, list_partitions
from safetykit_analytics.frame import STRING
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.flow import Partition

_OPEN_COLUMNS = ("batch_id", "is_terminal")
_WINDOW_COLUMNS = ("batch_id", "observed_at", "created_at", "is_terminal")
_NEVER = int(np.iinfo(np.int64).max)
_SAID = tuple(name for name in OBSERVATION_SCHEMA.names if name not in KEY_COLUMNS)


@dataclass(frozen=True)
class Selection:
    """Chosen observations, as something that `rates` and the other stages read.

    Attributes
    ----------
    table : pyarrow.Table
        Columns of `OBSERVATION_SCHEMA`, strings dictionary-encoded, sorted.
    """

    table: Any

    def partitions(self, start: dt.date | None = None, end: dt.date | None = None) -> Sequence[Partition]:
        """Give everything as one partition, as a DataFrame is one."""
        del start, end
        return [FramePartition(self.table)]

    def of_batches(self, batch_ids: Any) -> Selection:
        """Keep the observations of some batches."""
        ids = pa.array(batch_ids, type=pa.string(), from_pandas=True)
        return Selection(self.table.filter(_is_one_of(self.table, ids)))

    def seen_within(self, start: dt.datetime, end: dt.datetime) -> pd.Series[str]:
        """Give the batch of each observation that was made in [start, end), duplicates once."""
        observed = _instants(self.table, "observed_at")
        inside = (observed >= to_us(start)) & (observed < to_us(end)) & ~_is_repeated(self.table)
        ids = self.table.column("batch_id").filter(pa.array(inside)).cast(pa.string())
        return pd.Series(pd.array(ids, dtype=STRING))


def window_observations(
    observations: Any, *, start: dt.datetime, end: dt.datetime, as_of: dt.datetime
) -> Selection:
    """Select the observations that numbers about a window can depend on.

    Parameters
    ----------
    observations : DataFrame or an object with partitions
    start, end : aware datetime
        The window, half-open.
    as_of : aware datetime
        Later observations are left out.

    Returns
    -------
    Selection
        In an order that does not depend on that of the input. Within the window, the tables of this library
        are the same from this selection as from all observations.

    Raises
    ------
    InvalidFrame
        A DataFrame is not one of observations.
    TypeError
        Neither a DataFrame nor an object with partitions.
    """
    edges = (to_us(start), to_us(end), to_us(as_of))
    days = [
        FramePartition(_sorted(day.table)) if isinstance(day, FramePartition) else day
        for day in list_partitions(observations, as_of.astimezone(dt.UTC).date())
    ]
    first = start.astimezone(dt.UTC).date()
    matter = _matter(days, first, edges)
    kept = [OBSERVATION_SCHEMA.empty_table()]
    kept += [
        _thinned(_rows_of(day.read(OBSERVATION_SCHEMA.names), matter, edges), edges)
        for day in days
        if not _is_before(day, first) or pc.any(_is_one_of(day.read(("batch_id",)), matter)).as_py()
    ]
    table = _thinned(_sorted(pa.concat_tables(kept)), edges)
    for index, field in enumerate(OBSERVATION_SCHEMA):
        if pa.types.is_string(field.type):
            column = table.column(index).combine_chunks().dictionary_encode()
            table = table.set_column(index, field.name, column)
    return Selection(table)


def _is_before(day: Partition, first: dt.date) -> bool:
    """Whether a partition holds nothing but days before the one on which the window begins."""
    return not isinstance(day, FramePartition) and day.date < first


def _matter(days: list[Partition], first: dt.date, edges: tuple[int, int, int]) -> Any:
    """Find the batches that matter: open before the window, or seen since and begun before its end."""
    still_open = begun = ageless = pa.array([], pa.string())
    for day in days:
        if _is_before(day, first):
            still_open = _open_after(still_open, day.read(_OPEN_COLUMNS))
            continue
        table = day.read(_WINDOW_COLUMNS)
        observed, created = _instants(table, "observed_at"), _instants(table, "created_at")
        is_since = (observed >= edges[0]) & (observed <= edges[2])
        is_begun = np.minimum(observed, created) < edges[1]
        begun = _ids(begun, table.filter(pa.array(is_since & is_begun)))
        ageless = _ids(ageless, table.filter(pa.array(is_since & ~is_begun & (created == _NEVER))))
        still_open = _open_after(still_open, table.filter(pa.array(observed < min(edges[0], edges[2] + 1))))
    # Whose id tells no time may have been seen before the window and ended, and then again after it.
    if len(ageless):
        for day in days:
            if _is_before(day, first) or isinstance(day, FramePartition):
                table = day.read(_WINDOW_COLUMNS)
                is_early = pa.array(_instants(table, "observed_at") < edges[0])
                begun = _ids(begun, table.filter(pc.and_(is_early, _is_one_of(table, ageless))))
    return pc.unique(pa.concat_arrays([still_open, begun]))


def _open_after(still_open: Any, table: Any) -> Any:
    """Bring the ids of the batches that were open when last seen up to date by one more day."""
    if not table.num_rows:
        return still_open
    last = np.append(~_same_as_previous(table, "batch_id")[1:], [True])
    ends = table.filter(pa.array(last))
    seen = _ids(pa.array([], pa.string()), ends)
    unseen = still_open.filter(pc.invert(pc.is_in(still_open, value_set=seen)))
    return pa.concat_arrays([unseen, _ids(seen[:0], ends.filter(pc.invert(ends.column("is_terminal"))))])


def _ids(known: Any, table: Any) -> Any:
    """Add the ids of a table to some."""
    more = pc.unique(table.column("batch_id")).cast(pa.string())
    return pc.unique(pa.concat_arrays([known, more])) if len(more) else known


def _is_one_of(table: Any, batch_ids: Any) -> Any:
    """Whether each row is of one of some batches."""
    column = table.column("batch_id").combine_chunks()
    if pa.types.is_dictionary(column.type):
        return pc.is_in(column.dictionary, value_set=batch_ids).take(column.indices)
    return pc.is_in(column, value_set=batch_ids)


def _rows_of(table: Any, batch_ids: Any, edges: tuple[int, int, int]) -> Any:
    """Keep the rows of some batches up to `as_of`, and give the table the schema's own types."""
    is_early = pa.array(_instants(table, "observed_at") <= edges[2])
    return table.filter(pc.and_(_is_one_of(table, batch_ids), is_early)).cast(OBSERVATION_SCHEMA)


def _sorted(table: Any) -> Any:
    """Sort by the key; where one key is there more than once, by all that is said."""
    table = table.sort_by([(name, "ascending") for name in KEY_COLUMNS])
    if _is_repeated(table).any():
        table = table.sort_by([(name, "ascending") for name in (*KEY_COLUMNS, *_SAID)])
    return table


def _is_repeated(table: Any) -> Any:
    """Whether each row has the key of the row above it."""
    return _same_as_previous(table, "batch_id") & _same_as_previous(table, "observed_at")


def _thinned(table: Any, edges: tuple[int, int, int]) -> Any:
    """Leave out, outside the window, the observations that say the same as both of their neighbours."""
    if not table.num_rows:
        return table
    period = np.searchsorted(np.array(edges[:2]), _instants(table, "observed_at"), side="right")
    same = _same_as_previous(table, "batch_id")
    same[1:] &= period[1:] == period[:-1]
    for name in _SAID:
        same &= _same_as_previous(table, name)
    redundant = same & np.append(same[1:], [False]) & (period != 1)
    return table.filter(pa.array(~redundant))


def _instants(table: Any, name: str) -> Any:
    """Whole microseconds since 1970; null as the largest int64."""
    values = table.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return pc.fill_null(values, _NEVER).to_numpy()


def _same_as_previous(table: Any, name: str) -> Any:
    """Whether each row holds what the row above it holds, nulls being equal to each other. Row 0 is False."""
    column = table.column(name).combine_chunks()
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        column = column.indices
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    same = np.zeros(len(values), dtype=bool)
    same[1:] = (values[1:] == values[:-1]) & (is_null[1:] == is_null[:-1])
    return same
