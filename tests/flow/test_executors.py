"""Observations cut and run in any way give one result."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.flow import (
    BASE_COLUMNS,
    Listing,
    batch_summary,
    batch_work,
    reduced,
    select,
    with_listing,
)
from safetykit_analytics.frame import frame_from_table
from tests.rates.helpers import DAY, HOUR, MINUTE, MONDAY, Cohorts, cohorts_of, frame_of, row


@pytest.fixture(scope="module")
def fleet() -> pd.DataFrame:
    """Batches over ten days, polled at odd times, some re-processed, relabelled or without end."""
    random = np.random.default_rng(7)
    rows = []
    for number in range(50):
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


@pytest.fixture(scope="module")
def dealt(fleet: pd.DataFrame) -> Cohorts:
    """The fleet in seven cohorts, each a task of its own."""
    return cohorts_of(fleet, (0, 1, 2, 3, 1, 4, 5, 0, 6), per_piece=9)


MARKETS = pd.DataFrame({"batch_id": [f"batch_{n}" for n in range(51)], "market": ["DE", "FR", None] * 17})


def results(observations: Any, executor: Any) -> list[pd.DataFrame]:
    """Every table, in several forms."""
    run = {"executor": executor}
    return [
        ska.rates(observations, freq="15min", by=(), tz="Asia/Kolkata", **run),
        ska.rates(observations, freq="auto", policy_id=["policy 1", "(none)"], **run),
        ska.rates(observations, freq="D", by=("market", "policy_id"), batches=MARKETS, **run),
        ska.backlog(observations, freq="D", by="market", batches=MARKETS, policy_id="policy 2", **run),
        ska.data_quality(observations, **run),
        ska.stalled_batches(observations, idle="6h", batches=MARKETS, **run),
        ska.completion_time(observations, confidence=0.95, **run),
        batch_summary(observations, **run),
        batch_work(observations, edges=[MONDAY + day * DAY for day in (1, 4, 8)], **run),
        frame_from_table(
            select(observations, start=MONDAY + DAY, end=MONDAY + 8 * DAY, **run).table.sort_by(
                [("batch_id", "ascending"), ("observed_at", "ascending")]
            )
        ),
    ]


def assert_same(left: list[pd.DataFrame], right: list[pd.DataFrame]) -> None:
    for one, other in zip(left, right, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module")
def alone(dealt: Cohorts) -> list[pd.DataFrame]:
    return results(dealt, None)


def test_threads_change_no_bit(dealt: Cohorts, alone: list[pd.DataFrame]) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert_same(alone, results(dealt, threads))


def test_processes_change_no_bit(dealt: Cohorts) -> None:
    alone = [ska.rates(dealt), batch_summary(dealt)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert_same(alone, [function(dealt, executor=processes) for function in (ska.rates, batch_summary)])


class LastFirst(ThreadPoolExecutor):
    """An executor of one thread that runs what it is given in the opposite order, as far as nobody waits."""

    def submit(self, function: Any, *args: Any, **options: Any) -> Any:
        future: Future[Any] = Future()
        self.waiting = [*getattr(self, "waiting", []), (future, function, args, options)]
        future.result = self._result_of(future)  # type: ignore[method-assign]
        return future

    def _result_of(self, future: Future[Any]) -> Any:
        def result(timeout: float | None = None) -> Any:
            del timeout
            while self.waiting:
                other, function, args, options = self.waiting.pop()
                other.set_result(function(*args, **options))
            return Future.result(future)

        return result


def test_the_order_in_which_tasks_end_changes_no_bit(dealt: Cohorts, alone: list[pd.DataFrame]) -> None:
    with LastFirst(1) as executor:
        assert_same(alone, results(dealt, executor))


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dask_cluster_of_two_processes_changes_no_bit(dealt: Cohorts) -> None:
    distributed = pytest.importorskip("distributed", reason="no distributed: pip install '.[full]'")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    )
    with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
        assert_same(results(dealt, None), results(dealt, executor))


@pytest.mark.parametrize(
    ("cut", "together"), [((0,), True), (tuple(range(15)), True), ((3, 1, 2, 1, 0), False)]
)
def test_every_cut_gives_what_the_observations_give_as_one_frame(
    fleet: pd.DataFrame, whole: list[pd.DataFrame], cut: Any, *, together: bool
) -> None:
    found = results(cohorts_of(fleet, cut, per_piece=9, together=together), None)
    for one, other in zip(found, whole, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_rows", [10, 40])
def test_slices_between_batches_give_what_the_whole_gives(
    fleet: pd.DataFrame, whole: list[pd.DataFrame], n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetykit_analytics.flow.spread._ROWS_AT_A_TIME", n_rows)
    for one, other in zip(results(fleet, None), whole, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-9)


def test_slices_end_between_batches(fleet: pd.DataFrame) -> None:
    columns = (*BASE_COLUMNS, "policy_version")

    def slices(listing: Listing) -> list[tuple[int, list[str], int]]:
        ((_, rows),) = reduced(listing, lambda rows: rows, columns=columns, labels=columns[-1:])
        return [(low, part.ids().to_pylist(), len(part.t)) for low, _, part in rows.slices(40)]

    lows, ids, n_rows = zip(*with_listing(fleet, columns, None, slices), strict=True)
    assert [one for some in ids for one in some] == sorted(fleet["batch_id"].unique())
    assert list(lows) == [sum(map(len, ids[:place])) for place in range(len(ids))]
    assert sum(n_rows) == len(fleet)
    assert 4 <= len(ids) <= len(fleet) / 40 + 1


@pytest.fixture(scope="module")
def whole(fleet: pd.DataFrame) -> list[pd.DataFrame]:
    return results(fleet, None)


def test_an_error_in_a_worker_is_raised_here(dealt: Cohorts) -> None:
    *good, last = dealt.parts
    damaged = Cohorts(
        (*good, replace(last, pieces=(*last.pieces, last.pieces[0].drop_columns("created_at"))))
    )
    with ThreadPoolExecutor(2) as threads:
        for executor in (None, threads):
            with pytest.raises(KeyError, match="created_at"):
                ska.rates(damaged, executor=executor)
