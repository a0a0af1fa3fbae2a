"""The two doors between pandas and Arrow."""

import datetime as dt
import traceback

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics import InvalidFrame
from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.schema import COUNT_COLUMNS, OBSERVATION_SCHEMA

NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
COUNTS = st.integers(0, 2**63 - 1)
LABELS = st.none() | st.text(min_size=1, max_size=20)
INSTANTS = st.datetimes(
    min_value=dt.datetime(1970, 1, 2), max_value=dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)
)
ROWS = st.fixed_dictionaries(
    {
        "batch_id": st.text(min_size=1, max_size=40),
        "observed_at": INSTANTS,
        "created_at": st.none() | INSTANTS,
        "batch_status": st.text(min_size=1, max_size=20),
        **dict.fromkeys(COUNT_COLUMNS, COUNTS),
        "policy_id": LABELS,
        "policy_version": LABELS,
        "has_download": st.booleans(),
        "is_terminal": st.booleans(),
    }
)


def row(**changes: object) -> dict[str, object]:
    return {
        "batch_id": "b",
        "observed_at": NOW,
        "created_at": None,
        "batch_status": "PENDING",
        **dict.fromkeys(COUNT_COLUMNS, 1),
        "policy_id": None,
        "policy_version": "v1",
        "has_download": False,
        "is_terminal": False,
        **changes,
    }


def frame_of(*rows: dict[str, object]) -> pd.DataFrame:
    return frame_from_table(pa.Table.from_pylist(list(rows), schema=OBSERVATION_SCHEMA))


@given(st.lists(ROWS, max_size=5))
def test_a_frame_has_the_same_dtypes_whatever_it_holds(rows):
    expected = {
        "string": ["batch_id", "batch_status", "policy_id", "policy_version"],
        "datetime64[us, UTC]": ["observed_at", "created_at"],
        "int64": list(COUNT_COLUMNS),
        "bool": ["has_download", "is_terminal"],
    }
    dtypes = frame_of(*rows).dtypes
    assert list(dtypes.index) == OBSERVATION_SCHEMA.names
    for dtype, names in expected.items():
        assert {str(dtypes[name]) for name in names} == {dtype}


def test_every_column_of_a_frame_may_be_written_to():
    table = pa.Table.from_pylist([row(), row(created_at=NOW, policy_id="p")], schema=OBSERVATION_SCHEMA)
    frame = frame_from_table(table)
    for name in frame:
        frame.loc[0, name] = frame.loc[1, name]
    assert frame.iloc[0].equals(frame.iloc[1])
    assert table["policy_id"].to_pylist() == [None, "p"]


@given(st.lists(ROWS, max_size=5))
def test_a_frame_survives_the_way_to_arrow_and_back(rows):
    table = pa.Table.from_pylist(rows, schema=OBSERVATION_SCHEMA)
    assert table_from_frame(frame_from_table(table), exact=True).equals(table)


def test_strings_are_missing_as_na_and_times_as_nat():
    frame = frame_of(row(policy_id=None, created_at=None))
    assert frame["policy_id"][0] is pd.NA
    assert frame["created_at"][0] is pd.NaT


def test_an_empty_policy_means_none():
    frame = frame_of(row()).assign(policy_id="", policy_version=pd.array([""], dtype="string"))
    table = table_from_frame(frame)
    assert table["policy_id"].null_count == 1
    assert table["policy_version"].null_count == 1


@pytest.mark.parametrize(
    "dtype", [object, "string", "category", "string[python]", pd.ArrowDtype(pa.large_string()), None]
)
def test_any_string_dtype_is_welcome(dtype):
    frame = frame_of(row(policy_id="p"), row(policy_id=None))
    values = pd.Series(["p", None], dtype=dtype)
    table = table_from_frame(frame.assign(policy_id=values))
    assert table["policy_id"].to_pylist() == ["p", None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_any_unit_and_zone_of_time_is_welcome(unit, zone):
    observed = pd.Series([pd.Timestamp(NOW)]).dt.as_unit(unit).dt.tz_convert(zone)
    assert table_from_frame(frame_of(row()).assign(observed_at=observed))["observed_at"].to_pylist() == [NOW]


def test_arrow_backed_times_are_welcome():
    observed = pd.Series([NOW], dtype=pd.ArrowDtype(pa.timestamp("ms", tz="Europe/Berlin")))
    assert table_from_frame(frame_of(row()).assign(observed_at=observed))["observed_at"].to_pylist() == [NOW]


def test_index_order_and_extra_columns_do_not_matter_for_reading():
    frame = frame_of(row(batch_id="a"), row(batch_id="b"))
    shuffled = frame[frame.columns[::-1]].set_index(pd.Index([7, 7])).assign(extra=1)
    assert table_from_frame(shuffled).equals(table_from_frame(frame))


def test_an_extra_column_is_named_when_exactness_is_asked_for():
    frame = frame_of(row()).assign(download_url="https://example.test/secret")
    with pytest.raises(InvalidFrame, match="download_url") as caught:
        table_from_frame(frame, exact=True)
    assert "secret" not in str(caught.value)


def test_missing_columns_are_all_named():
    with pytest.raises(InvalidFrame, match="'created_at', 'policy_id'"):
        table_from_frame(frame_of(row()).drop(columns=["created_at", "policy_id"]))


def test_a_column_that_is_there_twice_is_an_error():
    frame = frame_of(row())
    with pytest.raises(InvalidFrame, match="batch_id"):
        table_from_frame(pd.concat([frame, frame[["batch_id"]]], axis=1))


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("observed_at", pd.Timestamp("2026-01-01"), "time zone"),
        ("observed_at", "2026-01-01T00:00Z", "tz-aware"),
        ("observed_at", pd.NaT, "tz-aware|null"),
        ("batch_id", None, "null"),
        ("batch_id", 12, "text"),
        ("batch_status", None, "null"),
        ("policy_id", 12, "text"),
        ("policy_id", "\ud800", "row 1 .* is not text"),
        ("success_count", None, "null"),
        ("success_count", -1, "negative"),
        ("success_count", 1.5, "whole"),
        ("success_count", "12", "whole"),
        ("success_count", True, "whole"),
        ("success_count", 2**63, "whole"),
        ("is_terminal", None, "null"),
        ("is_terminal", "yes", "True or False"),
    ],
)
def test_a_wrong_value_is_refused_by_column_and_reason(column, value, says):
    frame = frame_of(row(), row())
    wrong = frame.assign(**{column: pd.Series([frame[column][0], value], dtype=object)})
    if column == "observed_at" and value is not pd.NaT:
        wrong = frame.assign(**{column: [value, value]})
    with pytest.raises(InvalidFrame, match=says) as caught:
        table_from_frame(wrong)
    assert repr(column) in str(caught.value)


URL = "https://downloads.example.com/results?signature=CANARY"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.assign(has_download=URL),
        lambda frame: frame.assign(error_count=URL),
        lambda frame: frame.assign(observed_at=URL),
        lambda frame: frame.assign(policy_id=[[URL], [URL]]),
        lambda frame: frame.assign(error_count=-1).set_index(pd.Index([URL, URL])),
        lambda frame: frame.assign(download_url=URL),
        lambda frame: frame.assign(**{URL: 1}),
    ],
)
def test_no_error_shows_a_url_wherever_in_a_frame_it_stands(spoil):
    with pytest.raises(InvalidFrame) as caught:
        table_from_frame(spoil(frame_of(row(), row())), exact=True)
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("column", ["has_download", "is_terminal"])
@pytest.mark.parametrize(
    "value", [pd.Timestamp("2026-01-01"), pd.Period("2026-01"), pd.Timedelta("1h"), 1 + 2j]
)
def test_a_flag_of_a_type_that_is_no_flag_is_refused(column, value):
    with pytest.raises(InvalidFrame, match=f"'{column}' holds .*; expected True or False"):
        table_from_frame(frame_of(row(), row()).assign(**{column: value}))


def test_the_first_wrong_row_is_named():
    frame = frame_of(row(), row(), row()).assign(error_count=[1, 1, -1]).set_index(pd.Index(["x", "y", "z"]))
    with pytest.raises(InvalidFrame, match=r"row 2 \(index 'z'\)"):
        table_from_frame(frame)


def test_whole_numbers_of_other_types_are_welcome():
    for values in (np.array([1.0]), np.array([1], "uint8"), pd.array([1], "Int64"), np.array([1], object)):
        table = table_from_frame(frame_of(row()).assign(success_count=values))
        assert table["success_count"].to_pylist() == [1]


def test_something_else_than_a_frame_is_a_type_error():
    with pytest.raises(TypeError, match="list"):
        table_from_frame([])


def frames_of_others(expected):
    import duckdb
    import polars as pl

    rows = pa.Table.from_pandas(expected, preserve_index=False)
    yield rows
    yield pl.from_arrow(rows)
    yield duckdb.sql("set timezone = 'UTC'; select * from rows")


def test_frames_of_polars_duckdb_and_pyarrow_are_taken_as_those_of_pandas():
    expected = frame_of(row(), row(batch_id="c", policy_id="é", created_at=NOW))
    for frame in frames_of_others(expected):
        table = table_from_frame(frame, exact=True)
        pd.testing.assert_frame_equal(frame_from_table(table), expected)


def test_a_frame_of_others_that_holds_no_observations_is_told_as_one_of_pandas():
    import polars as pl

    with pytest.raises(InvalidFrame, match="missing"):
        table_from_frame(pl.DataFrame({"batch_id": ["a"]}))
    with pytest.raises(TypeError, match="expected a DataFrame of observations, found Series"):
        table_from_frame(pl.Series(["a"]))
