"""One partition's own work: what happened between its observations, spread over buckets.

Place in the flow: observations → **day** → visit, window. How to read the observations of a partition is a
plan: `visit` guesses one, `window` makes one of what is known.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import Flags, Floats, Ints, columns_of
from safetykit_analytics.calendar import BEYOND, DAY_US
from safetykit_analytics.flow.allocate import (
    CANCELLED,
    N_SUMS,
    Cells,
    Intervals,
    Spans,
    clusters,
    covering,
    join,
    join_spans,
    merge,
    spread,
)
from safetykit_analytics.flow.observations import BARE_COLUMNS, Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition, Stretch
from safetykit_analytics.flow.places import Layout, add_time, first_bucket, last_bucket, layout_of

if TYPE_CHECKING:
    from safetykit_analytics.flow.partitions import Partition

# Intervals that are spread at a time: few, so that arrays are small, and so many that two threads seldom wait
# for one another.
_BLOCK = 1 << 17
# Cells that are settled at a time.
_CELLS = 1 << 17

#: From the first and the last instant of interest to bucket edges, with guards.
Calendar = Callable[[int, int], Ints]
#: What is made of the work of single batches once all that falls into a bucket is known: from sums of shape
#: (9, k), and a function that gives success and error of the batches of some of these k places, to arrays of
#: length k.
Settle = Callable[[Floats, Callable[[Flags], Cells]], dict[str, Any]]


@dataclass(frozen=True)
class How:
    """What is the same for every partition; an executor carries it along.

    Attributes
    ----------
    as_of : int or None
        Later observations are left out.
    labels : tuple of str
        Columns to split by.
    calendar : Calendar
    settle : Settle
    """

    as_of: int | None
    labels: tuple[str, ...]
    calendar: Calendar
    settle: Settle


@dataclass(frozen=True)
class Plan:
    """How to read the observations of one partition.

    Attributes
    ----------
    groups : list of tuples of str or None
    run_row, run_group : integer arrays, shape (r,)
        Row at which each label run starts, and its group.
    run_until : int64 array, shape (r,)
        Until when the batch was active, as far as it is known: its first terminal observation, BEYOND if
        there was none. -BEYOND where this partition cannot tell how long it was.
    claimed : bool array, shape (m,)
        The batch was never observed before: what it had done then is this partition's.
    start : int64 array, shape (m,)
        Where that began.
    free_from, free_until : int64 arrays, shape (groups,)
        No interval into another partition touches a bucket of the group between these instants.
    """

    groups: list[tuple[str | None, ...]]
    run_row: Ints
    run_group: Ints
    run_until: Ints
    claimed: Flags
    start: Ints
    free_from: Ints
    free_until: Ints


@dataclass(frozen=True)
class Steps:
    """What leads from one observation to the next, by a plan.

    Attributes
    ----------
    intervals : Intervals
        In which a counter moved; in the order of the rows.
    run_start, run_end : int64 arrays, shape (r,)
        From where a label run's first interval starts to its last observation.
    has_work : bool array, shape (r,)
        A counter moved in the label run.
    """

    intervals: Intervals
    run_start: Ints
    run_end: Ints
    has_work: Flags


@dataclass(frozen=True)
class DayWork:
    """What happened between the observations of one partition; arrays by place of its own layout.

    Attributes
    ----------
    groups : list of tuples of str or None
    edges : int64 array
        With guards.
    layout : Layout
    sums : float64 array, shape (9, places)
    n_batches : int64 array
        Distinct batches; at places that are not closed without those of `cells`.
    observed : int64 array
        Microseconds in which batches were active, in label runs that are `timed`.
    closed : bool array
        Nothing of another partition touches the place.
    settled : dict of arrays, of the length of the closed places
    cells, spans : Cells, Spans
        Of places that are not closed; batches count as in the rows of the partition.
    claimed : bool array, shape (m,)
        As in the plan.
    timed : bool array, shape (r,)
        Label runs of which the plan says until when they were active.
    unsure_run, unsure_group : int64 arrays
        Label runs with work whose label is a guess, and their group.
    closed_from, closed_until : int64 arrays, shape (groups,)
        The buckets that are closed, as instants.
    """

    groups: list[tuple[str | None, ...]]
    edges: Ints
    layout: Layout
    sums: Floats
    n_batches: Ints
    observed: Ints
    closed: Flags
    settled: dict[str, Any]
    cells: Cells
    spans: Spans
    claimed: Flags
    timed: Flags
    unsure_run: Ints
    unsure_group: Ints
    closed_from: Ints
    closed_until: Ints


def settle_nothing(sums: Floats, batches: Callable[[Flags], Cells]) -> dict[str, Any]:  # noqa: ARG001 -- a Settle
    """Make nothing of the work of single batches."""
    return {}


def settled_at(  # noqa: PLR0917 -- what the places are, and all that is there
    settle: Settle, places: Ints, sums: Floats, cells: Cells, spans: Spans, bucket_length: Ints
) -> dict[str, Any]:
    """Settle some places of which all is known, as many at a time as have about a block of cells."""
    cells = Cells(cells.batch, cells.place, cells.work[:CANCELLED])
    spans = Spans(spans.batch, spans.first, spans.stop, spans.pace[:CANCELLED])

    def settled(places: Ints) -> dict[str, Any]:
        def batches(wanted: Flags) -> Cells:
            chosen = np.zeros(len(bucket_length), dtype=np.bool_)
            chosen[places[wanted]] = True
            return clusters(cells, spans, chosen, bucket_length)

        return settle(columns_of(sums, places), batches)

    parts = [settled(some) for some in np.array_split(places, 1 + len(cells.place) // _CELLS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_again(source: Partition | Stretch | Rows, plan: Plan, how: How) -> DayWork:
    """Read one partition and reduce it to its work by what is known of it."""
    begin, end = bounds_of(source)
    free_from, free_until = np.maximum(plan.free_from, begin), np.minimum(plan.free_until, end)
    if not isinstance(source, Rows):
        source = rows_of(source.read(BARE_COLUMNS), as_of=how.as_of, labels=(), in_time=True)
    plan = replace(plan, free_from=free_from, free_until=free_until)
    return work_by(steps_of(source, plan), plan, how, np.zeros(0, dtype=np.int64))


def bounds_of(piece: Partition | Stretch | Rows) -> tuple[int, int]:
    """Give the instants between which a partition has all observations."""
    if isinstance(piece, (Rows, FramePartition)):
        return -BEYOND, BEYOND
    if isinstance(piece, Stretch):
        return bounds_of(piece.days[0])[0], bounds_of(piece.days[-1])[1]
    midnight = (piece.date - dt.date(1970, 1, 1)).days * DAY_US
    return midnight, midnight + DAY_US


def steps_of(rows: Rows, plan: Plan) -> Steps:
    """List what leads to each observation; to a batch's first only what is claimed."""
    first = rows.first[:-1]
    since = np.empty_like(rows.t)
    since[1:] = rows.t[:-1]
    since[first] = plan.start
    growth = np.empty_like(rows.counts)
    np.subtract(rows.counts[:, 1:], rows.counts[:, :-1], out=growth[:, 1:])
    for grown, counts in zip(growth, rows.counts, strict=True):
        grown[first] = np.where(plan.claimed, counts[first], 0)
    moves = (growth[0] | growth[1] | growth[2]) != 0
    moved = np.flatnonzero(moves)
    batch: Ints = rows.batch.take(moved)
    run: Any = batch
    if len(plan.run_row) > len(first):
        is_run = np.zeros(len(rows.t), dtype=np.bool_)
        is_run[plan.run_row] = True
        run = np.cumsum(is_run, dtype=np.int32).take(moved) - 1
    return Steps(
        intervals=Intervals(
            since.take(moved),
            rows.t.take(moved),
            growth.take(moved, axis=1),
            batch,
            plan.run_group.take(run),
        ),
        run_start=since[plan.run_row],
        run_end=rows.t[np.append(plan.run_row, len(rows.t))[1:] - 1],
        has_work=np.logical_or.reduceat(moves, plan.run_row),
    )


def work_by(steps: Steps, plan: Plan, how: How, guessed: Ints) -> DayWork:
    """Reduce observations to their work; the label of the `guessed` label runs is not sure."""
    unsure = guessed[steps.has_work[guessed]]
    edges = how.calendar(int(plan.start.min(initial=BEYOND)), int(steps.run_end.max(initial=-BEYOND)))
    timed = plan.run_until > -BEYOND
    layout = _layout(steps, plan, np.flatnonzero(steps.has_work | timed), edges)
    bucket, group = layout.buckets(), layout.groups()
    sums, cells, spans = _spread(steps.intervals, edges, layout)
    if len(plan.run_row) > len(plan.start):
        cells = merge(cells, layout.size)

    closed_from, closed_until = _closed(plan, edges, layout)
    closed = (edges[bucket] >= closed_from[group]) & (edges[bucket + 1] <= closed_until[group])
    # Nobody asks what single batches did outside of the calendar.
    is_open = ~closed & (bucket > 0) & (bucket < len(edges) - 2)
    n_batches = np.bincount(cells.place, minlength=layout.size)
    n_batches[is_open] = 0
    n_batches += covering(spans, layout.size)
    before = np.append(0, np.cumsum(is_open))
    return DayWork(
        groups=plan.groups,
        edges=edges,
        layout=layout,
        sums=sums,
        n_batches=n_batches,
        observed=add_time(
            steps.run_start, np.minimum(steps.run_end, plan.run_until), plan.run_group, edges, layout
        ),
        closed=closed,
        settled=settled_at(how.settle, np.flatnonzero(closed), sums, cells, spans, np.diff(edges)[bucket]),
        cells=cells.take(np.flatnonzero(is_open[cells.place])),
        spans=spans.take(before[spans.stop] > before[spans.first]),
        claimed=plan.claimed,
        timed=timed,
        unsure_run=unsure,
        unsure_group=plan.run_group[unsure],
        closed_from=closed_from,
        closed_until=closed_until,
    )


def _spread(intervals: Intervals, edges: Ints, layout: Layout) -> tuple[Floats, Cells, Spans]:
    """Spread intervals, some batches at a time."""
    batch = intervals.batch
    # Between two blocks a batch ends.
    cuts = np.searchsorted(batch, batch[_BLOCK::_BLOCK])
    sums, all_cells, all_spans = np.zeros((N_SUMS, layout.size)), [], []
    for start, stop in pairwise([0, *np.unique(cuts).tolist(), len(batch)]):
        some, cells, spans = spread(intervals.take(slice(start, stop)), edges, layout)
        sums += some
        all_cells.append(cells)
        all_spans.append(spans)
    return sums, join(all_cells), join_spans(all_spans)


def _layout(steps: Steps, plan: Plan, runs: Ints, edges: Ints) -> Layout:
    """Lay out the buckets of some label runs."""
    low = first_bucket(edges, steps.run_start[runs])
    high = np.maximum(last_bucket(edges, steps.run_end[runs]), low)
    return layout_of(plan.run_group[runs], low, high, len(plan.groups))


def _closed(plan: Plan, edges: Ints, layout: Layout) -> tuple[Ints, Ints]:
    """Give, per group, the first and the last edge between which nothing of another partition happens."""
    stop = layout.first + np.diff(layout.offset)
    first = np.maximum(np.searchsorted(edges, plan.free_from), np.maximum(layout.first, 1))
    last = np.searchsorted(edges, plan.free_until, side="right") - 1
    last = np.minimum(last, np.minimum(stop, len(edges) - 2))
    closed = last > first
    # An index may lie beyond all edges where nothing is closed.
    first, last = np.where(closed, first, 0), np.where(closed, last, 0)
    return np.where(closed, edges[first], BEYOND), np.where(closed, edges[last], -BEYOND)
