"""Observations for the tests of the store."""

from __future__ import annotations

import datetime as dt
import io
import pathlib
import uuid
import zlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from safetykit_analytics.frame import frame_from_table, table_from_frame
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
    frame = pd.concat([frame_from_table(table_from_frame(frame)) for frame in frames])
    return frame.sort_values(["batch_id", "observed_at"]).reset_index(drop=True)


def keys(frame):
    """Give the keys of a frame as a list of tuples."""
    microseconds = frame["observed_at"].astype("datetime64[us, UTC]").astype("int64")
    return list(zip(frame["batch_id"], microseconds, strict=True))


ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def batch_id(created, number=0):
    """Return a batch id that holds a creation time."""
    ms = int(created.timestamp() * 1000)
    digits = [ALPHABET[ms >> 5 * place & 31] for place in range(9, -1, -1)]
    digits += [ALPHABET[number >> 5 * place & 31] for place in range(15, -1, -1)]
    return "batch_" + "".join(digits)


def fleet(days, *, per_day=4, hours=30, start=START, stuck=()):
    """Give hourly observations of batches that are created on some days and end after some hours.

    Batches whose number is in `stuck` never end: they are seen until the last day is over.
    """
    rows = []
    for number in range(days * per_day):
        created = start + dt.timedelta(days=number // per_day, hours=number % per_day * 5 + 1)
        seen = (days + 2) * 24 if number in stuck else hours
        for hour in range(seen):
            at = created + dt.timedelta(hours=hour, seconds=number)
            if number in stuck and at >= start + dt.timedelta(days=days):
                break
            rows.append((number, created, at, hour, hour == hours - 1 and number not in stuck))
    number, created, at, hour, terminal = (list(column) for column in zip(*rows, strict=True))
    hour = np.array(hour)
    frame = pd.DataFrame(
        {
            "batch_id": [batch_id(when, n) for when, n in zip(created, number, strict=True)],
            "observed_at": pd.to_datetime(at, utc=True),
            "created_at": pd.to_datetime(created, utc=True),
            "batch_status": np.where(terminal, "SUCCESS", "PENDING"),
            "batch_count": 10_000,
            "success_count": np.minimum(hour, hours) * 20,
            "error_count": np.minimum(hour, hours),
            "cancelled_count": 0,
            "pending_count": 10_000 - 21 * np.minimum(hour, hours),
            "policy_id": [f"policy-{n % 3}" for n in number],
            "policy_version": "v1",
            "has_download": terminal,
            "is_terminal": terminal,
        }
    )
    return frame.sort_values(["observed_at", "batch_id"], ignore_index=True)[OBSERVATION_SCHEMA.names]


def by_day(frame):
    """Cut a frame by the UTC day of observation."""
    return [part for _, part in frame.groupby(frame["observed_at"].dt.date)]


def write_old_store(folder, frame):
    """Write a store as the releases before the cohorts did: a file for each UTC day of observation."""
    (folder / ".safetykit-analytics").mkdir(parents=True, exist_ok=True)
    for part in by_day(frame):
        date = part["observed_at"].iloc[0].date().isoformat()
        table = table_from_frame(part).sort_by([("batch_id", "ascending"), ("observed_at", "ascending")])
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, table.schema, store_schema=False, compression="zstd") as writer:
            writer.write_table(table)
            footer = {
                "schema_version": "1",
                "sorted_unique_by": "batch_id,observed_at",
                "observed_date": date,
            }
            writer.add_key_value_metadata({f"safetykit_analytics.{key}": footer[key] for key in footer})
        data = sink.getvalue()
        place = folder / f"observed_date={date}"
        place.mkdir(exist_ok=True)
        name = f"observations-{uuid.uuid4().hex}-{zlib.crc32(data):08x}.parquet"
        (place / name).write_bytes(data)


def files_of(folder, kind="*"):
    """List the files of a store, sorted: ``recent``, ``cohorts`` or both."""
    return sorted(path for path in pathlib.Path(folder).glob(f"{kind}/*.parquet"))
