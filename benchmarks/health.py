"""`check`, `status` and `open_metrics` against hourly `rates` of the same store, and --help against typer.

The store is as it is after a compaction at the end of each day, with about 1,000 policy versions. Each runs
in a process of its own, best of several; `rates` in the same run is 1.

    python -m benchmarks.health --rows 10000000
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

AT = "2026-11-03T00:00Z"  # the end of the observations
LIMITS = {"rates": 1.0, "check": 1.5, "status": 0.1, "open_metrics": 0.6, "text_metrics": 0.6}


def rates(store):
    import safetykit_analytics as ska

    return ska.rates(store)


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
    work = globals()[name]
    if name != "status":
        work(small)  # imports
    else:
        ska.check(small, as_of=AT)
    times = []
    for _ in range(repeat):
        began, cpu = time.perf_counter(), time.process_time()
        found = work(store)
        times.append((time.perf_counter() - began, time.process_time() - cpu))
    if isinstance(found, str):
        note = f"{len(found.splitlines()):,} lines"
    elif isinstance(found, pd.DataFrame):
        note = f"{len(found):,} rows"
    elif name == "check":
        note = f"{len(found.sentences):,} findings"
    else:
        note = str(found[0])
    print(f"{min(t for t, _ in times)}\t{min(c for _, c in times)}\t{note}")


def fastest(command: list[str], n: int = 7) -> float:
    times = []
    for _ in range(n):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--store", help="a store that is there already, or is to be kept")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "STORE"))
    args = parser.parse_args()
    if args.child:
        child(*args.child, args.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = args.store or f"{folder}/store"
        if not pathlib.Path(store).exists():
            from benchmarks.observations import write_store

            write_store(store, args.rows, roll_outs=150)
        base = None
        print(f"{'what':14} {'seconds':>8} {'CPU s':>7} {'times rates':>12} {'limit':>6}")
        for name, limit in LIMITS.items():
            command = [sys.executable, "-m", "benchmarks.health", "--repeat", str(args.repeat)]
            shown = subprocess.run(
                [*command, "--child", name, store], check=True, capture_output=True, text=True
            ).stdout
            wall, cpu, note = shown.strip().split("\t")
            base = base or (float(wall), float(cpu))
            print(
                f"{name:14} {float(wall):8.2f} {float(cpu):7.2f} {float(wall) / base[0]:12.2f} {limit:6.1f}  "
                f"(CPU: {float(cpu) / base[1]:.2f}) {note}",
                flush=True,
            )
    typer = fastest([sys.executable, "-c", "import typer"])
    ours = fastest([sys.executable, "-m", "safetykit_analytics", "--help"])
    print(f"--help {ours:.2f} s, import typer {typer:.2f} s: {ours / typer:.2f} times, limit 1.5")


if __name__ == "__main__":
    main()
