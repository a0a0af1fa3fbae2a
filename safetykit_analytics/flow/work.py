"""The work of every day, put together with what crosses days.

Place in the flow: stitch, day → **work** → rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.flow.allocate import (
    Cells,
    Spans,
    clusters,
    covering,
    join,
    join_spans,
    merge,
    spread,
)
from safetykit_analytics.flow.arrays import NEVER, Flags, Floats, Ints
from safetykit_analytics.flow.between import Between, between_days, untouched, wrong_guesses
from safetykit_analytics.flow.calendar import from_us
from safetykit_analytics.flow.day import Calendar, DayWork, Plan, Settle, bounds_of, read_again, read_day
from safetykit_analytics.flow.edges import Edges, read_edges
from safetykit_analytics.flow.observations import Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition, Partition, list_partitions, ordered_map
from safetykit_analytics.flow.places import BEYOND, Layout, add_time, first_bucket, last_bucket, layout_of
from safetykit_analytics.flow.stitch import Stitched, stitch
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor


@dataclass(frozen=True)
class Source:
    """Observations, opened: their partitions and what a first visit to each has told.

    Attributes
    ----------
    pieces : list of Partition or Rows
    as_of : int or None
        Microseconds since 1970, UTC: the last observation, unless one was given; None without observations.
    stitched : Stitched
    parts : list of Edges
        Kept if the source was opened with its state.
    days : list of DayWork
        The work of each piece by a guess; empty if none was asked for.
    weights : float64 array
        Absolute work by length of interval, within days; see `Edges`.
    executor : Executor or None
    """

    pieces: list[Partition | Rows]
    as_of: int | None
    stitched: Stitched
    parts: list[Edges]
    days: list[DayWork]
    weights: Floats
    executor: Executor | None


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


def open_source(
    observations: Any,
    *,
    labels: tuple[str, ...],
    as_of: int | None,
    executor: Executor | None,
    lengths: tuple[int, ...] = (),
    state: bool = False,
    calendar: Calendar | None = None,
    settle: Settle | None = None,
) -> Source:
    """List the partitions and visit each once.

    With a calendar and a way to settle, what is in memory is also reduced to work at that visit.
    """
    pieces: list[Partition | Rows] = []
    for partition in list_partitions(observations, None if as_of is None else from_us(as_of).date()):
        if isinstance(partition, FramePartition):
            # In memory already: sorted once, for all visits, and nothing for an executor to fetch.
            pieces.append(rows_of(partition.table, as_of=as_of, labels=labels))
            executor = calendar = None
        else:
            pieces.append(partition)
    if not pieces:
        pieces.append(rows_of(OBSERVATION_SCHEMA.empty_table(), labels=labels))
        calendar = None
    days: list[DayWork] = []
    if calendar is None:
        tasks = ((piece, as_of, labels, lengths, state) for piece in pieces)
        parts = list(ordered_map(read_edges, tasks, executor))
    else:
        parts = []
        tasks = ((piece, as_of, labels, calendar, settle) for piece in pieces)
        for edges, work in ordered_map(read_day, tasks, executor):
            parts.append(edges)
            days.append(work)
    if as_of is None:
        as_of = max((int(part.last_t.max()) for part in parts if len(part.last_t)), default=None)
    weights = np.sum([part.weights for part in parts], axis=0)
    return Source(pieces, as_of, stitch(parts, labels, keep=state), parts, days, weights, executor)


def work_of(
    source: Source, calendar: Calendar, *, settle: Settle | None = None, keep_batches: bool = False
) -> Work:
    """Put all work together.

    Parameters
    ----------
    source : Source
        If it was opened with a calendar and a way to settle, then with these.
    calendar : Calendar
    settle : Settle, optional
    keep_batches : bool
        Give the work of each batch.
    """
    known = source.stitched
    edges = calendar(int(known.run_start.min(initial=BEYOND)), int(known.run_end.max(initial=-BEYOND)))
    run_first = first_bucket(edges, known.run_start)
    layout = layout_of(
        known.run_group,
        run_first,
        np.maximum(last_bucket(edges, known.run_end), run_first),
        len(known.groups),
    )
    observed, unobserved = _active(known, edges, layout, source.as_of)
    claimed, between = between_days(source)
    sums, cells, spans = spread(between.intervals, edges, layout)
    n_batches = covering(spans, layout.size)
    is_open = np.ones(layout.size, dtype=np.bool_)
    all_cells, all_spans = [cells], [spans]
    settled: list[tuple[Ints, dict[str, Any]]] = []
    days = _days(source, claimed, between, calendar, settle, keep_batches=keep_batches)
    for day, part in enumerate(days):
        places = _places(part, known.groups, edges, layout)
        sums[:, places] += part.sums
        n_batches[places] += part.n_batches
        is_open[places[part.closed]] = False
        settled.append((places[part.closed], part.settled))
        batch = known.batch[known.offset[day] : known.offset[day + 1]]
        all_cells.append(Cells(batch[part.cells.batch], places[part.cells.place], part.cells.work))
        if len(part.spans.first):
            # A group's buckets stand side by side in both layouts: a range stays a range.
            first = places[part.spans.first]
            stop = first + part.spans.stop - part.spans.first
            all_spans.append(Spans(batch[part.spans.batch], first, stop, part.spans.pace))
    cells, spans = merge(join(all_cells), layout.size), join_spans(all_spans)
    n_batches += np.bincount(cells.place, minlength=layout.size)
    if settle is not None:
        rest = np.flatnonzero(is_open)
        length = np.diff(edges)[layout.buckets()]

        def batches(wanted: Flags) -> Cells:
            chosen = np.zeros(layout.size, dtype=np.bool_)
            chosen[rest[wanted]] = True
            return clusters(cells, spans, chosen, length)

        settled.append((rest, settle(sums[:, rest], batches)))
    return Work(
        groups=known.groups,
        edges=edges,
        layout=layout,
        sums=sums,
        n_batches=n_batches,
        observed=observed,
        unobserved=unobserved,
        settled=_by_place(settled, layout.size) if settle is not None else {},
        cells=cells,
        spans=spans,
    )


def _by_place(settled: list[tuple[Ints, dict[str, Any]]], n_places: int) -> dict[str, Any]:
    """Put what was settled here and there into the order of the places."""
    order = np.empty(n_places, dtype=np.int64)
    order[np.concatenate([places for places, _ in settled])] = np.arange(n_places)
    return {name: np.concatenate([values[name] for _, values in settled])[order] for name in settled[-1][1]}


def _places(part: DayWork, groups: list[tuple[str | None, ...]], edges: Ints, layout: Layout) -> Ints:
    """Give where the places of one day stand in the layout of all."""
    number = {names: group for group, names in enumerate(groups)}
    # A group of which nobody knows has no work, and no place.
    group = np.array([number.get(names, 0) for names in part.groups], dtype=np.int64)
    bucket = np.searchsorted(edges, part.edges[:-1], side="right") - 1
    return layout.base(group[part.layout.groups()]) + bucket[part.layout.buckets()]


def _days(
    source: Source,
    claimed: Flags,
    between: Between,
    calendar: Calendar,
    settle: Settle | None,
    *,
    keep_batches: bool,
) -> Iterator[DayWork]:
    """Give the work of each partition: as guessed where the guess was right, else from a second visit."""
    wrong = wrong_guesses(source, claimed, between)
    free_from, free_until = untouched(source, between)
    if keep_batches:
        free_from[:] = BEYOND
    tasks = []
    for day in wrong:
        piece = source.pieces[day]
        plan = _plan(source.stitched, day, claimed, free_from[day], free_until[day])
        tasks.append((piece, source.as_of, plan, calendar, settle, bounds_of(piece)))
    again = ordered_map(read_again, tasks, source.executor)
    repeated = set(wrong)
    for day in range(len(source.pieces)):
        yield next(again) if day in repeated else source.days[day]


def _plan(known: Stitched, day: int, claimed: Flags, free_from: Ints, free_until: Ints) -> Plan:
    """Say what is known of a partition."""
    runs, here = known.day_runs(day), slice(known.offset[day], known.offset[day + 1])
    occurs = np.zeros(len(known.groups), dtype=np.bool_)
    occurs[known.run_group[runs]] = True
    group = np.flatnonzero(occurs)
    return Plan(
        groups=[known.groups[number] for number in group.tolist()],
        run_row=known.run_row[runs],
        run_group=(np.cumsum(occurs) - 1)[known.run_group[runs]],
        claimed=claimed[here],
        start=np.where(claimed, known.start, known.end)[here],
        free_from=free_from[group],
        free_until=free_until[group],
    )


def _active(known: Stitched, edges: Ints, layout: Layout, as_of: int | None) -> tuple[Ints, Ints]:
    """Time in which batches were active: observed, and after their last observation."""
    edge = known.run_edge
    stop = np.where(
        known.first_terminal[edge] == NEVER,
        known.run_end,
        np.minimum(known.run_end, known.first_terminal[edge]),
    )
    stop = np.where(known.settled[edge], known.run_start, stop)
    observed = add_time(known.run_start, stop, known.run_group, edges, layout)
    last_group = np.zeros(len(known.batch), dtype=np.int64)
    last_group[edge] = known.run_group
    still = known.last_row[~known.is_terminal]
    start = known.last_t[still]
    unobserved = add_time(start, np.full(len(still), as_of or 0), last_group[still], edges, layout)
    return observed, unobserved
