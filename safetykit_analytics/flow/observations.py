"""A table of observations as sorted arrays, one run of rows per batch: where every pass begins.

Place in the flow: frame or store → **observations** → edges, work. Arrow and NumPy, no pandas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import NEVER, Flags, Ints, narrowest, run_bounds, run_starts
from safetykit_analytics.labels import LABELS, Label
from safetykit_analytics.schema import TIE_BREAKERS

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The three counters of work, in the order of the rows of every array of counts.
COUNTERS = ("success_count", "error_count", "cancelled_count")
#: What the increments within a day are made from.
BARE_COLUMNS = ("batch_id", "observed_at", *COUNTERS)
#: What its edges need besides; label columns come on top.
EDGE_COLUMNS = (*BARE_COLUMNS, "created_at", "is_terminal")


@dataclass(frozen=True)
class Rows:
    """Observations sorted by batch and time, each key once.

    Attributes
    ----------
    ids : pyarrow string array, shape (m,)
        The batches, in the order of their rows.
    batch : int32 array, shape (n,)
        Index into `ids` of each row.
    first : int64 array, shape (m + 1,)
        Where the rows of each batch start; the last one is n.
    t : int64 array, shape (n,)
        ``observed_at``, microseconds since 1970 UTC.
    counts : int32 or int64 array, shape (3, n)
        success, error, cancelled.
    terminal : bool array, shape (n,)
        Empty if the column was not read.
    created : int64 array, shape (m,)
        ``created_at`` of each batch's first row here, NEVER for none; empty if the column was not read.
    labels : dict of str to Label
        The label columns that were asked for.
    table : pyarrow.Table
        The columns that were read; `order` gives their rows.
    order : int64 array, shape (n,), or None
        Row of the table for each row here; None if they are the same.
    """

    ids: Any
    batch: Ints
    first: Ints
    t: Ints
    counts: Ints
    terminal: Flags
    created: Ints
    labels: dict[str, Label]
    table: Any
    order: Ints | None

    def take(self, column: str, rows: Ints) -> Any:
        """Give values of another column at some of the rows, as an Arrow array."""
        return one_array(self.table.column(column)).take(pa.array(ordered_rows(rows, self.order)))


def rows_of(
    table: Any,
    *,
    as_of: int | None = None,
    labels: Sequence[str] = LABELS,
    in_time: bool = False,
) -> Rows:
    """Sort observations if they are not, drop duplicate keys, leave out what is later than `as_of`.

    Parameters
    ----------
    table : pyarrow.Table
        BARE_COLUMNS and `labels` at least; strings plain or dictionary-encoded.
    as_of : int, optional
        Microseconds since 1970, UTC.
    labels : sequence of str
        Label columns to read.
    in_time : bool
        The rows of each batch are known to be in order of time, each key once, as in the days of a store.
    """
    batch, ids = _encode(table.column("batch_id"))
    t = instants(table.column("observed_at"))
    order = _by_batch(batch, _until(t, as_of)) if in_time else _order(batch, t, as_of, table)

    def ordered(values: Any) -> Any:
        return values if order is None else values[order]

    number: Any = ordered(batch)
    t = ordered(t)
    is_start = run_starts(number)
    start = np.flatnonzero(is_start)
    counters = [one_array(table.column(name)).to_numpy(zero_copy_only=False) for name in COUNTERS]
    counts = np.empty((len(COUNTERS), len(t)), dtype=narrowest(counters))
    for row, values in enumerate(counters):
        counts[row] = ordered(values)
    found = {}
    for name in labels:
        codes, names = _encode(table.column(name))
        found[name] = _label(ordered(codes), names)
    terminal, created = np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    if "is_terminal" in table.column_names:
        terminal = ordered(one_array(table.column("is_terminal")).to_numpy(zero_copy_only=False))
    if "created_at" in table.column_names:
        rows = pa.array(ordered_rows(start, order))
        created = instants(one_array(table.column("created_at")).take(rows))
    own = number[start]
    if len(own) != len(ids) or (own != np.arange(len(ids))).any():
        ids = ids.take(pa.array(own))
        number = np.cumsum(is_start, dtype=np.int32) - 1
    return Rows(
        ids=ids,
        batch=number,
        first=np.append(start, len(t)),
        t=t,
        counts=counts,
        terminal=terminal,
        created=created,
        labels=found,
        table=table,
        order=order,
    )


def ordered_rows(rows: Ints, order: Ints | None) -> Ints:
    """Give the rows of the table that stand behind sorted rows."""
    return rows if order is None else order[rows]


def one_array(column: Any) -> Any:
    """Give a column as one Arrow array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def instants(column: Any) -> Ints:
    """Give a timestamp column as microseconds since 1970; NEVER where it is null."""
    array = one_array(column).cast(pa.int64())
    if array.null_count:
        array = array.fill_null(NEVER)
    values: Ints = array.to_numpy()
    return values


def _encode(column: Any) -> tuple[Ints, Any]:
    """Give codes of a string column, -1 for null, and the Arrow array of what they stand for."""
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices.fill_null(-1) if array.indices.null_count else array.indices
    return indices.to_numpy(), array.dictionary


def _label(codes: Ints, names: Any) -> Label:
    texts = names.to_pylist()
    if "" in texts:
        codes = np.where(codes == texts.index(""), -1, codes)
    return Label(codes, tuple(texts))


def _until(t: Ints, as_of: int | None) -> Ints | None:
    """Give the rows that are not later than `as_of`; None where none is."""
    return np.flatnonzero(t <= as_of) if as_of is not None and len(t) and int(t.max()) > as_of else None


def _by_batch(batch: Ints, kept: Ints | None) -> Ints | None:
    """Give the rows, or those kept, with those of each batch side by side; None where they are so already."""
    if kept is not None:
        batch = batch[kept]
    start, stop = run_bounds(run_starts(batch))
    own = batch[start]
    if (own[1:] > own[:-1]).all():
        return kept
    # Whole runs move: there are far fewer of them than rows.
    along = np.argsort(own, kind="stable")
    start, length = start[along], (stop - start)[along]
    order: Ints = np.repeat(start - np.cumsum(length) + length, length)
    order += np.arange(len(batch))
    return order if kept is None else kept[order]


def _order(batch: Ints, t: Ints, as_of: int | None, table: Any) -> Ints | None:
    """Give the rows of the table in order, each key once; None where all of them are so already."""
    kept = _until(t, as_of)
    if kept is not None:
        batch, t = batch[kept], t[kept]
    if _is_sorted(batch, t):
        return kept
    order = np.lexsort((t, batch))
    if kept is not None:
        batch, t = batch[order], t[order]
        order = kept[order]
    else:
        batch, t = batch[order], t[order]
    is_new = run_starts(batch, t)
    if is_new.all():
        return order
    return _most_advanced(table, order, is_new)


def _is_sorted(batch: Ints, t: Ints) -> bool:
    """Say whether each batch is one run of rows whose times ascend strictly."""
    if len(t) < 2:
        return True
    is_same = batch[1:] == batch[:-1]
    if not (t[1:][is_same] > t[:-1][is_same]).all():
        return False
    if (batch[1:] >= batch[:-1]).all():
        return True
    n_runs = len(t) - int(np.count_nonzero(is_same))
    seen = np.zeros(int(batch.max()) + 1, dtype=np.bool_)
    seen[batch] = True
    return n_runs == int(np.count_nonzero(seen))


def _most_advanced(table: Any, order: Ints, is_new: Flags) -> Ints:
    """Keep, of the rows of each key, the most advanced: the same one whatever their order was."""
    key = np.cumsum(is_new) - 1
    repeated = np.bincount(key)[key] > 1
    rows = order[repeated]
    some = table.select([name for name in TIE_BREAKERS if name in table.column_names]).take(pa.array(rows))
    values = {name: _comparable(some.column(name)) for name in some.column_names}
    finished = sum(values[name].astype(np.float64) for name in COUNTERS)
    by_rank = np.lexsort((*reversed(values.values()), finished, key[repeated]))
    kept = order[is_new]
    # Of several values for one place the last is kept.
    kept[key[repeated][by_rank]] = rows[by_rank]
    return kept


def _comparable(column: Any) -> Any:
    """Give values that compare as the column's do, null below all others."""
    array = one_array(column)
    if pa.types.is_timestamp(array.type):
        return instants(array)
    if not (pa.types.is_dictionary(array.type) or pa.types.is_string(array.type)):
        return array.to_numpy(zero_copy_only=False)
    codes, names = _encode(array)
    texts = names.to_numpy(zero_copy_only=False)
    rank = np.empty(len(texts) + 1, dtype=np.int64)
    rank[np.argsort(texts, kind="stable")] = np.arange(len(texts))
    rank[-1] = -1
    return rank[codes]
