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
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from safetykit_analytics.store.files import Files

# No append takes that long; what is older was left by a crash.
_TEMPORARY_AGE_S = 86_400.0
# So many recent rows are in memory at a time.
_ROWS_AT_A_TIME = 500_000
# Rows that wait lie in files of so many days of creation: when these move, no others are written again.
_DAYS_TOGETHER = 45
# Recent rows move when they are a quarter of what they move into, or that old.
_QUARTER = 4
_WAIT_US = 90 * DAY_US
# At most this share of a store's rows waits.
_MOST_WAITING = 0.12


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
    #: Recent files to write again; cohorts whose recent rows move, and those that have rows in other files.
    recent: tuple[StoredFile, ...] = ()
    moving: frozenset[str] = frozenset()
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


@dataclass(frozen=True)
class _Recent:
    """What is in a recent file: rows by day of creation, and tokens of the files that they were in before."""

    rows: dict[int, int]
    replaces: frozenset[str]


def _rewrite(work: _Work) -> None:
    """Publish what replaces recent files and cohorts' files; nothing is removed."""
    found = _count_rows(work)
    _choose(work, found)
    shares = _shares(work, found)
    stay: set[str] = set()
    done: set[str] = set()
    for share in shares:
        parts, sources = _recent_rows(work, share, stay)
        kept = defaultdict(list)
        for day in share.days:
            name = cohort_name(day)
            if name in parts:
                done.add(name)
                if not _move(work, name, parts[name], sources[name]):
                    kept[day // _DAYS_TOGETHER].append(name)
        if (
            len(kept) == len(share.sources) == len(shares) == 1
            and not work.published
            and not share.sources[0].is_old
        ):
            # The only file: writing it again would change nothing.
            stay.add(share.sources[0].path)
            continue
        for names in kept.values():
            waiting = [concat([parts[name] for name in names])]
            work.publish(partial(iter, waiting), RECENT, {file for name in names for file in sources[name]})
    for name in sorted(work.listing.cohorts, key=cohort_order):
        if name not in done:
            _move(work, name, None, ())
    if work.published:
        recent = {file for share in shares for file in share.sources if file.path not in stay}
        work.replaced += sorted(recent, key=lambda file: file.path)
    work.count.update(files_before=len(work.replaced))
    work.count.update(bytes_before=work.listing.files.total_size(file.path for file in work.replaced))


def _count_rows(work: _Work) -> dict[StoredFile, _Recent]:
    """Count the rows of the recent files that may be rewritten."""
    found = {}
    for file in work.listing.recent:
        snapshot = work.open(file)
        if snapshot is not None:
            days = cohort_days(snapshot.read(range(snapshot.n_groups), ["batch_id"]).column("batch_id"))
            day, n_rows = np.unique(days, return_counts=True)
            found[file] = _Recent(dict(zip(day.tolist(), n_rows.tolist(), strict=True)), snapshot.replaces)
    return found


def _choose(work: _Work, found: dict[StoredFile, _Recent]) -> None:
    """Choose the days of creation whose recent rows all move, and the recent files to write again.

    These are all files of rows appended since the last compaction. A file of rows that waited already is
    chosen if they move, or if the smaller ones of the same days have as many rows together.
    """
    if any(file.is_old for file in found):
        work.recent = tuple(found)
        return
    n_rows: Counter[int] = Counter()
    waiting: defaultdict[int, list[StoredFile]] = defaultdict(list)
    for file, recent in sorted(found.items(), key=lambda item: (item[0].facts.n_rows, item[0].path)):
        for day, n in recent.rows.items():
            n_rows[day // _DAYS_TOGETHER] += n
        if recent.replaces and len(blocks := {day // _DAYS_TOGETHER for day in recent.rows}) == 1:
            waiting[blocks.pop()].append(file)
    moving = _moving(work, n_rows, waiting)
    left: list[StoredFile] = []
    for block, files in waiting.items():
        n = n_rows[block] - sum(file.facts.n_rows for file in files)
        for file in files:
            if block in moving or file.facts.n_rows <= n:
                n += file.facts.n_rows
            else:
                left.append(file)
    replaced = _replaced(work, found, left)
    chosen = [file for file in found if file not in left]

    def is_due(file: StoredFile) -> bool:
        return file.token in replaced or any(_share_a_key(work, found, file, other) for other in chosen)

    # Each one that is chosen may make another one due.
    while (due := next(filter(is_due, left), None)) is not None:
        chosen.append(due)
        left.remove(due)
    work.recent = tuple(chosen)
    work.waiting = frozenset(cohort_name(day) for file in left for day in found[file].rows)
    work.moving = frozenset(
        cohort_name(day) for some in found.values() for day in some.rows if day // _DAYS_TOGETHER in moving
    )


def _moving(work: _Work, n_rows: Counter[int], waiting: dict[int, list[StoredFile]]) -> set[int]:
    """Choose the blocks of `_DAYS_TOGETHER` days whose recent rows, `n_rows` of each, are due to move."""
    cohorts = work.listing.cohorts

    def n_stored(block: int) -> int:
        days = range(block * _DAYS_TOGETHER, (block + 1) * _DAYS_TOGETHER)
        return sum(file.facts.n_rows for day in days for file in cohorts.get(cohort_name(day), ()))

    share = {block: n / max(1, n_stored(block)) for block, n in n_rows.items()}
    moving = {
        block
        for block in share
        if share[block] * _QUARTER >= 1
        or any(file.facts.first < work.oldest_us for file in waiting.get(block, ()))
    }
    most = _MOST_WAITING * sum(file.facts.n_rows for file in work.listing.all)
    for block in sorted(set(share) - moving, key=lambda block: -share[block]):
        if sum(n for other, n in n_rows.items() if other not in moving) <= most:
            break
        moving.add(block)
    return moving


def _replaced(work: _Work, found: dict[StoredFile, _Recent], left: list[StoredFile]) -> set[str]:
    """Return the tokens of files whose rows others hold: a crash, or somebody who reads, has kept them."""
    days = {day for file in left for day in found[file].rows}
    files = [file for day in days for file in work.listing.cohorts.get(cohort_name(day), ())]
    stored = [snapshot.replaces for file in files if (snapshot := work.open(file)) is not None]
    return {token for some in (*stored, *(found[file].replaces for file in left)) for token in some}


def _share_a_key(work: _Work, found: dict[StoredFile, _Recent], one: StoredFile, other: StoredFile) -> bool:
    """Return whether two recent files have a key in common."""
    if one.facts.last < other.facts.first or other.facts.last < one.facts.first:
        return False
    if found[one].rows.keys().isdisjoint(found[other].rows):
        return False
    first, second = work.open(one), work.open(other)
    if first is None or second is None:
        return False
    # Each may have a key twice, which does not matter here.
    return _meet(*(sorted_unique(some.read(range(some.n_groups), KEY_COLUMNS)) for some in (first, second)))


def _shares(work: _Work, found: dict[StoredFile, _Recent]) -> list[_Share]:
    """Divide the cohorts that have recent rows, so that each share fits into memory."""
    rows: Counter[int] = Counter()
    for file in work.recent:
        rows.update(found[file].rows)
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
        _Share(share, tuple(file for file in work.recent if not found[file].rows.keys().isdisjoint(share)))
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
            inside = np.isin(days, share.days)
            if not inside.all():
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
    due = name in work.moving
    if not n_thin and len(stored) < 2 and (stays or not (due or _moves(work, cohort, snapshots))):
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
