"""Where groups and buckets stand in long arrays: one place for each pair of group and bucket.

Bucket i is [edges[i], edges[i + 1]). The outermost edges are guards: what happens outside the calendar falls
into the first or the last bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safetykit_analytics.arrays import Ints, expand


@dataclass(frozen=True)
class Layout:
    """Where each group's buckets stand in one long array.

    `first` is the first bucket of each group, `offset` (one longer) where the buckets of each group start.
    """

    first: Ints
    offset: Ints

    @property
    def size(self) -> int:
        """Return how many pairs of group and bucket there are."""
        return int(self.offset[-1])

    def base(self, group: Ints) -> Ints:
        """Return what to add to a bucket to get its place."""
        return (self.offset[:-1] - self.first)[group]

    def groups(self) -> Ints:
        """Return the group of each place."""
        return np.repeat(np.arange(len(self.first)), np.diff(self.offset))

    def buckets(self) -> Ints:
        """Return the bucket of each place."""
        owner, step = expand(np.diff(self.offset))
        return self.first[owner] + step


def first_bucket(edges: Ints, start: Ints) -> Ints:
    """Return the bucket in which something begins; work at an edge belongs to the bucket after it."""
    return _bucket(edges, start, 0)


def last_bucket(edges: Ints, end: Ints) -> Ints:
    """Return the bucket in which something ends: what ends on an edge stays before it."""
    return _bucket(edges, end, 1)


def _bucket(edges: Ints, t: Ints, before: int) -> Ints:
    """Return the last bucket whose edge is at or before t - `before`."""
    if not len(t):
        return np.zeros(0, dtype=np.int64)
    first = int(np.searchsorted(edges, t.min() - before, side="right")) - 1
    stop = int(np.searchsorted(edges, t.max() - before, side="right"))
    near = edges[first:stop]
    inner = near[1:]
    if len(inner) < 2 or (np.diff(inner, n=2) != 0).any():
        found: Ints = first + np.searchsorted(near, t - before, side="right") - 1
        return found
    # Equal lengths, but for the first and the last bucket: a division instead of a search.
    length = int(inner[1] - inner[0])
    found = t - (inner[0] - length * (first + 1) + before)
    found //= length
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


def lay_out(edges: Ints, group: Ints, start: Ints, end: Ints, n_groups: int) -> Layout:
    """Lay out each group's buckets from the first in which a span begins to the last in which one ends."""
    low = first_bucket(edges, start)
    return layout_of(group, low, np.maximum(last_bucket(edges, end), low), n_groups)
