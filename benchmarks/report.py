"""How long a week's report takes out of a year's store, and how much memory.

    python benchmarks/report.py FOLDER [--rows 10000000]
    python benchmarks/report.py FOLDER --against CHECKOUT    # 300 policies, beside another commit

Makes the store in FOLDER if there is none. Every line is a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
CASES = (
    "import only",
    "report, first week",
    "report, middle of the year",
    "report, last week",
    "20 policies",
)


def measure(case: str, folder: str) -> dict:
    import safetykit_analytics as ska
    from safetykit_analytics.flow import select

    _ = ska.weekly_report, select, ska.plot_throughput
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, began_cpu = time.perf_counter(), time.process_time()
    found = {"rows": 0, "html_kb": 0.0, "facts_s": 0.0}
    if case == "20 policies":
        report = ska.weekly_report(twenty_policies(), week="2026-W47", tz="Europe/Berlin")
    elif case.startswith("report"):
        weeks = {"first week": "2025-W45", "middle of the year": "2026-W18", "last week": "2026-W43"}
        week = weeks[case.removeprefix("report, ")]
        report = ska.weekly_report(ska.SnapshotStore(folder), week=week, tz="Europe/Berlin")
    else:
        return found | {"seconds": 0.0, "cpu_s": 0.0, "peak_mb": base, "above_import_mb": 0.0}
    found["facts_s"] = time.perf_counter() - began
    page = report.to_html()
    seconds = time.perf_counter() - began
    cpu = time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | {
        "rows": report.facts.n_observations,
        "html_kb": len(page.encode()) / 1000,
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_mb": peak,
        "above_import_mb": peak - base,
    }


def twenty_policies() -> object:
    """Three versions of each of twenty policies, at work in both weeks."""
    sys.path.insert(0, str(HERE.parent))
    from safetykit_analytics.simulator.fleet import Policy, Version
    from tests.report.helpers import fleet_frame

    policies = tuple(
        Policy(
            f"policy-{number:02}",
            0.05,
            tuple(Version(f"v{n}", 0.3 * (n - 1), 0.02, 1500) for n in (1, 2, 3)),
        )
        for number in range(20)
    )
    return fleet_frame(batches=4000, policies=policies)


def three_hundred_policies(path: pathlib.Path) -> None:
    """Write observations of three versions of each of 300 policies to a Parquet file."""
    sys.path.insert(0, str(HERE.parent))
    from safetykit_analytics.simulator.fleet import Policy, Version
    from tests.report.helpers import fleet_frame

    versions = tuple(Version(f"v{n}", 0.3 * (n - 1), 0.02, 1500) for n in (1, 2, 3))
    policies = tuple(Policy(f"policy-{number:03}", 1 / 300, versions) for number in range(300))
    fleet_frame(batches=9000, policies=policies).to_parquet(path)


#: Runs in a process of its own, with one checkout or the other on its path; CPU time, as machines are shared.
_PAGE = """
import sys, time
import pandas as pd
import safetykit_analytics as ska
frame = pd.read_parquet(sys.argv[1])
ska.weekly_report, ska.plot_throughput
began = time.process_time()
report = ska.weekly_report(frame, week="2026-W47", tz="Europe/Berlin")
facts = time.process_time()
report.to_html()
print(facts - began, time.process_time() - began)
"""


def compare(folder: pathlib.Path, other: pathlib.Path) -> None:
    """Print what 300 policies cost here and in another checkout, three times in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "300-policies.parquet"
    if not path.exists():
        three_hundred_policies(path)
    best = {}
    for place in (HERE.parent, other) * 3:
        environment = os.environ | {"PYTHONPATH": str(place)}
        command = [sys.executable, "-c", _PAGE, str(path)]
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=folder
        )
        seconds = tuple(map(float, answer.stdout.split()))
        best[place] = min(best.get(place, seconds), seconds, key=lambda pair: pair[1])
    print("| 300 policies | numbers, CPU s | with page, CPU s |")
    print("| --- | ---: | ---: |")
    for place, name in ((HERE.parent, "here"), (other, "there")):
        print(f"| {name} | {best[place][0]:.1f} | {best[place][1]:.1f} |")
    print(f"with page: {best[HERE.parent][1] / best[other][1]:.2f} of the other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--case")
    parser.add_argument("--against", type=pathlib.Path, help="another checkout")
    args = parser.parse_args()
    if args.against:
        compare(args.folder, args.against.resolve())
        return
    if args.case:
        print(json.dumps(measure(args.case, str(args.folder))))
        return
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    if not args.folder.exists():
        subprocess.run(
            [sys.executable, str(HERE / "observations.py"), str(args.folder), "--rows", str(args.rows)],
            check=True,
            env=environment,
        )
    print(
        "| case | in the week | numbers, s | with page, s | CPU, s | page, kB | peak, MB | over import, MB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        command = [sys.executable, __file__, str(args.folder), "--case", case]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        row = json.loads(answer.stdout)
        print(
            f"| {case} | {row['rows']:,} | {row['facts_s']:.2f} | {row['seconds']:.2f} | "
            f"{row['cpu_s']:.2f} | {row['html_kb']:,.0f} "
            f"| {row['peak_mb']:,.0f} | {row['above_import_mb']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
