"""Read every byte of a store, and list what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.calendar import DAY_US
from safetykit_analytics.errors import DamagedFile, StoreChanged
from safetykit_analytics.keys import sorted_unique
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.listing import Listing, list_store, open_file
from safetykit_analytics.store.names import (
    MARKER,
    OLD_MARKER,
    TEMPORARY_PREFIX,
    StoredFile,
    cohort_name,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetykit_analytics.store.files import Files

_IGNORED = "ignored: "


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
        table = snapshot and snapshot.read(range(snapshot.n_groups), OBSERVATION_SCHEMA.names)
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
        if not sorted_unique(table).equals(table):
            return "it is not sorted by batch_id and observed_at, or has a key twice"
        if {cohort_name(day) for day in set(cohort_days(table.column("batch_id")).tolist())} != {file.kind}:
            return f"it holds batches that are not of the cohort {file.kind}"
    if table.num_rows != file.facts.n_rows:
        return f"it holds {table.num_rows:,} rows, its name says {file.facts.n_rows:,}"
    return None
