"""What compacting, verifying and looking at a store promise."""

from __future__ import annotations

import datetime as dt
import errno
import os
import pathlib
import time
import zlib

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import safetykit_analytics as ska
from safetykit_analytics.store.compaction import Compaction, compact_days
from safetykit_analytics.store.local import LocalFiles
from safetykit_analytics.store.partition import list_days
from safetykit_analytics.store.summary import _size
from tests.store.helpers import START, expected, observations

OLD = START - dt.timedelta(days=200)


@pytest.fixture
def store(tmp_path):
    return ska.SnapshotStore(tmp_path)


def parquet_files(folder):
    return sorted(pathlib.Path(folder).glob("observed_date=*/*.parquet"))


def test_compaction_leaves_one_sorted_file_per_closed_day_and_reads_the_same(store, tmp_path):
    frame = observations(3000, start=OLD)
    for i in range(0, 3000, 500):
        store.append(frame.iloc[i : i + 700])
    before = store.read()
    sizes = [path.stat().st_size for path in parquet_files(tmp_path)]
    n_files = len(sizes)
    report = store.compact()
    assert len(parquet_files(tmp_path)) == len(store.partitions()) == 3
    # The third day was one sorted file already.
    assert (report.days, report.files_before, report.files_after) == (2, n_files - 1, 2)
    assert report.observations == 2880
    assert report.duplicates == 5 * 200
    after = [path.stat().st_size for path in parquet_files(tmp_path)]
    assert (report.bytes_before, report.bytes_after) == (sum(sizes[:-1]), sum(after[:-1]))
    assert str(report) == (
        f"compacted 2 days: {n_files - 1} files → 2, {report.bytes_before:,} bytes → {report.bytes_after:,}, "
        f"2,880 observations; 1,000 duplicates dropped"
    )
    pd.testing.assert_frame_equal(store.read(), before)
    pd.testing.assert_frame_equal(before, expected(frame))
    for path in parquet_files(tmp_path):
        table = pq.read_table(path, partitioning=None)
        keys = list(zip(table["batch_id"].to_pylist(), table["observed_at"].to_pylist(), strict=True))
        assert keys == sorted(set(keys))
        assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert store.verify() == []


def test_compacting_again_does_nothing_and_says_so(store, tmp_path):
    store.append(observations(300, start=OLD))
    store.append(observations(300, start=OLD, offset=300))
    store.compact()
    files = parquet_files(tmp_path)
    assert "nothing to compact" in str(store.compact())
    assert parquet_files(tmp_path) == files


def test_a_day_of_one_append_needs_no_compaction(store, tmp_path):
    store.append(observations(300, start=OLD))
    files = parquet_files(tmp_path)
    assert store.compact().days == 0
    assert parquet_files(tmp_path) == files


def test_today_is_left_alone(store, tmp_path):
    now = dt.datetime.now(dt.UTC)
    today = observations(10, start=now.replace(hour=0, minute=0), step=dt.timedelta(milliseconds=1))
    store.append(today)
    store.append(today)
    assert store.compact().days == 0
    assert len(parquet_files(tmp_path)) == 2
    assert len(store.read()) == 10


def test_today_is_the_day_in_utc_wherever_the_machine_is(store, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    today = observations(10, start=now.replace(hour=0, minute=0), step=dt.timedelta(milliseconds=1))
    for frame in (today, today.assign(observed_at=today["observed_at"] - dt.timedelta(days=1))):
        store.append(frame)
        store.append(frame)
    # Now it is tomorrow in Kiritimati, or still yesterday on Baker Island.
    monkeypatch.setenv("TZ", "<+14>-14" if now.hour >= 11 else "<-12>12")
    time.tzset()
    try:
        assert store.compact().days == 1
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("appends", [1, 2])
def test_unchanged_observations_are_thinned_only_when_asked(store, appends):
    frame = observations(300, start=OLD, n_batches=3).assign(
        success_count=[i // 60 for i in range(300)], error_count=0, pending_count=0
    )
    for i in range(appends):
        store.append(frame.iloc[i::appends])
    assert store.compact().thinned == 0
    assert len(store.read()) == 300
    report = store.compact(thin_before=START)
    kept = store.read()
    first_and_last = frame.groupby(["batch_id", "success_count"]).agg(
        first=("observed_at", "min"), last=("observed_at", "max")
    )
    wanted = set(first_and_last["first"]) | set(first_and_last["last"])
    assert set(kept["observed_at"]) == wanted
    assert report.thinned == 300 - len(wanted)
    assert store.compact(thin_before=START).days == 0


def test_days_from_thin_before_on_are_not_thinned(store):
    frame = observations(48, start=OLD, n_batches=1, step=dt.timedelta(hours=1)).assign(
        success_count=0, error_count=0, pending_count=0
    )
    store.append(frame)
    assert store.compact(thin_before=OLD.date() + dt.timedelta(days=1)).thinned == 22
    assert len(store.read(OLD.date() + dt.timedelta(days=1))) == 24


def test_a_change_in_any_column_ends_a_run(store):
    frame = observations(40, start=OLD, n_batches=1).assign(success_count=0, error_count=0, pending_count=0)
    frame.loc[10:19, "policy_version"] = "v1"
    frame.loc[20:29, "has_download"] = True
    store.append(frame)
    store.compact(thin_before=START)
    assert [t.minute for t in store.read()["observed_at"]] == [0, 9, 10, 19, 20, 29, 30, 39]


def test_leftovers_of_crashed_writers_go_after_a_day_and_not_before(store, tmp_path):
    store.append(observations(10, start=OLD))
    day = next(tmp_path.glob("observed_date=*"))
    for name, age in [(".tmp-old", 90_000), (".tmp-older", 900_000), (".tmp-new", 100)]:
        (day / name).write_bytes(b"half")
        os.utime(day / name, (time.time() - age,) * 2)
    os.rename(day / ".tmp-older", tmp_path / ".tmp-older")
    report = store.compact()
    assert report.temporaries == 2
    assert not (tmp_path / ".tmp-older").exists()
    assert str(report) == "nothing to compact; 2 leftovers of crashes removed"
    assert [path.name for path in day.glob(".tmp-*")] == [".tmp-new"]


def test_a_leftover_that_someone_else_has_removed_is_none(tmp_path):
    assert LocalFiles(str(tmp_path)).sweep(["gone"], older_than_s=0) == 0


def test_a_compaction_says_all_that_it_did_in_one_line():
    done = Compaction(1, 2, 1, 3000, 2000, 10, 1234, 5, 6, (("observed_date=2026-11-02", "reasons"),))
    assert str(done) == (
        "compacted 1 day: 2 files → 1, 3,000 bytes → 2,000, 10 observations; 1,234 duplicates dropped; "
        "5 unchanged observations thinned; 6 leftovers of crashes removed; "
        "observed_date=2026-11-02 left alone: reasons"
    )
    assert str(Compaction()) == "nothing to compact"
    assert str(Compaction(duplicates=1, thinned=1, temporaries=1)) == (
        "nothing to compact; 1 duplicate dropped; 1 unchanged observation thinned; "
        "1 leftover of a crash removed"
    )


def test_a_compaction_holds_no_more_than_sixteen_days_at_a_time(store, monkeypatch):
    frame = observations(80, start=OLD, step=dt.timedelta(hours=12))
    for i in range(2):
        store.append(frame.iloc[i::2])
    published = []
    publish = LocalFiles.publish

    def counted(files, new):
        published.append(len(new))
        publish(files, new)

    monkeypatch.setattr(LocalFiles, "publish", counted)
    assert store.compact().days == 40
    assert published == [16, 16, 8]
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_a_day_whose_files_vanish_meanwhile_is_left_to_the_other_compaction(store, monkeypatch):
    frame = observations(300, start=OLD)
    for i in range(2):
        store.append(frame.iloc[i::2])
    with monkeypatch.context() as patched:
        patched.setattr(LocalFiles, "read", lambda files, path: os.stat(files.locate(path + ".gone")))
        report = store.compact()
    assert report == Compaction(
        skipped=((f"observed_date={OLD.date()}", "another compaction is at work on it"),)
    )
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_what_would_not_be_read_back_as_it_was_written_is_never_published(store, tmp_path, monkeypatch):
    from safetykit_analytics.store import compaction

    frame = observations(300, start=OLD)
    for i in range(2):
        store.append(frame.iloc[i::2])
    files = parquet_files(tmp_path)
    encode = compaction.encode
    for wrong in (lambda table, date: encode(table[:-1], date), lambda *_: frame[["batch_id"]].to_parquet()):
        monkeypatch.setattr(compaction, "encode", wrong)
        with pytest.raises(
            ska.errors.StoreFailed, match=rf"^observed_date={OLD.date()} would not be read back"
        ):
            store.compact()
        assert parquet_files(tmp_path) == files
        pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_a_file_of_another_origin_that_has_our_name_does_not_keep_a_day_from_being_compacted(store, tmp_path):
    frame = observations(300, start=OLD)
    for i in range(2):
        store.append(frame.iloc[i::2])
    data = frame[["batch_id"]].to_parquet()
    foreign = parquet_files(tmp_path)[0].with_name(f"observations-{'0' * 32}-{zlib.crc32(data):08x}.parquet")
    foreign.write_bytes(data)
    assert store.compact().files_before == 2
    assert len(parquet_files(tmp_path)) == 2
    assert foreign.read_bytes() == data
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_the_marker_never_holds_more_than_one_generation_and_what_others_put_there_stays(store, tmp_path):
    frame = observations(300, start=OLD)
    store.append(frame)
    (tmp_path / ".safetykit-analytics" / "notes.txt").write_text("mine")
    for _ in range(3):
        store.append(frame)
        assert store.compact().days == 1
        names = {path.name for path in (tmp_path / ".safetykit-analytics").iterdir()}
        assert "notes.txt" in names
        assert len(names) == 2


def test_an_instant_to_thin_before_that_is_none_is_named(store):
    with pytest.raises(ValueError, match=r"^thin_before='never' is neither a date"):
        store.compact(thin_before="never")


def test_a_damaged_day_is_named_and_left_alone_while_the_others_are_compacted(store, tmp_path):
    frame = observations(3000, start=OLD)
    store.append(frame)
    store.append(frame)
    victim = parquet_files(tmp_path)[2]
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(ska.DamagedFile, match=victim.name):
        store.compact()
    assert len(parquet_files(tmp_path)) == 1 + 2 + 1
    assert victim.exists()


@pytest.mark.parametrize("appends", [1, 3])
def test_other_tools_read_the_same_rows(store, tmp_path, appends):
    frame = observations(900, start=OLD)
    for i in range(appends):
        store.append(frame.iloc[i::appends])
    wanted = expected(frame)
    folder = str(tmp_path)
    total = int(wanted["success_count"].sum())
    for read in (
        lambda: pd.read_parquet(folder),
        lambda: pl.read_parquet(folder).to_pandas(),
        lambda: pl.read_parquet(f"{folder}/*/*.parquet").to_pandas(),
        lambda: (
            duckdb.sql(f"select * from read_parquet('{folder}/*/*.parquet', hive_partitioning=true)")
            .to_arrow_table()
            .to_pandas()
        ),
        lambda: pq.read_table(folder).to_pandas(),
    ):
        result = read().sort_values(["batch_id", "observed_at"])
        assert list(result["batch_id"]) == list(wanted["batch_id"])
        assert result["observed_at"].dt.tz_convert("UTC").tolist() == wanted["observed_at"].tolist()
        assert int(result["success_count"].sum()) == total
        assert list(result["policy_id"].fillna("none")) == list(wanted["policy_id"].fillna("none"))


def html(folder, **rows):
    cells = "".join(f"<tr><th>{what}</th><td>{value}</td></tr>" for what, value in rows.items())
    return f"<table><caption>SnapshotStore <code>{folder}</code></caption>{cells}</table>"


def test_repr_says_how_much_there_is(store, tmp_path):
    assert repr(store) == f"SnapshotStore('{tmp_path}'): empty"
    assert store._repr_html_() == html(
        tmp_path, files="0", observations="0", batches="0", days="0", size="0 bytes"
    )
    frame = observations(3000, start=OLD)
    store.append(frame)
    store.append(frame.iloc[:500])
    size = sum(path.stat().st_size for path in parquet_files(tmp_path))
    first = OLD.date()
    assert repr(store) == (
        f"SnapshotStore('{tmp_path}'): 4 files, 3,000 observations, 10 batches, 3 days "
        f"({first} to {first + dt.timedelta(days=2)}), {size / 1000:.1f} kB"
    )
    assert store._repr_html_() == html(
        tmp_path,
        files="4",
        observations="3,000",
        batches="10",
        days=f"3 ({first} to {first + dt.timedelta(days=2)})",
        size=f"{size / 1000:.1f} kB",
    )


def test_repr_counts_one_as_one(store, tmp_path):
    store.append(observations(1, start=OLD))
    size = parquet_files(tmp_path)[0].stat().st_size
    assert repr(store) == (
        f"SnapshotStore('{tmp_path}'): 1 file, 1 observation, 1 batch, 1 day ({OLD.date()}), "
        f"{size / 1000:.1f} kB"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1e6, "1.0 MB"),
        (2.56e9, "2.6 GB"),
        (5e12, "5,000.0 GB"),
    ],
)
def test_bytes_are_said_in_units_of_a_thousand(count, text):
    assert _size(count) == text


def test_repr_of_what_is_no_store_says_so_instead_of_failing(tmp_path):
    (tmp_path / "<b>.txt").write_text("")
    store = ska.SnapshotStore(tmp_path)
    assert "NotAStore" in repr(store)
    assert "NotAStore" in store._repr_html_()


class Torn(LocalFiles):
    """A folder whose first list is torn: old files are gone before, the new one came after it was looked for.

    A kernel may list a large folder in several steps, and a compaction may fall between two of them.
    """

    def tree(self, wanted):
        lists.append(listing := super().tree(wanted))
        if len(lists) == 1:
            compact_days(LocalFiles(self.root), today=START.date(), thin_before=None)
            return {name: [] if name else entries for name, entries in listing.items()}
        return listing


lists = []


def test_a_list_during_which_a_compaction_removed_files_is_made_again(store, tmp_path):
    frame = observations(300, start=OLD)
    store.append(frame.iloc[:200])
    store.append(frame.iloc[200:])
    lists.clear()
    days = list_days(Torn(str(tmp_path)))
    assert len(lists) == 2
    assert list(days.values()) == [tuple(str(path.relative_to(tmp_path)) for path in parquet_files(tmp_path))]


def test_a_list_from_before_a_compaction_still_reads_every_key_once(store):
    frame = observations(300, start=OLD)
    for i in range(3):
        store.append(frame.iloc[i::3])
    before = store.partitions()
    store.compact()
    store.append(observations(10, start=OLD, offset=300))
    store.compact()
    assert sum(part.read(["batch_id"]).num_rows for part in before) == 310


def test_two_compactions_at_once_lose_nothing(store, tmp_path, monkeypatch):
    frame = observations(300, start=OLD)
    for i in range(3):
        store.append(frame.iloc[i::3])
    publish = LocalFiles.publish

    def compact_first(files, new):
        monkeypatch.setattr(LocalFiles, "publish", publish)
        store.compact()  # another process, just before this one publishes
        files.publish(new)

    monkeypatch.setattr(LocalFiles, "publish", compact_first)
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert len(parquet_files(tmp_path)) == 2
    store.compact()
    assert len(parquet_files(tmp_path)) == 1
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_an_append_during_a_compaction_is_kept(store, tmp_path, monkeypatch):
    frame = observations(300, start=OLD)
    for i in range(2):
        store.append(frame.iloc[i::3])
    renew = LocalFiles.renew_generation

    def append_first(files):
        store.append(frame.iloc[2::3])
        renew(files)

    monkeypatch.setattr(LocalFiles, "renew_generation", append_first)
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert len(parquet_files(tmp_path)) == 2


def test_a_compaction_that_cannot_warn_readers_removes_nothing_and_leaves_no_copies(
    store, tmp_path, monkeypatch
):
    frame = observations(300, start=OLD)
    for i in range(2):
        store.append(frame.iloc[i::2])
    files = parquet_files(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFiles, "renew_generation", full)
    with pytest.raises(ska.errors.StoreFailed, match="No space"):
        store.compact()
    assert parquet_files(tmp_path) == files
    pd.testing.assert_frame_equal(store.read(), expected(frame))
