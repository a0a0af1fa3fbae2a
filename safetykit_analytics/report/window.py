"""A year of observations → the few that a week's report can depend on.

Place in the flow: flow, store → **window** → `facts`. Reads partitions; opens no file itself and imports
neither the store nor any drawing.

A week is not only what was observed in it. A batch that was last seen before the week and again in it did
part of that work in the week; one that was never seen to end is still open, however long ago that was;
and work that was first seen after the week may have been done in it. So two passes run over the days. The
first reads four narrow columns of every day and decides which batches matter. The second reads those
batches whole, and outside the window leaves out what repeats its neighbours: between two equal
observations of a batch nothing happened, so that no number inside the window can depend on a third one
between them.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

_DECIDING = ("batch_id", "observed_at", "created_at", "is_terminal")
_SAID = tuple(name for name in OBSERVATION_SCHEMA.names if name not in {"batch_id", "observed_at"})


def window_observations(
    observations: Any, *, start: dt.datetime, end: dt.datetime, as_of: dt.datetime
) -> pd.DataFrame:
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
    DataFrame
        Columns of `OBSERVATION_SCHEMA`, sorted by all of them, beginning with the key, so that the order of
        the input does not matter. Within the window, the tables of this library are the same from this frame
        as from all observations.

    Raises
    ------
    InvalidFrame
        A DataFrame is not one of observations.
    """
    edges = [_microseconds(start), _microseconds(end), _microseconds(as_of)]
    if isinstance(observations, pd.DataFrame):
        table = table_from_frame(observations)
        days: list[Any] = [_InMemory(table.sort_by([(name, "ascending") for name in table.column_names]))]
    else:
        days = list(observations.partitions(end=as_of.astimezone(dt.UTC).date() + dt.timedelta(days=1)))
    runs = [_runs(day.read(_DECIDING), edges) for day in days]
    matter, wanted = _decide(runs, edges[1])
    kept = [
        _thinned(_rows_of(day.read(OBSERVATION_SCHEMA.names), matter, edges), edges)
        for day, is_wanted in zip(days, wanted, strict=True)
        if is_wanted
    ]
    table = pa.concat_tables(kept) if kept else OBSERVATION_SCHEMA.empty_table()
    table = table.sort_by([(name, "ascending") for name in OBSERVATION_SCHEMA.names])
    return frame_from_table(_thinned(table, edges))


class _InMemory:
    """A table that reads like one day of a store."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def read(self, columns: Iterable[str]) -> Any:
        return self._table.select(list(columns))


def _microseconds(instant: dt.datetime) -> int:
    return (instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def _instants(table: Any, name: str) -> Any:
    """Whole microseconds since 1970; null as the largest int64."""
    values = table.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return pc.fill_null(values, np.iinfo(np.int64).max).to_numpy()


def _period(observed: Any, edges: list[int]) -> Any:
    """0 before the window, 1 in it, 2 after it."""
    return np.searchsorted(np.array(edges[:2]), observed, side="right")


def _same_as_previous(table: Any, name: str) -> Any:
    """Whether each row holds what the row above it holds, nulls being equal to each other. Row 0 is False."""
    column = table.column(name).combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
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


def _runs(table: Any, edges: list[int]) -> Any:
    """Reduce one day to a row per batch and period: what deciding needs, and no more."""
    observed = _instants(table, "observed_at")
    table = table.filter(pa.array(observed <= edges[2]))
    observed = observed[observed <= edges[2]]
    period = _period(observed, edges)
    if not len(observed):
        return None
    begins = ~_same_as_previous(table, "batch_id")
    begins[1:] |= period[1:] != period[:-1]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(observed)) - 1
    ids = table.column("batch_id").combine_chunks().take(pa.array(first))
    return {
        "batch_id": ids.cast(pa.string()) if pa.types.is_dictionary(ids.type) else ids,
        "period": period[first],
        "created": np.minimum(_instants(table, "created_at")[first], observed[first]),
        "last": observed[last],
        "is_open": ~table.column("is_terminal").to_numpy()[last],
    }


def _decide(runs: list[Any], end: int) -> tuple[Any, list[bool]]:
    """Say which batches matter, and which days hold any of them."""
    found = [run for run in runs if run is not None]
    if not found:
        return pa.array([], pa.string()), [False] * len(runs)
    ids = pa.chunked_array([run["batch_id"] for run in found]).combine_chunks().dictionary_encode()
    batch = ids.indices.to_numpy()
    period, created, last, is_open = (
        np.concatenate([run[name] for run in found]) for name in ("period", "created", "last", "is_open")
    )
    n = len(ids.dictionary)
    # The last word before the window: later runs overwrite earlier ones, since days come in order of time.
    before = np.flatnonzero(period == 0)
    before = before[np.argsort(last[before], kind="stable")]
    open_before = np.zeros(n, dtype=bool)
    open_before[batch[before]] = is_open[before]
    seen_since = np.bincount(batch[period >= 1], minlength=n) > 0
    began_before_end = np.bincount(batch[(period <= 1) | (created < end)], minlength=n) > 0
    matters = open_before | (seen_since & began_before_end)
    wanted, at = [], 0
    for run in runs:
        size = 0 if run is None else len(run["period"])
        wanted.append(bool(matters[batch[at : at + size]].any()))
        at += size
    return ids.dictionary.filter(pa.array(matters)), wanted


def _rows_of(table: Any, batch_ids: Any, edges: list[int]) -> Any:
    """Keep the rows of some batches up to `as_of`, and give the table the schema's own types."""
    column = table.column("batch_id").combine_chunks()
    if pa.types.is_dictionary(column.type):
        is_one = pc.is_in(column.dictionary, value_set=batch_ids).take(column.indices)
    else:
        is_one = pc.is_in(column, value_set=batch_ids)
    is_early = pa.array(_instants(table, "observed_at") <= edges[2])
    return table.filter(pc.and_(is_one, is_early)).cast(OBSERVATION_SCHEMA)


def _thinned(table: Any, edges: list[int]) -> Any:
    """Leave out, outside the window, the observations that say the same as both of their neighbours."""
    if not table.num_rows:
        return table
    period = _period(_instants(table, "observed_at"), edges)
    same = _same_as_previous(table, "batch_id")
    same[1:] &= period[1:] == period[:-1]
    for name in _SAID:
        same &= _same_as_previous(table, name)
    redundant = same & np.append(same[1:], False) & (period != 1)
    return table.filter(pa.array(~redundant))
