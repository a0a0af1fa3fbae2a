"""What compacting, verifying and looking at a store promise."""

from __future__ import annotations

import datetime as dt
import errno
import os
import time

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import safetykit_analytics as ska
from safetykit_analytics.formatting import size_text
from safetykit_analytics.store import compaction
from safetykit_analytics.store.compaction import Compaction, compact_store
from safetykit_analytics.store.listing import list_store
from safetykit_analytics.store.local import LocalFiles
from tests.store.helpers import START, batch_id, by_day, expected, files_of, fleet, observations

DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    return ska.SnapshotStore(tmp_path)


def kinds(folder):
    return [path.name.partition("_")[0] for path in files_of(folder)]


def test_compaction_leaves_one_sorted_file_per_cohort_and_reads_the_same(store, tmp_path):
    frame = pd.concat([fleet(3), observations(100)])
    for i in range(0, len(frame), 100):
        store.append(frame.iloc[i : i + 150])
    before = store.read()
    sizes = [path.stat().st_size for path in files_of(tmp_path)]
    report = store.compact()
    assert kinds(tmp_path) == ["2026-11-02", "2026-11-03", "2026-11-04", "undated"]
    assert (report.cohorts, report.files_before, report.files_after) == (4, len(sizes), 4)
    assert report.observations == len(frame)
    assert report.duplicates == len(
        pd.concat([frame.iloc[i : i + 150] for i in range(0, len(frame), 100)])
    ) - len(frame)
    after = [path.stat().st_size for path in files_of(tmp_path)]
    assert (report.bytes_before, report.bytes_after) == (sum(sizes), sum(after))
    pd.testing.assert_frame_equal(store.read(), before)
    pd.testing.assert_frame_equal(before, expected(frame))
    for path in files_of(tmp_path):
        table = pq.read_table(path, partitioning=None)
        keys = list(zip(table["batch_id"].to_pylist(), table["observed_at"].to_pylist(), strict=True))
        assert keys == sorted(set(keys))
        group = pq.ParquetFile(path).metadata.row_group(0)
        assert group.column(0).compression == "ZSTD"
        assert all(
            group.column(i).statistics.has_min_max or not group.column(i).statistics.num_values
            for i in range(13)
        )
    assert store.verify() == []


def test_compacting_again_does_nothing_and_says_so(store, tmp_path):
    for part in by_day(fleet(4, stuck={1})):
        store.append(part)
        store.compact()
    files = files_of(tmp_path)
    assert str(store.compact()) == "nothing to compact"
    assert files_of(tmp_path) == files


def test_the_file_of_a_day_of_creation_can_be_deleted_as_a_whole(store, tmp_path):
    frame = fleet(3)
    store.append(frame)
    store.compact()
    first, *_ = files_of(tmp_path, "cohorts")
    first.unlink()
    later = frame[frame["created_at"] >= pd.Timestamp(START + DAY)]
    pd.testing.assert_frame_equal(store.read(), expected(later))
    assert store.verify() == []
    assert str(store.compact()) == "nothing to compact"


def recent_rows(store, tmp_path):
    return sum(pq.read_metadata(path).num_rows for path in files_of(tmp_path, "recent"))


#: Rows of a cohort far from the others: beside them, few of a store's rows wait.
ELSEWHERE = observations(600, start=START - 500 * DAY, n_batches=1).assign(
    batch_id=batch_id(START - 500 * DAY, 0)
)


def test_recent_rows_move_when_they_are_a_quarter_of_the_file(store, tmp_path):
    frame = observations(200, n_batches=1, step=dt.timedelta(hours=1))
    store.append(frame.iloc[:100])
    store.append(ELSEWHERE)
    store.compact()
    store.append(frame.iloc[100:124])
    assert "nothing to compact" in str(store.compact())
    assert recent_rows(store, tmp_path) == 24
    store.append(frame.iloc[124:125])
    assert store.compact().cohorts == 1
    assert recent_rows(store, tmp_path) == 0
    pd.testing.assert_frame_equal(store.read(), expected(pd.concat([frame.iloc[:125], ELSEWHERE])))


def test_recent_rows_move_when_the_last_open_batch_has_ended(store, tmp_path):
    frame = observations(100, n_batches=2, step=dt.timedelta(hours=1))
    frame.loc[frame.index[-1], "is_terminal"] = True
    store.append(frame.iloc[:98])
    store.compact()
    store.append(frame.iloc[99:])
    assert store.compact().cohorts == 0
    store.append(frame.iloc[98:99].assign(is_terminal=True))
    assert store.compact().cohorts == 1
    assert recent_rows(store, tmp_path) == 0


def test_recent_rows_move_when_a_key_is_there_already(store, tmp_path):
    frame = observations(100, n_batches=2, step=dt.timedelta(hours=1))
    store.append(frame)
    store.compact()
    store.append(
        frame.iloc[40:41].assign(observed_at=frame["observed_at"].iloc[40] + dt.timedelta(minutes=1))
    )
    assert store.compact().cohorts == 0
    store.append(frame.iloc[40:41])
    report = store.compact()
    assert (report.cohorts, report.duplicates) == (1, 1)
    assert recent_rows(store, tmp_path) == 0


def test_recent_rows_move_after_ninety_days(store, tmp_path):
    frame = observations(100, start=START - 200 * DAY, n_batches=2, step=dt.timedelta(hours=1))
    store.append(frame)
    store.compact()
    last = frame["observed_at"].iloc[-1]
    for days, moved in ((1, 0), (91, 0), (92, 1)):
        store.append(frame.iloc[-1:].assign(observed_at=last + days * DAY))
        assert store.compact().cohorts == moved


def test_what_stays_is_put_together_with_a_row_group_for_each_cohort(store, tmp_path):
    store.append(fleet(5, stuck={1, 6, 11}, hours=20))
    store.compact()
    for hour in range(3):
        late = [batch_id(START + number // 4 * DAY + dt.timedelta(hours=6), number) for number in (1, 5, 9)]
        frame = observations(3, start=START + 9 * DAY + hour * dt.timedelta(hours=1), n_batches=3)
        store.append(frame.assign(batch_id=late))
    assert store.compact().cohorts == 0
    (path,) = files_of(tmp_path, "recent")
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [3, 3, 3]
    assert store.verify() == []


EARLY = START - 300 * DAY


def poll_daily(store, days):
    """Poll a batch of each of two cohorts, which never ends, once a day, and compact every evening."""
    for day in days:
        frame = observations(2, start=EARLY + (20 + day) * DAY, n_batches=2, step=dt.timedelta(minutes=1))
        frame["batch_id"] = [batch_id(EARLY + number * DAY, number) for number in range(2)]
        store.append(frame)
        yield store.compact()


@pytest.fixture
def settled(store):
    """A store of two cohorts with 80 rows each, all of whose batches have ended, and of ELSEWHERE."""
    store.append(fleet(2, hours=20, start=EARLY))
    store.append(ELSEWHERE)
    store.compact()
    return store


def test_rows_that_wait_are_written_again_when_as_many_have_come_until_all_move(settled, tmp_path):
    reports = list(poll_daily(settled, range(19)))
    assert all(report.cohorts == 0 for report in reports)
    # 38 rows in all; written anew every day they would be 380.
    assert sum(report.observations for report in reports) < 3.5 * 38
    assert 2 <= len(files_of(tmp_path, "recent")) <= 5
    assert recent_rows(settled, tmp_path) == 38
    assert str(settled.compact()) == "nothing to compact"
    assert len(settled.read()) == 2 * 80 + 600 + 38
    # With the next ones they are a quarter of the rows of the files of these days.
    (report,) = poll_daily(settled, [19])
    assert report.cohorts == 2
    assert recent_rows(settled, tmp_path) == 0


def test_a_row_that_would_move_alone_waits_with_the_others_of_its_cohort(settled, tmp_path):
    list(poll_daily(settled, range(10)))
    end = observations(1, start=EARLY + 40 * DAY, n_batches=1)
    settled.append(end.assign(batch_id=batch_id(EARLY, 0), is_terminal=True))
    assert settled.compact().cohorts == 0
    assert recent_rows(settled, tmp_path) == 21


def test_rows_of_days_far_apart_wait_in_files_of_their_own_and_move_alone(settled, tmp_path):
    far = fleet(1, hours=20, start=EARLY + 100 * DAY)
    settled.append(far)
    settled.compact()
    late = observations(22, start=EARLY + 130 * DAY, n_batches=1)
    ids = [batch_id(EARLY, 0)] * 3 + [batch_id(EARLY + 100 * DAY, 0)] * 19
    settled.append(late.assign(batch_id=ids))
    assert settled.compact().cohorts == 0
    kept, _ = files = files_of(tmp_path, "recent")
    assert [pq.read_metadata(path).num_rows for path in files] == [3, 19]
    more = late.assign(observed_at=late["observed_at"] + DAY)
    settled.append(more.iloc[:1].assign(batch_id=batch_id(EARLY + 100 * DAY, 0)))
    assert settled.compact().cohorts == 1
    assert files_of(tmp_path, "recent") == [kept]


def test_a_file_in_which_rows_of_days_far_apart_wait_together_is_divided(settled, tmp_path, monkeypatch):
    far = EARLY + 100 * DAY
    settled.append(fleet(1, hours=20, start=far))
    settled.compact()
    late = observations(6, start=EARLY + 130 * DAY, n_batches=1)
    late["batch_id"] = [batch_id(EARLY, 0), batch_id(far, 0)] * 3
    with monkeypatch.context() as earlier:
        # As rows waited before they were kept apart by days of creation.
        earlier.setattr(compaction, "_DAYS_TOGETHER", 1000)
        settled.append(late.iloc[:3])
        settled.append(late.iloc[3:])
        settled.compact()
    assert [pq.read_metadata(path).num_rows for path in files_of(tmp_path, "recent")] == [6]
    settled.compact()
    assert [pq.read_metadata(path).num_rows for path in files_of(tmp_path, "recent")] == [3, 3]
    assert str(settled.compact()) == "nothing to compact"


def test_at_most_twelve_per_cent_of_the_rows_wait_and_the_days_with_the_largest_share_move(store, tmp_path):
    starts = [EARLY, EARLY + 100 * DAY, EARLY + 200 * DAY]
    for start in starts:
        store.append(fleet(1, hours=20, start=start))
    store.compact()
    late = observations(32, start=START, n_batches=1)
    ids = [batch_id(start, 0) for start, n in zip(starts, (9, 12, 11), strict=True) for _ in range(n)]
    store.append(late.assign(batch_id=ids).iloc[:-1])
    # 31 of 271 rows are 11.4 %, and 32 of 272 are 11.8 %: few enough.
    assert store.compact().cohorts == 0
    store.append(late.assign(batch_id=ids).iloc[-1:])
    assert store.compact().cohorts == 0
    # 33 of 273 are 12.1 %.
    store.append(late.iloc[:1].assign(batch_id=ids[0], observed_at=START + 2 * DAY))
    assert store.compact().cohorts == 1
    assert recent_rows(store, tmp_path) == 21


def test_rows_wait_no_longer_than_ninety_days(settled, tmp_path):
    list(poll_daily(settled, range(10)))
    one = observations(1, start=EARLY + 20 * DAY, n_batches=1)
    for days, waits in ((50, True), (89, True), (91, False)):
        settled.append(one.assign(observed_at=one["observed_at"] + dt.timedelta(days=days)))
        settled.compact()
        assert (recent_rows(settled, tmp_path) >= 20) == waits


def test_a_key_that_waits_already_is_dropped(settled, tmp_path):
    list(poll_daily(settled, range(10)))
    assert len(files_of(tmp_path, "recent")) > 1
    (report,) = poll_daily(settled, [2])
    assert report.duplicates == 2
    assert recent_rows(settled, tmp_path) == 20


@pytest.mark.parametrize("moved", [0, 2])
def test_waiting_files_that_a_crash_has_left_beside_what_replaced_them_go(settled, tmp_path, moved):
    for day in range(40):
        before = {path: path.read_bytes() for path in files_of(tmp_path, "recent")}
        (report,) = poll_daily(settled, [day])
        left = {path: data for path, data in before.items() if not path.exists()}
        if left and day > 5 and report.cohorts == moved:
            break
    else:
        pytest.fail("no compaction replaced a waiting file")
    for path, data in left.items():
        path.write_bytes(data)
    settled.compact()
    assert not any(path.exists() for path in left)
    assert len(settled.read()) == sum(pq.read_metadata(path).num_rows for path in files_of(tmp_path))


def test_a_cohort_that_a_crash_has_left_twice_is_merged_though_rows_wait(settled, tmp_path):
    list(poll_daily(settled, range(6)))
    path = files_of(tmp_path, "cohorts")[1]
    path.with_name(path.name.replace(path.name.rpartition("_")[2].partition("-")[0], "0" * 32)).write_bytes(
        path.read_bytes()
    )
    list(poll_daily(settled, [6]))
    assert len(files_of(tmp_path, "cohorts")) == 3
    assert len(settled.read()) == 2 * 80 + 600 + 14


def test_no_recent_row_is_lost_when_another_cohort_alone_is_rewritten(store, tmp_path):
    frame = observations(40, n_batches=1, step=dt.timedelta(hours=1))
    old = fleet(1)
    store.append(pd.concat([frame.iloc[:30], old]))
    store.compact()
    store.append(frame.iloc[30:31])
    store.compact()
    store.append(frame.iloc[31:32])
    store.compact()
    # A crash has left the file of another cohort twice.
    (path,) = (path for path in files_of(tmp_path, "cohorts") if "undated" not in path.name)
    name = path.name.replace(path.name.rpartition("_")[2].partition("-")[0], "0" * 32)
    path.with_name(name).write_bytes(path.read_bytes())
    assert store.compact().cohorts == 1
    pd.testing.assert_frame_equal(store.read(), expected(frame.iloc[:32], old))
    assert len(files_of(tmp_path, "cohorts")) == 2


@pytest.mark.parametrize("appends", [1, 2])
def test_unchanged_observations_are_thinned_only_when_asked(store, appends):
    frame = observations(300, n_batches=3).assign(
        success_count=[i // 60 for i in range(300)], error_count=0, pending_count=0
    )
    for i in range(appends):
        store.append(frame.iloc[i::appends])
    assert store.compact().thinned == 0
    assert len(store.read()) == 300
    report = store.compact(thin_before=START + 100 * DAY)
    kept = store.read()
    first_and_last = frame.groupby(["batch_id", "success_count"]).agg(
        first=("observed_at", "min"), last=("observed_at", "max")
    )
    wanted = set(first_and_last["first"]) | set(first_and_last["last"])
    assert set(kept["observed_at"]) == wanted
    assert report.thinned == 300 - len(wanted)
    assert store.compact(thin_before=START + 100 * DAY).cohorts == 0


def test_observations_from_thin_before_on_are_not_thinned(store):
    frame = observations(48, n_batches=1, step=dt.timedelta(hours=1)).assign(
        success_count=0, error_count=0, pending_count=0
    )
    store.append(frame)
    assert store.compact(thin_before=START + DAY).thinned == 22
    assert len(store.read(START + DAY)) == 24


def test_recent_rows_and_the_file_are_thinned_together(store):
    frame = observations(48, n_batches=1, step=dt.timedelta(hours=1)).assign(
        success_count=0, error_count=0, pending_count=0
    )
    changed = frame.assign(success_count=[1 if i == 40 else 0 for i in range(48)])
    store.append(changed.iloc[[i for i in range(48) if i != 40]])
    store.compact()
    store.append(changed.iloc[40:41])
    store.compact(thin_before=START + 100 * DAY)
    assert [t.hour + 24 * (t.day - 2) for t in store.read()["observed_at"]] == [0, 39, 40, 41, 47]


def test_a_change_in_any_column_ends_a_run(store):
    frame = observations(40, n_batches=1).assign(success_count=0, error_count=0, pending_count=0)
    frame.loc[10:19, "policy_version"] = "v1"
    frame.loc[20:29, "has_download"] = True
    store.append(frame)
    store.compact(thin_before=START + 100 * DAY)
    assert [t.minute for t in store.read()["observed_at"]] == [0, 9, 10, 19, 20, 29, 30, 39]


def test_leftovers_of_crashed_writers_go_after_a_day_and_not_before(store, tmp_path):
    store.append(observations(10))
    day = tmp_path / "recent"
    for name, age in [(".tmp-old", 90_000), (".tmp-older", 900_000), (".tmp-new", 100)]:
        (day / name).write_bytes(b"half")
        os.utime(day / name, (time.time() - age,) * 2)
    os.rename(day / ".tmp-older", tmp_path / ".tmp-older")
    report = store.compact()
    assert report.temporaries == 2
    assert not (tmp_path / ".tmp-older").exists()
    assert str(report).endswith("; 2 leftovers of crashes removed")
    assert [path.name for path in day.glob(".tmp-*")] == [".tmp-new"]


def test_a_leftover_that_someone_else_has_removed_is_none(tmp_path):
    assert LocalFiles(str(tmp_path)).sweep(["gone"], older_than_s=0) == 0


def test_a_compaction_says_all_that_it_did_in_one_line():
    done = Compaction(1, 2, 1, 3000, 2000, 10, 1234, 5, 6, (("recent/x", "reasons"),))
    assert str(done) == (
        "compacted 1 cohort: 2 files → 1, 3,000 bytes → 2,000, 10 observations; 1,234 duplicates dropped; "
        "5 unchanged observations thinned; 6 leftovers of crashes removed; "
        "recent/x left alone: reasons"
    )
    assert str(Compaction()) == "nothing to compact"
    assert str(Compaction(duplicates=1, thinned=1, temporaries=1)) == (
        "nothing to compact; 1 duplicate dropped; 1 unchanged observation thinned; "
        "1 leftover of a crash removed"
    )


def test_memory_is_bounded_by_taking_some_cohorts_at_a_time(store, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "_ROWS_AT_A_TIME", 200)
    frame = fleet(6, stuck={1, 9})
    parts = by_day(frame)
    for part in parts:
        store.append(part)
        store.append(part.iloc[::3])
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    late = [batch_id(START + day * DAY, day) for day in range(6)]
    more = observations(6, start=START + 20 * DAY, n_batches=6).assign(batch_id=late)
    for _ in range(2):
        store.append(more)
        more = more.assign(observed_at=more["observed_at"] + DAY)
    monkeypatch.setattr(compaction, "_ROWS_AT_A_TIME", 5)
    store.compact()
    assert len(store.read()) == len(frame) + 12
    assert store.verify() == []


def test_what_vanishes_meanwhile_is_left_to_the_other_compaction(store, monkeypatch):
    frame = observations(300)
    for i in range(2):
        store.append(frame.iloc[i::2])
    read = LocalFiles.read

    def gone(files, path):
        files.renew_generation()
        return read(files, path + ".gone")

    with monkeypatch.context() as patched:
        patched.setattr(LocalFiles, "read", gone)
        report = store.compact()
    assert {reason for _, reason in report.skipped} == {"another compaction is at work on it"}
    assert report.files_after == 0
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_what_would_not_be_read_back_as_it_was_written_is_never_published(store, tmp_path, monkeypatch):
    frame = observations(300)
    for i in range(2):
        store.append(frame.iloc[i::2])
    files = files_of(tmp_path)
    encode = compaction.encode
    monkeypatch.setattr(
        compaction, "encode", lambda tables, **how: encode((table[:-1] for table in tables), **how)
    )
    with pytest.raises(ska.errors.StoreFailed, match=r"^cohorts/undated_.* would not be read back"):
        store.compact()
    assert files_of(tmp_path) == files
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_a_damaged_recent_file_stays_and_the_rest_is_compacted(store, tmp_path):
    frame = fleet(3)
    for part in by_day(frame):
        store.append(part)
    victim = files_of(tmp_path, "recent")[1]
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(ska.DamagedFile, match=victim.name):
        store.compact()
    assert files_of(tmp_path, "recent") == [victim]
    with pytest.warns(ska.errors.DamagedFileWarning):
        assert len(store.read(skip_damaged=True)) == len(frame) - len(by_day(frame)[1])


def test_the_rows_of_a_damaged_cohort_stay_recent(store, tmp_path):
    frame = fleet(3)
    store.append(frame.iloc[:200])
    store.compact()
    store.append(frame.iloc[200:])
    victim = files_of(tmp_path, "cohorts")[0]
    good = victim.read_bytes()
    victim.write_bytes(good[:-100])
    with pytest.raises(ska.DamagedFile, match=victim.name):
        store.compact()
    victim.write_bytes(good)
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_a_file_that_may_not_be_removed_stays_and_goes_next_time(store, tmp_path, monkeypatch):
    frame = observations(300)
    for i in range(2):
        store.append(frame.iloc[i::2])
    busy = files_of(tmp_path)[0]
    with monkeypatch.context() as patched:
        unlink = os.unlink

        def refuse(path):
            if str(path) == str(busy):
                raise PermissionError(errno.EACCES, "in use", path)
            unlink(path)

        patched.setattr(os, "unlink", refuse)
        report = store.compact()
    assert str(report).endswith("left alone: it is open elsewhere and goes next time")
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    store.compact()
    assert not busy.exists()
    pd.testing.assert_frame_equal(store.read(), expected(frame))


@pytest.mark.parametrize("compacted", [False, True])
def test_other_tools_read_the_folder_as_it_lies(store, tmp_path, compacted):
    import duckdb
    import polars as pl

    frame = fleet(3, stuck={1})
    for part in by_day(frame)[:-1]:
        store.append(part)
        if compacted:
            store.compact()
    store.append(by_day(frame)[-1])
    wanted = expected(frame)
    folder = str(tmp_path)
    total = int(wanted["success_count"].sum())
    query = "select * from read_parquet('{}/**/*.parquet', hive_partitioning={})"
    for read in (
        lambda: pd.read_parquet(folder),
        lambda: pl.read_parquet(folder).to_pandas(),
        lambda: pl.scan_parquet(f"{folder}/**/*.parquet").collect().to_pandas(),
        lambda: duckdb.sql(query.format(folder, "true")).to_arrow_table().to_pandas(),
        lambda: duckdb.sql(query.format(folder, "false")).to_arrow_table().to_pandas(),
        lambda: pq.read_table(folder).to_pandas(),
        lambda: ds.dataset(folder).to_table().to_pandas(),
    ):
        result = read().sort_values(["batch_id", "observed_at"])
        assert list(result["batch_id"]) == list(wanted["batch_id"])
        assert result["observed_at"].dt.tz_convert("UTC").tolist() == wanted["observed_at"].tolist()
        assert int(result["success_count"].sum()) == total
        assert list(result["policy_id"]) == list(wanted["policy_id"])


def test_a_store_tells_of_itself_from_names_alone(store, tmp_path, monkeypatch):
    assert repr(store) == f"SnapshotStore('{tmp_path}'): empty"
    frame = fleet(3, stuck={1})
    for part in by_day(frame):
        store.append(part)
    size = sum(path.stat().st_size for path in files_of(tmp_path))

    def refuse(*_):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(LocalFiles, "read", refuse)
        info = store.info()
        assert (info.files, info.cohorts, info.rows, info.bytes) == (4, 0, len(frame), size)
        assert info.batches > 12
        assert "4 files, 0 cohorts, up to" in repr(store)
        assert "<th>observations</th>" in store._repr_html_()
    store.compact()
    info = store.info()
    assert (info.files, info.recent_files, info.cohorts, info.rows, info.batches, info.open_batches) == (
        *(3, 0, 3, len(frame), 12, 1),
    )
    assert info.first_observed_at == frame["observed_at"].min()
    assert info.last_observed_at == frame["observed_at"].max()
    assert (
        f"3 files, 3 cohorts, {len(frame)} observations, 12 batches, 1 open, from 2026-11-02 01:00 to"
        in repr(store)
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
    assert size_text(count) == text


def test_repr_of_what_is_no_store_says_so_instead_of_failing(tmp_path):
    (tmp_path / "<b>.txt").write_text("")
    store = ska.SnapshotStore(tmp_path)
    assert "NotAStore" in repr(store)
    assert "NotAStore" in store._repr_html_()


class Torn(LocalFiles):
    """A folder whose first list is torn: old files are gone before, the new one came too late."""

    def tree(self, wanted):
        lists.append(listing := super().tree(wanted))
        if len(lists) == 1:
            compact_store(LocalFiles(self.root), thin_before_us=None)
            return {name: [] if name else entries for name, entries in listing.items()}
        return listing


lists = []


def test_a_list_during_which_a_compaction_removed_files_is_made_again(store, tmp_path):
    frame = observations(300)
    store.append(frame.iloc[:200])
    store.append(frame.iloc[200:])
    lists.clear()
    listing = list_store(Torn(str(tmp_path)))
    assert len(lists) == 2
    assert [file.path for file in listing.all] == [
        str(path.relative_to(tmp_path)) for path in files_of(tmp_path)
    ]


def test_cohorts_from_before_a_compaction_say_that_the_store_has_changed(store):
    for part in by_day(fleet(2)):
        store.append(part)
        store.compact()
    before = store.cohorts()
    store.append(fleet(2, hours=50))
    store.compact()
    for cohort in before:
        with pytest.raises(ska.errors.StoreChanged):
            list(cohort.tables())


def test_recent_rows_are_not_read_again(store):
    frame = fleet(2)
    store.append(frame)
    before = store.cohorts()
    store.compact()
    assert sum(table.num_rows for cohort in before for table in cohort.tables()) == len(frame)


def read_all(cohorts):
    return [list(cohort.tables()) for cohort in cohorts]


def test_a_file_that_goes_between_two_renewals_is_looked_for_in_footers(store, tmp_path, monkeypatch):
    frame = fleet(2)
    for part in by_day(frame):
        store.append(part)
    store.compact()
    store.append(fleet(2, hours=50))
    remove = LocalFiles.remove

    def look_while_removing(files, paths):
        cohorts = store.cohorts()
        stay = remove(files, paths)
        seen.append(cohorts)
        with pytest.raises(ska.errors.StoreChanged):
            read_all(cohorts)
        return stay

    seen = []
    monkeypatch.setattr(LocalFiles, "remove", look_while_removing)
    store.compact()
    assert len(seen) == 1


def test_a_place_that_goes_away_is_an_error_and_never_fewer_rows(store, tmp_path):
    for part in by_day(fleet(3)):
        store.append(part)
        store.compact()
    cohorts = store.cohorts()
    victim = files_of(tmp_path, "cohorts")[0]
    victim.rename(tmp_path.parent / "elsewhere")
    with pytest.raises(ska.errors.StoreFailed, match="was listed and is gone") as caught:
        read_all(cohorts)
    assert not isinstance(caught.value, ska.errors.StoreChanged)
    tmp_path.rename(tmp_path.parent / "unmounted")
    with pytest.raises(ska.errors.StoreFailed, match="was listed and is gone") as caught:
        list(cohorts[-1].tables())
    assert not isinstance(caught.value, ska.errors.StoreChanged)


def test_a_folder_that_is_a_dead_link_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    store = ska.SnapshotStore(tmp_path / "link")
    for act in (store.read, store.cohorts, store.info, lambda: store.append(fleet(1))):
        with pytest.raises(ska.errors.StoreFailed, match="a link that leads nowhere"):
            act()


def test_two_compactions_at_once_lose_nothing(store, tmp_path, monkeypatch):
    frame = observations(300)
    for i in range(3):
        store.append(frame.iloc[i::3])
    publish = LocalFiles.publish

    def compact_first(files, path, data):
        monkeypatch.setattr(LocalFiles, "publish", publish)
        store.compact()  # another process, just before this one publishes
        files.publish(path, data)

    monkeypatch.setattr(LocalFiles, "publish", compact_first)
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert len(files_of(tmp_path)) == 2
    store.compact()
    assert len(files_of(tmp_path)) == 1
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_an_append_during_a_compaction_is_kept(store, tmp_path, monkeypatch):
    frame = observations(300)
    for i in range(2):
        store.append(frame.iloc[i::3])
    renew = LocalFiles.renew_generation

    def append_first(files):
        monkeypatch.setattr(LocalFiles, "renew_generation", renew)
        store.append(frame.iloc[2::3])
        renew(files)

    monkeypatch.setattr(LocalFiles, "renew_generation", append_first)
    store.compact()
    pd.testing.assert_frame_equal(store.read(), expected(frame))
    assert len(files_of(tmp_path)) == 2


def test_a_compaction_that_cannot_warn_readers_removes_nothing_and_leaves_no_copies(
    store, tmp_path, monkeypatch
):
    frame = observations(300)
    for i in range(2):
        store.append(frame.iloc[i::2])
    files = files_of(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFiles, "renew_generation", full)
    with pytest.raises(ska.errors.StoreFailed, match="No space"):
        store.compact()
    assert files_of(tmp_path) == files
    pd.testing.assert_frame_equal(store.read(), expected(frame))
