"""One partition's own work: what happened between its observations, spread over buckets.

Place in the flow: observations, edges → **day** → work. Runs wherever an executor puts it.

A day alone cannot tell everything: which label a batch had before or gets later, whether a batch was seen
before, and what happens across midnight. So it is reduced by a *guess* while its observations are in memory
anyhow: labels as the day itself tells them, batches created on the day seen for the first time, and nothing
settled that an interval into another day may touch. When all days are known, `work` checks the guess, and
has only those days read again, by what is then *known*, where it was wrong.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.flow.allocate import (
    Cells,
    Intervals,
    Spans,
    clusters,
    covering,
    merge,
    spread,
)
from safetykit_analytics.flow.arrays import NEVER, Flags, Floats, Ints
from safetykit_analytics.flow.calendar import DAY_US
from safetykit_analytics.flow.edges import Edges, edges_of
from safetykit_analytics.flow.labels import fill, groups_of
from safetykit_analytics.flow.observations import BARE_COLUMNS, EDGE_COLUMNS, Label, Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition
from safetykit_analytics.flow.places import BEYOND, Layout, first_bucket, last_bucket, layout_of

if TYPE_CHECKING:
    from safetykit_analytics.flow.partitions import Partition

#: From the first and the last instant of interest to bucket edges, with guards.
Calendar = Callable[[int, int], Ints]
#: What is made of the work of single batches once all that falls into a bucket is known: from sums of shape
#: (9, k), and a function that gives the batches of some of these k places, to arrays of length k.
Settle = Callable[[Floats, Callable[[Flags], Cells]], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """How to read the observations of one partition.

    Attributes
    ----------
    groups : list of tuples of str or None
    run_row, run_group : integer arrays, shape (r,)
        Row at which each label run starts, and its group.
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
    claimed: Flags
    start: Ints
    free_from: Ints
    free_until: Ints


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
    closed : bool array
        Nothing of another partition touches the place.
    settled : dict of arrays, of the length of the closed places
    cells, spans : Cells, Spans
        Of places that are not closed; batches count as in the rows of the partition.
    claimed : bool array, shape (m,)
        As in the plan.
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
    closed: Flags
    settled: dict[str, Any]
    cells: Cells
    spans: Spans
    claimed: Flags
    unsure_run: Ints
    unsure_group: Ints
    closed_from: Ints
    closed_until: Ints


def read_day(
    piece: Partition, as_of: int | None, labels: tuple[str, ...], calendar: Calendar, settle: Settle
) -> tuple[Edges, DayWork]:
    """Read one partition and reduce it to its edges and, by a guess, to its work."""
    rows = rows_of(piece.read((*EDGE_COLUMNS, *labels)), as_of=as_of, labels=labels, is_sorted=True)
    edges = edges_of(rows)
    bounds = bounds_of(piece)
    plan, guessed = _guess(rows, edges, labels, bounds[0])
    return edges, _work(rows, plan, calendar, settle, bounds, guessed)


def read_again(
    source: Partition | Rows,
    as_of: int | None,
    plan: Plan,
    calendar: Calendar,
    settle: Settle | None,
    bounds: tuple[int, int],
) -> DayWork:
    """Read one partition and reduce it to its work by what is known of it."""
    if not isinstance(source, Rows):
        source = rows_of(source.read(BARE_COLUMNS), as_of=as_of, labels=(), is_sorted=True)
    return _work(source, plan, calendar, settle, bounds, np.zeros(0, dtype=np.int64))


def bounds_of(piece: Partition | Rows) -> tuple[int, int]:
    """Give the instants between which a partition has all observations."""
    if isinstance(piece, (Rows, FramePartition)):
        return -BEYOND, BEYOND
    midnight = (piece.date - dt.date(1970, 1, 1)).days * DAY_US
    return midnight, midnight + DAY_US


def lead_start(created: Ints, first_t: Ints) -> Ints:
    """Give when the work up to a batch's first observation began; NEVER where nobody knows.

    Clocks differ by seconds: a creation more than a day ahead is no creation time at all.
    """
    known = (created != NEVER) & (created - first_t <= DAY_US)
    return np.where(known, np.minimum(created, first_t), NEVER)


def _guess(rows: Rows, edges: Edges, labels: tuple[str, ...], midnight: int) -> tuple[Plan, Ints]:
    """Plan by what the partition tells of itself; and list the label runs whose label is a guess."""
    begin = lead_start(edges.created, edges.first_t)
    claimed = begin >= midnight
    batch = edges.run_batch
    is_guess = np.zeros(len(batch), dtype=np.bool_)
    filled = []
    for name in labels:
        label = edges.run_labels[name]
        if (label.codes < 0).any():
            codes, leads = fill(label.codes, batch)
            is_guess |= leads
            label = Label(codes, label.names)
        filled.append(label)
    run_group, groups = groups_of(filled, len(batch))
    first_run = np.searchsorted(batch, np.arange(len(begin)))
    last_run = np.append(first_run[1:], len(batch)) - 1
    free_from = np.full(len(groups), midnight)
    np.maximum.at(free_from, run_group[first_run[~claimed]], edges.first_t[~claimed])
    # Batches that are created after the last poll of a day are seen on another.
    free_until = np.full(len(groups), int(edges.last_t.max(initial=midnight)))
    is_open = ~rows.terminal[rows.first[1:] - 1]
    np.minimum.at(free_until, run_group[last_run[is_open]], edges.last_t[is_open])
    start = np.where(claimed, begin, edges.first_t)
    plan = Plan(groups, edges.run_row, run_group, claimed, start, free_from, free_until)
    return plan, np.flatnonzero(is_guess)


def _work(
    rows: Rows, plan: Plan, calendar: Calendar, settle: Settle | None, bounds: tuple[int, int], guessed: Ints
) -> DayWork:
    n = len(rows.t)
    run_stop = np.append(plan.run_row, n)[1:]
    intervals, has_work = _intervals(rows, plan, run_stop)
    unsure = guessed[has_work[guessed]]

    edges = calendar(int(plan.start.min(initial=BEYOND)), int(rows.t.max(initial=-BEYOND)))
    layout = _layout(rows, plan, run_stop, edges, has_work)
    bucket, group = layout.buckets(), layout.groups()
    sums, cells, spans = spread(intervals, edges, layout)
    if len(plan.run_row) > len(plan.start):
        cells = merge(cells, layout.size)

    closed_from, closed_until = _closed(plan, edges, layout, bounds)
    closed = (edges[bucket] >= closed_from[group]) & (edges[bucket + 1] <= closed_until[group])
    # Nobody asks what single batches did outside of the calendar.
    is_open = ~closed & (bucket > 0) & (bucket < len(edges) - 2)
    n_batches = np.bincount(cells.place, minlength=layout.size)
    n_batches[is_open] = 0
    n_batches += covering(spans, layout.size)
    settled = {}
    if settle is not None:
        place = np.flatnonzero(closed)

        def batches(wanted: Flags) -> Cells:
            chosen = np.zeros(layout.size, dtype=np.bool_)
            chosen[place[wanted]] = True
            return clusters(cells, spans, chosen, np.diff(edges)[bucket])

        settled = settle(sums[:, place], batches)
    before = np.append(0, np.cumsum(is_open))
    return DayWork(
        groups=plan.groups,
        edges=edges,
        layout=layout,
        sums=sums,
        n_batches=n_batches,
        closed=closed,
        settled=settled,
        cells=cells.take(np.flatnonzero(is_open[cells.place])),
        spans=spans.take(before[spans.stop] > before[spans.first]),
        claimed=plan.claimed,
        unsure_run=unsure,
        unsure_group=plan.run_group[unsure],
        closed_from=closed_from,
        closed_until=closed_until,
    )


def _intervals(rows: Rows, plan: Plan, run_stop: Ints) -> tuple[Intervals, Flags]:
    """Give the intervals in which a counter moved, and the label runs that have any."""
    first = rows.first[:-1]
    start = np.empty(len(rows.t), dtype=np.int64)
    start[1:] = rows.t[:-1]
    start[first] = plan.start
    delta = np.empty_like(rows.counts)
    np.subtract(rows.counts[:, 1:], rows.counts[:, :-1], out=delta[:, 1:])
    delta[:, first] = np.where(plan.claimed, rows.counts[:, first], 0)
    is_moved = (delta[0] | delta[1] | delta[2]) != 0
    moved = np.flatnonzero(is_moved)
    batch = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(rows.first))
    group = np.repeat(plan.run_group, run_stop - plan.run_row)
    found = Intervals(
        start.take(moved), rows.t.take(moved), delta.take(moved, axis=1), batch.take(moved), group.take(moved)
    )
    return found, np.logical_or.reduceat(is_moved, plan.run_row) if len(plan.run_row) else is_moved


def _layout(rows: Rows, plan: Plan, run_stop: Ints, edges: Ints, has_work: Flags) -> Layout:
    """Lay out the buckets of the label runs that have work."""
    is_first = np.zeros(len(rows.t), dtype=np.bool_)
    is_first[rows.first[:-1]] = True
    start = rows.t[plan.run_row - 1]
    start[is_first[plan.run_row]] = plan.start
    start, stop = start[has_work], rows.t[run_stop[has_work] - 1]
    low = first_bucket(edges, start)
    return layout_of(
        plan.run_group[has_work], low, np.maximum(last_bucket(edges, stop), low), len(plan.groups)
    )


def _closed(plan: Plan, edges: Ints, layout: Layout, bounds: tuple[int, int]) -> tuple[Ints, Ints]:
    """Give, per group, the first and the last edge between which nothing of another partition happens."""
    stop = layout.first + np.diff(layout.offset)
    begin, end = np.maximum(plan.free_from, bounds[0]), np.minimum(plan.free_until, bounds[1])
    first = np.maximum(np.searchsorted(edges, begin), np.maximum(layout.first, 1))
    last = np.minimum(np.searchsorted(edges, end, side="right") - 1, np.minimum(stop, len(edges) - 2))
    closed = last > first
    # An index may lie beyond all edges where nothing is closed.
    first, last = np.where(closed, first, 0), np.where(closed, last, 0)
    return np.where(closed, edges[first], BEYOND), np.where(closed, edges[last], -BEYOND)
