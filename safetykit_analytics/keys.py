"""Observations as a set: order, repeated keys, unchanged runs. Tables in, tables out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import run_starts
from safetykit_analytics.schema import OBSERVATION_SCHEMA, TIE_BREAKERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.arrays import Flags, Ints

_FINISHED = ("success_count", "error_count", "cancelled_count")
_NULL = np.iinfo(np.int64).min


def concat(tables: Sequence[Any]) -> Any:
    """Join tables end to end, with one dictionary per text column."""
    if len(tables) == 1:
        return tables[0].combine_chunks()
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def sorted_unique(table: Any) -> Any:
    """Sort observations by (batch_id, observed_at) and keep one row of each key: the most advanced.

    That is the greatest by (finished, `TIE_BREAKERS`…), as far as these columns are there; null is the least.
    A table that is sorted and unique already is returned itself.
    """
    if table.num_rows < 2:
        return table
    table, rank = ranked(table)
    at = _numbers(table.column("observed_at"))
    change = np.sign(np.diff(rank))
    if ((change > 0) | ((change == 0) & (at[1:] > at[:-1]))).all():
        return table
    order = _order(rank, at)
    starts = run_starts(rank[order], at[order])
    if not starts.all():
        order = _most_advanced(table, order, starts)
    return table.take(pa.array(order))


def ranked(table: Any) -> tuple[Any, Ints]:
    """Return the table, with one dictionary of batch ids, and the rank by text of each row's id."""
    column = table.column("batch_id")
    if not pa.types.is_dictionary(column.type):
        return table, _ranks(column.dictionary_encode())
    if column.num_chunks > 1:
        table = table.unify_dictionaries()
        column = table.column("batch_id")
    return table, _ranks(column)


def same_as_before(table: Any, columns: Sequence[str]) -> Flags:
    """Compare each row of a table with the row before it in some columns; two nulls are equal.

    False for the first row.
    """
    same = np.ones(table.num_rows, dtype=np.bool_)
    same[:1] = False
    for name in columns:
        values = _codes(table.column(name))
        same[1:] &= values[1:] == values[:-1]
    return same


def inside_of_runs(same: Flags) -> Flags:
    """Flag what lies within runs of unchanged observations: neither the first nor the last of one.

    `same` flags the observations that equal the one before in everything but the time. Nothing grows within a
    run: no increment moves without it, no bucket changes and no bound widens.
    """
    inside = same.copy()
    inside[:-1] &= same[1:]
    inside[-1:] = False
    return inside


def thinned(table: Any, *, before_us: int) -> Any:
    """Drop what lies within runs of unchanged observations from before an instant.

    The first and the last of each run that were made before it stay: no table for an ``as_of`` at or after it
    changes. The table is sorted by key and unique, and returned itself if there is nothing to drop.
    """
    early = _numbers(table.column("observed_at")) < before_us
    same = same_as_before(table, [name for name in OBSERVATION_SCHEMA.names if name != "observed_at"])
    inside = inside_of_runs(same & early)
    return table.filter(pa.array(~inside)) if inside.any() else table


def _order(rank: Ints, at: Ints) -> Ints:
    """Return a stable order by rank and time; runs that are sorted already are merged, not sorted."""
    first, last = int(at.min()), int(at.max())
    length = last - first + 1
    if (int(rank.max()) + 1) * length < 2**63:
        order: Ints = np.argsort(rank.astype(np.int64) * length + (at - first), kind="stable")
        return order
    return np.lexsort((at, rank))


def _most_advanced(table: Any, order: Ints, starts: Flags) -> Ints:
    """Keep of each run of one key the greatest row."""
    run = np.cumsum(starts) - 1
    repeated = (np.bincount(run) > 1)[run]
    rows, runs = order[repeated], run[repeated]
    some = table.take(pa.array(rows))
    finished = sum(
        (some.column(name).to_numpy().astype(float) for name in _FINISHED if name in some.column_names), 0.0
    )
    keys = [_codes(some.column(name), ordered=True) for name in TIE_BREAKERS if name in some.column_names]
    if not np.isscalar(finished):
        keys.insert(0, finished)
    by = np.lexsort((*reversed(keys), runs))
    last = np.append(runs[by][1:] != runs[by][:-1], True)
    chosen = order[starts]
    chosen[runs[by][last]] = rows[by][last]
    return chosen


def _ranks(column: Any) -> Ints:
    """Rank dictionary-encoded text."""
    codes = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    indices = codes.indices.to_numpy()
    rank = pc.rank(codes.dictionary, tiebreaker="dense").to_numpy().astype(np.int64)
    if len(rank) and rank[-1] == len(rank) and (np.diff(rank) == 1).all():
        return indices  # type: ignore[no-any-return]
    return rank[indices]  # type: ignore[no-any-return]


def _numbers(column: Any) -> Ints:
    return column.cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def _codes(column: Any, *, ordered: bool = False) -> Any:
    """Return numbers that are equal where values are, or that have their order; null is the least."""
    if (
        pa.types.is_dictionary(column.type)
        or pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
    ):
        codes = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        codes = pa.chunked_array(codes.chunks, codes.type).unify_dictionaries().combine_chunks()
        values = codes.dictionary
        rank = np.arange(len(values)) if not ordered else pc.rank(values, tiebreaker="dense").to_numpy()
        indices = codes.indices.fill_null(-1).to_numpy()
        return np.append(rank.astype(np.int64), _NULL)[indices]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return column.cast(pa.int64()).fill_null(_NULL).to_numpy()
