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
    from collections.abc import Iterable
    from concurrent.futures import Executor


# Intervals spread at a time: temporary arrays of some megabytes, and little to do per piece.
_CHUNK = 1 << 17


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
    sums, leads, spans = _spread_leads(known, edges, layout)
    observed, unobserved = _active(known, edges, layout, source.as_of)
    n_batches = np.zeros(layout.size, dtype=np.int64)
    work = Work(known.groups, edges, layout, sums, n_batches, observed, unobserved)
    bucket = layout.buckets()
    # What crosses days is known beforehand, and joins the day that makes its bucket final.
    order = np.argsort(bucket[leads.place], kind="stable")
    leads = leads.take(order)
    lead_bucket = bucket[leads.place]
    waiting, lead_at, final = no_cells(), 0, 0
    covered = _covering(spans, layout.size)
    for day, part in enumerate(ordered_map(read_work, _tasks(source, edges), source.executor)):
        places = places_in(part.groups, part.layout, layout)
        sums[:, places] += part.sums
        batch = known.batch[known.offset[day] : known.offset[day + 1]]
        cells = Cells(batch[part.cells.batch], places[part.cells.place], part.cells.work)
        if len(part.spans.first):
            # A group's buckets stand side by side in both layouts: a range stays a range.
            first = places[part.spans.first]
            stop = first + part.spans.stop - part.spans.first
            more = Spans(batch[part.spans.batch], first, stop, part.spans.pace)
            covered += _covering(more, layout.size)
            spans = _join_spans(spans, more)
        was_final, final = final, _final(source, day, edges)
        lead_stop = int(np.searchsorted(lead_bucket, final))
        cells = join(waiting, cells, leads.take(slice(lead_at, lead_stop)))
        lead_at = lead_stop
        is_final = bucket[cells.place] < final
        waiting, cells = cells.take(~is_final), merge(cells.take(is_final), layout.size)
        n_batches += np.bincount(cells.place, minlength=layout.size)
        if consume is not None:
            consume(work, (bucket >= was_final) & (bucket < final), cells, spans)
            if len(spans.first):
                spans = spans.take(bucket[spans.stop - 1] >= final)
    n_batches += covered
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


def read_work(
    source: Partition | Rows, as_of: int | None, run_row: Ints, run_group: Ints, edges: Ints
) -> DayWork:
    """Read one partition and spread what happened between its observations.

    Parameters
    ----------
    source : Partition or Rows
    as_of : int or None
    run_row, run_group : int64 arrays, shape (r,)
        Row at which each label run starts, and its group.
    edges : int64 array
        All edges, with guards.
    """
    rows = source if isinstance(source, Rows) else rows_of(source.read(BARE_COLUMNS), as_of=as_of, labels=())
    groups, run_group = np.unique(run_group, return_inverse=True)
    lengths = np.diff(np.append(run_row, len(rows.t)))
    is_later = np.ones(len(rows.t), dtype=np.bool_)
    is_later[rows.first[:-1]] = False
    delta = np.diff(rows.counts, axis=1, prepend=0)
    moved = np.flatnonzero(is_later & (delta != 0).any(axis=0))
    batch = np.repeat(np.arange(len(rows.ids)), np.diff(rows.first))
    intervals = Intervals(
        start=rows.t[moved - 1],
        end=rows.t[moved],
        delta=delta[:, moved],
        batch=batch[moved],
        group=np.repeat(run_group, lengths)[moved],
    )
    layout = layout_of(
        intervals.group,
        first_bucket(edges, intervals.start),
        last_bucket(edges, intervals.end),
        len(groups),
    )
    sums, cells, spans = spread(intervals, edges, layout)
    return DayWork(groups, layout, sums, cells, spans)


def _tasks(source: Source, edges: Ints) -> Iterable[tuple[Any, ...]]:
    for day, piece in enumerate(source.pieces):
        runs = source.stitched.day_runs(day)
        yield (
            piece,
            source.as_of,
            source.stitched.run_row[runs],
            source.stitched.run_group[runs],
            edges,
        )


def _spread_leads(known: Stitched, edges: Ints, layout: Layout) -> tuple[Floats, Cells, Spans]:
    """Spread all intervals that lead into a day, some at a time."""
    leads = _leads(known)
    sums = np.zeros((N_SUMS, layout.size))
    cells, spans = [no_cells()], [no_spans()]
    for start in range(0, len(leads.start), _CHUNK):
        which = slice(start, start + _CHUNK)
        some = Intervals(
            leads.start[which],
            leads.end[which],
            leads.delta[:, which],
            leads.batch[which],
            leads.group[which],
        )
        added, new_cells, new_spans = spread(some, edges, layout)
        sums += added
        cells.append(new_cells)
        spans.append(new_spans)
    return sums, join(*cells), _join_spans(*spans)


def _leads(known: Stitched) -> Intervals:
    """Give the intervals that lead into a day."""
    # An edge row's first run has the label of the observation that ended the interval.
    group = np.zeros(len(known.batch), dtype=np.int64)
    leading = np.append([True], known.run_edge[1:] != known.run_edge[:-1])[: len(known.run_edge)]
    group[known.run_edge[leading]] = known.run_group[leading]
    # Along each batch, so that neighbours in one bucket are added up at once.
    moved = known.order[(known.delta != 0).any(axis=0)[known.order]]
    return Intervals(
        known.start[moved], known.end[moved], known.delta[:, moved], known.batch[moved], group[moved]
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


def places_in(groups: Ints, part: Layout, layout: Layout) -> Ints:
    """Give where the places of one day, whose groups are `groups`, stand in the layout of all."""
    return layout.base(groups[part.groups()]) + part.buckets()


def _covering(spans: Spans, size: int) -> Ints:
    """How many spans cover each place."""
    change = np.bincount(spans.first, minlength=size + 1) - np.bincount(spans.stop, minlength=size + 1)
    return np.cumsum(change[:size])


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
