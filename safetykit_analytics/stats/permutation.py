"""Test and interval of a comparison that is looked at once: an exact permutation test within strata.

NumPy only.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from safetykit_analytics.stats.rate import Floats
    from safetykit_analytics.stats.strata import Strata

#: Outcomes that are enumerated; of more, some are drawn.
MOST_OUTCOMES = 20_000
LEAST_DRAWS = 9_999

#: With so many batches on both sides of the common strata the sums are as normal as they get.
_MANY = 500
SEED = 20_260_101
# Marks of drawn batches that are held at a time.
_BLOCK = 2**24
# Outcomes as far out as the one that was found, but for rounding.
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Sums over the candidate's batches for every assignment of the versions, or for some drawn at random.

    `base`, `own` and `shift`, shape (b,), are of the three residuals of `Strata`, over all strata;
    `errors_base`, `errors_own` and `weight` are Σ Y_b N_c / N, Σ Y_c N_b / N and Σ N_c N_b / N, as observed.
    Unless all assignments are there (`is_exact`), the one that was found is counted besides.
    """

    base: Floats
    own: Floats
    shift: Floats
    errors_base: float
    errors_own: float
    weight: float
    is_exact: bool

    @property
    def difference(self) -> float:
        """The Mantel-Haenszel difference of error rates; NaN without common strata."""
        return (self.errors_own - self.errors_base) / self.weight if self.weight > 0.0 else math.nan


def find_outcomes(strata: Strata, *, draws: int = LEAST_DRAWS) -> Outcomes:
    """Permute the versions of one comparison's batches within strata.

    Of more than 20,000 assignments, `draws` are drawn, with a constant seed: with 500 batches or more on the
    smaller side, from the normal distribution that has their exact covariance.
    """
    columns = np.stack([strata.base, strata.own, strata.shift], axis=1)
    found = (columns * strata.is_candidate[:, None]).sum(axis=0)
    sides = list(zip(strata.size.tolist(), strata.chosen.tolist(), strict=True))
    count = 1
    for m, k in sides:
        count *= math.comb(m, k)
        if count > MOST_OUTCOMES:
            break
    is_exact = count <= MOST_OUTCOMES
    ends = np.cumsum(strata.size)
    if is_exact:
        sums = np.zeros((1, 3))
        for (m, k), end in zip(sides, ends.tolist(), strict=True):
            part = columns[end - m : end][_choices(m, k)].sum(axis=1)
            sums = (sums[:, None, :] + part[None, :, :]).reshape(-1, 3)
    elif np.minimum(strata.chosen, strata.size - strata.chosen).sum() >= _MANY:
        covariance = np.zeros((3, 3))
        for (m, k), end in zip(sides, ends.tolist(), strict=True):
            part = columns[end - m : end]
            covariance += k * (m - k) / (m * (m - 1.0)) * part.T @ part
        values, vectors = np.linalg.eigh(covariance)
        normal = np.random.default_rng(SEED).standard_normal((draws, 3))
        sums = normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    else:
        sums = np.zeros((draws, 3))
        rng = np.random.default_rng(SEED)
        for (m, k), end in zip(sides, ends.tolist(), strict=True):
            part, fewer = columns[end - m : end], min(k, m - k)
            drawn = sum(part[pick] for pick in draw_subsets(rng, m, fewer, draws))
            sums += drawn if fewer == k else part.sum(axis=0) - drawn
    weight = float(strata.weight.sum())
    base, own, shift = sums.T
    return Outcomes(base, own, shift, -float(found[0]), float(found[1]), weight, is_exact)


def draw_subsets(rng: np.random.Generator, m: int, k: int, draws: int) -> NDArray[np.int64]:
    """Draw k of m batches without replacement, `draws` times: places, shape (k, draws).

    Floyd's algorithm: Bentley, Floyd (1987), doi:10.1145/30401.315746.
    """
    picks = np.empty((k, draws), dtype=np.int64)
    step = max(1, _BLOCK // m)
    for begin in range(0, draws, step):
        block = picks[:, begin : begin + step]
        row = m * np.arange(block.shape[1])
        is_taken = np.zeros(row.size * m, dtype=np.bool_)
        for last, pick in enumerate(block, start=m - k):
            pick[:] = rng.integers(last, size=row.size, endpoint=True)
            pick[is_taken[row + pick]] = last
            is_taken[row + pick] = True
    return picks


@functools.lru_cache(maxsize=64)
def _choices(m: int, k: int) -> NDArray[np.int64]:
    return np.array(list(itertools.combinations(range(m), k)), dtype=np.int64)


def permutation_p(found: Outcomes) -> float:
    """Two-sided p-value: the share of assignments whose ``|ΣU|`` is that of the data or more.

    1 at a difference of 0; NaN without common strata. Drawn assignments count as
    (1 + as extreme) / (1 + draws): Phipson, Smyth (2010), doi:10.2202/1544-6115.1585; Edgington, Onghena
    (2007), Randomization Tests.
    """
    if math.isnan(found.difference):
        return math.nan
    return _share(_difference_crossings(found), -found.difference, is_exact=found.is_exact)


def permutation_interval(found: Outcomes, *, alpha: float) -> tuple[float, float]:
    """Interval of the difference: every δ that the test of "the candidate's errors are δ·n more" keeps.

    With u₀ and a* the sums of y - δ̂nz and of nz over an assignment, and w = Σ N_c N_b / N, an assignment is
    as extreme as the data at δ̂ + t for t up to max(u₀/(w + a*), -u₀/(w - a*)), and down to
    -max(u₀/(w - a*), -u₀/(w + a*)). The ends are order statistics of these: the interval is of one piece,
    within [-1, 1]. 0 lies inside exactly where the p-value is at least `alpha`.
    """
    if math.isnan(found.difference):
        return math.nan, math.nan
    d = found.difference
    low, high = _ends(_difference_crossings(found), d, alpha, is_exact=found.is_exact)
    return max(low, -1.0), min(high, 1.0)


def permutation_ratio(found: Outcomes, *, alpha: float) -> tuple[float, float, float]:
    """Mantel-Haenszel ratio of error rates, and its interval from the test of "the candidate's are θ times".

    NaN unless both sides have errors in common strata. An assignment that a ratio cannot rule out in one
    piece counts as kept, which makes the interval wider. Mantel, Haenszel (1959), doi:10.1093/jnci/22.4.719;
    Greenland, Robins (1985), doi:10.2307/2530643.
    """
    if not (found.errors_base > 0.0 and found.errors_own > 0.0):
        return math.nan, math.nan, math.nan
    inverse = found.errors_base / found.errors_own
    crossings = _crossings(found.base + inverse * found.own, -found.own, found.errors_own)
    low, high = _ends(crossings, inverse - 1.0, alpha, is_exact=found.is_exact)
    low, high = low + 1.0, high + 1.0
    return 1.0 / inverse, 1.0 / high, 1.0 / low if low > 0.0 else math.inf


def _difference_crossings(found: Outcomes) -> tuple[Floats, Floats]:
    score = found.base + found.own - found.difference * found.shift
    return _crossings(score, found.shift, found.weight)


def _crossings(score: Floats, slope: Floats, weight: float) -> tuple[Floats, Floats]:
    """Return where, below and above, each assignment is as extreme as the data: ``|u₀ - ta| ≥ |t|w``."""
    above, below = weight + slope, weight - slope
    with np.errstate(divide="ignore", invalid="ignore"):
        by_above = np.where(above > _TIE * weight, score / above, np.inf)
        by_below = np.where(below > _TIE * weight, score / below, np.inf)
        minus_above = np.where(above > _TIE * weight, -score / above, np.inf)
        minus_below = np.where(below > _TIE * weight, -score / below, np.inf)
    return -np.maximum(by_below, minus_above), np.maximum(by_above, minus_below)


def _share(crossings: tuple[Floats, Floats], step: float, *, is_exact: bool) -> float:
    """Share of assignments as extreme as the data at the estimate plus a step."""
    tie = _TIE * abs(step)
    lower, upper = crossings
    count = int((upper >= step - tie).sum() if step > 0.0 else (lower <= step + tie).sum())
    if step == 0.0:
        return 1.0
    more = 0 if is_exact else 1
    return (count + more) / (len(upper) + more)


def _ends(
    crossings: tuple[Floats, Floats], estimate: float, alpha: float, *, is_exact: bool
) -> tuple[float, float]:
    """Find the ends of the interval around an estimate; an end that is 0 but for rounding is 0."""
    lower, upper = crossings
    more = 0 if is_exact else 1
    need = math.ceil(alpha * (len(upper) + more) - more - 1e-9)
    if need <= 0:
        return -math.inf, math.inf
    low = estimate + float(np.partition(lower, need - 1)[need - 1])
    high = estimate + float(np.partition(upper, len(upper) - need)[len(upper) - need])
    tie = _TIE * abs(estimate)
    return (0.0 if abs(low) <= tie else low), (0.0 if abs(high) <= tie else high)
