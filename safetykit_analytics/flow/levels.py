"""What is pending, and how many batches are open, at the end of every bucket.

Place in the flow: stitch, allocate → **levels** → backlog.

Pending decisions are a level: between two observations it changes evenly, like the work; a batch adds all it
has when it is created, and takes away what is left when it is first seen to be terminal. The changes are
spread over buckets as work is, and add up from bucket to bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import NEVER, Floats, Ints
from safetykit_analytics.calendar import with_guards
from safetykit_analytics.flow.allocate import Intervals, spread
from safetykit_analytics.flow.ends import state_of
from safetykit_analytics.flow.observations import EDGE_COLUMNS, Rows, rows_of
from safetykit_analytics.flow.partitions import Partition, ordered_map
from safetykit_analytics.flow.places import Layout, first_bucket, last_bucket, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safetykit_analytics.flow.stitch import Stitched
    from safetykit_analytics.flow.work import Source

_PENDING, _OPEN = 0, 1
# Of the highest level, far above rounding and far below a decision.
_NOISE = 1e-12


@dataclass(frozen=True)
class Levels:
    """Levels by group and bucket; arrays have one element per place of `layout`.

    Attributes
    ----------
    groups : list of tuples
    edges : int64 array, with guards
    layout : Layout
    pending : float64
        Decisions pending at the end of each bucket.
    n_open : int64
        Batches open then.
    ever_open : bool
        A batch was open at some time in the bucket.
    """

    groups: list[tuple[str | None, ...]]
    edges: Ints
    layout: Layout
    pending: Floats
    n_open: Ints
    ever_open: Any


def levels_of(source: Source, edges: Ints) -> Levels:
    """Give the levels at the ends of buckets; the source was opened with its state."""
    known = source.stitched
    edges = with_guards(edges)
    # From where a group's first batch begins to the end: a level lasts.
    n_groups, last = len(known.groups), len(edges) - 2
    first = first_bucket(edges, known.run_start)
    layout = layout_of(known.run_group, first, np.full(len(first), last), n_groups)
    events = _events(known, state_of(source))
    sums, _, _ = spread(events, edges, layout)
    changes = sums[: _OPEN + 1]
    # What comes in within a bucket, and may have left again by its end.
    came = np.bincount(
        (layout.base(events.group) + first_bucket(edges, events.start))[events.delta[_OPEN] > 0],
        minlength=layout.size,
    )
    for work, groups, part in ordered_map(_read_changes, _tasks(source, edges), source.executor):
        changes[_PENDING, layout.base(groups[part.groups()]) + part.buckets()] += work
    starts = layout.offset[:-1]
    level = np.cumsum(changes, axis=1)
    if n_groups:
        level -= np.repeat(level[:, starts] - changes[:, starts], np.diff(layout.offset), axis=1)
    n_open = np.rint(level[_OPEN]).astype(np.int64)
    # A running sum of shares is off by rounding; decisions are whole where no interval is cut.
    pending, whole = level[_PENDING], np.rint(level[_PENDING])
    noise = _NOISE * (1.0 + np.abs(pending).max(initial=0.0))
    pending = np.where(np.abs(pending - whole) <= noise, whole, pending)
    before = np.append([0], n_open[:-1])[: len(n_open)]
    before[starts] = 0
    return Levels(
        groups=known.groups,
        edges=edges,
        layout=layout,
        pending=np.where(n_open > 0, np.maximum(pending, 0.0), 0.0),
        n_open=n_open,
        ever_open=(before + came) > 0,
    )


def _events(known: Stitched, state: dict[str, Any]) -> Intervals:
    """Give what changes levels and is known from the edges of days alone."""
    edge = np.arange(len(known.batch))
    group = np.zeros(len(edge), dtype=np.int64)
    leads = np.flatnonzero(
        np.append([True], known.run_edge[1:] != known.run_edge[:-1])[: len(known.run_edge)]
    )
    group[known.run_edge[leads]] = known.run_group[leads]
    last_group = np.zeros(len(edge), dtype=np.int64)
    last_group[known.run_edge] = known.run_group
    previous = np.full(len(edge), -1)
    previous[known.order[1:]] = np.where(known.is_first[known.order[1:]], -1, known.order[:-1])

    is_open = ~known.settled
    new, later = edge[known.is_first], edge[is_open & ~known.is_first]
    finished = known.delta.sum(axis=0)
    # All that was done before the first observation was pending at the creation.
    initial = state["first_pending"][new] + finished[new]
    before = state["pending_count"][previous[later]]
    moves = later[group[later] != last_group[previous[later]]]
    ended = edge[is_open & (known.first_terminal != NEVER)]
    # The label at the end is that of the run in which it falls: the last one that starts before it.
    end_group = _group_at_end(known, group)[ended]
    carried = state["pending_count"][previous[moves]]

    inside = np.flatnonzero(
        np.append([False], known.run_edge[1:] == known.run_edge[:-1])[: len(known.run_edge)]
        & is_open[known.run_edge]
        & (
            (known.first_terminal[known.run_edge] == NEVER)
            | (known.run_start < known.first_terminal[known.run_edge])
        )
    )
    at_change = state["run_pending"][inside]
    pieces = [
        (known.start[new], known.start[new], initial, 1, group[new]),
        (known.start[new], known.end[new], state["first_pending"][new] - initial, 0, group[new]),
        (known.start[later], known.end[later], state["first_pending"][later] - before, 0, group[later]),
        (known.start[moves], known.start[moves], -carried, -1, last_group[previous[moves]]),
        (known.start[moves], known.start[moves], carried, 1, group[moves]),
        (known.run_start[inside], known.run_start[inside], -at_change, -1, known.run_group[inside - 1]),
        (known.run_start[inside], known.run_start[inside], at_change, 1, known.run_group[inside]),
        (
            known.first_terminal[ended],
            known.first_terminal[ended],
            -state["terminal_pending"][ended],
            -1,
            end_group,
        ),
    ]
    n = sum(len(piece[0]) for piece in pieces)
    delta = np.zeros((3, n), dtype=np.int64)
    delta[_PENDING] = np.concatenate([piece[2] for piece in pieces])
    delta[_OPEN] = np.concatenate([np.full(len(piece[0]), piece[3]) for piece in pieces])
    return Intervals(
        start=np.concatenate([piece[0] for piece in pieces]),
        end=np.concatenate([piece[1] for piece in pieces]),
        delta=delta,
        batch=np.zeros(n, dtype=np.int64),
        group=np.concatenate([piece[4] for piece in pieces]),
    )


def _group_at_end(known: Stitched, group: Ints) -> Ints:
    """Give the group in which each edge row's batch first was terminal."""
    result = group.copy()
    # A run's first observation comes after `run_start`, so that a run that starts before the end holds it or
    # comes before it.
    begins = known.run_start < known.first_terminal[known.run_edge]
    result[known.run_edge[begins]] = known.run_group[begins]
    return result


def _read_changes(
    source: Partition | Rows, as_of: int | None, runs: tuple[Ints, Ints], settled: Any, edges: Ints
) -> tuple[Floats, Ints, Layout]:
    """Read one partition and spread how pending changed between its observations."""
    if not isinstance(source, Rows):
        table = source.read((*EDGE_COLUMNS, "pending_count"))
        source = rows_of(table, as_of=as_of, labels=(), in_time=True)
    rows, (run_row, run_group) = source, runs
    n = len(rows.t)
    pending = rows.take("pending_count", np.arange(n)).to_numpy()
    groups, run_group = np.unique(run_group, return_inverse=True)
    group = np.repeat(run_group, np.diff(np.append(run_row, n)))
    batch = rows.batch
    # Terminal observations of the batch before each row.
    seen: Ints = np.cumsum(rows.terminal) - rows.terminal
    before: Ints = seen - seen[rows.first[:-1]][batch]
    delta = np.diff(pending, prepend=0)
    is_later = np.ones(n, dtype=np.bool_)
    is_later[rows.first[:-1]] = False
    moved = np.flatnonzero(is_later & (delta != 0) & (before == 0) & ~settled[batch])
    changes = np.zeros((3, len(moved)), dtype=np.int64)
    changes[_PENDING] = delta[moved]
    intervals = Intervals(rows.t[moved - 1], rows.t[moved], changes, batch[moved], group[moved])
    layout = layout_of(
        intervals.group,
        first_bucket(edges, intervals.start),
        last_bucket(edges, intervals.end),
        len(groups),
    )
    sums, _, _ = spread(intervals, edges, layout)
    return sums[_PENDING], groups, layout


def _tasks(source: Source, edges: Ints) -> Iterable[tuple[Any, ...]]:
    known = source.stitched
    for day, piece in enumerate(source.pieces):
        runs = known.day_runs(day)
        settled = known.settled[known.offset[day] : known.offset[day + 1]]
        yield piece, source.as_of, (known.run_row[runs], known.run_group[runs]), settled, edges
