"""``compact`` and ``verify``: keeping a store small, and knowing that it is whole.

Place in the flow: the store → **maintain** → the terminal. Imports no other command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from safetykit_analytics.cli.store import Store, open_store
from safetykit_analytics.wording import visible

if TYPE_CHECKING:
    from safetykit_analytics.cli.terminal import Loudness


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: safetykit-analytics compact --store snapshots")(compact)
    app.command(epilog="Example: safetykit-analytics verify --store snapshots")(verify)


def compact(ctx: typer.Context, store: Store = "snapshots") -> None:
    """Rewrite each closed day of the store into one file. Safe while others append and read."""
    loudness: Loudness = ctx.obj
    typer.echo(str(open_store(store, quiet=loudness.quiet).compact()))


def verify(ctx: typer.Context, store: Store = "snapshots") -> None:
    """Read every byte of the store, and list what is damaged; exit code 1 if anything is."""
    loudness: Loudness = ctx.obj
    found = open_store(store, quiet=loudness.quiet).verify()
    damaged = [finding for finding in found if finding.is_damage]
    for path, reason in found if not loudness.quiet else damaged:
        typer.echo(f"{visible(path)}: {visible(reason)}")
    typer.echo(f"{len(damaged):,} damaged" if damaged else "all is well: nothing is damaged")
    if damaged:
        raise typer.Exit(1)
