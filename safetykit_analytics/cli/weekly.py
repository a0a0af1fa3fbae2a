"""``report``: the weekly report into a file, an object store, stdout or a folder of CSV files."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli import options
from safetykit_analytics.cli.files import check_folder, write_bytes
from safetykit_analytics.formatting import place_name

if TYPE_CHECKING:
    from safetykit_analytics import WeeklyReport
    from safetykit_analytics.cli.terminal import Loudness


def report(
    ctx: typer.Context,
    *,
    store: options.Store = "snapshots",
    week: Annotated[
        str | None, typer.Option(metavar="YYYY-Www", help="ISO week.  [default: the last whole one]")
    ] = None,
    tz: options.TimeZone = "UTC",
    as_of: options.AsOf = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL|-",
            help="Name that ends in .html, .md, .json, .eml or .xlsx; - prints the page.  "
            "[default: report-WEEK.html]",
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FOLDER", help="Write every table as a CSV file.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="OCTAL", help="Permissions of the file, such as 0644.  [default: yours alone]"),
    ] = None,
) -> None:
    """Write the weekly report."""
    loudness: Loudness = ctx.obj
    permissions = None if mode is None else _permissions(mode, output)
    if output is not None and "://" not in output:
        check_folder(Path(output))
    made = ska.weekly_report(
        options.open_store(store, loudness), week=week, tz=tz, as_of=options.instant(as_of, tz)
    )
    if csv is not None:
        made.to_csv(csv)
        loudness.note(f"wrote {csv}")
        if output is None:
            return
    place = output or f"report-{made.to_dict()['week']}.html"
    if place == "-":
        write_bytes(made.to_html().encode(), Path(place))
        return
    if "://" in place:
        from safetykit_analytics.store import put_object  # noqa: PLC0415

        put_object(place, _content(made, PurePosixPath(place).name))
    else:
        made.save(place)
        if permissions is not None:
            Path(place).chmod(permissions)
    loudness.note(f"wrote {place_name(place)}")


def _permissions(mode: str, output: str | None) -> int:
    if re.fullmatch(r"0?[0-7]{3}", mode) is None:
        raise typer.BadParameter(f"--mode {mode}: expected an octal number such as 0644")
    if output is not None and (output == "-" or "://" in output):
        raise typer.BadParameter("--mode needs a file of this machine; --output names another place")
    return int(mode, 8)


def _content(made: WeeklyReport, name: str) -> bytes:
    import tempfile  # noqa: PLC0415 -- rarely needed, and --help must be quick

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        made.save(path)
        return path.read_bytes()
