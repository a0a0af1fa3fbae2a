"""What the batches of two versions show: tests within strata of time, and the verdict on each pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from safetykit_analytics.arrays import ratio
from safetykit_analytics.calendar import DAY_US
from safetykit_analytics.stats import (
    LEAST_DRAWS,
    MIN_BATCHES,
    Outcomes,
    Strata,
    adjust,
    can_decide,
    class_sizes,
    confidence_sequence,
    cut_strata,
    detectable,
    evidence,
    find_outcomes,
    first_look,
    make_strata,
    missing_batches,
    permutation_detectable,
    permutation_interval,
    permutation_p,
    permutation_ratio,
    prediction_bound,
    ratio_sequence,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from safetykit_analytics.compare.pairs import Ended, Ints

    Floats = NDArray[np.float64]

#: From this share of the weight that the batches would have in one stratum, versions ran side by side;
#: below the other, one ran after the other.
SIDE_BY_SIDE, BEFORE_AND_AFTER = 0.3, 0.05

_PERIOD_US = 28 * DAY_US
# After four weeks the period of a candidate is over: later looks see nothing new.
_LAST_WEEK = 5
# The next week moves less than is allowed for in so many of policies that do not change.
_NEXT_MOVE = 0.9
# So few draws tell a large p-value; five standard errors away from the level they change no verdict.
_FEW_DRAWS, _SURELY = 999, 5.0


@dataclass(frozen=True, eq=False)
class Found:
    """Columns of the table, one value per pair."""

    columns: dict[str, NDArray[np.float64]]
    design: list[str | None]
    verdict: list[str | None]
    note: list[str]
    #: Shape (pairs, 2): the largest move between neighbouring weeks of one version, and how far the next may
    #: go; NaN where none is known or it does not matter.
    moved: Floats
    #: How many more batches of the candidate a verdict needs; NaN where that is not what is missing.
    missing: Floats
    #: The local day, in days since 1970-01-01, at whose end the verdict was first reached; -1 for none.
    since: Ints


@dataclass
class _Pair:
    """One candidate and its baseline."""

    rows: Ints
    is_candidate: NDArray[np.bool_]
    share: float = math.nan
    sides: list[tuple[int, int]] = field(default_factory=list)
    alone: int = 0


def judge(
    pairs: pd.DataFrame,
    ended: Ended,
    *,
    created_us: Ints,
    within: NDArray[np.bool_],
    today: int,
    looks: Literal["any", "once"],
    alpha: float,
    correction: Literal["holm", "bh", "none"],
) -> Found:
    """Test each pair of ``group`` and ``base``, both with batches, and give its verdict.

    `created_us` is the first creation of a batch of each version, `today` the local day of the look. The
    batches `within` are compared; all of them make the strata.
    """
    n = len(pairs)
    span, stratum = cut_strata(ended.policy, ended.day)
    places = [rows[within[rows]] for rows in ended.rows()]
    found = [
        _choose(ended, (places[base], places[group]), int(created_us[group]), stratum)
        for group, base in zip(pairs["group"], pairs["base"], strict=True)
    ]
    strata = _strata(found, ended, span, stratum, any_look=looks == "any")
    _describe(found, strata, ended, places, pairs)
    is_apart = np.array([pair.share < BEFORE_AND_AFTER for pair in found], dtype=np.bool_)
    columns = {name: np.full(n, np.nan) for name in COLUMNS}
    draws = max(LEAST_DRAWS, math.ceil(20 * (1 if correction == "none" else n) / alpha) - 1)
    once = [find_outcomes(_of(strata, i), draws=draws) if looks == "once" else None for i in range(n)]
    weight = np.bincount(strata.pair, weights=strata.weight, minlength=n)
    score = np.bincount(strata.pair, weights=strata.score, minlength=n)
    difference = np.divide(score, weight, out=np.full(n, np.nan), where=(weight > 0.0) & ~is_apart)
    # A share beyond 1 is rounding.
    difference = np.clip(difference, -1.0, 1.0)
    columns["difference"] = difference
    if looks == "any":
        seen = evidence(strata)
        e_value, p = np.full(n, np.nan), np.full(n, np.nan)
        e_value[: len(seen.log_now)], p[: len(seen.log_now)] = seen.e_value, seen.p_value
        unknown = np.isnan(difference)
        columns["e_value"], p = np.where(unknown, np.nan, e_value), np.where(unknown, np.nan, p)
    else:
        p = np.array([math.nan if is_apart[i] else permutation_p(one) for i, one in enumerate(once) if one])
    moved = np.full((n, 2), np.nan)
    for i in np.flatnonzero(is_apart).tolist():
        rows = [places[int(pairs[name].iloc[i])] for name in ("base", "group")]
        p[i] = judge_period(ended, rows, today, looks=looks, alpha=alpha, draws=draws)
        moved[i] = own_moves(ended, rows)
    columns["p_anytime" if looks == "any" else "p_value"] = p
    adjusted = adjust(p, correction)
    columns["p_adjusted"] = adjusted
    own = np.where(np.isnan(p), alpha, alpha * p / np.where(np.isnan(p), 1.0, adjusted))
    level = _levels(adjusted, alpha, correction)
    _intervals(columns, strata, once, difference, own=own)
    columns["difference_raw"] = _raw(ended, places, pairs)
    is_enough = np.array(
        [
            can_decide(pair.sides, alpha=at, any_look=looks == "any")
            for pair, at in zip(found, level, strict=True)
        ],
        dtype=np.bool_,
    )
    columns["mde"] = _detectable(strata, once, difference, level, is_enough)
    sizes = np.array([len(rows) for rows in places], dtype=np.int64)
    both = np.minimum(sizes[pairs["base"].to_numpy()], sizes[pairs["group"].to_numpy()])
    is_enough = np.where(is_apart, both >= MIN_BATCHES, is_enough)
    missing = np.array(
        [
            np.nan if is_apart[i] or is_enough[i] else _missing(pair, level[i], any_look=looks == "any")
            for i, pair in enumerate(found)
        ]
    )
    verdict = _verdicts(columns, is_enough, is_apart, moved[:, 1], alpha)
    note = ["difference_changed" if said is None else "" for said in verdict]
    since = np.full(n, -1, dtype=np.int64)
    if looks == "any":
        size = len(strata.total(strata.weight))
        since[:size] = first_look(strata, alpha=own[:size])
        since = np.where(since >= 0, _last_days(span, ended.day)[since], -1)
    return Found(columns, [_design(pair.share) for pair in found], verdict, note, moved, missing, since)


def _last_days(span: Ints, day: Ints) -> Ints:
    found = np.zeros(int(span[-1]) + 1 if len(span) else 1, dtype=np.int64)
    np.maximum.at(found, span, day)
    return found


def _missing(pair: _Pair, level: float, *, any_look: bool) -> float:
    sides = pair.sides or ([(pair.alone, 0)] if pair.alone else [])
    more = missing_batches(sides, alpha=level, any_look=any_look)
    return math.nan if more is None else more


def _verdicts(
    columns: dict[str, Floats],
    is_enough: NDArray[np.bool_],
    is_apart: NDArray[np.bool_],
    allowed: Floats,
    alpha: float,
) -> list[str | None]:
    """Return each pair's verdict; None where an earlier look has ruled out the difference of today."""
    found: list[str | None] = []
    low, high = columns["difference_low"], columns["difference_high"]
    for i, enough in enumerate(is_enough):
        if not enough:
            found.append("not enough batches")
        elif is_apart[i]:
            p, raw = columns["p_adjusted"][i], columns["difference_raw"][i]
            found.append(_period_verdict(p, alpha, raw, allowed[i]))
        elif math.isnan(low[i]):
            found.append(None)
        else:
            found.append("higher" if low[i] > 0.0 else "lower" if high[i] < 0.0 else "no difference found")
    return found


COLUMNS = (
    "difference", "difference_low", "difference_high", "relative_risk", "relative_risk_low",
    "relative_risk_high", "p_value", "p_adjusted", "mde", "e_value", "p_anytime", "difference_raw",
)  # fmt: skip


def _design(share: float) -> str:
    if share >= SIDE_BY_SIDE:
        return "side by side"
    return "before and after" if share < BEFORE_AND_AFTER else "mixed"


def _choose(ended: Ended, places: tuple[Ints, Ints], first_us: int, stratum: Ints) -> _Pair:
    """Return the batches that are evidence: the baseline's only if begun after the candidate's first."""
    baseline, own = places
    baseline = baseline[ended.started_us[baseline] >= first_us]
    rows = np.sort(np.concatenate([baseline, own]))
    alone = np.bincount(stratum[baseline] - stratum[baseline[0]]).max() if len(baseline) else 0
    return _Pair(rows, np.isin(rows, own), alone=int(alone))


def _strata(found: list[_Pair], ended: Ended, span: Ints, stratum: Ints, *, any_look: bool) -> Strata:
    size = [len(pair.rows) for pair in found]
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *(pair.rows for pair in found)])
    classes = [
        class_sizes(stratum[pair.rows], ended.processed[pair.rows], pair.is_candidate, any_look=any_look)
        for pair in found
    ]
    part = 5 * stratum[rows] + np.concatenate([np.zeros(0, dtype=np.int64), *classes])
    is_candidate = np.concatenate([np.zeros(0, dtype=np.bool_), *(pair.is_candidate for pair in found)])
    return make_strata(
        (np.repeat(np.arange(len(found)), size), span[rows], part),
        ended.errors[rows],
        ended.processed[rows],
        is_candidate,
    )


def _describe(
    found: list[_Pair], strata: Strata, ended: Ended, places: list[Ints], pairs: pd.DataFrame
) -> None:
    """Add how far each pair ran side by side, and how many batches its common strata hold."""
    weight = np.bincount(strata.pair, weights=strata.weight, minlength=len(found))
    edges = np.searchsorted(strata.pair, np.arange(len(found) + 1))
    for i, pair in enumerate(found):
        base, own = (
            float(ended.processed[places[int(pairs[name].iloc[i])]].sum()) for name in ("base", "group")
        )
        pair.share = weight[i] * (base + own) / (base * own) if base and own else math.nan
        k, m = (values[edges[i] : edges[i + 1]].tolist() for values in (strata.chosen, strata.size))
        pair.sides = [(size - own_, own_) for own_, size in zip(k, m, strict=True)]


def _of(strata: Strata, pair: int) -> Strata:
    begin, end = np.searchsorted(strata.pair, [pair, pair + 1])
    first, last = np.searchsorted(strata.stratum, [begin, end])
    some, batches = slice(begin, end), slice(first, last)
    return Strata(
        strata.pair[some] * 0,
        strata.look[some],
        strata.size[some],
        strata.chosen[some],
        strata.weight[some],
        strata.stratum[batches] - begin,
        strata.is_candidate[batches],
        strata.n[batches],
        strata.base[batches],
        strata.own[batches],
    )


def _levels(adjusted: Floats, alpha: float, correction: str) -> Floats:
    """Level that each pair's own p-value would have to reach, given what the others show."""
    known = ~np.isnan(adjusted)
    m, rejected = int(known.sum()), int((adjusted[known] < alpha).sum())
    if correction == "none" or m < 2:
        return np.full(len(adjusted), alpha)
    if correction == "holm":
        return np.full(len(adjusted), alpha / max(1, m - rejected))
    return np.full(len(adjusted), alpha * min(m, rejected + 1) / m)


def _intervals(
    columns: dict[str, Floats],
    strata: Strata,
    once: list[Outcomes | None],
    difference: Floats,
    *,
    own: Floats,
) -> None:
    """Write intervals at each row's own level; what has no difference has none."""
    names = ("difference_low", "difference_high", "relative_risk", "relative_risk_low", "relative_risk_high")
    if once and once[0] is not None:
        for i, one in enumerate(once):
            if one is not None and not math.isnan(difference[i]):
                difference_ends = permutation_interval(one, alpha=own[i])
                risks = permutation_ratio(one, alpha=own[i])
                for name, value in zip(names, (*difference_ends, *risks), strict=True):
                    columns[name][i] = value
        return
    size = int(strata.pair[-1]) + 1 if len(strata.pair) else 0
    if not size:
        return
    part = slice(0, size)
    low, high = confidence_sequence(strata, difference[part], alpha=own[part])
    errors = (
        strata.total(-strata.score_of(strata.base)),
        strata.total(strata.score_of(strata.own)),
    )
    risk = ratio_sequence(strata, errors, alpha=own[part])
    known = ~np.isnan(difference[part])
    for name, values in zip(names, (low, high, *risk), strict=True):
        columns[name][part] = np.where(known, values, np.nan)


def _detectable(
    strata: Strata,
    once: list[Outcomes | None],
    difference: Floats,
    level: Floats,
    is_known: NDArray[np.bool_],
) -> Floats:
    found = np.full(len(difference), np.nan)
    for i in np.flatnonzero(is_known & ~np.isnan(difference)).tolist():
        one = once[i]
        if one is not None:
            found[i] = permutation_detectable(_of(strata, i), one, alpha=level[i])
    size = len(strata.total(strata.weight))
    if not any(once):
        found[:size] = detectable(strata, difference[:size], alpha=level[:size])
    return np.where(is_known & ~np.isnan(difference), found, np.nan)


def _raw(ended: Ended, places: list[Ints], pairs: pd.DataFrame) -> Floats:
    y, n = (
        np.array([values[rows].sum() for rows in places], dtype=np.float64)
        for values in (ended.errors, ended.processed)
    )
    rate = ratio(y, n)
    found: Floats = rate[pairs["group"].to_numpy()] - rate[pairs["base"].to_numpy()]
    return found


def judge_period(
    ended: Ended, rows: list[Ints], today: int, *, looks: str, alpha: float, draws: int
) -> float:
    """Test the baseline's last four weeks against the candidate's first, at the weekly look that it is.

    Looks in the k-th week after the hand-over use 6 / (π²k²) of the level.
    """
    base, own = rows
    at = ended.at_us
    base = base[at[base] > at[base[-1]] - _PERIOD_US]
    own = own[at[own] < at[own[0]] + _PERIOD_US]
    both = np.concatenate([base, own])
    nothing = np.zeros(len(both), dtype=np.int64)
    strata = make_strata(
        (nothing, nothing, nothing),
        ended.errors[both],
        ended.processed[both],
        np.arange(len(both)) >= len(base),
    )
    week = min(max((today + 3) // 7 - (int(ended.day[own[0]]) + 3) // 7 + 1, 1), _LAST_WEEK)
    factor = 1.0 if looks == "once" else math.pi**2 * week**2 / 6.0
    p = math.nan
    for n in (_FEW_DRAWS, LEAST_DRAWS, draws):
        outcomes = find_outcomes(strata, draws=n)
        p = permutation_p(outcomes)
        # No level asks for as much, and more draws would not change that.
        if outcomes.is_exact or p - _SURELY * math.sqrt(p * (1.0 - p) / n) > alpha / factor:
            break
    return min(1.0, p * factor)


def own_moves(ended: Ended, rows: list[Ints]) -> tuple[float, float]:
    """Return the largest move between neighbouring weeks of one version, and how far the next may go.

    Weeks have three batches or more. The next move stays within the prediction interval of a normal one with
    mean 0, at 90 %, or within the largest where that is more.
    """
    moves: list[float] = []
    for some in rows:
        week = (ended.day[some] + 3) // 7
        weeks, place = np.unique(week, return_inverse=True)
        count = np.bincount(place)
        y, n = (np.bincount(place, weights=values[some]) for values in (ended.errors, ended.processed))
        both = (np.diff(weeks) == 1) & (count[1:] >= MIN_BATCHES) & (count[:-1] >= MIN_BATCHES)
        moves += np.diff(y / n)[both].tolist()
    if not moves:
        return math.nan, math.nan
    largest = float(np.abs(moves).max())
    return largest, max(largest, prediction_bound(moves, level=_NEXT_MOVE))


def _period_verdict(p: float, alpha: float, raw: float, allowed: float) -> str:
    if not p < alpha or abs(raw) <= np.nan_to_num(allowed):
        return "no difference found"
    return "higher since" if raw > 0.0 else "lower since"
