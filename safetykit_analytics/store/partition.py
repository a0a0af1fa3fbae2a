"""The observations of one UTC day, and how a consistent list of files is had while others write and compact.

Place in the flow: store → **partitions** → flow, which reads them one by one, in this process or in others.
"""

from __future__ import annotations

import datetime as dt
import errno
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from safetykit_analytics.errors import DamagedFile, DamagedFileWarning, NotAStore, StoreFailed, UnknownName
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.files import typed_errors
from safetykit_analytics.store.keys import sorted_unique
from safetykit_analytics.store.layout import (
    MARKER,
    TEMPORARY_PREFIX,
    is_snapshot_name,
    partition_date,
    partition_name,
)
from safetykit_analytics.store.parquet import Snapshot, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from safetykit_analytics.store.files import Files

# Each try fails only if a compaction removed files within it: thousands in a row cannot be chance.
_TRIES = 1000


@dataclass(frozen=True)
class Partition:
    """The observations of one UTC day. Picklable: a process pool reads it by its file names.

    Attributes
    ----------
    date : datetime.date
        The UTC day of ``observed_at``.
    paths : tuple of str
        The files that held it when the list was made, relative to the store.
    """

    date: dt.date
    paths: tuple[str, ...]
    files: Files = field(repr=False)

    def read(self, columns: Sequence[str] | None = None, *, skip_damaged: bool = False) -> Any:
        """Read the day: duplicates dropped, sorted by (batch_id, observed_at), every byte checked.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns of `OBSERVATION_SCHEMA`, in the order wanted; all by default.
        skip_damaged : bool
            Warn of damaged files and leave them out, instead of raising.

        Returns
        -------
        pyarrow.Table
            Types of `OBSERVATION_SCHEMA`; strings may be ``dictionary<int32, string>``.

        Raises
        ------
        DamagedFile
            A file cannot be read; its name is in the message and in ``.path``.
        StoreFailed
            The disk or object store refused.
        UnknownName
            A column that `OBSERVATION_SCHEMA` does not have.
        """
        names = None if columns is None else list(columns)
        for name in names or ():
            if name not in OBSERVATION_SCHEMA.names:
                raise UnknownName("column", name, OBSERVATION_SCHEMA.names)
        paths = self.paths
        with typed_errors(f"read {self.files.locate(partition_name(self.date))}"):
            for _ in range(_TRIES):
                try:
                    return read_day(self.files, self.date, paths, names, skip_damaged=skip_damaged)
                except FileNotFoundError:
                    # Compaction has put the rows into another file since the list was made.
                    tomorrow = self.date + dt.timedelta(days=1)
                    paths = list_days(self.files, start=self.date, end=tomorrow).get(self.date, ())
        raise StoreFailed(
            f"cannot read {self.files.locate(partition_name(self.date))}: it never stands still"
        )


def read_day(
    files: Files,
    date: dt.date,
    paths: Sequence[str],
    columns: Sequence[str] | None,
    *,
    skip_damaged: bool,
) -> Any:
    """Read some files of a day as one table; FileNotFoundError if one of them is gone."""

    def load(path: str, columns: Sequence[str] | None, *, dictionaries: bool) -> Snapshot | None:
        place = files.locate(path)
        try:
            return decode(
                read_bytes(files, path), place=place, date=date, columns=columns, dictionaries=dictionaries
            )
        except DamagedFile as error:
            if not skip_damaged:
                raise
            warnings.warn(f"left out: {error}", DamagedFileWarning, stacklevel=2)
            return None

    if len(paths) == 1:
        snapshot = load(paths[0], columns, dictionaries=True)
        if snapshot is not None and snapshot.is_sorted:
            return snapshot.table
        paths = paths if snapshot else ()
    snapshots = [load(path, None, dictionaries=False) for path in paths]
    tables = [snapshot.table for snapshot in snapshots if snapshot is not None]
    table = sorted_unique(pa.concat_tables(tables)) if tables else OBSERVATION_SCHEMA.empty_table()
    return table if columns is None else table.select(columns)


def read_bytes(files: Files, path: str) -> bytes:
    """Read a whole file; what has the name of a snapshot and can be no file is damage."""
    try:
        return files.read(path)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP):
            place = files.locate(path)
            fault = "it is a folder" if error.errno == errno.EISDIR else "it is a link that leads nowhere"
            raise DamagedFile(f"{place} cannot be read: {fault}. Move it away", path=place) from error
        raise


def list_days(
    files: Files, *, start: dt.date | None = None, end: dt.date | None = None
) -> dict[dt.date, tuple[str, ...]]:
    """List the snapshot files of each UTC day in [start, end), in date order.

    Compaction publishes the new file, renews the generation, and only then removes the old files. So a
    file that vanished while we listed either has its replacement in the list, or the generation has changed:
    then we list again.
    """

    def wanted(name: str) -> bool:
        date = partition_date(name)
        return date is not None and (start is None or start <= date) and (end is None or date < end)

    tree = stable_tree(files, wanted)
    days = {date: names for name, names in tree.items() if (date := partition_date(name)) is not None}
    return {
        date: paths
        for date in sorted(days)
        # A folder with the name of a file is kept in the list: reading it fails, and says so.
        if (
            paths := tuple(
                f"{partition_name(date)}/{name.rstrip('/')}"
                for name in days[date]
                if is_snapshot_name(name.rstrip("/"))
            )
        )
    }


def stable_tree(files: Files, wanted: Callable[[str], bool] | None) -> dict[str, list[str]]:
    """List folders at a moment at which no compaction removed anything; refuse what is no store."""
    for attempt in range(_TRIES):
        before = files.generation()
        try:
            tree = files.tree(wanted)
        except NotADirectoryError as error:
            raise NotAStore(f"{files.locate()} is a file; name a folder") from error
        if tree is None:
            return {}
        if files.generation() == before:
            require_store(files, tree[""])
            return tree
        time.sleep(min(0.001 * attempt, 0.05))
    raise StoreFailed(f"cannot list {files.locate()}: compactions never leave it alone")


def require_store(files: Files, root: list[str]) -> None:
    """Refuse a folder that holds something else than snapshots."""
    if root and not any(
        name == f"{MARKER}/" or name.startswith(TEMPORARY_PREFIX) or partition_date(name.rstrip("/"))
        for name in root
    ):
        raise NotAStore(
            f"{files.locate()} is no snapshot store: it has other files or folders ({len(root)}) and no "
            f"observed_date=YYYY-MM-DD among them. Name a new or empty folder, or a store"
        )
