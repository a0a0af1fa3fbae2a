"""Do p-values, verdicts and intervals hold what they say? Simulated, beside the pooled test.

Two versions with the same true error rate of 2 %, batches of very unequal size (log-normal, 5 to 10,000
decisions), decisions within a batch beta-binomial with intraclass correlation ICC. A method that holds what
it says finds p < 0.05 in 5 % of runs, and its 95 % interval holds the true rate in 95 %.

    PYTHONPATH=. python benchmarks/calibration.py [--runs 20000] [--seed 1]

Columns, all in percent of runs: p < 0.05 by the pooled test; by ours; by ours with CR3 for CR2; by ours with
the df of batches that differ as a whole ("ICC df": Bell and McCaffrey's for a variance that grows with n²
instead of n); by ours with Satterthwaite's df from the estimated variances alone; a (wrong) verdict; enough
batches for one; how often the interval of the candidate's rate holds the truth: Wilson's pooled one, ours,
ours with CR3, and ours with the ICC df.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit

from safetykit_analytics.stats import (
    ClusterRates,
    cluster_rates,
    differences,
    verdicts,
    week_over_week,
    wilson,
)
from safetykit_analytics.stats.rate import wilson_at

RATE = 0.02
ICCS = (0.0, 0.005, 0.03)
#: Batches of the baseline and of the candidate; "giant" is one batch of 10,000 and two of 20.
SIDES: tuple[tuple[int, int | str], ...] = (
    *((3, 3), (5, 5), (10, 10), (30, 30), (100, 100)),
    *((30, 3), (30, 5), (100, 3), (50, "giant")),
)
GIANT = (10_000, 20, 20)
#: Batches that worked in the first week only, in both, and in the second only.
WEEKS = ((10, 0, 10), (8, 4, 8), (0, 12, 0), (20, 20, 20), (3, 2, 3), (0, 30, 0))
LARGEST_CHUNK = 400_000

#: What must hold in every cell.
MOST_FALSE, LEAST_FALSE_FROM_10, MOST_WRONG = 0.065, 0.03, 0.065
LEAST_COVERAGE = {0.0: 0.925, 0.005: 0.925, 0.03: 0.905}

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """Shares of runs."""

    pooled: float
    ours: float
    cr3: float
    icc_df: float
    satterthwaite: float
    wrong: float
    enough: float
    coverage_pooled: float
    coverage: float
    coverage_cr3: float
    coverage_icc_df: float


def batch_sizes(rng: np.random.Generator, runs: int, m: int | str) -> Counts:
    if m == "giant":
        return np.tile(np.array(GIANT), (runs, 1))
    return np.clip(np.exp(rng.normal(np.log(400), 1.3, (runs, int(m)))), 5, 10_000).astype(np.int64)


def batch_errors(rng: np.random.Generator, n: Counts, icc: float, rate: float = RATE) -> Counts:
    if icc == 0.0:
        return rng.binomial(n, rate)
    scale = (1 - icc) / icc
    return rng.binomial(n, rng.beta(rate * scale, (1 - rate) * scale, n.shape))


def estimates(n: Counts, y: Counts) -> ClusterRates:
    runs, m = n.shape
    return cluster_rates(np.repeat(np.arange(runs), m), y.ravel(), n.ravel(), n_groups=runs)


def cr3_variance(n: Counts, y: Counts) -> NDArray[np.float64]:
    total = n.sum(axis=1, keepdims=True)
    residual = y - y.sum(axis=1, keepdims=True) / total * n
    return (residual**2 / (1 - n / total) ** 2).sum(axis=1) / total[:, 0] ** 2


def icc_df(n: Counts) -> NDArray[np.float64]:
    """Satterthwaite's df of the CR2 variance if a batch's errors vary with the square of its size.

    The residuals' covariance is M = diag(D) - uv' - vu' + S·uu'; df = tr(M)² / tr(M²).
    """
    square = n.astype(np.float64) ** 2
    h = n / n.sum(axis=1, keepdims=True)
    root = np.sqrt(1 - h)
    d, u, v = square / (1 - h), h / root, square / root
    s = square.sum(axis=1)
    trace = (d - 2 * u * v).sum(axis=1) + s * (u * u).sum(axis=1)
    uu, vv, uv = (u * u).sum(axis=1), (v * v).sum(axis=1), (u * v).sum(axis=1)
    whole = (d * d).sum(axis=1) + 2 * uu * vv + 2 * uv**2 + s**2 * uu**2
    whole += 2 * s * (d * u * u).sum(axis=1) - 4 * (d * u * v).sum(axis=1) - 4 * s * uu * uv
    return trace**2 / whole


def simulate(
    sides: tuple[int, int | str],
    icc: float,
    *,
    runs: int,
    seed: int,
    rates: tuple[float, float] = (RATE, RATE),
) -> Cell:
    """Run one cell, in pieces that fit in memory."""
    rng = np.random.default_rng([seed, SIDES.index(sides), round(1000 * icc)])
    widest = sum(3 if m == "giant" else int(m) for m in sides)
    pieces, left = [], runs
    while left:
        size = min(left, max(1, LARGEST_CHUNK // widest))
        pieces.append((size, _piece(rng, sides, icc, size, rates)))
        left -= size
    return Cell(*(sum(size * piece[i] for size, piece in pieces) / runs for i in range(11)))


def _piece(
    rng: np.random.Generator, sides: tuple[int, int | str], icc: float, runs: int, rates: tuple[float, float]
) -> tuple[float, ...]:
    n_1, n_2 = (batch_sizes(rng, runs, m) for m in sides)
    y_1, y_2 = batch_errors(rng, n_1, icc, rates[0]), batch_errors(rng, n_2, icc, rates[1])
    total_1, total_2 = n_1.sum(axis=1), n_2.sum(axis=1)
    one, two = estimates(n_1, y_1), estimates(n_2, y_2)
    both = _joined(one, two)
    found = differences(both, np.arange(runs), np.arange(runs, 2 * runs))

    pooled = (y_1.sum(axis=1) + y_2.sum(axis=1)) / (total_1 + total_2)
    se = np.sqrt(pooled * (1 - pooled) * (1 / total_1 + 1 / total_2))
    p_pooled = 2 * ndtr(-np.abs(np.divide(found.difference, se, out=np.zeros(runs), where=se > 0)))

    known = ~np.isnan(found.p_value)
    variance_3 = cr3_variance(n_1, y_1) + cr3_variance(n_2, y_2)
    t_3 = np.abs(found.difference[known]) / np.sqrt(variance_3[known])
    p_cr3 = 2 * stdtr(found.df[known], -t_3)
    v_1, v_2 = one.variance[known], two.variance[known]
    welch = (v_1 + v_2) ** 2 / (v_1**2 / one.df[known] + v_2**2 / two.df[known])
    p_welch = 2 * stdtr(welch, -np.abs(found.difference[known]) / np.sqrt(found.variance[known]))

    icc_1, icc_2 = icc_df(n_1), icc_df(n_2)
    w_1, w_2 = one.leverage[known], two.leverage[known]
    sizes_df = (w_1 + w_2) ** 2 / (w_1**2 / icc_1[known] + w_2**2 / icc_2[known])
    t = np.abs(found.difference[known]) / np.sqrt(found.variance[known])
    p_icc = 2 * stdtr(np.minimum(found.df[known], sizes_df), -t)

    verdict = verdicts(found, found.p_value)
    low, high = wilson(y_2.sum(axis=1), total_2)
    deff_3 = np.maximum(1.0, cr3_variance(n_2, y_2) / np.maximum(two.rate * (1 - two.rate) / total_2, 1e-300))
    quantile = np.full(runs, 1.96)
    clustered = two.variance > 0
    quantile[clustered] = stdtrit(two.df[clustered], 0.975)
    low_3, high_3 = wilson_at(two.rate, total_2 / deff_3, quantile)
    quantile[clustered] = stdtrit(np.minimum(two.df, icc_2)[clustered], 0.975)
    low_icc, high_icc = wilson_at(two.rate, total_2 / np.where(clustered, two.deff, 1.0), quantile)
    return (
        (p_pooled < 0.05).mean(),
        (found.p_value[known] < 0.05).sum() / runs,
        (p_cr3 < 0.05).sum() / runs,
        (p_icc < 0.05).sum() / runs,
        (p_welch < 0.05).sum() / runs,
        np.isin(verdict, ["higher", "lower"]).mean(),
        found.is_enough.mean(),
        _holds(low, high, rates[1]),
        _holds(two.low, two.high, rates[1]),
        _holds(low_3, high_3, rates[1]),
        _holds(low_icc, high_icc, rates[1]),
    )


def simulate_weeks(weeks: tuple[int, int, int], icc: float, *, runs: int, seed: int) -> tuple[float, float]:
    """Two weeks of one rate, batches in both of them: shares of p < 0.05 and of wrong verdicts."""
    rng = np.random.default_rng([seed, WEEKS.index(weeks), round(1000 * icc)])
    first, both, _ = weeks
    m = sum(weeks)
    n = batch_sizes(rng, runs, m)
    scale = (1 - icc) / icc if icc else 0.0
    rate = rng.beta(RATE * scale, (1 - RATE) * scale, n.shape) if icc else np.full(n.shape, RATE)
    place = np.arange(m)
    share = np.where(place < first, 1.0, np.where(place < first + both, rng.random(n.shape), 0.0))
    n_1 = np.round(n * share).astype(np.int64)
    n_2 = n - n_1
    errors = rng.binomial(n_1, rate).ravel(), rng.binomial(n_2, rate).ravel()
    group = np.repeat(np.arange(runs), m)
    *_, found = week_over_week(group, errors, (n_1.ravel(), n_2.ravel()), n_groups=runs)
    wrong = np.isin(verdicts(found, found.p_value), ["higher", "lower"])
    return float((found.p_value < 0.05).mean()), float(wrong.mean())


def _joined(one: ClusterRates, two: ClusterRates) -> ClusterRates:
    names = ClusterRates.__dataclass_fields__
    return ClusterRates(*(np.concatenate([getattr(one, name), getattr(two, name)]) for name in names))


def _holds(low: NDArray[np.float64], high: NDArray[np.float64], rate: float) -> float:
    return float(((low <= rate) & (rate <= high)).mean())


def broken_bars(sides: tuple[int, int | str], icc: float, cell: Cell, *, slack: float = 0.0) -> list[str]:
    """Say which promises a cell breaks; `slack` allows for few runs."""
    smallest = min(3 if m == "giant" else int(m) for m in sides)
    broken = []
    if cell.ours > MOST_FALSE + slack:
        broken.append(f"p < 0.05 in {cell.ours:.3f}")
    if smallest >= 10 and cell.ours < LEAST_FALSE_FROM_10 - slack:
        broken.append(f"p < 0.05 in only {cell.ours:.3f}")
    if cell.wrong > MOST_WRONG + slack:
        broken.append(f"wrong verdicts {cell.wrong:.3f}")
    if smallest >= 10 and cell.coverage < LEAST_COVERAGE[icc] - slack:
        broken.append(f"coverage {cell.coverage:.3f}")
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tests, holds = (
        "p<.05: pooled | **ours** | CR3 | ICC df | v only",
        "holds: pooled | **ours** | CR3 | ICC df",
    )
    print(f"| batches | ICC | {tests} | verdict | enough | {holds} |")
    print("| --- " * 13 + "|")
    broken = []
    for sides in SIDES:
        for icc in ICCS:
            cell = simulate(sides, icc, runs=args.runs, seed=args.seed)
            shares = " | ".join(f"{100 * getattr(cell, field.name):.1f}" for field in fields(cell))
            print(f"| {sides[0]} and {sides[1]} | {icc} | {shares} |", flush=True)
            broken += [f"{sides}, ICC {icc}: {what}" for what in broken_bars(sides, icc, cell)]
    print("\nfound, when the candidate's rate is 4 %, 30 against 30 batches (power):")
    for icc in ICCS:
        cell = simulate((30, 30), icc, runs=args.runs // 4, seed=args.seed, rates=(RATE, 2 * RATE))
        print(f"- ICC {icc}: {100 * cell.wrong:.1f} %")
    print("\none week against the next, batches in the first only, both, the second only:")
    for weeks in WEEKS:
        for icc in ICCS:
            small, wrong = simulate_weeks(weeks, icc, runs=args.runs // 4, seed=args.seed)
            print(f"- {weeks}, ICC {icc}: p<.05 {100 * small:.1f} %, verdict {100 * wrong:.1f} %")
            broken += [f"weeks {weeks}, ICC {icc}"] if max(small, wrong) > MOST_FALSE else []
    print("\nbars broken: " + ("; ".join(broken) or "none"))
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
