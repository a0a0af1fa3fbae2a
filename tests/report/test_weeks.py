"""ISO weeks: names, bounds, and the week that a Monday's cron job means."""

import datetime as dt
import itertools
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.errors import UnknownName
from safetykit_analytics.report.weeks import last_complete_monday, midnight, monday_of, week_bounds, week_name

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut"]
HOUR = dt.timedelta(hours=1)


def test_weeks_are_named_as_the_published_cases_have_it(reference_cases):
    case = reference_cases["iso_weeks"]
    found = [week_name(dt.date.fromisoformat(day)) for day in case["input"]["dates"]]
    assert found == case["expected"]


@given(st.dates(dt.date(1971, 1, 10), dt.date(2261, 1, 1)))
def test_a_name_leads_back_to_the_monday_of_its_day(day):
    monday = monday_of(week_name(day))
    assert monday.weekday() == 0
    assert monday <= day < monday + dt.timedelta(days=7)


@pytest.mark.parametrize("week", ["2025-W53", "2026-W00", "2026-W54", "2027-W53"])
def test_a_week_that_its_year_does_not_have_is_refused_with_the_last_one_it_has(week):
    with pytest.raises(ValueError, match=r"week .* does not exist: .* ends with 20\d\d-W5[23]"):
        monday_of(week)


@pytest.mark.parametrize(
    "week", ["", "2026-47", "2026W47", "W47", "2026-W7", "2026-W47 ", "２０２６-W47x", "0001-W01", None, 47]
)
def test_what_is_no_week_is_refused_with_an_example(week):
    with pytest.raises(ValueError, match="not an ISO week"):
        monday_of(week)


def test_the_years_with_53_weeks_have_them():
    assert [year for year in range(2015, 2033) if _has(f"{year}-W53")] == [2015, 2020, 2026, 2032]


def _has(week):
    try:
        monday_of(week)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("week", "tz", "hours"),
    [
        ("2026-W47", "Europe/Berlin", 168),
        ("2026-W13", "Europe/Berlin", 167),
        ("2026-W43", "Europe/Berlin", 169),
        ("2026-W10", "America/New_York", 167),
        ("2026-W44", "America/New_York", 169),
        ("2026-W14", "Australia/Lord_Howe", 168.5),
        ("2026-W40", "Australia/Lord_Howe", 167.5),
        ("2026-W14", "America/Santiago", 169),
        ("2026-W36", "America/Santiago", 167),
        ("2026-W53", "Asia/Kolkata", 168),
    ],
)
def test_a_week_is_as_long_as_its_clock_says(week, tz, hours):
    start, end = week_bounds(monday_of(week), tz)
    assert (end - start) / HOUR == hours


@given(st.dates(dt.date(2000, 1, 1), dt.date(2037, 1, 1)), st.sampled_from(ZONES))
def test_weeks_follow_each_other_without_a_gap(day, tz):
    mondays = [monday_of(week_name(day + dt.timedelta(days=7 * step))) for step in range(3)]
    bounds = [week_bounds(monday, tz) for monday in mondays]
    assert all(first[1] == second[0] for first, second in itertools.pairwise(bounds))


def test_a_day_whose_midnight_is_skipped_begins_when_the_clock_jumps():
    begins = midnight(dt.date(2026, 9, 6), "America/Santiago")
    assert begins.astimezone(zoneinfo.ZoneInfo("America/Santiago")).strftime("%H:%M") == "01:00"
    assert (begins - dt.timedelta(seconds=1)).astimezone(zoneinfo.ZoneInfo("America/Santiago")).day == 5


def test_a_day_whose_midnight_comes_twice_begins_with_the_first():
    # On 1 November 2026 Havana's clock goes from 01:00 back to 00:00.
    begins = midnight(dt.date(2026, 11, 1), "America/Havana")
    assert begins == dt.datetime(2026, 11, 1, 4, tzinfo=dt.UTC)


@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2037, 1, 1)), st.sampled_from(ZONES))
def test_the_last_complete_week_is_over_and_the_next_one_is_not(instant, tz):
    as_of = instant.replace(tzinfo=dt.UTC)
    monday = last_complete_monday(as_of, tz)
    assert week_bounds(monday, tz)[1] <= as_of < week_bounds(monday + dt.timedelta(days=7), tz)[1]


def test_an_unknown_zone_is_named():
    with pytest.raises(UnknownName, match="Europe/Berlin"):
        midnight(dt.date(2026, 1, 1), "Europe/Berlinn")


def test_a_week_is_complete_at_the_instant_of_its_end():
    end = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    assert last_complete_monday(end, "UTC") == dt.date(2026, 11, 16)
    assert last_complete_monday(end - dt.timedelta(microseconds=1), "UTC") == dt.date(2026, 11, 9)
