"""The error rate of groups of batches, with an interval that knows that the batch is the unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: A sum of shares that should be zero is off by rounding: what is below this share of the work is zero.
ZERO_WORK = 1e-9
#: One decision among 10⁵ batches of 10⁴ is 1e-9 of the work, rounding noise about 1e-16: between the two.
NO_WORK = 1e-12
#: Fewer degrees of freedom than this are too few; five batches of one size have just 4, but for rounding.
MIN_DF = 4.0 - 1e-9
# A variance below this share of the binomial one is rounding noise: all batches have the same rate.
_ZERO_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class ClusterRates:
    """Error rates of groups of batches; every field is an array of shape (n_groups,).

    `rate` is NaN where nothing was processed or a component is negative; `low` and `high` also where a
    batch's processed share is negative. `variance` (CR2) is 0 where all batches have the same rate, and NaN
    where it cannot be estimated, as are `df` (Bell-McCaffrey), at least 1, the design effect `deff`, at least
    1, and `leverage`, Σ h² of the batches' shares: 1 / the effective number of batches. `n_clusters` counts
    the batches that processed something. `note` says why an interval is missing or weaker than it looks:
    ``no_decisions``, ``reprocessed``, ``one_batch``, ``clustering_not_estimable`` or ``few_batches``.
    """

    rate: Floats
    low: Floats
    high: Floats
    variance: Floats
    df: Floats
    deff: Floats
    leverage: Floats
    n_clusters: NDArray[np.int64]
    errors: Floats
    processed: Floats
    note: NDArray[np.object_]


def cluster_rates(
    group: ArrayLike,
    errors: ArrayLike,
    processed: ArrayLike,
    *,
    n_groups: int,
    confidence: float = 0.95,
) -> ClusterRates:
    """Estimate the error rate of each group, with batches and not decisions as the sampled units.

    With Y errors of n processed in each batch of a group, N = Σn, p = ΣY/N, h = n/N and r = Y - p·n:

    - variance (CR2)  v = Σ r²/(1-h) / N², what HC2 gives for batch means weighted by n
    - degrees of freedom (Bell-McCaffrey)  df = 1/(Σh² + (Σa)² - Σa²), a = h²/(1-h)
    - design effect  deff = max(1, v / [p(1-p)/N])
    - interval: Wilson's at p and N/deff, with the t quantile of df in place of the normal one

    No interval without two batches is honest: with one batch it is Wilson's plain interval, noted
    ``one_batch``: the true uncertainty is larger. Where there are no errors, only errors, or the
    same rate in every batch, nothing is learned on how batches differ: Wilson's plain interval, noted
    ``clustering_not_estimable``. With df < 4 the interval is noted ``few_batches``.

    Counts may be fractional, and negative where a batch was re-processed; `processed` includes the errors.
    "Nothing processed" is ``|processed|`` < 1e-9 of the absolute work. With a negative total of errors or of
    successes there is no rate, and with a batch that took back more than it processed no interval; both
    are noted ``reprocessed``.

    Bell, McCaffrey (2002), Survey Methodology 28:169-181; Imbens, Kolesár (2016), doi:10.1162/REST_a_00552;
    effective counts: Korn, Graubard (1998), Survey Methodology 24:193-201; Wilson (1927), as in `wilson_at`.
    """
    check_level(confidence)
    index, y, n = clusters(group, errors, processed, n_groups)

    def total(values: Any) -> Floats:
        return sums(index, values, n_groups)

    size, wrong, right = total(n), total(y), n - y
    is_plain = min(y.min(initial=0.0), right.min(initial=0.0)) >= 0.0
    # Where no batch took anything back the absolute work is the work.
    work = size if is_plain else total(np.abs(y) + np.abs(right))
    none = np.abs(size) <= ZERO_WORK * work
    # A total that is negative by rounding alone is a zero.
    negative = ~none & ((wrong < -ZERO_WORK * work) | (size - wrong < -ZERO_WORK * work))
    ratable = ~none & ~negative
    safe_size = np.where(ratable, size, 1.0)
    rate = np.clip(np.where(ratable, wrong / safe_size, np.nan), 0.0, 1.0)
    # What batches took back can cancel what others added, down to rounding: none, or all, is then exact.
    rate = np.where(ratable & (np.abs(wrong) <= NO_WORK * work), 0.0, rate)
    rate = np.where(ratable & (np.abs(size - wrong) <= NO_WORK * work), 1.0, rate)

    noise = (NO_WORK * work)[index]
    is_counted = np.abs(n) > noise
    m = np.bincount(index[is_counted], minlength=n_groups)
    took_back = np.zeros(n_groups, dtype=np.bool_)
    # What processed nothing, but turned errors into successes, adds to the variance.
    parts = is_counted
    if not is_plain:
        took_back[index[n < -noise]] = True
        parts = is_counted | (np.abs(y) > noise)
    estimable = ratable & ~took_back & (m > 1)
    if not estimable.all():
        parts &= estimable[index]
    if not parts.all():
        index, y, n = index[parts], y[parts], n[parts]
    variance, df, leverage = _cr2(index, y, n, rate, safe_size)
    binomial = rate * (1.0 - rate) / safe_size
    flat = estimable & ((variance <= _ZERO_VARIANCE * binomial) | (binomial == 0.0))
    variance[flat] = 0.0
    clustered = estimable & ~flat
    deff = np.ones(n_groups)
    np.divide(variance, binomial, out=deff, where=clustered)
    np.maximum(deff, 1.0, out=deff)

    tail = (1.0 + confidence) / 2.0
    quantile = np.full(n_groups, scipy.special.ndtri(tail))
    quantile[clustered] = scipy.special.stdtrit(df[clustered], tail)
    low, high = wilson_at(rate, safe_size / deff, quantile)
    low[took_back] = high[took_back] = np.nan

    note = np.select(
        [none, negative | took_back, m == 1, flat, df < MIN_DF],
        ["no_decisions", "reprocessed", "one_batch", "clustering_not_estimable", "few_batches"],
        "",
    ).astype(object)
    for values in (variance, df, deff, leverage):
        values[~estimable] = np.nan
    return ClusterRates(rate, low, high, variance, df, deff, leverage, m, wrong, size, note)


def clusters(
    group: ArrayLike, errors: ArrayLike, processed: ArrayLike, n_groups: int
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Check and convert what `cluster_rates` was given."""
    index = np.asarray(group)
    y, n = np.asarray(errors, dtype=np.float64), np.asarray(processed, dtype=np.float64)
    if index.ndim != 1 or y.shape != index.shape or n.shape != index.shape:
        raise ValueError(
            f"group, errors and processed must be of one length; "
            f"found shapes {index.shape}, {y.shape}, {n.shape}"
        )
    if index.size and (index.min() < 0 or index.max() >= n_groups):
        raise ValueError(f"group must be in [0, {n_groups}); found {index.min()} to {index.max()}")
    if not (np.isfinite(y).all() and np.isfinite(n).all()):
        raise ValueError("errors and processed must be finite; found NaN or infinity")
    return index.astype(np.intp), y, n


def scores(
    index: NDArray[np.intp], y: Floats, n: Floats, rate: Floats, size: Floats
) -> tuple[Floats, Floats, Floats]:
    """Each batch's part in the CR2 variance: e = r / (N·√(1-h)), the share h, and b = h/√(1-h)."""
    residual, h, others = _residuals(index, y, n, rate, size)
    root = np.sqrt(others)
    return residual / (size[index] * root), h, h / root


def _residuals(
    index: NDArray[np.intp], y: Floats, n: Floats, rate: Floats, size: Floats
) -> tuple[Floats, Floats, Floats]:
    """Each batch's residual r, its share h of the group's decisions, and 1 - h.

    At most one batch of a group has more than half of its decisions. Its 1 - h and its residual are taken
    from the others: computed directly both would cancel to noise when it has nearly all. The batches of a
    group with any must be at least two that are not zero.
    """
    h = n / size[index]
    residual, others = y - rate[index] * n, 1.0 - h
    most = np.flatnonzero(h > 0.5)
    if len(most):
        group = index[most]
        has_most = np.zeros(len(size), dtype=np.bool_)
        has_most[group] = True
        rest = np.flatnonzero(has_most[index] & (h <= 0.5))
        residual[most] = -sums(index[rest], residual[rest], len(size))[group]
        others[most] = sums(index[rest], h[rest], len(size))[group]
    return residual, h, others


def cross_sums(index: NDArray[np.intp], values: Floats, is_most: Flags, n_groups: int) -> Floats:
    """(Σx)² - Σx² of each group, where at most one x may be far larger than the rest: `is_most`."""
    others, most = values, np.zeros(n_groups)
    if is_most.any():
        others = np.where(is_most, 0.0, values)
        most = sums(index[is_most], values[is_most], n_groups)
    rest, rest_square = sums(index, others, n_groups), sums(index, others**2, n_groups)
    return 2.0 * most * rest + rest**2 - rest_square


def _cr2(
    index: NDArray[np.intp], y: Floats, n: Floats, rate: Floats, size: Floats
) -> tuple[Floats, Floats, Floats]:
    """Variance, degrees of freedom and Σh² of groups with at least two batches; 0, inf and 0 elsewhere."""
    n_groups = len(size)
    residual, h, others = _residuals(index, y, n, rate, size)
    square = h**2
    leverage = sums(index, square, n_groups)
    denominator = leverage + cross_sums(index, square / others, h > 0.5, n_groups)
    df = np.full(n_groups, np.inf)
    np.divide(1.0, denominator, out=df, where=leverage > 0.0)
    return sums(index, residual**2 / others, n_groups) / size**2, df, leverage


def wilson_at(rate: Floats, n: Floats, quantile: Any) -> tuple[Floats, Floats]:
    """Compute Wilson's score interval at given rates, numbers of independent decisions and normal quantiles.

    ``(p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n)``: exactly 0 at a rate of 0 and exactly 1 at 1; NaN
    where the rate is. Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    square = quantile**2 / n
    centre = rate + square / 2.0
    half = np.sqrt(square * (rate * (1.0 - rate) + square / 4.0))
    low = np.where(rate == 0.0, 0.0, (centre - half) / (1.0 + square))
    high = np.where(rate == 1.0, 1.0, (centre + half) / (1.0 + square))
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def sums(index: NDArray[np.intp], values: Any, n_groups: int) -> Floats:
    """Sum values by group; float64 also where there are none, which bincount counts as integers."""
    return np.bincount(index, weights=values, minlength=n_groups).astype(np.float64, copy=False)


def check_level(confidence: float) -> None:
    """Raise ValueError unless 0 < confidence < 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95; found {confidence!r}")
