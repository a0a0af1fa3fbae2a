"""The parts that a store is made of: names, places, files, keys."""

from __future__ import annotations

import datetime as dt
import errno
import io
import os
import re
import stat
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import safetykit_analytics as ska
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.keys import inside_of_runs, same_as_before, sorted_unique, thinned
from safetykit_analytics.store import listing, objects, parquet
from safetykit_analytics.store.files import open_files
from safetykit_analytics.store.local import LocalFiles
from safetykit_analytics.store.names import Facts, checksum_fault, file_path, old_date, parse, stem, stem_of
from safetykit_analytics.store.objects import ObjectFiles
from tests.store.faults import FaultyOs, instead_of_os
from tests.store.helpers import expected, files_of, fleet, observations

FACTS = Facts(-62135596800000000, 1_000_001, 253402300799999999, 12, 3, 1)


def test_a_name_tells_its_facts_and_has_no_colon():
    name = stem("2026-03-02", FACTS)
    path = file_path(name, b"data")
    assert name == (
        "2026-03-02_00010101T000000.000000Z_19700101T000001.000001Z_99991231T235959.999999Z_r12_b3_o1"
    )
    assert re.fullmatch(rf"cohorts/{re.escape(name)}_[0-9a-f]{{32}}-adf3f363\.parquet", path)
    file = parse(*path.split("/"))
    assert (file.kind, file.facts, file.is_recent) == ("2026-03-02", FACTS, False)
    assert stem_of(path) == name
    assert file_path(stem("recent", FACTS), b"").startswith("recent/recent_")
    assert parse("recent", name) is None
    assert parse("cohorts", path.replace("1231T", "1331T").partition("/")[2]) is None


@pytest.mark.parametrize(
    "name", ["20261102", "observed_date=20261102", "observed_date=2026-W45-1", "2026-11-02"]
)
def test_only_the_name_that_was_written_is_a_day_of_the_first_layout(name):
    assert old_date("observed_date=2026-11-02") == dt.date(2026, 11, 2)
    assert old_date(name) is None


def test_a_checksum_that_does_not_fit_is_told():
    assert checksum_fault("x-352441c2.parquet", b"abc") is None
    assert checksum_fault("x-352441c3.parquet", b"abc") == (
        "its 3 bytes have the checksum 352441c2, its name says 352441c3"
    )
    assert checksum_fault("x-00000000.parquet", b"") == "it is empty (0 bytes)"


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


@pytest.fixture
def table():
    return sorted_unique(table_from_frame(observations(300, n_batches=30)))


def test_a_file_is_written_in_the_encodings_that_make_it_small_with_statistics_of_all_columns(table):
    new = parquet.encode([table], kind="undated", replaces=["b", "a"])
    footer = pq.read_metadata(io.BytesIO(new.data))
    columns = {(column := footer.row_group(0).column(i)).path_in_schema: column for i in range(13)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.has_dictionary_page} == {
        "batch_id", "batch_status", "policy_id", "policy_version"
    }  # fmt: skip
    assert {name for name, column in columns.items() if "DELTA_BINARY_PACKED" in column.encodings} == {
        "observed_at", "success_count", "error_count", "cancelled_count", "pending_count"
    }  # fmt: skip
    assert all(column.statistics for column in columns.values())
    assert footer.row_group(0).sorting_columns == (pq.SortingColumn(0), pq.SortingColumn(1))
    assert footer.metadata[b"safetykit_analytics.schema_version"] == b"1"
    assert footer.metadata[b"safetykit_analytics.replaces"] == b'["a", "b"]'
    assert footer.metadata[b"safetykit_analytics.name"].decode() == stem_of(new.path)
    snapshot = parquet.decode(new.data, path=new.path, place="here")
    assert list(snapshot.open) == [f"batch_{number:05d}" for number in range(30)]
    assert snapshot.replaces == {"a", "b"}


def test_row_groups_end_between_batches(table, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 25)
    new = parquet.encode([table], kind="undated")
    footer = pq.read_metadata(io.BytesIO(new.data))
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [20] * 15
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 7)
    footer = pq.read_metadata(io.BytesIO(parquet.encode([table], kind="undated").data))
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [10] * 30


@pytest.mark.parametrize("n_files", [1, 2])
def test_a_large_cohort_is_read_in_pieces_that_are_cut_between_batches(tmp_path, monkeypatch, n_files):
    from safetykit_analytics.store import cohort

    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 50)
    monkeypatch.setattr(cohort, "ROWS_PER_GROUP", 50)
    store = ska.SnapshotStore(tmp_path)
    frame = observations(600, n_batches=30)
    store.append(frame.iloc[:500])
    store.compact()
    if n_files == 2:
        path = files_of(tmp_path, "cohorts")[0]
        token = path.name.rpartition("_")[2].partition("-")[0]
        path.with_name(path.name.replace(token, "0" * 32)).write_bytes(path.read_bytes())
    store.append(frame.iloc[500:])
    (whole,) = store.cohorts()
    pieces = list(whole.tables())
    assert len(pieces) > 8
    ids = [set(piece.column("batch_id").to_pylist()) for piece in pieces]
    assert len(set().union(*ids)) == sum(map(len, ids)) == 30
    rows = pa.concat_tables(pieces).cast(table_from_frame(frame).schema)
    assert rows.equals(table_from_frame(expected(frame)))
    one = expected(frame[frame["batch_id"] == "batch_00007"])
    pd.testing.assert_frame_equal(store.read(batch_ids=["batch_00007"]), one)
    assert store.verify() == []


@pytest.mark.parametrize(("tables", "rows"), [(1, 0), (3, 1 << 20), (1 << 20, 40)])
def test_recent_rows_are_the_same_however_many_are_split_at_a_time(tmp_path, monkeypatch, tables, rows):
    from safetykit_analytics.store import recent

    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 50)
    store = ska.SnapshotStore(tmp_path)
    frame = fleet(5).sample(frac=1, random_state=0)
    store.append(frame.iloc[:500])
    store.compact()
    for start in range(500, len(frame), 7):
        store.append(frame.iloc[start : start + 10])
    monkeypatch.setattr(recent, "_TABLES", tables)
    monkeypatch.setattr(recent, "_ROWS", rows)
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert store.verify() == []


def test_a_table_that_is_sorted_and_unique_is_the_very_same(table):
    assert sorted_unique(table) is table
    encoded = table.set_column(0, table.schema.field(0).with_type(pa.dictionary(pa.int32(), pa.string())),
                               table.column(0).dictionary_encode())  # fmt: skip
    assert sorted_unique(encoded) is encoded


def test_plain_and_dictionary_text_sort_alike_whatever_the_pieces():
    frame = fleet(2)
    plain = table_from_frame(frame)
    schema = parquet.dictionary_schema(plain.column_names)
    pieces = [plain.slice(i, 37).cast(schema) for i in range(0, len(frame), 29)]
    both = pa.concat_tables([pieces[i] for i in np.random.default_rng(0).permutation(len(pieces))])
    assert sorted_unique(both).cast(plain.schema).equals(table_from_frame(expected(frame)))


def test_times_that_are_far_apart_sort_too():
    frame = observations(20, n_batches=20)
    frame.loc[3, "observed_at"] = pd.Timestamp("0001-01-01", tz="UTC").as_unit("us")
    again = pd.concat([frame] * 3).assign(batch_id=[f"b{i % 7}" for i in range(60)])
    result = sorted_unique(table_from_frame(again)).to_pandas()
    keys = list(zip(result["batch_id"], result["observed_at"].astype("int64"), strict=True))
    assert keys == sorted(set(keys))


def test_what_lies_inside_of_a_run_is_neither_its_first_nor_its_last():
    same = np.array([False, True, True, True, False, True, False])
    assert inside_of_runs(same).tolist() == [False, True, True, False, False, False, False]
    assert inside_of_runs(np.zeros(0, dtype=bool)).tolist() == []


def test_null_equals_null_and_nothing_else():
    table = pa.table({"a": [None, None, 1, 1, None], "b": ["x", None, None, "x", "x"]})
    assert same_as_before(table, ["a"]).tolist() == [False, True, False, True, False]
    assert same_as_before(table, ["a", "b"]).tolist() == [False, False, False, False, False]
    still = table_from_frame(
        observations(4, n_batches=1).assign(success_count=0, error_count=0, pending_count=0)
    )
    assert thinned(still, before_us=0) is still
    assert thinned(still, before_us=2**60).num_rows == 2


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


def test_a_store_with_very_many_recent_files_works_and_says_to_compact(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_MANY_RECENT", 3)
    store = ska.SnapshotStore(tmp_path)
    frame = observations(90)
    for i in range(3):
        store.append(frame.iloc[i::3])
    with pytest.warns(UserWarning, match=r"has 3 recent files, and each must be opened: run compact\(\)"):
        pd.testing.assert_frame_equal(store.read(), expected(frame))


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_recent_files_read_and_compact(tmp_path):
    n = round(100_000 * float(os.environ.get("SKA_HEAVY", "1.0")))
    store = ska.SnapshotStore(tmp_path)
    frame = observations(100)
    store.append(frame)
    new = parquet.encode([table_from_frame(frame)], kind="recent")
    for i in range(n - 1):
        # A file that was appended again and again: encoding and syncing each would take the longest.
        (tmp_path / new.path.replace(new.path[-49:-17], f"{i:032x}")).write_bytes(new.data)
    assert len(files_of(tmp_path, "recent")) == n
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pd.testing.assert_frame_equal(store.read(), expected(frame))
        assert store.compact().duplicates == (n - 1) * len(frame)
    said = [str(warning.message) for warning in caught if "run compact()" in str(warning.message)]
    assert bool(said) == (n >= listing._MANY_RECENT)
    assert all(f"has {n:,} recent files, and each must be opened" in message for message in said)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    pd.testing.assert_frame_equal(store.read(), expected(frame))


@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_day_of_the_calendar_can_be_stored(tmp_path, year):
    store = ska.SnapshotStore(tmp_path)
    day = dt.datetime(year, 12, 31, 23, tzinfo=dt.UTC) if year > 1 else dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    frame = observations(1).assign(observed_at=pd.Series([day], dtype="datetime64[us, UTC]"))
    if year > 1:
        with pytest.warns(UserWarning, match="more than a day ahead"):
            store.append(frame)
    else:
        store.append(frame)
    assert len(store.read(day.date())) == 1
    assert store.compact().cohorts == 1
    assert len(store.read(dt.date.min, dt.date.max)) == (year == 1)
    assert store.info().first_observed_at == day


class Without(FaultyOs):
    """A system that lacks some names, as Windows does."""

    missing = ("O_DIRECTORY", "O_CLOEXEC", "link", "fchmod")

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(name)
        return super().__getattr__(name)


def test_a_system_without_posix_names_can_hold_a_store(tmp_path):
    frame = fleet(2)
    store = ska.SnapshotStore(tmp_path / "store")
    with instead_of_os(Without()):
        for part in (frame.iloc[:50], frame.iloc[50:]):
            store.append(part)
        pd.testing.assert_frame_equal(store.read(), expected(frame))
        assert store.compact().cohorts == 2
        assert store.open_batch_ids() == []
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert list((tmp_path / "store").rglob(".tmp-*")) == []


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_can_hold_a_store_and_says_so(tmp_path, code):
    class NoFolderSync(FaultyOs):
        def __getattr__(self, name):
            def fsync(file):
                if stat.S_ISDIR(os.fstat(file).st_mode):
                    raise OSError(code, os.strerror(code))

            return fsync if name == "fsync" else super().__getattr__(name)

    store = ska.SnapshotStore(tmp_path)
    with instead_of_os(NoFolderSync()), pytest.warns(RuntimeWarning, match="cannot sync folders"):
        store.append(observations(10))
    assert len(store.read()) == 10


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o755])
def test_all_that_is_written_takes_the_permissions_of_the_stores_folder(tmp_path, mode):
    old = os.umask(0o077)
    try:
        tmp_path.chmod(mode)
        store = ska.SnapshotStore(tmp_path)
        for part in (fleet(2), observations(10)):
            store.append(part)
            store.compact()
        store.append(observations(10, offset=10))
    finally:
        os.umask(old)
    found = {path.is_dir(): set() for path in tmp_path.rglob("*")}
    for path in tmp_path.rglob("*"):
        if path.parent.name != ".safetykit-store":
            found[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
    assert found == {True: {mode}, False: {mode & 0o666}}


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
