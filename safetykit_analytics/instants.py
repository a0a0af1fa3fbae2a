"""What a time may be given as: an aware time, text with an offset, or a date.

Place in the flow: below every stage that takes `start`, `end` or `as_of`. Imports nothing but the standard
library. Whose midnight a date is, the stage decides.
"""

from __future__ import annotations

import datetime as dt


def parse_time(value: object, *, name: str) -> dt.datetime | dt.date:
    """Read a time that somebody passed.

    Parameters
    ----------
    value : datetime.datetime, datetime.date or str
        Text is ISO 8601: only a date, or a time with its offset.
    name : str
        What the argument is called, for messages.

    Returns
    -------
    datetime.datetime or datetime.date
        A datetime is aware; a pandas.Timestamp stays one, with its nanoseconds.

    Raises
    ------
    ValueError
        Text that is no time, a time without an offset, or NaT.
    TypeError
        Another type.

    Examples
    --------
    >>> parse_time("2026-11-02", name="start")
    datetime.date(2026, 11, 2)
    >>> parse_time("2026-11-02T09:00Z", name="start")
    datetime.datetime(2026, 11, 2, 9, 0, tzinfo=datetime.timezone.utc)
    """
    found = value
    if isinstance(value, str):
        text = value.strip()
        try:
            is_date = len(text) <= len("2026-W45-1")
            found = dt.date.fromisoformat(text) if is_date else dt.datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(
                f"{name}={value!r} is neither a date such as '2026-11-02' nor a time such as "
                f"'2026-11-02T09:00:00+01:00'"
            ) from error
    if isinstance(found, dt.datetime):
        if found != found:  # noqa: PLR0124 -- NaT is the datetime that does not equal itself
            raise ValueError(f"{name} is NaT, which is no instant")
        if found.utcoffset() is None:
            mend = f"add its offset, such as '{found.isoformat()}+00:00'"
            if not isinstance(value, str):
                mend = "give it one, such as value.replace(tzinfo=datetime.UTC)"
            raise ValueError(
                f"{name}={str(value)!r} has no time zone, so it is not clear which instant it is; {mend}"
            )
        return found
    if isinstance(found, dt.date):
        return found
    raise TypeError(f"{name}: expected a date, text or a time with a time zone, found {type(value).__name__}")
