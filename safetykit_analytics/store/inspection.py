"""How much a store holds, by the names of its files, and which of its bytes are damaged."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.calendar import DAY_US, from_us
from safetykit_analytics.errors import DamagedFile, StoreChanged
from safetykit_analytics.formatting import plural, size_text
from safetykit_analytics.keys import concat, sorted_unique
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.listing import Listing, list_store, open_file
from safetykit_analytics.store.names import (
    MARKER,
    OLD_MARKER,
    TEMPORARY_PREFIX,
    StoredFile,
    add_facts,
    cohort_name,
    parse,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from safetykit_analytics.store.files import Files

_IGNORED = "ignored: "


@dataclass(frozen=True)
class StoreInfo:
    """How much is in a store, by the names of its files; rows and batches are upper bounds.

    `recent_files` wait for `SnapshotStore.compact`; `cohorts` have a file of their own. A batch in several
    files is counted in each. `old_files` are of the first layout, whose names do not tell how much they
    hold: they count in `files` and `bytes` alone. Times are aware, UTC; None for an empty store.
    """

    files: int
    recent_files: int
    cohorts: int
    rows: int
    batches: int
    open_batches: int
    first_observed_at: dt.datetime | None
    last_observed_at: dt.datetime | None
    bytes: int
    old_files: int

    def __str__(self) -> str:
        """Write it in one line."""
        if not self.files:
            return "empty"
        parts = [f"{what} {value}" if what == "from" else f"{value} {what}" for what, value in self._facts()]
        return ", ".join(parts)

    def html(self, name: str) -> str:
        """Write it as a small table."""
        facts = self._facts() if self.files else [("files", "0")]
        cells = "".join(f"<tr><th>{what}</th><td>{html.escape(value)}</td></tr>" for what, value in facts)
        return f"<table><caption>SnapshotStore <code>{html.escape(name)}</code></caption>{cells}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        up_to = "up to " if self.recent_files else ""
        facts = [("file" if self.files == 1 else "files", f"{self.files:,}")]
        if self.files > self.old_files:
            facts += [
                (plural(self.cohorts, "cohort").partition(" ")[2], f"{self.cohorts:,}"),
                (plural(self.rows, "observation").partition(" ")[2], f"{up_to}{self.rows:,}"),
                (plural(self.batches, "batch").partition(" ")[2], f"{up_to}{self.batches:,}"),
                ("open", f"{up_to}{self.open_batches:,}"),
            ]
        if self.old_files:
            facts.append(("of the first layout, which compact() converts", f"{self.old_files:,}"))
        first, last = self.first_observed_at, self.last_observed_at
        if first is not None and last is not None:
            facts.append(("from", f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"))
        return [*facts, ("on disk", size_text(self.bytes))]


def summarize(listing: Listing) -> StoreInfo:
    """Add up what the names of the files tell."""
    files = listing.all
    facts = add_facts([file.facts for file in files]) if files else None
    return StoreInfo(
        files=len(files),
        recent_files=len(listing.recent),
        cohorts=len(listing.cohorts),
        rows=facts.n_rows if facts else 0,
        batches=facts.n_batches if facts else 0,
        open_batches=facts.n_open if facts else 0,
        first_observed_at=from_us(facts.first) if facts else None,
        last_observed_at=from_us(facts.last) if facts else None,
        bytes=listing.files.total_size(file.path for file in files),
        old_files=sum(file.is_old for file in files),
    )


class Finding(NamedTuple):
    """A file or folder that is not a sound snapshot: its full name and the reason.

    A reason begins with "ignored: " for a file of another kind: no observation is missing.
    """

    path: str
    reason: str

    @property
    def is_damage(self) -> bool:
        """Whether reading the store raises `DamagedFile` because of it."""
        return not self.reason.startswith(_IGNORED)


def findings(files: Files) -> Iterator[Finding]:
    """Check all that is in a store, folder by folder."""
    listing = list_store(files)
    for name in listing.tree.get("", ()):
        ours = name.startswith(TEMPORARY_PREFIX) or name.rstrip("/") in (MARKER, OLD_MARKER)
        if not ours and name[:-1] not in listing.tree:
            yield Finding(files.locate(name.rstrip("/")), _IGNORED + "no part of a store")
    for folder, names in sorted(listing.tree.items()):
        for name in names if folder else ():
            path = f"{folder}/{name.rstrip('/')}"
            reason = _fault(listing, folder, name.rstrip("/"))
            if reason is not None:
                yield Finding(files.locate(path), reason)


def _fault(  # noqa: PLR0911 -- one for each thing that a name can be
    listing: Listing, folder: str, name: str
) -> str | None:
    # In an object store a name may hold further slashes; such a file is in a folder of its own, and not read.
    if name.startswith(TEMPORARY_PREFIX):
        return _IGNORED + "a write that is under way, or was interrupted; compact() removes it after a day"
    file = parse(folder, name)
    if file is None:
        return _IGNORED + "not named like a snapshot"
    try:
        snapshot = open_file(listing.files, listing.generation, file, verify_pages=True)
        table = snapshot and concat([snapshot.read(range(snapshot.n_groups), OBSERVATION_SCHEMA.names)])
    except StoreChanged:
        return None  # compaction has moved its rows since we listed it
    except DamagedFile as error:
        return str(error).partition(" cannot be read: ")[2].partition(". ")[0]
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        return f"it cannot be read: {cause.strerror or type(cause).__name__}"
    if table is None:
        return _IGNORED + "a Parquet file of another origin: its footer has no schema version"
    return _content_fault(file, table)


def _content_fault(file: StoredFile, table: Any) -> str | None:
    if file.is_old:
        days = table.column("observed_at").cast(pa.int64()).to_numpy() // DAY_US
        return (
            "it holds observations of another day than its folder"
            if (days != file.facts.first // DAY_US).any()
            else None
        )
    if not file.is_recent:
        if sorted_unique(table) is not table:
            return "it is not sorted by batch_id and observed_at, or has a key twice"
        if {cohort_name(day) for day in set(cohort_days(table.column("batch_id")).tolist())} != {file.kind}:
            return f"it holds batches that are not of the cohort {file.kind}"
    if table.num_rows != file.facts.n_rows:
        return f"it holds {table.num_rows:,} rows, its name says {file.facts.n_rows:,}"
    return None
