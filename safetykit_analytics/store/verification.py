"""Reading every byte of a store, and saying what is wrong with it.

Place in the flow: above `partition`; used by `SnapshotStore.verify` alone.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from safetykit_analytics.errors import DamagedFile
from safetykit_analytics.schema import KEY_COLUMNS
from safetykit_analytics.store.bounds import DAY_US
from safetykit_analytics.store.keys import sorted_unique
from safetykit_analytics.store.layout import (
    MARKER,
    TEMPORARY_PREFIX,
    is_snapshot_name,
    partition_date,
)
from safetykit_analytics.store.parquet import Snapshot, decode
from safetykit_analytics.store.partition import read_bytes, stable_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safetykit_analytics.store.files import Files

_IGNORED = "ignored: "


class Finding(NamedTuple):
    """A file or folder that is no sound snapshot.

    Attributes
    ----------
    path : str
        Its full name.
    reason : str
        What is wrong. Begins with "ignored: " if it is no snapshot at all, so that no observation is missing.
    """

    path: str
    reason: str

    @property
    def is_damage(self) -> bool:
        """Whether reading the store raises `DamagedFile` because of it."""
        return not self.reason.startswith(_IGNORED)


def findings(files: Files) -> Iterator[Finding]:
    """Check all that is in a store, day by day."""
    tree = stable_tree(files, lambda name: partition_date(name) is not None)
    for name in tree.get("", ()):
        if not name.startswith(TEMPORARY_PREFIX) and name != f"{MARKER}/" and name[:-1] not in tree:
            yield Finding(files.locate(name.rstrip("/")), _IGNORED + "no part of a store")
    for folder, names in sorted(tree.items()):
        date = partition_date(folder)
        if date is None:
            continue
        for name in names:
            path = f"{folder}/{name.rstrip('/')}"
            reason = _fault(files, path, date)
            if reason is not None:
                yield Finding(files.locate(path), reason)


def _fault(files: Files, path: str, date: dt.date) -> str | None:
    # In an object store a name may hold further slashes; such a file is in a folder of its own, and not read.
    name = path.partition("/")[2]
    if name.startswith(TEMPORARY_PREFIX):
        return _IGNORED + "a write that is under way, or was interrupted; compact() removes it after a day"
    if not is_snapshot_name(name):
        return _IGNORED + "not named like a snapshot"
    try:
        data = read_bytes(files, path)
        snapshot = decode(data, place=files.locate(path), date=date, verify_pages=True)
    except FileNotFoundError:
        return None  # compaction has put its rows elsewhere since we listed it
    except DamagedFile as error:
        return str(error).partition(" cannot be read: ")[2].partition(". ")[0]
    except OSError as error:
        return f"it cannot be read: {error.strerror or type(error).__name__}"
    return _content_fault(snapshot, date)


def _content_fault(snapshot: Snapshot | None, date: dt.date) -> str | None:
    if snapshot is None:
        return _IGNORED + "a Parquet file of another origin: its footer has no schema version"
    if snapshot.is_sorted and not sorted_unique(snapshot.table).equals(snapshot.table.combine_chunks()):
        return f"its footer says that it is sorted and unique by {', '.join(KEY_COLUMNS)}, but it is not"
    days = snapshot.table.column("observed_at").cast(pa.int64()).to_numpy() // DAY_US
    if (days != (date - dt.date(1970, 1, 1)).days).any():
        return "it holds observations of another day than its folder"
    return None
