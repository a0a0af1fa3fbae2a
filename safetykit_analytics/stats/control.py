"""Which buckets of a series of error rates stand out from how the series varies anyway.

Place in the flow: **control** → rates. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from safetykit_analytics.stats.rate import Floats

#: Fewer complete buckets than this tell too little of how a series varies.
MIN_BUCKETS = 20

# The mean of |z_i - z_(i-1)| of independent standard normal values.
_MEAN_MOVING_RANGE = 1.128


@dataclass(frozen=True, eq=False)
class ControlLimits:
    """Limits of one series.

    Attributes
    ----------
    center : float
        Errors / processed of the buckets that the limits were taken from; NaN if they processed nothing.
    sigma_z : float
        How many times the buckets vary as independent decisions would, at least 1; NaN if not estimable.
    lower, upper : float64 arrays, shape (k,)
        Limits of each bucket, within [0, 1]; NaN where it processed nothing and where `note` says why.
    note : str
        ``""``, ``few_buckets``, or ``clustering_not_estimable`` where there is no error or nothing else.
    """

    center: float
    sigma_z: float
    lower: Floats
    upper: Floats
    note: str


def laney_limits(errors: ArrayLike, processed: ArrayLike, is_base: ArrayLike) -> ControlLimits:
    """Three-sigma limits of Laney's p' chart: a p chart that knows that batches differ.

    With p = ΣY/Σn, sᵢ = √(p(1-p)/nᵢ) and zᵢ = (pᵢ - p)/sᵢ, sigma_z = mean|zᵢ - zᵢ₋₁| / 1.128, at least 1, and
    the limits are p ± 3·sᵢ·sigma_z. The p chart (sigma_z = 1) takes decisions for independent and gives
    alarm all the time.

    Parameters
    ----------
    errors, processed : arrays of float, shape (k,)
        Per bucket, in the order of time; may be fractional.
    is_base : array of bool, shape (k,)
        The buckets that p and sigma_z are taken from: the complete ones. Of them, those without decisions
        or with negative counts are left out, and then neighbours are neighbours.

    Returns
    -------
    ControlLimits

    Raises
    ------
    ValueError
        Shapes differ.

    References
    ----------
    .. [1] Laney (2002). Improved control charts for attributes. Quality Engineering 14:531-537.
       https://doi.org/10.1081/QEN-120003555

    Examples
    --------
    >>> errors = [5, 9, 7, 6, 8] * 4 + [40]
    >>> found = laney_limits(errors, [100] * 21, [True] * 20 + [False])
    >>> found.center, found.sigma_z, round(float(found.upper[-1]), 3)
    (0.07, 1.0, 0.147)
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
    center = float(y[base].sum() / n[base].sum()) if base.any() else np.nan
    if base.sum() < MIN_BUCKETS:
        return ControlLimits(center, np.nan, nothing, nothing, "few_buckets")
    spread = center * (1.0 - center)
    if spread <= 0.0:
        return ControlLimits(center, np.nan, nothing, nothing, "clustering_not_estimable")
    z = (y[base] / n[base] - center) / np.sqrt(spread / n[base])
    sigma_z = max(1.0, float(np.abs(np.diff(z)).mean()) / _MEAN_MOVING_RANGE)
    width = 3.0 * sigma_z * np.sqrt(spread / np.where(is_rate, n, np.nan))
    return ControlLimits(
        center, sigma_z, np.maximum(center - width, 0.0), np.minimum(center + width, 1.0), ""
    )
