"""How much each counter grew by, from when to when; and when batches were active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import NEVER, Flags, Ints

if TYPE_CHECKING:
    from safetykit_analytics.flow.observations import Rows


@dataclass(frozen=True)
class Increments:
    """What batches did between two of their observations; arrays of one length.

    Attributes
    ----------
    start, end : int64
        Microseconds since 1970, UTC; start ≤ end. Those of one batch together, in time.
    delta : integers, shape (3, n)
        Growth of success, error, cancelled.
    batch, group : integers
    """

    start: Ints
    end: Ints
    delta: Ints
    batch: Ints
    group: Ints


@dataclass(frozen=True)
class Active:
    """When batches were active, by group; arrays of one length.

    Attributes
    ----------
    start, end : int64
        Microseconds since 1970, UTC.
    group : integers
    observed : bool
        Up to the last observation; what lies after it was not observed.
    """

    start: Ints
    end: Ints
    group: Ints
    observed: Flags


def growth(counts: Ints, rows: Rows) -> Ints:
    """Return what counters grew by at each row; a batch's first row holds what it had done until then."""
    first = rows.first[:-1]
    grown = np.empty_like(counts)
    np.subtract(counts[..., 1:], counts[..., :-1], out=grown[..., 1:])
    for own, count in zip(np.atleast_2d(grown), np.atleast_2d(counts), strict=True):
        own[first] = count[first]
    return grown


def increments_of(rows: Rows, group: Ints) -> Increments:
    """List the increments in which a counter moved, by the group of the run that reported them.

    Runs of group -1 are left out, as is what a batch without a creation time had done before its first
    observation: it is in no bucket.
    """
    grown = growth(rows.counts, rows)
    unplaced = rows.first[:-1][rows.begin == NEVER]
    for values in grown:
        values[unplaced] = 0
    moves = (grown[0] | grown[1] | grown[2]) != 0
    owner = rows.by_row(group)
    if group.min(initial=0) < 0:
        moves &= owner >= 0
    moved = np.flatnonzero(moves)
    return Increments(
        rows.since.take(moved),
        rows.t.take(moved),
        grown.take(moved, axis=1),
        rows.batch.take(moved),
        owner.take(moved),
    )


def active_spans(rows: Rows, group: Ints, as_of: int) -> Active:
    """List the spans in which batches were active: from their beginning to their first terminal observation.

    By the group of their runs. A batch that never was terminal is active until `as_of`, with its last label.
    """
    start, last = rows.run[:-1], rows.run[1:] - 1
    ended = rows.first_terminal
    n = len(rows.t)
    until = np.where(ended < n, rows.t.take(np.minimum(ended, n - 1)), as_of)
    running = rows.last_run[ended >= n]
    spans = Active(
        np.concatenate([rows.since[start], rows.t[last[running]]]),
        np.concatenate([np.minimum(rows.t[last], until[rows.batch[start]]), np.full(len(running), as_of)]),
        np.concatenate([group, group[running]]),
        np.append(np.ones(len(start), dtype=np.bool_), np.zeros(len(running), dtype=np.bool_)),
    )
    kept = (spans.end > spans.start) & (spans.group >= 0)
    return Active(spans.start[kept], spans.end[kept], spans.group[kept], spans.observed[kept])


def terminal_before(rows: Rows) -> Any:
    """Return for each row whether its batch was terminal at an earlier one."""
    return rows.first_terminal[rows.batch] < np.arange(len(rows.t))
