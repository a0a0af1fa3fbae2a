"""``rates`` and ``compare``: options are the parameters of the function of that name; out comes its table.

Place in the flow: rates, compare, plots → **tables** → the terminal, files. Imports no other command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from safetykit_analytics.cli.files import Csv, Json, Parquet, Plot, write_table
from safetykit_analytics.cli.store import Store, open_store
from safetykit_analytics.cli.terminal import instant, say, table_lines
from safetykit_analytics.replacing import replacing
from safetykit_analytics.wording import (
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
    import pandas as pd
    from matplotlib.figure import Figure

    from safetykit_analytics import VersionComparison
    from safetykit_analytics.cli.terminal import Loudness

AsOf = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Ignore what was observed later.  [default: the last observation]"),
]
Confidence = Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")]
TimeZone = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Whose midnights and weeks, such as Europe/Berlin.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: safetykit-analytics rates --freq 1D --tz Europe/Berlin --csv rates.csv")(
        rates
    )
    app.command(
        epilog="Example: safetykit-analytics compare --policy-id hate-speech --baseline v7 --candidate v8"
    )(compare)


def rates(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    freq: Annotated[
        str, typer.Option(metavar="LENGTH", help="Of a bucket: 15min, 1h, 1D, W, MS, auto.")
    ] = "1h",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="policy_id|policy_version|none",
            help="Group by; may be repeated.  [default: policy_id and policy_version]",
        ),
    ] = None,
    tz: TimeZone = "UTC",
    start: Annotated[str | None, typer.Option(metavar="TIME", help="First bucket.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End of the last bucket.")] = None,
    as_of: AsOf = None,
    confidence: Confidence = 0.95,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    plot: Plot = None,
) -> None:
    """Show throughput and error rate per calendar bucket, policy and version."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    groups = ("policy_id", "policy_version") if not by else () if by == ["none"] else tuple(by)
    source = open_store(store, quiet=loudness.quiet)
    table = ska.rates(
        source,
        freq=freq,
        by=groups,
        tz=tz,
        start=start,
        end=end,
        as_of=as_of,
        confidence=confidence,
    )
    written = write_table(table, csv=csv, json_file=json_file, parquet=parquet, quiet=loudness.quiet)
    if plot is not None:
        _save_plot(_rates_figure(table), plot, quiet=loudness.quiet)
    if not loudness.quiet and table.empty and source.info().files:
        say("note: no batch was at work in the time that was asked for")
    if not written and plot is None:
        _print_table(_rates_rows(table, groups), right=_RATES_RIGHT)


def compare(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    policy_id: Annotated[
        str | None, typer.Option(metavar="POLICY", help='"(none)" for none.  [default: scan all policies]')
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Compare with it.  [default: the one before]")
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Compare it.  [default: every other version]")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Batches that ended since.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Batches that ended before.")] = None,
    tz: TimeZone = "UTC",
    as_of: AsOf = None,
    looks: Annotated[
        Literal["any", "once"], typer.Option(help="How often this comparison is looked at.")
    ] = "any",
    confidence: Confidence = 0.95,
    correction: Annotated[
        Literal["none", "holm", "bh"] | None,
        typer.Option(help="Of p-values.  [default: holm, or bh in a scan]"),
    ] = None,
    csv: Csv = None,
    json_file: Json = None,
    parquet: Parquet = None,
    plot: Plot = None,
) -> None:
    """Say whether a version's error rate differs from another's, and how sure that is."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    comparison = ska.compare_versions(
        open_store(store, quiet=loudness.quiet),
        policy_id=policy_id,
        baseline=baseline,
        candidate=candidate,
        start=start,
        end=end,
        tz=tz,
        as_of=as_of,
        looks=looks,
        confidence=confidence,
        correction=correction,
    )
    written = write_table(
        comparison.table, csv=csv, json_file=json_file, parquet=parquet, quiet=loudness.quiet
    )
    if plot is not None:
        _save_plot(ska.plot_comparison(comparison).figure, plot, quiet=loudness.quiet)
    if written or plot is not None:
        return
    _print_table(_compare_rows(comparison), right=_COMPARE_RIGHT)
    typer.echo()
    for sentence in comparison.sentences:
        typer.echo(visible(sentence))


_RATES_RIGHT = ("processed", "per hour", "error rate", "interval", "batches", "coverage")


def _rates_rows(table: pd.DataFrame, groups: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {
            "bucket": instant(row["bucket_start"]) + (" (partial)" if row["partial"] else ""),
            **{name: visible_name(row[name]) for name in groups},
            "processed": number(row["processed"]),
            "per hour": number(row["throughput_per_hour"]),
            "error rate": percent(row["error_rate"]),
            "interval": percent_interval(row["error_rate_low"], row["error_rate_high"]),
            "batches": number(row["n_batches"]),
            "coverage": percent(row["coverage"]),
            "note": row["note"],
        }
        for row in table.to_dict("records")
    ]


_COMPARE_RIGHT = ("batches", "processed", "error rate", "interval", "difference", "its interval", "p")


def _compare_rows(comparison: VersionComparison) -> list[dict[str, str]]:
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


def _print_table(rows: list[dict[str, str]], *, right: tuple[str, ...]) -> None:
    for line in table_lines(rows, right=right):
        typer.echo(line)


def _rates_figure(table: pd.DataFrame) -> Figure:
    """Draw throughput above, error rate below."""
    from matplotlib.figure import Figure  # noqa: PLC0415 -- a second, and only who draws needs it

    import safetykit_analytics as ska  # noqa: PLC0415

    figure = Figure(figsize=(10, 9), layout="constrained")
    above, below = figure.subplots(2, 1)
    ska.plot_throughput(table, ax=above)
    ska.plot_error_rate(table, ax=below)
    return figure


def _save_plot(figure: Any, path: Path, *, quiet: bool) -> None:
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise typer.BadParameter(
            f"--plot {path}: expected a name that ends in one of .{', .'.join(sorted(known))}"
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    if not quiet:
        say(f"wrote {path}")
