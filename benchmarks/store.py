"""The store against what one would write without it: appending, reading a week, size, compacting.

python benchmarks/store.py            10 million observations, about two minutes
python benchmarks/store.py --rows 1000000
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import shutil
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.observations import make_days, write_store
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable

WEEK = ("2026-05-04", "2026-05-11")


def seconds(action: Callable[[], Any], *, repeat: int = 3) -> float:
    """Give the median of some runs, after one that nobody counts."""
    action()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(what: str, value: str, ratio: str = "") -> None:
    print(f"| {what:<58} | {value:>14} | {ratio:>22} |", flush=True)


def appending(folder: pathlib.Path, frame: pd.DataFrame) -> None:
    """Append 5,000 rows again and again, and write the same rows the naive way."""
    store = SnapshotStore(folder / "appended")
    naive = folder / "naive"
    naive.mkdir()
    numbers = iter(range(10_000))
    ours = seconds(lambda: store.append(frame), repeat=41)
    theirs = seconds(lambda: frame.to_parquet(naive / f"{next(numbers)}.parquet"), repeat=41)
    row(
        f"append of {len(frame):,} rows, on disk to stay (median of 41)",
        f"{1e3 * ours:.1f} ms",
        "limit 50 ms",
    )
    row(
        "DataFrame.to_parquet of the same, no sync, no checksums",
        f"{1e3 * theirs:.1f} ms",
        f"{ours / theirs:.1f} times as long",
    )


def reading(store: SnapshotStore, folder: pathlib.Path) -> None:
    """Read a week out of a year."""
    glob = f"{folder}/*/*.parquet"
    whole = seconds(store.read, repeat=1)
    week = seconds(lambda: store.read(*WEEK))
    row("read all as a DataFrame", f"{whole:.2f} s")
    row("read one week", f"{week:.3f} s", f"{100 * week / whole:.1f} % (limit 5 %)")
    query = (
        f"select * from read_parquet('{glob}', hive_partitioning=true) "
        f"where observed_date >= '{WEEK[0]}' and observed_date < '{WEEK[1]}' order by batch_id, observed_at"
    )
    first, end = map(dt.date.fromisoformat, WEEK)
    days = pl.col("observed_date").is_between(first, end, closed="left")
    filters = [("observed_date", ">=", WEEK[0]), ("observed_date", "<", WEEK[1])]
    peers = {
        "DuckDB": lambda: duckdb.sql(query).to_arrow_table(),
        "Polars": lambda: (
            pl.scan_parquet(glob, hive_partitioning=True)
            .filter(days)
            .sort("batch_id", "observed_at")
            .collect()
        ),
        "pandas": lambda: pd.read_parquet(folder, filters=filters).sort_values(["batch_id", "observed_at"]),
    }
    for name, read in peers.items():
        peer = seconds(read)
        row(
            f"the same week by {name}, by observed_date, sorted, unchecked",
            f"{peer:.3f} s",
            f"{week / peer:.2f} times as long",
        )
    latest = seconds(store.open_batch_ids, repeat=1)
    row("open_batch_ids() of all", f"{latest:.2f} s", f"{100 * latest / whole:.0f} % of reading all")


def decoding(store: SnapshotStore, folder: pathlib.Path) -> None:
    """Read all columns of all days as Arrow tables, one day at a time, one thread."""
    parts = store.partitions()
    ours = seconds(lambda: sum(part.read().num_rows for part in parts))
    files = [str(folder / part.paths[0]) for part in parts]
    theirs = seconds(lambda: sum(ds.dataset(file).to_table(use_threads=False).num_rows for file in files))
    row("decode every day, all columns, checked", f"{ours:.2f} s")
    row(
        "pyarrow.dataset, one file at a time, unchecked",
        f"{theirs:.2f} s",
        f"{ours / theirs:.2f} times as long",
    )


def sizes(store: SnapshotStore, folder: pathlib.Path) -> None:
    """Say how many bytes an observation takes."""
    parts = store.partitions()
    n = sum(part.read(["is_terminal"]).num_rows for part in parts)
    ours = sum((folder / path).stat().st_size for part in parts for path in part.paths) / n
    day = parts[len(parts) // 2].read().cast(OBSERVATION_SCHEMA)
    frame = frame_from_table(day)
    row(f"bytes per observation, compacted ({n:,})", f"{ours:.1f}", "limit 15")
    for name, size in {
        "DataFrame.to_parquet of a day (snappy)": len(frame.to_parquet()),
        "DataFrame.to_parquet of a day (zstd)": len(frame.to_parquet(compression="zstd")),
        "DataFrame.to_csv of a day": len(frame.to_csv(index=False)),
    }.items():
        row(name, f"{size / len(frame):.1f}", f"{ours * len(frame) / size:.2f} times as large")


def compacting(folder: pathlib.Path, table: pa.Table) -> None:
    """Compact a day of hourly appends."""
    frame = frame_from_table(table.cast(OBSERVATION_SCHEMA))
    store = SnapshotStore(folder / "hourly")
    for _, part in frame.groupby(frame["observed_at"].dt.hour):
        store.append(part)
    before = seconds(store.partitions()[0].read, repeat=5)
    began = time.perf_counter()
    report = store.compact()
    spent = time.perf_counter() - began
    after = seconds(store.partitions()[0].read, repeat=5)
    row(
        f"compact a day of {report.files_before} files, {len(frame):,} rows",
        f"{1e3 * spent:.0f} ms",
        f"{report.bytes_after / report.bytes_before:.2f} times as large",
    )
    row("read that day before", f"{1e3 * before:.1f} ms")
    row("read that day after", f"{1e3 * after:.1f} ms", f"{after / before:.2f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=365)
    args = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="store-benchmark-"))
    try:
        folder = scratch / "year"
        store = write_store(folder, args.rows, days=args.days)
        row("what", "measured", "against")
        row("---", "---:", "---:")
        _, table = next(make_days(60_000, days=2, seed=1))
        appending(scratch, frame_from_table(table.slice(0, 5000).cast(OBSERVATION_SCHEMA)))
        compacting(scratch, table)
        sizes(store, folder)
        decoding(store, folder)
        reading(store, folder)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
