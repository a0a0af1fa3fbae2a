"""ISO weeks as pure functions: names, Mondays, and the instants between which a week lies in a time zone."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from safetykit_analytics.calendar import from_us, parse_instant, zone

_WEEK_NAME = re.compile(r"(\d{4})-W(\d{2})")
_SEVEN_DAYS = dt.timedelta(days=7)
_HOUR = dt.timedelta(hours=1)


def monday_of(week: str) -> dt.date:
    """Return the Monday on which an ISO week such as "2026-W47" begins; raise ValueError for no such week."""
    found = _WEEK_NAME.fullmatch(str(week))
    if found is None:
        raise ValueError(f"not an ISO week: {week!r}; expected a year and a week such as '2026-W47'")
    year, number = int(found[1]), int(found[2])
    # Some pandas operations still count nanoseconds since 1970.
    if not 1970 < year < 2262:
        raise ValueError(f"not an ISO week: {week!r}; expected a year from 1971 to 2261")
    # 28 December always lies in the last week of its year.
    last = dt.date(year, 12, 28).isocalendar().week
    if not 1 <= number <= last:
        raise ValueError(f"week {week!r} does not exist: {year} ends with {year:04}-W{last}")
    return dt.date.fromisocalendar(year, number, 1)


def week_name(day: dt.date) -> str:
    """Return the name of the ISO week of a day."""
    year, number, _ = day.isocalendar()
    return f"{year:04}-W{number:02}"


def midnight(day: dt.date, tz: str) -> dt.datetime:
    """Return the first instant of a local day, in UTC."""
    return from_us(parse_instant(day, "day", zone(tz)))


def week_bounds(monday: dt.date, tz: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the instants at which a local week begins and ends, in UTC, half-open."""
    return midnight(monday, tz), midnight(monday + _SEVEN_DAYS, tz)


def last_complete_monday(as_of: dt.datetime, tz: str) -> dt.date:
    """Return the Monday of the last ISO week whose local end is not after `as_of`."""
    today = as_of.astimezone(zone(tz)).date()
    monday = today - dt.timedelta(days=today.weekday())
    # A clock that goes back across midnight can show Monday before the week has really begun.
    while week_bounds(monday, tz)[0] > as_of:
        monday -= _SEVEN_DAYS
    return monday - _SEVEN_DAYS


@dataclass(frozen=True)
class Week:
    """An ISO week of a time zone, as it was by `as_of`; instants are in UTC.

    A week that is not over is compared with as many hours of the one before, up to `previous_end`. What was
    seen before `until` counts, which is just after `as_of` then. Backlog and stalled batches are as of
    `state_at`. `elapsed_hours` are 167 to 169 for a complete week.
    """

    week: str
    previous_week: str
    tz: str
    previous_start: dt.datetime
    previous_end: dt.datetime
    start: dt.datetime
    until: dt.datetime
    end: dt.datetime
    as_of: dt.datetime
    state_at: dt.datetime
    partial: bool
    previous_hours: float
    elapsed_hours: float


def find_week(monday: dt.date, tz: str, as_of: dt.datetime) -> Week:
    """Return the week that begins on a Monday, and what to compare it with."""
    start, end = week_bounds(monday, tz)
    previous_start, passed = midnight(monday - _SEVEN_DAYS, tz), max(as_of - start, dt.timedelta(0))
    previous_end = start if as_of >= end else min(start, previous_start + passed)
    return Week(
        week=week_name(monday),
        previous_week=week_name(monday - _SEVEN_DAYS),
        tz=tz,
        previous_start=previous_start,
        previous_end=previous_end,
        start=start,
        until=min(end, max(start, as_of + dt.timedelta.resolution)),
        end=end,
        as_of=as_of,
        state_at=min(end, as_of),
        partial=as_of < end,
        previous_hours=(previous_end - previous_start) / _HOUR,
        elapsed_hours=min(passed, end - start) / _HOUR,
    )
