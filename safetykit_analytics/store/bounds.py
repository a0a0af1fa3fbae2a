"""What `start` and `end` may be: dates, text, aware times.

Place in the flow: used by `store` alone; knows neither files nor tables.
"""

from __future__ import annotations

import datetime as dt

from safetykit_analytics.calendar import parse_time

#: Microseconds of a UTC day.
DAY_US = 86_400_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def instant_us(value: object, *, name: str) -> int | None:
    """Turn a bound into microseconds since 1970, UTC; None stays None.

    A date is its UTC midnight. See `parse_time` for the errors.
    """
    if value is None:
        return None
    at = parse_time(value, name=name)
    if isinstance(at, dt.datetime):
        # Rounded up: nanoseconds of a pandas Timestamp lie between two instants that can have been observed.
        return -int((_EPOCH - at) // _MICROSECOND)
    return (at.toordinal() - _EPOCH.toordinal()) * DAY_US


def first_day(start_us: int | None) -> dt.date | None:
    """Give the UTC day of an instant."""
    return None if start_us is None else (_EPOCH + dt.timedelta(microseconds=start_us)).date()


def day_after_last(end_us: int | None) -> dt.date | None:
    """Give the first UTC day that lies wholly at or after an instant."""
    return (
        None
        if end_us is None
        else (_EPOCH + dt.timedelta(microseconds=end_us - 1)).date() + dt.timedelta(days=1)
    )
