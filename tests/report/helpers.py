"""Observations to report on: a fleet as a cron job would have seen it, and single batches by hand."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa

from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA, TERMINAL_STATUSES
from safetykit_analytics.simulator.fleet import STATUSES, make_fleet, to_ms

UTC = dt.UTC
WEEK = "2026-W47"
MONDAY = dt.datetime(2026, 11, 16, tzinfo=UTC)
NEXT_MONDAY = dt.datetime(2026, 11, 23, tzinfo=UTC)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def batch_id(created, number=0):
    """An id whose first ten digits are a time of creation."""
    milliseconds = to_ms(created)
    digits = "".join(_ALPHABET[(milliseconds >> shift) & 31] for shift in range(45, -1, -5))
    rest = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))
    return f"batch_{digits}{rest}"


def fleet_frame(
    *, batches=1500, weeks=3.0, start=dt.datetime(2026, 11, 2, tzinfo=UTC), hours=2.0, until=None, **fleet
):
    """Poll every open batch of a simulated fleet every so many hours, and nine hours into the week after."""
    made = make_fleet(seed=7, batches=batches, weeks=weeks, start=start, **fleet)
    until = until or made.end + dt.timedelta(hours=9)
    is_open = np.ones(len(made.batch_ids), dtype=bool)
    columns = {
        name: []
        for name in ("batch", "at", "status", "batch_count", "success", "error", "cancelled", "pending")
    }
    at = made.start
    while (at := at + dt.timedelta(hours=hours)) <= until:
        chosen = np.flatnonzero(is_open[: made.created_by(at)])
        counts = made.counts_at(chosen, to_ms(at))
        values = (chosen, np.full(len(chosen), to_ms(at)), *counts)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
        terminal = np.isin(np.array(STATUSES)[counts.status], TERMINAL_STATUSES)
        is_open[chosen[terminal]] = False
    seen = {name: np.concatenate(parts) for name, parts in columns.items()}
    status = np.array(STATUSES)[seen["status"]]
    label = [made.labels[index] for index in made.label[seen["batch"]]]
    terminal = np.isin(status, TERMINAL_STATUSES)
    instant = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "batch_id": [made.batch_ids[index] for index in seen["batch"]],
            "observed_at": pa.array(seen["at"] * 1000).cast(instant),
            "created_at": pa.array(made.created_ms[seen["batch"]] * 1000).cast(instant),
            "batch_status": status,
            **{f"{name.removesuffix('_count')}_count": seen[name] for name in list(columns)[3:]},
            "policy_id": [policy or None for policy, _ in label],
            "policy_version": [version or None for _, version in label],
            "has_download": terminal & (status == "SUCCESS"),
            "is_terminal": terminal,
        },
        schema=OBSERVATION_SCHEMA,
    )
    return frame_from_table(table)


def batch(created, *polls, **labels):
    """Observations of one batch: polls are (hours since its creation, success, error[, cancelled])."""
    return frame_of(batch_rows(created, *polls, **labels))


def frame_of(rows):
    return frame_from_table(pa.Table.from_pylist(rows, schema=OBSERVATION_SCHEMA))


def batch_rows(created, *polls, policy="spam", version="v1", size=None, number=0, status=None):
    """List the observations of one batch, of which frame_of makes a frame together with those of others."""
    size = size if size is not None else sum(polls[-1][1:]) + 100
    rows = []
    for index, (hours, *done) in enumerate(polls):
        success, error, cancelled = (*done, 0, 0)[:3]
        pending = size - success - error - cancelled
        is_last = index == len(polls) - 1
        said = status if status and is_last else "PENDING" if pending else "SUCCESS"
        rows.append(
            {
                "batch_id": batch_id(created, number),
                "observed_at": created + dt.timedelta(hours=hours),
                "created_at": created,
                "batch_status": said,
                "batch_count": size,
                "success_count": success,
                "error_count": error,
                "cancelled_count": cancelled,
                "pending_count": pending,
                "policy_id": policy,
                "policy_version": version,
                "has_download": False,
                "is_terminal": said in TERMINAL_STATUSES,
            }
        )
    return rows


def together(*frames):
    return pd.concat(frames, ignore_index=True)


def nothing():
    return frame_from_table(OBSERVATION_SCHEMA.empty_table())
