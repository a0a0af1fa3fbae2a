"""One week's error rate against the next, where batches may have worked in both; p-values of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy

from safetykit_analytics.stats.power import MIN_BATCHES
from safetykit_analytics.stats.rate import (
    MIN_DF,
    ClusterRates,
    Flags,
    Floats,
    cluster_rates,
    clusters,
    cross_sums,
    scores,
    sums,
    wilson_at,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# A variance below this share of what it could be is rounding noise.
_ZERO_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of error rates, second - first, as fractions; every field is an array of shape (k,).

    `low` and `high` lie within [-1, 1]. `variance`, `df` and `p_value` are NaN where the note says
    ``clustering_not_estimable``; other notes are ``no_decisions`` and ``reprocessed``, of either side.
    `is_enough`, at least three batches on both sides and df ≥ 4, permits a verdict.
    """

    difference: Floats
    low: Floats
    high: Floats
    variance: Floats
    df: Floats
    p_value: Floats
    is_enough: Flags
    note: NDArray[np.object_]


def week_over_week(
    group: ArrayLike,
    errors: tuple[ArrayLike, ArrayLike],
    processed: tuple[ArrayLike, ArrayLike],
    *,
    n_groups: int,
    confidence: float = 0.95,
) -> tuple[ClusterRates, ClusterRates, Differences]:
    """Compare two periods of the same groups, one row per batch and group, 0 where a batch did not work.

    With the CR2 variances v of `cluster_rates`, d = p₂ - p₁ and V its variance: interval d ± t·√V, and the
    p-value of the two-sided t test of d/√V.

    A batch that errs much in both periods says nothing on the difference between them, so that its two
    residuals are set off against each other before they are squared:

    ``V = Σᵢ (r_i1/(N₁√(1-h_i1)) - r_i2/(N₂√(1-h_i2)))²``

    which is v₁ + v₂ where no batch spans both. The degrees of freedom are Satterthwaite's with terms for
    shared batches, df = (s₁+s₂)² / (s₁²/df₁ + s₂²/df₂ + 2·s₁·s₂·κ) with κ = Σ h₁h₂ + (Σc)² - Σc² and
    c = h₁h₂/√((1-h₁)(1-h₂)): the smaller of those with s = v and with s = Σh². The second is what the sizes
    alone allow: a v that is small by chance must not make few batches look like many. With every batch in
    both periods and all of one size this is the paired t test.

    Where a side has one batch only, no errors, only errors, or the same rate in every batch, its v
    says nothing. Then the interval is Newcombe's (Wilson's intervals combined) on effective counts, in which
    that side takes the other's design effect; there is no p-value and the note is
    ``clustering_not_estimable``.

    Bell, McCaffrey (2002), Survey Methodology 28:169-181; overlapping samples: Kish (1965), Survey Sampling,
    section 12.4; Satterthwaite (1946), doi:10.2307/3002019; Newcombe (1998), as in `newcombe`; effective
    counts: Rao, Scott (1992), doi:10.2307/2532311.
    """
    first, second = (
        cluster_rates(group, y, n, n_groups=n_groups, confidence=confidence)
        for y, n in zip(errors, processed, strict=True)
    )
    estimable = ~(np.isnan(first.variance) | np.isnan(second.variance))
    index, y_1, n_1 = clusters(group, errors[0], processed[0], n_groups)
    _, y_2, n_2 = clusters(group, errors[1], processed[1], n_groups)
    keep = estimable[index]
    index = index[keep]
    e_1, h_1, b_1 = scores(index, y_1[keep], n_1[keep], first.rate, _positive(first.processed))
    e_2, h_2, b_2 = scores(index, y_2[keep], n_2[keep], second.rate, _positive(second.processed))
    shared_variance = sums(index, e_1 * e_2, n_groups)
    shared_df = sums(index, h_1 * h_2, n_groups) + cross_sums(
        index, b_1 * b_2, (h_1 > 0.5) & (h_2 > 0.5), n_groups
    )
    return first, second, _compare(first, second, shared_variance, shared_df, confidence)


def _positive(size: Floats) -> Floats:
    return np.where(size > 0.0, size, 1.0)


def _compare(
    one: ClusterRates, two: ClusterRates, shared_variance: Any, shared_df: Any, confidence: float
) -> Differences:
    d = two.rate - one.rate
    known = ~(np.isnan(one.low) | np.isnan(two.low))
    total = one.variance + two.variance
    variance = total - 2.0 * shared_variance
    estimable = known & (one.variance > 0.0) & (two.variance > 0.0) & (variance > _ZERO_VARIANCE * total)
    variance = np.where(estimable, variance, np.nan)
    df = _df(one, two, shared_df, estimable)
    se = np.sqrt(variance)

    tail = (1.0 + confidence) / 2.0
    t = scipy.special.stdtrit(df, tail)
    plain = known & ~estimable
    newcombe_low, newcombe_high = _effective(one, two, scipy.special.ndtri(tail))
    low = np.where(plain, newcombe_low, np.maximum(d - t * se, -1.0))
    high = np.where(plain, newcombe_high, np.minimum(d + t * se, 1.0))
    p_value = 2.0 * scipy.special.stdtr(df, -np.abs(d) / se)
    enough = estimable & (np.minimum(one.n_clusters, two.n_clusters) >= MIN_BATCHES)
    enough[estimable] &= df[estimable] >= MIN_DF
    note = np.select(
        [
            (one.note == "no_decisions") | (two.note == "no_decisions"),
            (one.note == "reprocessed") | (two.note == "reprocessed"),
            ~estimable,
        ],
        ["no_decisions", "reprocessed", "clustering_not_estimable"],
        "",
    ).astype(object)
    return Differences(d, low, high, variance, df, p_value, enough, note)


def _df(one: ClusterRates, two: ClusterRates, shared_df: Any, estimable: Flags) -> Floats:
    """Satterthwaite with the estimated variances or with the leverages, whichever is smaller."""
    found = np.full(len(estimable), np.inf)
    for part_1, part_2 in ((one.variance, two.variance), (one.leverage, two.leverage)):
        square = part_1**2 / one.df + part_2**2 / two.df + 2.0 * part_1 * part_2 * shared_df
        df = np.full(len(estimable), np.nan)
        np.divide((part_1 + part_2) ** 2, square, out=df, where=estimable)
        found = np.minimum(found, df)
    return found


def _effective(one: ClusterRates, two: ClusterRates, z: float) -> tuple[Floats, Floats]:
    """Newcombe's interval, where a side that cannot tell takes the other's design effect."""
    is_1, is_2 = one.variance > 0.0, two.variance > 0.0
    deff_1 = np.where(is_1, one.deff, np.where(is_2, two.deff, 1.0))
    deff_2 = np.where(is_2, two.deff, np.where(is_1, one.deff, 1.0))
    n_1, n_2 = _positive(one.processed) / deff_1, _positive(two.processed) / deff_2
    return newcombe(one.rate, n_1, two.rate, n_2, z)


def newcombe(
    rate_1: Floats, n_1: Floats, rate_2: Floats, n_2: Floats, quantile: float
) -> tuple[Floats, Floats]:
    """Newcombe's hybrid score interval (his method 10) of rate_2 - rate_1, of n independent decisions each.

    ``d - √((p₂-l₂)² + (u₁-p₁)²)`` to ``d + √((u₂-p₂)² + (p₁-l₁)²)``, l and u the ends of Wilson's intervals.
    Numbers of decisions may be fractional; NaN where a rate is.
    Newcombe (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    low_1, high_1 = wilson_at(rate_1, n_1, quantile)
    low_2, high_2 = wilson_at(rate_2, n_2, quantile)
    d = rate_2 - rate_1
    return d - np.hypot(rate_2 - low_2, high_1 - rate_1), d + np.hypot(high_2 - rate_2, rate_1 - low_1)


def verdicts(found: Differences, p_adjusted: ArrayLike, *, confidence: float = 0.95) -> NDArray[np.object_]:
    """Return ``higher`` or ``lower`` where p < 1 - confidence, else ``no difference found``.

    ``not enough batches`` where `is_enough` is false.
    """
    significant = np.asarray(p_adjusted, np.float64) < 1.0 - confidence
    return np.select(
        [~found.is_enough, significant & (found.difference > 0.0), significant],
        ["not enough batches", "higher", "lower"],
        "no difference found",
    ).astype(object)


def adjust(p_values: ArrayLike, method: Literal["holm", "bh", "none"]) -> NDArray[np.float64]:
    """Adjust p-values for looking at many of them; NaN stays NaN and does not count.

    Holm (1979, Scand J Statist 6:65-70) bounds the chance of any false alarm; Benjamini, Hochberg (1995),
    doi:10.1111/j.2517-6161.1995.tb02031.x, the expected share of false ones among the alarms.
    """
    p = np.array(p_values, dtype=np.float64)
    if method not in {"holm", "bh", "none"}:
        raise ValueError(f"correction must be 'holm', 'bh' or 'none'; found {method!r}")
    known = ~np.isnan(p)
    if method == "none" or known.sum() < 2:
        return p
    sizes = p[known]
    order = np.argsort(sizes, kind="stable")
    m, rank = len(sizes), np.arange(len(sizes))
    if method == "holm":
        adjusted = np.maximum.accumulate(sizes[order] * (m - rank))
    else:
        adjusted = np.minimum.accumulate((sizes[order] * m / (rank + 1))[::-1])[::-1]
    found = np.empty(m)
    found[order] = np.minimum(adjusted, 1.0)
    p[known] = found
    return p
