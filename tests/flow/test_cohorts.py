"""Whatever observations come as, each cohort is read once, and reduced alone."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.errors import StoreChanged, StoreFailed
from safetykit_analytics.flow import batch_summary, batch_work, known_policies, last_observed, select
from safetykit_analytics.flow.cohorts import ordered_map
from tests.effort import examples
from tests.flow.test_batches import end_of, plain
from tests.rates import oracle
from tests.rates.helpers import (
    CUTS,
    DAY,
    HOUR,
    MONDAY,
    Cohort,
    Cohorts,
    at,
    cohorts_of,
    frame_of,
    histories,
    row,
)

CONTRADICTIONS = st.fixed_dictionaries(
    {
        "success_count": st.integers(0, 2),
        "error_count": st.integers(0, 2),
        "cancelled_count": st.integers(0, 1),
        "batch_status": st.sampled_from(["PENDING", "WAITING_FOR_UPLOAD", "SUCCESS", "CANCELLED"]),
        "batch_count": st.integers(9, 10),
        "pending_count": st.integers(0, 1),
        "created_at": st.sampled_from([None, MONDAY - 1, MONDAY]),
        "policy_id": st.sampled_from([None, "spam", "scam"]),
        "policy_version": st.sampled_from([None, "v2", "v10"]),
    }
)


@examples(150)
@given(
    said=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 2), CONTRADICTIONS), min_size=2, max_size=9
    )
)
def test_of_observations_of_one_instant_the_most_advanced_is_kept(said: Any) -> None:
    rows = [row(batch, MONDAY + hour * HOUR, **values) for batch, hour, values in said]
    expected = [end_of(history) for history in oracle.batches(rows, None).values()]
    assert plain(batch_summary(frame_of(rows))) == expected
    assert plain(batch_summary(frame_of(rows[::-1]))) == expected


def in_chunks(cohort: Cohort, *, is_plain: bool) -> Cohort:
    """The same cohort in tables of several chunks, each with a dictionary of its own, or with none."""
    pieces = []
    for table in cohort.pieces:
        for place, column in enumerate(table.schema):
            if pa.types.is_dictionary(column.type):
                text = table.column(place).cast(pa.string())
                halves = (text.slice(0, len(text) // 2), text.slice(len(text) // 2), text.slice(len(text)))
                chunks = [half.combine_chunks() for half in halves]
                chunks = chunks if is_plain else [chunk.dictionary_encode() for chunk in chunks]
                table = table.set_column(place, column.name, pa.chunked_array(chunks))  # noqa: PLW2901
        pieces.append(table)
    return replace(cohort, pieces=tuple(pieces))


@examples(30)
@given(rows=histories(), cut=CUTS, is_plain=st.booleans())
def test_pieces_may_come_in_chunks_and_with_or_without_dictionaries(
    rows: Any, cut: Any, *, is_plain: bool
) -> None:
    dealt = cohorts_of(frame_of(rows), cut)
    chunked = Cohorts(tuple(in_chunks(cohort, is_plain=is_plain) for cohort in dealt.parts))
    for function in (ska.rates, ska.backlog, ska.data_quality, batch_summary):
        pd.testing.assert_frame_equal(function(chunked), function(dealt))


@pytest.mark.parametrize("per_piece", [1, 3])
def test_a_cohort_in_pieces_gives_what_it_gives_in_one(per_piece: int) -> None:
    rows = [
        row(f"batch_{n:02}", MONDAY + hour * HOUR, hour * n % 7, created_at=MONDAY - n * HOUR)
        for n in range(20)
        for hour in (1, 5, 30)
    ]
    whole = cohorts_of(frame_of(rows), (0,), per_piece=100)
    for function in (ska.rates, ska.backlog, ska.data_quality, batch_summary):
        cut = function(cohorts_of(frame_of(rows), (0,), per_piece=per_piece))
        pd.testing.assert_frame_equal(cut, function(whole), rtol=1e-9, atol=1e-12)


@dataclass(frozen=True)
class Reading:
    """A cohort that tells when it is read, and fails if it shall."""

    cohort: Cohort
    reads: list[Any] = field(default_factory=list)
    error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cohort, name)

    def tables(self, columns: Any) -> Any:
        self.reads.append(self.cohort)
        yield from self.cohort.tables(columns)
        if self.error is not None:
            raise self.error


WEEK = [
    row(
        f"batch_{day}",
        MONDAY + day * DAY + hour * HOUR,
        hour,
        created_at=MONDAY + day * DAY,
        batch_status=status,
    )
    for day in range(7)
    for hour, status in ((1, "PENDING"), (3, "SUCCESS"))
]


def watched(rows: list[dict[str, Any]], reads: list[Any]) -> Cohorts:
    """A cohort for each batch, all of which tell when they are read."""
    dealt = cohorts_of(frame_of(rows), tuple(range(7)))
    return Cohorts(tuple(Reading(cohort, reads) for cohort in dealt.parts))


EVERY = [
    ska.rates,
    ska.backlog,
    ska.data_quality,
    ska.stalled_batches,
    ska.completion_time,
    batch_summary,
    known_policies,
    partial(batch_work, edges=[MONDAY, MONDAY + 30 * DAY]),
    partial(select, start=MONDAY, end=MONDAY + 30 * DAY),
]


@pytest.mark.parametrize("function", EVERY)
def test_every_cohort_is_read_once(function: Any) -> None:
    reads: list[Any] = []
    function(watched(WEEK, reads))
    assert len(reads) == len({id(cohort) for cohort in reads}) == 7


def test_a_frequency_that_is_chosen_takes_a_second_reading() -> None:
    reads: list[Any] = []
    ska.rates(watched(WEEK, reads), freq="auto")
    assert len(reads) == 14


def test_the_last_observation_is_found_without_reading() -> None:
    reads: list[Any] = []
    assert last_observed(watched(WEEK, reads)) == MONDAY + 6 * DAY + 3 * HOUR
    assert not reads


@pytest.mark.parametrize("function", [ska.rates, ska.backlog, ska.data_quality, ska.stalled_batches])
def test_cohorts_first_observed_after_as_of_are_not_read(function: Any) -> None:
    reads: list[Any] = []
    for minutes, n_read in ((-1, 2), (0, 3), (1, 3)):
        reads.clear()
        function(watched(WEEK, reads), as_of=at(MONDAY + 2 * DAY + HOUR + minutes * 60_000_000))
        assert len(reads) == n_read


SPAN = (MONDAY + 2 * DAY, MONDAY + 4 * DAY)


@pytest.mark.parametrize(
    "function",
    [
        partial(ska.rates, freq="15min", start=at(SPAN[0]), end=at(SPAN[1])),
        partial(ska.rates, freq="15min", start=at(SPAN[0] + 1), end=at(SPAN[1] - 1)),
        partial(batch_work, edges=SPAN),
        partial(select, start=SPAN[0], end=SPAN[1]),
    ],
)
def test_a_cohort_that_cannot_touch_the_window_is_not_read(function: Any) -> None:
    reads: list[Any] = []
    function(watched(WEEK, reads))
    names = {name for cohort in reads for piece in cohort.pieces for name in piece["batch_id"].to_pylist()}
    assert names == {"batch_2", "batch_3"}


def test_an_open_batch_may_touch_every_later_window() -> None:
    reads: list[Any] = []
    rows = [seen for seen in WEEK if (seen["batch_id"], seen["is_terminal"]) != ("batch_0", True)]
    table = ska.rates(watched(rows, reads), freq="15min", by=(), start=at(SPAN[0]), end=at(SPAN[1]))
    assert len(reads) == 3
    assert (table["coverage"].dropna() < 1).all()


def test_intervals_borrow_from_the_buckets_before_the_window() -> None:
    reads: list[Any] = []
    ska.rates(watched(WEEK, reads), freq="D", start=at(SPAN[0]), end=at(SPAN[1]))
    assert len(reads) == 4


def test_a_window_far_from_everything_is_empty_and_nothing_is_read_for_it() -> None:
    reads: list[Any] = []
    assert ska.rates(watched(WEEK, reads), start="2031-01-01").empty
    assert not reads


def test_an_empty_label_is_none() -> None:
    labels = ["", "v1", "", "v2", ""]
    rows = [
        row(batch, MONDAY + hour * HOUR, hour, created_at=MONDAY, policy_version=label or None)
        for batch in ("a", "b")
        for hour, label in enumerate(labels if batch == "a" else labels[:1], start=1)
    ]
    dealt = cohorts_of(frame_of(rows), (0,))
    (cohort,) = dealt.parts
    emptied = []
    for table in cohort.pieces:
        place = table.column_names.index("policy_version")
        texts = pc.fill_null(table.column(place).cast(pa.string()), "")
        assert "" in texts.to_pylist()
        emptied.append(table.set_column(place, "policy_version", texts))
    for function in (ska.rates, ska.backlog, batch_summary):
        other = Cohorts((replace(cohort, pieces=tuple(emptied)),))
        pd.testing.assert_frame_equal(function(other), function(dealt))


def test_nothing_up_to_as_of_gives_an_empty_table() -> None:
    dealt = cohorts_of(frame_of([row("a", MONDAY, 1, created_at=MONDAY - HOUR)]))
    for function in (ska.rates, ska.backlog, ska.data_quality, ska.stalled_batches, ska.completion_time):
        empty = function(dealt, as_of=at(MONDAY - DAY))
        assert empty.empty
        assert empty.dtypes.to_dict() == function(frame_of([])).dtypes.to_dict()


@dataclass
class Compacted:
    """A store whose listings go stale: each has its own observations, and the first ones fail half-way."""

    listings: list[list[dict[str, Any]]]
    n_stale: int
    n_listed: int = 0
    _made: dict[int, list[Any]] = field(default_factory=dict)

    def cohorts(self, columns: Any = None) -> list[Any]:
        del columns
        number = min(self.n_listed, len(self.listings) - 1)
        self.n_listed += 1
        if number not in self._made:
            self._made[number] = cohorts_of(frame_of(self.listings[number]), tuple(range(7))).cohorts()
        cohorts = self._made[number]
        error = StoreChanged("a file is gone") if self.n_listed <= self.n_stale else None
        return [*cohorts[:-1], Reading(cohorts[-1], error=error)]


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetykit_analytics.flow.cohorts.time.sleep", lambda _: None)


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("function", EVERY)
def test_a_call_that_meets_a_compaction_starts_anew_with_a_new_listing(function: Any) -> None:
    before = [seen | {"success_count": 100, "policy_id": "old"} for seen in WEEK[:8]]
    store = Compacted([before, before, WEEK], n_stale=2)
    found, expected = function(store), function(cohorts_of(frame_of(WEEK), tuple(range(7))))
    assert store.n_listed == 3
    if isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        table = getattr(found, "table", found)
        assert table == getattr(expected, "table", expected)


@pytest.mark.usefixtures("_no_waiting")
def test_a_chosen_frequency_and_its_table_come_from_one_listing() -> None:
    hourly = [
        row("a", MONDAY + minute * 60_000_000, minute, created_at=MONDAY) for minute in range(0, 600, 5)
    ]
    store = Compacted([WEEK, hourly], n_stale=1)
    table = ska.rates(store, freq="auto")
    assert store.n_listed == 2
    pd.testing.assert_frame_equal(table, ska.rates(cohorts_of(frame_of(hourly)), freq="auto"))


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("function", [ska.rates, batch_summary])
def test_a_store_that_is_compacted_without_end_is_given_up(function: Any) -> None:
    store = Compacted([WEEK], n_stale=1000)
    with pytest.raises(StoreFailed, match="compacted during each of 20 attempts"):
        function(store)
    assert store.n_listed == 20


class Recording(ThreadPoolExecutor):
    """An executor that keeps what it hands out."""

    def submit(self, *args: Any, **options: Any) -> Any:
        future = super().submit(*args, **options)
        self.futures = [*getattr(self, "futures", []), future]
        return future


def double(number: int) -> int:
    """What the tasks below do."""
    return 2 * number


@pytest.mark.parametrize("n_tasks", [0, 1, 2, 31, 32, 33, 200])
def test_results_come_in_the_order_of_the_tasks(n_tasks: int) -> None:
    tasks = list(range(n_tasks))
    with Recording(2) as executor:
        for some in (None, executor):
            assert list(ordered_map(double, tasks, some)) == [2 * number for number in range(n_tasks)]


def test_an_executor_is_never_far_ahead_of_the_result_that_is_due() -> None:
    with Recording(1) as executor:
        results = ordered_map(double, range(300), executor)
        for number in range(300):
            assert next(results) == 2 * number
            assert len(executor.futures) - number <= 32


def test_what_has_not_begun_when_one_fails_is_cancelled() -> None:
    free = threading.Event()

    def task(number: int) -> int:
        if number == 1:
            assert free.wait(60)
        return 1 // number

    with Recording(1) as executor:
        results = ordered_map(task, (0, 1, 2, 3), executor)
        with pytest.raises(ZeroDivisionError):
            next(results)
        free.set()
        futures: list[Future[int]] = executor.futures
        assert [future.cancelled() for future in futures[2:]] == [True, True]


def test_what_has_not_begun_when_nobody_asks_any_more_is_cancelled() -> None:
    free = threading.Event()

    def task(number: int) -> int:
        if number == 1:
            assert free.wait(60)
        return number

    with Recording(1) as executor:
        results = ordered_map(task, range(100), executor)
        assert next(results) == 0
        results.close()
        free.set()
        assert all(future.cancelled() for future in executor.futures[2:])
