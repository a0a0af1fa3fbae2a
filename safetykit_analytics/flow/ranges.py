"""Values added to whole ranges of places at once, by additions only.

Place in the flow: below allocate. NumPy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from safetykit_analytics.arrays import Floats, Ints


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
        first, stop, values = first[left], stop[left], values.take(np.flatnonzero(left), axis=1)
    total = levels.pop()
    while levels:
        level = levels.pop()
        level += np.repeat(total, 2, axis=1)[:, : level.shape[1]]
        total = level
    return total
