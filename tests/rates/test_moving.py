"""A store is reduced in the memory of some of its days; the result is that of all at once."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.calendar import with_guards
from safetykit_analytics.flow import day, moving, visit
from safetykit_analytics.flow.observations import EDGE_COLUMNS
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.labels import LABELS
from tests.rates.helpers import HOUR, MONDAY, Counting, Day, Days, days_of, frame_of, histories, row

if TYPE_CHECKING:
    from collections.abc import Iterator

BY = [(), ("policy_id",), ("policy_id", "policy_version"), ("policy_version", "policy_id")]
DAY = 24 * HOUR


@contextmanager
def window(longest: int, ahead: int, shortest: int = 99, *, together: int = 1) -> Iterator[None]:
    """Let the window hold `longest` days, or `shortest`, `ahead` of which do not leave it yet."""
    sizes = mock.patch.multiple(moving, LONGEST=longest, AHEAD=ahead, SHORTEST=shortest, MANY=0)
    with sizes, mock.patch.object(visit, "_TOGETHER", together):
        yield


def assert_same(cut: pd.DataFrame, whole: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(cut, whole, rtol=1e-9, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    rows=histories() | histories(span=12 * DAY),
    options=st.fixed_dictionaries(
        {
            "freq": st.sampled_from(["15min", "1h", "6h", "D", "W", "MS"]),
            "tz": st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]),
            "by": st.sampled_from(BY),
        }
    ),
    length=st.tuples(st.integers(4, 6), st.integers(1, 2), st.integers(2, 5)),
    bounds=st.none() | st.tuples(st.integers(-20, 80), st.integers(1, 60)),
    as_of=st.none() | st.integers(0, 80 * HOUR),
    together=st.integers(1, 8),
)
def test_a_window_of_any_length_gives_what_one_frame_gives(  # noqa: PLR0917 -- hypothesis draws them
    rows: Any, options: dict[str, Any], length: Any, bounds: Any, as_of: Any, together: int
) -> None:
    frame = frame_of(rows)
    if bounds is not None:
        start = pd.Timestamp(MONDAY, unit="us", tz="UTC") + pd.Timedelta(hours=bounds[0])
        options |= {"start": start, "end": start + pd.Timedelta(hours=bounds[1])}
    if as_of is not None:
        options["as_of"] = pd.Timestamp(MONDAY + as_of, unit="us", tz="UTC")
    with window(*length, together=together):
        cut = ska.rates(days_of(frame), **options)
    assert_same(cut, ska.rates(frame, **options))


@settings(max_examples=60, deadline=None)
@given(
    rows=histories(span=6 * DAY),
    freq=st.sampled_from(["1h", "D", "W"]),
    tz=st.sampled_from(["UTC", "Asia/Kolkata"]),
    together=st.integers(1, 7),
    enough=st.integers(1, 12),
    plain=st.sets(st.integers(0, 6)),
    as_of=st.none() | st.integers(0, 6 * 24),
)
def test_days_together_give_what_each_gives_alone(  # noqa: PLR0917 -- hypothesis draws them
    rows: Any, freq: str, tz: str, together: int, enough: int, plain: set[int], as_of: int | None
) -> None:
    frame = frame_of(rows)
    days = [
        Day(day.date, day.table.cast(table_from_frame(frame).schema)) if at in plain else day
        for at, day in enumerate(days_of(frame).days)
    ]
    options: dict[str, Any] = {"freq": freq, "tz": tz}
    if as_of is not None:
        options["as_of"] = pd.Timestamp(MONDAY + as_of * HOUR, unit="us", tz="UTC")
    with mock.patch.object(visit, "_TOGETHER", 1):
        alone = ska.rates(Days(tuple(days)), **options)
    with mock.patch.multiple(visit, _TOGETHER=together, _ENOUGH=enough):
        assert_same(ska.rates(Days(tuple(days)), **options), alone)


def test_large_days_are_not_in_memory_together_and_only_what_is_asked_for_is_read() -> None:
    days = days_of(frame_of(fleet(6))).days
    how = day.How(None, LABELS, lambda first, last: with_guards(np.array([first, last])), day.settle_nothing)
    read = []

    def columns_read(day: Day, columns: Any) -> Any:
        read.append(tuple(columns))
        return day.table.select(list(columns))

    largest = max(one.table.num_rows for one in days)
    with mock.patch.object(Day, "read", columns_read):
        for enough, sizes in ((10**6, [6]), (2 * largest, [2, 2, 2]), (1, [1] * 6)):
            with mock.patch.object(visit, "_ENOUGH", enough):
                planned = list(visit._planned(days, how))
            assert [len(some.days.days) for some in planned] == sizes
    assert set(read) == {(*EDGE_COLUMNS, *LABELS)}


def reads_of(frame: pd.DataFrame, *, together: int = 1, **options: Any) -> list[int]:
    """How often each day was read, by a window of two days that leave and two ahead."""
    reads = []

    def read(day: Day, columns: Any = None) -> Any:
        reads.append(day.date)
        return day.table if columns is None else day.table.select(list(columns))

    days = days_of(frame)
    with window(4, 2, together=together), mock.patch.object(Day, "read", read):
        cut = ska.rates(days, **options)
    assert_same(cut, ska.rates(frame, **options))
    return [reads.count(day.date) for day in days.days]


def fleet(n_days: int) -> list[dict[str, Any]]:
    """Batches polled every hour from creation to end, most of them across a midnight."""
    rows = []
    for number in range(3 * n_days):
        begin = MONDAY + number * 8 * HOUR - HOUR // 2
        for poll in range(1, 12):
            at = begin + poll * HOUR
            if at < MONDAY + n_days * DAY:
                end = {"batch_status": "SUCCESS"} if poll == 11 else {}
                rows.append(row(f"batch_{number:03}", at, 9 * poll, poll, created_at=begin, **end))
    return rows


def test_every_day_of_an_ordinary_store_is_read_once() -> None:
    assert reads_of(frame_of(fleet(12))) == [1] * 12
    assert reads_of(frame_of(fleet(12)), freq="D", by=()) == [1] * 12
    assert reads_of(frame_of(fleet(12)), freq="W", tz="Asia/Kolkata") == [1] * 12


def stitched(frame: pd.DataFrame) -> list[set[str]]:
    """Which batches were stitched, window by window, where two days are read together."""
    batches = []

    def stitch(parts: list[Any], labels: Any) -> Any:
        batches.append({name for part in parts for name in part.ids.to_pylist()})
        return moving_stitch(parts, labels)

    moving_stitch = moving.stitch
    with window(6, 2, together=2), mock.patch.object(moving, "stitch", stitch):
        cut = ska.rates(days_of(frame))
    assert_same(cut, ska.rates(frame))
    return batches


def test_only_batches_that_may_concern_other_days_are_stitched() -> None:
    def batch(name: str, day: int, **end: Any) -> list[dict[str, Any]]:
        at = MONDAY + day * DAY + 5 * HOUR
        return [
            row(name, at + hour * HOUR, 9 * hour, created_at=at, **(end if hour == 3 else {}))
            for hour in (1, 3)
        ]

    end = {"batch_status": "SUCCESS"}
    ends = [some for day in range(10) for some in batch(f"batch_{day}", day, **end)]
    runs = batch("batch_x", 3)
    again = [*batch("batch_y", 4, **end), row("batch_y", MONDAY + 7 * DAY, 27, **end)]
    named_late = [row("batch_z", MONDAY + 8 * DAY + hour * HOUR, policy_id=None, **end) for hour in (2, 3)]
    found = stitched(frame_of([*ends, *runs, *again, *named_late]))
    assert set().union(*found) == {"batch_x", "batch_y", "batch_z"}


def test_nothing_has_to_be_stitched() -> None:
    rows = [
        row(f"batch_{day}", MONDAY + day * DAY + hour * HOUR, 9 * hour, created_at=MONDAY + day * DAY, **end)
        for day in range(9)
        for hour, end in ((2, {}), (4, {"batch_status": "SUCCESS"}))
    ]
    frame = frame_of(rows)
    for freq in ("1h", "W"):
        with window(4, 2):
            assert_same(ska.rates(days_of(frame), freq=freq), ska.rates(frame, freq=freq))


def test_days_together_are_cut_at_an_instant_like_one_frame() -> None:
    rows = [
        row(f"batch_{batch}", MONDAY + (5 * poll + batch) * HOUR, 7 * poll + batch, created_at=MONDAY)
        for batch in range(6)
        for poll in range(1, 14)
    ]
    frame = frame_of(rows)
    for hours in (30, 55, 61):
        as_of = pd.Timestamp(MONDAY + hours * HOUR, unit="us", tz="UTC")
        assert_same(ska.rates(days_of(frame), as_of=as_of), ska.rates(frame, as_of=as_of))


def test_work_after_an_end_on_any_day_of_those_read_together_has_them_read_again() -> None:
    end = {"created_at": MONDAY + 3 * DAY + HOUR, "batch_status": "SUCCESS"}
    works = [
        row("batch_x", MONDAY + 3 * DAY + 2 * HOUR, 5, **end),
        row("batch_x", MONDAY + 4 * DAY, 9, **end),
    ]
    frame = frame_of(fleet(8) + works)
    assert reads_of(frame, together=2) == [1, 1, 2, 2, 1, 1, 1, 1]


def test_gaps_within_days_together_have_their_own_lengths() -> None:
    gaps = [
        row("batch_x", MONDAY + day * DAY + hour * HOUR, 4 * (10 * day + hour), 10 * day + hour)
        for day in range(3)
        for hour in (1, 7)
    ]
    # Until this one is seen nothing of the day is settled.
    late = [row("batch_y", MONDAY + day * DAY + 10 * HOUR, day) for day in range(3)]
    frame = frame_of(fleet(3) + gaps + late)
    assert_same(ska.rates(days_of(frame)), ska.rates(frame))


def test_labels_of_many_batches_are_filled_in_time() -> None:
    labels = [None, "v1", "v2", None]
    rows = [
        row(f"batch_{batch:03}", MONDAY + day * DAY + HOUR, 9 * day, policy_version=labels[(batch + day) % 4])
        for batch in range(200)
        for day in range(5)
    ]
    frame = frame_of(rows)
    assert_same(ska.rates(days_of(frame)), ska.rates(frame))


def test_days_without_rows_change_nothing() -> None:
    frame = frame_of(fleet(3))
    days = days_of(frame).days
    none = days[0].table.slice(0, 0)
    empty = [Day(days[0].date - dt.timedelta(days=back), none) for back in range(9, 0, -1)]
    with window(4, 2):
        assert_same(ska.rates(Days((*empty, *days))), ska.rates(frame))


def test_a_window_of_the_usual_length_gives_what_one_frame_gives() -> None:
    frame = frame_of(fleet(3 * moving.LONGEST // 2))
    assert_same(ska.rates(days_of(frame)), ska.rates(frame))


def test_a_window_may_be_shorter_than_what_is_read_together() -> None:
    seldom_seen = [
        row(f"batch_x{day}", MONDAY + (day + later) * DAY + HOUR, 50 * later, 5 * later + day)
        for day in range(17)
        for later in (0, 3, 4)
    ]
    frame = frame_of(fleet(20) + seldom_seen)
    for longest, ahead, together in ((4, 7, 8), (4, 2, 3), (2, 2, 5), (6, 3, 2), (7, 3, 2)):
        with window(longest, ahead, together=together):
            assert_same(ska.rates(days_of(frame)), ska.rates(frame))


def test_a_batch_that_waits_without_a_label_costs_no_second_reading() -> None:
    waits = [
        row("batch_x", MONDAY + day * DAY + DAY - HOUR, created_at=MONDAY + 4 * DAY, policy_version=None)
        for day in (4, 5)
    ]
    works = [row("batch_x", MONDAY + 6 * DAY + HOUR, 5, created_at=MONDAY + 4 * DAY)]
    assert reads_of(frame_of(fleet(8) + waits + works)) == [1] * 8


def test_a_day_that_does_not_name_the_version_of_work_from_the_day_before_is_read_again() -> None:
    works = [
        row("batch_x", MONDAY + 3 * DAY + 20 * HOUR, 5, created_at=MONDAY + 3 * DAY),
        row("batch_x", MONDAY + 4 * DAY + 6 * HOUR, 50, created_at=MONDAY + 3 * DAY, policy_version=None),
    ]
    frame = frame_of(fleet(8) + works)
    assert reads_of(frame) == [1, 1, 1, 1, 2, 1, 1, 1]
    assert reads_of(frame, together=2) == [1, 1, 1, 1, 2, 2, 1, 1]
    assert reads_of(frame, together=3) == [1] * 8  # the days from the fourth to the sixth tell it themselves


def test_a_batch_observed_on_the_day_before_it_was_created_is_counted_once() -> None:
    created = MONDAY + 4 * DAY + HOUR
    works = [row("batch_x", created + hours * HOUR, 5, created_at=created) for hours in (-2, 1)]
    assert reads_of(frame_of(fleet(8) + works)) == [1, 1, 1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("first", range(2, 7))
def test_a_batch_observed_before_it_was_created_is_counted_once_wherever_a_window_ends(first: int) -> None:
    created = MONDAY + first * DAY + DAY + HOUR
    seen = ((-2, 5, {}), (1, 9, {}), (2, 9, {"batch_status": "SUCCESS"}))
    rows = [
        row("batch_x", created + hours * HOUR, count, created_at=created, **end) for hours, count, end in seen
    ]
    frame = frame_of(fleet(12) + rows)
    with window(4, 2):
        assert_same(ska.rates(days_of(frame)), ska.rates(frame))


def test_a_batch_of_another_version_unseen_for_a_night_costs_no_second_reading() -> None:
    works = [
        row("batch_x", MONDAY + 3 * DAY + hours * HOUR + HOUR // 2, hours, policy_version="v2")
        for hours in (9, 11, 25)
    ]
    assert reads_of(frame_of(fleet(8) + works)) == [1] * 8


def test_a_batch_unseen_for_a_day_has_only_that_day_read_again() -> None:
    unseen = [
        row("batch_x", MONDAY + 3 * DAY + HOUR, 5, created_at=MONDAY + 3 * DAY),
        row("batch_x", MONDAY + 5 * DAY + HOUR, 9, created_at=MONDAY + 3 * DAY),
    ]
    frame = frame_of(fleet(8) + unseen)
    assert reads_of(frame) == [1, 1, 1, 1, 2, 1, 1, 1]
    assert reads_of(frame, together=3) == [1] * 8


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(row("batch_x", MONDAY + 9 * DAY, 7, created_at=MONDAY), id="work after days unseen"),
        pytest.param(
            row("batch_y", MONDAY + 9 * DAY, 7, created_at=MONDAY, policy_version="v2"),
            id="a label that comes late",
        ),
        pytest.param(
            row("batch_z", MONDAY + 9 * DAY, 7, created_at=MONDAY, batch_status="SUCCESS"),
            id="seen long after its end",
        ),
        pytest.param(
            row("batch_z", MONDAY + 9 * DAY, 9, batch_status="SUCCESS"),
            id="work after its end, no creation time",
        ),
    ],
)
def test_what_the_window_has_forgotten_has_all_read_once_more(later: dict[str, Any]) -> None:
    early = [
        row("batch_x", MONDAY + HOUR, 5, created_at=MONDAY),
        row("batch_y", MONDAY + HOUR, 7, created_at=MONDAY, policy_version=None),
        row("batch_z", MONDAY + HOUR, 7, created_at=MONDAY, batch_status="SUCCESS"),
    ]
    reads = reads_of(frame_of(fleet(12) + early + [later]))
    assert len(reads) == 12
    assert min(reads) > 1


def test_all_readings_are_left_to_the_executor() -> None:
    ordinary, late = fleet(8), row("batch_x", MONDAY + 7 * DAY + HOUR, 9, created_at=MONDAY + HOUR)
    early = row("batch_x", MONDAY + 2 * HOUR, 5, created_at=MONDAY + HOUR)
    with window(4, 2), Counting(1) as executor:
        ska.rates(days_of(frame_of(ordinary)), executor=executor)
        assert executor.n_tasks == 8
        ska.rates(days_of(frame_of([*ordinary, early, late])), executor=executor)
        # The first attempt ends early, the second reads all days, and those between the two once more.
        assert executor.n_tasks > 8 + 8 + 6
