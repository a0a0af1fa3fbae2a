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


def control_table(groups, *, alarms=(), **shape):
    """Return a table with the columns of ``control_chart``: limits of three sigma, alarms where asked."""
    chart = rates_table(groups, **shape)
    rate = chart["error"].sum() / chart["processed"].sum()
    wide = 3 * np.sqrt(rate * (1 - rate) / chart["processed"]) * 1.3
    chart = chart.assign(
        center=rate,
        lower_limit=np.maximum(rate - wide, 0),
        upper_limit=rate + wide,
        sigma_z=1.3,
        out_of_control=False,
        segment=0,
    )
    for row in alarms:
        chart.loc[row, "error_rate"] = chart.loc[row, "upper_limit"] * 1.25
        chart.loc[row, "out_of_control"] = True
    return chart


def backlog_table(groups, **shape):
    """Return a table with the columns of ``backlog``."""
    table = rates_table(groups, **shape)
    pending = (900 + (table["success"] - table["success"].mean()).cumsum()).clip(lower=0).round()
    table = table.assign(pending=pending, n_open=(pending // 150).astype("int64"))
    return table.drop(columns=[*RATES_FLOATS, "n_batches", "processed_low", "processed_high"])


def completion_table(rows):
    """Return a table with the columns of ``completion_time``; hours, None where a bracket is open."""
    names = ("median_low", "median_high", "p90_low", "p90_high")
    columns = {
        "policy_id": pa.array([row[0] for row in rows], pa.string()),
        "policy_version": pa.array([row[1] for row in rows], pa.string()),
        "n_batches": pa.array([row[2] for row in rows], pa.int64()),
        "n_running": pa.array([row[3] for row in rows], pa.int64()),
    }
    table = typed(columns)
    for place, name in enumerate(names):
        table[name] = pd.to_timedelta([row[4][place] for row in rows], unit="h").astype("timedelta64[us]")
    return table


def comparison_table(baseline, candidates, *, policy="spam"):
    """Return a table with the columns of ``compare_versions(...).table``.

    ``candidates`` lists (version, batches, decisions, difference, low, high, verdict).
    """
    known = {"n_batches": 12, "processed": 24_112.0, "error_rate": 0.0213}
    known |= {"error_rate_low": 0.0172, "error_rate_high": 0.0261}
    rows = [{"policy_version": baseline, "role": "baseline"} | known]
    names = ("policy_version", "n_batches", "processed", "difference", "difference_low",
             "difference_high", "verdict")  # fmt: skip
    for candidate in candidates:
        row = dict(zip(names, candidate, strict=True)) | {"role": "candidate"}
        row["processed"] = float(row["processed"])
        row["error_rate"] = 0.0213 + (row["difference"] or 0)
        if row["difference_low"] is not None:
            row["mde"] = (row["difference_high"] - row["difference_low"]) * 0.7
        rows.append(row)
    kinds = {"policy_version": pa.string(), "role": pa.string(), "n_batches": pa.int64()}
    floats = ("processed", "error_rate", "error_rate_low", "error_rate_high", "difference", "difference_low")
    kinds |= dict.fromkeys((*floats, "difference_high", "mde"), pa.float64()) | {"verdict": pa.string()}
    columns = {"policy_id": pa.array([policy] * len(rows), pa.string())}
    for name, kind in kinds.items():
        columns[name] = pa.array([row.get(name) for row in rows], kind)
    return typed(columns)
