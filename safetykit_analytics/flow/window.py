"""The work of partitions that follow one another, each by its own work and by what leads into it.

Place in the flow: day, between → **window** → work, moving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.calendar import BEYOND
from safetykit_analytics.flow.allocate import (
    Cells,
    Spans,
    covering,
    join,
    join_spans,
    merge,
    spread,
)
from safetykit_analytics.flow.between import Links, Window, untouched
from safetykit_analytics.flow.day import Calendar, DayWork, How, Plan, Settle, read_again, settled_at
from safetykit_analytics.flow.edges import active_until
from safetykit_analytics.flow.partitions import ordered_map
from safetykit_analytics.flow.places import Layout, add_time, first_bucket, last_bucket, layout_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from safetykit_analytics.arrays import Flags, Floats, Ints
    from safetykit_analytics.flow.stitch import Stitched


@dataclass(frozen=True)
class Part:
    """Work by group and bucket, some of which may still grow; arrays have one element per place.

    Attributes
    ----------
    groups : list of tuples
    edges : int64 array
        With guards.
    layout : Layout
    sums : float64 array, shape (9, places)
    n_batches : int64 array
        Without those of `cells`.
    observed : int64 array
        Microseconds in which batches were active, up to their last observation.
    closed : bool array
        Nothing more can happen there, and it is settled.
    settled : list of pairs of places and dict of arrays
        What was made of the batches of places that have just been closed.
    cells, spans : Cells, Spans
        Of places that are not closed.
    """

    groups: list[tuple[str | None, ...]]
    edges: Ints
    layout: Layout
    sums: Floats
    n_batches: Ints
    observed: Ints
    closed: Flags
    settled: list[tuple[Ints, dict[str, Any]]]
    cells: Cells
    spans: Spans


@dataclass(frozen=True)
class Work:
    """All work by group and bucket; arrays have one element per place of `layout`.

    Attributes
    ----------
    groups : list of tuples
        Names, in the order of `by`.
    edges : int64 array
        With a guard on each side: the first and the last bucket are whatever is outside.
    layout : Layout
    sums : float64, shape (9, places)
        See `allocate.spread`.
    n_batches : int64
        Distinct batches with a non-zero increment.
    observed, unobserved : int64
        Microseconds in which batches were active, up to their last observation and after it.
    settled : dict of arrays
        What was asked to be made of the batches of each place; of no meaning outside of the calendar.
    cells, spans : Cells, Spans
        The work of each batch, if it was asked for.
    """

    groups: list[tuple[str | None, ...]]
    edges: Ints
    layout: Layout
    sums: Floats
    n_batches: Ints
    observed: Ints
    unobserved: Ints
    settled: dict[str, Any]
    cells: Cells
    spans: Spans


def work_in(
    window: Window,
    days: range,
    how: How,
    *,
    executor: Executor | None,
    links: Links,
    waiting: Part | None = None,
    keep_batches: bool = False,
) -> Part:
    """Put together the work that ends with an observation of some of the days.

    Parameters
    ----------
    window : Window
    days : range
        Those that are to be added. What happened before them is in `waiting`, as far as it can still grow.
    how : How
    executor : Executor or None
        Where days are read again of which the guess was wrong.
    links : Links
    waiting : Part, optional
        Its batches have the numbers that they have in the window.
    keep_batches : bool
        Give the work of each batch, also where nothing more can happen.
    """
    known, between = window.known, links.between
    plans = _plans(window, days, links)
    if keep_batches:
        for plan in plans.values():
            plan.free_from[:] = BEYOND
    guessed = [window.days[day] for day in days if day not in plans]
    others = [part for part in (waiting, *guessed) if part is not None]
    # What is not stitched has groups of which only its day knows.
    groups = list(dict.fromkeys([*known.groups, *(names for part in others for names in part.groups)]))
    runs = _runs(known, days)
    edges, layout = _layout(known, runs, how.calendar, groups, others)
    mine = np.flatnonzero((between.to_day >= days.start) & (between.to_day < days.stop))
    sums, cells, spans = spread(between.intervals.take(mine), edges, layout)
    n_batches, closed = covering(spans, layout.size), np.zeros(layout.size, dtype=np.bool_)
    observed = np.zeros(layout.size, dtype=np.int64)
    all_cells, all_spans = [cells], [spans]
    settled: list[tuple[Ints, dict[str, Any]]] = []

    def add(part: DayWork | Part, number: Ints) -> Ints:
        places = places_in(part, groups, edges, layout)
        sums[:, places] += part.sums
        n_batches[places] += part.n_batches
        observed[places] += part.observed
        closed[places] |= part.closed
        batch = numbered(part.cells.batch, number)
        all_cells.append(Cells(batch, places[part.cells.place], part.cells.work))
        if len(part.spans.first):
            # A group's buckets stand side by side in both layouts: a range stays a range.
            first = places[part.spans.first]
            stop = first + part.spans.stop - part.spans.first
            all_spans.append(Spans(numbered(part.spans.batch, number), first, stop, part.spans.pace))
        return places

    if waiting is not None:
        add(waiting, known.batch[:0])
    tasks = ((window.pieces[day], plan, how) for day, plan in plans.items())
    again = ordered_map(read_again, tasks, executor)
    timed = [np.zeros(0, dtype=np.bool_)]
    for day in days:
        part = next(again) if day in plans else window.days[day]
        assert part is not None
        places = add(part, known.batch[known.offset[day] : known.offset[day + 1]])
        settled.append((places[part.closed], part.settled))
        timed.append(part.timed)
    rest = np.flatnonzero(~np.concatenate(timed)) + runs.start
    observed += _observed(known, rest, edges, layout)
    cells = merge(join(all_cells), layout.size)
    return Part(
        groups=groups,
        edges=edges,
        layout=layout,
        sums=sums,
        n_batches=n_batches,
        observed=observed,
        closed=closed,
        settled=settled,
        cells=cells,
        spans=join_spans(all_spans),
    )


def settle_at(part: Part | Work, places: Ints, settle: Settle) -> tuple[Ints, dict[str, Any]]:
    """Settle some places of which all is known."""
    length = np.diff(part.edges)[part.layout.buckets()]
    return places, settled_at(settle, places, part.sums, part.cells, part.spans, length)


def places_in(
    part: DayWork | Part, groups: list[tuple[str | None, ...]], edges: Ints, layout: Layout
) -> Ints:
    """Give where the places of one layout stand in another that holds them."""
    group, bucket = _groups_and_buckets(part, groups, edges)
    return layout.base(group) + bucket


def _groups_and_buckets(
    part: DayWork | Part, groups: list[tuple[str | None, ...]], edges: Ints
) -> tuple[Ints, Ints]:
    """Say of the places of a layout which group and bucket they are among others."""
    number = {names: group for group, names in enumerate(groups)}
    group = np.array([number[names] for names in part.groups], dtype=np.int64)
    bucket = np.searchsorted(edges, part.edges[:-1], side="right") - 1
    return group[part.layout.groups()], bucket[part.layout.buckets()]


def _runs(known: Stitched, days: range) -> slice:
    return slice(known.day_runs(days.start).start, known.day_runs(days.stop - 1).stop)


def _layout(
    known: Stitched,
    runs: slice,
    calendar: Calendar,
    groups: list[tuple[str | None, ...]],
    others: Sequence[DayWork | Part],
) -> tuple[Ints, Layout]:
    """Lay out all that some label runs touch, and what has a layout of its own."""
    start, end, group = known.run_start[runs], known.run_end[runs], known.run_group[runs]
    first, last = int(start.min(initial=BEYOND)), int(end.max(initial=-BEYOND))
    for part in others:
        inner = part.edges[1:-1]
        first, last = min(first, int(inner.min(initial=first))), max(last, int(inner.max(initial=last)))
    edges = calendar(first, last)
    low = first_bucket(edges, start)
    high = np.maximum(last_bucket(edges, end), low)
    placed = [_groups_and_buckets(part, groups, edges) for part in others]
    bucket = [bucket for _, bucket in placed]
    group = np.concatenate([group, *(group for group, _ in placed)])
    return edges, layout_of(
        group, np.concatenate([low, *bucket]), np.concatenate([high, *bucket]), len(groups)
    )


def numbered(own: Ints, number: Ints) -> Ints:
    """Give batches the numbers that they have elsewhere; those below zero keep theirs."""
    if not len(number):
        return own
    return np.where(own < 0, own, number[np.maximum(own, 0)])


def _plans(window: Window, days: range, links: Links) -> dict[int, Plan]:
    """Say what is known of the days that must be read again."""
    if not links.wrong[days.start : days.stop].any():
        return {}
    free_from, free_until = untouched(window, links.between)
    return {
        day: _plan(window.known, day, links.claimed, free_from[day], free_until[day])
        for day in days
        if links.wrong[day]
    }


def _plan(known: Stitched, day: int, claimed: Flags, free_from: Ints, free_until: Ints) -> Plan:
    """Say what is known of a partition."""
    runs, here = known.day_runs(day), slice(known.offset[day], known.offset[day + 1])
    occurs = np.zeros(len(known.groups), dtype=np.bool_)
    occurs[known.run_group[runs]] = True
    group = np.flatnonzero(occurs)
    edge = known.run_edge[runs]
    return Plan(
        groups=[known.groups[number] for number in group.tolist()],
        run_row=known.run_row[runs],
        run_group=(np.cumsum(occurs) - 1)[known.run_group[runs]],
        run_until=np.where(claimed[edge], active_until(known.first_terminal[edge]), -BEYOND),
        claimed=claimed[here],
        start=np.where(claimed, known.start, known.end)[here],
        free_from=free_from[group],
        free_until=free_until[group],
    )


def _observed(known: Stitched, runs: Ints, edges: Ints, layout: Layout) -> Ints:
    """Sum the time in which batches were active in some label runs, up to their last observation."""
    edge, start, stop = known.run_edge[runs], known.run_start[runs], known.run_end[runs]
    stop = np.minimum(stop, active_until(known.first_terminal[edge]))
    stop = np.where(known.settled[edge], start, stop)
    return add_time(start, stop, known.run_group[runs], edges, layout)


def unobserved_time(
    known: Stitched, edges: Ints, layout: Layout, as_of: int | None, number: Ints | None = None
) -> Ints:
    """Sum the time in which batches were active after their last observation.

    Groups have the numbers of `known` in the layout, or those in `number`, -1 for none.
    """
    last_group = np.zeros(len(known.batch), dtype=np.int64)
    last_group[known.run_edge] = known.run_group if number is None else number[known.run_group]
    still = known.last_row[~known.is_terminal]
    still = still[last_group[still] >= 0]
    stop = np.full(len(still), as_of or 0)
    return add_time(known.last_t[still], stop, last_group[still], edges, layout)


def by_place(settled: list[tuple[Ints, dict[str, Any]]], n_places: int) -> dict[str, Any]:
    """Put what was settled here and there into the order of the places."""
    order = np.empty(n_places, dtype=np.int64)
    order[np.concatenate([places for places, _ in settled])] = np.arange(n_places)
    return {name: np.concatenate([values[name] for _, values in settled])[order] for name in settled[-1][1]}
