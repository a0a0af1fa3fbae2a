"""``rates``, ``backlog``, ``completion``, ``stalled``, ``quality``: options are the function's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetykit_analytics.cli import options
from safetykit_analytics.cli.files import (
    Csv,
    Json,
    Outputs,
    Parquet,
    Plot,
    Xlsx,
    save_plot,
    show_table,
    write_table,
)
from safetykit_analytics.cli.store import Store, open_store
from safetykit_analytics.cli.terminal import instant, say
from safetykit_analytics.formatting import (
    hours,
    hours_between,
    is_missing,
    number,
    percent,
    percent_interval,
    visible,
    visible_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd

    from safetykit_analytics.cli.terminal import Loudness

Frequency = Annotated[str, typer.Option(metavar="LENGTH", help="Of a bucket: 15min, 1h, 1D, W, MS, auto.")]
_Cells = dict[str, str]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (rates, "rates --freq 1D --tz Europe/Berlin --start 7d --csv rates.csv"),
        (backlog, "backlog --freq 1D --by policy_id --start 7d"),
        (completion, "completion --by market --batches batches.csv"),
        (stalled, "stalled --idle 6h"),
        (quality, "quality --policy-id spam --csv quality.csv"),
    ):
        app.command(epilog=f"Example: safetykit-analytics {example}")(command)


def rates(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    freq: Frequency = "1h",
    by: options.By = None,
    policy_id: options.PolicyId = None,
    batches: options.Batches = None,
    tz: options.TimeZone = "UTC",
    start: options.Start = None,
    end: options.End = None,
    as_of: options.AsOf = None,
    confidence: options.Confidence = 0.95,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    xlsx: Xlsx = None,
    plot: Plot = None,
) -> None:
    """Show throughput and error rate per calendar bucket, policy and version."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    source = open_store(store, quiet=loudness.quiet)
    names = options.groups(by)
    table = ska.rates(
        source,
        freq=freq,
        by=names,
        policy_id=policy_id,
        batches=options.read_batches(batches),
        confidence=confidence,
        **options.window(source, start=start, end=end, as_of=as_of, tz=tz),
    )
    if not loudness.quiet and table.empty and source.info().files:
        say("note: no batch was at work in the time that was asked for")

    def cells(row: Any) -> _Cells:
        return {
            **_bucket(row, names),
            "processed": number(row["processed"]),
            "per hour": number(row["throughput_per_hour"]),
            "error rate": percent(row["error_rate"]),
            "interval": percent_interval(row["error_rate_low"], row["error_rate_high"]),
            "batches": number(row["n_batches"]),
            "coverage": percent(row["coverage"]),
            "note": row["note"],
        }

    right = ("processed", "per hour", "error rate", "interval", "batches", "coverage")
    outputs = Outputs(csv, json_file, parquet, xlsx)
    draw = _rates_figure if plot is not None else None
    _present(table, outputs, loudness, cells, right, plot, draw)


def backlog(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    freq: Annotated[str, typer.Option(metavar="LENGTH", help="Of a bucket: 15min, 1h, 1D, W, MS.")] = "1h",
    by: options.By = None,
    policy_id: options.PolicyId = None,
    batches: options.Batches = None,
    tz: options.TimeZone = "UTC",
    start: options.Start = None,
    end: options.End = None,
    as_of: options.AsOf = None,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    xlsx: Xlsx = None,
    plot: Plot = None,
) -> None:
    """Show pending decisions and open batches over time, and how long they will take."""
    import safetykit_analytics as ska  # noqa: PLC0415

    loudness: Loudness = ctx.obj
    source = open_store(store, quiet=loudness.quiet)
    names = options.groups(by)
    table = ska.backlog(
        source,
        freq=freq,
        by=names,
        policy_id=policy_id,
        batches=options.read_batches(batches),
        **options.window(source, start=start, end=end, as_of=as_of, tz=tz),
    )

    def cells(row: Any) -> _Cells:
        return {
            **_bucket(row, names),
            "pending": number(row["pending"]),
            "open": number(row["n_open"]),
            "per hour": number(row["throughput_per_hour"]),
            "takes": _between(row, "eta"),
        }

    outputs = Outputs(csv, json_file, parquet, xlsx)
    draw = _by_policy(ska.plot_backlog) if plot is not None else None
    _present(table, outputs, loudness, cells, ("pending", "open", "per hour"), plot, draw)


def completion(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    by: options.By = None,
    policy_id: options.PolicyId = None,
    batches: options.Batches = None,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOf = None,
    confidence: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Add intervals at this confidence.")
    ] = None,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    xlsx: Xlsx = None,
) -> None:
    """Show how long batches take from creation to completion: the median and the 90th percentile."""
    import safetykit_analytics as ska  # noqa: PLC0415

    loudness: Loudness = ctx.obj
    names = options.groups(by)
    table = ska.completion_time(
        open_store(store, quiet=loudness.quiet),
        by=names,
        tz=tz,
        as_of=options.instant(as_of, tz),
        policy_id=policy_id,
        batches=options.read_batches(batches),
        confidence=confidence,
    )

    def cells(row: Any) -> _Cells:
        kinds = {"median": "median", "90 %": "p90"}
        if confidence is not None:
            kinds |= {"median interval": "median_ci", "90 % interval": "p90_ci"}
        return {
            **_labels(row, names),
            "batches": number(row["n_batches"]),
            "running": number(row["n_running"]),
            **{title: _between(row, kind) for title, kind in kinds.items()},
        }

    _present(table, Outputs(csv, json_file, parquet, xlsx), loudness, cells, ("batches", "running"))


def stalled(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    idle: Annotated[
        str, typer.Option(metavar="LENGTH", help="How long counts stood still: 30min, 6h, 2d.")
    ] = "30min",
    policy_id: options.PolicyId = None,
    batches: options.Batches = None,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOf = None,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    xlsx: Xlsx = None,
) -> None:
    """List open batches with decisions pending whose counts certainly stood still."""
    import safetykit_analytics as ska  # noqa: PLC0415

    loudness: Loudness = ctx.obj
    table = ska.stalled_batches(
        open_store(store, quiet=loudness.quiet),
        idle=idle,
        tz=tz,
        as_of=options.instant(as_of, tz),
        policy_id=policy_id,
        batches=options.read_batches(batches),
    )

    def cells(row: Any) -> _Cells:
        return {
            "batch": visible_name(row["batch_id"]),
            **_labels(row, ("policy_id", "policy_version")),
            "pending": number(row["pending_count"]),
            "idle": _between(row, "idle", ("at_least", "at_most")),
            "last observed": instant(row["last_observed_at"].tz_convert(tz)),
            "state": row["state"].replace("_", " "),
        }

    _present(table, Outputs(csv, json_file, parquet, xlsx), loudness, cells, ("pending",))


def quality(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    policy_id: options.PolicyId = None,
    batches: options.Batches = None,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOf = None,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    xlsx: Xlsx = None,
) -> None:
    """List what is odd in the data: nothing of it is repaired or dropped."""
    import safetykit_analytics as ska  # noqa: PLC0415

    loudness: Loudness = ctx.obj
    table = ska.data_quality(
        open_store(store, quiet=loudness.quiet),
        tz=tz,
        as_of=options.instant(as_of, tz),
        policy_id=policy_id,
        batches=options.read_batches(batches),
    )

    def cells(row: Any) -> _Cells:
        return {
            "batch": visible_name(row["batch_id"]),
            "kind": row["kind"],
            "value": number(row["value"]),
            "detail": visible(row["detail"]),
        }

    _present(table, Outputs(csv, json_file, parquet, xlsx), loudness, cells, ("value",))


def _present(  # noqa: PLR0917 -- all that is there
    table: pd.DataFrame,
    outputs: Outputs,
    loudness: Loudness,
    cells: Callable[[Any], _Cells],
    right: tuple[str, ...],
    plot: Path | None = None,
    draw: Callable[[pd.DataFrame], Any] | None = None,
) -> None:
    """Write the files that were asked for; print the table where none was."""
    written = write_table(table, outputs, loudness)
    if plot is not None and draw is not None:
        save_plot(draw(table), plot, loudness)
    if not written and plot is None:
        show_table([cells(row) for row in table.to_dict("records")], right=right, loudness=loudness)


def _labels(row: Any, names: Iterable[str]) -> _Cells:
    return {name: visible_name(row[name]) for name in names}


def _bucket(row: Any, names: Iterable[str]) -> _Cells:
    partial = " (partial)" if row["partial"] else ""
    return {"bucket": instant(row["bucket_start"]) + partial, **_labels(row, names)}


def _between(row: Any, name: str, ends: tuple[str, str] = ("low", "high")) -> str:
    low, high = (
        None if is_missing(value) else value.total_seconds() / 3600
        for value in (row[f"{name}_{end}"] for end in ends)
    )
    return hours(low) if low == high else hours_between(low, high)


def _has_policies(table: pd.DataFrame) -> bool:
    return "policy_id" in table and len(table["policy_id"].unique()) > 1


def _by_policy(plot: Callable[..., Any]) -> Callable[[pd.DataFrame], Any]:
    """Return a function that draws a table in one panel for each of several policies."""

    def draw(table: pd.DataFrame) -> Any:
        import safetykit_analytics as ska  # noqa: PLC0415

        if _has_policies(table):
            return ska.plot_grid(plot, table, by="policy_id")
        from matplotlib.figure import Figure  # noqa: PLC0415 -- a second, and only who draws needs it

        figure = Figure(figsize=(10, 5), layout="constrained")
        plot(table, ax=figure.subplots())
        return figure

    return draw


def _rates_figure(table: pd.DataFrame) -> Any:
    """Draw the error rates of several policies side by side; of one, its throughput above."""
    import safetykit_analytics as ska  # noqa: PLC0415

    if _has_policies(table):
        return _by_policy(ska.plot_error_rate)(table)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 9), layout="constrained")
    above, below = figure.subplots(2, 1)
    ska.plot_throughput(table, ax=above)
    ska.plot_error_rate(table, ax=below)
    return figure
