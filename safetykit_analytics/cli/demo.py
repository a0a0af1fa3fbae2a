"""``demo``: weeks of a simulated SafetyKit, polled over real HTTP, in under a minute.

It uses the simulator as a user does SafetyKit: ask for the open batches, append, compute.
"""

from __future__ import annotations

import datetime as dt
import errno
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli.terminal import bold, table_lines
from safetykit_analytics.formatting import number, percent, percent_interval, visible_name

if TYPE_CHECKING:
    import pandas as pd

    from safetykit_analytics.cli.terminal import Loudness
    from safetykit_analytics.simulator import Fleet

_API_KEY = "demo"
_POLL_EVERY = dt.timedelta(hours=3)
_FOLDER = "safetykit-demo"


class Demo(NamedTuple):
    """The files that a demo made, and the work that it took."""

    folder: Path
    store: Path
    plots: tuple[Path, ...]
    summary: pd.DataFrame
    batches: int
    polls: int
    requests: int
    seconds: float


def demo(
    ctx: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option(help=f"Folder to make.  [default: {_FOLDER}, or the next free name]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated fleet.")] = 0,
) -> None:
    """Poll weeks of a simulated SafetyKit over real HTTP, and show rates, plots and the store."""
    loudness: Loudness = ctx.obj
    folder = _free_folder() if output is None else output
    made = run_demo(folder, seed=seed, progress=False if loudness.quiet else None)
    for line in _story(made):
        typer.echo(line)


def run_demo(
    folder: str | Path,
    *,
    batches: int = 5000,
    weeks: float = 3.0,
    seed: int = 0,
    progress: bool | None = None,
) -> Demo:
    """Simulate a fleet, poll it every three of its hours, append, compute and draw.

    The folder gets ``snapshots/`` and two PNGs. One that exists raises FileExistsError: a demo never adds to
    it.
    """
    from safetykit_analytics.simulator import make_fleet, serve  # noqa: PLC0415 -- needs the extra [demo]

    began = time.monotonic()
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(errno.EEXIST, "exists already; name a new folder", str(folder))
    folder.mkdir(parents=True)
    store = ska.SnapshotStore(folder / "snapshots")
    fleet = make_fleet(seed=seed, batches=batches, weeks=weeks)
    now = fleet.start
    with serve(fleet, clock=lambda: now, api_key=_API_KEY) as url:
        requests = 0
        times = _poll_times(fleet)
        asked = 0
        with _bar(len(times), progress) as bar:
            for poll, now in enumerate(times, start=1):
                created = fleet.created_by(now)
                ids = [*store.open_batch_ids(), *fleet.batch_ids[asked:created]]
                asked = created
                result = ska.fetch_batches(
                    ids, api_key=_API_KEY, base_url=url, clock="server", progress=False
                ).raise_for_failures()
                if ids:
                    store.append(result.frame)
                if poll % 8 == 0:
                    # Once a day, as a cron job would: fewer and larger files.
                    store.compact()
                requests += len(ids)
                bar.set_postfix_str(f"{now:%a %d %b %H:%M}, {requests:,} requests", refresh=False)
                bar.update()
    daily = ska.rates(store, freq="1D")
    # The fleet begins on the first of a month and lives shorter: one bucket per version holds everything.
    summary = ska.rates(store, freq="MS")
    plots = (folder / "throughput.png", folder / "error_rate.png")
    for plot, path in zip((ska.plot_throughput, ska.plot_error_rate), plots, strict=True):
        ska.plot_grid(plot, daily, by="policy_id").savefig(path, dpi=150)
    return Demo(
        folder=folder,
        store=folder / "snapshots",
        plots=plots,
        summary=summary,
        batches=asked,
        polls=len(times),
        requests=requests,
        seconds=time.monotonic() - began,
    )


def _free_folder() -> Path:
    names = itertools.chain([_FOLDER], (f"{_FOLDER}-{i}" for i in itertools.count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _poll_times(fleet: Fleet) -> list[dt.datetime]:
    polls = -(-(fleet.end - fleet.start) // _POLL_EVERY)
    return [fleet.start + _POLL_EVERY * (i + 1) for i in range(polls)]


def _bar(polls: int, progress: bool | None) -> Any:  # noqa: FBT001 -- None, too, means something
    from tqdm import tqdm  # noqa: PLC0415

    return tqdm(
        total=polls,
        desc="polling",
        unit="poll",
        disable=None if progress is None else not progress,
        bar_format="{desc} {bar:30} {percentage:3.0f} %{postfix}  [{elapsed} < {remaining}]",
    )


def _story(made: Demo) -> list[str]:
    """Return the lines that are printed at the end; the folder comes last."""
    rows = [
        {
            "policy": visible_name(row.policy_id),
            "version": visible_name(row.policy_version),
            "batches": number(row.n_batches),
            "processed": number(row.processed),
            "per hour": number(row.throughput_per_hour),
            "error rate": percent(row.error_rate),
            "95 % interval": percent_interval(row.error_rate_low, row.error_rate_high),
        }
        for row in made.summary.itertuples()
    ]
    right = ("batches", "processed", "per hour", "error rate", "95 % interval")
    store = f"--store {made.store}"
    took = f"{made.requests:,} requests over HTTP, {made.seconds:.0f} s in all."
    return [
        f"{made.batches:,} batches, polled {made.polls:,} times: {took}",
        "",
        *table_lines(rows, right=right),
        "",
        bold("Next"),
        f"  safetykit-analytics rates {store} --freq 1D",
        f"  safetykit-analytics compare {store} --policy-id hate-speech --baseline v7 --candidate v8",
        f"  safetykit-analytics report {store}",
        "",
        bold("Written"),
        *(f"  {path}" for path in made.plots),
        f"  {made.store}/",
        "",
        f"Everything is in {made.folder.resolve()}",
    ]
