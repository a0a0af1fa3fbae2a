"""How alike the decisions of a batch are, learned from earlier buckets where a bucket has few batches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import scipy

from safetykit_analytics.stats.rate import check_confidence, clusters, sums, wilson_at

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from safetykit_analytics.stats.rate import Flags, Floats

#: A bucket borrows from so many buckets of its series: the last ones that end with it.
POOL_BUCKETS = 30
# The pool counts as much as so many degrees of freedom of the bucket's own; with fewer it is not used.
_WEIGHT = 10.0


@dataclass(frozen=True, eq=False)
class ClusterSpread:
    """Analysis of variance of batches within buckets; every field is a float64 array of shape (n_groups,).

    Attributes
    ----------
    between, within : float64
        Sums of squares between batches, Σ n (y/n - p)², and within them, Σ y (1 - y/n).
    df_between, df_within : float64
        Batches less one; decisions less batches.
    weight : float64
        N - Σn²/N: the mean size of a batch times `df_between`, corrected for unequal sizes.
    square : float64
        Σn²/N, the size of the batch of a random decision.
    """

    between: Floats
    within: Floats
    df_between: Floats
    df_within: Floats
    weight: Floats
    square: Floats


def cluster_spread(
    group: ArrayLike, errors: ArrayLike, processed: ArrayLike, *, n_groups: int
) -> ClusterSpread:
    """Sum what each bucket's batches tell about how alike the decisions of a batch are.

    Parameters
    ----------
    group : array of int, shape (k,)
        Index of the bucket of a batch's counts, 0 ≤ group < n_groups.
    errors, processed : arrays of float or int, shape (k,)
        Of that batch in that bucket; may be fractional. Batches that took decisions back count for nothing.
    n_groups : int

    Returns
    -------
    ClusterSpread
        Zeros for buckets with fewer than two batches; `square` with one batch is its size.

    References
    ----------
    .. [1] Ridout, Demétrio, Firth (1999). Estimating intraclass correlation for binary data. Biometrics
       55:137-148. https://doi.org/10.1111/j.0006-341X.1999.00137.x
    """
    index, y, n = clusters(group, errors, processed, n_groups)
    sound = (n > 0.0) & (y >= 0.0) & (y <= n)
    index, y, n = index[sound], y[sound], n[sound]
    total, wrong = sums(index, n, n_groups), sums(index, y, n_groups)
    safe = np.where(total > 0.0, total, 1.0)
    m = np.bincount(index, minlength=n_groups).astype(np.float64)
    square = sums(index, n**2, n_groups) / safe
    several = m > 1.0
    rate = wrong / safe
    return ClusterSpread(
        between=np.where(several, sums(index, (y - rate[index] * n) ** 2 / n, n_groups), 0.0),
        within=np.where(several, sums(index, y * (1.0 - y / n), n_groups), 0.0),
        df_between=np.where(several, m - 1.0, 0.0),
        df_within=np.where(several, np.maximum(total - m, 0.0), 0.0),
        weight=np.where(several, total - square, 0.0),
        square=square,
    )


def pooled(spread: ClusterSpread, first: ArrayLike) -> ClusterSpread:
    """Add each bucket's spread to those of the buckets before it in its series, `POOL_BUCKETS` in all.

    A later bucket never changes the pool of an earlier one.

    Parameters
    ----------
    spread : ClusterSpread
        Buckets of one series side by side, in time, none missing between.
    first : array of int, shape (n_groups,)
        Index of the first bucket of each bucket's series.
    """
    steps = np.arange(len(spread.square)) - np.asarray(first)
    back = [np.flatnonzero(steps >= step) for step in range(POOL_BUCKETS)]

    def added(values: Floats) -> Floats:
        total = np.zeros(len(values))
        for step, some in enumerate(back):
            total[some] += values[some - step]
        return total

    return ClusterSpread(*(added(getattr(spread, field.name)) for field in fields(spread)))


def intraclass_correlation(spread: ClusterSpread) -> Floats:
    """Estimate the intraclass correlation by analysis of variance: (B - W) / (B + (n₀ - 1) W).

    B and W are the mean squares between and within batches, n₀ = weight / df_between.

    Returns
    -------
    float64 array, shape (n_groups,)
        NaN where there are no degrees of freedom, or all decisions went the same way.

    References
    ----------
    .. [1] Ridout, Demétrio, Firth (1999), as `cluster_spread`.
    """
    known = (spread.df_between > 0.0) & (spread.df_within > 0.0)
    df_between, df_within = np.where(known, spread.df_between, 1.0), np.where(known, spread.df_within, 1.0)
    between, within = spread.between / df_between, spread.within / df_within
    whole = between + (spread.weight / df_between - 1.0) * within
    found = np.full(len(known), np.nan)
    np.divide(between - within, whole, out=found, where=known & (whole > 0.0))
    return found


def borrowed_intervals(
    rate: Floats, processed: Floats, own: ClusterSpread, pool: ClusterSpread, *, confidence: float = 0.95
) -> tuple[Floats, Floats, Flags]:
    """Compute intervals of error rates with an intraclass correlation that is partly borrowed.

    With the bucket's own correlation and that of its pool, r = (d·own + 10·pool) / (d + 10), d the bucket's
    batches less one; own = pool where the bucket cannot tell. deff = 1 + (Σn²/N - 1) r, and the interval is
    Wilson's at p and N/deff with the t quantile of d + 10 degrees of freedom.

    Parameters
    ----------
    rate, processed : float64 arrays, shape (n_groups,)
    own, pool : ClusterSpread
        `pool` as `pooled` returns it.
    confidence : float

    Returns
    -------
    low, high : float64 arrays
        NaN where nothing was borrowed.
    is_borrowed : bool array
        The pool has at least 10 degrees of freedom and an estimate, and the bucket a rate.

    Notes
    -----
    A bucket's own few batches tell little about how alike decisions are: alone, intervals of four batches at
    2 % hold the truth in about 80 % of cases and not in 95.
    """
    check_confidence(confidence)
    shared, single = intraclass_correlation(pool), intraclass_correlation(own)
    borrowed = (pool.df_between >= _WEIGHT) & np.isfinite(shared) & np.isfinite(rate) & (processed > 0.0)
    own_df = np.where(np.isfinite(single), own.df_between, 0.0)
    mixed = (own_df * np.where(np.isfinite(single), single, 0.0) + _WEIGHT * shared) / (own_df + _WEIGHT)
    deff = 1.0 + np.maximum(own.square - 1.0, 0.0) * np.clip(mixed, 0.0, 1.0)
    quantile = scipy.special.stdtrit(own_df + _WEIGHT, (1.0 + confidence) / 2.0)
    low, high = wilson_at(
        np.where(borrowed, rate, np.nan), np.where(borrowed, processed / deff, 1.0), quantile
    )
    return low, high, borrowed
