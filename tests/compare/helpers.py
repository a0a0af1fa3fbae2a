"""Observations by the batch: what happened to each, in hours after a common start."""

import numpy as np
import pandas as pd

START = pd.Timestamp("2026-11-02", tz="UTC")
TERMINAL = ["SUCCESS", "ERROR", "CANCELLED"]
COLUMNS = [
    "batch_id",
    "at",
    "created",
    "status",
    "success",
    "error",
    "cancelled",
    "pending",
    "policy",
    "version",
]


def observations(rows):
    """Observations of rows in the order of COLUMNS; `at` and `created` in hours, created None for unknown."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    hours = pd.to_timedelta(pd.to_numeric(table["created"]).astype(float), unit="h").dt.round("us")
    counts = ["success", "error", "cancelled", "pending"]
    return pd.DataFrame(
        {
            "batch_id": table["batch_id"],
            "observed_at": START + pd.to_timedelta(table["at"].astype(float), unit="h").dt.round("us"),
            "created_at": START + hours,
            "batch_status": table["status"],
            "batch_count": table[counts].sum(axis=1),
            **{f"{name}_count": table[name] for name in counts},
            "policy_id": table["policy"],
            "policy_version": table["version"],
            "has_download": False,
            "is_terminal": table["status"].isin(TERMINAL),
        }
    )


def ended(version, counts, *, policy="P", first=0, hours=2.0, start=0.0):
    """Rows of batches that ended as SUCCESS, observed once each; counts are (errors, processed)."""
    rows = []
    for i, (y, n) in enumerate(counts):
        at, created = start + hours + i, start + i
        name = f"{policy}-{version}-{first + i}"
        rows.append((name, at, created, "SUCCESS", n - y, y, 0, 0, policy, version))
    return rows


def some_counts(rng, m, rate=0.02, icc=0.005):
    """Errors and sizes of m batches of very unequal size; decisions of one batch resemble each other."""
    n = np.clip(np.exp(rng.normal(6, 1.2, m)), 5, 10_000).astype(int)
    scale = (1 - icc) / icc
    y = rng.binomial(n, rng.beta(rate * scale, (1 - rate) * scale, m))
    return list(zip(y.tolist(), n.tolist(), strict=True))
