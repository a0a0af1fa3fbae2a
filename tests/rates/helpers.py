"""Observations for tests: from plain rows to frames, to cohorts, and out of hypothesis."""

from __future__ import annotations

import datetime as dt
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import strategies as st

from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA, TERMINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

MINUTE = 60_000_000
HOUR = 60 * MINUTE
# A Monday, 00:00 UTC.
MONDAY = 1_772_409_600_000_000
DAY = 24 * HOUR
# Rows that make a cohort a task of its own.
LARGE = 1 << 20
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def at(instant: int) -> dt.datetime:
    """The time that is so many microseconds after 1970 began."""
    return EPOCH + dt.timedelta(microseconds=instant)


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
class Cohort:
    """All observations of some batches, in pieces that end between batches, as a store reads them."""

    pieces: tuple[Any, ...]
    n_rows: int
    earliest: int
    first_observed: int
    last_observed: int
    n_open: int
    name: str | None = None

    def tables(self, columns: Any) -> Any:
        for piece in self.pieces:
            yield piece.select(list(columns))


def cohort_of(pieces: Sequence[Any], n_rows: int) -> Cohort:
    """A cohort with the facts that a listing tells of it."""
    table = pa.concat_tables(pieces, promote_options="default")
    observed = table["observed_at"].cast(pa.int64()).to_pylist()
    created = table["created_at"].cast(pa.int64()).drop_null().to_pylist()
    ended = dict(zip(table["batch_id"].to_pylist(), table["is_terminal"].to_pylist(), strict=True))
    return Cohort(
        pieces=tuple(pieces),
        n_rows=n_rows,
        earliest=min(observed + created),
        first_observed=min(observed),
        last_observed=max(observed),
        n_open=sum(not is_end for is_end in ended.values()),
    )


@dataclass(frozen=True)
class Cohorts:
    """Anything that has cohorts will do for a store."""

    parts: tuple[Cohort, ...]

    def cohorts(self, columns: Any = None) -> list[Cohort]:
        return sorted(self.parts, key=lambda cohort: cohort.earliest)


#: How batches are dealt out to cohorts: the n-th goes to the cohort of the n-th number, over and over.
CUTS = st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple)


def cohorts_of(
    frame: pd.DataFrame, cut: Sequence[int] = (0, 1, 0, 2), *, per_piece: int = 2, together: bool = False
) -> Cohorts:
    """Deal the batches of a frame with distinct keys out to cohorts; text is dictionary-encoded.

    Each piece holds `per_piece` batches; each cohort is a task of its own, unless they go `together`.
    """
    table = encoded(table_from_frame(frame.sort_values(["batch_id", "observed_at"])))
    ids = table["batch_id"].to_pylist()
    bounds = [n for n, name in enumerate(ids) if n == 0 or name != ids[n - 1]] + [len(ids)]
    dealt: dict[int, list[Any]] = {}
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        dealt.setdefault(cut[number % len(cut)], []).append(table.slice(start, stop - start))
    cohorts = []
    for some in dealt.values():
        parts = [some[start : start + per_piece] for start in range(0, len(some), per_piece)]
        pieces = [pa.concat_tables(part) for part in parts]
        cohorts.append(cohort_of(pieces, sum(map(len, pieces)) if together else LARGE))
    return Cohorts(tuple(cohorts))


def encoded(table: Any) -> Any:
    """The same table with its text as dictionaries."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table


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
