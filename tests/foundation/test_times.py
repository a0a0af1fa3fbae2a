import datetime as dt
import re

import pandas as pd
import pytest

from safetykit_analytics.calendar import parse_time


class NoOffset(dt.tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, when):
        return None


NINE = dt.datetime(2026, 11, 2, 9, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-11-02", NINE.date()),
        (" 20261102 ", NINE.date()),
        ("2026-W45-1", NINE.date()),
        (NINE.date(), NINE.date()),
        ("2026-11-02T10:00+01:00", NINE),
        ("2026-11-02 09:00:00Z", NINE),
        (NINE, NINE),
        (pd.Timestamp("2026-11-02T09:00:00.000000001Z"), pd.Timestamp("2026-11-02T09:00:00.000000001Z")),
    ],
)
def test_a_time_is_a_date_or_an_aware_time_and_text_is_either(value, time):
    found = parse_time(value, name="start")
    assert found == time
    assert type(found) is type(time)


OFFSET = "'2026-11-02T09:00:00+01:00'"
NAIVE = "has no time zone, so it is not clear which instant it is; "


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        *(
            (
                text,
                ValueError,
                f"start={text!r} is neither a date such as '2026-11-02' nor a time such as {OFFSET}",
            )
            for text in ("yesterday", "2026-02-30", "2026-11-02T25:00Z")
        ),
        (
            "2026-03-01 08:00",
            ValueError,
            f"start='2026-03-01 08:00' {NAIVE}add its offset, such as '2026-03-01T08:00:00+00:00'",
        ),
        *(
            (
                value,
                ValueError,
                f"start={str(value)!r} {NAIVE}give it one, such as value.replace(tzinfo=datetime.UTC)",
            )
            for value in (
                dt.datetime(2026, 3, 1),
                dt.datetime(2026, 3, 1, tzinfo=NoOffset()),
                pd.Timestamp("2026-03-01"),
            )
        ),
        (pd.NaT, ValueError, "start is NaT; expected a time"),
        (1.5, TypeError, "start: expected a date, text or a time with a time zone, found float"),
        (None, TypeError, "start: expected a date, text or a time with a time zone, found NoneType"),
    ],
)
def test_what_is_no_time_says_what_it_is_and_what_it_should_be(value, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        parse_time(value, name="start")
