"""Bucket edges in any zone, against a walk along the local clock."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.calendar import (
    Frequency,
    bucket_edges,
    overlapping,
    parse_freq,
    parse_instant,
    to_us,
    zone,
)
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import HOUR, MINUTE, MONDAY, frame_of, row

if TYPE_CHECKING:
    from collections.abc import Callable

# Where the clock is changed by an hour, by half an hour, at midnight, and where a whole day is left out.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("Africa/Cairo", "2026-04-24"),
    ("America/St_Johns", "2010-11-07"),
    ("America/Havana", "2026-11-01"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kolkata", "2026-03-29"),
]


def instant(day: str) -> int:
    return to_us(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC))


@pytest.mark.parametrize("freq", ["15min", "1h", "6h", "D"])
@pytest.mark.parametrize(("tz", "day"), CHANGES)
def test_edges_are_where_the_local_clock_says(tz: str, day: str, freq: str) -> None:
    first, last = instant(day) - 30 * HOUR, instant(day) + 50 * HOUR
    edges = bucket_edges(parse_freq(freq), zone(tz), first, last)
    expected = oracle.calendar(freq, tz, first, last)
    assert edges.tolist() == expected
    # Between any two of them, and just before: a bucket holds its start and not its end.
    some_edges = range(1, len(expected) - 1, len(expected) // 4)
    for begin, end in itertools.combinations_with_replacement(some_edges, 2):
        for early in (0, 1):
            some = bucket_edges(parse_freq(freq), zone(tz), expected[begin] - early, expected[end] - early)
            assert some.tolist() == expected[begin - early : end + 2 - early]


@examples(15)
@given(
    start=st.integers(0, 50),
    length=st.integers(0, 40),
    freq=st.sampled_from(["W", "MS"]),
    tz=st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]),
)
def test_weeks_begin_on_mondays_and_months_on_the_first(start: int, length: int, freq: str, tz: str) -> None:
    first = MONDAY + start * 24 * HOUR
    last = first + length * 24 * HOUR
    assert bucket_edges(parse_freq(freq), zone(tz), first, last).tolist() == oracle.calendar(
        freq, tz, first, last
    )


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
    ],
)
def test_a_day_is_as_long_as_it_really_is(tz: str, day: str, hours: float) -> None:
    noon = instant(day) + 12 * HOUR
    noon -= int(
        dt.datetime.fromisoformat(day).replace(hour=12, tzinfo=zone(tz)).utcoffset().total_seconds() * 1e6
    )
    rows = [row("a", noon + 48 * HOUR, 7200, created_at=noon - 48 * HOUR)]
    table = ska.rates(frame_of(rows), freq="D", tz=tz)
    on_that_day = table[table["bucket_start"].dt.date == dt.date.fromisoformat(day)]
    assert len(on_that_day) == 1
    lengths = on_that_day["bucket_end"] - on_that_day["bucket_start"]
    assert lengths.iloc[0] == pd.Timedelta(hours=hours)
    assert on_that_day["processed"].iloc[0] == pytest.approx(75 * hours)
    assert on_that_day["throughput_per_hour"].iloc[0] == pytest.approx(75)


def test_the_day_the_clock_was_changed_in_berlin_has_23_hours_of_work(
    reference: Callable[[str], Any],
) -> None:
    case = reference("dst_spring_berlin")
    _, (last, count) = case["input"]["created"], case["input"]["observations"][0]
    rows = [row("a", instant_of(last), count, created_at=instant_of(case["input"]["created"]))]
    table = ska.rates(frame_of(rows), freq="D", tz="Europe/Berlin")
    assert table["processed"].tolist() == pytest.approx(case["expected"], rel=case["tol"])
    edges = [*table["bucket_start"], table["bucket_end"].iloc[-1]]
    assert [edge.tz_convert("UTC") for edge in edges] == [pd.Timestamp(e) for e in case["input"]["edges_utc"]]


def test_weeks_are_iso_weeks(reference: Callable[[str], Any]) -> None:
    case = reference("iso_weeks")
    for day, week in zip(case["input"]["dates"], case["expected"], strict=True):
        at = instant(day) + 10 * HOUR
        start = ska.rates(frame_of([row("a", at, 1, created_at=at - HOUR)]), freq="W")["bucket_start"].iloc[0]
        year, number, weekday = start.isocalendar()
        assert (f"{year}-W{number:02d}", weekday, start.hour) == (week, 1, 0)


def test_the_zone_of_the_machine_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = frame_of([row("a", MONDAY + 700 * HOUR, 900, created_at=MONDAY, pending_count=3)])

    def written() -> list[str]:
        tables = [function(seen, freq="6h", tz="Europe/Berlin") for function in (ska.rates, ska.backlog)]
        return [table.to_csv() for table in tables]

    expected = written()
    monkeypatch.setenv("TZ", "Australia/Lord_Howe")
    time.tzset()
    try:
        assert time.timezone != 0
        assert written() == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def instant_of(text: str) -> int:
    return to_us(dt.datetime.fromisoformat(text))


@pytest.mark.parametrize("freq", ["D", "24h", "1440min", "1D", "day"])
def test_one_length_has_one_meaning_however_it_is_written(freq: str) -> None:
    first, last = instant("2026-03-28"), instant("2026-03-30")
    edges = bucket_edges(parse_freq(freq), zone("Europe/Berlin"), first, last)
    assert np.diff(edges).tolist() == [24 * HOUR, 23 * HOUR, 24 * HOUR]


DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("freq", "kind", "length"),
    [
        ("1min", "clock", MINUTE),
        ("min", "clock", MINUTE),
        (" 15 MIN ", "clock", 15 * MINUTE),
        ("5T", "clock", 5 * MINUTE),
        ("minute", "clock", MINUTE),
        ("30minutes", "clock", 30 * MINUTE),
        ("h", "clock", HOUR),
        ("1H", "clock", HOUR),
        ("hour", "clock", HOUR),
        ("12hours", "clock", 12 * HOUR),
        ("D", "day", DAY),
        ("days", "day", DAY),
        ("001440min", "day", DAY),
        ("W", "week", 7 * DAY),
        ("w-mon", "week", 7 * DAY),
        ("1W-MON", "week", 7 * DAY),
        ("MS", "month", 30 * DAY),
        ("1me", "month", 30 * DAY),
        ("M", "month", 30 * DAY),
    ],
)
def test_a_frequency_may_be_written_as_in_pandas(freq: str, kind: str, length: int) -> None:
    assert parse_freq(freq) == Frequency(kind, length)


@pytest.mark.parametrize(
    ("freq", "found"),
    [
        *(
            (freq, f"freq {freq!r} does not divide a day")
            for freq in ("7min", "5h", "25h", "2D", "48h", "2W", "3MS", "2881min")
        ),
        *(
            (freq, f"invalid frequency {freq!r}")
            for freq in ("", "5", "0h", "0W", "-1h", "1.5h", "1h30min", "W-TUE", "Q", "1000000min", 60, None)
        ),
    ],
)
def test_an_invalid_frequency_is_an_error_that_shows_it_and_the_valid_ones(freq: Any, found: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the whole message is looked at
        parse_freq(freq)
    assert str(caught.value).startswith(f"{found}; expected a length that divides a day")


BERLIN = zone("Europe/Berlin")


def test_a_zone_may_be_given_as_such() -> None:
    assert zone(BERLIN) is BERLIN
    assert zone(dt.UTC).key == zone("UTC").key == "UTC"


@pytest.mark.parametrize("tz", ["Europe/Berln", "", "../etc", "Europe"])
def test_an_unknown_zone_is_refused_with_those_that_there_are(tz: str) -> None:
    with pytest.raises(ska.UnknownName, match=f"no time zone '{tz}'") as caught:
        zone(tz)
    assert "Europe/Berlin" in caught.value.known
    assert list(caught.value.known) == sorted(caught.value.known)


@pytest.mark.parametrize("tz", [None, 1, dt.timezone(dt.timedelta(hours=1))])
def test_a_zone_that_is_no_name_is_a_type_error(tz: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^tz=.*: expected the name of a time zone, such as 'Europe/Berlin'$"
    ):
        zone(tz)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-03-29", "2026-03-29T00:00+01:00"),
        (" 2026-03-30 ", "2026-03-30T00:00+02:00"),
        (dt.date(2026, 3, 30), "2026-03-30T00:00+02:00"),
        ("2026-03-29T08:00:00.000001+05:30", "2026-03-29T08:00:00.000001+05:30"),
        (dt.datetime(2026, 3, 29, 8, tzinfo=BERLIN), "2026-03-29T06:00+00:00"),
        (dt.datetime(1969, 12, 31, 23, tzinfo=dt.UTC), "1969-12-31T23:00+00:00"),
        (pd.Timestamp("2026-03-29T08:00:00.000001999Z"), "2026-03-29T08:00:00.000001+00:00"),
        (pd.Timestamp("1969-12-31T23:59:59.999999999Z"), "1969-12-31T23:59:59.999999+00:00"),
    ],
)
def test_an_instant_is_an_aware_time_or_the_midnight_of_a_date(value: Any, instant: str) -> None:
    assert parse_instant(value, "start", BERLIN) == instant_of(instant)


@pytest.mark.parametrize("freq", ["1h", "D", "W", "MS"])
@pytest.mark.parametrize("tz", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize("day", ["0002-06-15", "1883-11-18", "9998-06-15"])
def test_the_calendar_holds_for_all_years_that_python_has(tz: str, freq: str, day: str) -> None:
    first, last = instant(day), instant(day) + 50 * DAY
    edges = bucket_edges(parse_freq(freq), zone(tz), first, last)
    assert edges[0] <= first < edges[1]
    assert edges[-2] <= last < edges[-1]
    for edge in edges.tolist():
        local = (oracle.EPOCH + dt.timedelta(microseconds=edge)).astimezone(zone(tz))
        assert local.minute == local.second == 0 or day.startswith("1883")
        if freq != "1h" and not day.startswith("1883"):
            assert local.hour == 0


@pytest.mark.parametrize("tz", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("freq", ["1h", "D", "W", "MS"])
def test_the_first_and_the_last_year_are_bounds_like_any_other(tz: str, freq: str) -> None:
    first, last = instant("2026-11-02"), instant("2026-11-05")
    everything = bucket_edges(parse_freq(freq), zone(tz), first, last)
    bounds = (parse_instant("0001-01-01", "start", zone(tz)), parse_instant("9999-12-31", "end", zone(tz)))
    np.testing.assert_array_equal(overlapping(everything, *bounds), everything)
