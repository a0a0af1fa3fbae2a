"""What a store does to observations changes no metric: storing, compacting, thinning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import safetykit_analytics as ska
from benchmarks.observations import make_days
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.schema import COUNT_COLUMNS, OBSERVATION_SCHEMA


@pytest.fixture(scope="module")
def frame():
    """Give five days of a fleet whose counters stand still for some hours now and then."""
    days = [table.cast(OBSERVATION_SCHEMA) for _, table in make_days(1500, days=4, seed=7)]
    frame = frame_from_table(pa.concat_tables(days)).sort_values(
        ["batch_id", "observed_at"], ignore_index=True
    )
    held = frame.groupby("batch_id").cumcount() // 5
    same = [*COUNT_COLUMNS, "batch_status", "is_terminal", "has_download"]
    frame[same] = frame.groupby(["batch_id", held])[same].transform("first")
    frame.loc[frame["batch_id"].isin(frame["batch_id"].unique()[::40]), "created_at"] = pd.NaT
    return frame


def metrics(observations, **options):
    return {
        "rates": ska.rates(observations, freq="3h", **options),
        "rates by day": ska.rates(observations, freq="1D", by=(), **options),
        "backlog": ska.backlog(observations, **options),
        "stalled": ska.stalled_batches(observations, **options),
        "quality": ska.data_quality(observations, **options),
        "completion": ska.completion_time(observations, **options),
    }


def assert_same(ours, theirs):
    for name, table in theirs.items():
        assert len(table), name
        pd.testing.assert_frame_equal(ours[name], table, check_exact=False, rtol=1e-9, atol=1e-9, obj=name)


def test_thinning_changes_no_metric(frame, tmp_path):
    store = ska.SnapshotStore(tmp_path)
    store.append(frame)
    last = frame["observed_at"].max()
    thin_before = last.normalize()  # the last day keeps all it has
    times = [None, thin_before]
    before = [metrics(store, as_of=as_of) for as_of in times]
    report = store.compact(thin_before=thin_before)
    assert report.thinned > len(frame) / 4
    for as_of, wanted in zip(times, before, strict=True):
        assert_same(metrics(store, as_of=as_of), wanted)


def test_a_store_and_a_frame_keep_the_same_of_two_rows_with_one_key(frame, tmp_path):
    random = np.random.default_rng(3)
    rows = [frame]
    for _ in range(2):
        other = frame.sample(len(frame) // 3, random_state=random.integers(1000)).copy()
        for name in ("success_count", "error_count"):
            other[name] = (other[name] + random.integers(-1, 2, len(other))).clip(lower=0)
        other.loc[random.random(len(other)) < 0.3, "policy_version"] = None
        other.loc[random.random(len(other)) < 0.3, "is_terminal"] = True
        rows.append(other)
    store = ska.SnapshotStore(tmp_path)
    for part in rows[::-1]:
        store.append(part)
    assert_same({"rates": ska.rates(store)}, {"rates": ska.rates(pd.concat(rows, ignore_index=True))})
    before = ska.rates(store)
    store.compact()
    pd.testing.assert_frame_equal(ska.rates(store), before, check_exact=True)
