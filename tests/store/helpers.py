"""Observations for the tests of the store."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA

START = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)


def observations(n, *, start=START, n_batches=10, step=dt.timedelta(minutes=1), offset=0):
    """Give n observations with different keys, `step` apart, `n_batches` batches in turn."""
    i = np.arange(offset, offset + n)
    batch = i % n_batches
    done = i // n_batches
    frame = pd.DataFrame(
        {
            "batch_id": [f"batch_{b:05d}" for b in batch],
            "observed_at": pd.Timestamp(start) + pd.to_timedelta(i * step),
            "created_at": pd.Series(pd.NaT, index=range(n), dtype="datetime64[us, UTC]"),
            "batch_status": "PENDING",
            "batch_count": 10_000,
            "success_count": done,
            "error_count": done // 7,
            "cancelled_count": 0,
            "pending_count": 10_000 - done - done // 7,
            "policy_id": [None if b == 3 else f"policy-{b % 3}" for b in batch],
            "policy_version": ["v8" if b % 2 else None for b in batch],
            "has_download": False,
            "is_terminal": False,
        }
    )
    return frame[OBSERVATION_SCHEMA.names]


def expected(*frames):
    """Give what a store that has these frames must read, in its dtypes; the frames share no key."""
    from safetykit_analytics.frame import table_from_frame

    frame = pd.concat([frame_from_table(table_from_frame(frame)) for frame in frames])
    return frame.sort_values(["batch_id", "observed_at"]).reset_index(drop=True)


def keys(frame):
    """Give the keys of a frame as a list of tuples."""
    microseconds = frame["observed_at"].astype("datetime64[us, UTC]").astype("int64")
    return list(zip(frame["batch_id"], microseconds, strict=True))
