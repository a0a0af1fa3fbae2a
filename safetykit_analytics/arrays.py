"""Array idioms that the passes of this package share: runs of equal keys, filling, expanding."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

#: Stands for a missing instant; earlier than all real times.
NEVER = -(2**62)


def columns_of(values: Any, which: Ints | Flags | slice) -> Any:
    """Return ``values[:, which]``; NumPy itself would lay it out by columns, and take far longer."""
    if isinstance(which, slice):
        return values[:, which]
    return values.take(np.flatnonzero(which) if which.dtype == np.bool_ else which, axis=1)


def run_starts(*keys: Any) -> Flags:
    """Flag each position where any of the keys differs from the position before; the first is flagged."""
    starts = np.ones(len(keys[0]), dtype=np.bool_)
    if len(starts):
        np.not_equal(keys[0][1:], keys[0][:-1], out=starts[1:])
    for key in keys[1:]:
        starts[1:] |= key[1:] != key[:-1]
    return starts


def run_bounds(starts: Flags) -> tuple[Ints, Ints]:
    """Return where each run begins and where it ends (exclusive), from the flags of `run_starts`."""
    begin = np.flatnonzero(starts)
    return begin, np.append(begin, len(starts))[1:]


def ratio(part: Any, whole: Any) -> Floats:
    """Return part / whole; NaN where the whole is not above zero."""
    found: Floats = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def last_valid(valid: Flags, run_start: Ints) -> Ints:
    """Return the last valid position at or before each one within its run, -1 where there is none.

    `run_start` is the position at which the run of each position starts.
    """
    last = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    return np.where(last >= run_start, last, -1)


def next_valid(valid: Flags, run_end: Ints) -> Ints:
    """Return the first valid position at or after each one within its run (end exclusive), -1 where none."""
    n = len(valid)
    following = np.minimum.accumulate(np.where(valid, np.arange(n), n)[::-1])[::-1]
    return np.where(following < run_end, following, -1)


def expand(counts: Ints) -> tuple[Ints, Ints]:
    """Return the owner and the step of each element when owner i has counts[i] of them."""
    owner = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - before[owner]
