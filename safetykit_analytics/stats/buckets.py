"""Intervals of the error rates of buckets: how alike decisions are is borrowed from the buckets before.

NumPy and scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from safetykit_analytics.stats.rate import (
    MIN_DF,
    NO_WORK,
    ZERO_WORK,
    Flags,
    Floats,
    check_level,
    wilson_at,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: A bucket borrows from this many buckets of its series, which end with itself.
POOL_BUCKETS = 30

# What is borrowed weighs as much as so many degrees of freedom, and needs as many.
_POOL_DF = 10.0
#: With more batches than this a bucket always borrows: of these alone `variance` and `df` are used.
FEW_CLUSTERS = 10


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums over the batches of each bucket; every field is a float64 array of shape (n_places,).

    Of batches with n > 0 processed decisions, y of them errors: `errors` Σ y, `processed` Σ n, `work`
    ``Σ |y| + |n - y|``, `n_clusters` their number, `squares` Σ n², `ratios` Σ y²/n. `took_back` is ``Σ |n|``
    of those that took back more than they processed. `variance` and `df` are as in `ClusterRates`; not used
    where there are more than FEW_CLUSTERS batches.
    """

    errors: Floats
    processed: Floats
    work: Floats
    n_clusters: Floats
    squares: Floats
    ratios: Floats
    took_back: Floats
    variance: Floats
    df: Floats


def rate_intervals(
    found: ClusterSums, series: ArrayLike, bucket: ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats, NDArray[np.object_]]:
    """Return low and high ends of the error rate of each bucket, and notes as in `ClusterRates`.

    Each place has its `series` and the number of its `bucket` in time; no two places share both.
    The ICC of the last 30 buckets of a series, the bucket itself included, is the analysis of variance's:

    ``ICC = (MSB - MSW) / (MSB + (n₀ - 1)·MSW)``, from Σ between / Σ(k-1), Σ within / Σ(N-k) and
    n₀ = Σ N(1 - Σh²) / Σ(k-1), k the batches of a bucket and N its decisions.

    With ICC = (df·own + 10·pool) / (df + 10), df = k - 1, the interval is Wilson's at N / (1 + (N·Σh² -
    1)·ICC) effective decisions, with the t quantile of df + 10. Where the pool has fewer than 10 degrees of
    freedom, nothing is borrowed, and the interval is that of `cluster_rates`: NaN for one batch and where
    batches do not differ. Where something is borrowed, the note is ``""``.

    Donner, Koval (1980), doi:10.2307/2530491; the design effect 1 + (m - 1)ICC: Kish (1965), Survey Sampling.
    """
    check_level(confidence)
    usable, rate = _rates(found)
    own = _anova_parts(found, usable)
    pool = _pooled(own, np.asarray(series, dtype=np.int64), np.asarray(bucket, dtype=np.int64))
    pool_rho, own_rho = _icc(pool), _icc(own)
    weight = np.where(np.isnan(own_rho), 0.0, own[0])
    rho = (weight * np.nan_to_num(own_rho) + _POOL_DF * pool_rho) / (weight + _POOL_DF)
    can_borrow = usable & (pool[0] >= _POOL_DF)
    borrows = can_borrow & ~np.isnan(rho)
    estimable = usable & ~can_borrow & (found.variance > 0.0)
    total = np.where(usable, found.processed, 1.0)
    binomial = rate * (1.0 - rate) / total
    deff = 1.0 + (found.squares / total - 1.0) * np.nan_to_num(rho)
    np.divide(found.variance, binomial, out=deff, where=estimable & (binomial > 0.0))
    df = np.where(estimable, found.df, weight + _POOL_DF)
    quantile = scipy.special.stdtrit(df, (1.0 + confidence) / 2.0)
    low, high = wilson_at(rate, total / np.maximum(deff, 1.0), quantile)
    low[~borrows & ~estimable] = high[~borrows & ~estimable] = np.nan
    note = np.select(
        [
            np.abs(found.processed) <= ZERO_WORK * found.work,
            ~usable,
            borrows,
            found.n_clusters == 1,
            ~estimable,
            found.df < MIN_DF,
        ],
        ["no_decisions", "reprocessed", "", "one_batch", "clustering_not_estimable", "few_batches"],
        "",
    ).astype(object)
    return low, high, note


def _rates(found: ClusterSums) -> tuple[Flags, Floats]:
    """Return which buckets have a rate that an interval can be put around, and the rate, 0 elsewhere."""
    noise = ZERO_WORK * found.work
    right = found.processed - found.errors
    usable = (
        (np.abs(found.processed) > noise)
        & (found.errors >= -noise)
        & (right >= -noise)
        & (found.took_back <= NO_WORK * found.work)
    )
    rate = np.zeros(len(usable))
    np.divide(found.errors, found.processed, out=rate, where=usable & (found.errors > NO_WORK * found.work))
    rate[usable & (right <= NO_WORK * found.work)] = 1.0
    return usable, rate


def _anova_parts(found: ClusterSums, usable: Flags) -> NDArray[np.float64]:
    """Return what is summed over buckets: k - 1, N - k, N(1 - Σh²), and the squares between and within."""
    k, y, n = found.n_clusters, found.errors, np.where(usable, found.processed, 1.0)
    between, within = found.ratios - y * y / n, y - found.ratios
    parts = np.stack([k - 1.0, n - k, n - found.squares / n, between, within])
    # Differences of sums: what is below the rounding of either is zero.
    parts[3:][np.abs(parts[3:]) <= NO_WORK * np.abs(y)] = 0.0
    kept: NDArray[np.float64] = np.where(usable & (k > 0), np.maximum(parts, 0.0), 0.0)
    return kept


def _pooled(
    own: NDArray[np.float64], series: NDArray[np.int64], bucket: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum over the last buckets of each series; nothing earlier or later changes a bit of it."""
    order = np.lexsort((bucket, series))
    parts, owner, when = own[:, order], series[order], bucket[order]
    total = parts.copy()
    for back in range(1, min(POOL_BUCKETS, len(order))):
        near = (owner[back:] == owner[:-back]) & (when[back:] - when[:-back] < POOL_BUCKETS)
        if not near.any():
            break
        total[:, back:] += np.where(near, parts[:, :-back], 0.0)
    found = np.empty_like(total)
    found[:, order] = total
    return found


def _icc(parts: NDArray[np.float64]) -> Floats:
    """Return the analysis of variance's ICC, within [0, 1]; NaN where there is nothing to tell it from."""
    groups, rest, spread, between, within = parts
    known = (groups > 0.0) & (rest > 0.0) & (spread > 0.0) & (between + within > 0.0)
    msb = between / np.where(known, groups, 1.0)
    msw = within / np.where(known, rest, 1.0)
    size = spread / np.where(known, groups, 1.0)
    whole = msb + (size - 1.0) * msw
    known &= whole > 0.0
    found = np.full(len(groups), np.nan)
    np.divide(msb - msw, whole, out=found, where=known)
    clipped: Floats = np.clip(found, 0.0, 1.0)
    return clipped
