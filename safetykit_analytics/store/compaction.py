"""Many small files → one sorted file per closed day, while others read, append and compact.

New file published and on disk → generation renewed → old files removed, and never otherwise: at every moment
all rows are in some listed file, and a reader who might have missed one is told to list again. Place in the
flow: above `partition`; used by `SnapshotStore.compact` alone.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from safetykit_analytics.errors import DamagedFile, StoreFailed
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store.keys import same_as_before, sorted_unique
from safetykit_analytics.store.layout import (
    TEMPORARY_PREFIX,
    is_snapshot_name,
    partition_date,
    partition_name,
    snapshot_name,
)
from safetykit_analytics.store.parquet import SCHEMA_VERSION, decode, encode
from safetykit_analytics.store.partition import read_bytes, stable_tree
from safetykit_analytics.wording import plural

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from safetykit_analytics.store.files import Files

# A round renews the generation once, which sends readers who are just listing back to the start; it also is
# what must fit into memory, and onto the disk beside the old files.
_DAYS_PER_ROUND = 16
# No append takes that long; what is older was left by a crash.
_TEMPORARY_AGE_S = 86_400.0


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes
    ----------
    days : int
        Days that were rewritten into one file.
    files_before, files_after, bytes_before, bytes_after : int
        Of those days.
    observations : int
        Rows of those days now.
    duplicates : int
        Rows that were dropped because another file, or the same, had their key.
    thinned : int
        Rows that were dropped from inside of unchanged runs; 0 unless it was asked for.
    temporaries : int
        Files removed that interrupted writes had left more than a day ago.
    skipped : tuple of (str, str)
        Days that were left as they are, and why.
    """

    days: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    observations: int = 0
    duplicates: int = 0
    thinned: int = 0
    temporaries: int = 0
    skipped: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        if self.days:
            done = (
                f"compacted {plural(self.days, 'day')}: {plural(self.files_before, 'file')} → "
                f"{self.files_after:,}, {self.bytes_before:,} bytes → {self.bytes_after:,}, "
                f"{plural(self.observations, 'observation')}"
            )
        else:
            done = "nothing to compact"
        parts = [done]
        for count, *what in (
            (self.duplicates, "duplicate dropped", "duplicates dropped"),
            (self.thinned, "unchanged observation thinned", "unchanged observations thinned"),
            (self.temporaries, "leftover of a crash removed", "leftovers of crashes removed"),
        ):
            parts += [plural(count, *what)] if count else []
        parts += [f"{folder} left alone: {reason}" for folder, reason in self.skipped]
        return "; ".join(parts)


@dataclass(frozen=True)
class _Rewrite:
    """One day's new file, and the old ones whose rows it holds."""

    path: str
    data: bytes
    old: tuple[str, ...]
    report: Compaction


def compact_days(files: Files, *, today: dt.date, thin_before: dt.date | None) -> Compaction:
    """Rewrite all days before `today` that are not one sorted file; raise for damage when that is done."""
    tree = stable_tree(files, lambda name: partition_date(name) is not None)
    days = sorted(
        (date, name) for name in tree if (date := partition_date(name)) is not None and date < today
    )
    total = Compaction()
    damage: DamagedFile | None = None
    for round_ in _batched(days, _DAYS_PER_ROUND):
        rewrites = []
        for date, folder in round_:
            paths = tuple(f"{folder}/{name}" for name in tree[folder] if is_snapshot_name(name))
            try:
                rewrite = _rewrite(files, date, paths, thin=thin_before is not None and date < thin_before)
            except DamagedFile as error:
                damage = damage or error
                continue
            except FileNotFoundError:
                rewrite = "another compaction is at work on it"
            if isinstance(rewrite, str):
                total = replace(total, skipped=(*total.skipped, (folder, rewrite)))
            elif rewrite is not None:
                rewrites.append(rewrite)
        if rewrites:
            _replace(files, rewrites)
            for rewrite in rewrites:
                total = _sum(total, rewrite.report)
    if damage is not None:
        raise damage
    leftovers = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in tree.items()
        for name in names
        if name.startswith(TEMPORARY_PREFIX)
    ]
    return replace(total, temporaries=files.sweep(leftovers, older_than_s=_TEMPORARY_AGE_S))


def thinned(table: Any) -> Any:
    """Drop what lies inside of runs of unchanged observations: all but the first and the last of each run.

    Nothing grew in between, so no increment moves, no bucket changes and no bound widens; the first keeps
    when a state began, the last how long it was seen. `table` is sorted by key and unique.
    """
    same = same_as_before(table, tuple(name for name in OBSERVATION_SCHEMA.names if name != "observed_at"))
    inside = same.copy()
    inside[:-1] &= same[1:]
    inside[-1:] = False
    return table.filter(pa.array(~inside)) if inside.any() else table


def _rewrite(files: Files, date: dt.date, paths: tuple[str, ...], *, thin: bool) -> _Rewrite | str | None:
    """Prepare a day's one file; None if it has it already, a reason if it must be left alone."""
    found = []
    for path in paths:
        data = read_bytes(files, path)
        place = files.locate(path)
        # A day with one file needs nothing but its footer, unless it is to be thinned.
        columns = ["is_terminal"] if len(paths) == 1 and not thin else None
        snapshot = decode(data, place=place, date=date, columns=columns)
        if snapshot is None:
            continue
        if snapshot.version > SCHEMA_VERSION:
            return f"a later release wrote it (schema {snapshot.version}); rewriting would lose columns"
        if columns is not None:
            if snapshot.is_sorted:
                return None
            snapshot = decode(data, place=place, date=date)
            assert snapshot is not None
        found.append((path, len(data), snapshot))
    if not found:
        return None
    rows = sum(snapshot.table.num_rows for _, _, snapshot in found)
    unique = sorted_unique(pa.concat_tables([snapshot.table for _, _, snapshot in found]))
    table = thinned(unique) if thin else unique
    if len(found) == 1 and found[0][2].is_sorted and table.num_rows == rows:
        return None
    data = encode(table, date)
    path = f"{partition_name(date)}/{snapshot_name(data)}"
    # The old files are about to go: be sure that the new one says the same.
    written = decode(data, place=path, date=date)
    if written is None or not written.table.equals(table):
        raise StoreFailed(f"{partition_name(date)} would not be read back as it was written; left it alone")
    report = Compaction(
        days=1,
        files_before=len(found),
        files_after=1,
        bytes_before=sum(size for _, size, _ in found),
        bytes_after=len(data),
        observations=table.num_rows,
        duplicates=rows - unique.num_rows,
        thinned=unique.num_rows - table.num_rows,
    )
    return _Rewrite(path, data, tuple(path for path, _, _ in found), report)


def _replace(files: Files, rewrites: list[_Rewrite]) -> None:
    """Publish the new files, tell readers, remove the old ones: in this order, whatever happens."""
    files.publish({rewrite.path: rewrite.data for rewrite in rewrites})
    try:
        files.renew_generation()
    except BaseException:
        # Nothing was removed yet. Left there, a full disk would get a copy more with every attempt.
        with contextlib.suppress(OSError):
            files.remove([rewrite.path for rewrite in rewrites])
        raise
    files.remove(path for rewrite in rewrites for path in rewrite.old)


def _sum(total: Compaction, part: Compaction) -> Compaction:
    return replace(
        total,
        **{name: getattr(total, name) + getattr(part, name) for name in Compaction.__dataclass_fields__},
    )


def _batched(days: list[tuple[dt.date, str]], size: int) -> Iterator[tuple[tuple[dt.date, str], ...]]:
    """Cut a list into pieces, as itertools.batched does from Python 3.12 on."""
    rest = iter(days)
    while piece := tuple(itertools.islice(rest, size)):
        yield piece
