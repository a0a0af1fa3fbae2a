"""ISO weeks as pure functions: names, Mondays, and the instants between which a week lies in a time zone."""

from __future__ import annotations

import datetime as dt
import re

from safetykit_analytics.calendar import zone

_WEEK_NAME = re.compile(r"(\d{4})-W(\d{2})")
_SEVEN_DAYS = dt.timedelta(days=7)


def monday_of(week: str) -> dt.date:
    """Find the Monday on which an ISO week begins.

    Parameters
    ----------
    week : str
        Such as ``"2026-W47"``.

    Returns
    -------
    datetime.date

    Raises
    ------
    ValueError
        The name has another shape, or the year has no such week: only some years have a W53.

    Examples
    --------
    >>> monday_of("2026-W53")
    datetime.date(2026, 12, 28)
    >>> monday_of("2025-W53")
    Traceback (most recent call last):
        ...
    ValueError: there is no week '2025-W53': 2025 ends with 2025-W52
    """
    found = _WEEK_NAME.fullmatch(str(week))
    if found is None:
        raise ValueError(f"not an ISO week: {week!r}; expected a year and a week such as '2026-W47'")
    year, number = int(found[1]), int(found[2])
    if (
        not 1970 < year < 2262
    ):  # what nanoseconds since 1970 can hold, as some pandas operations still use them
        raise ValueError(f"not an ISO week: {week!r}; the year must lie between 1971 and 2261")
    # 28 December always lies in the last week of its year.
    last = dt.date(year, 12, 28).isocalendar().week
    if not 1 <= number <= last:
        raise ValueError(f"there is no week {week!r}: {year} ends with {year:04}-W{last}")
    return dt.date.fromisocalendar(year, number, 1)


def week_name(day: dt.date) -> str:
    """Name the ISO week that a day lies in.

    Examples
    --------
    >>> week_name(dt.date(2027, 1, 3))
    '2026-W53'
    """
    year, number, _ = day.isocalendar()
    return f"{year:04}-W{number:02}"


def midnight(day: dt.date, tz: str) -> dt.datetime:
    """Find the first instant of a local day, in UTC.

    Where the clock skips midnight, the day begins when it jumps; where midnight comes twice, it begins with
    the first.
    """
    # fold=0 reads a skipped time with the offset before the jump, which is the instant of the jump itself.
    return dt.datetime(day.year, day.month, day.day, tzinfo=zone(tz)).astimezone(dt.UTC)


def week_bounds(monday: dt.date, tz: str) -> tuple[dt.datetime, dt.datetime]:
    """Find the instants at which a local week begins and ends.

    Parameters
    ----------
    monday : datetime.date
    tz : str
        IANA name of the time zone.

    Returns
    -------
    start, end : datetime
        In UTC, half-open. They lie 168 hours apart, or 167 or 169 where the clock changes.

    Examples
    --------
    >>> start, end = week_bounds(monday_of("2026-W13"), "Europe/Berlin")  # summer time begins on its Sunday
    >>> (end - start) / dt.timedelta(hours=1)
    167.0
    """
    return midnight(monday, tz), midnight(monday + _SEVEN_DAYS, tz)


def last_complete_monday(as_of: dt.datetime, tz: str) -> dt.date:
    """Find the Monday of the last ISO week whose local end is not after `as_of`."""
    today = as_of.astimezone(zone(tz)).date()
    monday = today - dt.timedelta(days=today.weekday())
    # A clock that goes back across midnight can show Monday before the week has really begun.
    while week_bounds(monday, tz)[0] > as_of:
        monday -= _SEVEN_DAYS
    return monday - _SEVEN_DAYS
