"""Cut batches into strata of time, and residuals within them: what a comparison of versions permutes.

Within a stratum it is chance alone which batch has which version, if versions do not differ. Strata therefore
depend on neither versions nor errors, and on nothing that comes later. NumPy only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from safetykit_analytics.arrays import run_bounds, run_starts
from safetykit_analytics.stats.rate import Flags, Floats, sums

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Ints = NDArray[np.int64]

#: A day joins the next until so many batches are in; a stratum with more than `MOST` is cut.
LEAST, MOST = 8, 100
#: Median sizes that differ by more than this call for classes of size.
SIZE_RATIO, SIZE_CLASSES = 1.5, 5

# Sizes of so many earlier batches of a version tell its median.
_SIZES_KEPT = 1000
# How surely sizes must differ before they are classed: |z| of a rank-sum test.
_SIZE_Z = 2.0
# A residual below this share of the batch is rounding noise.
_NOISE = 1e-9


def cut_strata(policy: ArrayLike, day: ArrayLike) -> tuple[Ints, Ints]:
    """Cut each policy's batches, sorted by policy and end, into strata of neighbouring ends.

    A day (days since 1970-01-01, local) joins the next one until 8 batches are in, at the latest at the end
    of the ISO week. A stratum of more than 100 is cut into runs of equal length. Returned are the run of days
    and the part of it that each batch is in; both are non-decreasing and differ between policies.
    """
    owner, date = np.asarray(policy, dtype=np.int64), np.asarray(day, dtype=np.int64)
    if not len(owner):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first, end = run_bounds(run_starts(owner, date))
    length = end - first
    week = (date[first] + 3) // 7
    opens = np.zeros(len(first), dtype=np.bool_)
    inside, last = 0, (-1, 0)
    for i, key in enumerate(zip(owner[first].tolist(), week.tolist(), strict=True)):
        if key != last or inside >= LEAST:
            opens[i], inside = True, 0
        inside, last = inside + int(length[i]), key
    span = np.repeat(np.cumsum(opens) - 1, length)
    size = np.bincount(span)
    parts = -(-size // MOST)
    place = np.arange(len(span)) - np.repeat(np.cumsum(size) - size, size)
    stratum = (np.cumsum(parts) - parts)[span] + place * parts[span] // size[span]
    return span, stratum


def class_sizes(stratum: ArrayLike, n: ArrayLike, is_candidate: ArrayLike, *, any_look: bool) -> Ints:
    """Cut strata into classes of size where the two versions' batches are of different sizes.

    They are where median sizes differ by more than 1.5 times, and by more than chance explains
    (``|z| > 2`` of a rank-sum test). For one look the sizes of all batches count. For a test at any look
    those of earlier strata count alone: no later batch changes what has been cut. Strata are non-decreasing;
    returned is the fifth (0 to 4) of its stratum that each batch is in, 0 in a stratum that is not cut.
    """
    where, size = np.asarray(stratum, dtype=np.int64), np.asarray(n, dtype=np.float64)
    candidate = np.asarray(is_candidate, dtype=np.bool_)
    found = np.zeros(len(where), dtype=np.int64)
    edges = np.append(np.flatnonzero(np.diff(where, prepend=-1)), len(where))
    sides = [np.flatnonzero(candidate == side) for side in (False, True)]
    if not any_look:
        if _differ(*(size[side] for side in sides)):
            for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                found[begin:end] = _fifths(size[begin:end])
        return found
    before = [np.searchsorted(side, edges[:-1]) for side in sides]
    for at, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        earlier = (
            size[side[max(0, int(last[at]) - _SIZES_KEPT) : int(last[at])]]
            for side, last in zip(sides, before, strict=True)
        )
        if _differ(*earlier):
            found[begin:end] = _fifths(size[begin:end])
    return found


def _fifths(size: Floats) -> Ints:
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.argsort(size, kind="stable")] = np.arange(len(size))
    return rank * SIZE_CLASSES // len(size)


def _differ(one: Floats, other: Floats) -> bool:
    a, b = len(one), len(other)
    # With fewer not even sizes that do not overlap would do.
    if 3.0 * a * b <= _SIZE_Z**2 * (a + b + 1):
        return False
    medians = np.median(one), np.median(other)
    if max(medians) <= SIZE_RATIO * min(medians):
        return False
    both = np.concatenate([one, other])
    _, place, count = np.unique(both, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2.0)[place]
    spread = rank.var(ddof=1) * a * b / (a + b)
    return bool(abs(rank[:a].sum() - a * rank.mean()) > _SIZE_Z * np.sqrt(spread))


@dataclass(frozen=True, eq=False)
class Strata:
    """Batches in strata, and what they do in each: the input of every test of a comparison.

    Of each stratum, shape (s,): the comparison (`pair`, non-decreasing from 0) and within it the `look`
    (strata of one look count together), the number of batches (`size`) and of the candidate's (`chosen`), and
    `weight`, N_c N_b / N. Of each batch, shape (k,): its `stratum`, non-decreasing, and `n` decisions. The
    residuals `base` of the baseline's errors, y(1-z) - n·Y_b/N, and `own` of the candidate's, yz - n·Y_c/N,
    add up to 0 in each stratum.
    """

    pair: Ints
    look: Ints
    size: Ints
    chosen: Ints
    weight: Floats
    stratum: Ints
    is_candidate: Flags
    n: Floats
    base: Floats
    own: Floats

    @functools.cached_property
    def shift(self) -> Floats:
        """Residuals of the candidate's size, nz - n·N_c/N, shape (k,)."""
        return residuals(self.stratum, self.n * self.is_candidate, self.n, len(self.size))

    @property
    def score(self) -> Floats:
        """U_s = Σ (y - p_s n) over the candidate's batches, shape (s,)."""
        return self.score_of(self.base + self.own)

    def score_of(self, residual: Floats) -> Floats:
        """Sum residuals over the candidate's batches of each stratum, shape (s,)."""
        return sums(self.stratum, residual * self.is_candidate, len(self.size))

    @property
    def variance(self) -> Floats:
        """Variance of U_s over all assignments of the versions, shape (s,)."""
        return score_variance(self, self.base + self.own)

    def total(self, values: Floats) -> Floats:
        """Sum over the strata of each comparison, shape (pairs,)."""
        return sums(self.pair, values, int(self.pair[-1]) + 1 if len(self.pair) else 0)


def make_strata(
    key: tuple[ArrayLike, ArrayLike, ArrayLike], y: ArrayLike, n: ArrayLike, is_candidate: ArrayLike
) -> Strata:
    """Compute residuals of batches in strata; strata with one version only are left out.

    `key` is the comparison of each batch, its look, and the part of the look: together its stratum. Strata
    are sorted by it; within one, batches stay in the order they had. n > 0.
    """
    keys = [np.asarray(values, dtype=np.int64) for values in key]
    order = np.lexsort(tuple(reversed(keys)))
    keys = [values[order] for values in keys]
    errors, size = (np.asarray(values, dtype=np.float64)[order] for values in (y, n))
    z = np.asarray(is_candidate, dtype=np.bool_)[order]
    is_new = run_starts(*keys)
    stratum = np.cumsum(is_new) - 1
    m, k = np.bincount(stratum), np.bincount(stratum, weights=z).astype(np.int64)
    is_common = (k > 0) & (k < m)
    keep = is_common[stratum]
    first = np.flatnonzero(is_new)[is_common]
    stratum = (np.cumsum(is_common) - 1)[stratum[keep]]
    errors, size, z = errors[keep], size[keep], z[keep]
    count = int(is_common.sum())
    n_all, n_own = sums(stratum, size, count), sums(stratum, size * z, count)
    return Strata(
        keys[0][first],
        keys[1][first],
        m[is_common],
        k[is_common],
        n_own * (n_all - n_own) / n_all,
        stratum,
        z,
        size,
        residuals(stratum, errors * ~z, size, count),
        residuals(stratum, errors * z, size, count),
    )


def residuals(stratum: Ints, values: Floats, n: Floats, count: int) -> Floats:
    """Return values less the share of their stratum's sum that the batch's decisions have."""
    rate = sums(stratum, values, count) / sums(stratum, n, count)
    rest: Floats = values - rate[stratum] * n
    rest[np.abs(rest) < _NOISE * n] = 0.0
    return rest


def score_variance(strata: Strata, residual: Floats) -> Floats:
    """k(m-k) / (m(m-1)) · Σ r²: the variance of a sum of k of m residuals drawn without replacement."""
    m, k = strata.size, strata.chosen
    return k * (m - k) / (m * (m - 1.0)) * sums(strata.stratum, residual**2, len(m))
