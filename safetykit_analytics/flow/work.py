"""Second pass: the work of every day, put together with what crosses days.

Place in the flow: stitch, allocate → **work** → rates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.flow.allocate import (
    N_SUMS,
    Cells,
    Intervals,
    Layout,
    Spans,
    add_time,
    first_bucket,
    last_bucket,
    layout_of,
    merge,
    spread,
    touched,
    with_guards,
)
from safetykit_analytics.flow.arrays import NEVER, Flags, Floats, Ints, expand
from safetykit_analytics.flow.calendar import DAY_US, from_us
from safetykit_analytics.flow.edges import Edges, read_edges
from safetykit_analytics.flow.observations import BARE_COLUMNS, Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition, Partition, list_partitions, ordered_map
from safetykit_analytics.flow.stitch import Stitched, stitch
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor


@dataclass(frozen=True)
class Source:
    """Observations, opened: their partitions and the first pass over them.

    Attributes
    ----------
    pieces : list of Partition or Rows
    as_of : int or None
        Microseconds since 1970, UTC: the last observation, unless one was given; None without observations.
    stitched : Stitched
    parts : list of Edges
        Kept if the source was opened with its state.
    weights : float64 array
        Absolute work by length of interval, within days; see `Edges`.
    executor : Executor or None
    """

    pieces: list[Partition | Rows]
    as_of: int | None
    stitched: Stitched
    parts: list[Edges]
    weights: Floats
    executor: Executor | None


@dataclass(frozen=True)
class DayWork:
    """What happened between the observations of one partition; places are those of its own layout."""

    groups: Ints
    layout: Layout
    sums: Floats
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
    """

    groups: list[tuple[str | None, ...]]
    edges: Ints
    layout: Layout
    sums: Floats
    n_batches: Ints
    observed: Ints
    unobserved: Ints


#: What is done with the work of each batch once all that falls into a bucket is known: it is given the work,
#: the places that have become final, and what batches did in and after them.
Consumer = Callable[["Work", Flags, Cells, Spans], None]


def open_source(
    observations: Any,
    *,
    labels: tuple[str, ...],
    as_of: int | None,
    executor: Executor | None,
    lengths: tuple[int, ...] = (),
    state: bool = False,
) -> Source:
    """List the partitions and make the first pass over them."""
    pieces: list[Partition | Rows] = []
    for partition in list_partitions(observations, None if as_of is None else from_us(as_of).date()):
        if isinstance(partition, FramePartition):
            # In memory already: sorted once, for both passes, and nothing for an executor to fetch.
            pieces.append(rows_of(partition.table, as_of=as_of, labels=labels))
            executor = None
        else:
            pieces.append(partition)
    if not pieces:
        pieces.append(rows_of(OBSERVATION_SCHEMA.empty_table(), labels=labels))
    parts = list(
        ordered_map(read_edges, ((piece, as_of, labels, lengths, state) for piece in pieces), executor)
    )
    if as_of is None:
        as_of = max((int(part.last_t.max()) for part in parts if len(part.last_t)), default=None)
    weights = np.sum([part.weights for part in parts], axis=0)
    return Source(pieces, as_of, stitch(parts, labels, keep=state), parts, weights, executor)


def work_of(source: Source, edges: Ints, consume: Consumer | None = None) -> Work:
    """Make the second pass: spread all work over buckets.

    Parameters
    ----------
    source : Source
    edges : int64 array
        Bucket edges, ascending, without guards.
    consume : function, optional
        Called in time order, each place being final in exactly one call. The work of single batches is
        kept only until then, so that memory holds some days of it and not all.
    """
    known = source.stitched
    edges = with_guards(edges)
    run_first = first_bucket(edges, known.run_start)
    layout = layout_of(
        known.run_group,
        run_first,
        np.maximum(last_bucket(edges, known.run_end), run_first),
        len(known.groups),
    )
    observed, unobserved = _active(known, edges, layout, source.as_of)
    sums = np.zeros((N_SUMS, layout.size))
    n_batches = np.zeros(layout.size, dtype=np.int64)
    work = Work(known.groups, edges, layout, sums, n_batches, observed, unobserved)
    bucket = layout.buckets()
    waiting, spans = no_cells(), no_spans()
    covered = np.zeros(layout.size + 1, dtype=np.int64)
    finals = [0, *(_final(source, day, edges) for day in range(len(source.pieces)))]
    for day, part in enumerate(ordered_map(read_work, _tasks(source, edges, finals), source.executor)):
        places = places_in(part.groups, part.layout, layout)
        sums[:, places] += part.sums
        if len(part.spans.first):
            # A group's buckets stand side by side in both layouts: a range stays a range.
            first = places[part.spans.first]
            stop = first + part.spans.stop - part.spans.first
            covered += np.bincount(first, minlength=len(covered)) - np.bincount(stop, minlength=len(covered))
            spans = _join_spans(spans, Spans(part.spans.batch, first, stop, part.spans.pace))
        was_final, final = finals[day : day + 2]
        cells = Cells(part.cells.batch, places[part.cells.place], part.cells.work)
        is_final = bucket[cells.place] < final
        if len(waiting.place) or not is_final.all():
            cells = join(waiting, cells)
            is_final = bucket[cells.place] < final
            waiting, cells = cells.take(~is_final), merge(cells.take(is_final), layout.size)
        n_batches += np.bincount(cells.place, minlength=layout.size)
        if consume is not None:
            consume(work, (bucket >= was_final) & (bucket < final), cells, spans)
            if len(spans.first):
                spans = spans.take(bucket[spans.stop - 1] >= final)
    n_batches += np.cumsum(covered[:-1])
    return work


def _final(source: Source, day: int, edges: Ints) -> int:
    """Give the bucket before which nothing can change once a day is added."""
    if day + 1 >= len(source.pieces):
        return len(edges)
    following = source.pieces[day + 1]
    assert not isinstance(following, Rows)
    midnight = (following.date - dt.date(1970, 1, 1)).days * DAY_US
    return int(np.searchsorted(edges, midnight, side="right")) - 1


def no_cells() -> Cells:
    """Give an empty collection of cells."""
    none = np.zeros(0, dtype=np.int64)
    return Cells(none, none, np.zeros((3, 0)))


def no_spans() -> Spans:
    """Give an empty collection of spans."""
    none = np.zeros(0, dtype=np.int64)
    return Spans(none, none, none, np.zeros((3, 0)))


def join(*some: Cells) -> Cells:
    """Put cells end to end."""
    return Cells(
        np.concatenate([cells.batch for cells in some]),
        np.concatenate([cells.place for cells in some]),
        np.concatenate([cells.work for cells in some], axis=1),
    )


def _join_spans(*some: Spans) -> Spans:
    return Spans(
        np.concatenate([spans.batch for spans in some]),
        np.concatenate([spans.first for spans in some]),
        np.concatenate([spans.stop for spans in some]),
        np.concatenate([spans.pace for spans in some], axis=1),
    )


@dataclass(frozen=True)
class DayTask:
    """What is known of one partition beforehand: an executor carries it to whoever reads the day.

    Attributes
    ----------
    as_of : int or None
    run_row, run_group : integer arrays, shape (r,)
        Row at which each label run starts, and its group.
    batch : integer array, shape (m,)
        Numbers of the batches of the day, in the order of their rows.
    start : int64 array, shape (m,)
    delta : integer array, shape (3, m)
        The interval that leads into the day: where it starts, what the counters grew by.
    out : Intervals
        Those that start in buckets of this day and lead into later ones.
    out_stop : int64 array
        The bucket before which each of them is this day's.
    begin : int
        The first bucket that is not final before this day.
    """

    as_of: int | None
    run_row: Ints
    run_group: Ints
    batch: Ints
    start: Ints
    delta: Ints
    out: Intervals
    out_stop: Ints
    begin: int


def read_work(source: Partition | Rows, task: DayTask, edges: Ints) -> DayWork:
    """Read one partition and spread what happened up to each of its observations."""
    rows = (
        source
        if isinstance(source, Rows)
        else rows_of(source.read(BARE_COLUMNS), as_of=task.as_of, labels=())
    )
    first, n = rows.first[:-1], len(rows.t)
    start = np.empty(n, dtype=np.int64)
    start[1:], start[first] = rows.t[:-1], task.start
    delta = np.diff(rows.counts, axis=1, prepend=0)
    delta[:, first] = task.delta
    moved = np.flatnonzero((delta[0] != 0) | (delta[1] != 0) | (delta[2] != 0))
    owner = np.repeat(np.arange(len(first)), np.diff(rows.first))
    out = task.out
    groups, places = np.unique(np.append(task.run_group, out.group), return_inverse=True)
    group = np.repeat(places[: len(task.run_row)], np.diff(np.append(task.run_row, n)))
    intervals = Intervals(
        start=np.concatenate([start[moved], out.start]),
        end=np.concatenate([rows.t[moved], out.end]),
        delta=np.concatenate([delta[:, moved], out.delta], axis=1),
        batch=np.concatenate([task.batch[owner[moved]], out.batch]),
        group=np.concatenate([group[moved], places[len(task.run_row) :]]),
    )
    begin = np.repeat([task.begin, 0], [len(moved), len(out.start)])
    stop = np.concatenate([np.full(len(moved), len(edges)), task.out_stop])
    low, high = touched(intervals, edges)
    mine = high >= begin
    if not mine.all():
        # What ends on the edge at which this day's buckets begin is nothing of theirs.
        intervals, begin, stop, low, high = (
            intervals.take(mine),
            begin[mine],
            stop[mine],
            low[mine],
            high[mine],
        )
    layout = layout_of(intervals.group, np.maximum(low, begin), np.minimum(high, stop - 1), len(groups))
    sums, cells, spans = spread(intervals, edges, layout, (begin, stop))
    if len(out.start) or len(task.run_row) > len(first):
        cells = merge(cells, layout.size)
    return DayWork(groups, layout, sums, cells, spans)


def _tasks(source: Source, edges: Ints, finals: list[int]) -> Iterator[tuple[Any, ...]]:
    known = source.stitched
    out, stops, bounds = _leads_out(known, edges, finals)
    for day, piece in enumerate(source.pieces):
        runs, here = known.day_runs(day), slice(known.offset[day], known.offset[day + 1])
        leaving = slice(bounds[day], bounds[day + 1])
        yield (
            piece,
            DayTask(
                as_of=source.as_of,
                run_row=known.run_row[runs],
                run_group=known.run_group[runs],
                batch=known.batch[here],
                start=known.start[here],
                delta=known.delta[:, here],
                out=out.take(leaving),
                out_stop=stops[leaving],
                begin=finals[day],
            ),
            edges,
        )


def _leads_out(known: Stitched, edges: Ints, finals: list[int]) -> tuple[Intervals, Ints, list[int]]:
    """Give the intervals that begin in buckets which are final before the day that they lead into.

    Returns
    -------
    intervals : Intervals
        In the order of the days to which they are given.
    stop : int64 array
        The first bucket of the day that each leads into.
    bounds : list of int, one more than days
        Which are whose.
    """
    begin = np.repeat(np.array(finals[:-1], dtype=np.int64), np.diff(known.offset))
    low = first_bucket(edges, known.start)
    leaves = np.flatnonzero((low < begin) & (known.delta != 0).any(axis=0))
    leaves = leaves[np.argsort(low[leaves], kind="stable")]
    # An edge row's first run has the label of the observation that ended the interval.
    lead_run = np.searchsorted(known.run_edge, leaves)
    out = Intervals(
        known.start[leaves],
        known.end[leaves],
        known.delta[:, leaves],
        known.batch[leaves],
        known.run_group[lead_run],
    )
    return out, begin[leaves], np.searchsorted(low[leaves], finals).tolist()


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


def places_in(groups: Ints, part: Layout, layout: Layout) -> Ints:
    """Give where the places of one day, whose groups are `groups`, stand in the layout of all."""
    return layout.base(groups[part.groups()]) + part.buckets()


def clusters(work: Work, wanted: Flags, cells: Cells, spans: Spans) -> Cells:
    """Give the work of each batch at the wanted places, spans written out."""
    cells = cells.take(wanted[cells.place])
    if not len(spans.first):
        return cells
    before = np.append(0, np.cumsum(wanted))
    owner, step = expand(before[spans.stop] - before[spans.first])
    place = np.flatnonzero(wanted)[before[spans.first][owner] + step]
    bucket = work.layout.buckets()[place]
    covered = spans.pace[:, owner] * (work.edges[bucket + 1] - work.edges[bucket])
    return join(cells, Cells(spans.batch[owner], place, covered))
