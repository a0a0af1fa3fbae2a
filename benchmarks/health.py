"""`check`, `status` and `open_metrics` against hourly `rates` of one store, --help against typer.

The store is as it is after a compaction at the end of each day, with about 1,000 policy versions.
In CPU seconds. Each ratio is the median of several, with the lowest and the highest; both sides run in turn.

    python -m benchmarks.health --rows 10000000
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

AT = "2026-11-03T00:00Z"  # the end of the observations
LIMITS = {"check": 1.5, "status": 0.1, "open_metrics": 0.6, "text_metrics": 0.6}


def check(store):
    import safetykit_analytics as ska

    return ska.check(store, max_error_rate=0.05, eta="2d", as_of=AT)


def status(store):
    from safetykit_analytics import health

    return health.status(store, stalled="6h", silent="2h", as_of=AT), store.info(), store.last_compaction_at()


def open_metrics(store):
    import safetykit_analytics as ska

    return ska.open_metrics(store, as_of=AT)


def text_metrics(store):
    from safetykit_analytics import health

    return health.text_metrics(store, as_of=AT)


def child(name: str, folder: str, repeat: int) -> None:
    import pandas as pd

    import safetykit_analytics as ska

    store = ska.SnapshotStore(folder)
    small = store.read(start="2026-10-30", end="2026-11-01").head(1000)
    for work in (ska.rates, ska.check, ska.open_metrics):  # imports
        work(small)
    work = globals()[name]
    took = []
    for _ in range(repeat):
        began = time.process_time()
        ska.rates(store)
        between = time.process_time()
        found = work(store)
        took.append((time.process_time() - between, between - began))
    if isinstance(found, str):
        note = f"{len(found.splitlines()):,} lines"
    elif isinstance(found, pd.DataFrame):
        note = f"{len(found):,} rows"
    elif name == "check":
        note = f"{len(found.sentences):,} findings"
    else:
        note = str(found[0])
    print(
        f"{name:14} {min(one for one, _ in took):7.2f} {spread(took)} {LIMITS[name]:6.1f}  {note}", flush=True
    )


def spread(took: list[tuple[float, float]]) -> str:
    ratios = [one / base for one, base in took]
    return f"{statistics.median(ratios):6.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def cpu_s(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--store", help="a store that is there already, or is to be kept")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "STORE"))
    args = parser.parse_args()
    if args.child:
        child(*args.child, args.repeat)
        return
    command = [sys.executable, "-m", "benchmarks.health", "--repeat", str(args.repeat)]
    print(f"{'what':14} {'CPU s':>7} {'ratio':>6} {'from, to':>12} {'limit':>6}", flush=True)
    helped = [sys.executable, "-m", "safetykit_analytics", "--help"]
    took = [(cpu_s(helped), cpu_s([sys.executable, "-c", "import typer"])) for _ in range(15)]
    print(f"{'--help':14} {min(one for one, _ in took):7.2f} {spread(took)} {1.5:6.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        store = args.store or f"{folder}/store"
        if not pathlib.Path(store).exists():
            from benchmarks.observations import write_store

            write_store(store, args.rows, roll_outs=150)
        for name in LIMITS:
            subprocess.run([*command, "--child", name, store], check=True)


if __name__ == "__main__":
    main()
