"""One snapshot file: a table to bytes and back, in today's schema whatever release wrote it.

Place in the flow: between `store`'s logic and pyarrow. Bytes in, tables out; opens no file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from safetykit_analytics.errors import DamagedFile, NewerSchemaWarning
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.layout import checksum_fault

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

#: Goes up by one whenever a column is added to `OBSERVATION_SCHEMA` or changes its meaning.
SCHEMA_VERSION = 1

#: What files from before a column existed hold in it, where the schema does not allow null.
DEFAULTS: dict[str, Any] = {}

_VERSION_KEY = b"safetykit_analytics.schema_version"
_SORTED_KEY = b"safetykit_analytics.sorted_unique_by"
_DATE_KEY = b"safetykit_analytics.observed_date"
_SORTED_BY = ",".join(KEY_COLUMNS).encode()

# Sorted by batch, text repeats from row to row: a dictionary makes it runs, and readers get integers.
DICTIONARY_COLUMNS = ("batch_id", "batch_status", "policy_id", "policy_version")
# Counters and clocks grow in small steps. The other numbers are constant within a batch: plain, zstd makes
# them smaller than a dictionary does (1.9 for 3.2 bytes per observation, for both), and they decode faster.
_ENCODINGS = dict.fromkeys(
    ("observed_at", "success_count", "error_count", "cancelled_count", "pending_count"), "DELTA_BINARY_PACKED"
)
# Decoding takes equally long at any level; from 3 to 9 a file shrinks by 4 %, an append takes 2 ms more.
_ZSTD_LEVEL = 9
# A dictionary that outgrows its page is given up half-way; a day's ids must fit.
_DICTIONARY_BYTES = 1 << 28
_ROWS_PER_GROUP = 1 << 22


@dataclass(frozen=True)
class Snapshot:
    """What a file said about itself, and its rows."""

    table: Any
    version: int
    is_sorted: bool


def encode(table: Any, date: dt.date) -> bytes:
    """Write the observations of one UTC day, sorted by key and without duplicates, as a Parquet file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=list(DICTIONARY_COLUMNS),
        column_encoding=_ENCODINGS,
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
        write_statistics=["batch_id", "observed_at", "policy_id"],
        sorting_columns=pq.SortingColumn.from_ordering(
            table.schema, [(name, "ascending") for name in KEY_COLUMNS]
        ),
        # The Parquet types say all that there is to say; an Arrow schema would be a second truth.
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        writer.add_key_value_metadata(
            {
                _VERSION_KEY.decode(): str(SCHEMA_VERSION),
                _SORTED_KEY.decode(): _SORTED_BY.decode(),
                _DATE_KEY.decode(): date.isoformat(),
            }
        )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode(
    data: bytes,
    *,
    place: str,
    date: dt.date,
    columns: Sequence[str] | None = None,
    dictionaries: bool = False,
    verify_pages: bool = False,
) -> Snapshot | None:
    """Read a snapshot file, after checking every byte of it.

    Parameters
    ----------
    data : bytes
        The whole file.
    place : str
        Its full name, for messages; the last part holds the checksum.
    date : datetime.date
        The UTC day of the folder that it was found in.
    columns : sequence of str, optional
        Columns of `OBSERVATION_SCHEMA`, in the order wanted; all by default.
    dictionaries : bool
        Give strings as ``dictionary<int32, string>``.
    verify_pages : bool
        Check the checksum of each page too, as other tools would. It can find nothing that the one over all
        bytes does not, unless the file was wrong when it was written.

    Returns
    -------
    Snapshot or None
        None if the file is sound but not ours: it has no schema version.

    Raises
    ------
    DamagedFile
        The bytes are not those that were written, or cannot be read as today's schema.
    """
    if fault := checksum_fault(place.rpartition("/")[2], data):
        raise _damaged(place, fault)
    try:
        file = _open(data, dictionaries=dictionaries, verify_pages=verify_pages)
        footer = file.metadata.metadata or {}
        if _VERSION_KEY not in footer:
            return None
        version = int(footer[_VERSION_KEY])
        names = OBSERVATION_SCHEMA.names if columns is None else list(columns)
        there = set(file.schema_arrow.names)
        read = [name for name in names if name in there]
        # Without any column there would be no number of rows either.
        table = file.read(read or [file.schema_arrow.names[0]], use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(place, f"it is no readable snapshot ({type(error).__name__})") from error
    if footer.get(_DATE_KEY, b"").decode(errors="replace") != date.isoformat():
        of = footer.get(_DATE_KEY, b"another day").decode(errors="replace")
        raise _damaged(place, f"it belongs into the folder of {of}; move it back")
    if version > SCHEMA_VERSION:
        warnings.warn(
            f"snapshots were written by a later release (schema {version}, known here: {SCHEMA_VERSION}): "
            f"reading the columns that are known; upgrade safetykit-analytics to see all",
            NewerSchemaWarning,
            stacklevel=2,
        )
    schema = observation_schema(names, dictionaries=dictionaries)
    return Snapshot(
        table=pa.table([_as_today(table, field, place=place) for field in schema], schema=schema),
        version=version,
        is_sorted=footer.get(_SORTED_KEY) == _SORTED_BY,
    )


def _open(data: bytes, *, dictionaries: bool, verify_pages: bool) -> Any:
    try:
        return pq.ParquetFile(
            pa.BufferReader(data),
            read_dictionary=DICTIONARY_COLUMNS if dictionaries else None,
            pre_buffer=False,
            page_checksum_verification=verify_pages,
        )
    except KeyError:
        # The file is older than one of these columns; `_as_today` encodes the others.
        return _open(data, dictionaries=False, verify_pages=verify_pages)


def observation_schema(names: Sequence[str], *, dictionaries: bool) -> Any:
    """Give the schema of some columns of observations, with strings as they are or dictionary-encoded."""
    fields = [OBSERVATION_SCHEMA.field(name) for name in names]
    if dictionaries:
        fields = [
            field.with_type(pa.dictionary(pa.int32(), field.type))
            if pa.types.is_string(field.type)
            else field
            for field in fields
        ]
    return pa.schema(fields)


def _as_today(table: Any, field: Any, *, place: str) -> Any:
    """Give a column of a file in today's type, text also plain; fill in what the file is too old to have."""
    name = field.name
    plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if name not in table.column_names:
        if not field.nullable and name not in DEFAULTS:
            raise _damaged(place, f"it has no column {name!r}, which every release has written")
        return pa.repeat(pa.scalar(DEFAULTS.get(name), plain), table.num_rows)
    column = table.column(name)
    if not field.nullable and column.null_count:
        raise _damaged(place, f"column {name!r} has nulls, which it never may")
    if column.type == field.type:
        return column
    if not _same_kind(column.type, plain):
        raise _damaged(place, f"column {name!r} holds {column.type}; only {plain} is known here")
    try:
        return column.cast(plain)
    except pa.ArrowInvalid as error:
        raise _damaged(
            place, f"column {name!r} holds {column.type} values that do not fit {plain}"
        ) from error


def _same_kind(found: Any, expected: Any) -> bool:
    """Say whether a cast that loses nothing also means the same: a bare number is no instant."""
    if pa.types.is_timestamp(expected):
        return bool(pa.types.is_timestamp(found) and found.tz == expected.tz)
    if pa.types.is_integer(expected):
        return bool(pa.types.is_integer(found))
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return False


def _damaged(place: str, fault: str) -> DamagedFile:
    return DamagedFile(
        f"{place} cannot be read: {fault}. Restore it from a backup, or move it away to read the rest; "
        f"verify() lists all such files",
        path=place,
    )
