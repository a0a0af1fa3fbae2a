"""Bucket edges in any zone, against a walk along the local clock."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow.calendar import bucket_edges, parse_freq, to_us, zone
from tests.rates import oracle
from tests.rates.helpers import HOUR, MONDAY, frame_of, row

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
    assert edges.tolist() == oracle.calendar(freq, tz, first, last)


@settings(max_examples=15, deadline=None)
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


def test_the_zone_of_the_machine_changes_nothing() -> None:
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "import safetykit_analytics as ska\n"
        "from tests.rates.helpers import *\n"
        "rows = [row('a', MONDAY + 700 * HOUR, 900, created_at=MONDAY, pending_count=3)]\n"
        "print(ska.rates(frame_of(rows), freq='6h', tz='Europe/Berlin').to_csv())\n"
        "print(ska.backlog(frame_of(rows), freq='D', tz='Europe/Berlin').to_csv())\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "TZ": tz},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for tz in ("UTC", "Australia/Lord_Howe")
    }
    assert len(printed) == 1


def instant_of(text: str) -> int:
    return to_us(dt.datetime.fromisoformat(text))


@pytest.mark.parametrize("freq", ["D", "24h", "1440min", "1D", "day"])
def test_one_length_has_one_meaning_however_it_is_written(freq: str) -> None:
    first, last = instant("2026-03-28"), instant("2026-03-30")
    edges = bucket_edges(parse_freq(freq), zone("Europe/Berlin"), first, last)
    assert np.diff(edges).tolist() == [24 * HOUR, 23 * HOUR, 24 * HOUR]
