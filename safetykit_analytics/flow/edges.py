"""First pass: each day's first and last observation of every batch, and where its labels change.

Place in the flow: observations → **edges** → stitch. What is returned is small (one row per batch and day),
picklable, and enough to know every interval that crosses from one day into another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import NEVER, Flags, Floats, Ints, columns_of
from safetykit_analytics.calendar import BEYOND, DAY_US
from safetykit_analytics.flow.numbering import Hashes, hash_ids
from safetykit_analytics.flow.observations import EDGE_COLUMNS, Rows, rows_of
from safetykit_analytics.labels import Label

if TYPE_CHECKING:
    from safetykit_analytics.flow.partitions import Partition

#: Further columns of the last observation of each batch, for `batch_ends`.
STATE_COLUMNS = ("batch_count", "pending_count", "batch_status")


@dataclass(frozen=True)
class Edges:
    """The edges of one partition; arrays have one element per batch, unless said otherwise.

    Attributes
    ----------
    ids : pyarrow string array
    hashes : uint64
        Of the ids.
    first_t, last_t : int64
        Microseconds since 1970, UTC.
    first_counts, last_counts : int32 or int64, shape (3, m)
    created : int64
        ``created_at`` of the first observation; NEVER for none.
    first_terminal : int64
        When the batch was first seen to be terminal; NEVER if not in this partition.
    run_batch, run_row, run_start : int64, shape (r,)
        Label runs: stretches of observations of one batch with equal labels. The batch, the row where the run
        starts, and the time of the observation before it (NEVER at the batch's first row).
    run_labels : dict of str to Label, codes of shape (r,)
    weights : float64, shape (k + 1,)
        For `auto`: absolute work by length of interval, cut at k given lengths.
    state : dict of str to array
        For `batch_ends`; empty otherwise.
    """

    ids: Any
    hashes: Hashes
    first_t: Ints
    last_t: Ints
    first_counts: Ints
    last_counts: Ints
    created: Ints
    first_terminal: Ints
    run_batch: Ints
    run_row: Ints
    run_start: Ints
    run_labels: dict[str, Label]
    weights: Floats
    state: dict[str, Any] = field(default_factory=dict)

    def take(self, batches: Ints) -> Edges:
        """Give those of some batches, ascending; without state."""
        is_own = np.zeros(len(self.hashes), dtype=np.bool_)
        is_own[batches] = True
        runs = np.flatnonzero(is_own[self.run_batch])
        number: Any = np.cumsum(is_own, dtype=np.int32) - 1
        return replace(
            self,
            ids=self.ids.take(pa.array(batches)),
            hashes=self.hashes[batches],
            first_t=self.first_t[batches],
            last_t=self.last_t[batches],
            first_counts=columns_of(self.first_counts, batches),
            last_counts=columns_of(self.last_counts, batches),
            created=self.created[batches],
            first_terminal=self.first_terminal[batches],
            run_batch=number[self.run_batch[runs]],
            run_row=self.run_row[runs],
            run_start=self.run_start[runs],
            run_labels={name: label.take(runs) for name, label in self.run_labels.items()},
            state={},
        )


def no_edges(labels: tuple[str, ...]) -> Edges:
    """Give the edges of nothing."""
    none: Ints = np.zeros(0, dtype=np.int64)
    return Edges(
        ids=pa.array([], type=pa.string()),
        hashes=np.zeros(0, dtype=np.uint64),
        first_t=none,
        last_t=none,
        first_counts=np.zeros((3, 0), dtype=np.int32),
        last_counts=np.zeros((3, 0), dtype=np.int32),
        created=none,
        first_terminal=none,
        run_batch=none,
        run_row=none,
        run_start=none,
        run_labels={name: Label(none, ()) for name in labels},
        weights=np.zeros(1),
    )


def creation(created: Ints, first_t: Ints) -> Ints:
    """Give when batches were created, by their first observations; NEVER where nobody knows.

    Clocks differ by seconds: a creation more than a day ahead is no creation time at all.
    """
    return np.where(created - first_t > DAY_US, NEVER, created)


def active_until(first_terminal: Ints) -> Ints:
    """Give until when batches were active, by their first terminal observations; BEYOND where none was."""
    return np.where(first_terminal == NEVER, BEYOND, first_terminal)


def read_edges(
    source: Partition | Rows,
    as_of: int | None,
    labels: tuple[str, ...],
    lengths: tuple[int, ...] = (),
    state: bool = False,  # noqa: FBT001, FBT002 -- an executor calls this by position
) -> Edges:
    """Read one partition and reduce it to its edges."""
    if not isinstance(source, Rows):
        columns = (*EDGE_COLUMNS, *labels, *(STATE_COLUMNS if state else ()))
        source = rows_of(source.read(columns), as_of=as_of, labels=labels, in_time=True)
    return edges_of(source, lengths, state=state)


def edges_of(rows: Rows, lengths: tuple[int, ...] = (), *, state: bool = False) -> Edges:
    """Reduce sorted observations to their edges."""
    n = len(rows.t)
    first, last = rows.first[:-1], rows.first[1:] - 1
    is_start = np.zeros(n, dtype=np.bool_)
    is_start[first] = True
    terminal_row = _first_row(np.flatnonzero(rows.terminal), rows.batch, len(first))
    is_run = is_start.copy()
    for label in rows.labels.values():
        is_run[1:] |= label.codes[1:] != label.codes[:-1]
    run_row = np.flatnonzero(is_run)
    run_start = np.where(is_start[run_row], NEVER, rows.t[run_row - 1])
    return Edges(
        ids=rows.ids,
        hashes=hash_ids(rows.ids),
        first_t=rows.t[first],
        last_t=rows.t[last],
        first_counts=columns_of(rows.counts, first),
        last_counts=columns_of(rows.counts, last),
        created=rows.created,
        first_terminal=_time_at(rows.t, terminal_row, n),
        run_batch=rows.batch[run_row],
        run_row=run_row.astype(np.int32),
        run_start=run_start,
        run_labels={
            name: Label(label.codes[run_row].astype(np.int32), label.names)
            for name, label in rows.labels.items()
        },
        weights=_weights(rows, is_start, lengths),
        state=_state(rows, is_start, terminal_row, run_row) if state else {},
    )


def _first_row(flagged: Ints, batch: Ints, m: int) -> Ints:
    """Give the first of the flagged rows of each of m batches; the number of rows where there is none."""
    row = np.full(m, len(batch))
    # Of several values for one place the last is kept.
    row[batch[flagged[::-1]]] = flagged[::-1]
    return row


def _last_row(flags: Flags, first: Ints) -> Ints:
    """Give the last flagged row of each batch, -1 where there is none."""
    return np.maximum.reduceat(np.where(flags, np.arange(len(flags)), -1), first)


def _time_at(t: Ints, row: Ints, n: int) -> Ints:
    return np.where((row >= 0) & (row < n), t[np.clip(row, 0, n - 1)], NEVER)


def _weights(rows: Rows, is_start: Flags, lengths: tuple[int, ...]) -> Floats:
    """Sum the absolute processed work by length of interval."""
    if not lengths:
        return np.zeros(1)
    later = np.flatnonzero(~is_start)
    length = rows.t[later] - rows.t[later - 1]
    processed = rows.counts[0] + rows.counts[1]
    work = np.abs(processed[later] - processed[later - 1])
    kind = np.searchsorted(np.array(lengths), length, side="left")
    return np.bincount(kind, weights=work, minlength=len(lengths) + 1).astype(np.float64)


def _state(rows: Rows, is_start: Flags, terminal_row: Ints, run_row: Ints) -> dict[str, Any]:
    """Give what `batch_ends` says of a batch beyond its work."""
    n = len(rows.t)
    first, last = rows.first[:-1], rows.first[1:] - 1
    moved = np.zeros(n, dtype=np.bool_)
    moved[1:] = (rows.counts[:, 1:] != rows.counts[:, :-1]).any(axis=0) & ~is_start[1:]
    moved_row = _last_row(moved, first)
    before = np.where(terminal_row > first, terminal_row - 1, -1)
    before[terminal_row >= n] = -1
    at_end = np.clip(terminal_row, 0, n - 1)
    status = rows.take("batch_status", np.append(last, at_end))
    if pa.types.is_dictionary(status.type):
        status = status.cast(pa.string())
    m = len(first)
    pending = rows.take("pending_count", np.concatenate([first, last, at_end])).to_numpy()
    return {
        "batch_count": rows.take("batch_count", last).to_numpy(),
        "first_pending": pending[:m],
        "pending_count": pending[m : 2 * m],
        "terminal_pending": pending[2 * m :],
        # At the observation before each label run; of no meaning where a batch begins.
        "run_pending": rows.take("pending_count", np.maximum(run_row - 1, 0)).to_numpy(),
        "is_terminal": rows.terminal[last],
        "batch_status": status[:m],
        "first_terminal_status": status[m:],
        "before_terminal": _time_at(rows.t, before, n),
        "moved_after": _time_at(rows.t, np.where(moved_row > 0, moved_row - 1, -1), n),
        "moved_before": _time_at(rows.t, moved_row, n),
    }
