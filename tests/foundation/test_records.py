"""Records for other tools: every value is one that JSON has, and none has lost a digit."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.json_tables import json_value, records


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_all_its_digits(value):
    assert json.loads(json.dumps(json_value(np.float64(value)))) == value


@pytest.mark.parametrize("value", [None, pd.NA, pd.NaT, float("nan"), float("inf"), np.float32("-inf")])
def test_what_is_missing_or_endless_is_null(value):
    assert json_value(value) is None


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(7), 7),
        (np.array([True])[0], True),
        ("=1+1", "=1+1"),
        (pd.Timestamp("2026-03-02T12:30:00.000001Z"), "2026-03-02T12:30:00.000001Z"),
        (pd.Timestamp("2026-03-02", tz="Europe/Berlin"), "2026-03-02T00:00:00+01:00"),
        (dt.datetime(2026, 3, 2, tzinfo=dt.UTC), "2026-03-02T00:00:00Z"),
        (pd.Timedelta(minutes=90), 1.5),
    ],
)
def test_a_value_is_written_as_what_it_is(value, written):
    found = json_value(value)
    assert found == written
    assert type(found) is type(written)


def test_a_table_becomes_one_record_per_row_in_order():
    table = pd.DataFrame({"policy_id": pd.array(["b", None], dtype="string"), "n": [1, 2]}, index=[9, 9])
    assert records(table) == [{"policy_id": "b", "n": 1}, {"policy_id": None, "n": 2}]
    assert records(table.iloc[:0]) == records(pd.DataFrame()) == []
