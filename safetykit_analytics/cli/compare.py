"""``compare``: whether a version's error rate differs from another's, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli import options
from safetykit_analytics.cli.files import Outputs, Plot, save_plot, show_table, write_table
from safetykit_analytics.cli.options import Store, open_store
from safetykit_analytics.formatting import (
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
    from safetykit_analytics import VersionComparison
    from safetykit_analytics.cli.terminal import Loudness


def compare(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
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
    source = open_store(store, loudness)
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
    show_table(_rows(comparison), right=right, loudness=loudness)
    typer.echo()
    for sentence in comparison.sentences:
        typer.echo(visible(sentence))


def _rows(comparison: VersionComparison) -> list[dict[str, str]]:
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
