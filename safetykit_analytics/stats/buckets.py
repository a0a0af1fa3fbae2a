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
    Floats,
    check_confidence,
    cluster_rates,
    clusters,
    sums,
    wilson_at,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: A bucket borrows from this many buckets of its series, which end with itself.
POOL_BUCKETS = 30

# What is borrowed weighs as much as so many degrees of freedom, and needs as many.
_POOL_DF = 10.0


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """What the batches of each bucket tell; every field is an array of shape (n_places,).

    Attributes
    ----------
    rate, variance, df : float64
        As in `ClusterRates`.
    leverage : float64
        Σ h², h the batches' shares of the processed decisions; NaN where a batch took back more than it
        processed, or nothing was processed.
    n_clusters : int64
    processed : float64
    between, within : float64
        Sums of squares Σ n(y/n - p)² and Σ n·(y/n)(1 - y/n); NaN where `leverage` is.
    note : object
        As in `ClusterRates`.
    """

    rate: Floats
    variance: Floats
    df: Floats
    leverage: Floats
    n_clusters: NDArray[np.int64]
    processed: Floats
    between: Floats
    within: Floats
    note: NDArray[np.object_]


def cluster_sums(place: ArrayLike, y: ArrayLike, n: ArrayLike, *, n_places: int) -> ClusterSums:
    """Sum up batches by bucket, in linear time.

    Parameters
    ----------
    place : array of int, shape (k,)
        0 ≤ place < n_places; one row per batch and bucket.
    y, n : arrays of float, shape (k,)
        Errors and processed decisions of the batch in the bucket; may be fractional.
    n_places : int

    Returns
    -------
    ClusterSums

    Raises
    ------
    ValueError
        As `cluster_rates`.
    """
    index, errors, size = clusters(place, y, n, n_places)
    known = cluster_rates(index, errors, size, n_groups=n_places)
    usable = np.isin(known.note, ["", "one_batch", "few_batches", "clustering_not_estimable"])
    is_work = size > 0.0
    total = np.where(usable, known.processed, 1.0)
    rate = np.where(usable, known.rate, 0.0)
    share = np.divide(errors, size, out=np.zeros(len(size)), where=is_work)
    found = [
        np.where(usable, sums(index, values, n_places), np.nan)
        for values in (
            (size / total[index]) ** 2,
            size * (share - rate[index]) ** 2,
            size * share * (1.0 - share),
        )
    ]
    return ClusterSums(
        known.rate,
        known.variance,
        known.df,
        found[0],
        known.n_clusters,
        known.processed,
        found[1],
        found[2],
        known.note,
    )


def rate_intervals(
    found: ClusterSums, series: ArrayLike, bucket: ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats, NDArray[np.object_]]:
    """Interval of the error rate of each bucket.

    The ICC of the last 30 buckets of a series, the bucket itself included, is the analysis of variance's:

    ``ICC = (MSB - MSW) / (MSB + (n₀ - 1)·MSW)``, from Σ between / Σ(k-1), Σ within / Σ(N-k) and
    n₀ = Σ N(1 - Σh²) / Σ(k-1), k the batches of a bucket and N its decisions.

    With ICC = (df·own + 10·pool) / (df + 10), df = k - 1, the interval is Wilson's at N / (1 + (N·Σh² -
    1)·ICC) effective decisions, with the t quantile of df + 10. Where the pool has fewer than 10 degrees of
    freedom, nothing is borrowed, and the interval is that of `cluster_rates`.

    Parameters
    ----------
    found : ClusterSums
    series, bucket : arrays of int, shape (n_places,)
        The group of each place, and the number of its bucket in time; no two places share both.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    low, high : float64 arrays, shape (n_places,)
        NaN where there is no rate, and, if nothing can be borrowed, for one batch and where batches do not
        differ (no errors, or the same rate in all).
    note : object array, shape (n_places,)
        As in `ClusterRates`; ``""`` where something is borrowed.

    References
    ----------
    .. [1] Donner, Koval (1980). The estimation of intraclass correlation in the analysis of family data.
       Biometrics 36:19-25. https://doi.org/10.2307/2530491
    .. [2] Kish (1965). Survey Sampling: the design effect 1 + (m - 1)ICC.
    """
    check_confidence(confidence)
    own = _anova_parts(found)
    pool = _pooled(own, np.asarray(series, dtype=np.int64), np.asarray(bucket, dtype=np.int64))
    pool_rho, own_rho = _icc(pool), _icc(own)
    df = np.maximum(own[0], 0.0)
    weight = np.where(np.isnan(own_rho), 0.0, df)
    rho = (weight * np.nan_to_num(own_rho) + _POOL_DF * pool_rho) / (weight + _POOL_DF)
    usable = ~np.isnan(found.leverage)
    borrows = usable & (pool[0] >= _POOL_DF) & ~np.isnan(rho)
    tail = (1.0 + confidence) / 2.0
    total = np.where(usable, found.processed, 1.0)
    deff = np.maximum(1.0 + (total * np.where(usable, found.leverage, 1.0) - 1.0) * np.nan_to_num(rho), 1.0)
    low, high = wilson_at(found.rate, total / deff, scipy.special.stdtrit(weight + _POOL_DF, tail))
    estimable = usable & ~borrows & (found.variance > 0.0)
    binomial = found.rate * (1.0 - found.rate) / total
    own_deff = np.ones(len(total))
    np.divide(found.variance, binomial, out=own_deff, where=estimable & (binomial > 0.0))
    quantile = scipy.special.stdtrit(np.where(estimable, found.df, 1.0), tail)
    plain_low, plain_high = wilson_at(found.rate, total / np.maximum(own_deff, 1.0), quantile)
    low = np.select([borrows, estimable], [low, plain_low], np.nan)
    high = np.select([borrows, estimable], [high, plain_high], np.nan)
    note = found.note.copy()
    note[borrows] = ""
    few = estimable & (found.df < MIN_DF)
    note[few] = "few_batches"
    return low, high, note


def _anova_parts(found: ClusterSums) -> NDArray[np.float64]:
    """Return what is summed over buckets: k - 1, N - k, N(1 - Σh²), and the squares between and within."""
    usable = ~np.isnan(found.leverage)
    k = found.n_clusters
    parts = np.stack(
        [
            k - 1.0,
            np.maximum(found.processed - k, 0.0),
            found.processed * (1.0 - found.leverage),
            found.between,
            found.within,
        ]
    )
    kept: NDArray[np.float64] = np.where(usable & (k > 0), parts, 0.0)
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
