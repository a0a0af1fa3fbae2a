"""Intervals of work spread over buckets by overlap, in array passes.

Place in the flow: stitch → **allocate** → tables. Knows arrays only.

An interval touches a first and a last bucket, which get the share of its work that their overlap is of its
length, and buckets in between, which it covers whole. The first and the last are *cells*: one batch's work in
one bucket. What lies in between is added for all intervals at once, by a tree of ranges that only ever adds,
so that a bucket without work holds an exact zero and no share has the rounding of a running sum.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    return np.searchsorted(edges, start, side="right") - 1


def last_bucket(edges: Ints, end: Ints) -> Ints:
    """Give the bucket in which something ends: what ends on an edge stays before it."""
    return np.searchsorted(edges, end, side="left") - 1


def layout_of(group: Ints, first: Ints, last: Ints, n_groups: int) -> Layout:
    """Lay out each group's buckets from its first to its last."""
    lowest = np.full(n_groups, np.iinfo(np.int64).max)
    highest = np.full(n_groups, -1)
    np.minimum.at(lowest, group, first)
    np.maximum.at(highest, group, last)
    empty = highest < 0
    lowest[empty] = 0
    return Layout(lowest, np.cumsum(np.append(0, highest - lowest + 1)))


def spread(intervals: Intervals, edges: Ints, layout: Layout) -> tuple[Floats, Cells, Spans]:
    """Spread intervals over buckets.

    Parameters
    ----------
    intervals : Intervals
        Those of one batch together, in time.
    edges : int64 array
        With guards.
    layout : Layout
        Holds every bucket that an interval of its group touches.

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
    delta, start, end = intervals.delta, intervals.start, intervals.end
    low, high = first_bucket(edges, start), last_bucket(edges, end)
    # An instant at an edge ends before it and begins after it: it belongs after.
    high = np.maximum(high, low)
    crosses = high > low
    length = np.where(crosses, end - start, 1)

    owner, step = expand(1 + crosses)
    bucket = np.where(step == 0, low[owner], high[owner])
    share = np.ones(len(owner))
    split = crosses[owner]
    overlap = np.where(step == 0, edges[bucket + 1] - start[owner], end[owner] - edges[bucket])
    share[split] = overlap[split] / length[owner][split]
    processed = delta[0] + delta[1]
    went_down = bool((delta < 0).any())

    parts = np.zeros((N_SUMS if went_down else SMEARED + 1, len(owner)))
    parts[:3] = delta[:, owner] * share
    whole = processed[owner]
    inside = ~split
    parts[LOW] = np.where(inside, whole, np.minimum(whole, 0))
    parts[HIGH] = np.where(inside, whole, np.maximum(whole, 0))
    is_smeared = split & ((end - start)[owner] > edges[bucket + 1] - edges[bucket])
    parts[SMEARED] = np.where(is_smeared, np.abs(whole) * share, 0.0)
    if went_down:
        _measure(parts, delta, owner, share)

    place = layout.base(intervals.group)[owner] + bucket
    batch = intervals.batch[owner]
    begins = np.flatnonzero(run_starts(batch, place))
    if len(begins) < len(owner):
        parts = np.add.reduceat(parts, begins, axis=1)
        place, batch = place[begins], batch[begins]
    sums = np.zeros((N_SUMS, layout.size))
    for row, values in enumerate(parts):
        sums[row] = np.bincount(place, weights=values, minlength=layout.size)

    long = np.flatnonzero(high - low > 1)
    base = layout.base(intervals.group[long])
    spans = Spans(
        intervals.batch[long], base + low[long] + 1, base + high[long], delta[:, long] / length[long]
    )
    if len(long):
        bucket_length = np.diff(edges)[layout.buckets()]
        _add_spans(sums, spans, processed[long] / length[long], processed[long], bucket_length)
    if not went_down:
        sums[ABSOLUTE] = sums[MOVED] = sums[SUCCESS] + sums[ERROR]
    return sums, Cells(batch, place, parts[:3]), spans


def _measure(parts: Floats, delta: Ints, owner: Ints, share: Floats) -> None:
    """Fill in the absolute work, which is the work itself unless a counter went down."""
    parts[ABSOLUTE] = (np.abs(delta[0]) + np.abs(delta[1]))[owner] * share
    parts[MOVED] = np.abs(delta[0] + delta[1])[owner] * share
    parts[REPROCESSED] = np.maximum(-delta, 0).sum(axis=0)[owner] * share


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
    key = cells.batch * n_places + cells.place
    order = np.argsort(key, kind="stable")
    begins = np.flatnonzero(run_starts(key[order]))
    cells = cells.take(order)
    if len(begins) == len(order):
        return cells
    return Cells(cells.batch[begins], cells.place[begins], np.add.reduceat(cells.work, begins, axis=1))
