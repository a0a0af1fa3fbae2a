"""Tables and comparisons as commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli import options
from safetykit_analytics.cli.files import Outputs, Plot, save_plot, show_table, write_table
from safetykit_analytics.cli.terminal import instant, say
from safetykit_analytics.formatting import (
    hours,
    hours_between,
    is_missing,
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    visible,
    visible_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from safetykit_analytics import VersionComparison
    from safetykit_analytics.cli.terminal import Loudness

_FREQ = "Length of a bucket: 15min, 1h, 1D, W, MS"
_Cells = dict[str, str]


def rates(
    ctx: typer.Context,
    *,
    scope: options.Scope,
    window: options.Window,
    freq: Annotated[str, typer.Option(metavar="LENGTH", help=f"{_FREQ}, auto.")] = "1h",
    by: options.By = None,
    confidence: options.Confidence = 0.95,
    outputs: Outputs,
    plot: Plot = None,
) -> None:
    """Show throughput and error rate per calendar bucket, policy and version."""
    loudness: Loudness = ctx.obj
    store = options.open_store(scope.store, loudness)
    names, keywords = options.group_names(by), scope.keywords()
    keywords |= window.keywords(store, tz=scope.tz, as_of=keywords["as_of"])
    table = ska.rates(store, freq=freq, by=names, confidence=confidence, **keywords)
    if not loudness.quiet and table.empty and store.info().files:
        say("note: no batch was at work in this time")

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
    if plot is not None:
        save_plot(_rates_figure(table), plot, loudness)
    _present(table, outputs, loudness, cells, right, is_drawn=plot is not None)


def backlog(
    ctx: typer.Context,
    *,
    scope: options.Scope,
    window: options.Window,
    freq: Annotated[str, typer.Option(metavar="LENGTH", help=f"{_FREQ}.")] = "1h",
    by: options.By = None,
    outputs: Outputs,
    plot: Plot = None,
) -> None:
    """Show pending decisions and open batches over time, and how long they will take."""
    loudness: Loudness = ctx.obj
    store = options.open_store(scope.store, loudness)
    names, keywords = options.group_names(by), scope.keywords()
    keywords |= window.keywords(store, tz=scope.tz, as_of=keywords["as_of"])
    table = ska.backlog(store, freq=freq, by=names, **keywords)

    def cells(row: Any) -> _Cells:
        return {
            **_bucket(row, names),
            "pending": number(row["pending"]),
            "open": number(row["n_open"]),
            "per hour": number(row["throughput_per_hour"]),
            "takes": _between(row, "eta"),
        }

    if plot is not None:
        save_plot(_figure(ska.plot_backlog, table), plot, loudness)
    _present(table, outputs, loudness, cells, ("pending", "open", "per hour"), is_drawn=plot is not None)


def completion(
    ctx: typer.Context,
    *,
    scope: options.Scope,
    by: options.By = None,
    confidence: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Add intervals at this confidence level.")
    ] = None,
    outputs: Outputs,
) -> None:
    """Show how long batches take from creation to completion: the median and the 90th percentile."""
    loudness: Loudness = ctx.obj
    names = options.group_names(by)
    store = options.open_store(scope.store, loudness)
    table = ska.completion_time(store, by=names, confidence=confidence, **scope.keywords())
    kinds = {"median": "median", "90 %": "p90"}
    if confidence is not None:
        kinds |= {"median interval": "median_ci", "90 % interval": "p90_ci"}

    def cells(row: Any) -> _Cells:
        return {
            **_labels(row, names),
            "batches": number(row["n_batches"]),
            "running": number(row["n_running"]),
            **{title: _between(row, kind) for title, kind in kinds.items()},
        }

    _present(table, outputs, loudness, cells, ("batches", "running"))


def stalled(
    ctx: typer.Context,
    *,
    scope: options.Scope,
    idle: Annotated[
        str, typer.Option(metavar="LENGTH", help="How long counts stood still: 30min, 6h, 2d.")
    ] = "30min",
    outputs: Outputs,
) -> None:
    """List open batches with decisions pending whose counts certainly stood still."""
    loudness: Loudness = ctx.obj
    store = options.open_store(scope.store, loudness)
    table = ska.stalled_batches(store, idle=idle, **scope.keywords())

    def cells(row: Any) -> _Cells:
        return {
            "batch": visible_name(row["batch_id"]),
            **_labels(row, ("policy_id", "policy_version")),
            "pending": number(row["pending_count"]),
            "idle": _between(row, "idle", ("at_least", "at_most")),
            "last observed": instant(row["last_observed_at"].tz_convert(scope.tz)),
            "state": row["state"].replace("_", " "),
        }

    _present(table, outputs, loudness, cells, ("pending",))


def quality(ctx: typer.Context, *, scope: options.Scope, outputs: Outputs) -> None:
    """List oddities in the data, which are neither repaired nor dropped."""
    loudness: Loudness = ctx.obj
    table = ska.data_quality(options.open_store(scope.store, loudness), **scope.keywords())

    def cells(row: Any) -> _Cells:
        return {
            "batch": visible_name(row["batch_id"]),
            "kind": row["kind"],
            "value": number(row["value"]),
            "detail": visible(row["detail"]),
        }

    _present(table, outputs, loudness, cells, ("value",))


def compare(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    policy_id: Annotated[
        str | None, typer.Option(metavar="POLICY", help='"(none)" for none.  [default: scan all policies]')
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Version to compare with.  [default: chosen by the data]"),
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Version to compare.  [default: every other one]")
    ] = None,
    window: options.Window,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOf = None,
    looks: Annotated[
        Literal["any", "once"], typer.Option(help="Whether you look repeatedly, or once as planned.")
    ] = "any",
    confidence: options.Confidence = 0.95,
    correction: Annotated[
        Literal["none", "holm", "bh"] | None,
        typer.Option(help="Correction of p-values.  [default: holm, or bh in a scan]"),
    ] = None,
    outputs: Outputs,
    plot: Plot = None,
) -> None:
    """Show whether a version's error rate differs from another's, and how sure that is."""
    loudness: Loudness = ctx.obj
    source = options.open_store(store, loudness)
    until = options.instant(as_of, tz)
    comparison = ska.compare_versions(
        source,
        policy_id=policy_id,
        baseline=baseline,
        candidate=candidate,
        confidence=confidence,
        correction=correction,
        looks=looks,
        tz=tz,
        as_of=until,
        **window.keywords(source, tz=tz, as_of=until),
    )
    written = write_table(comparison.table, outputs, loudness)
    if plot is not None:
        save_plot(ska.plot_comparison(comparison).figure, plot, loudness)
    if written or plot is not None:
        return
    right = ("batches", "processed", "error rate", "interval", "difference", "its interval", "p")
    show_table(_compared(comparison), right=right, loudness=loudness)
    typer.echo()
    for sentence in comparison.sentences:
        typer.echo(visible(sentence))


def _compared(comparison: VersionComparison) -> list[dict[str, str]]:
    return [
        {
            "policy": visible_name(row["policy_id"]),
            "version": visible_name(row["policy_version"]),
            "role": row["role"],
            "batches": number(row["n_batches"]),
            "processed": number(row["processed"]),
            "error rate": percent(row["error_rate"]),
            "interval": percent_interval(row["error_rate_low"], row["error_rate_high"]),
            "difference": points(row["difference"]),
            "its interval": points_interval(row["difference_low"], row["difference_high"]),
            "p": p_value(row["p_adjusted"], alpha=1 - comparison.confidence),
            "verdict": "" if is_missing(row["verdict"]) else row["verdict"],
        }
        for row in comparison.table.to_dict("records")
    ]


def _present(
    table: pd.DataFrame,
    outputs: Outputs,
    loudness: Loudness,
    cells: Callable[[Any], _Cells],
    right: tuple[str, ...],
    *,
    is_drawn: bool = False,
) -> None:
    """Write the files of a table; print it if there are none, and no picture."""
    if not write_table(table, outputs, loudness) and not is_drawn:
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


def _figure(plot: Callable[..., Any], table: pd.DataFrame) -> Any:
    """Draw a table in one panel for each of several policies."""
    from matplotlib.figure import Figure  # noqa: PLC0415 -- a second, and only who draws needs it

    if _has_policies(table):
        return ska.plot_grid(plot, table, by="policy_id")
    figure = Figure(figsize=(10, 5), layout="constrained")
    plot(table, ax=figure.subplots())
    return figure


def _rates_figure(table: pd.DataFrame) -> Any:
    """Draw the error rates of several policies side by side; of one, its throughput above."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    if _has_policies(table):
        return _figure(ska.plot_error_rate, table)
    figure = Figure(figsize=(10, 9), layout="constrained")
    above, below = figure.subplots(2, 1)
    ska.plot_throughput(table, ax=above)
    ska.plot_error_rate(table, ax=below)
    return figure
