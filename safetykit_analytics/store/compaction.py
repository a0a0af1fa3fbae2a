"""Recent rows → the files of their cohorts, while others read, append and compact.

New files published → generation renewed → old files removed → generation renewed: at every moment all rows
are in some listed file, and a reader who might have missed one lists again.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.calendar import DAY_US
from safetykit_analytics.errors import DamagedFile, StoreChanged, StoreFailed
from safetykit_analytics.formatting import plural
from safetykit_analytics.keys import concat, sorted_unique, thinned
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.batches import last_seen
from safetykit_analytics.store.cohort import Cohort, make_cohort
from safetykit_analytics.store.listing import Listing, list_store, open_file
from safetykit_analytics.store.names import (
    MARKER,
    RECENT,
    TEMPORARY_PREFIX,
    StoredFile,
    cohort_name,
    cohort_order,
    old_date,
)
from safetykit_analytics.store.parquet import SCHEMA_VERSION, Snapshot, decode, encode
from safetykit_analytics.store.recent import split
from safetykit_analytics.store.row_filter import RowFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from safetykit_analytics.store.files import Files

# No append takes that long; what is older was left by a crash.
_TEMPORARY_AGE_S = 86_400.0
# So many recent rows are in memory at a time.
_ROWS_AT_A_TIME = 500_000
# A recent file is written again when those that are smaller have half as many rows together: so a row that
# waits is written some four times in a year, and not every day.
_HALF = 2
# A cohort's recent rows move into its file when they are a quarter of it, or that old.
_QUARTER = 4
_WAIT_US = 90 * DAY_US


@dataclass(frozen=True)
class Compaction:
    """What a compaction did: cohorts written, and the files that were read and written for them.

    `duplicates` are rows dropped because another row had their key, `thinned` those dropped from within
    unchanged runs, `temporaries` removed files that writes had left over a day ago, `skipped` the paths and
    reasons of files left as they are.
    """

    cohorts: int = 0
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
        """Write it in one line."""
        done = "nothing to compact"
        if self.files_after:
            done = (
                f"compacted {plural(self.cohorts, 'cohort')}: {plural(self.files_before, 'file')} → "
                f"{self.files_after:,}, {self.bytes_before:,} bytes → {self.bytes_after:,}, "
                f"{plural(self.observations, 'observation')}"
            )
        parts = [done]
        for count, *what in (
            (self.duplicates, "duplicate dropped", "duplicates dropped"),
            (self.thinned, "unchanged observation thinned", "unchanged observations thinned"),
            (self.temporaries, "leftover of a crash removed", "leftovers of crashes removed"),
        ):
            parts += [plural(count, *what)] if count else []
        parts += [f"{path} left alone: {reason}" for path, reason in self.skipped]
        return "; ".join(parts)


@dataclass
class _Work:
    """A compaction under way."""

    listing: Listing
    thin_before_us: int | None
    oldest_us: int
    #: Recent files to write again; the others stay, and with them the rows of these cohorts.
    recent: tuple[StoredFile, ...] = ()
    waiting: frozenset[str] = frozenset()
    count: Counter[str] = field(default_factory=Counter)
    published: list[str] = field(default_factory=list)
    replaced: list[StoredFile] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    damage: DamagedFile | None = None

    def open(self, file: StoredFile) -> Snapshot | None:
        """Open a file that may be rewritten; None if it must be left alone."""
        try:
            snapshot = open_file(self.listing.files, self.listing.generation, file)
        except StoreChanged:
            self.skip(file, "another compaction is at work on it")
            return None
        except DamagedFile as error:
            self.damage = self.damage or error
            return None
        if snapshot is not None and snapshot.version > SCHEMA_VERSION:
            reason = f"a later release wrote it (schema {snapshot.version}); rewriting would lose columns"
            self.skip(file, reason)
            return None
        return snapshot

    def skip(self, file: StoredFile, reason: str) -> None:
        """Note a file that is left alone, once."""
        if (file.path, reason) not in self.skipped:
            self.skipped.append((file.path, reason))

    def publish(self, tables: Callable[[], Iterable[Any]], kind: str, replaces: Iterable[StoredFile]) -> int:
        """Write a file, and be sure that it tells the same; return its rows."""
        files = self.listing.files
        new = encode(tables(), kind=kind, replaces={file.token for file in replaces})
        written = decode(new.data, path=new.path, place=files.locate(new.path))
        group = 0
        for table, n in zip(tables(), new.groups, strict=True):
            assert written is not None
            rows = written.read(range(group, group + n), OBSERVATION_SCHEMA.names)
            if not rows.cast(OBSERVATION_SCHEMA).equals(table.cast(OBSERVATION_SCHEMA)):
                raise StoreFailed(f"{new.path} would not be read back as it was written; nothing was removed")
            group += n
        files.publish(new.path, new.data)
        self.published.append(new.path)
        self.count.update(files_after=1, bytes_after=len(new.data), observations=new.n_rows)
        return new.n_rows


def compact_store(files: Files, *, thin_before_us: int | None) -> Compaction:
    """Move recent rows into their cohorts' files; raise for damage when that is done."""
    listing = list_store(files)
    latest = max((file.facts.last for file in listing.all), default=0)
    work = _Work(listing, thin_before_us, latest - _WAIT_US)
    if listing.all and f"{MARKER}/" not in listing.tree[""]:
        files.create()
    try:
        _rewrite(work)
        if work.published:
            files.renew_generation()
    except BaseException:
        # Nothing was removed yet. Left there, a full disk would get a copy more with every attempt.
        with contextlib.suppress(OSError):
            files.remove(work.published)
        raise
    if work.published:
        if any(file.is_old for file in work.replaced):
            # Else they would read what is left while the old files go.
            files.refuse_old()
        stay = files.remove(file.path for file in work.replaced)
        files.renew_generation()
        work.skipped += [(path, "it is open elsewhere and goes next time") for path in stay]
    old_folders = [folder for folder in listing.tree if old_date(folder)]
    if f"{MARKER}/" in (files.tree(None) or {"": []})[""]:
        files.retire(old_folders)
    if work.damage is not None:
        raise work.damage
    leftovers = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in listing.tree.items()
        for name in names
        if name.startswith(TEMPORARY_PREFIX)
    ]
    swept = files.sweep(leftovers, older_than_s=_TEMPORARY_AGE_S)
    return Compaction(**work.count, temporaries=swept, skipped=tuple(work.skipped))


@dataclass(frozen=True)
class _Share:
    """Some cohorts, and the recent files that have rows of them."""

    days: tuple[int, ...]
    sources: tuple[StoredFile, ...]


def _rewrite(work: _Work) -> None:
    """Publish what replaces recent files and cohorts' files; nothing is removed."""
    work.recent, work.waiting = _choose_recent(work)
    shares = _shares(work)
    stay: set[str] = set()
    done: set[str] = set()
    for share in shares:
        parts, sources = _recent_rows(work, share, stay)
        kept = {}
        for name in sorted(parts, key=cohort_order):
            done.add(name)
            if not _move(work, name, parts[name], sources[name]):
                kept[name] = parts[name]
        if (
            kept
            and not work.published
            and len(share.sources) == len(shares) == 1
            and not share.sources[0].is_old
        ):
            # The only file: writing it again would change nothing.
            stay.add(share.sources[0].path)
        elif kept:
            waiting = [concat(list(kept.values()))]
            work.publish(partial(iter, waiting), RECENT, {file for name in kept for file in sources[name]})
    for name in sorted(work.listing.cohorts, key=cohort_order):
        if name not in done:
            _move(work, name, None, ())
    if work.published:
        recent = {file for share in shares for file in share.sources if file.path not in stay}
        work.replaced += sorted(recent, key=lambda file: file.path)
    work.count.update(files_before=len(work.replaced))
    work.count.update(bytes_before=work.listing.files.total_size(file.path for file in work.replaced))


def _choose_recent(work: _Work) -> tuple[tuple[StoredFile, ...], frozenset[str]]:
    """Choose the recent files to write again, and find the cohorts that have rows in the others.

    Others are files of rows that waited already: all rows appended since the last compaction are chosen.
    """
    chosen: list[StoredFile] = []
    waiting: dict[StoredFile, Snapshot] = {}
    n_rows = 0
    is_conversion = any(file.is_old for file in work.listing.recent)
    for file in sorted(work.listing.recent, key=lambda file: (file.facts.n_rows, file.path)):
        snapshot = None if is_conversion or n_rows * _HALF >= file.facts.n_rows else work.open(file)
        if snapshot is None or not snapshot.replaces:
            chosen.append(file)
            n_rows += file.facts.n_rows
        else:
            waiting[file] = snapshot

    replaced = _replaced(work, waiting.values())

    def is_due(file: StoredFile) -> bool:
        return (
            n_rows * _HALF >= file.facts.n_rows
            or file.facts.first < work.oldest_us - _WAIT_US
            or file.token in replaced
            or any(_share_a_key(work, waiting[file], file, other) for other in chosen)
        )

    # Each one that is chosen may make another one due.
    while (due := next(filter(is_due, waiting), None)) is not None:
        chosen.append(due)
        n_rows += due.facts.n_rows
        del waiting[due]
    return tuple(chosen), frozenset(name for some in waiting.values() for name in _cohorts_in(some))


def _replaced(work: _Work, waiting: Collection[Snapshot]) -> set[str]:
    """Return the tokens of files whose rows others hold: a crash, or somebody who reads, has kept them."""
    names = {name for some in waiting for name in _cohorts_in(some)}
    files = [file for name in names for file in work.listing.cohorts.get(name, ())]
    stored = [snapshot for file in files if (snapshot := work.open(file)) is not None]
    return {token for snapshot in (*waiting, *stored) for token in snapshot.replaces}


def _share_a_key(work: _Work, snapshot: Snapshot, file: StoredFile, other: StoredFile) -> bool:
    """Return whether two recent files have a key in common."""
    if file.facts.last < other.facts.first or other.facts.last < file.facts.first:
        return False
    second = work.open(other)
    if second is None:
        return False
    # Each may have a key twice, which does not matter here.
    keys = [sorted_unique(one.read(range(one.n_groups), KEY_COLUMNS)) for one in (snapshot, second)]
    return _meet(*keys)


def _cohorts_in(snapshot: Snapshot) -> set[str]:
    """Return the cohorts that a recent file has rows of; its row groups are of one cohort each."""
    ranges = [snapshot.id_range(group) for group in range(snapshot.n_groups)]
    if None in ranges:
        ids = snapshot.read(range(snapshot.n_groups), ["batch_id"]).column("batch_id")
        return {cohort_name(day) for day in np.unique(cohort_days(ids)).tolist()}
    return {cohort_name(day) for day in cohort_days([some[0] for some in ranges if some]).tolist()}


def _shares(work: _Work) -> list[_Share]:
    """Divide the cohorts that have recent rows, so that each share fits into memory."""
    recent = work.recent
    if (
        not any(file.is_old for file in recent)
        and sum(file.facts.n_rows for file in recent) <= _ROWS_AT_A_TIME
    ):
        return [_Share((), recent)] if recent else []
    rows: Counter[int] = Counter()
    days_of: dict[StoredFile, set[int]] = {}
    for file in recent:
        snapshot = work.open(file)
        if snapshot is not None:
            days = cohort_days(snapshot.read(range(snapshot.n_groups), ["batch_id"]).column("batch_id"))
            found, counts = np.unique(days, return_counts=True)
            rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            days_of[file] = set(found.tolist())
    shares: list[tuple[int, ...]] = []
    some: list[int] = []
    size = 0
    for day in sorted(rows):
        if some and size + rows[day] > _ROWS_AT_A_TIME:
            shares.append(tuple(some))
            some, size = [], 0
        some.append(day)
        size += rows[day]
    return [
        _Share(share, tuple(file for file, found in days_of.items() if not found.isdisjoint(share)))
        for share in ([*shares, tuple(some)] if some else [])
    ]


def _recent_rows(
    work: _Work, share: _Share, stay: set[str]
) -> tuple[dict[str, Any], dict[str, list[StoredFile]]]:
    """Read the recent rows of some cohorts, by cohort, and the files that they are from."""
    sources: defaultdict[str, list[StoredFile]] = defaultdict(list)

    def tables() -> Iterator[Any]:
        for file in share.sources:
            snapshot = work.open(file)
            if snapshot is None:
                stay.add(file.path)
                continue
            table = snapshot.read(range(snapshot.n_groups), OBSERVATION_SCHEMA.names)
            days = cohort_days(table.column("batch_id"))
            if share.days:
                inside = np.isin(days, share.days)
                table, days = table.filter(pa.array(inside)), days[inside]
            for day in np.unique(days).tolist():
                sources[cohort_name(day)].append(file)
            work.count.update(duplicates=table.num_rows)
            yield table

    parts = split(tables())
    work.count.update(duplicates=-sum(part.num_rows for part in parts.values()))
    return parts, sources


def _move(work: _Work, name: str, recent: Any, sources: Sequence[StoredFile]) -> bool:
    """Write a cohort's file anew if that is worth it; False if its recent rows stay where they are."""
    listing = work.listing
    stored = listing.cohorts.get(name, ())
    snapshots = [snapshot for file in stored if (snapshot := work.open(file)) is not None]
    if len(snapshots) < len(stored):
        return False
    cohort = make_cohort(name, listing, recent)
    n_before = sum(file.facts.n_rows for file in stored) + (0 if recent is None else recent.num_rows)
    n_thin = _count_thin(cohort, work.thin_before_us)

    def tables() -> Iterator[Any]:
        return cohort.tables() if not n_thin else _thinned(cohort, work.thin_before_us)

    stays = recent is None or name in work.waiting
    if not n_thin and len(stored) < 2 and (stays or not _moves(work, cohort, snapshots)):
        return False
    n_rows = work.publish(tables, name, [*stored, *sources])
    work.replaced += stored
    work.count.update(cohorts=1, thinned=n_thin, duplicates=n_before - n_rows - n_thin)
    return True


def _count_thin(cohort: Cohort, before_us: int | None) -> int:
    if before_us is None or cohort.first_observed >= before_us:
        return 0
    return sum(table.num_rows - thinned(table, before_us=before_us).num_rows for table in cohort.tables())


def _thinned(cohort: Cohort, before_us: int | None) -> Iterator[Any]:
    assert before_us is not None
    for table in cohort.tables():
        yield thinned(table, before_us=before_us)


def _moves(work: _Work, cohort: Cohort, snapshots: list[Snapshot]) -> bool:
    """Decide whether a cohort's recent rows go into its one file, if it has one."""
    if not snapshots:
        return True
    (snapshot,), (file,) = snapshots, cohort.stored
    at = cohort.recent.column("observed_at").cast(pa.int64()).to_numpy()
    if len(at) * _QUARTER >= file.facts.n_rows or at.min() < work.oldest_us:
        return True
    last = last_seen(cohort.recent)
    if all(terminal for _, terminal in last.values()) and all(
        batch in last and last[batch][0] > seen for batch, seen in snapshot.open.items()
    ):
        return True
    return bool(at.min() <= file.facts.last) and _repeats(snapshot, cohort.recent)


def _repeats(snapshot: Snapshot, recent: Any) -> bool:
    """Look for a key that is in a file and among recent rows."""
    same = RowFilter(sorted(pc.unique(recent.column("batch_id")).to_pylist()))
    return _meet(same.read(snapshot, same.groups(snapshot), KEY_COLUMNS), recent.select(KEY_COLUMNS))


def _meet(keys: Any, others: Any) -> bool:
    """Return whether two tables, each without a key twice, have a key in common."""
    return bool(sorted_unique(concat([keys, others])).num_rows < keys.num_rows + others.num_rows)
