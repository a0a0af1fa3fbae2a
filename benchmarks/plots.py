"""How long plots take: 50 policies of 4 versions over 2,000 hours, against as many bare lines."""

import functools
import time

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import safetykit_analytics as ska
from tests.plots.helpers import comparison_table, completion_table, control_table

POLICIES = [f"policy_{k}" for k in range(50)]
VERSIONS = [f"v{k}" for k in range(1, 5)]
NUMBERS = ("processed", "throughput_per_hour", "processed_low", "processed_high")


def over_time():
    """Return 400,000 rows: a day and night rhythm, and another volume for each group."""
    base = control_table([("p", "v")], buckets=2000, freq="h", tz="UTC")
    rhythm = 1 + 0.5 * np.sin(np.arange(2000) / 24 * 2 * np.pi)
    rng = np.random.default_rng(0)
    parts = []
    for policy in POLICIES:
        for version in VERSIONS:
            part = base.copy()
            part["policy_id"], part["policy_version"] = policy, version
            part[list(NUMBERS)] = part[list(NUMBERS)].mul(rhythm * rng.uniform(0.3, 2), axis=0)
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    text = pd.StringDtype("pyarrow")
    return table.astype({"policy_id": text, "policy_version": text})


def timed(draw):
    start = time.perf_counter()
    figure = draw()
    drawn = time.perf_counter()
    figure.savefig("/dev/null", format="png")
    return drawn - start, time.perf_counter() - drawn


def matplotlib_alone(table):
    """Draw every row as it is, one line per group: no names, no bands, no legend."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    ax = figure.add_subplot()
    for _, rows in table.groupby(["policy_id", "policy_version"], sort=False):
        ax.plot(rows["bucket_start"], rows["throughput_per_hour"])
    return figure


def main():
    table = over_time()
    keys = [(policy, version) for policy in POLICIES for version in VERSIONS]
    completion = completion_table([(*key, 9, 1, (1.0, 2, 3, 4)) for key in keys])
    candidates = [(version, 9, 900, 0.01, 0.0, 0.02, "higher") for version in VERSIONS[1:]]
    comparison = pd.concat(comparison_table("v1", candidates, policy=policy) for policy in POLICIES)
    plots = {
        "plot_throughput": (ska.plot_throughput, table),
        "plot_throughput, stacked": (functools.partial(ska.plot_throughput, stacked=True), table),
        "plot_error_rate": (ska.plot_error_rate, table),
        "plot_control_chart": (ska.plot_control_chart, table),
        "plot_backlog": (ska.plot_backlog, table.assign(pending=table["processed"], n_open=3)),
        "plot_completion_time": (ska.plot_completion_time, completion),
        "plot_comparison": (ska.plot_comparison, comparison),
    }
    ska.plot_throughput(table[:10])  # imports and fonts
    alone = sum(timed(lambda: matplotlib_alone(table)))
    print(f"matplotlib alone, 200 lines: {alone:.2f} s\n")
    print("| plot | draw, s | save, s | against matplotlib alone | grid of 50: draw, s | save, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (plot, rows) in plots.items():
        one = timed(lambda plot=plot, rows=rows: plot(rows).figure)
        grid = timed(lambda plot=plot, rows=rows: ska.plot_grid(plot, rows))
        cells = [*one, sum(one) / alone, *grid]
        print(f"| `{name}` | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
