"""``compact`` and ``verify``: keep a store small, and find damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safetykit_analytics.cli import options
from safetykit_analytics.cli.options import Store, open_store
from safetykit_analytics.cli.terminal import say
from safetykit_analytics.formatting import visible

if TYPE_CHECKING:
    from safetykit_analytics.cli.terminal import Loudness


def compact(
    ctx: typer.Context,
    *,
    store: Store = "snapshots",
    thin_before: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Also drop repeated observations from before then; tables as of later stay the same.",
        ),
    ] = None,
) -> None:
    """Move recent observations into one file per day of creation. Safe while others append and read."""
    loudness: Loudness = ctx.obj
    source = open_store(store, loudness)
    done = source.compact(thin_before=options.instant(thin_before, "UTC"))
    if not loudness.quiet:
        typer.echo(str(done))


def verify(ctx: typer.Context, store: Store = "snapshots") -> None:
    """Read every byte of the store, and list damaged files; exit code 1 if there are any."""
    loudness: Loudness = ctx.obj
    found = open_store(store, loudness).verify()
    damaged = [finding for finding in found if finding.is_damage]
    for path, reason in found if not loudness.quiet else damaged:
        typer.echo(f"{visible(path)}: {visible(reason)}")
    if damaged:
        say(f"error: {len(damaged):,} damaged")
        raise typer.Exit(1)
    if not loudness.quiet:
        typer.echo("all is well: nothing is damaged")
