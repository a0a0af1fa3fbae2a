"""Whether a comparison has batches enough for any verdict, whatever its errors. NumPy and scipy."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from safetykit_analytics.stats.anytime import BETS, MOST_STAKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from safetykit_analytics.stats.rate import Floats

#: How many batches a verdict needs on both sides of the common strata.
MIN_BATCHES = 3

_MOST_MISSING = 99


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
    chances = _log_choose(k, counts) + _log_choose(m - k, k - counts) - _log_choose(m, np.array(k))
    outcomes = counts - k * k / m
    found: Floats = bets * score - scipy.special.logsumexp(chances + bets[:, None] * outcomes, axis=1)
    return found


def _log_choose(m: int, k: NDArray[np.int64]) -> Floats:
    log = scipy.special.gammaln
    found: Floats = log(m + 1.0) - log(k + 1.0) - log(m - k + 1.0)
    return found
