"""Test and interval of a comparison that may be looked at every week: a test martingale.

Under equal versions, E exp(λU_s) over all assignments of the versions in a stratum is known exactly. So the
product of exp(λU_s) / E exp(λU_s) over strata is a martingale that starts at 1: it ever exceeds 20
with probability 5 % at most. NumPy and scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from safetykit_analytics.stats.strata import Strata, score_variance

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from safetykit_analytics.stats.rate import Flags, Floats

    Test = Callable[[Floats], Floats]

#: Bets λ = ± c / √V_s, for a score of variance V_s; none stakes more than `MOST_STAKED` on one batch.
BETS = (0.25, 0.5, 1.0, 2.0, 4.0)
MOST_STAKED = 3.0

# exp of more than this is no double.
_MOST_LOG = 700.0
# Residuals that vary less than this share of the shifts do so by rounding.
NOISE = 1e-18
# Strata of one width are met together, as many as keep the recursion in the cache.
_CELLS = 60_000
# Trebled sixty times, any step has reached a bound; forty more are enough to come close to the end.
_MOST_STEPS = 100


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a test martingale says of each comparison; arrays of shape (pairs,).

    `log_now` is the logarithm of the e-value at the last look, `log_most` that of the largest at any look, at
    least 0: p = exp(-log_most) holds at any time.
    """

    log_now: Floats
    log_most: Floats

    @property
    def e_value(self) -> Floats:
        """exp(log_now)."""
        return np.exp(np.minimum(self.log_now, _MOST_LOG))

    @property
    def p_value(self) -> Floats:
        """1 / max(1, the largest e-value at any look)."""
        return np.exp(-np.minimum(self.log_most, _MOST_LOG))


def _log_symmetric(x: Floats, k: NDArray[np.int64], m: NDArray[np.int64]) -> Floats:
    """Log of e_k(x) / C(m, k) for x of shape (m, bets, strata), 0 where a stratum has fewer batches.

    e_k is the elementary symmetric polynomial, and the mean of exp(λU) over all choices of k of m batches
    where x = exp(λr): ``e_j(x₁…x_i) = e_j(x₁…x_(i-1)) + x_i · e_(j-1)(x₁…x_(i-1))``, without cancellation.
    """
    width, most, least = len(x), int(k.max()), int(k.min())
    e = np.zeros((most + 1, *x.shape[1:]))
    e[0] = 1.0
    for i in range(width):
        high = min(i + 1, most)
        low = max(1, least - (width - 1 - i))
        e[low : high + 1] += x[i] * e[low - 1 : high]
    log_e = np.log(np.take_along_axis(e, k[None, None, :], axis=0)[0])
    found: Floats = log_e - log_choose(m, k)
    return found


def log_choose(m: Any, k: Any) -> Any:
    """Return the logarithm of the number of choices of k of m."""
    log = scipy.special.gammaln
    return log(m + 1.0) - log(k + 1.0) - log(m - k + 1.0)


class Classes:
    """Rows of strata, side by side with those of strata of about the same size."""

    def __init__(self, strata: Strata) -> None:
        m, k = strata.size, strata.chosen
        self.flip = np.where(2 * k > m, -1.0, 1.0)
        self.k = np.minimum(k, m - k)
        first = np.cumsum(m) - m
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        # Sorted by size, so that neighbours need little padding.
        order = np.lexsort((self.k, m))
        begin = 0
        while begin < len(order):
            size = int(m[order[begin]])
            widest = max(size + 2, size * 9 // 8)
            end = begin + 1
            room = max(1, _CELLS // (2 * len(BETS) * (int(self.k[order[begin]]) + 1)))
            while end < len(order) and m[order[end]] <= widest and end - begin < room:
                end += 1
            some = order[begin:end]
            place = np.arange(int(m[some].max()))[:, None]
            rows = np.where(place < m[some], first[some] + place, -1)
            self.parts.append((some, rows))
            begin = end


def _make_path(strata: Strata, zero: Floats, slope: Floats) -> Callable[[Floats], Floats]:
    """Return a function from τ of each pair to log e-values after each look, at residuals zero + τ·slope."""
    classes, row_pair = Classes(strata), strata.pair[strata.stratum]
    first = np.cumsum(strata.size) - strata.size
    noise = NOISE * score_variance(strata, np.abs(strata.shift) + np.abs(slope))

    def path(value: Floats) -> Floats:
        return log_path(strata, log_factors(strata, classes, zero + value[row_pair] * slope, first, noise))

    return path


def log_path(strata: Strata, factors: Floats) -> Floats:
    """Log e-values after each look, of log factors of some bets in each stratum."""
    starts = np.searchsorted(strata.pair, strata.pair)
    along = np.cumsum(factors, axis=1)
    along -= np.where(starts > 0, along[:, np.maximum(starts - 1, 0)], 0.0)
    logs = along[:, is_look(strata)]
    # As scipy's logsumexp, which takes nine times as long for so few values.
    most = logs.max(axis=0)
    found: Floats = most + np.log(np.exp(logs - most).sum(axis=0)) - np.log(2 * len(BETS))
    return found


def is_look(strata: Strata) -> Flags:
    """Whether a stratum is the last of its look."""
    return np.append((np.diff(strata.look) != 0) | (np.diff(strata.pair) != 0), [True])


def make_test(strata: Strata, zero: Floats, slope: Floats) -> Callable[[Floats], Evidence]:
    """Return a function that weighs the evidence against residuals zero + τ·slope, for τ of each pair.

    `zero` and `slope`, of shape (k,), both add up to 0 in each stratum.
    """
    if not len(strata.pair):
        return lambda value: Evidence(np.zeros(len(value)), np.zeros(len(value)))
    path_of = _make_path(strata, zero, slope)
    look_pair = strata.pair[is_look(strata)]
    begins = np.flatnonzero(np.diff(look_pair, prepend=-1))
    ends = np.append(begins[1:], len(look_pair)) - 1

    def test(value: Floats) -> Evidence:
        now, most = np.zeros(len(value)), np.zeros(len(value))
        path, pairs = path_of(value), look_pair[begins]
        now[pairs] = path[ends]
        most[pairs] = np.maximum(np.maximum.reduceat(path, begins), 0.0)
        return Evidence(now, most)

    return test


def _bets(strata: Strata, residual: Floats, first: NDArray[np.int64], noise: Floats) -> tuple[Floats, Floats]:
    """Bets of shape (bets / 2, strata), the negative ones left out, and the variance of each score."""
    variance = score_variance(strata, residual)
    largest = np.maximum.reduceat(np.abs(residual), first)
    is_live = variance > noise
    scale = np.where(is_live, variance, 1.0)
    cap = np.where(is_live, MOST_STAKED / np.where(largest > 0.0, largest, 1.0), 0.0)
    return np.minimum(np.array(BETS)[:, None] / np.sqrt(scale), cap), np.where(is_live, variance, 0.0)


def log_factors(
    strata: Strata, classes: Classes, residual: Floats, first: NDArray[np.int64], noise: Floats
) -> Floats:
    """λU - log E exp(λU) for each bet and stratum."""
    bets, _ = _bets(strata, residual, first, noise)
    bets = np.concatenate([bets, -bets])
    score = np.bincount(strata.stratum, weights=residual * strata.is_candidate, minlength=len(strata.size))
    padded = np.append(residual, 0.0)
    logs = bets * score
    for some, rows in classes.parts:
        half = len(BETS)
        power = (bets[:half, some] * classes.flip[some])[None] * padded[rows][:, None, :]
        up = np.exp(power)
        x = np.concatenate([up, 1.0 / up], axis=1)
        x *= (rows >= 0)[:, None, :]
        logs[:, some] -= _log_symmetric(x, classes.k[some], strata.size[some])
    return logs


def evidence(strata: Strata) -> Evidence:
    """Weigh the evidence against equal versions, at each look and now; strata are in the order of time.

    For a bet λ, exp(λU_s) / E exp(λU_s) over the permutations of a stratum has mean 1 whatever the errors
    are, and so has the product over strata. Bets are ±c/√V_s for c = ¼, ½, 1, 2, 4, at most
    ``3 / max|r|``, and the e-value is the mean of their products.

    Ramdas, Grünwald, Vovk, Shafer (2023), doi:10.1214/23-STS894; Ville (1939), Étude critique de la notion de
    collectif; bets: Waudby-Smith, Ramdas (2024), doi:10.1093/jrsssb/qkad009.
    """
    n_pairs = int(strata.pair[-1]) + 1 if len(strata.pair) else 0
    return make_test(strata, strata.base + strata.own, -strata.shift)(np.zeros(n_pairs))


def first_look(strata: Strata, *, alpha: ArrayLike) -> NDArray[np.int64]:
    """Return the first look, as `Strata.look` numbers them, with an e-value above 1 / alpha; -1 for none."""
    limit = -np.log(np.asarray(alpha, dtype=np.float64))
    found = np.full(len(limit), -1, dtype=np.int64)
    if len(strata.pair):
        last = is_look(strata)
        pair, look = strata.pair[last], strata.look[last]
        path = _make_path(strata, strata.base + strata.own, -strata.shift)(np.zeros(len(limit)))
        beyond = np.flatnonzero(path > limit[pair])
        # Of repeated places the last assignment stays: from the last look to the first.
        found[pair[beyond[::-1]]] = look[beyond[::-1]]
    return found


def confidence_sequence(strata: Strata, estimate: ArrayLike, *, alpha: ArrayLike) -> tuple[Floats, Floats]:
    """Return each difference's interval that holds at all looks at once: every δ that no look has rejected.

    Within [-1, 1] around the Mantel-Haenszel `estimate`; NaN where an earlier look rejected the estimate
    itself. 0 lies inside exactly where the p-value for any look is at least `alpha`.
    Howard, Ramdas, McAuliffe, Sekhon (2021), doi:10.1214/20-AOS1991.
    """
    center = np.asarray(estimate, dtype=np.float64)
    test = make_test(strata, strata.base + strata.own, -strata.shift)
    # What is not known must not spread to other comparisons.
    step = np.sqrt(strata.total(score_variance(strata, shifted(strata, np.nan_to_num(center)))))
    step = 3.0 * step / np.maximum(strata.total(strata.weight), 1.0)
    step = np.maximum(step, 1e-6)
    return _invert(test, center, step=step, bounds=(-1.0, 1.0), alpha=alpha)


def ratio_sequence(
    strata: Strata, errors: tuple[Floats, Floats], *, alpha: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Return Mantel-Haenszel ratios, and the ends of intervals that hold at all looks at once.

    `errors` are Σ Y_b N_c / N and Σ Y_c N_b / N of each pair. NaN unless both sides have errors in common
    strata, and as in `confidence_sequence`.
    """
    known = (errors[0] > 0.0) & (errors[1] > 0.0)
    inverse = np.where(known, errors[0], 1.0) / np.where(known, errors[1], 1.0)
    log_test = make_test(strata, strata.base, strata.own)

    def test(value: Floats) -> Evidence:
        return log_test(np.exp(value))

    own = strata.base + inverse[strata.pair[strata.stratum]] * strata.own
    spread = np.sqrt(strata.total(score_variance(strata, own)))
    step = np.clip(3.0 * spread / np.where(known, errors[0], 1.0), 1e-3, 2.0)
    low, high = _invert(test, np.log(inverse), step=step, bounds=(-30.0, 30.0), alpha=alpha)
    low, high = np.where(low <= -30.0, -np.inf, low), np.where(high >= 30.0, np.inf, high)
    return tuple(np.where(known, values, np.nan) for values in (1.0 / inverse, np.exp(-high), np.exp(-low)))  # type: ignore[return-value]


def shifted(strata: Strata, difference: Floats) -> Floats:
    """Residuals of all batches without a difference of each comparison."""
    found: Floats = strata.base + strata.own - difference[strata.pair[strata.stratum]] * strata.shift
    return found


def _invert(
    test: Callable[[Floats], Evidence],
    center: Floats,
    *,
    step: Floats,
    bounds: tuple[float, float],
    alpha: ArrayLike,
) -> tuple[Floats, Floats]:
    """Find the values on both sides of the estimate up to which nothing was rejected.

    0 is always met, and bounds the search on its side: it lies inside exactly if it was kept.
    """
    limit = -np.log(np.asarray(alpha, dtype=np.float64))
    start = np.clip(np.nan_to_num(center), *bounds)
    is_kept = test(start).log_most <= limit
    null_excess = test(np.zeros(len(start))).log_most - limit
    ends = [
        _walk(test, start, limit, null_excess, side=side, step=step, bound=bound)
        for side, bound in ((-1.0, bounds[0]), (1.0, bounds[1]))
    ]
    usable = is_kept & ~np.isnan(center)
    return np.where(usable, ends[0], np.nan), np.where(usable, ends[1], np.nan)


def _walk(
    test: Callable[[Floats], Evidence],
    start: Floats,
    limit: Floats,
    null_excess: Floats,
    *,
    side: float,
    step: Floats,
    bound: float,
) -> Floats:
    ahead = start * side < 0.0
    inner = np.where(ahead & (null_excess <= 0.0), 0.0, start)
    inner_excess = np.where(ahead & (null_excess <= 0.0), null_excess, test(start).log_most - limit)
    outer = np.where(ahead & (null_excess > 0.0), 0.0, np.nan)
    outer_excess = np.where(ahead & (null_excess > 0.0), null_excess, np.nan)
    at = start + side * step
    for _ in range(_MOST_STEPS):
        is_bracketed = ~np.isnan(outer)
        is_wide = np.abs(outer - inner) > 1e-3 * np.maximum(np.abs(outer - start), 1e-9)
        open_ = np.where(is_bracketed, is_wide, inner != bound)
        if not open_.any():
            break
        # What is known to be kept needs no second look.
        further = np.where((at - inner) * side > 0.0, at, inner + side * step)
        # Regula falsi (Illinois) between what is kept and what is not.
        rise = outer_excess - inner_excess
        share = np.divide(-inner_excess, rise, out=np.full(len(rise), 0.5), where=rise > 0.0)
        between = inner + (outer - inner) * np.clip(share, 0.02, 0.98)
        at = np.where(is_bracketed, between, np.clip(further, -abs(bound), abs(bound)))
        at = np.where(open_, at, inner)
        excess = test(at).log_most - limit
        kept, gone = open_ & (excess <= 0.0), open_ & (excess > 0.0)
        inner, outer = np.where(kept, at, inner), np.where(gone, at, outer)
        halved = np.where(gone & is_bracketed, inner_excess / 2.0, inner_excess)
        inner_excess = np.where(kept, excess, halved)
        outer_excess = np.where(gone, excess, np.where(kept, outer_excess / 2.0, outer_excess))
        at, step = start + (at - start) * 3.0, step * 3.0
    return inner
