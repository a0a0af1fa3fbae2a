"""What the small parts of the store promise to each other: bounds, names, one file, one place."""

from __future__ import annotations

import datetime as dt
import errno
import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import safetykit_analytics as ska
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store import objects, parquet, partition
from safetykit_analytics.store.bounds import day_after_last, first_day, instant_us
from safetykit_analytics.store.files import open_files
from safetykit_analytics.store.keys import same_as_before, sorted_unique
from safetykit_analytics.store.layout import checksum_fault, partition_date, snapshot_name
from safetykit_analytics.store.local import LocalFiles
from safetykit_analytics.store.objects import ObjectFiles
from safetykit_analytics.store.snapshots import _as_strings, _last_positions
from tests.store.helpers import START, observations

DAY_US = 86_400_000_000
DAY = START.date()


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (None, None),
        (dt.date(1970, 1, 2), DAY_US),
        ("1969-12-31", -DAY_US),
        ("1970-W01-5", DAY_US),
        ("19700102", DAY_US),
        (dt.datetime(1970, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), DAY_US),
        ("1970-01-02T00:00:00.000001Z", DAY_US + 1),
        (pd.Timestamp("1970-01-01T00:00:00.000001001Z"), 2),
    ],
)
def test_a_bound_is_an_instant_in_microseconds_and_what_lies_between_two_is_rounded_up(value, microseconds):
    assert instant_us(value, name="start") == microseconds


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_the_days_that_a_span_touches_are_half_open(offset):
    midnight = instant_us(DAY, name="start")
    assert first_day(midnight + offset) == (DAY if offset >= 0 else DAY - dt.timedelta(days=1))
    assert day_after_last(midnight + offset) == (DAY if offset <= 0 else DAY + dt.timedelta(days=1))
    assert first_day(None) is day_after_last(None) is None


@pytest.mark.parametrize(
    "name", ["observed_date=20261102", "2026-11-02", "observed_date=2026-W45-1", "observed_date=2026-11-02/"]
)
def test_only_the_name_that_is_written_is_a_day(name):
    assert partition_date("observed_date=2026-11-02") == dt.date(2026, 11, 2)
    assert partition_date(name) is None


def test_a_checksum_has_eight_digits_also_if_it_begins_with_zeros():
    data = next(data for i in range(1000) if checksum_of(data := b"%d" % i).startswith("0"))
    assert checksum_fault(snapshot_name(data), data) is None
    fault = "its 3 bytes have the checksum 352441c2, its name says none"
    assert checksum_fault("another.parquet", b"abc") == fault
    assert checksum_fault(snapshot_name(b""), b"") == "it is empty (0 bytes)"


def checksum_of(data):
    return snapshot_name(data)[-16:-8]


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        (b"snapshots", None, TypeError, "a store is a path or a URL as text, found bytes"),
        (7, None, TypeError, "a store is a path or a URL as text, found int"),
        ("", None, ValueError, "the path of a store is empty; '.' is the current folder"),
        (
            "snapshots",
            {"key": "x"},
            ValueError,
            "storage_options are for URLs such as s3://bucket/snapshots; 'snapshots' is a folder",
        ),
        ("s3:///", None, ValueError, "'s3:///' names no place; expected a URL such as s3://bucket/snapshots"),
    ],
)
def test_a_place_that_cannot_be_one_is_refused_with_the_reason(path, options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        open_files(path, options)


def test_a_path_is_a_folder_and_a_url_an_object_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_files("a", None) == LocalFiles(str(tmp_path / "a"))
    assert open_files("~/a", None) == LocalFiles(str(tmp_path / "home" / "a"))
    assert open_files(tmp_path / "a" / ".." / "b", {}) == LocalFiles(str(tmp_path / "b"))
    assert open_files(f"file://{tmp_path}/a", None) == LocalFiles(str(tmp_path / "a"))
    url = open_files("s3://user:hidden@bucket/X//", {"key": "x"})
    assert url == ObjectFiles("s3://user:hidden@bucket/X", {"key": "x"})
    assert url.locate() == "s3://bucket/X"
    assert url.locate("b") == "s3://bucket/X/b"
    assert open_files("s3://X", None) == ObjectFiles("s3://X")
    assert ska.SnapshotStore("s3://bucket/team/").name == "team"


def test_a_name_of_a_marker_that_is_a_file_is_no_generation(tmp_path):
    (tmp_path / ".safetykit-analytics").write_bytes(b"")
    assert LocalFiles(str(tmp_path)).generation() == LocalFiles(str(tmp_path / "none")).generation() == []


@pytest.fixture
def table():
    return sorted_unique(table_from_frame(observations(300, n_batches=30)))


def test_a_file_is_written_in_the_encodings_that_make_it_small_and_says_how_it_is_sorted(table):
    footer = pq.read_metadata(io.BytesIO(parquet.encode(table, DAY)))
    columns = {(column := footer.row_group(0).column(i)).path_in_schema: column for i in range(13)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.has_dictionary_page} == {
        "batch_id", "batch_status", "policy_id", "policy_version"
    }  # fmt: skip
    assert {name for name, column in columns.items() if "DELTA_BINARY_PACKED" in column.encodings} == {
        "observed_at", "success_count", "error_count", "cancelled_count", "pending_count"
    }  # fmt: skip
    assert {name for name, column in columns.items() if column.statistics} == {
        "batch_id", "observed_at", "policy_id"
    }  # fmt: skip
    assert footer.row_group(0).sorting_columns == (pq.SortingColumn(0), pq.SortingColumn(1))
    assert footer.metadata == {
        b"safetykit_analytics.schema_version": b"1",
        b"safetykit_analytics.sorted_unique_by": b"batch_id,observed_at",
        b"safetykit_analytics.observed_date": b"2026-11-02",
    }


def test_the_ids_of_fifty_thousand_batches_stay_one_dictionary():
    n = 50_000
    frame = observations(3 * n, n_batches=n, step=dt.timedelta(milliseconds=1))
    table = table_from_frame(frame.assign(batch_id="batch_01hf89meedvef6pc0" + frame["batch_id"].str[-5:]))
    footer = pq.read_metadata(io.BytesIO(parquet.encode(sorted_unique(table), DAY)))
    # Each id once, with its length, and a number in each row: were the dictionary given up, ids would repeat.
    assert footer.row_group(0).column(0).total_uncompressed_size < n * (28 + 4) + 3 * n * 4


@pytest.mark.parametrize("dictionaries", [False, True])
@pytest.mark.parametrize("columns", [None, ["policy_id", "batch_count"]])
def test_a_file_reads_as_asked_for(table, columns, dictionaries):
    data = parquet.encode(table, DAY)
    place = f"/x/{snapshot_name(data)}"
    found = parquet.decode(data, place=place, date=DAY, columns=columns, dictionaries=dictionaries)
    names = OBSERVATION_SCHEMA.names if columns is None else columns
    assert found.table.schema == parquet.observation_schema(names, dictionaries=dictionaries)
    assert found.table.cast(pa.schema([OBSERVATION_SCHEMA.field(name) for name in names])) == table.select(
        names
    )
    assert (found.version, found.is_sorted) == (1, True)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda table: table.drop_columns("is_terminal"),
            "it has no column 'is_terminal', which every release has written",
        ),
        (
            lambda table: table.set_column(0, "batch_id", pa.nulls(300, pa.string())),
            "column 'batch_id' has nulls, which it never may",
        ),
        (
            lambda table: table.set_column(4, "batch_count", pa.array([0.5] * 300)),
            "column 'batch_count' holds double; only int64 is known here",
        ),
        (
            lambda table: table.set_column(4, "batch_count", pa.array([2**63] * 300, pa.uint64())),
            "column 'batch_count' holds uint64 values that do not fit int64",
        ),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_says_which_column_and_what_to_do(table, change, fault):
    sink = io.BytesIO()
    other = change(pa.table(table.columns, names=table.column_names))
    with pq.ParquetWriter(sink, other.schema, store_schema=False) as writer:
        writer.write_table(other)
        writer.add_key_value_metadata(
            {"safetykit_analytics.schema_version": "1", "safetykit_analytics.observed_date": "2026-11-02"}
        )
    data = sink.getvalue()
    place = f"/x/{snapshot_name(data)}"
    message = (
        f"{place} cannot be read: {fault}. Restore it from a backup, or move it away to read the rest; "
        f"verify() lists all such files"
    )
    with pytest.raises(ska.DamagedFile, match=f"^{re.escape(message)}$") as caught:
        parquet.decode(data, place=place, date=DAY)
    assert caught.value.path == place


@pytest.mark.parametrize(
    ("footer", "of"),
    [
        ({"safetykit_analytics.observed_date": "2026-11-02"}, "2026-11-02"),
        ({"safetykit_analytics.observed_date": b"\xff"}, "\ufffd"),
        ({}, "another day"),
    ],
)
def test_a_file_of_another_day_says_which(table, footer, of):
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"safetykit_analytics.schema_version": "1", **footer})
    data = sink.getvalue()
    place = f"/x/{snapshot_name(data)}"
    with pytest.raises(ska.DamagedFile, match=f"it belongs into the folder of {of}; move it back") as caught:
        parquet.decode(data, place=place, date=dt.date(2026, 11, 3))
    assert caught.value.path == place


def test_a_file_that_is_as_it_was_written_and_no_table_is_damage(table):
    data = parquet.encode(table, DAY)[:-1] + b"?"
    place = f"/x/{snapshot_name(data)}"
    with pytest.raises(ska.DamagedFile, match="it is no readable snapshot") as caught:
        parquet.decode(data, place=place, date=DAY)
    assert caught.value.path == place


def test_a_column_that_the_store_does_not_have_is_named_with_those_that_it_has(tmp_path):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(3))
    with pytest.raises(ska.UnknownName, match=r"^no column 'mood'") as caught:
        store.partitions()[0].read(["batch_id", "mood"])
    assert caught.value.name == "mood"
    assert list(caught.value.known) == OBSERVATION_SCHEMA.names


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_rows_equal_the_one_before_in_the_columns_that_are_asked_for(n):
    table = pa.table({"a": pa.array([1, 1, None, None, 2]), "b": pa.array([1, 1, 1, 1, 1])}).slice(0, n)
    assert same_as_before(table, ("a", "b")).tolist() == [False, True, False, True, False][:n]


def test_a_dictionary_may_hold_batches_of_no_row():
    ids = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([2, 2, 0], pa.int32()), ["a", "b", "c"])])
    assert _last_positions(ids).to_pylist() == [1, 2]


class Restless(LocalFiles):
    """A folder in which compactions never pause."""

    def generation(self):
        return object()


def test_a_folder_that_never_stands_still_is_given_up_after_many_tries_with_growing_pauses(
    tmp_path, monkeypatch
):
    pauses = []
    monkeypatch.setattr(partition.time, "sleep", pauses.append)
    with pytest.raises(ska.errors.StoreFailed) as caught:
        partition.stable_tree(Restless(str(tmp_path)), None)
    assert str(caught.value) == f"cannot list {tmp_path}: compactions never leave it alone"
    assert pauses == pytest.approx(np.minimum(np.arange(1000) / 1000, 0.05))


def test_a_day_whose_files_vanish_again_and_again_is_given_up(tmp_path, monkeypatch):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(3))
    part = store.partitions()[0]
    monkeypatch.setattr(partition, "_TRIES", 3)
    asked = []

    def vanish(files, path):
        asked.append(path)
        raise FileNotFoundError

    monkeypatch.setattr(LocalFiles, "read", vanish)
    with pytest.raises(ska.errors.StoreFailed) as caught:
        part.read()
    assert str(caught.value) == f"cannot read {tmp_path}/observed_date=2026-11-02: it never stands still"
    assert asked == [part.paths[0]] * 3


def test_a_day_that_cannot_be_read_is_named_with_what_the_system_says(tmp_path, monkeypatch):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(3))

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LocalFiles, "read", fail)
    with pytest.raises(ska.errors.StoreFailed) as caught:
        store.read()
    assert caught.value.strerror == f"cannot read {tmp_path}/observed_date=2026-11-02: Input/output error"


def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OSError, match=r"\] a link that leads nowhere: ") as caught:
        LocalFiles(str(tmp_path)).read("link")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(tmp_path / "link"))
    with pytest.raises(FileNotFoundError):
        LocalFiles(str(tmp_path)).read("nothing")


def test_a_link_in_a_circle_is_listed_as_a_file(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert LocalFiles(str(tmp_path)).tree(None) == {"": ["circle", "folder/", "link/"]}


def test_a_folder_that_vanishes_while_a_store_is_listed_is_left_out(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tree = LocalFiles(str(tmp_path)).tree(lambda name: name == "a" or not (tmp_path / name).rmdir())
    assert tree == {"": ["a/", "b/"], "a": []}


def test_a_day_of_one_file_is_read_once_and_gives_text_as_dictionaries(tmp_path, monkeypatch):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(30))
    read, paths = LocalFiles.read, []
    monkeypatch.setattr(LocalFiles, "read", lambda files, path: paths.append(path) or read(files, path))
    (part,) = store.partitions()
    assert part.read().schema == parquet.observation_schema(OBSERVATION_SCHEMA.names, dictionaries=True)
    assert paths == list(part.paths)


def test_the_text_of_many_days_may_be_more_than_two_gigabytes(table):
    assert _as_strings(table).schema.types[:4:3] == [pa.large_string()] * 2


def test_only_the_days_that_a_span_touches_are_read(tmp_path, monkeypatch):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(6, step=dt.timedelta(hours=12)))
    read, days = LocalFiles.read, []
    monkeypatch.setattr(
        LocalFiles, "read", lambda files, path: days.append(path.partition("/")[0][-2:]) or read(files, path)
    )
    for start, end, touched in [
        ("2026-11-03", None, ["03", "04"]),
        (None, "2026-11-03", ["02"]),
        ("2026-11-02T23:00Z", "2026-11-03T00:00:00.000001Z", ["02", "03"]),
    ]:
        days.clear()
        store.read(start, end)
        assert days == touched


def test_the_only_file_of_a_day_is_left_out_with_one_warning(tmp_path):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(3))
    (part,) = store.partitions()
    (tmp_path / part.paths[0]).write_bytes(b"")
    with pytest.warns(ska.errors.DamagedFileWarning, match="left out") as caught:
        assert part.read(skip_damaged=True).num_rows == 0
    assert len(caught) == 1


def test_a_day_that_has_been_removed_reads_as_empty(tmp_path):
    store = ska.SnapshotStore(tmp_path)
    store.append(observations(3))
    store.append(observations(3, start=START + dt.timedelta(days=1)))
    part = store.partitions()[0]
    (tmp_path / part.paths[0]).unlink()
    assert part.read(["batch_id"]).num_rows == 0


def test_a_folder_or_file_that_is_no_store_is_refused_with_the_reason(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").mkdir()
    with pytest.raises(ska.NotAStore) as caught:
        ska.SnapshotStore(tmp_path).read()
    assert str(caught.value) == (
        f"{tmp_path} is no snapshot store: it has other files or folders (2) and no observed_date=YYYY-MM-DD "
        f"among them. Name a new or empty folder, or a store"
    )
    with pytest.raises(ska.NotAStore) as caught:
        ska.SnapshotStore(tmp_path / "a").read()
    assert str(caught.value) == f"{tmp_path / 'a'} is a file; name a folder"


@pytest.mark.parametrize("name", [".tmp-1", ".safetykit-analytics/", "observed_date=2026-11-02/"])
def test_one_thing_of_ours_makes_a_folder_a_store(tmp_path, name):
    (tmp_path / "thesis.docx").write_bytes(b"")
    place = tmp_path / name
    place.mkdir() if name.endswith("/") else place.write_bytes(b"")
    assert ska.SnapshotStore(tmp_path).read().empty


@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_day_of_the_calendar_can_be_stored(tmp_path, year):
    store = ska.SnapshotStore(tmp_path)
    day = dt.date.min if year == 1 else dt.date.max
    at = np.array([instant_us(day, name="start")]).astype("datetime64[us]")
    store.append(observations(1).assign(observed_at=pd.DatetimeIndex(at).tz_localize("UTC")))
    assert [part.date for part in store.partitions()] == [day]
    for microseconds in (DAY_US, -DAY_US):
        outside = pd.DatetimeIndex(at + np.timedelta64(microseconds, "us")).tz_localize("UTC")
        if (year == 1) == (microseconds < 0):
            with pytest.raises(
                ska.InvalidFrame, match=r"^column 'observed_at' holds a time outside of the years"
            ):
                store.append(observations(1).assign(observed_at=outside))


def test_batch_ids_as_one_string_are_refused_with_the_list_that_was_meant(tmp_path):
    with pytest.raises(TypeError, match=re.escape("batch_ids is one string; pass a list: ['batch_1']")):
        ska.SnapshotStore(tmp_path).read(batch_ids="batch_1")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"policy_id": 7}, "policy_id: expected text, found int"),
        ({"batch_ids": ["batch_1", None]}, "batch_ids: expected text, found NoneType"),
    ],
)
def test_what_is_no_text_is_refused_where_text_is_looked_for(tmp_path, wanted, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        ska.SnapshotStore(tmp_path).read(**wanted)


def test_a_url_that_leads_nowhere_is_refused_before_anything_is_appended():
    message = (
        "a store cannot be at foo://, which fsspec does not know; expected a folder or a URL such as "
        "s3://bucket/snapshots"
    )
    for url in ("foo://bucket/a", "simplecache::foo://bucket/a"):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            ska.SnapshotStore(url)


@pytest.mark.parametrize(
    ("protocol", "package"),
    [("s3", "safetykit-analytics[s3]"), ("s3a", "safetykit-analytics[s3]"), ("gs", "fsspec[gs]")],
    ids=["our extra", "our extra too", "an extra of fsspec"],
)
def test_a_url_whose_library_is_not_installed_says_how_to_install_it(protocol, package, monkeypatch):
    def missing(name):
        raise ImportError(f"no library for {name}")

    monkeypatch.setattr(objects.fsspec, "get_filesystem_class", missing)
    message = (
        f"a store at {protocol}:// needs what is not installed: pip install '{package}' "
        f"(no library for {protocol})"
    )
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        ska.SnapshotStore(f"{protocol}://bucket/a")
