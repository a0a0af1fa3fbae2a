"""Which difference a comparison would find, and whether it has batches enough for any verdict.

NumPy and scipy.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from safetykit_analytics.stats.anytime import (
    BETS,
    MOST_STAKED,
    NOISE,
    Classes,
    is_look,
    log_choose,
    log_factors,
    log_path,
    shifted,
)
from safetykit_analytics.stats.permutation import SEED
from safetykit_analytics.stats.rate import sums
from safetykit_analytics.stats.strata import Strata, residuals, score_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from safetykit_analytics.stats.permutation import Outcomes
    from safetykit_analytics.stats.rate import Floats

#: How many batches a verdict needs on both sides of the common strata.
MIN_BATCHES = 3

_MOST_MISSING = 99

#: A detectable difference is found in this share of comparisons.
POWER = 0.8

# One look: how closely the difference is found, as a share of itself.
_CLOSE = 1e-3
# Any look: differences at which comparisons are drawn, in units of one look's, and how many at each.
_STEPS, _STRATA_DRAWN, _LEAST_DRAWN, _MOST_DRAWN = (1.0, 1.4, 2.0, 3.0), 1_600, 4, 8
# To how many comparisons the strata of these are combined.
_COMBINED = 40
# A batch that is nearly all of its stratum varies by more than its residual shows, but not endlessly.
_LEAST_LEFT = 0.05


def permutation_detectable(strata: Strata, found: Outcomes, *, alpha: float) -> float:
    """Return the smallest true difference that 80 % of comparisons like this one would find; at most 1.

    The d at which the lowest fifth of the scores, d·w plus noise, reaches the permutation quantile of data
    with that difference. Noise is what the permutations of this comparison show, scaled to the rates at d;
    the difference itself widens the quantile too. NaN where nothing varies, or not even 1 would be found.
    """
    estimate = found.difference
    noise = found.base + found.own - estimate * found.shift
    if math.isnan(estimate) or not np.abs(noise).max() > 0.0:
        return math.nan
    share = float((strata.weight * strata.chosen / strata.size).sum() / found.weight)
    rates = found.errors_base / found.weight, found.errors_own / found.weight
    low_noise = float(np.quantile(noise, 1.0 - POWER))

    def is_found(d: float) -> bool:
        permuted, true = _variance_ratios(rates, d, share)
        outcomes = np.abs(noise * math.sqrt(permuted) + d * found.shift)
        return d * found.weight + low_noise * math.sqrt(true) > float(np.quantile(outcomes, 1.0 - alpha))

    if not is_found(1.0):
        return math.nan
    low, high = 0.0, 1.0
    while high - low > _CLOSE * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def _variance_ratios(rates: tuple[float, float], difference: float, share: float) -> tuple[float, float]:
    """Scale variances to a difference: that of a score over permutations, and that of the score itself.

    They were measured at `rates`, of the baseline and of the candidate, which has a share of the batches.
    """
    base, own, other = _spread(rates[0]), _spread(rates[1]), _spread(rates[0] + difference)
    measured = max((1.0 - share) * base + share * own, 1e-12)
    permuted, true = (1.0 - share) * base + share * other, (1.0 - share) * other + share * base
    return permuted / measured, true / measured


def detectable(strata: Strata, difference: ArrayLike, *, alpha: ArrayLike) -> Floats:
    """Return the smallest true difference that one of the looks would find in 80 % of comparisons like these.

    A batch's errors vary by p(1-p)·n·(1 + (n-1)·ICC), with the ICC that the residuals without today's
    difference have. Divided by the root of it, these are exchanged among all batches. Multiplied by the root
    at their new places, for the rates with a difference d, and with d added, they are a comparison with that
    difference. A few are drawn, with a constant seed, at some d; the strata of these are combined to many.
    At most 1; NaN where nothing varies, or not even 1 would be found.
    """
    center = np.nan_to_num(np.asarray(difference, dtype=np.float64))
    limit = -np.log(np.asarray(alpha, dtype=np.float64))
    n_strata, row_pair = len(strata.size), strata.pair[strata.stratum]
    if not n_strata:
        return np.full(len(center), np.nan)
    residual = shifted(strata, center)
    first, classes = np.cumsum(strata.size) - strata.size, Classes(strata)
    noise = NOISE * score_variance(strata, np.abs(strata.shift))
    weight = np.maximum(strata.total(strata.weight), 1e-9)
    rates = [strata.total(strata.score_of(part)) / weight for part in (-strata.base, strata.own)]
    share = strata.total(strata.weight * strata.chosen / strata.size) / weight
    measured = np.maximum((1.0 - share) * _spread(rates[0]) + share * _spread(rates[1]), 1e-12)
    typical, standard = _standardize(strata, residual, measured)
    draws = int(np.clip(_STRATA_DRAWN * len(center) // n_strata, _LEAST_DRAWN, _MOST_DRAWN))
    look_pair = strata.pair[is_look(strata)]
    begins = np.searchsorted(look_pair, np.arange(len(center)))

    def excess(d: Floats) -> Floats:
        rng = np.random.default_rng(SEED)
        spread = np.where(strata.is_candidate, _spread(rates[0] + d)[row_pair], _spread(rates[0])[row_pair])
        scale = typical * np.sqrt(spread / measured[row_pair])
        logs = []
        for _ in range(draws):
            order = np.lexsort((rng.random(len(residual)), row_pair))
            drawn = residuals(strata.stratum, standard[order] * scale, strata.n, n_strata)
            drawn += d[row_pair] * strata.shift
            logs.append(log_factors(strata, classes, drawn, first, noise)[: len(BETS)])
        every, places = np.array(logs), np.arange(n_strata)
        most = [
            np.maximum.reduceat(
                log_path(strata, every[rng.integers(draws, size=n_strata), :, places].T), begins
            )
            for _ in range(_COMBINED)
        ]
        found: Floats = np.quantile(most, 1.0 - POWER, axis=0) - limit
        return found

    variance = strata.total(score_variance(strata, residual))
    quantiles = scipy.special.ndtri(POWER) - scipy.special.ndtri(np.exp(-limit) / 2.0)
    start = quantiles * np.sqrt(variance) / weight
    points = [np.minimum(start * factor, 1.0) for factor in _STEPS] + [np.ones(len(center))]
    low, low_excess, found = np.zeros(len(center)), -limit, np.full(len(center), np.nan)
    for point in points:
        now = excess(point)
        crossed = np.isnan(found) & (now > 0.0) & (variance > 0.0)
        part = -low_excess / np.maximum(now - low_excess, 1e-12)
        found = np.where(crossed, low + (point - low) * np.clip(part, 0.0, 1.0), found)
        if not (np.isnan(found) & (variance > 0.0)).any():
            break
        low, low_excess = point, np.minimum(now, 0.0)
    return found


def _standardize(strata: Strata, residual: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """Return how much each batch's errors vary, and residuals in units of it, with mean 0 in each pair."""
    n, pair, count = strata.n, strata.pair[strata.stratum], len(measured)
    # What the rate of the stratum leaves of a batch's variance.
    left = np.maximum(1.0 - n / sums(strata.stratum, n, len(strata.size))[strata.stratum], _LEAST_LEFT)
    ratio = residual**2 / (measured[pair] * n * left)
    above, possible = (sums(pair, values / np.sqrt(n), count) for values in (ratio - 1.0, n - 1.0))
    icc = np.clip(above / np.maximum(possible, 1e-9), 0.0, 1.0)
    typical = np.sqrt(n * (1.0 + (n - 1.0) * icc[pair]))
    standard = residual / (typical * np.sqrt(left))
    standard -= (sums(pair, standard, count) / np.maximum(np.bincount(pair, minlength=count), 1))[pair]
    return typical, standard


def _spread(rate: Any) -> Any:
    """p(1-p): errors at a rate p vary in proportion to it."""
    p = np.clip(rate, 0.0, 1.0)
    return p * (1.0 - p)


def can_decide(sides: Sequence[tuple[int, int]], *, alpha: float, any_look: bool) -> bool:
    """Whether the clearest of all outcomes would be a verdict at level `alpha`.

    The clearest is that all decisions of one side are errors and none of the other, with batches of one size.
    `sides` are the batches of baseline and candidate in each stratum that has both. Three against three
    permit 20 assignments, of which two are as clear as any: not enough at 5 %.
    """
    if min(sum(b for b, _ in sides), sum(k for _, k in sides)) < MIN_BATCHES:
        return False
    return _best(sides, any_look=any_look) > -math.log(alpha)


def missing_batches(sides: Sequence[tuple[int, int]], *, alpha: float, any_look: bool) -> int | None:
    """Return how many more batches of the candidate a verdict needs, beside most of the baseline's.

    None where not even 99 would do. Here a stratum may have batches of the baseline only.
    """
    strata = list(sides)
    common = [pair for pair in strata if min(pair) > 0]
    if can_decide(common, alpha=alpha, any_look=any_look):
        return 0
    if not strata:
        return None
    most = max(range(len(strata)), key=lambda place: strata[place])
    base, own = strata.pop(most)
    rest = [pair for pair in strata if min(pair) > 0]
    for more in range(1, _MOST_MISSING + 1):
        if can_decide([*rest, (base, own + more)], alpha=alpha, any_look=any_look):
            return more
    return None


def _best(sides: Sequence[tuple[int, int]], *, any_look: bool) -> float:
    """Minus the logarithm of the smallest p-value that there can be."""
    if any_look:
        logs = np.sum([_best_bets(b, k) for b, k in sides], axis=0)
        return float(scipy.special.logsumexp(logs) - math.log(2 * len(BETS)))
    twins = 2 if all(b == k for b, k in sides) else 1
    return sum(math.log(math.comb(b + k, k)) for b, k in sides) - math.log(twins)


@functools.lru_cache(maxsize=4096)
def _best_bets(base: int, own: int) -> Floats:
    """Logarithms of exp(λU) / E exp(λU) when the sides differ in every decision, for the positive bets."""
    m, k = base + own, own
    score = k * base / m
    variance = k * base / (m * (m - 1.0)) * score
    largest = max(k, base) / m
    bets = np.minimum(np.array(BETS) / math.sqrt(variance), MOST_STAKED / largest)
    counts = np.arange(max(0, 2 * k - m), k + 1)
    chances = log_choose(k, counts) + log_choose(m - k, k - counts) - log_choose(m, k)
    outcomes = counts - k * k / m
    found: Floats = bets * score - scipy.special.logsumexp(chances + bets[:, None] * outcomes, axis=1)
    return found
