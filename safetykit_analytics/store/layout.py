"""What the files and folders of a store are called.

::

    snapshots/
      .safetykit-analytics/                    marks the folder as a store
      observed_date=2026-11-02/                the UTC day of observed_at
        observations-<32 hex>-<8 hex>.parquet  never collides; ends in the CRC-32 of all its bytes
        .tmp-<32 hex>                          being written, or left by a crash

Nothing from a batch or a policy ever becomes part of a name. Place in the flow: below all of `store`; text
in, text out.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
import zlib

#: Marks a folder as a store, and holds what changes whenever compaction is about to remove files.
MARKER = ".safetykit-analytics"

#: Files that are being written. Hidden, and without ``.parquet``: no tool reads them.
TEMPORARY_PREFIX = ".tmp-"

_PARTITION_PREFIX = "observed_date="
_FILE_NAME = re.compile(r"observations-[0-9a-f]{32}-([0-9a-f]{8})\.parquet", re.ASCII)


def partition_name(date: dt.date) -> str:
    """Name the folder of a UTC day."""
    return f"{_PARTITION_PREFIX}{date.isoformat()}"


def partition_date(name: str) -> dt.date | None:
    """Read the UTC day from a folder's name; None if it is no partition of a store."""
    try:
        date = dt.date.fromisoformat(name.removeprefix(_PARTITION_PREFIX))
    except ValueError:
        return None
    # fromisoformat also reads 20261102 and 2026-W45-1, which we never write.
    return date if name == partition_name(date) else None


def new_token() -> str:
    """Give 122 random bits as 32 hexadecimal digits: no two writers ever draw the same."""
    return uuid.uuid4().hex


def snapshot_name(data: bytes | memoryview) -> str:
    """Name a new file after nothing but chance and the checksum of its bytes."""
    return f"observations-{new_token()}-{zlib.crc32(data):08x}.parquet"


def is_snapshot_name(name: str) -> bool:
    """Say whether a file is ours by its name."""
    return _FILE_NAME.fullmatch(name) is not None


def checksum_fault(name: str, data: bytes) -> str | None:
    """Say what is wrong with the bytes of a snapshot file, None if nothing.

    A page checksum covers a page, but neither its header nor the footer of the file. The CRC in the name
    covers every byte, so it also finds a flipped bit that would turn one valid file into another.
    """
    match = _FILE_NAME.fullmatch(name)
    expected = match.group(1) if match else "none"
    if not data:
        return "it is empty (0 bytes)"
    if (found := f"{zlib.crc32(data):08x}") != expected:
        return f"its {len(data):,} bytes have the checksum {found}, its name says {expected}"
    return None
