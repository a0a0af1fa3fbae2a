"""Intervals of work spread over buckets by overlap, in array passes.

Place in the flow: stitch → **allocate** → tables. Knows arrays only.

An interval touches a first and a last bucket, which get the share of its work that their overlap is of its
length, and buckets in between, which it covers whole. The first and the last are *cells*: one batch's work in
one bucket. What lies in between is added for all intervals at once, by a tree of ranges that only ever adds,
so that a bucket without work holds an exact zero and no share has the rounding of a running sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safetykit_analytics.flow.arrays import Flags, Floats, Ints, expand, run_starts

# Rows of the matrix of sums.
SUCCESS, ERROR, CANCELLED, LOW, HIGH, SMEARED, ABSOLUTE, MOVED, REPROCESSED = range(9)
N_SUMS = 9

#: Edges beyond all real times: what happens outside the buckets of interest falls between them.
BEYOND = 2**61


@dataclass(frozen=True)
class Layout:
    """Where each group's buckets stand in one long array.

    Attributes
    ----------
    first : int64 array, shape (groups,)
        First bucket of each group.
    offset : int64 array, shape (groups + 1,)
        Where the buckets of each group start.
    """

    first: Ints
    offset: Ints

    @property
    def size(self) -> int:
        """How many pairs of group and bucket there are."""
        return int(self.offset[-1])

    def base(self, group: Ints) -> Ints:
        """Give what to add to a bucket to have its place."""
        return (self.offset[:-1] - self.first)[group]

    def groups(self) -> Ints:
        """Group of each place."""
        return np.repeat(np.arange(len(self.first)), np.diff(self.offset))

    def buckets(self) -> Ints:
        """Bucket of each place."""
        owner, step = expand(np.diff(self.offset))
        return self.first[owner] + step


@dataclass(frozen=True)
class Intervals:
    """Work of batches between two of their observations; arrays of one length.

    Attributes
    ----------
    start, end : int64
        Microseconds since 1970, UTC; start ≤ end.
    delta : int64, shape (3, n)
        Growth of success, error, cancelled.
    batch, group : int64
    """

    start: Ints
    end: Ints
    delta: Ints
    batch: Ints
    group: Ints

    def take(self, which: Ints | Flags | slice) -> Intervals:
        """Give some of them."""
        return Intervals(
            self.start[which], self.end[which], self.delta[:, which], self.batch[which], self.group[which]
        )


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
        """Give some of them."""
        return Cells(self.batch[which], self.place[which], self.work[:, which])


@dataclass(frozen=True)
class Spans:
    """Intervals that cover whole buckets between their first and last.

    Attributes
    ----------
    batch, first, stop : int64 arrays, shape (k,)
        Places first ≤ i < stop are covered.
    pace : float64 array, shape (3, k)
        Work per microsecond.
    """

    batch: Ints
    first: Ints
    stop: Ints
    pace: Floats

    def take(self, which: Flags) -> Spans:
        """Give some of them."""
        return Spans(self.batch[which], self.first[which], self.stop[which], self.pace[:, which])


def with_guards(edges: Ints) -> Ints:
    """Add a bucket before the first edge and one after the last, for what happens outside."""
    return np.concatenate([[-BEYOND], edges, [BEYOND]])


def first_bucket(edges: Ints, start: Ints) -> Ints:
    """Give the bucket in which something begins: work at an edge belongs to the bucket that begins there."""
    return _bucket(edges, start, 0)


def last_bucket(edges: Ints, end: Ints) -> Ints:
    """Give the bucket in which something ends: what ends on an edge stays before it."""
    return _bucket(edges, end, 1)


def _bucket(edges: Ints, t: Ints, before: int) -> Ints:
    """Give the last bucket whose edge is at or before t - `before`."""
    if not len(t):
        return np.zeros(0, dtype=np.int64)
    t = t - before if before else t
    first = int(np.searchsorted(edges, t.min(), side="right")) - 1
    stop = int(np.searchsorted(edges, t.max(), side="right"))
    near = edges[first:stop]
    inner = near[1:]
    if len(inner) < 2 or (np.diff(inner, n=2) != 0).any():
        found: Ints = first + np.searchsorted(near, t, side="right") - 1
        return found
    # Equal lengths, but for the first and the last bucket: a division instead of a search.
    length = int(inner[1] - inner[0])
    found = (t - (inner[0] - length)) // length + first
    np.clip(found, first, stop - 1, out=found)
    return found


def layout_of(group: Ints, first: Ints, last: Ints, n_groups: int) -> Layout:
    """Lay out each group's buckets from its first to its last."""
    lowest = np.full(n_groups, np.iinfo(np.int64).max)
    highest = np.full(n_groups, -1)
    np.minimum.at(lowest, group, first)
    np.maximum.at(highest, group, last)
    empty = highest < 0
    lowest[empty] = 0
    return Layout(lowest, np.cumsum(np.append(0, highest - lowest + 1)))


def spread(
    intervals: Intervals, edges: Ints, layout: Layout, within: tuple[Ints, Ints] | None = None
) -> tuple[Floats, Cells, Spans]:
    """Spread intervals over buckets.

    Parameters
    ----------
    intervals : Intervals
        Those of one batch together, in time.
    edges : int64 array
        With guards.
    layout : Layout
        Holds every bucket that an interval of its group touches.
    within : pair of int64 arrays, optional
        Of each interval only buckets from the one to the other (exclusive) are wanted, at least one of which
        it touches. What it does in others is nobody's here.

    Returns
    -------
    sums : float64 array, shape (9, places)
        success, error, cancelled; the certain and the possible processed; processed that is smeared;
        |success| + |error|; |processed|; what counters went down by.
    cells : Cells
        The first and last buckets, one for each run of equal batch, bucket and group.
    spans : Spans
        What lies in between.
    """
    delta = intervals.delta
    ends = _ends_of(intervals, edges, layout, within)
    cells = _cells(intervals, ends)
    sums = np.zeros((N_SUMS, layout.size))
    for row, work in enumerate(cells.work):
        sums[row] = np.bincount(cells.place, weights=work, minlength=layout.size)
    went_down = bool((delta < 0).any())
    _measure(sums, intervals, ends, went_down=went_down)
    long = np.flatnonzero(ends.stop > ends.first)
    pace = delta[:, long] / ends.length[long]
    spans = Spans(intervals.batch[long], ends.first[long], ends.stop[long], pace)
    if len(long):
        processed = (delta[0] + delta[1])[long]
        bucket_length = np.diff(edges)[layout.buckets()]
        _add_spans(sums, spans, processed / ends.length[long], processed, bucket_length)
    if not went_down:
        sums[ABSOLUTE] = sums[MOVED] = sums[SUCCESS] + sums[ERROR]
    return sums, cells, spans


@dataclass(frozen=True)
class _Ends:
    """First and last buckets of intervals, side by side; in a place that is not there the share is zero.

    Where only one of the two is there, both stand in its place.

    Attributes
    ----------
    place : int64 array, shape (n, 2)
    share : float64 array, shape (n, 2)
    is_there : bool array, shape (n, 2)
    is_short : bool array, shape (n, 2)
        The bucket is shorter than the interval, which crosses its edge.
    crosses : bool array, shape (n,)
    length : int64 array, shape (n,)
        Of the interval; 1 if it lies in one bucket.
    first, stop : int64 arrays, shape (n,)
        Places that are covered whole.
    """

    place: Ints
    share: Floats
    is_there: Flags
    is_short: Flags
    crosses: Flags
    length: Ints
    first: Ints
    stop: Ints


def _ends_of(intervals: Intervals, edges: Ints, layout: Layout, within: tuple[Ints, Ints] | None) -> _Ends:
    start, end = intervals.start, intervals.end
    low, high = touched(intervals, edges)
    crosses = high > low
    length = np.where(crosses, end - start, 1)
    bucket_end, bucket_start = edges[low + 1], edges[high]
    n = len(start)
    share, place = np.empty((n, 2)), np.empty((n, 2), dtype=np.int64)
    is_there, is_short = np.empty((n, 2), dtype=np.bool_), np.empty((n, 2), dtype=np.bool_)
    share[:, 0] = np.where(crosses, bucket_end - start, 1) / length
    share[:, 1] = np.where(crosses, end - bucket_start, 0) / length
    is_there[:, 0], is_there[:, 1] = True, crosses
    is_short[:, 0] = crosses & (length > bucket_end - edges[low])
    is_short[:, 1] = crosses & (length > edges[high + 1] - bucket_start)
    base = layout.base(intervals.group)
    place[:, 0], place[:, 1] = base + low, base + high
    first, stop = low + 1, high
    if within is not None:
        begun, over = low < within[0], high >= within[1]
        first, stop = np.maximum(first, within[0]), np.minimum(stop, within[1])
        share[begun, 0], is_there[begun, 0], place[begun, 0] = 0.0, False, place[begun, 1]
        share[over, 1], is_there[over, 1], place[over, 1] = 0.0, False, place[over, 0]
        neither = begun & over
        place[neither] = (base + first)[neither, None]
    return _Ends(place, share, is_there, is_short, crosses, length, base + first, base + stop)


def _cells(intervals: Intervals, ends: _Ends) -> Cells:
    """Add up what falls into the same bucket one after the other."""
    place, batch = ends.place, intervals.batch
    is_start = np.ones(place.shape, dtype=np.bool_)
    is_start[:, 1] = place[:, 1] != place[:, 0]
    is_start[1:, 0] = (place[1:, 0] != place[:-1, 1]) | (batch[1:] != batch[:-1])
    begins = np.flatnonzero(is_start)
    run = np.cumsum(is_start) - 1
    work = np.zeros((3, len(begins)))
    for row, delta in enumerate(intervals.delta):
        if delta.any():
            work[row] = np.bincount(run, weights=(delta[:, None] * ends.share).ravel())
    cells = Cells(batch[begins >> 1], place.ravel()[begins], work)
    if not ends.is_there.any(axis=1).all():
        # What stands for the ends of an interval that covers all that is wanted is no cell.
        cells = cells.take(np.bincount(run, weights=ends.is_there.ravel()) > 0)
    return cells


def _measure(sums: Floats, intervals: Intervals, ends: _Ends, *, went_down: bool) -> None:
    """Fill in the bounds, what is smeared, and the absolute work where a counter went down."""
    delta, places = intervals.delta, ends.place.ravel()
    processed = delta[0] + delta[1]

    def total(values: Any) -> Any:
        return np.bincount(places, weights=values.ravel(), minlength=sums.shape[1])

    inside = np.flatnonzero(~ends.crosses)
    sums[LOW : HIGH + 1] = np.bincount(
        ends.place[inside, 0], weights=processed[inside], minlength=sums.shape[1]
    )
    across = np.where(ends.crosses, processed, 0)[:, None] * ends.is_there
    sums[HIGH] += total(np.maximum(across, 0))
    sums[SMEARED] = total(np.abs(processed)[:, None] * (ends.share * ends.is_short))
    if went_down:
        sums[LOW] += total(np.minimum(across, 0))
        sums[ABSOLUTE] = total((np.abs(delta[0]) + np.abs(delta[1]))[:, None] * ends.share)
        sums[MOVED] = total(np.abs(processed)[:, None] * ends.share)
        sums[REPROCESSED] = total(np.maximum(-delta, 0).sum(axis=0)[:, None] * ends.share)


def touched(intervals: Intervals, edges: Ints) -> tuple[Ints, Ints]:
    """Give the first and the last bucket that each interval touches."""
    low = first_bucket(edges, intervals.start)
    # An instant at an edge ends before it and begins after it: it belongs after.
    return low, np.maximum(last_bucket(edges, intervals.end), low)


def _add_spans(sums: Floats, spans: Spans, pace: Floats, processed: Ints, bucket_length: Ints) -> None:
    """Add to the buckets that intervals cover whole, all of which are shorter than the interval."""
    paces = np.stack(
        [
            *spans.pace,
            np.abs(pace),
            np.abs(spans.pace[0]) + np.abs(spans.pace[1]),
            np.maximum(-spans.pace, 0.0).sum(axis=0),
        ]
    )
    added = add_ranges(paces, spans.first, spans.stop, len(bucket_length)) * bucket_length
    sums[:3] += added[:3]
    sums[SMEARED] += added[3]
    sums[MOVED] += added[3]
    sums[ABSOLUTE] += added[4]
    sums[REPROCESSED] += added[5]
    bounds = np.stack([np.minimum(processed, 0), np.maximum(processed, 0)]).astype(np.float64)
    sums[LOW : HIGH + 1] += add_ranges(bounds, spans.first, spans.stop, len(bucket_length))


def add_ranges(values: Floats, first: Ints, stop: Ints, size: int) -> Floats:
    """Sum values over ranges of places, by additions only.

    Parameters
    ----------
    values : float64 array, shape (r, k)
    first, stop : int64 arrays, shape (k,)
        Values j are added to all places first[j] ≤ i < stop[j].
    size : int
        How many places there are.

    Returns
    -------
    float64 array, shape (r, size)

    Notes
    -----
    A range is put together from aligned blocks of 1, 2, 4, ... places, at most two of each size; then blocks
    are added to their halves. Cost: the ranges times the logarithm of their length, plus `size`. A running
    sum of differences would be a little cheaper, and would leave rounding noise where there is nothing.
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
        first, stop, values = first[left], stop[left], values[:, left]
    total = levels.pop()
    while levels:
        level = levels.pop()
        level += np.repeat(total, 2, axis=1)[:, : level.shape[1]]
        total = level
    return total


def add_time(start: Ints, stop: Ints, group: Ints, edges: Ints, layout: Layout) -> Ints:
    """Sum microseconds of time spans per group and bucket, exactly; what is outside the layout is left out.

    Returns
    -------
    int64 array, shape (places,)
    """
    total = np.zeros(layout.size, dtype=np.int64)
    counts = np.diff(layout.offset)[group]
    lowest = edges[layout.first[group]]
    highest = edges[layout.first[group] + counts]
    start, stop = np.maximum(start, lowest), np.minimum(stop, highest)
    kept = stop > start
    start, stop, group = start[kept], stop[kept], group[kept]
    low, high = first_bucket(edges, start), last_bucket(edges, stop)
    base = layout.base(group)
    same = low == high
    np.add.at(total, base + low, np.where(same, stop, edges[low + 1]) - start)
    cross = ~same
    np.add.at(total, (base + high)[cross], (stop - edges[high])[cross])
    long = high - low > 1
    if long.any():
        change = np.zeros(layout.size + 1, dtype=np.int64)
        np.add.at(change, (base + low)[long] + 1, 1)
        np.add.at(change, (base + high)[long], -1)
        covering = np.cumsum(change[:-1])
        bucket = layout.buckets()
        total += np.where(covering > 0, covering * (edges[bucket + 1] - edges[bucket]), 0)
    return total


def merge(cells: Cells, n_places: int) -> Cells:
    """Add up the cells of the same batch and place, in a fixed order."""
    key = cells.batch.astype(np.int64) * n_places + cells.place
    order = np.argsort(key, kind="stable")
    is_start = run_starts(key[order])
    if is_start.all():
        return cells.take(order)
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.cumsum(is_start) - 1
    kept = order[is_start]
    work: Floats = np.array([np.bincount(row, weights=values) for values in cells.work])
    return Cells(cells.batch[kept], cells.place[kept], work)
