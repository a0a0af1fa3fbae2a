"""``report``: the weekly report into a file.

Place in the flow: report → **weekly** → a file. Imports no other command but the options of `tables`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetykit_analytics.cli.store import Store, open_store
from safetykit_analytics.cli.tables import AsOf, TimeZone
from safetykit_analytics.cli.terminal import say

if TYPE_CHECKING:
    from safetykit_analytics.cli.terminal import Loudness


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: safetykit-analytics report --week 2025-W37 --output monday.html")(report)


def report(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    week: Annotated[
        str | None, typer.Option(metavar="YYYY-Www", help="ISO week.  [default: the last whole one]")
    ] = None,
    tz: TimeZone = "UTC",
    as_of: AsOf = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".html, .md or .json.  [default: report-WEEK.html]"),
    ] = None,
) -> None:
    """Write the weekly report."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    loudness: Loudness = ctx.obj
    made = ska.weekly_report(open_store(store, quiet=loudness.quiet), week=week, tz=tz, as_of=as_of)
    path = output or Path(f"report-{made.to_dict()['week']}.html")
    made.save(path)
    if not loudness.quiet:
        say(f"wrote {path}")
