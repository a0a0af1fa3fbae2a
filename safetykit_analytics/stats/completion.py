"""How long until a batch is done, when polls tell only between which two of them it was."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import numpy as np
import scipy

from safetykit_analytics.stats.rate import check_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from safetykit_analytics.stats.rate import Flags, Floats

# Kaplan-Meier multiplies many fractions: 3/4 · 2/3 must count as 1/2.
_ROUNDING = 1e-9


def quantile_bracket(
    lower: ArrayLike, upper: ArrayLike, is_event: ArrayLike, quantile: float
) -> tuple[float, float]:
    """Bracket a quantile of the time to completion, in the unit of the input.

    Each end is known only to lie in (lower, upper]. `is_event` is false for a batch that was cut off:
    cancelled, or still running (then lower = upper = its age). Whatever the true times are, their
    Kaplan-Meier estimate at t lies between

    - S_min(t): every end that may lie ≤ t happens, as late as it can, at min(upper, t)
    - S_max(t): only ends that must lie ≤ t happen, as early as they can, right after `lower`

    and batches that are cut off leave as early as they can in the one and as late as they can in the other.
    The estimate on all lower ends and that on all upper ends are not such bounds once batches are cut off.
    The low end is the first t where S_min(t) ≤ 1 - quantile, the high end that where S_max(t) is; inf where
    it is not reached. The bracket is due to the polls alone; `quantile_interval` is about other batches too.

    Kaplan, Meier (1958), doi:10.1080/01621459.1958.10501452; Peto (1973), doi:10.2307/2346307.
    """
    level = _level(quantile)
    start, end, event = _durations(lower, upper, is_event)
    # S_min falls right after the lower ends, where an end becomes possible, and right after cut-offs.
    starts = np.unique(start)
    share, _ = _s_min(start, end, event, starts)
    # S_max falls where an end becomes certain, and never rises: its first low value can be bisected.
    s_max = _SMax(start, end, event)
    return _first(starts[share <= level]), _bisected(np.unique(end[event]), lambda t: s_max(t)[0] <= level)


def quantile_interval(
    lower: ArrayLike, upper: ArrayLike, is_event: ArrayLike, quantile: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval, around the bracket, of a quantile for all batches like these.

    As `quantile_bracket`, with the lower confidence limit of S_min and the upper one of S_max for them, on
    the log-log scale with Greenwood's variance. Batches are the sampled units; inf where it is not reached.

    Brookmeyer, Crowley (1982), doi:10.2307/2530286; Kalbfleisch, Prentice (2002), section 1.4,
    doi:10.1002/9781118032985.
    """
    check_level(confidence)
    level, z = _level(quantile), float(scipy.special.ndtri((1.0 + confidence) / 2.0))
    start, end, event = _durations(lower, upper, is_event)
    starts = np.unique(start)
    share, variance = _s_min(start, end, event, starts)
    low = _first(starts[_log_log_limit(share, variance, z) <= level])
    s_max = _SMax(start, end, event)
    ends = np.unique(end[event])
    # Where the last batch has ended there is no upper limit.
    ends = ends[ends < _bisected(ends, lambda t: s_max(t)[0] <= 0.0)]
    return low, _bisected(ends, lambda t: bool(_log_log_limit(*s_max(t), -z) <= level))


def _level(quantile: float) -> float:
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must be between 0 and 1; found {quantile!r}")
    return 1.0 - quantile + _ROUNDING


def _durations(lower: ArrayLike, upper: ArrayLike, is_event: ArrayLike) -> tuple[Floats, Floats, Flags]:
    start, end = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    event = np.asarray(is_event, dtype=bool)
    if start.ndim != 1 or end.shape != start.shape or event.shape != start.shape:
        raise ValueError(
            f"lower, upper and is_event must be of one length; "
            f"found shapes {start.shape}, {end.shape}, {event.shape}"
        )
    if not ((start >= 0.0) & (start <= end) & np.isfinite(end)).all():
        raise ValueError("expected 0 ≤ lower ≤ upper, none of them NaN or infinite")
    return start, end, event


def _s_min(start: Floats, end: Floats, event: Flags, at: Floats) -> tuple[Floats, Floats]:
    """S_min and Greenwood's sum right after durations; one pass over all of them.

    An end that is certain by t stays where it is whatever t: their factors are one cumulative product. Those
    that are only possible happen together at t.
    """
    ends, cuts = np.sort(end[event]), np.sort(start[~event])
    at_risk = len(start) - np.arange(len(ends)) - np.searchsorted(cuts, ends, "left")
    product, greenwood = _kaplan_meier(at_risk)
    certain = np.searchsorted(ends, at, "right")
    possible = np.searchsorted(np.sort(start[event]), at, "right") - certain
    left = len(start) - certain - np.searchsorted(cuts, at, "right")
    stay = left - possible
    share = product[certain] * np.divide(stay, left, out=np.ones(len(at)), where=left > 0)
    added = np.full(len(at), np.inf)
    np.divide(possible, left * stay, out=added, where=stay > 0)
    return share, greenwood[certain] + np.where(possible > 0, added, 0.0)


class _SMax:
    """S_max and Greenwood's sum at one duration, after sorting once: which ends are certain depends on it."""

    def __init__(self, start: Floats, end: Floats, event: Flags) -> None:
        starts, ends = start[event], end[event]
        # Right after `lower`, who was cut off there has left; at an exact end nobody has.
        is_after = starts < ends
        order = np.lexsort((is_after, starts))
        cuts = np.sort(end[~event])
        left = (np.searchsorted(cuts, starts, side) for side in ("right", "left"))
        self._at_risk = (len(start) - np.where(is_after, *left))[order]
        self._ends = ends[order]

    def __call__(self, t: float) -> tuple[float, float]:
        at_risk = self._at_risk[self._ends <= t]
        product, greenwood = _kaplan_meier(at_risk - np.arange(len(at_risk)))
        return float(product[-1]), float(greenwood[-1])


def _kaplan_meier(at_risk: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Cumulative product and Greenwood's sum over single ends in their order; the first of each is none."""
    product, greenwood = np.ones(len(at_risk) + 1), np.zeros(len(at_risk) + 1)
    np.cumprod(1.0 - 1.0 / at_risk, out=product[1:])
    added = np.full(len(at_risk), np.inf)
    np.divide(1.0, at_risk * (at_risk - 1.0), out=added, where=at_risk > 1)
    np.cumsum(added, out=greenwood[1:])
    return product, greenwood


def _log_log_limit(share: ArrayLike, variance: ArrayLike, z: float) -> Floats:
    """Limit of S on the log-log scale, the lower one for z > 0; S itself at 1 and at 0 (v infinite)."""
    s, v = np.asarray(share), np.asarray(variance)
    is_inside = (s < 1.0) & np.isfinite(v)
    log = np.log(np.where(is_inside, s, 0.5))
    spread = np.sqrt(np.where(is_inside, v, 0.0)) / np.abs(log)
    # Each end adds 1/(n(n-1)) to v and at least 1/n to |log S|: the spread is below √2, nothing overflows.
    return np.where(is_inside, np.exp(log * np.exp(z * spread)), s)


def _first(times: Floats) -> float:
    return float(times[0]) if len(times) else np.inf


def _bisected(times: Floats, is_reached: Callable[[float], bool]) -> float:
    found = bisect.bisect_left(times, 1, key=lambda t: int(is_reached(t)))
    return float(times[found]) if found < len(times) else np.inf
