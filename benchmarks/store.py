"""The store: a year of daily compactions; the same questions in an older commit; other tools.

python benchmarks/store.py year                       a year of appends and daily compactions
python benchmarks/store.py year --stuck 0.02          with 2 % of batches stuck for ever
python benchmarks/store.py ask --before CHECKOUT      the same questions in a checkout of another commit
python benchmarks/store.py tools                      appending, reading and size against other tools
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from benchmarks.observations import STUCK, make_days, write_store
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable

WEEK = ("2026-05-04", "2026-05-11")
HERE = pathlib.Path(__file__).parents[1]

# Runs in both commits: the same year is written in the layout of that commit, and asked.
_ASK = """
import json, statistics, sys, time
folder, rows, stuck, days = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
import inspect, pathlib
import pyarrow as pa
from benchmarks.observations import write_store
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store import SnapshotStore
if "stuck" in inspect.signature(write_store).parameters:
    store = write_store(folder, rows, stuck=stuck)
else:
    # A file for each day of observation, as a compaction left it.
    store = SnapshotStore(folder)
    for path in sorted(pathlib.Path(days).iterdir()):
        table = pa.ipc.open_file(str(path)).read_all()
        store.append(frame_from_table(table.cast(OBSERVATION_SCHEMA)))
one = store.open_batch_ids()[:1] or store.latest()["batch_id"].tolist()[:1]
def seconds(act):
    act()
    times = []
    for _ in range(3):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return statistics.median(times)
questions = {
    "repr": lambda: repr(store),
    "info": lambda: store.info() if hasattr(store, "info") else repr(store),
    "open_batch_ids": store.open_batch_ids,
    "read one batch": lambda: store.read(batch_ids=one),
    "read one week": lambda: store.read("2026-05-04", "2026-05-11"),
    "latest": store.latest,
    "read all": store.read,
}
print(json.dumps({name: seconds(act) for name, act in questions.items()}))
"""

LIMITS = {"repr": 0.02, "info": 0.02, "open_batch_ids": 0.10, "read one batch": 0.05}  # open: 0.25 if stuck


def seconds(action: Callable[[], Any], *, repeat: int = 3) -> float:
    """Return the median of some runs, after one that nobody counts."""
    action()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(what: str, value: str, against: str = "") -> None:
    print(f"| {what:<58} | {value:>16} | {against:>28} |", flush=True)


def year(scratch: pathlib.Path, args: argparse.Namespace) -> None:
    """Append four times a day and compact once, for a year."""
    store = SnapshotStore(scratch / "year")
    appended = written = read = sent = most_recent = most_files = 0
    began = time.perf_counter()
    for _, table in make_days(args.rows, days=args.days, stuck=args.stuck):
        frame = frame_from_table(table.cast(OBSERVATION_SCHEMA))
        before = store.info().bytes
        for quarter in range(4):
            appended += store.append(frame[frame["observed_at"].dt.hour // 6 == quarter])
        sent += store.info().bytes - before
        report = store.compact()
        written += report.observations
        read += report.bytes_after
        info = store.info()
        recent = sum(file.stat().st_size > 0 for file in (scratch / "year" / "recent").glob("*.parquet"))
        most_files = max(most_files, info.files)
        rows = sum(
            int(path.name.split("_r")[1].split("_")[0])
            for path in (scratch / "year" / "recent").glob("*.parquet")
        )
        most_recent = max(most_recent, rows / appended)
    info = store.info()
    row("rows appended", f"{appended:,}")
    row(
        "rows that compactions wrote for each of them",
        f"{written / appended:.2f}",
        "limit 4.5, 7 with 2 % stuck",
    )
    row("bytes that compactions wrote for each byte appended", f"{read / sent:.2f}")
    row("largest share of recent rows after a compaction", f"{100 * most_recent:.1f} %", "limit 12 %")
    row("most files after a compaction", f"{most_files}", "limit 400")
    row("recent files at the end", f"{recent}")
    row("seconds for all of it", f"{time.perf_counter() - began:.0f}")
    assert info.cohorts <= args.days


def ask(scratch: pathlib.Path, args: argparse.Namespace) -> None:
    """Ask the same of a year's store here and in another commit; CPU time."""
    answers = []
    days = scratch / "days"
    days.mkdir()
    for date, table in make_days(args.rows, stuck=args.stuck):
        with pa.ipc.new_file(str(days / date.isoformat()), table.schema) as writer:
            writer.write_table(table)
    for name, checkout in (("here", HERE), ("before", args.before)):
        folder = scratch / name
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                _ASK,
                str(folder),
                str(args.rows),
                str(args.stuck),
                str(days),
            ],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        answers.append(json.loads(done.stdout))
        shutil.rmtree(folder)
    here, before = answers
    for name in here:
        limit = f"limit {LIMITS[name]:.2f}" if name in LIMITS else ""
        row(name, f"{1e3 * here[name]:.1f} ms", f"{here[name] / before[name]:.3f} of before  {limit}")
    row("one week of all", f"{100 * here['read one week'] / here['read all']:.1f} %", "limit 10 %")


def tools(scratch: pathlib.Path, args: argparse.Namespace) -> None:
    """Append 5,000 rows, and read a week of a year, as one would without the store."""
    import duckdb
    import polars as pl

    _, table = next(make_days(60_000, days=2, seed=1))
    frame = frame_from_table(table.slice(0, 5000).cast(OBSERVATION_SCHEMA))
    store, naive = SnapshotStore(scratch / "appended"), scratch / "naive"
    naive.mkdir()
    numbers = iter(range(10_000))
    ours = seconds(lambda: store.append(frame), repeat=41)
    theirs = seconds(lambda: frame.to_parquet(naive / f"{next(numbers)}.parquet"), repeat=41)
    row("append of 5,000 rows, on disk to stay", f"{1e3 * ours:.1f} ms", "limit 50 ms")
    row(
        "DataFrame.to_parquet of the same, no sync",
        f"{1e3 * theirs:.1f} ms",
        f"{ours / theirs:.1f} times as long",
    )
    folder = scratch / "tools"
    began = time.perf_counter()
    store = write_store(folder, args.rows, stuck=args.stuck)
    info = store.info()
    row(
        f"write {info.rows:,} rows as after 365 compactions",
        f"{time.perf_counter() - began:.1f} s",
        "limit 60 s for 10 M",
    )
    row("bytes per observation", f"{info.bytes / info.rows:.1f}", "limit 15")
    week = seconds(lambda: store.read(*WEEK))
    row("read one week, sorted, checked", f"{week:.3f} s")
    where = f"observed_at >= '{WEEK[0]}' and observed_at < '{WEEK[1]}'"
    query = (
        f"select * from read_parquet('{folder}/**/*.parquet') where {where} order by batch_id, observed_at"
    )
    first, end = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in WEEK)
    peers = {
        "DuckDB": lambda: duckdb.sql(query).to_arrow_table(),
        "Polars": lambda: (
            pl.scan_parquet(f"{folder}/**/*.parquet")
            .filter(pl.col("observed_at").is_between(first, end, closed="left"))
            .sort("batch_id", "observed_at")
            .collect()
        ),
        "pandas": lambda: pd.read_parquet(
            folder, filters=[("observed_at", ">=", first), ("observed_at", "<", end)]
        ).sort_values(["batch_id", "observed_at"]),
    }
    for name, read in peers.items():
        peer = seconds(read)
        row(f"the same by {name}, unchecked", f"{peer:.3f} s", f"{week / peer:.2f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["year", "ask", "tools"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--stuck", type=float, default=STUCK, help="share of batches that never end")
    parser.add_argument("--before", type=pathlib.Path, help="a checkout of the commit to compare with")
    args = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="store-benchmark-"))
    try:
        row("what", "measured", "against")
        row("---", "---:", "---:")
        {"year": year, "ask": ask, "tools": tools}[args.what](scratch, args)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
