"""What the files and folders of a store are called, and what their names tell.

::

    snapshots/
      .safetykit-store/                 marks the folder as a store
      recent/                           one file per append, and what waits to be moved into its cohort
        recent_<facts>.parquet
        .tmp-<32 hex>                   being written, or left by a crash
      cohorts/                          all batches created on one UTC day
        2026-03-02_<facts>.parquet
        undated_<facts>.parquet         batches whose ids hold no time

The facts: the earliest instant of any row, the first and the last ``observed_at``, rows, batches, open
batches, 122 random bits, and the CRC-32 of all bytes. Nothing from a batch or a policy becomes part of a
name.

Stores of the first layout have ``.safetykit-analytics/`` and
``observed_date=2026-03-02/observations-….parquet``.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetykit_analytics.calendar import DAY_US, from_us, to_us

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Marks a folder as a store, and holds what changes whenever compaction is about to remove files.
MARKER = ".safetykit-store"
#: The same in the first layout: releases that know no other refuse a folder without it.
OLD_MARKER = ".safetykit-analytics"
RECENT, COHORTS = "recent", "cohorts"
UNDATED = "undated"

#: Files that are being written. Hidden, and without ``.parquet``: no tool reads them.
TEMPORARY_PREFIX = ".tmp-"

_OLD_PREFIX = "observed_date="
_OLD_FILE = re.compile(r"observations-([0-9a-f]{32})-([0-9a-f]{8})\.parquet", re.ASCII)
_INSTANT = r"\d{8}T\d{6}\.\d{6}Z"
_FILE = re.compile(
    rf"(recent|undated|\d{{4}}-\d\d-\d\d)_({_INSTANT})_({_INSTANT})_({_INSTANT})_r(\d+)_b(\d+)_o(\d+)"
    r"_([0-9a-f]{32})-([0-9a-f]{8})\.parquet",
    re.ASCII,
)


@dataclass(frozen=True)
class Facts:
    """How much is in rows that lie together; times are microseconds since 1970, UTC.

    `earliest` is the earliest time of any row, `first` and `last` are of ``observed_at``.
    """

    earliest: int
    first: int
    last: int
    n_rows: int
    n_batches: int
    n_open: int


def add_facts(some: Sequence[Facts]) -> Facts:
    """Add up the facts of several files; a batch in two of them counts twice."""
    return Facts(
        min(facts.earliest for facts in some),
        min(facts.first for facts in some),
        max(facts.last for facts in some),
        sum(facts.n_rows for facts in some),
        sum(facts.n_batches for facts in some),
        sum(facts.n_open for facts in some),
    )


@dataclass(frozen=True)
class StoredFile:
    """A file of a store, and what its name tells; `path` is relative to the store.

    `kind` is ``recent``, the name of a cohort, or ``observed_date=…`` for a file of the first layout, whose
    name tells its day alone.
    """

    path: str
    kind: str
    facts: Facts
    token: str

    @property
    def is_recent(self) -> bool:
        """Whether its rows are of any cohorts."""
        return self.kind == RECENT or self.is_old

    @property
    def is_old(self) -> bool:
        """Whether it is of the first layout."""
        return self.kind.startswith(_OLD_PREFIX)


def cohort_name(day: int) -> str:
    """Name the cohort of a day since 1970; -1 is undated."""
    return UNDATED if day < 0 else (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def cohort_order(name: str) -> tuple[bool, str]:
    """Key to sort cohorts by day, undated last."""
    return name == UNDATED, name


def new_token() -> str:
    """Return 122 random bits as 32 hexadecimal digits: no two writers ever draw the same."""
    return uuid.uuid4().hex


def stem(kind: str, facts: Facts) -> str:
    """Write the facts of a file; its footer repeats them."""
    times = [from_us(instant) for instant in (facts.earliest, facts.first, facts.last)]
    # Not %Y, which writes the year 1 as "1" on some systems.
    shown = "_".join(f"{time.year:04}{time:%m%dT%H%M%S.%fZ}" for time in times)
    return f"{kind}_{shown}_r{facts.n_rows}_b{facts.n_batches}_o{facts.n_open}"


def file_path(facts: str, data: bytes | memoryview) -> str:
    """Name a new file: its facts, chance, and the checksum of its bytes."""
    folder = RECENT if facts.startswith(f"{RECENT}_") else COHORTS
    return f"{folder}/{facts}_{new_token()}-{zlib.crc32(data):08x}.parquet"


def stem_of(path: str) -> str:
    """Return the facts in a file's name as they stand there."""
    return path.rpartition("/")[2].rpartition("_")[0]


def old_date(name: str) -> dt.date | None:
    """Read the UTC day from the name of a folder of the first layout; None if it is another folder."""
    try:
        date = dt.date.fromisoformat(name.removeprefix(_OLD_PREFIX))
    except ValueError:
        return None
    # fromisoformat also reads 20261102 and 2026-W45-1, which was never written.
    return date if name == f"{_OLD_PREFIX}{date.isoformat()}" else None


def is_folder_of_files(name: str) -> bool:
    """Return whether a folder in the root of a store holds files of it."""
    return name in (RECENT, COHORTS) or old_date(name) is not None


def parse(folder: str, name: str) -> StoredFile | None:
    """Read a file's name; None if it is not ours."""
    path = f"{folder}/{name}"
    if date := old_date(folder):
        match = _OLD_FILE.fullmatch(name)
        start = (date - dt.date(1970, 1, 1)).days * DAY_US
        return match and StoredFile(path, folder, Facts(start, start, start + DAY_US - 1, 0, 0, 0), match[1])
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    try:
        instants = [to_us(dt.datetime.fromisoformat(match[i])) for i in (2, 3, 4)]
    except ValueError:
        return None
    return StoredFile(path, match[1], Facts(*instants, *(int(match[i]) for i in (5, 6, 7))), match[8])


def checksum_fault(name: str, data: bytes) -> str | None:
    """Compare the bytes of a file with the checksum in its name; None if they agree.

    A page checksum covers a page, but neither its header nor the footer of the file. The CRC in the name
    covers every byte, so it also finds a flipped bit that would turn one valid file into another.
    """
    expected = name.removesuffix(".parquet").rpartition("-")[2]
    if not data:
        return "it is empty (0 bytes)"
    if (found := f"{zlib.crc32(data):08x}") != expected:
        return f"its {len(data):,} bytes have the checksum {found}, its name says {expected}"
    return None
