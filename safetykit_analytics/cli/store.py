"""The option that every command with a store shares, and opening it.

Place in the flow: below the commands. Imports none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safetykit_analytics.cli.terminal import say
from safetykit_analytics.wording import place_name

if TYPE_CHECKING:
    from safetykit_analytics import SnapshotStore

Store = Annotated[
    str,
    typer.Option(metavar="PATH", envvar="SAFETYKIT_STORE", help="The snapshots: a folder or an fsspec URL."),
]


def open_store(path: str, *, quiet: bool) -> SnapshotStore:
    """Open a store to read it; say so if there is nothing in it, which a mistyped path looks like."""
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    store = ska.SnapshotStore(path)
    if not quiet and not store.info().files:
        say(f"note: there are no observations in {place_name(path)}")
    return store
