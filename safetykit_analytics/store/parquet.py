"""One file: a table to bytes and back, in today's schema whatever release wrote it. Opens no file."""

from __future__ import annotations

import itertools
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safetykit_analytics.arrays import run_starts
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.errors import DamagedFile, NewerSchemaWarning
from safetykit_analytics.keys import ranked
from safetykit_analytics.schema import KEY_COLUMNS, OBSERVATION_SCHEMA
from safetykit_analytics.store.names import (
    RECENT,
    Facts,
    add_facts,
    checksum_fault,
    file_path,
    old_date,
    stem,
    stem_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Goes up by one whenever a column is added to `OBSERVATION_SCHEMA` or changes its meaning.
SCHEMA_VERSION = 1

#: What files from before a column existed hold in it, where the schema does not allow null.
DEFAULTS: dict[str, Any] = {}

_PREFIX = "safetykit_analytics."
# Sorted by batch, text repeats from row to row: a dictionary makes it runs, and readers get integers.
DICTIONARY_COLUMNS = ("batch_id", "batch_status", "policy_id", "policy_version")
# Counters and clocks grow in small steps. The other numbers are constant within a batch: plain, zstd makes
# them smaller than a dictionary does, and they decode faster.
_ENCODINGS = dict.fromkeys(
    ("observed_at", "success_count", "error_count", "cancelled_count", "pending_count"), "DELTA_BINARY_PACKED"
)
_ZSTD_LEVEL = 9
# A dictionary that outgrows its page is given up half-way; the ids of a row group must fit.
_DICTIONARY_BYTES = 1 << 28
# A recent file with fewer rows for each batch is as quickly read as its footer would be.
_ROWS_TO_TELL = 4
#: Row groups end between batches and hold at most this many rows, unless one batch alone has more.
ROWS_PER_GROUP = 1 << 16


@dataclass(frozen=True)
class Encoded:
    """A new file: its path in the store, its bytes, and how many row groups each of the tables took."""

    path: str
    data: bytes
    groups: tuple[int, ...]
    n_rows: int


def encode(tables: Iterable[Any], *, kind: str, replaces: Iterable[str] = ()) -> Encoded:
    """Write observations, at least one and no batch in two tables, as a Parquet file.

    Tables of a cohort are sorted by key and unique, one after the other; recent rows are sorted by cohort,
    then key. `replaces` holds tokens of files whose rows are all in this one or in another written with it.
    """
    sink = pa.BufferOutputStream()
    facts: list[Facts] = []
    groups: list[int] = []
    still_open: dict[str, int] = {}
    ended: dict[str, int] = {}
    with pq.ParquetWriter(
        sink,
        OBSERVATION_SCHEMA,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=list(DICTIONARY_COLUMNS),
        column_encoding=_ENCODINGS,
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
        write_statistics=True,
        sorting_columns=None
        if kind == RECENT
        else pq.SortingColumn.from_ordering(
            OBSERVATION_SCHEMA, [(name, "ascending") for name in KEY_COLUMNS]
        ),
        # The Parquet types suffice; an Arrow schema beside them could contradict them.
        store_schema=False,
    ) as writer:
        for some in tables:
            table, rank = ranked(some)
            starts = np.flatnonzero(run_starts(rank))
            facts.append(facts_of(table, starts))
            still_open |= _last_seen(table, starts, terminal=False)
            ended |= _last_seen(table, starts, terminal=True) if kind == RECENT else {}
            cuts = _cuts(starts, _cohort_starts(table) if kind == RECENT else [0], len(rank))
            for begin, end in itertools.pairwise(cuts):
                # As plain text: of a dictionary, values that do not occur in the group would be written, too.
                group = table.slice(begin, end - begin).cast(OBSERVATION_SCHEMA)
                writer.write_table(group, row_group_size=max(end - begin, 1))
            groups.append(len(cuts) - 1)
        all_facts = add_facts(facts)
        name = stem(kind, all_facts)
        footer = {
            "schema_version": str(SCHEMA_VERSION),
            "name": name,
            "replaces": json.dumps(sorted(replaces)),
        }
        if kind != RECENT or all_facts.n_rows >= _ROWS_TO_TELL * all_facts.n_batches:
            footer["open"] = json.dumps(still_open)
        if kind == RECENT and "open" in footer:
            footer["ended"] = json.dumps(ended)
        writer.add_key_value_metadata({_PREFIX + key: value for key, value in footer.items()})
    data = sink.getvalue().to_pybytes()
    return Encoded(file_path(name, data), data, tuple(groups), all_facts.n_rows)


def facts_of(table: Any, starts: Any) -> Facts:
    """Count a table whose batches begin at `starts`, each in time."""
    at = table.column("observed_at").cast(pa.int64()).to_numpy()
    created = table.column("created_at").drop_null().cast(pa.int64()).to_numpy()
    first = int(at.min())
    terminal = table.column("is_terminal").to_numpy(zero_copy_only=False)
    ends = np.append(starts[1:], len(at)) - 1
    return Facts(
        min(first, int(created.min(initial=first))),
        first,
        int(at.max()),
        len(at),
        len(starts),
        int((~terminal[ends]).sum()),
    )


def _last_seen(table: Any, starts: Any, *, terminal: bool) -> dict[str, int]:
    """Return when those batches were last seen that were then terminal, or those that were not."""
    ends = np.append(starts[1:], table.num_rows) - 1
    last = table.select(["batch_id", "observed_at", "is_terminal"]).take(pa.array(ends))
    last = last.filter(pc.equal(last.column("is_terminal"), terminal))
    at = last.column("observed_at").cast(pa.int64()).to_pylist()
    return dict(zip(last.column("batch_id").to_pylist(), at, strict=True))


def _cohort_starts(table: Any) -> list[int]:
    starts: list[int] = np.flatnonzero(run_starts(cohort_days(table.column("batch_id")))).tolist()
    return starts


def _cuts(batches: Any, forced: list[int], n: int) -> list[int]:
    """Choose where row groups begin: at `forced`, and before the batch that would make one too long."""
    cuts = []
    for begin, end in itertools.pairwise([*forced, n]):
        at = begin
        while at < end:
            cuts.append(at)
            if end - at <= ROWS_PER_GROUP:
                break
            fits = int(batches[np.searchsorted(batches, at + ROWS_PER_GROUP, side="right") - 1])
            after = np.searchsorted(batches, at, side="right")
            at = fits if fits > at else int(batches[after]) if after < len(batches) else end
    return [*cuts, n]


@dataclass(frozen=True)
class Snapshot:
    """A sound file that is ours: what its footer tells, and how its rows are read.

    `open` and `ended` tell when batches whose last row here is not terminal, and terminal, were observed
    then. `ended` is None if the file tells of open ones alone, or of none at all if it is recent. `replaces`
    holds tokens of files whose rows are all here. `place` is its full name, `version` that of the schema.
    """

    place: str
    version: int
    open: dict[str, int]
    ended: dict[str, int] | None
    replaces: frozenset[str]
    file: Any

    @property
    def n_groups(self) -> int:
        """The number of row groups."""
        return int(self.file.metadata.num_row_groups)

    @property
    def has_id_ranges(self) -> bool:
        """Whether the ids that each row group covers are known."""
        return all(self.id_range(group) is not None for group in range(self.n_groups))

    def id_range(self, group: int) -> tuple[str, str] | None:
        """Return the least and the greatest batch id of a row group, None if that is not known."""
        statistics = self.file.metadata.row_group(group).column(self._place_of("batch_id")).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        return str(statistics.min), str(statistics.max)

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> Any:
        """Read columns of row groups, in today's types, text as ``dictionary<int32, string>``."""
        there = self.file.schema_arrow.names
        # Without any column there would be no number of rows either.
        wanted = [name for name in columns if name in there] or there[:1]
        try:
            table = self.file.read_row_groups(list(groups), wanted, use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(self.place, f"it is not a readable snapshot ({type(error).__name__})") from error
        found = dict(zip(wanted, table.columns, strict=True))
        schema = dictionary_schema(columns)
        return pa.table(
            [_as_today(found.get(field.name), field, n=table.num_rows, place=self.place) for field in schema],
            schema=schema,
        )

    def _place_of(self, name: str) -> int:
        return int(self.file.schema_arrow.names.index(name))


def decode(data: bytes, *, path: str, place: str, verify_pages: bool = False) -> Snapshot | None:
    """Open a file, after checking every byte of it; None if it is sound but not ours (no schema version).

    With `verify_pages` each page's checksum is checked too when rows are read, as other tools would: this
    finds only a file that was wrong when it was written. Raises DamagedFile, also for one in another's place.
    """
    if fault := checksum_fault(path, data):
        raise damaged(place, fault)
    try:
        file = _open(data, verify_pages=verify_pages)
        footer = {
            key.decode().removeprefix(_PREFIX): value
            for key, value in (file.metadata.metadata or {}).items()
            if key.decode().startswith(_PREFIX)
        }
        if "schema_version" not in footer:
            return None
        version = int(footer["schema_version"])
        open_, ended = json.loads(footer.get("open", b"{}")), json.loads(footer.get("ended", b"null"))
        replaces = json.loads(footer.get("replaces", b"[]"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(place, f"it is not a readable snapshot ({type(error).__name__})") from error
    _check_place(path, footer, place)
    if version > SCHEMA_VERSION:
        warnings.warn(
            f"snapshots were written by a later release (schema {version}, known here: {SCHEMA_VERSION}): "
            f"reading the columns that are known; upgrade safetykit-analytics to see all",
            NewerSchemaWarning,
            stacklevel=2,
        )
    return Snapshot(place, version, open_, ended, frozenset(replaces), file)


def _check_place(path: str, footer: dict[str, bytes], place: str) -> None:
    folder, _, name = path.partition("/")
    if date := old_date(folder):
        found = footer.get("observed_date", b"another day").decode(errors="replace")
        if found != date.isoformat():
            raise damaged(place, f"it belongs in the folder of {found}; move it back")
        return
    found = footer.get("name", b"another").decode(errors="replace")
    if found != stem_of(path):
        raise damaged(place, f"it was written as {found}_…; restore that name")
    if (folder == RECENT) != name.startswith(f"{RECENT}_"):
        raise damaged(place, f"it belongs in another folder than {folder}/; move it back")


def _open(data: bytes, *, verify_pages: bool) -> Any:
    def opened(columns: Sequence[str]) -> Any:
        return pq.ParquetFile(
            pa.BufferReader(data),
            read_dictionary=list(columns),
            pre_buffer=False,
            page_checksum_verification=verify_pages,
        )

    try:
        return opened(DICTIONARY_COLUMNS)
    except KeyError:
        # The file is older than one of these columns; `_as_today` encodes the others.
        return opened(())


_FIELDS = {
    field.name: field.with_type(pa.dictionary(pa.int32(), field.type))
    if pa.types.is_string(field.type)
    else field
    for field in OBSERVATION_SCHEMA
}


def dictionary_schema(names: Sequence[str]) -> Any:
    """Return the schema of some columns of observations, text as ``dictionary<int32, string>``."""
    return pa.schema([_FIELDS[name] for name in names])


def _as_today(column: Any, field: Any, *, n: int, place: str) -> Any:
    """Return a column of a file in today's type; `n` values if the file is too old to have it."""
    name = field.name
    if column is not None and not field.nullable and column.null_count:
        raise damaged(place, f"column {name!r} has nulls, which it never may")
    if column is not None and column.type == field.type:
        return column
    is_text = pa.types.is_dictionary(field.type)
    plain = field.type.value_type if is_text else field.type
    if column is None:
        if not field.nullable and name not in DEFAULTS:
            raise damaged(place, f"it has no column {name!r}, which every release has written")
        return pa.repeat(pa.scalar(DEFAULTS.get(name), plain), n).cast(field.type)
    if not _same_kind(column.type, plain):
        raise damaged(place, f"column {name!r} holds {column.type}; only {plain} is known here")
    try:
        column = column.cast(plain)
    except pa.ArrowInvalid as error:
        raise damaged(place, f"column {name!r} holds {column.type} values that do not fit {plain}") from error
    return column.dictionary_encode() if is_text else column


def _same_kind(found: Any, expected: Any) -> bool:
    """Return whether a cast that loses nothing also means the same: a bare number is not an instant."""
    if pa.types.is_timestamp(expected):
        return bool(pa.types.is_timestamp(found) and found.tz == expected.tz)
    if pa.types.is_integer(expected):
        return bool(pa.types.is_integer(found))
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return False


def damaged(place: str, fault: str) -> DamagedFile:
    """Return the error for a file that cannot be read."""
    return DamagedFile(
        f"{place} cannot be read: {fault}. Restore it from a backup, or move it away to read the rest; "
        f"verify() lists all such files",
        path=place,
    )
