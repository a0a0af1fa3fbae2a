"""What the batches of two versions show: tests within strata of time, and the verdict on each pair."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

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
    from numpy.typing import NDArray

    from safetykit_analytics.compare.pairs import Ended, Ints

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]

#: From this share of the weight that the batches would have in one stratum, versions ran side by side;
#: below the other, one ran after the other.
SIDE_BY_SIDE, BEFORE_AND_AFTER = 0.3, 0.05

#: Numbers of each pair, and what stands for its verdict where the difference has changed.
COLUMNS = (
    "difference", "difference_low", "difference_high", "relative_risk", "relative_risk_low",
    "relative_risk_high", "p_value", "p_adjusted", "mde", "e_value", "p_anytime", "difference_raw",
)  # fmt: skip
CHANGED = "difference changed"
_INTERVALS = list(COLUMNS[1:6])

_PERIOD_US = 28 * DAY_US
# After four weeks the period of a candidate is over: later looks see nothing new.
_LAST_WEEK = 5
# Level of the prediction interval for the next move of a policy that has not changed.
_NEXT_MOVE = 0.9
# Few draws suffice for a large p-value: five standard errors from the level, more would change no verdict.
_FEW_DRAWS, _SURELY = 999, 5.0


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
) -> pd.DataFrame:
    """Test each pair of ``group`` and ``base``, both with batches; return a row for each, with its index.

    `created_us` is the first creation of a batch of each version, `today` the local day of the look. The
    batches `within` are compared; all of them make the strata. Besides COLUMNS there are ``design`` and
    ``verdict``, CHANGED where an earlier look has ruled out the difference of today; ``moved`` and
    ``next_move``, the largest move between neighbouring weeks of one version and how far the next may go;
    ``missing``, how many more batches of the candidate a verdict needs; and ``since``, the local day, in days
    since 1970-01-01, at whose end the verdict was first reached. NaN where unknown or of no matter.
    """
    any_look, n = looks == "any", len(pairs)
    found = pd.DataFrame(
        np.nan, index=pairs.index, columns=[*COLUMNS, "moved", "next_move", "missing", "since"]
    )
    base, own = pairs["base"].to_numpy(), pairs["group"].to_numpy()
    places = [rows[within[rows]] for rows in ended.rows()]
    span, stratum = cut_strata(ended.policy, ended.day)
    chosen = [
        # The baseline's batches are evidence only if begun after the candidate's first.
        (places[b][ended.started_us[places[b]] >= created_us[c]], places[c])
        for b, c in zip(base, own, strict=True)
    ]
    strata = _strata(chosen, ended, span, stratum, any_look=any_look)
    weight, score = (
        np.bincount(strata.pair, weights=each, minlength=n) for each in (strata.weight, strata.score)
    )
    errors, decisions = (
        np.array([values[rows].sum() for rows in places], dtype=np.float64)
        for values in (ended.errors, ended.processed)
    )
    share = ratio(weight * (decisions[base] + decisions[own]), decisions[base] * decisions[own])
    is_apart = share < BEFORE_AND_AFTER
    found["design"] = np.select(
        [share >= SIDE_BY_SIDE, is_apart], ["side by side", "before and after"], "mixed"
    )
    rate = ratio(errors, decisions)
    found["difference_raw"] = rate[own] - rate[base]
    # A share beyond 1 is rounding.
    difference = np.clip(ratio(score, np.where(is_apart, 0.0, weight)), -1.0, 1.0)
    found["difference"] = difference
    is_known = ~np.isnan(difference)

    draws = max(LEAST_DRAWS, math.ceil(20 * (1 if correction == "none" else n) / alpha) - 1)
    alone = [] if any_look else [_strata([one], ended, span, stratum, any_look=False) for one in chosen]
    once = [find_outcomes(one, draws=draws) for one in alone]
    if any_look:
        seen = evidence(strata)
        found["e_value"] = np.where(is_known, _padded(seen.e_value, n), np.nan)
        p = np.where(is_known, _padded(seen.p_value, n), np.nan)
    else:
        p = np.where(is_apart, np.nan, [permutation_p(one) for one in once])
    moves = np.full((n, 2), np.nan)
    for i in np.flatnonzero(is_apart).tolist():
        rows = [places[base[i]], places[own[i]]]
        p[i] = judge_period(ended, rows, today, looks=looks, alpha=alpha, draws=draws)
        moves[i] = own_moves(ended, rows)
    found[["moved", "next_move"]] = moves
    found["p_anytime" if any_look else "p_value"] = p
    adjusted = adjust(p, correction)
    found["p_adjusted"] = adjusted

    own_level = np.where(np.isnan(p), alpha, alpha * p / np.where(np.isnan(p), 1.0, adjusted))
    level = _level(adjusted, alpha, correction)
    intervals = _intervals(strata, once, difference, alpha=own_level)
    found[_INTERVALS] = np.where(is_known[:, None], intervals, np.nan)
    sides = _sides(strata, n)
    enough = np.array([can_decide(one, alpha=level, any_look=any_look) for one in sides], dtype=np.bool_)
    found["mde"] = _detectable(strata, alone, once, difference, is_known & enough, alpha=level)
    sizes = np.array([len(rows) for rows in places])
    found["missing"] = [
        math.nan
        if is_apart[i] or enough[i]
        else _missing(sides[i], chosen[i][0], stratum, level, any_look=any_look)
        for i in range(n)
    ]
    enough = np.where(is_apart, np.minimum(sizes[base], sizes[own]) >= MIN_BATCHES, enough)
    found["verdict"] = _verdicts(found, enough, is_apart, alpha)
    if any_look:
        look = _padded(first_look(strata, alpha=own_level[: _size(strata)]), n)
        found["since"] = pd.Series(ended.day).groupby(span).max().reindex(look).to_numpy()
    return found


def _strata(
    chosen: list[tuple[Ints, Ints]], ended: Ended, span: Ints, stratum: Ints, *, any_look: bool
) -> Strata:
    """Return the batches of all pairs in strata of time, and of size where the two versions differ in it."""
    nothing = np.zeros(0, dtype=np.int64)
    rows = [np.sort(np.concatenate(both)) for both in chosen]
    is_own = [np.isin(some, own) for some, (_, own) in zip(rows, chosen, strict=True)]
    classes = [
        class_sizes(stratum[some], ended.processed[some], own, any_look=any_look)
        for some, own in zip(rows, is_own, strict=True)
    ]
    place = np.concatenate([nothing, *rows])
    return make_strata(
        (
            np.repeat(np.arange(len(rows)), [len(some) for some in rows]),
            span[place],
            5 * stratum[place] + np.concatenate([nothing, *classes]),
        ),
        ended.errors[place],
        ended.processed[place],
        np.concatenate([nothing, *is_own]),
    )


def _sides(strata: Strata, n: int) -> list[list[tuple[int, int]]]:
    """Return how many batches of both versions the strata of each pair have."""
    sides = list(zip((strata.size - strata.chosen).tolist(), strata.chosen.tolist(), strict=True))
    edges = np.searchsorted(strata.pair, np.arange(n + 1)).tolist()
    return [sides[begin:end] for begin, end in itertools.pairwise(edges)]


def _missing(
    sides: list[tuple[int, int]], base: Ints, stratum: Ints, level: float, *, any_look: bool
) -> float:
    """Return how many more batches of the candidate a verdict needs, NaN where not even 99 would do."""
    if not sides and len(base):
        sides = [(int(np.unique(stratum[base], return_counts=True)[1].max()), 0)]
    more = missing_batches(sides, alpha=level, any_look=any_look)
    return math.nan if more is None else more


def _verdicts(found: pd.DataFrame, enough: Flags, is_apart: Flags, alpha: float) -> NDArray[np.str_]:
    raw, low = found["difference_raw"], found["difference_low"]
    is_moved = (found["p_adjusted"] < alpha) & (raw.abs() > found["next_move"].fillna(0.0))
    cases = {
        "not enough batches": ~enough,
        "no difference found": is_apart & ~is_moved,
        "higher since": is_apart & (raw > 0.0),
        "lower since": is_apart,
        CHANGED: low.isna(),
        "higher": low > 0.0,
        "lower": found["difference_high"] < 0.0,
    }
    return np.select(list(cases.values()), list(cases), "no difference found")


def _level(adjusted: Floats, alpha: float, correction: str) -> float:
    """Level that a pair's own p-value would have to reach, given what the others show."""
    m, rejected = int((~np.isnan(adjusted)).sum()), int((adjusted < alpha).sum())
    if correction == "none" or m < 2:
        return alpha
    return alpha / max(1, m - rejected) if correction == "holm" else alpha * min(m, rejected + 1) / m


def _intervals(strata: Strata, once: list[Outcomes], difference: Floats, *, alpha: Floats) -> Floats:
    """Return the interval of the difference, the ratio and its interval, each at its own level."""
    if once:
        return np.array(
            [
                (*permutation_interval(one, alpha=at), *permutation_ratio(one, alpha=at))
                for one, at in zip(once, alpha, strict=True)
            ]
        )
    found, size = np.full((len(difference), len(_INTERVALS)), np.nan), _size(strata)
    if size:
        low, high = confidence_sequence(strata, difference[:size], alpha=alpha[:size])
        errors = (
            strata.total(-strata.score_of(strata.base)),
            strata.total(strata.score_of(strata.own)),
        )
        found[:size] = np.stack([low, high, *ratio_sequence(strata, errors, alpha=alpha[:size])], axis=1)
    return found


def _detectable(
    strata: Strata,
    alone: list[Strata],
    once: list[Outcomes],
    difference: Floats,
    is_wanted: Flags,
    *,
    alpha: float,
) -> Floats:
    found, size = np.full(len(difference), np.nan), _size(strata)
    if once:
        for i in np.flatnonzero(is_wanted).tolist():
            found[i] = permutation_detectable(alone[i], once[i], alpha=alpha)
    else:
        found[:size] = detectable(strata, difference[:size], alpha=np.full(size, alpha))
    return np.where(is_wanted, found, np.nan)


def _size(strata: Strata) -> int:
    """Return the number of pairs up to the last one that has a stratum."""
    return int(strata.pair[-1]) + 1 if len(strata.pair) else 0


def _padded(values: NDArray[Any], n: int) -> Floats:
    return np.append(values, np.full(n - len(values), np.nan))


def judge_period(
    ended: Ended, rows: list[Ints], today: int, *, looks: str, alpha: float, draws: int
) -> float:
    """Test the baseline's last four weeks against the candidate's first, as one of a series of weekly looks.

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
        # Far above every level: more draws would not change that.
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
