"""Increments spread over buckets by overlap, in array passes.

An increment touches a first and a last bucket, which get the share of its work that their overlap is of its
length, and buckets in between, which it covers whole. The first and the last are *cells*: one batch's work in
one bucket. What lies in between is added for all increments at once, by a tree of ranges that only ever adds:
a bucket without work holds an exact zero, and no share has the rounding of a running sum.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from safetykit_analytics.arrays import Flags, Floats, Ints, columns_of, expand, run_bounds, run_starts
from safetykit_analytics.flow.grid import Layout, first_bucket, last_bucket, lay_out
from safetykit_analytics.flow.increments import Increments, increments_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from safetykit_analytics.flow.observations import Rows

# Rows of the matrix of sums.
SUCCESS, ERROR, CANCELLED, LOW, HIGH, SMEARED, ABSOLUTE, MOVED, REPROCESSED = range(9)
N_SUMS = 9
# So many rows are spread at a time: their arrays are small enough to be used again, and large enough that the
# rows cost more than the calls.
_ROWS_AT_A_TIME = 40_000


@dataclass(frozen=True)
class Cells:
    """Work of one batch in one bucket and group.

    Attributes
    ----------
    batch, place : int64 arrays, shape (k,)
    work : float64 array, shape (3, k)
        success, error, cancelled.
    """

    batch: Ints
    place: Ints
    work: Floats

    def take(self, which: Ints | Flags | slice) -> Cells:
        """Return some of them."""
        return Cells(self.batch[which], self.place[which], columns_of(self.work, which))


@dataclass(frozen=True)
class Spans:
    """Intervals that cover whole buckets between their first and last.

    Attributes
    ----------
    batch, first, stop : int64 arrays, shape (k,)
        Places first ≤ i < stop are covered.
    pace : float64 array, shape (3, k)
        Work per microsecond.
    processed : int64 array, shape (k,)
        success + error of the whole interval.
    """

    batch: Ints
    first: Ints
    stop: Ints
    pace: Floats
    processed: Ints


_NOTHING = np.zeros(0, dtype=np.int64)
NO_CELLS = Cells(_NOTHING, _NOTHING, np.zeros((3, 0)))
_NO_SPANS = Spans(_NOTHING, _NOTHING, _NOTHING, np.zeros((3, 0)), _NOTHING)
_Part = TypeVar("_Part", Cells, Spans)


def spread_work(
    rows: Rows, group: Ints, edges: Ints, n_groups: int
) -> tuple[Floats, list[Cells], Spans, Layout]:
    """Spread what batches did, by the group of the run that reported it, -1 for none; see `spread`.

    Returns the layout too: each group's buckets from the first in which one of its runs begins to the last
    in which one ends.
    """
    kept = np.flatnonzero(group >= 0)
    begin, last = rows.run[:-1][kept], rows.run[1:][kept] - 1
    layout = lay_out(edges, group[kept], rows.since[begin], rows.t[last], n_groups)
    parts = (
        replace(increments, batch=increments.batch + low)
        for low, runs, part in rows.slices(_ROWS_AT_A_TIME)
        if len((increments := increments_of(part, group[runs])).batch)
    )
    return *spread(parts, edges, layout), layout


def spread(parts: Iterable[Increments], edges: Ints, layout: Layout) -> tuple[Floats, list[Cells], Spans]:
    """Spread increments, those of a batch together and in time, over the buckets that they touch.

    Returns the sums by place, float64 of shape (9, places): success, error, cancelled; the certain and the
    possible processed; processed that is smeared; |success| + |error|; |processed|; what counters went down
    by. Then the cells of the first and last buckets of each part, one for each run of equal batch, bucket and
    group; and the spans in between.
    """
    sums = np.zeros((N_SUMS, layout.size))
    cells, long = [], [_NO_SPANS]
    went_down = False
    for part in parts:
        if not went_down and part.delta.min(initial=0) < 0:
            went_down = True
            sums[[ABSOLUTE, MOVED]] = sums[SUCCESS] + sums[ERROR]
        increments, low, high = _by_bucket(part, edges, went_down=went_down)
        ends = _ends_of(increments, low, high, edges, layout)
        own = _cells(increments.batch, increments.delta, ends)
        for row, work in enumerate(own.work):
            if work.any():
                np.add.at(sums[row], own.place, work)
        _measure(sums, increments.delta, ends, went_down=went_down)
        cells.append(own)
        long.append(_spans(increments, ends))
    if not went_down:
        sums[[ABSOLUTE, MOVED]] = sums[SUCCESS] + sums[ERROR]
    spans = joined(long)
    if len(spans.first):
        _add_spans(sums, spans, np.diff(edges)[layout.buckets()])
    return sums, cells, spans


@dataclass(frozen=True)
class _Ends:
    """First and last buckets of intervals; arrays of one length.

    Attributes
    ----------
    low, high : int64
        Buckets.
    left, right : int64
        Their places.
    crosses : bool
        They differ.
    length : float64
        Of the interval in microseconds, at least 1.
    left_share, right_share : float64
        Of its work; 0 for the last bucket if that is the first.
    left_is_short, right_is_short : bool
        The bucket is shorter than the interval, which crosses its edge.
    """

    low: Ints
    high: Ints
    left: Ints
    right: Ints
    crosses: Flags
    length: Floats
    left_share: Floats
    right_share: Floats
    left_is_short: Flags
    right_is_short: Flags


def _by_bucket(increments: Increments, edges: Ints, *, went_down: bool) -> tuple[Increments, Ints, Ints]:
    """Return increments with their first and last buckets; those within one bucket added up.

    Only where no counter went down, and where at least half of them fall away: to copy fewer costs more.
    """
    low = first_bucket(edges, increments.start)
    # An instant at an edge ends before it and begins after it: it belongs after.
    high = np.maximum(last_bucket(edges, increments.end), low)
    inside = low == high
    if went_down:
        inside &= (increments.delta >= 0).all(axis=0)
    is_start = run_starts(increments.batch, increments.group, low)
    is_start[1:] |= ~(inside[1:] & inside[:-1])
    if 2 * np.count_nonzero(is_start) > len(is_start):
        return increments, low, high
    first, stop = run_bounds(is_start)
    added = Increments(
        increments.start[first],
        increments.end[stop - 1],
        np.add.reduceat(increments.delta, first, axis=1),
        increments.batch[first],
        increments.group[first],
    )
    return added, low[first], high[first]


def _ends_of(increments: Increments, low: Ints, high: Ints, edges: Ints, layout: Layout) -> _Ends:
    start, end = increments.start, increments.end
    crosses = high > low
    # An instant has all of its work in its bucket, like an interval of any other length.
    span = end - start
    np.maximum(span, 1, out=span)
    length = span.astype(np.float64)
    width, base = np.diff(edges), layout.base(increments.group)
    return _Ends(
        low=low,
        high=high,
        left=base + low,
        right=base + high,
        crosses=crosses,
        length=length,
        left_share=np.minimum(edges[1:].take(low) - start, span) / length,
        right_share=(end - edges.take(high)) * crosses / length,
        left_is_short=crosses & (span > width.take(low)),
        right_is_short=crosses & (span > width.take(high)),
    )


def _spans(increments: Increments, ends: _Ends) -> Spans:
    long = np.flatnonzero(ends.high > ends.low + 1)
    delta = increments.delta.take(long, axis=1)
    pace = delta / ends.length[long]
    return Spans(increments.batch[long], ends.left[long] + 1, ends.right[long], pace, delta[0] + delta[1])


def _cells(batch: Ints, delta: Ints, ends: _Ends) -> Cells:
    """Add up what falls into the same bucket one after the other."""
    crosses = ends.crosses
    if not len(batch):
        return Cells(batch, batch, np.zeros((3, 0)))
    # An interval begins a cell unless the one before it ended in its first bucket; if it crosses, its last
    # bucket is the next cell.
    is_new = run_starts(batch)
    is_new[1:] |= ends.left[1:] != ends.right[:-1]
    steps = is_new.astype(np.int64)
    steps[1:] += crosses[:-1]
    left: Ints = np.cumsum(steps)
    left -= 1
    right = left + crosses
    n = int(right[-1]) + 1
    place, owner = np.empty(n, dtype=np.int64), np.empty(n, dtype=batch.dtype)
    place[left], place[right] = ends.left, ends.right
    owner[left] = owner[right] = batch
    work = np.zeros((3, n))
    for own, grown in zip(work, delta, strict=True):
        if grown.any():
            np.add.at(own, left, grown * ends.left_share)
            np.add.at(own, right, grown * ends.right_share)
    return Cells(owner, place, work)


def _measure(sums: Floats, delta: Ints, ends: _Ends, *, went_down: bool) -> None:
    """Add to the bounds, the smeared work and, once a counter went down, the absolute work."""
    processed = (delta[0] + delta[1]).astype(np.float64)
    distance = np.abs(processed) if went_down else processed
    across = processed * ends.crosses
    within = np.flatnonzero(~ends.crosses)
    for row in (LOW, HIGH):
        np.add.at(sums[row], ends.left[within], processed[within])
    for place, share, is_short in (
        (ends.left, ends.left_share, ends.left_is_short),
        (ends.right, ends.right_share, ends.right_is_short),
    ):
        np.add.at(sums[HIGH], place, np.maximum(across, 0) if went_down else across)
        short = np.flatnonzero(is_short)
        np.add.at(sums[SMEARED], place[short], (distance * share)[short])
        if went_down:
            np.add.at(sums[LOW], place, np.minimum(across, 0))
            np.add.at(sums[ABSOLUTE], place, (np.abs(delta[0]) + np.abs(delta[1])) * share)
            np.add.at(sums[MOVED], place, distance * share)
            np.add.at(sums[REPROCESSED], place, np.maximum(-delta, 0).sum(axis=0) * share)


def _add_spans(sums: Floats, spans: Spans, bucket_length: Ints) -> None:
    """Add to the buckets that intervals cover whole, all of which are shorter than the interval."""
    success, error, _ = spans.pace
    distance = np.abs(success + error)
    absolute = np.abs(success) + np.abs(error)
    down = np.maximum(-spans.pace, 0.0).sum(axis=0)
    paces = np.stack([*spans.pace, distance, absolute, distance, down])
    rows = [SUCCESS, ERROR, CANCELLED, SMEARED, ABSOLUTE, MOVED, REPROCESSED]
    sums[rows] += add_ranges(paces, spans.first, spans.stop, len(bucket_length)) * bucket_length
    bounds = np.stack([np.minimum(spans.processed, 0), np.maximum(spans.processed, 0)])
    sums[LOW : HIGH + 1] += add_ranges(bounds, spans.first, spans.stop, len(bucket_length))


def merged(cells: Cells, n_places: int) -> Cells:
    """Add up the cells of the same batch and place, in a fixed order."""
    key = cells.batch.astype(np.int64) * n_places + cells.place
    order = np.argsort(key, kind="stable")
    is_start = run_starts(key[order])
    if is_start.all():
        return cells.take(order)
    begin = np.flatnonzero(is_start)
    kept = order[begin]
    work = np.add.reduceat(cells.work.take(order, axis=1), begin, axis=1)
    return Cells(cells.batch[kept], cells.place[kept], work)


def written_out(spans: Spans, bucket_length: Ints) -> Cells:
    """Return the cells that spans stand for."""
    owner, step = expand(spans.stop - spans.first)
    place = spans.first[owner] + step
    return Cells(spans.batch[owner], place, spans.pace.take(owner, axis=1) * bucket_length[place])


def covering(spans: Spans, n_places: int) -> Ints:
    """Count the spans over each place."""
    begun = np.bincount(spans.first, minlength=n_places + 1)
    over = np.bincount(spans.stop, minlength=n_places + 1)
    count: Ints = np.cumsum(begun - over)[:-1]
    return count


def joined(some: Sequence[_Part]) -> _Part:
    """Return cells, or spans, end to end."""
    names = [field.name for field in fields(some[0])]
    return type(some[0])(*(np.concatenate([getattr(one, name) for one in some], axis=-1) for name in names))


def add_ranges(values: Floats, first: Ints, stop: Ints, size: int) -> Floats:
    """Sum values over ranges of places, by additions only: value j at all places first[j] ≤ i < stop[j].

    From `values` of shape (r, k) to (r, size). A range is put together from aligned blocks of 1, 2, 4, ...
    places, at most two of each size; then blocks are added to their halves. Cost: the ranges times the
    logarithm of their length, plus `size`. A running sum of differences would leave rounding noise where
    there is nothing.
    """
    levels = []
    width = size
    while True:
        level = np.zeros((len(values), width))
        for bound, inner in ((first, first), (stop, stop - 1)):
            odd = np.flatnonzero((bound & 1 == 1) & (first < stop))
            if len(odd):
                for row, numbers in enumerate(values):
                    level[row] += np.bincount(inner[odd], weights=numbers[odd], minlength=width)
            if bound is first:
                first = first + (first & 1)
        first, stop, width = first >> 1, stop >> 1, (width + 1) >> 1
        levels.append(level)
        left = first < stop
        if not left.any():
            break
        first, stop, values = first[left], stop[left], values.take(np.flatnonzero(left), axis=1)
    total = levels.pop()
    while levels:
        level = levels.pop()
        level += np.repeat(total, 2, axis=1)[:, : level.shape[1]]
        total = level
    return total
