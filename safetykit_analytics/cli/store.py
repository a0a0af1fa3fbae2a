"""The option that every command with a store shares, and opening it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import safetykit_analytics as ska
from safetykit_analytics.cli.terminal import say
from safetykit_analytics.errors import NotAStore
from safetykit_analytics.formatting import place_name

if TYPE_CHECKING:
    from safetykit_analytics import SnapshotStore
    from safetykit_analytics.cli.terminal import Loudness

Store = Annotated[
    str,
    typer.Option(metavar="PATH", envvar="SAFETYKIT_STORE", help="The snapshots: a folder or an fsspec URL."),
]


def open_store(path: str, loudness: Loudness) -> SnapshotStore:
    """Open a store to read it; raise NotAStore for a missing one: a mistyped path is not an empty store."""
    store = ska.SnapshotStore(path)
    if not store.exists():
        raise NotAStore(
            f"there is no store at {place_name(path)}; name one with --store, or begin one with: "
            "safetykit-analytics poll --ids FILE"
        )
    if not loudness.quiet and not store.info().files:
        say(f"note: there are no observations in {place_name(path)}")
    return store
