"""Files of other releases: older ones read as today's schema, newer ones as far as they are known."""

from __future__ import annotations

import datetime as dt
import io
import pathlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import safetykit_analytics as ska
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.store import parquet
from safetykit_analytics.store.names import Facts, file_path, stem
from tests.store.helpers import START, expected, observations

OLD = START - dt.timedelta(days=200)


def put(folder, table, *, version, kind="undated", **footer):
    """Write a file as some other release would have."""
    at = int(OLD.timestamp()) * 1_000_000
    name = stem(kind, Facts(at, at, at + 99 * 60_000_000, table.num_rows, 10, 10))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        keys = {"schema_version": str(version), "name": name, **footer}
        writer.add_key_value_metadata({f"safetykit_analytics.{key}": value for key, value in keys.items()})
    data = sink.getvalue()
    path = pathlib.Path(folder) / file_path(name, data)
    path.parent.mkdir(exist_ok=True)
    (pathlib.Path(folder) / ".safetykit-store").mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def frame():
    return observations(100, start=OLD)


@pytest.fixture
def table(frame):
    return table_from_frame(expected(frame))


@pytest.fixture
def store(tmp_path):
    return ska.SnapshotStore(tmp_path)


def test_the_version_in_the_footer_is_that_of_the_schema(store, tmp_path, frame):
    """If this fails, OBSERVATION_SCHEMA has changed: raise SCHEMA_VERSION, and add a default if need be."""
    store.append(frame)
    (path,) = tmp_path.glob("*/*.parquet")
    assert pq.read_metadata(path).metadata[b"safetykit_analytics.schema_version"] == b"1"
    assert OBSERVATION_SCHEMA.names == [
        *(
            "batch_id",
            "observed_at",
            "created_at",
            "batch_status",
            "batch_count",
            "success_count",
            "error_count",
        ),
        *("cancelled_count", "pending_count", "policy_id", "policy_version", "has_download", "is_terminal"),
    ]


def test_a_file_from_before_a_column_existed_reads_with_nulls_or_its_default(
    store, tmp_path, frame, table, monkeypatch
):
    monkeypatch.setattr(parquet, "DEFAULTS", {"has_download": True})
    put(tmp_path, table.drop_columns(["has_download", "policy_version"]), version=0)
    store.append(frame.assign(observed_at=frame["observed_at"] + dt.timedelta(seconds=1)))
    result = store.read()
    older = result[result["observed_at"].isin(frame["observed_at"])].reset_index(drop=True)
    wanted = expected(frame).assign(
        has_download=True, policy_version=pd.array([None] * 100, dtype=result["policy_version"].dtype)
    )
    pd.testing.assert_frame_equal(older, wanted)
    pd.testing.assert_frame_equal(store.latest().dtypes.to_frame(), wanted.dtypes.to_frame())


def test_an_older_file_alone_reads_in_any_selection_of_columns(store, tmp_path, table):
    put(tmp_path, table.drop_columns(["policy_version"]), version=0)
    (cohort,) = store.cohorts()
    for columns in (["policy_version"], ["policy_version", "batch_count"], OBSERVATION_SCHEMA.names):
        (read,) = cohort.tables(columns)
        assert (read.num_rows, read.column_names) == (100, columns)


def test_a_column_that_every_release_has_written_and_is_not_there_is_damage(store, tmp_path, table):
    path = put(tmp_path, table.drop_columns(["success_count"]), version=1)
    with pytest.raises(ska.DamagedFile, match="success_count") as caught:
        store.read()
    assert caught.value.path == str(path)


def test_a_newer_file_is_read_as_far_as_it_is_known_with_a_warning(store, tmp_path, frame, table):
    put(tmp_path, table.append_column("mood", pa.array(["good"] * 100)), version=2)
    with pytest.warns(ska.NewerSchemaWarning, match="upgrade"):
        result = store.read()
    pd.testing.assert_frame_equal(result, expected(frame))


@pytest.mark.parametrize(
    "column",
    [
        ("batch_count", pa.int32()),
        ("batch_count", pa.uint64()),
        ("observed_at", pa.timestamp("ns", tz="UTC")),
        ("batch_id", pa.large_string()),
    ],
)
def test_a_newer_file_with_another_type_of_the_same_meaning_is_converted(
    store, tmp_path, frame, table, column
):
    name, as_type = column
    i = table.column_names.index(name)
    put(tmp_path, table.set_column(i, name, table.column(name).cast(as_type)), version=2)
    with pytest.warns(ska.NewerSchemaWarning):
        pd.testing.assert_frame_equal(store.read(), expected(frame))


@pytest.mark.parametrize(
    "column",
    [
        ("observed_at", pa.array(range(100), pa.int64())),
        ("observed_at", pa.array(range(100), pa.timestamp("us"))),
        ("batch_count", pa.array([0.5] * 100)),
        ("batch_count", pa.array([2**63] * 100, pa.uint64())),
        ("batch_count", pa.array(["7"] * 100)),
        ("is_terminal", pa.array([1] * 100)),
        ("batch_id", pa.array([b"x"] * 100)),
        ("batch_id", pa.array([None] * 100, pa.string())),
    ],
)
@pytest.mark.filterwarnings("ignore::safetykit_analytics.errors.NewerSchemaWarning")
def test_a_newer_file_whose_values_mean_something_else_is_an_error_never_misread(
    store, tmp_path, table, column
):
    name, values = column
    i = table.column_names.index(name)
    path = put(tmp_path, table.set_column(i, name, values), version=2)
    with pytest.raises(ska.DamagedFile, match=name) as caught:
        store.read()
    assert caught.value.path == str(path)


@pytest.mark.filterwarnings("ignore::safetykit_analytics.errors.NewerSchemaWarning")
@pytest.mark.parametrize("kind", ["undated", "recent"])
def test_compaction_leaves_newer_files_alone_and_says_so(store, tmp_path, frame, table, kind):
    newer = put(tmp_path, table.append_column("mood", pa.array(["good"] * 100)), version=2, kind=kind)
    more = frame.assign(observed_at=frame["observed_at"] + dt.timedelta(seconds=1))
    store.append(more)
    report = store.compact()
    assert report.skipped[0][0] == str(newer.relative_to(tmp_path))
    assert "later release" in str(report)
    assert newer.exists()
    pd.testing.assert_frame_equal(store.read(), expected(frame, more))


def test_a_version_that_is_no_number_is_damage(store, tmp_path, table):
    put(tmp_path, table, version="one")
    with pytest.raises(ska.DamagedFile):
        store.read()


def test_verify_finds_a_file_that_does_not_hold_what_it_claims(store, tmp_path, table):
    backwards = put(tmp_path, table.take(pa.array(range(99, -1, -1))), version=1)
    moved = put(tmp_path, table, version=1, kind="2026-11-03")
    found = {finding.path: finding.reason for finding in store.verify()}
    assert found == {
        str(backwards): "it is not sorted by batch_id and observed_at, or has a key twice",
        str(moved): "it holds batches that are not of the cohort 2026-11-03",
    }
