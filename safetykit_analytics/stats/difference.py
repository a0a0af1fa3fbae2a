"""Is one group's error rate higher than another's? Versions of a policy, and one week against the next."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from safetykit_analytics.stats.rate import (
    MIN_DF,
    ClusterRates,
    Flags,
    Floats,
    check_confidence,
    cluster_rates,
    clusters,
    cross_sums,
    scores,
    sums,
    wilson_at,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: How many batches a verdict needs on both sides; the difference also needs `MIN_DF` degrees of freedom.
MIN_BATCHES = 3

# A variance below this share of what it could be is rounding noise.
_ZERO_VARIANCE = 1e-12
_POWER = 0.8


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of error rates, candidate - baseline; every field is an array of shape (k,).

    Attributes
    ----------
    difference, low, high : float64
        A fraction, not percent, and the ends of its interval, within [-1, 1].
    relative_risk, relative_risk_low, relative_risk_high : float64
        Candidate / baseline and its interval; NaN unless both have errors.
    variance, df, p_value, mde : float64
        Of the difference. NaN where the note says ``clustering_not_estimable``. `mde` is the smallest true
        difference that a comparison as exact as this one would find in 80 % of all cases.
    is_enough : bool
        At least three batches on both sides and df ≥ 4: a verdict is possible.
    note : object
        ``""``, or why a value is missing: ``no_decisions``, ``reprocessed`` (of either side) or
        ``clustering_not_estimable``.
    """

    difference: Floats
    low: Floats
    high: Floats
    relative_risk: Floats
    relative_risk_low: Floats
    relative_risk_high: Floats
    variance: Floats
    df: Floats
    p_value: Floats
    mde: Floats
    is_enough: Flags
    note: NDArray[np.object_]


def differences(
    rates: ClusterRates, baseline: ArrayLike, candidate: ArrayLike, *, confidence: float = 0.95
) -> Differences:
    """Compare pairs of groups that share no batch.

    With the CR2 variances v of `cluster_rates`, d = p_candidate - p_baseline and V = v₁ + v₂:

    - interval d ± t·√V and p-value of the two-sided t test of d/√V
    - df = the smaller of Satterthwaite's (s₁+s₂)² / (s₁²/df₁ + s₂²/df₂) with s = v and with s = Σh². The
      second is what the batch sizes alone allow: a v that is small by chance must not make few batches look
      like many
    - relative risk: exp(log RR ± t·√(v₁/p₁² + v₂/p₂²)), with the df of these two terms found likewise
    - minimal detectable effect at 80 % power: (t at (1+c)/2 + t at 0.8)·√V for confidence c, of the
      difference itself and not adjusted for other comparisons

    Where a side has one batch only, no errors, nothing but errors, or the same rate in every batch, its v
    says nothing. Then the interval is Newcombe's (Wilson's intervals combined) on effective counts, in which
    that side takes the other's design effect; there is no p-value and the note is
    ``clustering_not_estimable``.

    Parameters
    ----------
    rates : ClusterRates
        Of all groups, at the same confidence or another.
    baseline, candidate : arrays of int, shape (k,)
        Which groups of `rates` to compare.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Differences
        Arrays of shape (k,).

    Raises
    ------
    ValueError
        `confidence` is not between 0 and 1.

    References
    ----------
    .. [1] Satterthwaite (1946). Biometrics Bulletin 2:110-114. https://doi.org/10.2307/3002019
    .. [2] Newcombe (1998). Interval estimation for the difference between independent proportions. Stat Med
       17:873-890. https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
    .. [3] Rao, Scott (1992). A simple method for the analysis of clustered binary data (effective counts).
       Biometrics 48:577-585. https://doi.org/10.2307/2532311
    .. [4] Katz, Baptista, Azen, Pike (1978). Confidence intervals for the risk ratio. Biometrics 34:469-474.
       https://doi.org/10.2307/2530610
    .. [5] Bloom (1995). Minimum detectable effects. Evaluation Review 19:547-556.
       https://doi.org/10.1177/0193841X9501900504

    Examples
    --------
    Five batches of a baseline and five of a candidate:

    >>> rates = cluster_rates(
    ...     [0] * 5 + [1] * 5, [2, 4, 3, 2, 5, 9, 12, 7, 10, 8], [100] * 10, n_groups=2
    ... )
    >>> found = differences(rates, [0], [1])
    >>> found.difference.round(4).tolist(), found.low.round(4).tolist(), found.high.round(4).tolist()
    ([0.06], [0.0355], [0.0845])
    >>> found.p_value.round(4).tolist()
    [0.0007]
    """
    check_confidence(confidence)
    return _compare(_take(rates, baseline), _take(rates, candidate), 0.0, 0.0, confidence)


def week_over_week(
    group: ArrayLike,
    errors: tuple[ArrayLike, ArrayLike],
    processed: tuple[ArrayLike, ArrayLike],
    *,
    n_groups: int,
    confidence: float = 0.95,
) -> tuple[ClusterRates, ClusterRates, Differences]:
    """Compare two periods of the same groups, where a batch may have worked in both.

    A batch that errs much in both periods says nothing on the difference between them, so that its two
    residuals are set off against each other before they are squared:

    ``V = Σᵢ (r_i1/(N₁√(1-h_i1)) - r_i2/(N₂√(1-h_i2)))²``

    which is v₁ + v₂ where no batch spans both. The degrees of freedom likewise gain the terms of the shared
    batches, df = (s₁+s₂)² / (s₁²/df₁ + s₂²/df₂ + 2·s₁·s₂·κ) with κ = Σ h₁h₂ + (Σc)² - Σc² and
    c = h₁h₂/√((1-h₁)(1-h₂)): the smaller of those with s = v and with s = Σh². With every batch in both
    periods and all of one size this is the paired t test. All else is as in `differences`.

    Parameters
    ----------
    group : array of int, shape (k,)
        Group of each batch, 0 ≤ group < n_groups. One row per batch and group.
    errors, processed : two arrays of float or int, each of shape (k,)
        Decisions of the batch in the first and in the second period; 0 where it did not work.
    n_groups : int
    confidence : float
        Between 0 and 1.

    Returns
    -------
    first, second : ClusterRates
        Of each period, arrays of shape (n_groups,).
    change : Differences
        Second - first, arrays of shape (n_groups,).

    Raises
    ------
    ValueError
        As `cluster_rates`.

    References
    ----------
    .. [1] Bell, McCaffrey (2002). Survey Methodology 28:169-181.
    .. [2] Kish (1965). Survey Sampling, section 12.4: overlapping samples.

    Examples
    --------
    Four batches worked in both weeks, and all of them err less in the second:

    >>> first, second, change = week_over_week(
    ...     [0] * 4, ([9, 2, 5, 8], [7, 1, 4, 6]), ([100] * 4, [100] * 4), n_groups=1
    ... )
    >>> change.difference.round(4).tolist(), change.p_value.round(4).tolist()
    ([-0.015], [0.0138])

    Had they been other batches, the same counts would show nothing:

    >>> *_, unpaired = week_over_week(
    ...     [0] * 8,
    ...     ([9, 2, 5, 8, 0, 0, 0, 0], [0, 0, 0, 0, 7, 1, 4, 6]),
    ...     ([100] * 4 + [0] * 4, [0] * 4 + [100] * 4),
    ...     n_groups=1,
    ... )
    >>> unpaired.p_value.round(4).tolist()
    [0.4951]
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


def _take(rates: ClusterRates, index: ArrayLike) -> ClusterRates:
    where = np.asarray(index, dtype=np.intp)
    return ClusterRates(*(getattr(rates, field.name)[where] for field in fields(rates)))


def _compare(
    one: ClusterRates, two: ClusterRates, shared_variance: Any, shared_df: Any, confidence: float
) -> Differences:
    d = two.rate - one.rate
    known = ~(np.isnan(one.low) | np.isnan(two.low))
    total = one.variance + two.variance
    variance = total - 2.0 * shared_variance
    estimable = known & (one.variance > 0.0) & (two.variance > 0.0) & (variance > _ZERO_VARIANCE * total)
    variance = np.where(estimable, variance, np.nan)
    df = _df(one, two, one.variance, two.variance, shared_df=shared_df, estimable=estimable)
    se = np.sqrt(variance)

    tail = (1.0 + confidence) / 2.0
    t = scipy.special.stdtrit(df, tail)
    plain = known & ~estimable
    v_1, v_2, newcombe_low, newcombe_high = _effective(one, two, plain, scipy.special.ndtri(tail))
    low = np.where(plain, newcombe_low, np.maximum(d - t * se, -1.0))
    high = np.where(plain, newcombe_high, np.minimum(d + t * se, 1.0))
    risk = _relative_risk(
        one,
        two,
        v_1=v_1,
        v_2=v_2,
        shared_variance=shared_variance,
        shared_df=shared_df,
        estimable=estimable,
        known=known,
        tail=tail,
    )

    p_value = 2.0 * scipy.special.stdtr(df, -np.abs(d) / se)
    mde = (t + scipy.special.stdtrit(df, _POWER)) * se
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
    return Differences(d, low, high, *risk, variance, df, p_value, mde, enough, note)


def _df(
    one: ClusterRates, two: ClusterRates, s_1: Floats, s_2: Floats, *, shared_df: Any, estimable: Flags
) -> Floats:
    """Satterthwaite with the estimated variances or with the leverages, whichever is smaller."""
    found = np.full(len(estimable), np.inf)
    for part_1, part_2 in ((s_1, s_2), (one.leverage, two.leverage)):
        square = part_1**2 / one.df + part_2**2 / two.df + 2.0 * part_1 * part_2 * shared_df
        df = np.full(len(estimable), np.nan)
        np.divide((part_1 + part_2) ** 2, square, out=df, where=estimable)
        found = np.minimum(found, df)
    return found


def _effective(
    one: ClusterRates, two: ClusterRates, plain: Flags, z: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Variances, and Newcombe's interval, where a side that cannot tell takes the other's design effect."""
    is_1, is_2 = one.variance > 0.0, two.variance > 0.0
    deff_1 = np.where(is_1, one.deff, np.where(is_2, two.deff, 1.0))
    deff_2 = np.where(is_2, two.deff, np.where(is_1, one.deff, 1.0))
    n_1, n_2 = _positive(one.processed) / deff_1, _positive(two.processed) / deff_2
    low, high = newcombe(one.rate, n_1, two.rate, n_2, z)
    v_1 = np.where(plain, one.rate * (1.0 - one.rate) / n_1, one.variance)
    v_2 = np.where(plain, two.rate * (1.0 - two.rate) / n_2, two.variance)
    return v_1, v_2, low, high


def newcombe(
    rate_1: Floats, n_1: Floats, rate_2: Floats, n_2: Floats, quantile: float
) -> tuple[Floats, Floats]:
    """Newcombe's hybrid score interval (his method 10) of rate_2 - rate_1, of n independent decisions each.

    ``d - √((p₂-l₂)² + (u₁-p₁)²)`` to ``d + √((u₂-p₂)² + (p₁-l₁)²)``, l and u the ends of Wilson's intervals.
    Numbers of decisions may be fractional; NaN where a rate is.

    References
    ----------
    .. [1] Newcombe (1998). Stat Med 17:873-890.
       https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
    """
    low_1, high_1 = wilson_at(rate_1, n_1, quantile)
    low_2, high_2 = wilson_at(rate_2, n_2, quantile)
    d = rate_2 - rate_1
    return d - np.hypot(rate_2 - low_2, high_1 - rate_1), d + np.hypot(high_2 - rate_2, rate_1 - low_1)


def _relative_risk(
    one: ClusterRates,
    two: ClusterRates,
    *,
    v_1: Floats,
    v_2: Floats,
    shared_variance: Any,
    shared_df: Any,
    estimable: Flags,
    known: Flags,
    tail: float,
) -> tuple[Floats, Floats, Floats]:
    has_both = (one.rate > 0.0) & (two.rate > 0.0)
    p_1, p_2 = np.where(has_both, one.rate, 1.0), np.where(has_both, two.rate, 1.0)
    s_1, s_2 = v_1 / p_1**2, v_2 / p_2**2
    # The log of two rates of the same batches can vary less than their difference does, never below nothing.
    variance = np.maximum(s_1 + s_2 - 2.0 * shared_variance / (p_1 * p_2), 0.0)
    t = scipy.special.stdtrit(_df(one, two, s_1, s_2, shared_df=shared_df, estimable=estimable), tail)
    spread = np.where(estimable, t, scipy.special.ndtri(tail)) * np.sqrt(variance)
    ratio = np.where(has_both, p_2 / p_1, np.nan)
    has_interval = has_both & known
    # Beyond e^±700 there is no double: with so little known the interval is everything.
    factor = np.exp(np.minimum(spread, 700.0))
    return (
        ratio,
        np.where(has_interval, ratio / factor, np.nan),
        np.where(has_interval, ratio * factor, np.nan),
    )


def verdicts(found: Differences, p_adjusted: ArrayLike, *, confidence: float = 0.95) -> NDArray[np.object_]:
    """Return in two or three words what a difference shows.

    Parameters
    ----------
    found : Differences
        Of shape (k,).
    p_adjusted : array of float, shape (k,)
        p-values adjusted for all comparisons that are looked at together, see `adjust`.
    confidence : float
        A difference counts from p < 1 - confidence.

    Returns
    -------
    array of object, shape (k,)
        ``higher``, ``lower``, ``no difference found``, or ``not enough batches`` where `is_enough` is false.

    Examples
    --------
    >>> rates = cluster_rates([0] * 5 + [1] * 5, [2, 4, 3, 2, 5, 9, 12, 7, 10, 8], [100] * 10, n_groups=2)
    >>> found = differences(rates, [0], [1])
    >>> verdicts(found, found.p_value).tolist()
    ['higher']
    """
    significant = np.asarray(p_adjusted, np.float64) < 1.0 - confidence
    return np.select(
        [~found.is_enough, significant & (found.difference > 0.0), significant],
        ["not enough batches", "higher", "lower"],
        "no difference found",
    ).astype(object)
