"""Tables as the other stages make them, with known content."""

import numpy as np
import pandas as pd
import pyarrow as pa

from safetykit_analytics.frame import frame_from_table

RATES_FLOATS = (
    "success", "error", "cancelled", "processed", "throughput_per_hour", "error_rate", "error_rate_low",
    "error_rate_high",
)  # fmt: skip


def rates_table(
    groups,
    *,
    start="2026-11-02",
    buckets=14,
    freq="D",
    tz="Europe/Berlin",
    first=None,
    seed=7,
    coverage=1.0,
    smeared=0.1,
    partial=False,
    by=("policy_id", "policy_version"),
):
    """Return a table with the columns and dtypes of ``rates``.

    ``groups`` lists (policy, version); ``first`` gives the bucket in which a group begins.
    """
    rng = np.random.default_rng(seed)
    edges = pd.date_range(start, periods=buckets + 1, freq=freq, tz=tz)
    frames = []
    for index, key in enumerate(groups):
        begin = (first or {}).get(key, 0)
        n = buckets - begin
        hours = np.diff(edges.as_unit("us").asi8)[begin:] / 3.6e9
        processed = np.round(hours * (60 + 35 * index) * rng.uniform(0.6, 1.4, n))
        rate = 0.02 + 0.012 * index
        error = rng.binomial(processed.astype(int), rate).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            measured = error / processed
        half = 2.6 * np.sqrt(rate * (1 - rate) / np.maximum(processed, 1)) * 1.5
        frames.append(
            {
                "bucket_start": edges[begin:-1],
                "bucket_end": edges[begin + 1 :],
                "policy_id": [key[0]] * n,
                "policy_version": [key[1]] * n,
                "success": processed - error,
                "error": error,
                "cancelled": np.zeros(n),
                "processed": processed,
                "throughput_per_hour": processed / hours,
                "error_rate": measured,
                "error_rate_low": np.maximum(measured - half, 0),
                "error_rate_high": measured + half,
                "n_batches": rng.integers(2, 9, n),
                "processed_low": processed * 0.8,
                "processed_high": processed * 1.25,
                "coverage": np.full(n, coverage),
                "smeared_share": np.full(n, smeared),
                "reprocessed": np.zeros(n),
                "partial": [False] * (n - 1) + [partial],
                "note": [None] * n,
            }
        )
    columns = {}
    for name, kind in rates_schema(tz).items():
        parts = [value for frame in frames for value in frame[name]]
        if pa.types.is_timestamp(kind):
            parts = [value.to_pydatetime() for value in parts]
        columns[name] = pa.array(parts, type=kind)
    return typed(columns).drop(columns=[c for c in ("policy_id", "policy_version") if c not in by])


def typed(columns):
    return frame_from_table(pa.table(columns))


def rates_schema(tz):
    kinds = {"bucket_start": pa.timestamp("us", tz), "bucket_end": pa.timestamp("us", tz)}
    kinds |= {"policy_id": pa.string(), "policy_version": pa.string()}
    kinds |= dict.fromkeys(RATES_FLOATS, pa.float64())
    kinds |= {"n_batches": pa.int64(), "processed_low": pa.float64(), "processed_high": pa.float64()}
    kinds |= dict.fromkeys(("coverage", "smeared_share", "reprocessed"), pa.float64())
    return kinds | {"partial": pa.bool_(), "note": pa.string()}


def empty_rates(tz="UTC"):
    return typed({name: pa.array([], type=kind) for name, kind in rates_schema(tz).items()})


def lines_with_data(ax):
    return [line for line in ax.get_lines() if len(line.get_xdata()) and np.isfinite(line.get_ydata()).any()]
