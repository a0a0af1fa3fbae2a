"""How long it takes to compare 100,000 batches, beside the other ways to get at a p-value.

    PYTHONPATH=. python benchmarks/compare.py [--batches 100000] [--repeat 5]

The peers get the final counts ready-made; `compare_versions` starts from observations, two per batch.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.stats.proportion import proportions_ztest

import safetykit_analytics as ska
from safetykit_analytics.stats import week_over_week

if TYPE_CHECKING:
    from collections.abc import Callable


def final_counts(size: int, rng: np.random.Generator) -> pd.DataFrame:
    n = np.clip(np.exp(rng.normal(6, 1.2, size)), 5, 10_000).astype(np.int64)
    return pd.DataFrame(
        {
            "batch_id": [f"batch_{i:026d}" for i in range(size)],
            "version": np.where(np.arange(size) % 2, "v8", "v7"),
            "n": n,
            "y": rng.binomial(n, rng.beta(3.98, 195.02, size)),
        }
    )


def observations(final: pd.DataFrame, rng: np.random.Generator, *, policies: int) -> pd.DataFrame:
    """Two observations of each batch: under way, and done."""
    created = pd.Timestamp("2026-11-02", tz="UTC") + pd.to_timedelta(
        rng.integers(0, 7 * 86_400, len(final)), unit="s"
    )
    parts = []
    for share, status in ((2, "PENDING"), (1, "SUCCESS")):
        y, n = final["y"] // share, final["n"] // share
        parts.append(
            pd.DataFrame(
                {
                    "batch_id": final["batch_id"],
                    "observed_at": created + pd.to_timedelta(3600 // share, unit="s"),
                    "created_at": created,
                    "batch_status": status,
                    "batch_count": final["n"],
                    "success_count": n - y,
                    "error_count": y,
                    "cancelled_count": 0,
                    "pending_count": final["n"] - n,
                    "policy_id": [f"P{i % (2 * policies) // 2}" for i in range(len(final))],
                    "policy_version": final["version"],
                    "has_download": False,
                    "is_terminal": status == "SUCCESS",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Best of some runs, after one that loads and compiles what is loaded and compiled once."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    final = final_counts(args.batches, rng)
    side = (final["version"] == "v8").to_numpy().astype(np.int64)
    y, n = final["y"].to_numpy(), final["n"].to_numpy()
    frame = observations(final, rng, policies=1)
    many = observations(final, rng, policies=1000)

    def regression() -> None:
        design = sm.add_constant(side.astype(float))
        sm.WLS(y / n, design, weights=n).fit(cov_type="HC2").pvalues  # noqa: B018 -- computed when asked for

    def pooled() -> None:
        totals = final.groupby("version")[["y", "n"]].sum()
        proportions_ztest(totals["y"].to_numpy(), totals["n"].to_numpy())

    def ours() -> None:
        week_over_week(side * 0, (y * (1 - side), y * side), (n * (1 - side), n * side), n_groups=1)

    def whole() -> None:
        ska.compare_versions(frame, policy_id="P0", baseline="v7")

    def scan() -> None:
        ska.compare_versions(many, policy_id=None, baseline="v7")

    print(f"{args.batches:,} batches, best of {args.repeat}\n")
    print("| what | seconds | against the regression |\n| --- | --- | --- |")
    base = seconds(regression, args.repeat)
    for name, work in (
        ("statsmodels WLS with HC2, from final counts (no Bell-McCaffrey df)", regression),
        ("pandas and the pooled z test, from final counts (wrong)", pooled),
        ("stats.week_over_week (CR2), from final counts", ours),
        ("compare_versions of one policy, from two observations per batch", whole),
        ("compare_versions scanning 1,000 policies", scan),
    ):
        taken = base if work is regression else seconds(work, args.repeat)
        print(f"| {name} | {taken:.3f} | {taken / base:.2f} times |", flush=True)


if __name__ == "__main__":
    main()
