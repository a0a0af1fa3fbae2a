"""One store, cut and run in any way, gives one result."""

from __future__ import annotations

import datetime as dt
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.flow import batch_ends, batch_work
from tests.rates.helpers import HOUR, MINUTE, MONDAY, frame_of, row

if TYPE_CHECKING:
    import pathlib


@pytest.fixture(scope="module")
def fleet() -> pd.DataFrame:
    """Batches over ten days, polled at odd times, some re-processed, relabelled or without end."""
    random = np.random.default_rng(7)
    rows = []
    for number in range(200):
        created = MONDAY + int(random.integers(0, 9 * 24 * 60)) * MINUTE
        time, counts, version = created, np.zeros(3, dtype=int), f"v{random.integers(8, 12)}"
        for step in range(int(random.integers(1, 12))):
            time += int(random.choice([7 * MINUTE, 55 * MINUTE, 5 * HOUR, 40 * HOUR])) + step
            counts = np.maximum(counts + random.integers(-2, 60, 3), 0)
            if random.random() < 0.05:
                version = f"v{random.integers(8, 12)}"
            rows.append(
                row(
                    f"batch_{number}",
                    time,
                    int(counts[0]),
                    int(counts[1]),
                    cancelled_count=int(counts[2]),
                    pending_count=int(random.integers(0, 50)),
                    created_at=None if number % 10 == 0 else created,
                    policy_version=None if random.random() < 0.2 else version,
                    policy_id=f"policy {number % 3}" if number % 7 else None,
                    batch_status="SUCCESS" if random.random() < 0.05 else "PENDING",
                )
            )
    return frame_of(rows)


@pytest.fixture
def store(tmp_path: pathlib.Path, fleet: pd.DataFrame) -> ska.SnapshotStore:
    store = ska.SnapshotStore(tmp_path / "snapshots")
    store.append(fleet)
    return store


def results(observations: Any, executor: Any) -> list[pd.DataFrame]:
    edges = [dt.datetime(2026, 3, day, tzinfo=dt.UTC) for day in (3, 6, 10)]
    return [
        ska.rates(observations, executor=executor),
        ska.rates(observations, freq="15min", by=(), tz="Asia/Kolkata", executor=executor),
        ska.rates(observations, freq="W", by="policy_version", tz="America/New_York", executor=executor),
        ska.rates(observations, freq="auto", executor=executor),
        ska.backlog(observations, freq="6h", executor=executor),
        batch_ends(observations, executor=executor),
        batch_work(observations, edges=edges, executor=executor),
    ]


def assert_same(left: list[pd.DataFrame], right: list[pd.DataFrame]) -> None:
    for one, other in zip(left, right, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_threads_and_processes_change_no_bit(store: ska.SnapshotStore) -> None:
    alone = results(store, None)
    assert_same(alone, results(store, None))
    with ThreadPoolExecutor(3) as threads:
        assert_same(alone, results(store, threads))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert_same(alone, results(store, processes))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dask_cluster_of_two_processes_changes_no_bit(store: ska.SnapshotStore) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    )
    with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
        assert_same(results(store, None), results(store, executor))


def test_a_store_gives_what_its_observations_give_as_one_frame(
    store: ska.SnapshotStore, fleet: pd.DataFrame
) -> None:
    for cut, whole in zip(results(store, None), results(fleet, None), strict=True):
        pd.testing.assert_frame_equal(cut, whole, rtol=1e-9, atol=1e-9)


def test_it_does_not_matter_in_how_many_appends_observations_came(
    tmp_path: pathlib.Path, fleet: pd.DataFrame, store: ska.SnapshotStore
) -> None:
    other = ska.SnapshotStore(tmp_path / "other")
    shuffled = fleet.sample(frac=1, random_state=1)
    for start in range(0, len(shuffled), 211):
        other.append(shuffled.iloc[start : start + 300])
    assert_same(results(store, None), results(other, None))
    other.compact()
    assert_same(results(store, None)[:4], results(other, None)[:4])


def test_an_error_in_a_worker_is_raised_here(store: ska.SnapshotStore, tmp_path: pathlib.Path) -> None:
    damaged = sorted((tmp_path / "snapshots").rglob("*.parquet"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    for executor in (None, ThreadPoolExecutor(2)):
        with pytest.raises(ska.DamagedFile, match=damaged.name):
            ska.rates(store, executor=executor)
