"""What users are told of common mistakes: what failed, where, what was found, and what to do."""

import pathlib
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import safetykit_analytics as ska

CREATED = pd.date_range("2026-11-09", periods=14, freq="D", tz="UTC")
FRAME = pd.DataFrame(
    {
        "batch_id": [f"batch_{number}" for number in range(14)],
        "observed_at": CREATED + pd.Timedelta(hours=1),
        "created_at": CREATED,
        "batch_status": "SUCCESS",
        "batch_count": 1000,
        "success_count": [980, 970] * 7,
        "error_count": [20, 30] * 7,
        "cancelled_count": 0,
        "pending_count": 0,
        "policy_id": "spam",
        "policy_version": ["v7"] * 7 + ["v8"] * 7,
        "has_download": True,
        "is_terminal": True,
    }
)


@pytest.fixture
def store(tmp_path):
    return ska.SnapshotStore(tmp_path / "snapshots")


def said(error, call, *arguments, **keywords):
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"download_url": "https://secret"},
            "unexpected column 'download_url'.*frame\\[OBSERVATION_SCHEMA.names\\]",
        ),
        (
            {"observed_at": "2026-11-09"},
            "'observed_at' holds .*pd.to_datetime\\(frame\\['observed_at'\\], utc=True\\)",
        ),
        ({"observed_at": CREATED.tz_localize(None)}, "without a time zone.*dt.tz_localize\\('UTC'\\)"),
        ({"error_count": [1.0] * 5 + [1.5] * 9}, "'error_count', row 5 \\(index 5\\) is not a whole number"),
        (
            {"error_count": [1.0] * 3 + [1e300] * 11},
            "'error_count', row 3 \\(index 3\\) is not a whole number",
        ),
        (
            {"error_count": pd.Series([1, 2, "x", *[4] * 11], dtype=object)},
            "'error_count', row 2 \\(index 2\\)",
        ),
    ],
)
def test_a_wrong_column_is_named_with_the_first_wrong_row_and_its_mend(store, columns, words):
    told = said(ska.InvalidFrame, store.append, FRAME.assign(**columns))
    assert re.search(words, told)
    assert "secret" not in told


@pytest.mark.parametrize("row", range(14))
def test_the_first_of_several_values_that_are_no_counts_is_found_wherever_it_is(store, row):
    counts = [1.0] * row + [0.5, *[1.0, 0.5] * 7][: 14 - row]
    told = said(ska.InvalidFrame, store.append, FRAME.assign(error_count=counts))
    assert told == f"column 'error_count', row {row} (index {row}) is not a whole number within int64"


def test_the_mends_that_are_told_do_mend(store):
    text = FRAME.assign(observed_at=FRAME["observed_at"].astype(str), more=1)
    text = text.assign(observed_at=pd.to_datetime(text["observed_at"], utc=True))
    assert store.append(text[ska.OBSERVATION_SCHEMA.names]) == 14


def test_a_whole_fetch_result_in_place_of_its_frame_is_told_so(store):
    result = ska.fetch_batches([], api_key="a-key", progress=False)
    assert said(TypeError, store.append, result).endswith("found FetchResult; pass its .frame")
    assert said(TypeError, store.append, [1, 2]).endswith("found list")


@pytest.mark.parametrize(
    ("plot", "table", "words"),
    [
        (
            ska.plot_throughput,
            FRAME,
            "no column 'bucket_start' in the table, which should come from rates(); known: 'batch_id'",
        ),
        (
            ska.plot_backlog,
            ska.rates(FRAME, freq="1D"),
            "no column 'pending' in the table, which should come from backlog()",
        ),
        (
            ska.plot_comparison,
            FRAME,
            "no column 'role' in the table, which should come from compare_versions()",
        ),
    ],
)
def test_a_plot_of_another_table_says_which_one_it_needs(plot, table, words):
    assert words in said(ska.UnknownName, plot, table)


def test_a_plot_of_a_store_says_which_table_it_needs(store):
    told = said(TypeError, ska.plot_throughput, store)
    assert told == "expected the table that rates() returns, found SnapshotStore"


@pytest.mark.parametrize("dtype", [object, "string"])
def test_counts_as_text_are_refused_with_their_mend_which_mends(store, dtype):
    text = FRAME.assign(error_count=FRAME["error_count"].astype(str).astype(dtype))
    for call in (store.append, ska.rates, ska.data_quality):
        told = said(ska.InvalidFrame, call, text)
        assert told == (
            "column 'error_count' holds text; expected whole numbers, such as "
            "pd.to_numeric(frame['error_count']) gives"
        )
    assert store.append(text.assign(error_count=pd.to_numeric(text["error_count"]))) == 14


def test_a_path_or_nothing_in_place_of_lines_of_events_is_told_so():
    for lines, found in ((pathlib.Path("events.jsonl"), "PosixPath"), (None, "NoneType")):
        told = said(TypeError, ska.observations_from_events, lines)
        assert told == f"expected lines of events, found {found}; pass an open file or a list"


def test_bounds_in_the_wrong_order_are_no_empty_answer(store):
    store.append(FRAME)
    told = said(ValueError, store.read, "2026-11-12", "2026-11-10")
    assert told == "start='2026-11-12' is after end='2026-11-10'; expected start <= end"
    assert store.read("2026-11-10", "2026-11-10").empty


def test_a_report_cannot_take_the_place_of_a_folder_nor_its_tables_that_of_a_file(tmp_path):
    report = ska.weekly_report(FRAME, week="2026-W47")
    (tmp_path / "r.md").mkdir()
    (tmp_path / "tables").touch()
    told = said(IsADirectoryError, report.save, tmp_path / "r.md")
    assert told.endswith(f"expected the name of a file, found a folder: '{tmp_path / 'r.md'}'")
    told = said(NotADirectoryError, report.to_csv, tmp_path / "tables")
    assert told.endswith(f"expected a folder for the tables, found a file: '{tmp_path / 'tables'}'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.md", "tables"]


def test_a_grid_with_its_arguments_swapped_does_not_print_the_table():
    told = said(TypeError, ska.plot_grid, ska.rates(FRAME, freq="1D"), ska.plot_throughput)
    assert told.endswith("plot_comparison, as the first argument; found DataFrame")
    assert "found Figure" in said(TypeError, ska.plot_error_rate, ska.rates(FRAME), ax=Figure())


def test_an_unknown_version_is_told_with_its_policy():
    told = said(ska.UnknownName, ska.compare_versions, FRAME, policy_id="spam", baseline="7")
    assert told == "no version '7' in policy 'spam'; known: 'v7', 'v8'"
    both = pd.concat([FRAME, FRAME.assign(batch_id=FRAME["batch_id"] + "x", policy_id="hate")])
    told = said(ska.UnknownName, ska.compare_versions, both, policy_id=None, baseline="7")
    assert told.startswith("no version '7' in any policy; known:")
    told = said(ska.UnknownName, ska.compare_versions, FRAME[:0], policy_id="spam", baseline="v7")
    assert told == "no version 'v7' in any policy: there is none at all in this data"


@pytest.mark.parametrize("path", [None, b"snapshots", 7])
def test_a_store_at_what_is_no_path_says_what_was_found(path):
    assert f"found {type(path).__name__}" in said(TypeError, ska.SnapshotStore, path)


def test_a_url_with_a_slash_too_few_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "one slash too few" in said(ValueError, ska.SnapshotStore, "s3:/bucket/snapshots")
    assert ska.SnapshotStore("./s3:/bucket").name == "bucket"
    assert ska.SnapshotStore("file:///tmp/snapshots").name == "snapshots"
    assert list(tmp_path.iterdir()) == []


def test_a_store_at_an_unknown_protocol_is_refused_at_once():
    assert "s3://bucket/snapshots" in said(ValueError, ska.SnapshotStore, "foo://bucket/snapshots")
    assert "foo://" in said(ValueError, ska.SnapshotStore, "simplecache::foo://bucket")


def test_a_store_whose_client_is_not_installed_says_what_to_install(monkeypatch):
    def missing(protocol):
        raise ImportError(f"Install {protocol}fs")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    told = said(ModuleNotFoundError, ska.SnapshotStore, "s3://bucket/snapshots")
    assert "pip install 'safetykit-analytics[s3]'" in told
    assert "pip install 'fsspec[gs]'" in said(ModuleNotFoundError, ska.SnapshotStore, "gs://bucket")


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"policy_id": 7}, "policy_id: expected text, found int"),
        ({"batch_ids": ["batch_1", 2]}, "batch_ids: expected text, found int"),
        ({"batch_ids": "batch_1"}, "pass a list: ['batch_1']"),
        ({"start": 5}, "start: expected a date, text or a time with a time zone, found int"),
    ],
)
def test_a_filter_of_the_wrong_type_is_told_in_our_words(store, keywords, words):
    store.append(FRAME)
    assert words in said(TypeError, store.read, **keywords)


def test_a_file_under_another_name_is_told_its_own(store, tmp_path):
    store.append(FRAME[:2])
    (recent,) = (tmp_path / "snapshots" / "recent").glob("*.parquet")
    recent.rename(recent.with_name(recent.name.replace("_r2_", "_r3_")))
    assert "restore that name" in said(ska.DamagedFile, store.read)


def test_a_report_that_cannot_be_written_names_the_file_that_was_asked_for(tmp_path):
    report = ska.weekly_report(FRAME)
    told = said(FileNotFoundError, report.save, tmp_path / "nowhere" / "report.md")
    assert told.endswith("'" + str(tmp_path / "nowhere" / "report.md") + "'")


def test_a_missing_key_is_told_both_ways_to_give_it(monkeypatch):
    monkeypatch.delenv("SAFETYKIT_API_KEY", raising=False)
    told = said(ska.MissingApiKey, ska.fetch_batches, ["batch_1"])
    assert all(way in told for way in ("SAFETYKIT_API_KEY", "api_key=", "--api-key-file FILE"))


RESULT = ska.fetch_batches([], api_key="a-key", progress=False)
TABLES = {
    "rates": ska.rates,
    "backlog": ska.backlog,
    "stalled_batches": ska.stalled_batches,
    "completion_time": ska.completion_time,
    "data_quality": ska.data_quality,
    "compare_versions": lambda observations: ska.compare_versions(
        observations, policy_id="spam", baseline="v7"
    ),
    "weekly_report": ska.weekly_report,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(
    ("observations", "words"),
    [
        (
            "s3://key:secret@bucket/snapshots",
            "found str; if that is where a store is, pass SnapshotStore(path)",
        ),
        (pathlib.Path("snapshots"), "Path; if that is where a store is, pass SnapshotStore(path)"),
        (RESULT, "found FetchResult; pass its .frame"),
        (7, "found int"),
        (ska.SnapshotStore, "found the class SnapshotStore"),
    ],
    ids=["text", "path", "fetch result", "number", "class"],
)
def test_what_holds_no_observations_is_told_with_what_to_pass_instead(table, observations, words):
    told = said(TypeError, table, observations)
    assert told.startswith("observations: expected a DataFrame of observations or a SnapshotStore, found ")
    assert told.endswith(words)
    assert "secret" not in told


@pytest.mark.parametrize("table", [ska.rates, ska.backlog])
@pytest.mark.parametrize(
    ("executor", "found"),
    [(4, "int"), ("threads", "str"), (ThreadPoolExecutor, "the class ThreadPoolExecutor"), (True, "bool")],
    ids=["workers", "text", "class", "bool"],
)
def test_what_can_run_no_tasks_is_refused_even_where_there_is_nothing_to_run(table, executor, found):
    told = said(TypeError, table, FRAME, executor=executor)
    assert told == (
        "executor: expected None or a concurrent.futures.Executor, such as "
        f"ProcessPoolExecutor(max_workers=4); found {found}"
    )


@pytest.mark.parametrize(
    "ask",
    [
        ska.rates,
        ska.completion_time,
        lambda frame, **keywords: ska.compare_versions(frame, policy_id="spam", baseline="v7", **keywords),
    ],
    ids=["rates", "completion_time", "compare_versions"],
)
def test_a_confidence_that_is_no_share_says_what_was_found(ask):
    told = said(TypeError, ask, FRAME, confidence="0.95")
    assert told == "confidence: expected a number between 0 and 1, such as 0.95; found str"
    for frame in (FRAME, FRAME[:0]):
        assert "found 95" in said(ValueError, ask, frame, confidence=95)
    ask(FRAME, confidence=np.float32(0.9))


@pytest.mark.parametrize("freq", ["hourly", "7h", "0min", None, 3600])
def test_a_frequency_that_is_none_names_those_there_are(freq):
    told = said(ValueError, ska.rates, FRAME, freq=freq)
    assert told.startswith((f"invalid frequency {freq!r}", f"freq {freq!r} does not divide a day"))
    assert told.endswith(
        "'W' (ISO weeks, from Monday) or 'MS' (months), or 'auto' for the finest that the polling supports"
    )
    assert "auto" not in said(ValueError, ska.backlog, FRAME, freq=freq)


@pytest.mark.parametrize("idle", ["1d", "1 d", "1D", "1 day", "24h", "0d 24h"])
def test_a_day_is_a_day_however_it_is_written(idle):
    seen = FRAME[:1].assign(batch_status="PENDING", pending_count=5, is_terminal=False)
    later = seen.assign(observed_at=seen["observed_at"] + pd.Timedelta(days=2))
    found = ska.stalled_batches(pd.concat([seen, later]), idle=idle)
    assert found["idle_at_least"].tolist() == [pd.Timedelta(days=2)]


def test_an_empty_store_has_no_last_week_and_says_so(store):
    told = said(ValueError, ska.weekly_report, store)
    assert told.startswith("there are no observations to take the last week from: is this the right store?")
    assert "--week" in told


def test_times_that_went_through_a_csv_file_are_told_how_to_come_back(tmp_path):
    ska.rates(FRAME, freq="1D").to_csv(tmp_path / "rates.csv", index=False)
    table = pd.read_csv(tmp_path / "rates.csv")
    for name in ("bucket_start", "bucket_end"):
        told = said(ska.InvalidFrame, ska.plot_throughput, table)
        assert told.endswith(f"use pd.to_datetime(table['{name}'], utc=True)")
        table[name] = pd.to_datetime(table[name], utc=True)
    assert ska.plot_throughput(table).lines
    naive = table.assign(bucket_start=table["bucket_start"].dt.tz_localize(None))
    assert "table['bucket_start'].dt.tz_localize('UTC')" in said(ska.InvalidFrame, ska.plot_throughput, naive)
