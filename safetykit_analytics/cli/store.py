"""The option that every command with a store shares, and opening it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safetykit_analytics.cli.terminal import say
from safetykit_analytics.errors import NotAStore
from safetykit_analytics.formatting import place_name

if TYPE_CHECKING:
    from safetykit_analytics import SnapshotStore

Store = Annotated[
    str,
    typer.Option(metavar="PATH", envvar="SAFETYKIT_STORE", help="The snapshots: a folder or an fsspec URL."),
]


def open_store(path: str, *, quiet: bool) -> SnapshotStore:
    """Open a store to read it.

    Raises
    ------
    NotAStore
        There is no such folder, or nothing under such a URL: a mistyped path is not an empty store.
    """
    import safetykit_analytics as ska  # noqa: PLC0415 -- a command that is not run costs nothing

    store = ska.SnapshotStore(path)
    if not store.exists():
        raise NotAStore(
            f"there is no store at {place_name(path)}; name one with --store, or begin one with: "
            "safetykit-analytics poll --ids FILE"
        )
    if not quiet and not store.info().files:
        say(f"note: there are no observations in {place_name(path)}")
    return store
