"""Do verdicts and intervals of version comparisons hold what they say? Seeded simulations, cell by cell.

    PYTHONPATH=. nice -n 10 python benchmarks/calibration.py [--runs 1000] [--seed 1] [SECTION ...]

Sections: null, sizes, ramps, looks, power, seen, coverage, weeks, buckets, handovers, reports, charts.
Without any, all of them. Each prints a table in percent of runs and the bars that are broken; with one, the
command ends with 1. "Wrong" is a verdict on versions that are equal.

Decisions within a batch are beta-binomial with intraclass correlation ICC. Times, versions and sizes are
drawn once per layout, errors in every run. A layout serves a few runs only: which side happens to have the
large batches matters more than the number of runs.
"""

from __future__ import annotations

import argparse
import datetime as dt
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from safetykit_analytics.compare import compare_batches
from safetykit_analytics.frame import STRING
from safetykit_analytics.rates import control_chart
from safetykit_analytics.report.facts import Facts, compare_week
from safetykit_analytics.report.headlines import what_changed
from safetykit_analytics.report.week_tables import compare_weeks, side_by_side
from safetykit_analytics.stats import (
    POOL_BUCKETS,
    ClusterSums,
    can_decide,
    class_sizes,
    cluster_rates,
    confidence_sequence,
    cut_strata,
    detectable,
    evidence,
    find_outcomes,
    make_strata,
    permutation_detectable,
    rate_intervals,
    verdicts,
    week_over_week,
)
from safetykit_analytics.stats.permutation import LEAST_DRAWS, draw_subsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHA = 0.05
MONDAY = 4  # 1970-01-05, in days
DAY_US = 86_400_000_000
#: Runs of one layout, and permutations of each: a level is as exact as with more.
RUNS_PER_LAYOUT, DRAWS = 5, 1_999


@dataclass(frozen=True)
class Layout:
    """Batches of one policy, sorted by end: local day, version, size."""

    day: Ints
    is_candidate: NDArray[np.bool_]
    n: Ints


def draw_sizes(rng: np.random.Generator, m: int, kind: str) -> Ints:
    """Sizes of batches: all 1,000; log-normal around 400; or Pareto with a tail of index 1.2."""
    if kind == "equal":
        return np.full(m, 1000)
    if kind == "pareto":
        return np.clip(100 * (1 + rng.pareto(1.2, m)), 5, 10_000).astype(np.int64)
    return np.clip(np.exp(rng.normal(np.log(400), 1.3, m)), 5, 10_000).astype(np.int64)


def draw_errors(rng: np.random.Generator, n: Ints, icc: float, rate: Any) -> Ints:
    """Errors of batches of sizes n, shape as `rate` broadcasts to."""
    if icc == 0.0:
        return rng.binomial(n, rate)
    scale = (1 - icc) / icc
    return rng.binomial(n, rng.beta(rate * scale, (1 - rate) * scale))


def week_layout(
    rng: np.random.Generator, base: int, own: int, kind: str, *, days: int = 7, factor: float = 1.0
) -> Layout:
    """Ends spread over some days, both versions alike; the candidate's sizes times a factor."""
    day = rng.integers(0, days, base + own)
    n = draw_sizes(rng, base + own, kind)
    is_candidate = np.arange(base + own) >= base
    n = np.where(is_candidate, np.clip(n * factor, 5, 10_000), n).astype(np.int64)
    order = np.lexsort((rng.random(base + own), day))
    return Layout(day[order] + MONDAY, is_candidate[order], n[order])


def in_strata(layout: Layout, *, any_look: bool) -> tuple[Ints, Ints]:
    """Look and part of each batch."""
    span, stratum = cut_strata(np.zeros(len(layout.day), dtype=np.int64), layout.day)
    return span, 5 * stratum + class_sizes(stratum, layout.n, layout.is_candidate, any_look=any_look)


def one_look_p(layout: Layout, y: Ints, *, difference: float = 0.0, draws: int = LEAST_DRAWS) -> Floats:
    """Permutation p-values of many runs of one layout; shape (runs,)."""
    _, part = in_strata(layout, any_look=False)
    rng = np.random.default_rng(7)
    shifted = y - difference * layout.n * layout.is_candidate
    drawn, found = np.zeros((draws, len(y))), np.zeros(len(y))
    for some in np.split(np.arange(len(part)), np.flatnonzero(np.diff(part)) + 1):
        z = layout.is_candidate[some]
        if z.all() or not z.any():
            continue
        n = layout.n[some].astype(np.float64)
        residual = shifted[:, some] - shifted[:, some].sum(axis=1, keepdims=True) * n / n.sum()
        found += residual[:, z].sum(axis=1)
        is_drawn = np.zeros((draws, len(some)))
        is_drawn[np.arange(draws), draw_subsets(rng, len(some), int(z.sum()), draws)] = 1.0
        drawn += is_drawn @ residual.T
    tie = 1e-9 * np.maximum(np.abs(found), 1e-6)
    return (1 + (np.abs(drawn) >= np.abs(found) - tie).sum(axis=0)) / (1 + draws)


def sides(layout: Layout) -> list[tuple[int, int]]:
    """Batches of the baseline and of the candidate in each common stratum."""
    _, part = in_strata(layout, any_look=False)
    _, place = np.unique(part, return_inverse=True)
    k = np.bincount(place, weights=layout.is_candidate).astype(int)
    b = np.bincount(place).astype(int) - k
    return [(int(x), int(z)) for x, z in zip(b, k, strict=True) if x and z]


def tiled(layout: Layout, y: Ints, *, any_look: bool) -> tuple[Any, Floats]:
    """Strata of all runs, one comparison each, and the differences that they show."""
    runs, m = y.shape
    span, part = in_strata(layout, any_look=any_look)
    strata = make_strata(
        (np.repeat(np.arange(runs), m), np.tile(span, runs), np.tile(part, runs)),
        y.ravel(),
        np.tile(layout.n, runs),
        np.tile(layout.is_candidate, runs),
    )
    if not len(strata.pair):
        return strata, np.full(runs, np.nan)
    return strata, strata.total(strata.score) / strata.total(strata.weight)


def one_look(
    draw_layout: Callable[[], Layout], errors: Callable[[Layout, int], Ints], runs: int
) -> tuple[float, float]:
    """Shares of runs with a verdict of higher and of lower."""
    layouts = max(1, runs // RUNS_PER_LAYOUT)
    higher = lower = 0.0
    for _ in range(layouts):
        layout = draw_layout()
        if not can_decide(sides(layout), alpha=ALPHA, any_look=False):
            continue
        y = errors(layout, RUNS_PER_LAYOUT)
        is_found = one_look_p(layout, y, draws=DRAWS) < ALPHA
        d = tiled(layout, y, any_look=False)[1]
        higher += float((is_found & (d > 0)).mean()) / layouts
        lower += float((is_found & (d < 0)).mean()) / layouts
    return higher, lower


def any_look(layout: Layout, y: Ints) -> tuple[Floats, Floats]:
    """p-values for any look, and differences, of many runs."""
    strata, d = tiled(layout, y, any_look=True)
    return (evidence(strata).p_value if len(strata.pair) else np.ones(len(y))), d


Cell = tuple[str, float, float | None, float | None]
"""What, the share found, at most, at least."""

NULL_SIDES = ((3, 3), (5, 5), (10, 10), (30, 30), (100, 100), (30, 3), (30, 5), (100, 3))
UNEQUAL = ((100, 10), (300, 30), (1000, 30), (100, 5), (30, 10))


def constant(rng: np.random.Generator, icc: float, rate: float, other: float | None = None) -> Any:
    """Errors of a layout at one rate, or at another for the candidate."""

    def errors(layout: Layout, runs: int) -> Ints:
        each = np.where(layout.is_candidate, rate if other is None else other, rate)
        return draw_errors(rng, layout.n, icc, np.broadcast_to(each, (runs, len(each))))

    return errors


def null_cell(
    base: int, own: int, icc: float, rate: float, kind: str, *, runs: int, seed: int
) -> tuple[float, float]:
    """Wrong verdicts of one look at equal versions: higher, lower."""
    rng = np.random.default_rng([seed, base, own, round(1e4 * icc), round(1e5 * rate), len(kind)])
    return one_look(lambda: week_layout(rng, base, own, kind), constant(rng, icc, rate), runs)


def null(runs: int, seed: int) -> Iterator[Cell]:
    for base, own in NULL_SIDES:
        for icc in (0.0, 0.005, 0.03):
            found = null_cell(base, own, icc, 0.02, "log-normal", runs=runs, seed=seed)
            yield from _both(f"{base} v {own}, ICC {icc}, 2 %, log-normal", found)
    for base, own in UNEQUAL:
        for icc in (0.005, 0.03, 0.1):
            for rate in (0.001, 0.005, 0.02, 0.4):
                for kind in ("equal", "log-normal", "pareto"):
                    found = null_cell(base, own, icc, rate, kind, runs=runs, seed=seed)
                    yield from _both(f"{base} v {own}, ICC {icc}, {100 * rate:g} %, {kind}", found)


def _both(what: str, found: tuple[float, float], most: float = 0.065) -> Iterator[Cell]:
    yield f"{what}: wrong", sum(found), most, None
    yield f"{what}: lower", found[1], 0.035, None


def incident_errors(rng: np.random.Generator, layout: Layout, runs: int) -> Ints:
    """1 % errors; 3 % of batches lose half of their decisions."""
    shape = (runs, len(layout.n))
    rate = np.where(rng.random(shape) < 0.03, 0.5, 0.01)
    return rng.binomial(layout.n, rate)


def late_layout(rng: np.random.Generator, base: int, own: int) -> Layout:
    """Batches that take as long as they are large; the candidate's begin in the last two days of nine."""
    n = draw_sizes(rng, base + own, "log-normal")
    is_candidate = np.arange(base + own) >= base
    created = np.where(is_candidate, rng.uniform(7, 9, base + own), rng.uniform(0, 9, base + own))
    end = created + n / 2500.0
    keep = (end < 9.5) & (is_candidate | (created >= created[is_candidate].min()))
    order = np.argsort(end)
    order = order[keep[order]]
    return Layout(np.floor(end[order]).astype(np.int64) + MONDAY, is_candidate[order], n[order])


def sizes(runs: int, seed: int) -> Iterator[Cell]:
    """Sizes and durations that are not alike on both sides, and errors that come as incidents."""
    rng = np.random.default_rng([seed, 2])
    found = one_look(
        lambda: week_layout(rng, 300, 30, "log-normal"),
        lambda layout, r: incident_errors(rng, layout, r),
        runs,
    )
    yield from _both("300 v 30, incidents", found)
    for factor in (3.0, 1 / 3):
        for icc in (0.005, 0.03):
            found = one_look(
                lambda factor=factor: week_layout(rng, 100, 10, "log-normal", factor=factor),
                constant(rng, icc, 0.02),
                runs,
            )
            yield f"100 v 10, sizes x {factor:.2g}, ICC {icc}: wrong", sum(found), 0.10, None
    for icc in (0.005, 0.03):
        found = one_look(lambda: late_layout(rng, 600, 60), constant(rng, icc, 0.02), runs)
        yield f"duration by size, rolled out lately, ICC {icc}: wrong", sum(found), 0.065, None


def ramp_layout(rng: np.random.Generator, shares: tuple[float, ...], per_step: int, days: int) -> Layout:
    """A candidate's share of the batches rises step by step, each some days long."""
    m = per_step * len(shares)
    step = np.repeat(np.arange(len(shares)), per_step)
    day = step * days + rng.integers(0, days, m)
    is_candidate = rng.random(m) < np.array(shares)[step]
    order = np.lexsort((rng.random(m), day))
    return Layout(day[order] + MONDAY, is_candidate[order], draw_sizes(rng, m, "log-normal")[order])


def ramps(runs: int, seed: int) -> Iterator[Cell]:
    """The candidate's share rises while both versions' rate does."""
    rng = np.random.default_rng([seed, 3])
    for name, shares, per_step, days in (
        ("by week, 40 a week", (0.1, 0.25, 0.5, 0.75), 40, 7),
        ("by week, 100 a week", (0.1, 0.25, 0.5, 0.75), 100, 7),
        ("by day, 60 a week", tuple(np.linspace(0.1, 0.9, 7)), 9, 1),
        ("by day, 140 a week", tuple(np.linspace(0.1, 0.9, 7)), 20, 1),
    ):
        for last in (0.03, 0.04):
            for icc in (0.005, 0.03):
                bias: list[float] = []

                def errors(layout: Layout, r: int, icc: float = icc, last: float = last) -> Ints:
                    along = (layout.day - MONDAY) / (layout.day.max() - MONDAY)
                    rate = np.broadcast_to(0.02 + (last - 0.02) * along, (r, len(layout.n)))
                    y = draw_errors(rng, layout.n, icc, rate)
                    bias.append(float(np.nanmean(tiled(layout, y, any_look=False)[1])))  # noqa: B023 -- called at once
                    return y

                found = one_look(
                    lambda shares=shares, per_step=per_step, days=days: ramp_layout(
                        rng, shares, per_step, days
                    ),
                    errors,
                    runs,
                )
                what = f"ramp {name}, 2 to {100 * last:g} %, ICC {icc}"
                yield f"{what}: wrong", sum(found), 0.065, None
                yield f"{what}: bias, pp", abs(100 * float(np.mean(bias))) / 100, 0.001, None


def looks(runs: int, seed: int) -> Iterator[Cell]:
    """A null policy, looked at in each of 26 weeks."""
    rng = np.random.default_rng([seed, 4])
    for base, own in ((20, 20), (50, 5), (10, 10)):
        for icc in (0.005, 0.03, 0.1):
            for kind in ("equal", "log-normal"):
                errors, wrong = constant(rng, icc, 0.02), []
                for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
                    layout = joined([week_layout(rng, base, own, kind) for _ in range(26)])
                    wrong.append((any_look(layout, errors(layout, RUNS_PER_LAYOUT))[0] < ALPHA).mean())
                what = f"26 looks, {base} v {own} a week, ICC {icc}, {kind}: ever wrong"
                yield what, float(np.mean(wrong)), 0.06, None


def joined(parts: list[Layout]) -> Layout:
    """One week after the other."""
    return Layout(
        np.concatenate([part.day + 7 * i for i, part in enumerate(parts)]),
        np.concatenate([part.is_candidate for part in parts]),
        np.concatenate([part.n for part in parts]),
    )


def cr2_power(layout: Layout, y: Ints) -> float:
    """Share of runs with a verdict by CR2 variances and a t test."""
    runs, m = y.shape
    z = layout.is_candidate
    errors, sizes = (((x * ~z).ravel(), (x * z).ravel()) for x in (y, np.broadcast_to(layout.n, y.shape)))
    *_, found = week_over_week(np.repeat(np.arange(runs), m), errors, sizes, n_groups=runs)
    return float(np.isin(verdicts(found, found.p_value), ["higher", "lower"]).mean())


def power(runs: int, seed: int) -> Iterator[Cell]:
    """What is found of what is there."""
    rng = np.random.default_rng([seed, 5])
    for m, other in ((4, 0.12), (5, 0.08), (10, 0.05), (30, 0.035), (50, 0.03)):
        for icc in (0.005, 0.03):
            errors, ours, theirs = constant(rng, icc, 0.02, other), [], []
            for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
                layout = week_layout(rng, m, m, "log-normal", days=1)
                y = errors(layout, RUNS_PER_LAYOUT)
                ours.append(float((one_look_p(layout, y, draws=DRAWS) < ALPHA).mean()))
                theirs.append(cr2_power(layout, y))
            share = float(np.mean(ours)) / max(float(np.mean(theirs)), 1e-9)
            what = (
                f"{m} v {m}, 2 to {100 * other:g} %, ICC {icc}, one look: found {100 * np.mean(ours):.0f} %"
            )
            yield f"{what}, of CR2's", share, None, 0.97
    for kind, bar in (("equal", 0.40), ("log-normal", None)):
        found = one_look(
            lambda kind=kind: week_layout(rng, 100, 10, kind), constant(rng, 0.1, 0.02, 0.05), runs
        )
        yield f"100 v 10, 2 to 5 %, ICC 0.1, {kind}, one look: found", sum(found), None, bar
    for icc, least in ((0.005, 0.90), (0.03, 0.28)):
        errors, found = constant(rng, icc, 0.02, 0.03), []
        for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
            layout = joined([week_layout(rng, 20, 20, "log-normal") for _ in range(8)])
            found.append(float((any_look(layout, errors(layout, RUNS_PER_LAYOUT))[0] < ALPHA).mean()))
        yield f"any, +1 pp on 2 %, 40 a week, 8 weeks, ICC {icc}: found", float(np.mean(found)), None, least


def coverage(runs: int, seed: int) -> Iterator[Cell]:
    """How often intervals hold the truth."""
    rng = np.random.default_rng([seed, 6])
    for base, own, more, least in (
        (30, 30, 0.0, 0.95),
        (100, 10, 0.0, 0.95),
        (30, 30, 0.01, 0.90),
        (30, 30, 0.03, 0.90),
        (10, 10, 0.03, 0.90),
        (100, 10, 0.03, 0.85),
    ):
        for icc in (0.005, 0.03):
            errors, held = constant(rng, icc, 0.02, 0.02 + more), []
            for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
                layout = week_layout(rng, base, own, "log-normal")
                p = one_look_p(layout, errors(layout, RUNS_PER_LAYOUT), difference=more, draws=DRAWS)
                held.append(float((p >= ALPHA).mean()))
            what = f"{base} v {own}, +{100 * more:g} pp, ICC {icc}, one look: held"
            yield what, float(np.mean(held)), None, least
    for icc in (0.005, 0.03):
        errors, held = constant(rng, icc, 0.02, 0.03), []
        for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
            layout = joined([week_layout(rng, 20, 20, "log-normal") for _ in range(8)])
            strata, d = tiled(layout, errors(layout, RUNS_PER_LAYOUT), any_look=True)
            low, high = confidence_sequence(strata, d, alpha=np.full(len(d), ALPHA))
            held.append(float(((low <= 0.01) & (high >= 0.01)).mean()))
        yield f"sequence, 40 a week, +1 pp, all of 8 weeks, ICC {icc}: held", float(np.mean(held)), None, 0.95


#: Batches that worked in the first week only, in both, and in the second only.
WEEKS = ((10, 0, 10), (8, 4, 8), (0, 12, 0), (20, 20, 20), (3, 2, 3), (0, 30, 0))


def weeks_cell(shape: tuple[int, int, int], icc: float, *, runs: int, seed: int) -> tuple[float, float]:
    """Two weeks of one rate, batches in both of them: shares of p < 0.05 and of wrong verdicts."""
    rng = np.random.default_rng([seed, WEEKS.index(shape), round(1000 * icc)])
    first, both, _ = shape
    m = sum(shape)
    n = draw_sizes(rng, runs * m, "log-normal").reshape(runs, m)
    scale = (1 - icc) / icc if icc else 0.0
    rate = rng.beta(0.02 * scale, 0.98 * scale, n.shape) if icc else np.full(n.shape, 0.02)
    place = np.arange(m)
    share = np.where(place < first, 1.0, np.where(place < first + both, rng.random(n.shape), 0.0))
    n_1 = np.round(n * share).astype(np.int64)
    n_2 = n - n_1
    errors = rng.binomial(n_1, rate).ravel(), rng.binomial(n_2, rate).ravel()
    group = np.repeat(np.arange(runs), m)
    *_, found = week_over_week(group, errors, (n_1.ravel(), n_2.ravel()), n_groups=runs)
    wrong = np.isin(verdicts(found, found.p_value), ["higher", "lower"])
    return float((found.p_value < ALPHA).mean()), float(wrong.mean())


def weeks(runs: int, seed: int) -> Iterator[Cell]:
    """One week against the next, with batches that span both."""
    for shape in WEEKS:
        for icc in (0.0, 0.005, 0.03):
            small, wrong = weeks_cell(shape, icc, runs=runs, seed=seed)
            yield f"weeks {shape}, ICC {icc}: p < 0.05", small, 0.065, None
            yield f"weeks {shape}, ICC {icc}: wrong", wrong, 0.065, None


def cluster_sums(place: Ints, y: Floats, n: Floats, *, n_places: int) -> ClusterSums:
    """Sum up batches by bucket."""
    rates = cluster_rates(place, y, n, n_groups=n_places)
    counts = n > 0

    def total(values: Floats) -> Floats:
        return np.bincount(place, weights=values, minlength=n_places)

    return ClusterSums(
        errors=rates.errors,
        processed=rates.processed,
        work=total(np.abs(y) + np.abs(n - y)),
        n_clusters=total(counts.astype(float)),
        squares=total(n**2),
        ratios=total(np.where(counts, y**2, 0.0) / np.where(counts, n, 1.0)),
        took_back=total(np.maximum(-n, 0.0)),
        variance=rates.variance,
        df=rates.df,
    )


def bucket_cell(m: int, rate: float, icc: float, *, runs: int, seed: int, own: int | None = None) -> float:
    """Share of buckets, the last of 30 with m batches each, whose interval holds the rate."""
    rng = np.random.default_rng([seed, m, round(1e5 * rate), round(1000 * icc)])
    sizes = np.full(POOL_BUCKETS, m)
    sizes[-1] = m if own is None else own
    bucket = np.repeat(np.arange(POOL_BUCKETS), sizes)
    place = (np.arange(runs)[:, None] * POOL_BUCKETS + bucket).ravel()
    n = draw_sizes(rng, len(place), "log-normal")
    y = draw_errors(rng, n, icc, np.full(len(place), rate))
    found = cluster_sums(place, y, n, n_places=runs * POOL_BUCKETS)
    everywhere = np.arange(runs * POOL_BUCKETS)
    low, high, _ = rate_intervals(found, everywhere // POOL_BUCKETS, everywhere % POOL_BUCKETS)
    last = everywhere % POOL_BUCKETS == POOL_BUCKETS - 1
    return float(((low <= rate) & (rate <= high))[last].mean())


def buckets(runs: int, seed: int) -> Iterator[Cell]:
    """Intervals of the rates of buckets with 30 buckets to borrow from."""
    for rate, icc, m, own, least in (
        (0.02, 0.03, 4, 4, 0.90),
        (0.02, 0.03, 10, 10, 0.90),
        (0.02, 0.03, 30, 30, 0.90),
        (0.02, 0.005, 4, 4, 0.90),
        (0.02, 0.005, 30, 30, 0.90),
        (0.001, 0.03, 10, 10, 0.85),
        (0.001, 0.03, 30, 30, 0.85),
        (0.02, 0.03, 4, 1, 0.85),
        (0.02, 0.005, 10, 1, 0.85),
    ):
        held = bucket_cell(m, rate, icc, runs=runs, seed=seed, own=own)
        yield f"bucket of {own}, others of {m}, {100 * rate:g} %, ICC {icc}: held", held, None, least


def seen_cell(rng: np.random.Generator, m: int, icc: float, kind: str, runs: int) -> float:
    """Of differences that one of 20 candidates would have been seen with: the share that is seen."""
    level, shares = ALPHA / 20, []
    for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
        layout = week_layout(rng, m, m, kind, days=2)
        strata, _ = tiled(layout, constant(rng, icc, 0.02)(layout, 1), any_look=False)
        d = permutation_detectable(strata, find_outcomes(strata), alpha=level)
        if d < 0.9:
            y = constant(rng, icc, 0.02, 0.02 + d)(layout, RUNS_PER_LAYOUT)
            shares.append(float((one_look_p(layout, y) < level).mean()))
    return float(np.mean(shares))


def seen_any_cell(
    rng: np.random.Generator, icc: float, kind: str, runs: int, *, m: int = 20, n_weeks: int = 6
) -> float:
    """Of differences that some weeks would have been seen with: the share that is seen at any look."""
    shares = []
    for _ in range(max(1, runs // RUNS_PER_LAYOUT)):
        layout = joined([week_layout(rng, m, m, kind) for _ in range(n_weeks)])
        strata, found = tiled(layout, constant(rng, icc, 0.02)(layout, 1), any_look=True)
        d = float(detectable(strata, found, alpha=np.full(1, ALPHA))[0])
        if d < 0.9:
            y = constant(rng, icc, 0.02, 0.02 + d)(layout, RUNS_PER_LAYOUT)
            shares.append(float((any_look(layout, y)[0] < ALPHA).mean()))
    return float(np.mean(shares))


def seen(runs: int, seed: int) -> Iterator[Cell]:
    """Detectable differences: of 20 candidates at one look, by Holm; and of one at any look."""
    rng = np.random.default_rng([seed, 8])
    for n_weeks in (2, 6):
        for icc in (0.005, 0.03):
            for kind in ("equal", "log-normal"):
                share = seen_any_cell(rng, icc, kind, runs // 2, n_weeks=n_weeks)
                yield f"{n_weeks} weeks of 20 v 20, ICC {icc}, {kind}, any look: seen", share, 0.85, 0.70
    for m in (20, 50):
        for icc in (0.005, 0.03):
            for kind in ("equal", "log-normal"):
                yield f"{m} v {m}, ICC {icc}, {kind}: seen", seen_cell(rng, m, icc, kind, runs), 0.85, 0.75


def summaries(policies: list[tuple[Layout, Ints]]) -> pd.DataFrame:
    """Batches of some policies as `flow.batch_summary` returns them; each took two hours."""
    day, n, candidate = (
        np.concatenate([getattr(layout, name) for layout, _ in policies])
        for name in ("day", "n", "is_candidate")
    )
    policy = np.repeat(np.arange(len(policies)), [len(y) for _, y in policies])
    end_us = day * DAY_US + 10_800_000_000 + np.arange(len(day))
    return summary(
        policy, candidate + 1, (end_us - 7_200_000_000, end_us), n, np.concatenate([y for _, y in policies])
    )


def summary(policy: Ints, version: Ints, span_us: tuple[Ints, Ints], n: Ints, y: Ints) -> pd.DataFrame:
    """One row per batch that was seen when it began and when it ended."""
    begin, end = (pd.to_datetime(at, unit="us", utc=True).astype("datetime64[us, UTC]") for at in span_us)
    names = {
        "created_at": begin,
        "first_observed_at": begin,
        "before_terminal_at": begin,
        "last_moved_after": begin,
    }
    names |= {"last_observed_at": end, "first_terminal_at": end, "last_moved_before": end}
    return pd.DataFrame(
        {
            "batch_id": [f"batch_{i}" for i in range(len(n))],
            "policy_id": pd.array([f"P{i}" for i in policy], dtype=STRING),
            "policy_version": pd.array([f"v{i}" for i in version], dtype=STRING),
            **names,
            "batch_status": "SUCCESS",
            "first_terminal_status": "SUCCESS",
            "is_terminal": True,
            "label_changed": False,
            "batch_count": n,
            "success_count": n - y,
            "error_count": y,
            "cancelled_count": 0,
            "pending_count": 0,
        }
    )


def handover_cell(
    rng: np.random.Generator,
    per_week: int,
    icc: float,
    spread: float,
    *,
    before: int,
    runs: int,
    more: float = 0.0,
) -> tuple[float, float]:
    """Shares of policies, handed over amid weeks that spread, ever with "since" and with a plain verdict."""
    after = 5
    policies = []
    for _ in range(runs):
        day = np.sort(rng.integers(0, 7 * (before + after), per_week * (before + after)))
        layout = Layout(day + MONDAY, day // 7 >= before, draw_sizes(rng, len(day), "log-normal"))
        rate = np.maximum(0.02 + spread * rng.standard_normal(before + after), 0.0005)[day // 7]
        rate += more * layout.is_candidate
        policies.append((layout, draw_errors(rng, layout.n, icc, rate)))
    batches = summaries(policies)
    since, plain = set(), set()
    for week in range(1, after + 1):
        until = (MONDAY + 7 * (before + week)) * DAY_US
        found = compare_batches(
            batches[(batches["first_terminal_at"] < pd.Timestamp(until, unit="us", tz="UTC")).to_numpy()],
            tz=ZoneInfo("UTC"),
            as_of_us=until - 1,
            correction="none",
        ).table
        since |= set(found["policy_id"][found["verdict"].isin(["higher since", "lower since"])])
        plain |= set(found["policy_id"][found["verdict"].isin(["higher", "lower"])])
    return len(since) / runs, len(plain) / runs


def handovers(runs: int, seed: int) -> Iterator[Cell]:
    """One version after the other, looked at in each of the five weeks that follow."""
    rng = np.random.default_rng([seed, 9])
    some = max(100, runs // 5)
    for per_week, icc in ((10, 0.005), (10, 0.03), (10, 0.1), (30, 0.005), (30, 0.03), (100, 0.005)):
        for spread, before, bar in ((0.0, 4, 0.065), (0.003, 4, 0.10), (0.003, 6, 0.10), (0.003, 8, 0.10)):
            since, plain = handover_cell(rng, per_week, icc, spread, before=before, runs=some)
            what = (
                f"hand-over, {per_week} a week, ICC {icc}, {before} weeks that spread by {100 * spread:g} pp"
            )
            yield f"{what}: ever since", since, bar, None
            yield f"{what}: ever plain", plain, 0.0, None
    for per_week, icc, least in ((10, 0.005, 0.5), (30, 0.005, 0.9), (30, 0.03, None)):
        for before in (4, 8):
            found, _ = handover_cell(rng, per_week, icc, 0.003, before=before, runs=some, more=0.02)
            what = f"hand-over, {per_week} a week, ICC {icc}, {before} weeks that spread by 0.3 pp, +2 pp"
            yield f"{what}: found", found, None, least


def null_year(rng: np.random.Generator, icc: float, per_week: int) -> pd.DataFrame:
    """20 policies of one rate each with a new version every eight weeks: beside the old one, or after it."""
    parts = []
    for policy in range(20):
        m = 52 * per_week
        week, hours = np.sort(rng.uniform(0, 52, m)), np.exp(rng.uniform(0, np.log(48), m))
        n, since = draw_sizes(rng, m, "log-normal"), week + rng.integers(0, 8)
        y = draw_errors(rng, n, icc, np.full(m, rng.uniform(0.005, 0.05)))
        is_beside = (since % 8 < 4) & (rng.random(m) < 0.5) & (policy % 2 == 0)
        begin = np.int64(MONDAY * DAY_US) + (week * 7 * DAY_US).astype(np.int64)
        end = begin + (hours * DAY_US / 24).astype(np.int64)
        parts.append((np.full(m, policy), (since // 8).astype(np.int64) - is_beside + 1, begin, end, n, y))
    policy, version, begin, end, n, y = map(np.concatenate, zip(*parts, strict=True))
    return summary(policy, version, (begin, end), n, y)


def week_headline(batches: pd.DataFrame, week: int) -> str:
    """What the report on one week says first, by the functions that the report calls."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    begin, start, until = (epoch + dt.timedelta(days=MONDAY + 7 * (week + i)) for i in (-1, 0, 1))
    work = []
    for bucket, span in enumerate(((begin, start), (start, until))):
        first, last = (pd.Timestamp(at) for at in span)
        part = (batches["first_terminal_at"].clip(upper=last) - batches["created_at"].clip(lower=first)) / (
            batches["first_terminal_at"] - batches["created_at"]
        )
        some = batches[(part > 0.0).to_numpy()]
        share = part[part > 0.0]
        counts = {
            "success": some["success_count"] * share,
            "error": some["error_count"] * share,
            "cancelled": 0.0,
        }
        work.append(some[["batch_id", "policy_id", "policy_version"]].assign(bucket=bucket, **counts))
    now = batches[(batches["first_terminal_at"] < pd.Timestamp(until)).to_numpy()]
    rows = pd.concat(work, ignore_index=True)
    names = sorted(rows["policy_id"].unique())
    scopes = pd.DataFrame({"scope": ["all"] + ["policy"] * len(names), "coverage": 1.0, "smeared_share": 0.0})
    scopes["policy_id"] = pd.array([None, *names], dtype=STRING)
    spans, hours = ((begin, start), (start, until)), (168.0, 168.0)
    totals, previous, change = compare_weeks(now, spans, rows, (scopes, scopes), hours)
    known = {"weeks": side_by_side(totals, previous, change), "outage": None, "tz": "UTC", "start": start}
    facts = SimpleNamespace(**known, comparison=compare_week(now, start, until, ZoneInfo("UTC")))
    facts.versions_compared = lambda: Facts.versions_compared(facts)  # type: ignore[arg-type]
    return "".join(map(str, what_changed(facts)))  # type: ignore[arg-type]


def reports(runs: int, seed: int) -> Iterator[Cell]:
    """False headlines of 51 weekly reports on 20 policies that do not change."""
    years = max(1, runs // 1000)
    rng = np.random.default_rng([seed, 10])
    for icc, per_week in ((0.005, 30), (0.03, 30), (0.1, 15)):
        false = 0
        for _ in range(years):
            batches = null_year(rng, icc, per_week)
            false += sum("No policy" not in week_headline(batches, week) for week in range(1, 52))
        yield f"ICC {icc}, {per_week} a week: false headlines a year, in %", false / years, 1.0, None


#: Days before the week that is judged, and with it.
BEFORE, ALL_DAYS = 28, 35


def marked_days(errors: Floats, processed: Floats, *, before: int = BEFORE) -> NDArray[np.bool_]:
    """Which days of each policy's week the control chart marks, as in the report; shape (runs, days)."""
    runs, days = errors.shape
    start = pd.to_datetime((MONDAY + np.tile(np.arange(days), runs)) * DAY_US, unit="us", utc=True)
    table = pd.DataFrame({"bucket_start": start, "bucket_end": start + pd.Timedelta(days=1)})
    table["policy_id"] = pd.array([f"P{i}" for i in np.repeat(np.arange(runs), days)], dtype=STRING)
    table["error"], table["processed"] = errors.ravel(), processed.ravel()
    table["error_rate"] = table["error"] / table["processed"].where(table["processed"] > 0.0)
    chart = control_chart(table.assign(partial=False, note=""), limits_before=start[before])
    return chart["out_of_control"].to_numpy().reshape(runs, days)[:, before:]


def charts_cell(
    rng: np.random.Generator, per_day: int, hours: float, icc: float, kind: str, *, runs: int
) -> float:
    """Share of charts with a mark in a week that is like the four weeks before."""
    counts = []
    for _ in range(runs):
        m = (ALL_DAYS + 2) * per_day
        start, days = rng.uniform(-2, ALL_DAYS, m), np.exp(rng.uniform(0, np.log(hours), m)) / 24
        n = draw_sizes(rng, m, kind)
        y = draw_errors(rng, n, icc, np.full(m, 0.02))
        done = np.clip((np.arange(ALL_DAYS + 1)[:, None] - start) / days, 0, 1)
        counts.append([np.diff(done @ values) for values in (y, n)])
    errors, processed = np.swapaxes(np.array(counts), 0, 1)
    return float(marked_days(errors, processed).any(axis=1).mean())


def shift_cell(rng: np.random.Generator, sigmas: float, icc: float, *, before: int, runs: int) -> float:
    """Share of charts that mark a shift, in sigmas of a day's rate, within two days of 20 batches of 400."""
    days, sigma = before + 2, np.sqrt(0.02 * 0.98 / 8000 * (1 + 399 * icc))
    rate = np.where(np.arange(days) >= before, 0.02 + sigmas * sigma, 0.02)
    y = draw_errors(rng, np.full(1, 400), icc, np.broadcast_to(rate[:, None], (runs, days, 20))).sum(axis=2)
    return float(marked_days(y, np.full(y.shape, 8000), before=before).any(axis=1).mean())


def charts(runs: int, seed: int) -> Iterator[Cell]:
    """Weekly control charts with four weeks before them: of a policy that does not change, and of a shift."""
    rng = np.random.default_rng([seed, 11])
    for sigmas, icc, before, least in (
        (4.0, 0.0, 28, 0.80),
        (4.0, 0.03, 28, 0.70),
        (5.0, 0.0, 28, 0.95),
        (5.0, 0.03, 28, 0.85),
        (4.0, 0.0, 20, None),
        (4.0, 0.0, 12, None),
    ):
        share = shift_cell(rng, sigmas, icc, before=before, runs=max(100, runs // 2))
        yield (
            f"chart, {sigmas:g} sigma, ICC {icc}, {before} days before: marked in two days",
            share,
            None,
            least,
        )
    for per_day in (4, 12, 40):
        for hours in (2.0, 12.0, 48.0):
            for icc in (0.005, 0.03):
                for kind in ("equal", "log-normal", "pareto"):
                    share = charts_cell(rng, per_day, hours, icc, kind, runs=max(100, runs // 4))
                    what = f"chart, {per_day} a day, up to {hours:g} h, ICC {icc}, {kind}: marked"
                    yield what, share, 0.10, None


SECTIONS: dict[str, Callable[[int, int], Iterator[Cell]]] = {
    "null": null,
    "sizes": sizes,
    "ramps": ramps,
    "looks": looks,
    "power": power,
    "seen": seen,
    "coverage": coverage,
    "weeks": weeks,
    "buckets": buckets,
    "handovers": handovers,
    "reports": reports,
    "charts": charts,
}


def is_broken(cell: Cell, *, runs: int) -> bool:
    """Whether a share breaks its bar by more than two standard errors of the simulation."""
    what, share, most, least = cell
    if what.endswith(": seen"):
        # Runs of one layout share its detectable difference. Where nothing differs, every layout is exact.
        runs = max(1, runs // RUNS_PER_LAYOUT)
    bar = most if most is not None else least if least is not None else 0.5
    slack = 2.0 * np.sqrt(min(bar, 1.0) * max(1.0 - bar, 0.0) / runs)
    return (most is not None and share > most + slack) or (least is not None and share < least - slack)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    broken = []
    for name in args.sections or SECTIONS:
        print(f"\n{name}\n\n| what | % of runs | bar |\n| --- | --- | --- |")
        for cell in SECTIONS[name](args.runs, args.seed):
            what, share, most, least = cell
            ends = (f"{sign} {100 * end:g}" for sign, end in (("≥", least), ("≤", most)) if end is not None)
            bar = ", ".join(ends)
            mark = " broken" if is_broken(cell, runs=args.runs) else ""
            broken += [what] if mark else []
            print(f"| {what} | {100 * share:.1f} | {bar}{mark} |", flush=True)
    print("\nbars broken: " + ("; ".join(broken) or "none"))
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
