"""Whatever observations come as, and whoever reads them, the numbers are those of the observations."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import batch_ends, natural_key
from safetykit_analytics.flow.partitions import ordered_map
from tests.rates import oracle
from tests.rates.helpers import HOUR, MINUTE, MONDAY, Day, Days, days_of, frame_of, histories, row
from tests.rates.test_batches import at, end_of, plain

DAY = 24 * HOUR
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


@settings(max_examples=150, deadline=None)
@given(
    said=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 2), CONTRADICTIONS), min_size=2, max_size=9
    )
)
def test_of_observations_of_one_instant_the_most_advanced_is_kept(said: Any) -> None:
    rows = [row(batch, MONDAY + hour * HOUR, **values) for batch, hour, values in said]
    expected = [end_of(history) for history in oracle.batches(rows, None).values()]
    assert plain(batch_ends(frame_of(rows))) == expected
    assert plain(batch_ends(frame_of(rows[::-1]))) == expected


def in_pieces(day: Day, *, is_plain: bool) -> Day:
    """The same day as a table of several chunks, each with a dictionary of its own, or with none."""
    table = day.table
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            text = table.column(place).cast(pa.string())
            halves = (text.slice(0, len(text) // 2), text.slice(len(text) // 2), text.slice(len(text)))
            chunks = [half.combine_chunks() for half in halves]
            chunks = chunks if is_plain else [chunk.dictionary_encode() for chunk in chunks]
            table = table.set_column(place, field.name, pa.chunked_array(chunks))
    return replace(day, table=table)


@settings(max_examples=40, deadline=None)
@given(rows=histories(), is_plain=st.booleans())
def test_a_day_may_come_in_chunks_and_with_or_without_dictionaries(rows: Any, *, is_plain: bool) -> None:
    days = days_of(frame_of(rows))
    pieces = Days(tuple(in_pieces(day, is_plain=is_plain) for day in days.days))
    for function in (ska.rates, ska.backlog, ska.data_quality, batch_ends):
        pd.testing.assert_frame_equal(function(pieces), function(days))


@dataclass(frozen=True)
class Reading:
    """A day that tells when it is read."""

    day: Day
    reads: list[dt.date]

    @property
    def date(self) -> dt.date:
        return self.day.date

    def read(self, columns: Any = None) -> Any:
        self.reads.append(self.date)
        return self.day.read(columns)


@pytest.mark.parametrize(
    "function",
    [ska.rates, ska.backlog, ska.data_quality, batch_ends],
)
def test_days_after_as_of_are_not_read(function: Any) -> None:
    reads: list[dt.date] = []
    days = days_of(frame_of([row("a", MONDAY + day * DAY, day) for day in range(5)]))
    watched = Days(tuple(Reading(day, reads) for day in days.days))
    for hours, n_days in ((47, 2), (48, 3), (49, 3)):
        reads.clear()
        function(watched, as_of=at(MONDAY + hours * HOUR))
        assert sorted(set(reads)) == [dt.date(2026, 3, 2) + dt.timedelta(days=day) for day in range(n_days)]


def test_an_empty_label_of_a_stored_day_is_none() -> None:
    labels = ["", "v1", "", "v2", ""]
    rows = [
        row(batch, MONDAY + hour * HOUR, hour, created_at=MONDAY, policy_version=label or None)
        for batch in ("a", "b")
        for hour, label in enumerate(labels if batch == "a" else labels[:1], start=1)
    ]
    (day,) = days_of(frame_of(rows)).days
    place = day.table.column_names.index("policy_version")
    texts = pc.fill_null(day.table.column(place).cast(pa.string()), "")
    assert "" in texts.to_pylist()
    emptied = replace(day, table=day.table.set_column(place, "policy_version", texts))
    for function in (ska.rates, ska.backlog, batch_ends):
        pd.testing.assert_frame_equal(function(Days((emptied,))), function(Days((day,))))


def test_a_store_without_a_day_up_to_as_of_gives_an_empty_table() -> None:
    days = days_of(frame_of([row("a", MONDAY, 1, created_at=MONDAY - HOUR)]))
    for function in (ska.rates, ska.backlog, ska.data_quality, batch_ends):
        empty = function(days, as_of=at(MONDAY - DAY))
        assert empty.empty
        assert empty.dtypes.to_dict() == function(frame_of([])).dtypes.to_dict()


class Recording(ThreadPoolExecutor):
    """An executor that keeps what it hands out."""

    def submit(self, *args: Any, **options: Any) -> Any:
        future = super().submit(*args, **options)
        self.futures = [*getattr(self, "futures", []), future]
        return future


def double(number: int) -> int:
    """What the tasks below do."""
    return 2 * number


@pytest.mark.parametrize("n_tasks", [0, 1, 2, 63, 64, 65, 200])
def test_results_come_in_the_order_of_the_tasks(n_tasks: int) -> None:
    tasks = [(number,) for number in range(n_tasks)]
    with Recording(2) as executor:
        for some in (None, executor):
            assert list(ordered_map(double, iter(tasks), some)) == [2 * number for number in range(n_tasks)]


def test_an_executor_is_never_far_ahead_of_the_result_that_is_due() -> None:
    with Recording(1) as executor:
        results = ordered_map(double, [(number,) for number in range(300)], executor)
        for number in range(300):
            assert next(results) == 2 * number
            assert len(executor.futures) - number <= 64


def test_what_has_not_begun_when_one_fails_is_cancelled() -> None:
    free = threading.Event()

    def task(number: int) -> int:
        if number == 1:
            assert free.wait(60)
        return 1 // number

    with Recording(1) as executor:
        results = ordered_map(task, [(number,) for number in (0, 1, 2, 3)], executor)
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
        results = ordered_map(task, [(number,) for number in range(100)], executor)
        assert next(results) == 0
        results.close()
        free.set()
        assert all(future.cancelled() for future in executor.futures[2:])


@settings(max_examples=40, deadline=None)
@given(
    rows=histories(),
    start=st.none() | st.integers(-30, 60),
    length=st.none() | st.integers(1, 40),
    shift=st.sampled_from([0, 1, 7 * MINUTE, HOUR - 1]),
    function=st.sampled_from([ska.rates, ska.backlog]),
)
def test_buckets_that_only_touch_start_or_end_are_left_out(
    rows: Any, start: int | None, length: int | None, shift: int, function: Any
) -> None:
    rows = [seen | {"pending_count": 7 * number % 31} for number, seen in enumerate(rows)]
    begin = None if start is None else pd.Timestamp(at(MONDAY + start * HOUR + shift))
    end = None if length is None else pd.Timestamp(at(MONDAY + ((start or 0) + length) * HOUR + shift))
    whole = function(frame_of(rows))
    is_in = pd.Series(data=True, index=whole.index)
    is_in &= True if begin is None else whole["bucket_end"] > begin
    is_in &= True if end is None else whole["bucket_start"] < end
    for observations in (frame_of(rows), days_of(frame_of(rows))):
        selected = function(observations, start=begin, end=end)
        expected = whole.loc[is_in].reset_index(drop=True)
        for name in [name for name in whole.columns if name.startswith("eta_")]:
            # In seconds: rounding may move the last digit of a pace.
            selected[name], expected[name] = (
                selected[name].dt.total_seconds(),
                expected[name].dt.total_seconds(),
            )
        pd.testing.assert_frame_equal(selected, expected, atol=1e-9)


def test_thousands_of_combinations_of_labels_are_kept_apart() -> None:
    names = [None if number % 50 == 0 else f"x{number}" for number in range(100)]
    rows = [
        row(
            f"batch_{number:03}",
            MONDAY + HOUR,
            number + 1,
            created_at=MONDAY,
            policy_id=policy,
            policy_version=version,
        )
        for number, (policy, version) in enumerate(zip(names, names[7:] + names[:7], strict=True))
    ]
    table = ska.rates(frame_of(rows))
    found = [
        tuple(None if name is pd.NA else name for name in names)
        for names in table[["policy_id", "policy_version"]].itertuples(index=False)
    ]
    expected = {}
    for seen in rows:
        key = (seen["policy_id"], seen["policy_version"])
        expected[key] = expected.get(key, 0) + seen["success_count"]
    assert found == sorted(expected, key=lambda key: tuple(map(natural_key, key)))
    assert table["success"].tolist() == [expected[key] for key in found]


@given(names=st.lists(st.text("ab019.", max_size=6) | st.none(), max_size=8))
@example(names=["spam", "harassment", "v1.10", "v1.9"])
def test_names_sort_by_their_texts_and_numbers_in_turn(names: list[str | None]) -> None:
    def parts(name: str | None) -> Any:
        if name is None:
            return (1,)
        runs = ["".join(run) for _, run in itertools.groupby(name, key=str.isdecimal)]
        runs = ["", *runs] if runs and runs[0][0].isdecimal() else runs
        # A text is followed by a number or by nothing.
        return (
            0,
            [int(run) if place % 2 else run for place, run in enumerate([*runs, ""][: len(runs) or 1])],
            name,
        )

    assert sorted(names, key=natural_key) == sorted(names, key=parts)


@pytest.mark.parametrize(
    ("by", "kind", "message"),
    [
        (1, TypeError, "by: expected column names, such as ('policy_id', 'policy_version'), found int"),
        (
            None,
            TypeError,
            "by: expected column names, such as ('policy_id', 'policy_version'), found NoneType",
        ),
        (("policy_id", "policy_id"), ValueError, "by=('policy_id', 'policy_id') names a column twice"),
        ("batch_id", ska.UnknownName, "no column to split by 'batch_id'"),
        (["policy_version", None], ska.UnknownName, "no column to split by 'None'"),
    ],
)
def test_what_nothing_can_be_split_by_is_refused(by: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        ska.rates(frame_of([]), by=by)
    assert str(caught.value).startswith(message)


def test_something_else_than_observations_is_refused_by_its_type() -> None:
    message = "expected a DataFrame of observations or a SnapshotStore, found "
    for wrong in ("snapshots", None, pd.Series([1])):
        for function in (ska.rates, ska.backlog, batch_ends):
            with pytest.raises(TypeError, match=message + type(wrong).__name__):
                function(wrong)
