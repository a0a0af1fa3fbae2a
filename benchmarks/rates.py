"""Rates of a store against DuckDB, Polars and pandas, an earlier commit, and of a frame in a notebook.

Our store is as it is after a compaction at the end of each day. The peers read the same
observations from files as a careful user writes them, one a day, sorted by key, and again from our
cohorts, where Polars needs no sort. They spread each increment over the hours that it overlaps, as
`rates` does, and give success and error per hour, policy and version: nothing of coverage, bounds,
batches or intervals, which `rates` gives too. Results are checked to agree. Each runs in a process
of its own, so peak memory is its own.

    python benchmarks/rates.py --rows 10000000
    python benchmarks/rates.py --rows 10000000 --every-min 5
    git worktree add ../before COMMIT && python benchmarks/rates.py --before ../before
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HOUR_US = 3_600_000_000


def ours(folder: str) -> tuple[float, int]:
    import safetykit_analytics as ska

    table = ska.rates(ska.SnapshotStore(f"{folder}/store"))
    return float(table["processed"].sum()), int((table["n_batches"] > 0).sum())


def before(folder: str) -> tuple[float, int]:
    import safetykit_analytics as ska

    table = ska.rates(ska.SnapshotStore(f"{folder}/before"))
    return float(table["processed"].sum()), int((table["n_batches"] > 0).sum())


def processes(folder: str) -> None:
    """Print how many times as fast two processes are as one, starting them left out."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import safetykit_analytics as ska

    store = ska.SnapshotStore(f"{folder}/store")
    seconds = []
    for n in (1, 2):
        with ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("forkserver")) as pool:
            list(pool.map(_import, range(8 * n)))
            times = []
            for _ in range(3):
                began = time.perf_counter()
                ska.rates(store, executor=pool)
                times.append(time.perf_counter() - began)
            seconds.append(min(times))
    print(
        f"a pool of one process: {seconds[0]:.2f} s, of two: {seconds[1]:.2f} s, "
        f"{seconds[0] / seconds[1]:.2f} times as fast (best of three each)"
    )


def _import(_: int) -> None:
    import safetykit_analytics as ska

    time.sleep(0.05)  # so that every process gets one of these
    ska.rates(ska.SnapshotStore("no such folder"))


def duckdb(folder: str, files: str = "days/*.parquet") -> tuple[float, int]:
    import duckdb as engine

    rows = engine.sql(f"""
        with seen as (
            select batch_id, epoch_us(observed_at) t, epoch_us(created_at) created, success_count s,
                error_count e, policy_id p, policy_version v
            from read_parquet('{folder}/{files}', hive_partitioning = false)),
        increments as (
            select p, v, t, coalesce(lag(t) over w, created) t0, s - coalesce(lag(s) over w, 0) ds,
                e - coalesce(lag(e) over w, 0) de
            from seen window w as (partition by batch_id order by t)),
        cells as (
            select *, unnest(range(t0 // {HOUR_US}, greatest(t0, t - 1) // {HOUR_US} + 1)) h
            from increments where ds <> 0 or de <> 0),
        shares as (
            select *, case when t = t0 then 1.0 else
                (least(t, (h + 1) * {HOUR_US}) - greatest(t0, h * {HOUR_US})) / (t - t0) end share from cells)
        select p, v, h, sum(ds * share) s, sum(de * share) e from shares group by all
    """).fetchnumpy()
    return float(rows["s"].sum() + rows["e"].sum()), len(rows["h"])


def polars(folder: str, files: str = "days/*.parquet", *, sort: bool = True) -> tuple[float, int]:
    import polars as pl

    t, t0, hour = pl.col("t"), pl.col("t0"), pl.col("h") * HOUR_US
    seen = pl.scan_parquet(f"{folder}/{files}", hive_partitioning=False).select(
        # Numbers sort much faster than texts, and any order of the batches will do.
        pl.col("batch_id").cast(pl.Categorical).to_physical(),
        pl.col("observed_at").dt.epoch("us").alias("t"),
        pl.col("created_at").dt.epoch("us").alias("created"),
        pl.col("success_count").alias("s"),
        pl.col("error_count").alias("e"),
        pl.col("policy_id").cast(pl.Categorical),
        pl.col("policy_version").cast(pl.Categorical),
    )
    rows = (
        (seen.sort("batch_id", "t") if sort else seen)
        .with_columns(
            pl.when(pl.col("batch_id") == pl.col("batch_id").shift())
            .then(pl.col("t").shift())
            .otherwise(pl.col("created"))
            .alias("t0"),
            *(
                pl.when(pl.col("batch_id") == pl.col("batch_id").shift())
                .then(pl.col(name) - pl.col(name).shift())
                .otherwise(pl.col(name))
                .alias(f"d{name}")
                for name in ("s", "e")
            ),
        )
        .filter((pl.col("ds") != 0) | (pl.col("de") != 0))
        .with_columns(pl.int_ranges(t0 // HOUR_US, pl.max_horizontal(t0, t - 1) // HOUR_US + 1).alias("h"))
        .explode("h")
        .with_columns(
            pl.when(t == t0)
            .then(1.0)
            .otherwise((pl.min_horizontal(t, hour + HOUR_US) - pl.max_horizontal(t0, hour)) / (t - t0))
            .alias("share")
        )
        .group_by("policy_id", "policy_version", "h")
        .agg((pl.col("ds") * pl.col("share")).sum(), (pl.col("de") * pl.col("share")).sum())
        .collect(engine="streaming")
    )
    return float(rows["ds"].sum() + rows["de"].sum()), len(rows)


def pandas(folder: str) -> tuple[float, int]:
    import numpy as np
    import pandas as pd
    import pyarrow.dataset as ds

    names = [
        "batch_id",
        "observed_at",
        "created_at",
        "success_count",
        "error_count",
        "policy_id",
        "policy_version",
    ]
    files = [str(path) for path in sorted(pathlib.Path(folder).glob("days/*.parquet"))]
    frame = ds.dataset(files).to_table(names).to_pandas(strings_to_categorical=True)
    frame = frame.sort_values(["batch_id", "observed_at"])
    t = frame["observed_at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    created = frame["created_at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    codes = frame["batch_id"].cat.codes.to_numpy()
    is_first = np.append([True], codes[1:] != codes[:-1])
    t0 = np.where(is_first, created, np.append([0], t[:-1]))
    work = {
        name: np.where(is_first, count, np.diff(count, prepend=0))
        for name, count in ((name, frame[name].to_numpy()) for name in ("success_count", "error_count"))
    }
    moved = np.flatnonzero((work["success_count"] != 0) | (work["error_count"] != 0))
    t, t0 = t[moved], t0[moved]
    first, last = t0 // HOUR_US, np.maximum(t0, t - 1) // HOUR_US
    owner = np.repeat(np.arange(len(moved)), last - first + 1)
    hour = np.arange(len(owner)) - np.repeat(
        np.cumsum(last - first + 1) - (last - first + 1), last - first + 1
    )
    hour += first[owner]
    overlap = np.minimum(t[owner], (hour + 1) * HOUR_US) - np.maximum(t0[owner], hour * HOUR_US)
    share = np.where((t == t0)[owner], 1.0, overlap / np.maximum(t - t0, 1)[owner])
    cells = pd.DataFrame(
        {
            "policy_id": frame["policy_id"].array[moved][owner],
            "policy_version": frame["policy_version"].array[moved][owner],
            "hour": hour,
            "work": (work["success_count"] + work["error_count"])[moved][owner] * share,
        }
    )
    rows = cells.groupby(["policy_id", "policy_version", "hour"], observed=True, dropna=False)["work"].sum()
    return float(rows.sum()), len(rows)


RUNS = {
    "safetykit-analytics": ours,
    "DuckDB": duckdb,
    "Polars": polars,
    "pandas": pandas,
    "DuckDB on our cohorts": lambda folder: duckdb(folder, "store/cohorts/*.parquet"),
    "Polars on our cohorts, no sort": lambda folder: polars(folder, "store/cohorts/*.parquet", sort=False),
    "before": before,
}


def measure(name: str, folder: str, checkout: str) -> dict[str, float]:
    """Run one of them in a process of its own, with the package of a checkout."""
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, "--folder", folder],
        capture_output=True,
        text=True,
        check=True,
        # Modules are compiled once and not at every start, as where pip has installed them.
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        | {"PYTHONPATH": checkout},
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(name: str, folder: str) -> None:
    import safetykit_analytics.store  # noqa: F401 -- everybody starts with NumPy and pyarrow loaded

    began, cpu = time.perf_counter(), time.process_time()
    total, rows = RUNS[name](folder)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    # Not ru_maxrss, which begins with what the parent had in use.
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"total": total, "rows": rows, "wall": wall, "cpu": cpu, "memory": memory}))


def notebook() -> float:
    """Milliseconds for a frame of 5,000 observations, the best of 20."""
    import pyarrow as pa
    from observations import make_days

    import safetykit_analytics as ska
    from safetykit_analytics.frame import frame_from_table
    from safetykit_analytics.schema import OBSERVATION_SCHEMA

    table = pa.concat_tables([table for _, table in make_days(5500, days=14)]).unify_dictionaries()
    frame = frame_from_table(table.cast(OBSERVATION_SCHEMA).slice(0, 5000))
    best = 1e9
    for _ in range(20):
        began = time.perf_counter()
        ska.rates(frame)
        best = min(best, time.perf_counter() - began)
    return best * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--every-min", type=int, default=60, help="minutes between two polls of a batch")
    parser.add_argument("--before", help="a checkout of an earlier commit to compare with")
    parser.add_argument(
        "--no-pandas", action="store_true", help="leave pandas out: it needs 5 GB per 10 million"
    )
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run(args.run, args.folder)
        return
    print(f"a frame of 5,000 observations: {notebook():.1f} ms")
    here = str(pathlib.Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        write_all(pathlib.Path(folder), args.rows, args.days, args.every_min, args.before)
        names = [name for name in RUNS if name != "before" or args.before]
        names = [name for name in names if name != "pandas" or not args.no_pandas]
        # In turn, so a slow minute of the machine is everybody's.
        rounds = [
            {name: measure(name, folder, args.before if name == "before" else here) for name in names}
            for _ in range(3)
        ]
        processes(folder)
    results = {name: min((found[name] for found in rounds), key=lambda one: one["wall"]) for name in names}
    base = results["safetykit-analytics"]
    print("| what, best of three | seconds | CPU seconds | peak MB | ours / theirs | CPU, ours / theirs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, found in results.items():
        agrees = abs(found["total"] - base["total"]) <= 1e-9 * base["total"] and found["rows"] == base["rows"]
        # Recent rows are beside the cohorts.
        note = "" if agrees else " without recent rows" if "cohorts" in name else " DIFFERS"
        print(
            f"| {name} | {found['wall']:.2f} | {found['cpu']:.1f} | {found['memory']:.0f} | "
            f"{base['wall'] / found['wall']:.2f} | {base['cpu'] / found['cpu']:.2f} |{note}"
        )


_WRITE = """
import sys
from observations import write_store
write_store(sys.argv[1], int(sys.argv[2]), days=int(sys.argv[3]), every_min=int(sys.argv[4]))
"""


def write_all(folder: pathlib.Path, n_rows: int, days: int, every_min: int, checkout: str | None) -> None:
    """Write our store, the peers' files, and the store of the earlier commit by its own writer."""
    import pyarrow.parquet as pq
    from observations import make_days, write_store

    write_store(folder / "store", n_rows, days=days, every_min=every_min)
    (folder / "days").mkdir()
    for date, table in make_days(n_rows, days=days, every_min=every_min):
        pq.write_table(table, folder / "days" / f"{date}.parquet", compression="zstd")
    if checkout:
        subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                _WRITE,
                *(str(folder / "before"), str(n_rows), str(days), str(every_min)),
            ],
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([checkout, f"{checkout}/benchmarks"])},
        )


if __name__ == "__main__":
    main()
