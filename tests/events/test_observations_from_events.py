"""What `observations_from_events` promises."""

import datetime as dt
import json
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics import InvalidFrame, SnapshotStore, observations_from_events
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import COUNT_COLUMNS, OBSERVATION_SCHEMA

BATCH_ID = "batch_01hf89meedvef6pc00njv3ezh0"


def event(**changes):
    """A batch.completed event; a change to None takes the field away."""
    data = {
        "batch_count": 20,
        "batch_id": BATCH_ID,
        "batch_status": "SUCCESS",
        "cancelled_count": 1,
        "error_count": 2,
        "pending_count": 3,
        "success_count": 14,
        "download_url": "https://secret.example.com/results?signature=s3cr3t",
    }
    whole = {"event_type": "batch.completed", "received_at": "2023-11-15T02:00:00.25+01:00"}
    for name, value in changes.items():
        target = data if name in data or name.startswith("policy") else whole
        target[name] = value
    data, whole = ({k: v for k, v in part.items() if v is not None} for part in (data, whole))
    return json.dumps(whole | {"data": data} | changes.get("whole", {}))


def test_an_event_becomes_an_observation_at_the_time_of_its_receipt():
    frame = observations_from_events([event()])
    assert frame.dtypes.equals(frame_from_table(OBSERVATION_SCHEMA.empty_table()).dtypes)
    row = frame.iloc[0]
    assert row["observed_at"] == pd.Timestamp("2023-11-15T01:00:00.25Z")
    assert [row[name] for name in COUNT_COLUMNS] == [20, 14, 2, 1, 3]
    assert (row["batch_id"], row["batch_status"]) == (BATCH_ID, "SUCCESS")
    assert row["is_terminal"]
    assert row["has_download"]
    assert pd.isna(row["policy_id"])
    assert pd.isna(row["policy_version"])
    # The id says 01:30:50: within a day of the receipt, so it is kept.
    assert row["created_at"] == pd.Timestamp("2023-11-15T01:30:50.189Z")
    assert "secret" not in frame.to_string()


def test_other_types_and_blank_lines_are_left_out_and_order_is_kept():
    ids = [f"batch_{i}" for i in range(3)]
    lines = [
        event(batch_id=ids[2]),
        "",
        '{"event_type": "decision.completed", "whatever": [1]}',
        event(batch_id=ids[0]).encode(),
        "   \n",
        event(batch_id=ids[1]) + "\n",
    ]
    assert observations_from_events(lines)["batch_id"].tolist() == [ids[2], ids[0], ids[1]]


def test_no_events_are_an_empty_typed_frame():
    frame = observations_from_events(iter([]))
    assert frame.empty
    assert frame.dtypes.equals(observations_from_events([event()]).dtypes)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "expected JSON"),
        ("[1]", "expected a JSON object with an event, found an array"),
        ("{}", "event_type: expected a string, found null"),
        ('{"event_type": 7}', "event_type: expected a string"),
        ('{"event_type": "batch.completed", "event_type": "x"}', "is there twice"),
        (event(received_at=None), "received_at: field required"),
        (event(received_at="2023-11-15T02:00:00"), "received_at: expected a time with an offset"),
        (event(received_at="yesterday"), "received_at: expected a time with an offset"),
        (event(received_at=1700000000), "received_at: input should be a valid string"),
        (event(success_count=None), r"data\.success_count: field required"),
        (event(success_count="14"), r"data\.success_count: input should be a valid integer"),
        (event(success_count=-1), r"data\.success_count"),
        (event(success_count=2**63), r"data\.success_count"),
        (event(batch_status=None), r"data\.batch_status: field required"),
        (event(batch_id=""), r"data\.batch_id: expected the id of a batch"),
        (event(batch_id="\ud800"), r"data\.batch_id"),
        (event(whole={"data": None}), "data: input should be"),
        (event().replace("14", "NaN"), "NaN is not a JSON number"),
        (b"\xff{}", "UTF-8"),
    ],
)
def test_a_line_that_is_no_event_is_refused_with_its_number_and_without_its_content(line, problem):
    with pytest.raises(InvalidFrame, match=rf"line 2 of the events: .*{problem}") as caught:
        observations_from_events([event(), line])
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_one_string_or_a_number_is_no_lines():
    for wrong in (event(), event().encode()):
        with pytest.raises(TypeError, match="found one string"):
            observations_from_events(wrong)
    with pytest.raises(TypeError, match="line 1: expected str or bytes, found dict"):
        observations_from_events([json.loads(event())])


@given(
    st.integers(0, 2**63 - 1),
    st.datetimes(dt.datetime(2016, 1, 1), dt.datetime(2099, 1, 1), timezones=st.timezones()),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_counts_times_and_ids_arrive_unchanged(count, received_at, batch_id):
    line = event(error_count=count, received_at=received_at.isoformat(), batch_id=batch_id)
    row = observations_from_events([line]).iloc[0]
    assert row["error_count"] == count
    # Through text: a time that a clock change skips equals no instant.
    assert row["observed_at"] == dt.datetime.fromisoformat(received_at.isoformat())
    assert row["batch_id"] == batch_id


def test_events_can_be_appended_to_a_store_as_they_are(tmp_path):
    store = SnapshotStore(tmp_path / "snapshots")
    frame = observations_from_events([event(), event()])
    assert store.append(frame) == 1
    pd.testing.assert_frame_equal(store.read(), frame.head(1))


def test_whoever_has_no_events_does_not_wait_for_pydantic():
    code = "import sys, safetykit_analytics.frame; print('pydantic' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"
