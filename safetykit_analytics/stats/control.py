"""Which buckets of a series of error rates stand out from how the series varies anyway. NumPy and scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from safetykit_analytics.stats.rate import Floats

#: Fewer complete buckets than this tell too little of how a series varies.
MIN_BUCKETS = 10
#: So many complete buckets in a row on one side of the center are out of control too.
RUN = 9

_SIGMAS = 3.25
# The standard deviation of normal values, as a multiple of their median absolute deviation.
_PER_DEVIATION = 1.4826
# Deviations beyond so many of these count as that many.
_MOST_DEVIATIONS = 3.0


@dataclass(frozen=True, eq=False)
class ControlLimits:
    """Limits of one series: `lower` and `upper` of each bucket, in [0, 1], NaN where it processed nothing.

    `center` is the median error rate of the base buckets, NaN if they processed nothing. `sigma_z`, at least
    1, is how many times the buckets vary as independent decisions would, NaN if not estimable. `note` says
    why limits are missing: ``few_buckets``, or ``clustering_not_estimable`` where all or none are errors.
    """

    center: float
    sigma_z: float
    lower: Floats
    upper: Floats
    note: str


def laney_limits(errors: ArrayLike, processed: ArrayLike, is_base: ArrayLike) -> ControlLimits:
    """Compute limits in the manner of Laney's p' chart: a p chart that allows for batches that differ.

    With the median rate p, f(p) = 2·arcsin(√p), dᵢ = f(pᵢ) - f(p) and zᵢ = √nᵢ·dᵢ, sigma_z is the standard
    deviation of z around 0, at least 1, and sigma_d that of d; values beyond 3 robust standard deviations
    (1.4826 times the median absolute value) count as 3. A bucket's limits are where ``|dᵢ|`` is 3.25 times
    the larger of sigma_z/√nᵢ and sigma_d. p and sigma come from the buckets of `is_base` with decisions and
    without negative counts.

    Laney uses z of p itself, the mean, the moves between neighbours, 3, and sigma_z alone. Here a batch may
    work in two buckets, which makes neighbours alike and their moves too small. The arcsine makes rates
    near 0 symmetric; the median and the bound of 3 keep a few bad buckets out of their own limits. sigma_d is
    for large buckets: one batch may make them large without making them surer.

    Laney (2002), doi:10.1081/QEN-120003555; the bound: Huber (1964), doi:10.1214/aoms/1177703732.
    """
    y, n = np.asarray(errors, dtype=np.float64), np.asarray(processed, dtype=np.float64)
    base = np.asarray(is_base, dtype=bool)
    if y.ndim != 1 or n.shape != y.shape or base.shape != y.shape:
        raise ValueError(
            f"errors, processed and is_base must be of one length; "
            f"found shapes {y.shape}, {n.shape}, {base.shape}"
        )
    is_rate = (n > 0.0) & (y >= 0.0) & (y <= n)
    base = base & is_rate
    nothing = np.full(len(y), np.nan)
    center = _median_rate(y[base], n[base]) if base.any() else np.nan
    if base.sum() < MIN_BUCKETS:
        return ControlLimits(center, np.nan, nothing, nothing, "few_buckets")
    if not 0.0 < center < 1.0:
        return ControlLimits(center, np.nan, nothing, nothing, "clustering_not_estimable")
    middle = 2.0 * np.arcsin(np.sqrt(center))
    moves = 2.0 * np.arcsin(np.sqrt(y[base] / n[base])) - middle
    sigma_z = max(1.0, _spread(moves * np.sqrt(n[base])))
    width = _SIGMAS * np.maximum(sigma_z / np.sqrt(np.where(is_rate, n, np.nan)), _spread(moves))
    lower = np.sin(np.clip(middle - width, 0.0, np.pi) / 2.0) ** 2
    upper = np.sin(np.clip(middle + width, 0.0, np.pi) / 2.0) ** 2
    return ControlLimits(center, sigma_z, lower, upper, "")


def _spread(values: Floats) -> float:
    """Estimate the standard deviation around 0, with far values pulled in."""
    most = _MOST_DEVIATIONS * _PER_DEVIATION * float(np.median(np.abs(values)))
    return float(np.sqrt((np.clip(values, -most, most) ** 2).sum() / (len(values) - 1)))


def _median_rate(y: Floats, n: Floats) -> float:
    """Return the median of rates; of those without errors in most buckets, the mean."""
    middle = float(np.median(y / n))
    return middle if 0.0 < middle < 1.0 else float(y.sum() / n.sum())


def find_runs(rate: ArrayLike, center: float) -> NDArray[np.bool_]:
    """Return which values end a run of at least nine on one side of the center; NaN ends a run.

    Nelson (1984), doi:10.1080/00224065.1984.11978921.
    """
    side = np.nan_to_num(np.sign(np.asarray(rate, dtype=np.float64) - center))
    found = np.zeros(len(side), dtype=np.bool_)
    length, last = 0, 0.0
    for i, now in enumerate(side.tolist()):
        length = length + 1 if now == last and now else int(now != 0.0)
        last = now
        found[i] = length >= RUN
    return found


def prediction_bound(moves: ArrayLike, *, level: float) -> float:
    """Return what the next move of a series stays below in absolute value, with a chance of `level`.

    Moves are taken for independent normal values of mean 0: t · √(Σ moves² / k), t the quantile with k
    degrees of freedom; NaN without a move. Hahn (1969), doi:10.1080/01621459.1969.10501020.
    """
    known = np.asarray(moves, dtype=np.float64)
    if not len(known):
        return np.nan
    return float(scipy.special.stdtrit(len(known), (1.0 + level) / 2.0) * np.sqrt(np.mean(known**2)))
