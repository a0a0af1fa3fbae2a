"""Observations for tests: from plain rows to frames, to partitions, and out of hypothesis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import strategies as st

from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA, TERMINAL_STATUSES

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

MINUTE = 60_000_000
HOUR = 60 * MINUTE
# A Monday, 00:00 UTC.
MONDAY = 1_772_409_600_000_000


def row(batch_id: str, observed_at: int, success: int = 0, error: int = 0, **more: Any) -> dict[str, Any]:
    """One observation; times in microseconds since 1970."""
    values = {
        "batch_id": batch_id,
        "observed_at": observed_at,
        "created_at": None,
        "batch_status": "PENDING",
        "batch_count": 1000,
        "success_count": success,
        "error_count": error,
        "cancelled_count": 0,
        "pending_count": 0,
        "policy_id": "spam",
        "policy_version": "v1",
        "has_download": False,
    } | more
    return values | {"is_terminal": values["batch_status"] in TERMINAL_STATUSES}


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A frame of observations with the library's own types."""
    return frame_from_table(pa.Table.from_pylist(rows, schema=OBSERVATION_SCHEMA))


@dataclass(frozen=True)
class Day:
    """A partition in memory, as a store gives them: sorted, each key once."""

    date: dt.date
    table: Any

    def read(self, columns: Any = None) -> Any:
        return self.table if columns is None else self.table.select(list(columns))


@dataclass(frozen=True)
class Days:
    """Anything with partitions will do for a store."""

    days: tuple[Day, ...]

    def partitions(self, start: dt.date | None = None, end: dt.date | None = None) -> list[Day]:
        return [
            day
            for day in self.days
            if (start is None or day.date >= start) and (end is None or day.date < end)
        ]


def days_of(frame: pd.DataFrame) -> Days:
    """Cut observations with distinct keys into UTC days, sorted by key; strings dictionary-encoded."""
    frame = frame.sort_values(["batch_id", "observed_at"])
    days = []
    for date, part in frame.groupby(frame["observed_at"].dt.date):
        table = table_from_frame(part)
        for at, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                table = table.set_column(at, field.name, table.column(at).dictionary_encode())
        days.append(Day(date, table))
    return Days(tuple(days))


class Counting(ThreadPoolExecutor):
    """An executor that counts what it is given."""

    n_tasks = 0

    def submit(self, *args: Any, **options: Any) -> Any:
        self.n_tasks += 1
        return super().submit(*args, **options)


@st.composite
def histories(
    draw: st.DrawFn, *, max_batches: int = 4, max_observations: int = 6, span: int = 60 * HOUR
) -> list[dict[str, Any]]:
    """Observations of a few batches, as odd as the API allows.

    Gaps, instants at edges, counters that go down, labels that come late or change, batches that move on
    after their end, creation unknown, at, before or after the first observation.
    """
    step = draw(st.sampled_from([1, MINUTE, 15 * MINUTE, HOUR]))
    instants = st.integers(0, span // step).map(lambda n: MONDAY + n * step)
    labels = st.sampled_from([None, "v1", "v2", "v10"])
    rows = []
    for number in range(draw(st.integers(1, max_batches))):
        times = sorted(draw(st.sets(instants, min_size=1, max_size=max_observations)))
        offsets = st.integers(-30, 0).map(lambda n: n * HOUR) | st.sampled_from([-1, 1, 5_000_000, 25 * HOUR])
        offset = draw(st.none() | offsets)
        is_steady = draw(st.booleans())
        counts = [0, 0, 0]
        policy, version = draw(st.sampled_from(["spam", "scam", None])), draw(labels)
        for time in times:
            growth = st.sampled_from([0, 0, 1, 7, 40]) if is_steady else st.integers(-9, 20)
            counts = [max(0, count + draw(growth)) for count in counts]
            if draw(st.integers(0, 4)) == 0:
                version = draw(labels)
            if draw(st.integers(0, 9)) == 0:
                policy = draw(st.sampled_from(["spam", "scam", None]))
            rows.append(
                row(
                    f"batch_{number}",
                    time,
                    *counts[:2],
                    cancelled_count=counts[2],
                    created_at=None if offset is None else times[0] + offset,
                    policy_id=policy,
                    policy_version=version,
                    batch_status=draw(st.sampled_from(["PENDING", "PENDING", "PENDING", "SUCCESS"])),
                )
            )
    return rows
