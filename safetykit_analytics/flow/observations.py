"""Tables of observations as sorted arrays, one run of rows per batch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Flags, Ints, run_starts
from safetykit_analytics.calendar import DAY_US
from safetykit_analytics.labels import Label, fill, in_natural_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The three counters of work, in the order of the rows of every array of counts.
COUNTERS = ("success_count", "error_count", "cancelled_count")
#: The columns that every reduction reads.
BASE_COLUMNS = ("batch_id", "observed_at", "created_at", *COUNTERS, "is_terminal")


@dataclass(frozen=True)
class Rows:
    """Observations of whole batches, sorted by batch and time, each key once.

    Attributes
    ----------
    batch : int32 array, shape (n,)
        The number of each row's batch, from 0 to m - 1.
    first : int64 array, shape (m + 1,)
        Where the rows of each batch start; the last one is n.
    run : int64 array, shape (r + 1,)
        Where each run of rows of one batch and one combination of labels starts; the last one is n.
    t : int64 array, shape (n,)
        ``observed_at``, microseconds since 1970 UTC.
    counts : int64 array, shape (3, n)
        success, error, cancelled.
    terminal : bool array, shape (n,)
    created : int64 array, shape (m,)
        ``created_at`` of each batch's first row; NEVER for none.
    labels : dict of str to Label
        Of each run. Filled: a null has the label before it, leading nulls the first one.
    table : pyarrow.Table
        All columns that were read; text may be dictionary-encoded.
    """

    batch: Ints
    first: Ints
    run: Ints
    t: Ints
    counts: Ints
    terminal: Flags
    created: Ints
    labels: dict[str, Label]
    table: Any

    @property
    def n_batches(self) -> int:
        """Return the number of batches."""
        return len(self.first) - 1

    def by_row(self, values: Ints) -> Ints:
        """Repeat what each run has for each of its rows."""
        return np.repeat(values, np.diff(self.run))

    @cached_property
    def last_run(self) -> Ints:
        """The run that ends each batch."""
        return np.searchsorted(self.run, self.first[1:]) - 1

    @property
    def n_runs(self) -> Ints:
        """Return the number of runs of each batch."""
        return np.diff(self.last_run, prepend=-1)

    @property
    def begin(self) -> Ints:
        """Return when each batch began: its creation, or its first observation if that is earlier.

        NEVER where nobody knows. Clocks differ by seconds: a creation more than a day after the first
        observation is ignored.
        """
        first_t = self.t[self.first[:-1]]
        begin: Ints = np.minimum(self.created, first_t)
        return np.where(self.created - first_t > DAY_US, NEVER, begin)

    @cached_property
    def since(self) -> Ints:
        """The instant from which each row reports: the row before, or when the batch began."""
        previous = np.empty_like(self.t)
        previous[1:] = self.t[:-1]
        first, begin = self.first[:-1], self.begin
        previous[first] = np.where(begin == NEVER, self.t[first], begin)
        return previous

    @property
    def first_terminal(self) -> Ints:
        """Return the row at which each batch was first terminal; n where it never was."""
        row = np.full(self.n_batches, len(self.t))
        flagged = np.flatnonzero(self.terminal)[::-1]
        # Of several values for one place the last is kept.
        row[self.batch[flagged]] = flagged
        return row

    def slices(self, n_rows: int) -> Iterator[tuple[int, slice, Rows]]:
        """Cut between batches into slices of about `n_rows`: the first batch of each, its runs, its rows."""
        cuts = np.searchsorted(self.first, np.arange(n_rows, len(self.t), n_rows))
        ends = np.unique(np.append(cuts, self.n_batches)).tolist()
        for low, high in itertools.pairwise([0, *ends]):
            begin, end = self.first[[low, high]].tolist()
            runs = slice(*np.searchsorted(self.run, [begin, end]).tolist())
            part = Rows(
                batch=self.batch[begin:end] - low,
                first=self.first[low : high + 1] - begin,
                run=self.run[runs.start : runs.stop + 1] - begin,
                t=self.t[begin:end],
                counts=self.counts[:, begin:end],
                terminal=self.terminal[begin:end],
                created=self.created[low:high],
                labels={name: Label(label.codes[runs], label.names) for name, label in self.labels.items()},
                table=self.table.slice(begin, end - begin),
            )
            yield low, runs, part

    def take(self, column: str, rows: Ints) -> Any:
        """Return values of a column at some of the rows as an Arrow array."""
        values = one_array(self.table.column(column)).take(pa.array(rows))
        return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values

    def numbers(self, column: str) -> Ints:
        """Return a column of whole numbers."""
        values: Ints = one_array(self.table.column(column)).to_numpy(zero_copy_only=False)
        return values

    def ids(self) -> Any:
        """Return the id of each batch as an Arrow array of strings."""
        return self.take("batch_id", self.first[:-1])


def rows_of(tables: Sequence[Any], *, labels: Sequence[str] = (), own: Any = None) -> Rows:
    """Convert tables into arrays.

    The rows of one batch stand in one table, together and in time, each key once. `labels` are filled; `own`
    has ``batch_id`` and further columns of text, labels that a batch keeps.
    """
    # Each table has its own dictionary of ids.
    starts = [run_starts(encoded(table.column("batch_id"))[0]) for table in tables]
    is_start = np.concatenate(starts)
    table = pa.concat_tables(tables)
    start = np.flatnonzero(is_start)
    batch: Any = np.cumsum(is_start, dtype=np.int32) - 1
    run, found = _runs(batch, {name: _label(table.column(name)) for name in labels})
    if own is not None:
        ids = one_array(table.column("batch_id")).take(pa.array(start)).cast(pa.string())
        row = pc.index_in(ids, value_set=one_array(own.column("batch_id")))
        for name in own.column_names[1:]:
            label = _label(one_array(own.column(name)).take(row))
            found[name] = label.take(batch[run])
    return Rows(
        batch=batch,
        first=np.append(start, len(batch)),
        run=np.append(run, len(batch)),
        t=instants(table.column("observed_at")),
        counts=_counts(table),
        terminal=_values(table.column("is_terminal")),
        created=instants(table.column("created_at"))[start],
        labels=found,
        table=table,
    )


def _runs(batch: Ints, labels: dict[str, Label]) -> tuple[Ints, dict[str, Label]]:
    """Return where runs of one batch and one combination of filled labels start, and the labels of each."""
    run = np.flatnonzero(run_starts(batch, *(label.codes for label in labels.values())))
    owner = batch[run]
    filled = {}
    for name, label in labels.items():
        ordered = in_natural_order(label.take(run))
        filled[name] = Label(fill(ordered.codes, owner), ordered.names)
    # A null that is filled may equal its neighbours.
    kept = run_starts(owner, *(label.codes for label in filled.values()))
    if kept.all():
        return run, filled
    return run[kept], {name: label.take(np.flatnonzero(kept)) for name, label in filled.items()}


def one_array(column: Any) -> Any:
    """Return a column as one Arrow array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def instants(column: Any) -> Ints:
    """Return a timestamp column as microseconds since 1970; NEVER where it is null."""
    array = one_array(column).cast(pa.int64())
    if array.null_count:
        array = array.fill_null(NEVER)
    values: Ints = array.to_numpy()
    return values


def encoded(column: Any) -> tuple[Ints, Any]:
    """Return codes of a text column, -1 for null, and the Arrow array of what they stand for."""
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices.fill_null(-1) if array.indices.null_count else array.indices
    return indices.to_numpy(), array.dictionary


def _values(column: Any) -> Any:
    return one_array(column).to_numpy(zero_copy_only=False)


def _counts(table: Any) -> Ints:
    counts = np.empty((len(COUNTERS), table.num_rows), dtype=np.int64)
    for values, name in zip(counts, COUNTERS, strict=True):
        at = 0
        for chunk in table.column(name).chunks:
            values[at : at + len(chunk)] = chunk.to_numpy()
            at += len(chunk)
    return counts


def _label(column: Any) -> Label:
    codes, names = encoded(column)
    texts = names.to_pylist()
    if "" in texts:
        codes = np.where(codes == texts.index(""), -1, codes)
    return Label(codes, tuple(texts))
