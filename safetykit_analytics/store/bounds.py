"""What `start` and `end` may be: dates, text, aware times.

Place in the flow: used by `store` alone; knows neither files nor tables.
"""

from __future__ import annotations

import datetime as dt

#: Microseconds of a UTC day.
DAY_US = 86_400_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def instant_us(value: object, *, name: str) -> int | None:
    """Turn a bound into microseconds since 1970, UTC; None stays None.

    A date is its UTC midnight, and so is text that holds only a date; a time must say its offset.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = (
                dt.date.fromisoformat(value)
                if len(value) <= len("2026-W45-1")
                else dt.datetime.fromisoformat(value)
            )
        except ValueError as error:
            raise ValueError(
                f"{name}={value!r} is neither a date such as '2026-11-02' nor a time such as "
                f"'2026-11-02T09:00:00+01:00'"
            ) from error
    if isinstance(value, dt.datetime):
        if value != value:  # noqa: PLR0124 -- NaT, without importing pandas
            raise ValueError(f"{name} is NaT, which is no instant")
        if value.utcoffset() is None:
            raise ValueError(
                f"{name}={str(value)!r} has no time zone, so it is not clear which instant it is; add one, "
                f"such as '{value.isoformat()}+00:00' or value.replace(tzinfo=datetime.UTC)"
            )
        # Rounded up: nanoseconds of a pandas Timestamp lie between two instants that can have been observed.
        return -int((_EPOCH - value) // _MICROSECOND)
    if isinstance(value, dt.date):
        return (value.toordinal() - _EPOCH.toordinal()) * DAY_US
    raise TypeError(f"{name}: expected a date, text or a time with a time zone, found {type(value).__name__}")


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
