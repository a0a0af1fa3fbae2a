"""One partition's own work: what happened between its observations, spread over buckets.

Place in the flow: observations, edges → **day** → work. Runs wherever an executor puts it.

A day alone cannot tell everything: which label a batch had before or gets later, whether a batch was seen
before, and what happens across midnight. So it is reduced by a *guess* while its observations are in memory
anyhow: labels as the day itself tells them, batches created on the day seen for the first time, and nothing
settled that an interval into another day may touch. When its neighbours are known, `between` checks all that,
and only a day of which it was wrong is read again, by what is then *known*.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.flow.allocate import (
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
from safetykit_analytics.flow.arrays import NEVER, Flags, Floats, Ints
from safetykit_analytics.flow.calendar import DAY_US
from safetykit_analytics.flow.edges import Edges, creation, edges_of
from safetykit_analytics.flow.labels import fill, groups_of
from safetykit_analytics.flow.observations import BARE_COLUMNS, EDGE_COLUMNS, Label, Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition
from safetykit_analytics.flow.places import BEYOND, Layout, first_bucket, last_bucket, layout_of

if TYPE_CHECKING:
    from safetykit_analytics.flow.partitions import Partition

# Rows that are spread at a time: their arrays stay in the cache of one core.
_BLOCK = 1 << 15

#: From the first and the last instant of interest to bucket edges, with guards.
Calendar = Callable[[int, int], Ints]
#: What is made of the work of single batches once all that falls into a bucket is known: from sums of shape
#: (9, k), and a function that gives the batches of some of these k places, to arrays of length k.
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


def settle_nothing(sums: Floats, batches: Callable[[Flags], Cells]) -> dict[str, Any]:  # noqa: ARG001 -- a Settle
    """Make nothing of the work of single batches."""
    return {}


def settled_at(  # noqa: PLR0917 -- what the places are, and all that is there
    settle: Settle, places: Ints, sums: Floats, cells: Cells, spans: Spans, bucket_length: Ints
) -> dict[str, Any]:
    """Settle some places of which all is known."""

    def batches(wanted: Flags) -> Cells:
        chosen = np.zeros(len(bucket_length), dtype=np.bool_)
        chosen[places[wanted]] = True
        return clusters(cells, spans, chosen, bucket_length)

    return settle(sums[:, places], batches)


def read_day(piece: Partition, how: How) -> tuple[Edges, DayWork]:
    """Read one partition and reduce it to its edges and, by a guess, to its work."""
    table = piece.read((*EDGE_COLUMNS, *how.labels))
    rows = rows_of(table, as_of=how.as_of, labels=how.labels, is_sorted=True)
    edges = edges_of(rows)
    # What was decoded is not needed any more, and takes more room than the rest.
    del table
    rows = replace(rows, table=None)
    bounds = bounds_of(piece)
    plan, guessed = _guess(rows, edges, how.labels, bounds[0])
    return edges, _work(rows, plan, how, bounds, guessed)


def read_again(source: Partition | Rows, plan: Plan, how: How) -> DayWork:
    """Read one partition and reduce it to its work by what is known of it."""
    bounds = bounds_of(source)
    if not isinstance(source, Rows):
        source = rows_of(source.read(BARE_COLUMNS), as_of=how.as_of, labels=(), is_sorted=True)
    return _work(source, plan, how, bounds, np.zeros(0, dtype=np.int64))


def bounds_of(piece: Partition | Rows) -> tuple[int, int]:
    """Give the instants between which a partition has all observations."""
    if isinstance(piece, (Rows, FramePartition)):
        return -BEYOND, BEYOND
    midnight = (piece.date - dt.date(1970, 1, 1)).days * DAY_US
    return midnight, midnight + DAY_US


def _guess(rows: Rows, edges: Edges, labels: tuple[str, ...], midnight: int) -> tuple[Plan, Ints]:
    """Plan by what the partition tells of itself; and list the label runs whose label is a guess."""
    created = creation(edges.created, edges.first_t)
    begin = np.minimum(created, edges.first_t)
    claimed = (created != NEVER) & (begin >= midnight)
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


def _work(rows: Rows, plan: Plan, how: How, bounds: tuple[int, int], guessed: Ints) -> DayWork:
    run_stop = np.append(plan.run_row, len(rows.t))[1:]
    moved = _moved(rows, plan)
    has_work = np.diff(np.searchsorted(moved, np.append(plan.run_row, len(rows.t)))) > 0
    unsure = guessed[has_work[guessed]]

    edges = how.calendar(int(plan.start.min(initial=BEYOND)), int(rows.t.max(initial=-BEYOND)))
    layout = _layout(rows, plan, run_stop, edges, has_work)
    bucket, group = layout.buckets(), layout.groups()
    sums, cells, spans = _spread(rows, plan, moved, edges, layout)
    if len(plan.run_row) > len(plan.start):
        cells = merge(cells, layout.size)

    closed_from, closed_until = _closed(plan, edges, layout, bounds)
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
        closed=closed,
        settled=settled_at(how.settle, np.flatnonzero(closed), sums, cells, spans, np.diff(edges)[bucket]),
        cells=cells.take(np.flatnonzero(is_open[cells.place])),
        spans=spans.take(before[spans.stop] > before[spans.first]),
        claimed=plan.claimed,
        unsure_run=unsure,
        unsure_group=plan.run_group[unsure],
        closed_from=closed_from,
        closed_until=closed_until,
    )


def _moved(rows: Rows, plan: Plan) -> Ints:
    """Give the rows at which a counter differs from the row before; a batch's first if it is claimed."""
    first = rows.first[:-1]
    differs = np.zeros(len(rows.t), dtype=np.bool_)
    for counts in rows.counts:
        differs[1:] |= counts[1:] != counts[:-1]
    differs[first] = plan.claimed & (rows.counts[:, first] != 0).any(axis=0)
    return np.flatnonzero(differs)


def _spread(rows: Rows, plan: Plan, moved: Ints, edges: Ints, layout: Layout) -> tuple[Floats, Cells, Spans]:
    """Spread what happened up to each of some rows, some batches at a time."""
    first = rows.first[:-1]
    is_first = np.zeros(len(rows.t), dtype=np.bool_)
    is_first[first] = True
    batch: Ints = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(rows.first))
    run = np.repeat(
        np.arange(len(plan.run_row), dtype=np.int32), np.diff(np.append(plan.run_row, len(rows.t)))
    )
    # Between two blocks a batch ends.
    cuts = rows.first[np.searchsorted(rows.first, np.arange(_BLOCK, len(rows.t), _BLOCK))]
    sums, all_cells, all_spans = None, [], []
    for block in np.split(moved, np.searchsorted(moved, np.unique(cuts))):
        start, delta = rows.t[block - 1], rows.counts[:, block] - rows.counts[:, block - 1]
        leads = np.flatnonzero(is_first[block])
        start[leads] = plan.start[batch[block[leads]]]
        delta[:, leads] = rows.counts[:, block[leads]]
        intervals = Intervals(start, rows.t[block], delta, batch[block], plan.run_group[run[block]])
        some, cells, spans = spread(intervals, edges, layout)
        sums = some if sums is None else sums + some
        all_cells.append(cells)
        all_spans.append(spans)
    assert sums is not None
    if len(all_cells) == 1:
        return sums, all_cells[0], all_spans[0]
    return sums, join(all_cells), join_spans(all_spans)


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
