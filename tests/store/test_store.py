"""What `SnapshotStore` promises to someone who only appends and reads."""

from __future__ import annotations

import datetime as dt
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from tests.effort import examples
from tests.store.helpers import START, batch_id, by_day, expected, fleet, keys, observations

DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    return ska.SnapshotStore(tmp_path / "snapshots")


def test_what_was_appended_is_read_back_exactly(store):
    frame = observations(3000)
    assert store.append(frame) == 3000
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_order_index_and_attrs_of_the_frame_are_not_kept(store):
    frame = observations(300)
    shuffled = frame.sample(frac=1, random_state=1)
    shuffled.attrs["secret"] = "x"
    store.append(shuffled[shuffled.columns[::-1]])
    result = store.read()
    pd.testing.assert_frame_equal(result, expected(frame))
    assert result.attrs == {}


def test_appending_twice_changes_nothing(store):
    frame = observations(300)
    store.append(frame)
    store.append(frame)
    store.append(frame.iloc[:100])
    pd.testing.assert_frame_equal(store.read(), expected(frame))


def test_a_repeated_key_within_a_frame_is_written_once(store):
    frame = observations(300)
    assert store.append(pd.concat([frame, frame])) == 300
    assert len(store.read()) == 300


@pytest.mark.parametrize("one_append", [True, False])
@pytest.mark.parametrize("advanced_first", [True, False])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("success_count", 9_999),
        ("is_terminal", True),
        ("error_count", 7),
        ("batch_count", 20_000),
        ("policy_version", "v9"),
    ],
)
def test_of_two_rows_with_one_key_the_most_advanced_is_kept(store, one_append, advanced_first, column, value):
    less = observations(20, n_batches=20)
    less[["policy_version"]] = None
    more = less.copy()
    more[column] = value
    frames = [more, less] if advanced_first else [less, more]
    for frame in [pd.concat(frames)] if one_append else frames:
        store.append(frame)
    pd.testing.assert_frame_equal(store.read(), expected(more))


def test_finished_decisions_decide_before_the_status(store):
    terminal = observations(5, n_batches=5).assign(is_terminal=True, success_count=1)
    ahead = observations(5, n_batches=5).assign(is_terminal=False, success_count=0, error_count=2)
    store.append(pd.concat([terminal, ahead]))
    pd.testing.assert_frame_equal(store.read(), expected(ahead))


def test_a_missing_folder_reads_as_empty_with_the_right_dtypes(store, tmp_path):
    empty = frame_from_table(OBSERVATION_SCHEMA.empty_table())
    pd.testing.assert_frame_equal(store.read(), empty)
    pd.testing.assert_frame_equal(store.latest(), empty)
    assert store.open_batch_ids() == []
    assert store.cohorts() == []
    assert list(tmp_path.iterdir()) == []


def test_appending_nothing_writes_nothing(store, tmp_path):
    assert store.append(store.read()) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", ["read", "latest", "open_batch_ids", "cohorts", "info", "append"])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path, operation):
    (tmp_path / "thesis.docx").write_bytes(b"precious")
    store = ska.SnapshotStore(tmp_path)
    with pytest.raises(ska.NotAStore, match="not a snapshot store"):
        store.append(observations(5)) if operation == "append" else getattr(store, operation)()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ska.NotAStore, match="is a file"):
        ska.SnapshotStore(tmp_path / "file").read()


def test_read_takes_dates_text_and_aware_times_half_open(store):
    frame = observations(3000)  # 50 hours
    store.append(frame)
    cet = dt.timezone(dt.timedelta(hours=1))
    noon = START + dt.timedelta(hours=12)
    for start, end, low, high in [
        (dt.date(2026, 11, 3), dt.date(2026, 11, 4), START + DAY, START + 2 * DAY),
        ("2026-11-03", None, START + DAY, START + 9 * DAY),
        (None, "2026-11-03", START, START + DAY),
        (noon, noon + DAY, noon, noon + DAY),
        (noon.astimezone(cet), "2026-11-02T14:00:00+01:00", noon, noon + dt.timedelta(hours=1)),
        (
            pd.Timestamp(noon),
            pd.Timestamp(noon) + pd.Timedelta(1, "ns"),
            noon,
            noon + dt.timedelta(microseconds=1),
        ),
        ("2026-11-02T12:00Z", noon, noon, noon),
        ("1999-01-01", dt.date.max, START, START + 9 * DAY),
    ]:
        within = frame[(frame["observed_at"] >= low) & (frame["observed_at"] < high)]
        result = store.read(start, end)
        pd.testing.assert_frame_equal(result, expected(within))


@pytest.mark.parametrize("bound", ["start", "end"])
@pytest.mark.parametrize(
    "value", ["2026-11-02T12:00", dt.datetime(2026, 11, 2), pd.Timestamp("2026-11-02"), "today", pd.NaT]
)
def test_a_bound_that_names_no_instant_is_an_error_that_says_which(store, bound, value):
    with pytest.raises(ValueError, match=f"^{bound}[ =]"):
        store.read(**{bound: value})


def test_a_bound_of_another_type_is_a_type_error(store):
    with pytest.raises(TypeError, match="start"):
        store.read(20261102)


def test_read_filters_by_policy_and_by_batch(store):
    frame = observations(3000)
    store.append(frame)
    only = frame[frame["policy_id"] == "policy-1"]
    pd.testing.assert_frame_equal(store.read(policy_id="policy-1"), expected(only))
    none = frame[frame["policy_id"].isna()]
    pd.testing.assert_frame_equal(store.read(policy_id="(none)"), expected(none))
    two = frame[frame["batch_id"].isin(["batch_00001", "batch_00003"])]
    asked = (name for name in ["batch_00003", "batch_00001", "batch_none"])
    pd.testing.assert_frame_equal(store.read(batch_ids=asked), expected(two))
    assert len(store.read(batch_ids=[])) == 0
    with pytest.raises(TypeError, match="list"):
        store.read(batch_ids="batch_00001")


def test_latest_is_the_last_observation_of_each_batch(store):
    frame = observations(3000)
    for part in (frame.iloc[2000:], frame.iloc[:1000], frame.iloc[1000:2000]):
        store.append(part)
    pd.testing.assert_frame_equal(store.latest(), expected(frame.iloc[-10:]))


def test_open_batch_ids_are_those_not_terminal_when_last_seen(store):
    frame = observations(3000)
    frame.loc[frame.index[-10:-5], "is_terminal"] = True
    frame.loc[frame.index[:5], "is_terminal"] = True  # seen as terminal once, later not: still open
    store.append(frame)
    assert store.open_batch_ids() == [f"batch_{b:05d}" for b in range(5, 10)]


def test_cohorts_are_the_days_of_creation_and_read_sorted_and_unique(store):
    frame = fleet(4, stuck={2})
    undated = observations(50, start=START + DAY)
    for part in (*by_day(frame), frame.iloc[50:200], undated):
        store.append(part)
    for _ in range(2):
        cohorts = store.cohorts()
        days = [f"{START + number * DAY:%Y-%m-%d}" for number in range(4)]
        assert [cohort.name for cohort in cohorts] == [days[0], "undated", *days[1:]]
        for cohort in cohorts:
            of_day = frame[frame["created_at"].dt.strftime("%Y-%m-%d") == cohort.name]
            wanted = expected(undated if cohort.name == "undated" else of_day)
            pieces = list(cohort.tables())
            rows = frame_from_table(pa.concat_tables(pieces).cast(OBSERVATION_SCHEMA))
            pd.testing.assert_frame_equal(rows, wanted)
            assert cohort.first_observed == wanted["observed_at"].min().value // 1000
            assert cohort.last_observed == wanted["observed_at"].max().value // 1000
            earliest = min(wanted["created_at"].min(), wanted["observed_at"].min())
            earliest = wanted["observed_at"].min() if pd.isna(earliest) else earliest
            assert cohort.earliest == earliest.value // 1000
            assert cohort.n_rows >= len(wanted)
            assert cohort.n_open >= (~wanted.groupby("batch_id")["is_terminal"].last().astype(bool)).sum()
        store.compact()


def test_a_cohort_reads_the_columns_asked_for_in_that_order(store):
    frame = fleet(2)
    for part in by_day(frame):
        store.append(part)
        store.compact()
    wanted = expected(frame)
    tables = [table for cohort in store.cohorts() for table in cohort.tables(["success_count", "policy_id"])]
    assert tables[0].column_names == ["success_count", "policy_id"]
    assert tables[0].schema.field("policy_id").type == pa.dictionary(pa.int32(), pa.string())
    assert pa.concat_tables(tables).column("success_count").to_pylist() == wanted["success_count"].tolist()


def test_of_repeated_keys_all_columns_decide_whichever_are_read(store):
    frame = fleet(1)
    store.append(frame)
    store.compact()
    store.append(frame.assign(success_count=frame["success_count"] + 5, policy_version="v0"))
    (table,) = (table for cohort in store.cohorts() for table in cohort.tables(["policy_version"]))
    assert set(table.column(0).to_pylist()) == {"v0"}
    assert set(store.read(columns=["policy_version"])["policy_version"]) == {"v0"}


def test_a_cohort_refuses_a_column_that_does_not_exist(store):
    store.append(observations(10))
    with pytest.raises(ska.UnknownName, match="success_count"):
        list(store.cohorts()[0].tables(["sucess_count"]))
    with pytest.raises(ska.UnknownName, match="success_count"):
        store.read(columns=["sucess_count"])


def test_only_wanted_cohorts_are_listed_and_their_facts_are_known_before(store):
    store.append(fleet(4))
    asked = []

    def wanted(cohort):
        asked.append(cohort.n_rows)
        return cohort.name > "2026-11-03"

    assert [cohort.name for cohort in store.cohorts(wanted=wanted)] == ["2026-11-04", "2026-11-05"]
    assert asked == [120] * 4


def test_a_cohort_pickles_and_reads_elsewhere(store):
    for part in by_day(fleet(2, stuck={1})):
        store.append(part)
        store.compact()
    store.append(fleet(2, hours=40))
    for cohort in store.cohorts():
        again = pickle.loads(pickle.dumps(cohort))
        assert list(again.tables()) == list(cohort.tables())


def test_a_batch_is_in_the_cohort_of_the_time_in_its_id(store):
    late = dt.datetime(2099, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    ids = {
        batch_id(START): "2026-11-02",
        batch_id(late): "2099-12-31",
        batch_id(late + dt.timedelta(seconds=1)): "undated",
        batch_id(dt.datetime(2014, 12, 31, 23, 59, tzinfo=dt.UTC)): "undated",
        "batch_7zzzzzzzzz0000000000000000": "undated",  # the year 10889
        "ticket 7": "undated",
    }
    frame = observations(len(ids), n_batches=len(ids)).assign(batch_id=list(ids))
    store.append(frame)
    for _ in range(2):
        found = {
            name: cohort.name
            for cohort in store.cohorts()
            for table in cohort.tables(["batch_id"])
            for name in table.column(0).to_pylist()
        }
        assert found == ids
        assert set(store.read(batch_ids=["ticket 7", batch_id(late)])["batch_id"]) == {
            "ticket 7",
            batch_id(late),
        }
        store.compact()
    assert store.verify() == []


def test_labels_select_batches_and_the_last_row_of_a_batch_has_them(store):
    frame = fleet(2)
    last = frame["is_terminal"]
    webhook = frame[last].assign(policy_id=None, policy_version=None)
    first = frame.groupby("batch_id").cumcount() < 2
    polled = frame[~last].assign(
        policy_id=frame["policy_id"].mask(first), policy_version=frame["policy_version"].mask(first)
    )
    nameless = observations(5, n_batches=1).assign(policy_id=None)
    for part in (polled, webhook, nameless):
        store.append(part)
    whole = expected(polled, webhook)
    spam = frame.loc[frame["policy_id"] == "policy-1", "batch_id"]
    pd.testing.assert_frame_equal(
        store.read(policy_id="policy-1"), whole[whole["batch_id"].isin(spam)].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(store.read(policy_id="(none)"), expected(nameless))
    latest = store.latest()
    assert latest["is_terminal"].sum() == 8
    names = dict(zip(frame["batch_id"], frame["policy_id"], strict=True))
    dated = latest[latest["batch_id"].isin(list(names))]
    assert dated["policy_id"].tolist() == [names[name] for name in dated["batch_id"]]
    assert set(dated["policy_version"]) == {"v1"}


def test_an_unknown_policy_lists_those_that_are_known_wherever_they_were_seen(store):
    assert store.read(policy_id="spam").empty
    store.append(fleet(2))
    with pytest.raises(ska.UnknownName, match="policy-1") as caught:
        store.read("2031-01-01", policy_id="polcy-1")
    assert caught.value.known == ("policy-0", "policy-1", "policy-2")
    assert store.read("2031-01-01", policy_id="policy-1").empty
    assert store.read(policy_id="(none)").empty


def test_rows_stamped_ahead_of_this_machines_clock_are_written_with_a_warning_that_names_the_batch(store):
    ahead = dt.datetime.now(dt.UTC) + 2 * DAY
    frame = observations(10, start=ahead, n_batches=10)
    with pytest.warns(UserWarning, match="batch 'batch_00009' was observed at .* more than a day ahead"):
        store.append(frame)
    assert len(store.read()) == 10


def test_a_store_keeps_its_folder_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ska.SnapshotStore("snapshots")
    store.append(observations(10))
    monkeypatch.chdir("/")
    assert len(store.read()) == 10


@examples(40)
@given(data=st.data())
def test_any_order_of_any_appends_reads_as_the_same_set(data, tmp_path_factory):
    frame = observations(60, step=dt.timedelta(hours=1), n_batches=7)
    store = ska.SnapshotStore(tmp_path_factory.mktemp("store"))
    seen = set()
    for rows in data.draw(st.lists(st.lists(st.integers(0, 59), max_size=20), max_size=5)):
        store.append(frame.iloc[rows])
        seen |= set(rows)
    result = store.read()
    assert keys(result) == sorted(keys(frame.iloc[sorted(seen)]))
    pd.testing.assert_frame_equal(result, expected(frame.iloc[sorted(seen)]))


def wrong(column, value, row=3):
    frame = observations(10).astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (observations(10).drop(columns="success_count"), "success_count"),
        (observations(10).assign(download_url="https://secret"), "download_url"),
        (observations(10).assign(observed_at=pd.Timestamp("2026-01-01")), "observed_at"),
        (wrong("batch_id", None), "batch_id.*row 3"),
        (wrong("observed_at", pd.NaT).astype({"observed_at": "datetime64[us, UTC]"}), "observed_at.*row 3"),
        (wrong("error_count", -1), "error_count.*row 3"),
        (observations(10).assign(error_count="many"), "error_count"),
    ],
)
def test_a_frame_that_holds_no_observations_is_refused_and_nothing_is_written(store, tmp_path, frame, named):
    with pytest.raises(ska.InvalidFrame, match=named) as caught:
        store.append(frame)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_instant_that_has_no_date_is_refused(store, tmp_path):
    frame = observations(3)
    instants = np.array([0, 1, 2**62]).astype("datetime64[us]")
    frame["observed_at"] = pd.DatetimeIndex(instants).tz_localize("UTC")
    with pytest.raises(ska.InvalidFrame, match="observed_at"):
        store.append(frame)
    assert list(tmp_path.iterdir()) == []
