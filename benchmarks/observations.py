"""Realistic observations in bulk, for the benchmarks: a fleet of batches polled for a year, every hour or so.

Batches are created at random over the year, busier on weekdays, have real ULID ids, take some hours, are
polled while open, every hour unless said otherwise, count upwards, belong to a few policies whose versions
roll out over the year, and end as SUCCESS, ERROR or CANCELLED; a few never end. The same seed gives the same
observations.

    python -m benchmarks.observations FOLDER --rows 10000000 --days 365
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.schema import INSTANT, OBSERVATION_SCHEMA
from safetykit_analytics.store import SnapshotStore
from safetykit_analytics.store.names import RECENT
from safetykit_analytics.store.parquet import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
START_US = int(START.timestamp()) * 1_000_000
ALPHABET = np.frombuffer(b"0123456789abcdefghjkmnpqrstvwxyz", dtype=np.uint8)
POLICIES = ["hate-speech", "spam", "self-harm", "fraud", "adult", "violence"]
STUCK = 0.0002  # the share of batches that are stuck for a month
HOURS_PER_BATCH = 9.36  # what the distributions below give on average, and so the polls by the hour


def make_days(
    n_rows: int, *, days: int = 365, every_min: int = 60, seed: int = 0, stuck: float = STUCK
) -> Iterator[tuple[dt.date, pa.Table]]:
    """Yield (date, table) in date order: about `n_rows` observations, each day sorted by key.

    Tables have the types of `OBSERVATION_SCHEMA`, strings dictionary-encoded.
    """
    batches, rows = _fleet(n_rows, days, every_min, seed, stuck)
    day = ((rows["observed_at"] - START_US) // DAY_US).astype(np.int16)
    order = np.argsort(day, kind="stable")
    edges = np.searchsorted(day[order], np.arange(days + 1))
    for number in range(days):
        chosen = order[edges[number] : edges[number + 1]]
        if len(chosen):
            yield (START + dt.timedelta(days=number)).date(), _table(batches, rows, chosen)


def write_store(
    path: str | pathlib.Path,
    n_rows: int,
    *,
    days: int = 365,
    every_min: int = 60,
    seed: int = 0,
    stuck: float = STUCK,
    roll_outs: int = 5,
) -> SnapshotStore:
    """Write a store as it is after a compaction at the end of each day, in one go.

    Each policy gets so many new versions over the year.
    """
    batches, rows = _fleet(n_rows, days, every_min, seed, stuck, roll_outs)
    created = (batches["created_at"] - START_US) // DAY_US
    moved_until = _moved_until(created[rows["batch"]], rows, days)
    edges = np.searchsorted(created[rows["batch"]], np.arange(days + 1))
    store = SnapshotStore(path)
    store._files.create()  # noqa: SLF001
    waiting: list[pa.Table] = []
    together = _together(days)
    for number in range(days):
        mine = np.arange(edges[number], edges[number + 1])
        in_file = (rows["observed_at"][mine] - START_US) // DAY_US <= moved_until[number]
        name = (START + dt.timedelta(days=number)).date().isoformat()
        if in_file.any():
            new = encode([_table(batches, rows, mine[in_file])], kind=name)
            store._files.publish(new.path, new.data)  # noqa: SLF001
        if not in_file.all():
            waiting.append(_table(batches, rows, mine[~in_file]))
        if waiting and (number == days - 1 or together[number + 1] != together[number]):
            new = encode([pa.concat_tables(waiting).unify_dictionaries().combine_chunks()], kind=RECENT)
            store._files.publish(new.path, new.data)  # noqa: SLF001
            waiting = []
    return store


def _together(days: int) -> np.ndarray:
    """Return which days of creation have their waiting rows in one file, counted from 0."""
    place = (START_US // DAY_US + np.arange(days)) // 45
    return place - place[0]


def _moved_until(cohort: np.ndarray, rows: dict[str, np.ndarray], days: int) -> np.ndarray:
    """Play the daily compactions: the last day whose rows are in each cohort's file."""
    day = (rows["observed_at"] - START_US) // DAY_US
    seen = np.bincount(cohort * days + day, minlength=days * days).reshape(days, days)
    terminal = rows["is_terminal"]
    ended = np.bincount((cohort * days + day)[terminal], minlength=days * days).reshape(days, days)
    starts = np.append(True, rows["batch"][1:] != rows["batch"][:-1])
    begun = np.bincount((cohort * days + day)[starts], minlength=days * days).reshape(days, days)
    n_open = begun.cumsum(axis=1) - ended.cumsum(axis=1)
    together = _together(days)
    until, first = np.full(days, -1), np.full(days, days)
    in_file, waiting = np.zeros(days), np.zeros(days)
    for today in range(days):
        fresh = seen[:, today]
        first[(waiting == 0) & (fresh > 0)] = today
        recent = waiting + fresh
        n_recent, n_fresh, n_stored = (np.bincount(together, part) for part in (recent, fresh, in_file))
        oldest = np.full(len(n_recent), days)
        np.minimum.at(oldest, together[recent > 0], first[recent > 0])
        moving = (4 * n_recent >= n_stored) | (today - oldest > 90)
        for place in np.argsort(-n_recent / np.maximum(n_stored, 1)):
            if n_recent[~moving].sum() <= 0.12 * (recent.sum() + in_file.sum()):
                break
            moving[place] = True
        # Rows that waited are read again where as many have come.
        free = (waiting == 0) | (n_fresh >= n_recent - n_fresh)[together]
        alone = free & ((4 * recent >= in_file) | (n_open[:, today] == 0))
        moves = (recent > 0) & (alone | moving[together])
        in_file[moves] += recent[moves]
        until[moves] = today
        waiting = np.where(moves, 0, recent)
    return until


def _fleet(  # noqa: PLR0917 -- all that is there
    n_rows: int, days: int, every_min: int, seed: int, stuck: float, roll_outs: int = 5
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw batches and their observations, which lie in the order of their keys."""
    random = np.random.default_rng(seed)
    # A batch that is stuck for ever is polled until the year is over: half a year, on average.
    hours = HOURS_PER_BATCH if stuck == STUCK else HOURS_PER_BATCH + stuck * days * 12
    batches = _batches(max(1, round(n_rows * every_min / 60 / hours)), days, random, stuck, roll_outs)
    return batches, _polls(batches, days, every_min * MINUTE_US, random)


def _batches(
    n: int, days: int, random: np.random.Generator, stuck: float, n_roll_outs: int
) -> dict[str, Any]:
    """Draw the batches, sorted by id, which is by creation."""
    day = random.integers(0, days, 2 * n)
    weekend = (START.weekday() + day) % 7 >= 5
    day = day[~(weekend & (random.random(2 * n) < 0.6))][:n]
    created_ms = np.sort(
        START_US // 1000 + day * 86_400_000 + (random.beta(3, 2.5, n) * 86_400_000).astype(np.int64)
    )
    ids = np.empty((n, 32), dtype=np.uint8)
    ids[:, :6] = np.frombuffer(b"batch_", dtype=np.uint8)
    ids[:, 6:16] = ALPHABET[(created_ms[:, None] >> (5 * np.arange(9, -1, -1))) & 31]
    ids[:, 16:] = ALPHABET[random.integers(0, 32, (n, 16))]
    # Batches of one millisecond in the order of their ids, too.
    ids = np.sort(ids.view("S32")[:, 0]).view(np.uint8).reshape(n, 32)
    count = np.clip(np.exp(random.normal(6.5, 1.2, n)), 1, 10_000).astype(np.int64)
    policy = random.choice(len(POLICIES) + 1, n, p=[0.3, 0.25, 0.15, 0.1, 0.07, 0.05, 0.08])
    roll_outs = (
        np.sort(random.random((len(POLICIES) + 1, n_roll_outs)), axis=1) * days * 86_400_000
        + START_US // 1000
    )
    version = (created_ms[:, None] >= roll_outs[policy]).sum(axis=1)
    end = random.choice(3, n, p=[0.96, 0.02, 0.02])  # SUCCESS, ERROR, CANCELLED
    hours = np.exp(random.normal(1.75, 0.85, n))
    hours[random.random(n) < stuck] = (
        24 * 30 if stuck == STUCK else 24 * 366
    )  # stuck, for a month or for ever
    return {
        "id": ids,
        "created_at": created_ms * 1000,
        "count": count,
        "policy": policy,
        "version": version,
        "roll_outs": n_roll_outs,
        "end": end,
        "us": (hours * HOUR_US).astype(np.int64),
        "bend": random.uniform(0.7, 1.4, n),
        "error_rate": random.beta(2, 2 / 0.02, n) * np.where(policy == 1, 3, 1),
        "done": np.where(end == 0, count, (count * random.random(n)).astype(np.int64)),
        "upload_us": (random.exponential(0.2, n) * HOUR_US).astype(np.int64),
    }


def _polls(
    b: dict[str, np.ndarray], days: int, step: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Poll every batch, at every multiple of `step`, until it is seen to have ended, or the year is over."""
    first = -((START_US - b["created_at"]) // step)
    last = np.minimum(-((START_US - b["created_at"] - b["us"]) // step), days * DAY_US // step - 1)
    polls = np.maximum(last - first + 1, 0)
    batch = np.repeat(np.arange(len(polls)), polls)
    begin = np.cumsum(polls) - polls
    poll = np.arange(len(batch)) - begin[batch] + first[batch]
    # A run takes some seconds; each answer has its own instant.
    observed = START_US + poll * step + random.integers(0, 20_000_000, len(batch))
    age = observed - b["created_at"][batch]
    fraction = np.clip((age - b["upload_us"][batch]) / np.maximum(b["us"] - b["upload_us"], 1)[batch], 0, 1)
    fraction **= b["bend"][batch]
    terminal = age >= b["us"][batch]
    fraction[terminal] = 1
    processed = (fraction * b["done"][batch]).astype(np.int64)
    growth = np.diff(processed, prepend=0)
    starts = begin[polls > 0]
    growth[starts] = processed[starts]
    total = np.cumsum(random.binomial(growth, np.minimum(b["error_rate"], 1)[batch]))
    before = np.concatenate([[0], total])[begin]
    error = total - before[batch]
    rest = b["count"][batch] - processed
    cancelled = np.where(terminal & (b["end"][batch] == 2), rest, 0)
    status = np.where(terminal, 2 + b["end"][batch], np.where(age < b["upload_us"][batch], 0, 1))
    return {
        "batch": batch,
        "observed_at": observed,
        "success_count": processed - error,
        "error_count": error,
        "cancelled_count": cancelled,
        "pending_count": rest - cancelled,
        "status": status.astype(np.int32),
        "is_terminal": terminal,
    }


def _table(b: dict[str, np.ndarray], rows: dict[str, np.ndarray], chosen: np.ndarray) -> pa.Table:
    batch = rows["batch"][chosen]
    own, code = np.unique(batch, return_inverse=True)
    text = np.ascontiguousarray(b["id"][own])
    offsets = np.arange(0, text.size + 1, 32, dtype=np.int32)
    ids = pa.StringArray.from_buffers(len(own), pa.py_buffer(offsets), pa.py_buffer(text))
    policy, version = b["policy"][batch], b["version"][batch]
    none = policy == len(POLICIES)
    statuses = ["WAITING_FOR_UPLOAD", "PENDING", "SUCCESS", "ERROR", "CANCELLED"]
    columns = {
        "batch_id": _dictionary(code, ids),
        "observed_at": pa.array(rows["observed_at"][chosen]).cast(INSTANT),
        "created_at": pa.array(b["created_at"][batch]).cast(INSTANT),
        "batch_status": _dictionary(rows["status"][chosen], statuses),
        "batch_count": pa.array(b["count"][batch]),
        "policy_id": _dictionary(policy, POLICIES, none),
        "policy_version": _dictionary(version, [f"v{i}" for i in range(5, 6 + b["roll_outs"])], none),
        "has_download": pa.array(rows["is_terminal"][chosen] & (b["end"][batch] == 0)),
        "is_terminal": pa.array(rows["is_terminal"][chosen]),
    }
    columns |= {name: pa.array(rows[name][chosen]) for name in rows if name.endswith("_count")}
    fields = [field.with_type(columns[field.name].type) for field in OBSERVATION_SCHEMA]
    return pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))


def _dictionary(codes: np.ndarray, values: object, mask: np.ndarray | None = None) -> pa.DictionaryArray:
    indices = pa.array(codes.astype(np.int32), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, type=pa.string()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--every-min", type=int, default=60, help="minutes between two polls of a batch")
    parser.add_argument("--stuck", type=float, default=STUCK, help="share of batches that never end")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    store = write_store(
        args.folder, args.rows, days=args.days, every_min=args.every_min, seed=args.seed, stuck=args.stuck
    )
    seconds = time.perf_counter() - began
    print(f"{store.info()}, written in {seconds:.1f} s to {args.folder}")


if __name__ == "__main__":
    main()
