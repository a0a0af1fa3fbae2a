"""Stores that change, or were filled in odd ways, give the numbers of the set of their observations."""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import pytest

import safetykit_analytics as ska
from tests.rates.helpers import HOUR, MINUTE, MONDAY, frame_of, row

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

DAY = 24 * HOUR
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def batch_id(created_at: int, number: int = 0) -> str:
    """An id whose time is `created_at`, in microseconds since 1970."""
    value = ((created_at // 1000) << 80) + number
    return "batch_" + "".join(ALPHABET[(value >> (5 * place)) & 31] for place in range(25, -1, -1))


def batch(created_at: int, *seen: tuple[int, int], number: int = 0, **more: Any) -> list[dict[str, Any]]:
    """A batch of a creation day, by when it was observed and its success count; the last ends it."""
    rows = [row(batch_id(created_at, number), at, n, created_at=created_at, **more) for at, n in seen]
    return [*rows[:-1], rows[-1] | {"batch_status": "SUCCESS", "is_terminal": True}]


class Meddling(Executor):
    """Runs each task at once, and does something else before one of them."""

    def __init__(self, when: int, meddle: Callable[[], Any]) -> None:
        self.left, self.meddle = when, meddle

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        self.left -= 1
        if self.left == 0:
            self.meddle()
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:  # noqa: BLE001 -- a future keeps whatever was raised
            future.set_exception(error)
        return future


@pytest.fixture
def one_cohort_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetykit_analytics.flow.cohorts._ROWS_PER_TASK", 1)


def filled(folder: pathlib.Path, days: int = 5) -> ska.SnapshotStore:
    """A compacted store with a batch of 1,000 decisions on each day."""
    store = ska.SnapshotStore(folder)
    rows = []
    for day in range(days):
        created = MONDAY + day * DAY
        rows += batch(created, (created + HOUR, 400), (created + 3 * HOUR, 1000))
    store.append(frame_of(rows))
    store.compact()
    return store


@pytest.mark.usefixtures("one_cohort_a_task")
@pytest.mark.parametrize("before_task", [1, 3, 5, 6, 8, 10])
def test_rows_and_a_compaction_that_come_between_two_readings_count_once_or_not_at_all(
    before_task: int, tmp_path: pathlib.Path
) -> None:
    store = filled(tmp_path / "store")
    late = batch(MONDAY + 2 * DAY, (MONDAY + 3 * DAY - 3 * MINUTE, 700), (MONDAY + 3 * DAY, 1500), number=1)
    again = row(batch_id(MONDAY), MONDAY + DAY - 3 * MINUTE, 1000, created_at=MONDAY)

    def meddle() -> None:
        store.append(frame_of([*late, again | {"batch_status": "SUCCESS", "is_terminal": True}]))
        store.compact()

    found = ska.rates(store, freq="auto", by=(), executor=Meddling(before_task, meddle))
    assert round(found["processed"].sum(), 6) in {5000, 6500}
    assert ska.rates(store, freq="auto", by=())["processed"].sum() == pytest.approx(6500)


def test_a_batch_seen_years_after_its_end_is_counted_once(tmp_path: pathlib.Path) -> None:
    created = MONDAY - 1200 * DAY
    counts = {1: 5000, 300: 12_000, 1030: 12_000, 1150: 12_000}
    odd = batch(created, *((created + days * DAY, n) for days, n in counts.items()))
    odd[1] |= {"batch_status": "SUCCESS", "is_terminal": True}
    store = ska.SnapshotStore(tmp_path / "store")
    for one in odd:
        store.append(frame_of([one]))
    for _ in range(2):
        for freq in ("1D", "MS", "auto"):
            assert ska.rates(store, freq=freq, by=())["processed"].sum() == pytest.approx(12_000)
        store.compact()


def test_a_creation_time_that_changes_after_the_end_changes_nothing(tmp_path: pathlib.Path) -> None:
    first = MONDAY + 4 * DAY
    seen = batch(first, (first + HOUR, 30), (first + 2 * HOUR, 50), number=1)
    later = seen[-1] | {"observed_at": first + 96 * DAY, "created_at": first + 90 * DAY}
    store = filled(tmp_path / "store", days=13)
    for some in (seen, [later]):
        store.append(frame_of(some))
    for _ in range(2):
        for by in ((), ("policy_version",)):
            assert ska.rates(store, by=by)["processed"].sum() == pytest.approx(13_050)
        store.compact()


@pytest.mark.usefixtures("one_cohort_a_task")
@pytest.mark.parametrize(
    "read",
    [
        lambda store, executor: ska.rates(store, executor=executor),
        lambda store, executor: ska.backlog(store, executor=executor),
        lambda store, executor: ska.completion_time(store, executor=executor),
        lambda store, executor: ska.data_quality(store, executor=executor),
    ],
    ids=["rates", "backlog", "completion_time", "data_quality"],
)
@pytest.mark.parametrize("before_task", [1, 4])
def test_a_folder_that_goes_away_while_it_is_read_is_an_error(
    read: Any, before_task: int, tmp_path: pathlib.Path
) -> None:
    store = filled(tmp_path / "store")
    unmount = Meddling(before_task, lambda: os.rename(tmp_path / "store", tmp_path / "elsewhere"))
    with pytest.raises(ska.StoreFailed, match="store"):
        read(store, unmount)


@pytest.mark.usefixtures("one_cohort_a_task")
def test_a_file_that_goes_away_while_it_is_read_is_an_error(tmp_path: pathlib.Path) -> None:
    store = filled(tmp_path / "store")

    def lose() -> None:
        max((tmp_path / "store" / "cohorts").glob("*.parquet")).unlink()

    with pytest.raises(ska.StoreFailed, match=r"2026-03-06_.*parquet"):
        ska.rates(store, executor=Meddling(1, lose))


def test_a_policy_is_the_batchs_wherever_its_end_came_from(tmp_path: pathlib.Path) -> None:
    polled = [row(batch_id(MONDAY, n), MONDAY + HOUR, 42, created_at=MONDAY) for n in range(2)]
    ends = [
        one
        | {"observed_at": MONDAY + 2 * HOUR, "success_count": 100, "policy_id": None, "policy_version": None}
        | {"batch_status": "SUCCESS", "is_terminal": True}
        for one in polled
    ]
    store = ska.SnapshotStore(tmp_path / "store")
    store.append(frame_of(polled))
    store.append(frame_of(ends))
    for _ in range(2):
        chosen = store.read(policy_id="spam")
        assert len(chosen) == 4
        assert (
            ska.rates(chosen)["processed"].sum()
            == ska.rates(store, policy_id="spam")["processed"].sum()
            == 200
        )
        assert set(store.latest()["policy_id"]) == {"spam"}
        for table in (ska.rates(store), ska.backlog(store), ska.completion_time(store)):
            assert set(table["policy_id"]) == {"spam"}
        store.compact()
    with pytest.raises(ska.UnknownName, match="spam"):
        store.read(policy_id="spma")
    with pytest.raises(ska.UnknownName, match="spam"):
        ska.rates(store, policy_id="spma")
