"""Times as people pass them, and calendar buckets in any zone.

Knows no observations. Everything inside is whole microseconds since 1970 UTC. A bucket is a stretch of real
time: a day has 23, 25 or 24.5 hours where the clock is changed.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np

from safetykit_analytics.errors import UnknownName

if TYPE_CHECKING:
    from safetykit_analytics.arrays import Ints

#: Edges beyond all real times: what happens outside the buckets of interest falls between them.
BEYOND = 2**61
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
# Offsets are looked up within these: the standard library's calendar ends at the years 1 and 9999.
_FIRST_US, _LAST_US = -62_072_438_400_000_000, 253_370_678_400_000_000

_UNITS_US = {
    "min": 60_000_000, "t": 60_000_000, "minute": 60_000_000, "minutes": 60_000_000,
    "h": HOUR_US, "hour": HOUR_US, "hours": HOUR_US,
    "d": DAY_US, "day": DAY_US, "days": DAY_US,
    "w": 7 * DAY_US, "w-mon": 7 * DAY_US,
    "ms": 0, "me": 0, "m": 0,
}  # fmt: skip
# Twenty years of minutes.
_MOST_BUCKETS = 10_000_000
_FREQ_HELP = (
    "expected a length that divides a day, such as '1min', '15min' or '1h', or '1D', 'W' (ISO weeks, from "
    "Monday) or 'MS' (months)"
)


@dataclass(frozen=True)
class Frequency:
    """A kind of bucket: ``clock`` (a part of a day), ``day``, ``week`` or ``month`` (nominally 30 days)."""

    kind: str
    length_us: int


def parse_freq(freq: object) -> Frequency:
    """Read a frequency such as ``"15min"``, ``"1h"``, ``"D"``, ``"W"`` or ``"MS"``."""
    match = re.fullmatch(r"\s*(\d{0,6})\s*([A-Za-z][A-Za-z-]*)\s*", freq) if isinstance(freq, str) else None
    if match is None:
        raise ValueError(f"invalid frequency {freq!r}; {_FREQ_HELP}")
    number, unit = int(match[1] or 1), match[2].lower()
    if unit not in _UNITS_US or number == 0:
        raise ValueError(f"invalid frequency {freq!r}; {_FREQ_HELP}")
    if unit in {"ms", "me", "m"}:
        kind, length = "month", 30 * DAY_US
    elif unit in {"w", "w-mon"}:
        kind, length = "week", 7 * DAY_US
    else:
        length = number * _UNITS_US[unit]
        kind = "day" if length == DAY_US else "clock"
    if (number != 1 and kind in {"week", "month"}) or (kind == "clock" and DAY_US % length):
        raise ValueError(f"freq {freq!r} does not divide a day; {_FREQ_HELP}")
    return Frequency(kind, length)


def zone(tz: object) -> ZoneInfo:
    """Look a time zone up by its IANA name; raise UnknownName."""
    if isinstance(tz, ZoneInfo) and tz.key:
        return tz
    if tz is dt.UTC:
        return ZoneInfo("UTC")
    if not isinstance(tz, str):
        raise TypeError(f"tz={tz!r}: expected the name of a time zone, such as 'Europe/Berlin'")
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownName("time zone", tz, sorted(available_timezones())) from error


def to_us(instant: dt.datetime) -> int:
    """Microseconds since 1970 of an aware time; finer digits are cut off."""
    return (instant - _EPOCH) // _MICROSECOND


def from_us(instant: int) -> dt.datetime:
    """Convert microseconds since 1970 into an aware time in UTC."""
    return _EPOCH + instant * _MICROSECOND


def parse_time(value: object, *, name: str) -> dt.datetime | dt.date:
    """Read an ISO 8601 date, or a time with its offset, from text, or check one that is an object already.

    A pandas.Timestamp stays one, with its nanoseconds. Raises ValueError for NaT and a time without an
    offset, TypeError for another type.
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
            raise ValueError(f"{name} is NaT; expected a time")
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


def parse_instant(value: object, name: str, tz: ZoneInfo) -> int:
    """Read an instant, as microseconds since 1970, UTC: a date is its midnight in `tz`."""
    at = parse_time(value, name=name)
    if isinstance(at, dt.datetime):
        return to_us(at)
    midnight = (at - dt.date(1970, 1, 1)).days * DAY_US
    return int(_first_at(np.array([midnight], dtype=np.int64), tz)[0])


def bucket_edges(freq: Frequency, tz: ZoneInfo, first_us: int, last_us: int) -> Ints:
    """Return the edges of all buckets from the one that holds `first_us` to the one that holds `last_us`.

    Below a day, edges are where the local clock shows a multiple of the length after midnight, and every
    change of the UTC offset. Days begin when the local clock first shows that day, which is after 0:00 where
    the zone skips midnight; weeks on Mondays; months on the first. All are microseconds since 1970, UTC,
    strictly ascending. Raises ValueError for more than ten million buckets.
    """
    if (last_us - first_us) // freq.length_us > _MOST_BUCKETS:
        raise ValueError(
            f"{(last_us - first_us) // freq.length_us:,} buckets from {from_us(first_us):%Y-%m-%d} to "
            f"{from_us(last_us):%Y-%m-%d}; expected at most {_MOST_BUCKETS:,}: use a coarser freq"
        )
    if freq.kind == "clock":
        edges = _clock_edges(freq.length_us, tz, first_us, last_us)
    else:
        edges = _first_at(_local_midnights(freq, tz, first_us, last_us), tz)
    # Dates that a zone skipped altogether begin and end at one instant.
    edges = np.unique(edges)
    start = int(np.searchsorted(edges, first_us, side="right")) - 1
    stop = int(np.searchsorted(edges, last_us, side="right")) + 1
    return edges[start:stop]


def overlapping(edges: Ints, start: int | None, end: int | None) -> Ints:
    """Return the edges of the buckets that overlap [start, end), uncut; none at all if no bucket does."""
    first = 0 if start is None else max(int(np.searchsorted(edges, start, side="right")) - 1, 0)
    last = (
        len(edges) - 1 if end is None else min(int(np.searchsorted(edges, end, side="left")), len(edges) - 1)
    )
    return edges[first : last + 1] if first < last else edges[:0]


def with_guards(edges: Ints) -> Ints:
    """Add a bucket before the first edge and one after the last, for what happens outside."""
    return np.concatenate([[-BEYOND], edges, [BEYOND]])


def _clock_edges(length: int, tz: ZoneInfo, first_us: int, last_us: int) -> Ints:
    starts, offsets = _offsets(tz, first_us - DAY_US, last_us + DAY_US)
    stops = np.append(starts[1:], last_us + DAY_US)
    pieces = [starts[1:]]
    for start, stop, offset in zip(
        np.maximum(starts, first_us - DAY_US).tolist(), stops.tolist(), offsets.tolist(), strict=True
    ):
        lowest = -(-(start + offset) // length) * length - offset
        pieces.append(np.arange(lowest, stop, length, dtype=np.int64))
    return np.concatenate(pieces)


def _local_midnights(freq: Frequency, tz: ZoneInfo, first_us: int, last_us: int) -> Ints:
    """Local clock readings at which buckets begin, with room on both sides."""
    _, offsets = _offsets(tz, first_us, last_us)
    first_day = (first_us + int(offsets[0])) // DAY_US
    last_day = (last_us + int(offsets[-1])) // DAY_US
    if freq.kind == "day":
        return np.arange(first_day - 2, last_day + 4, dtype=np.int64) * DAY_US
    if freq.kind == "week":
        # 1970-01-01 was a Thursday: day 4 is a Monday.
        monday = (first_day - 4) // 7 * 7 + 4
        return np.arange(monday - 7, last_day + 15, 7, dtype=np.int64) * DAY_US
    months = np.arange(
        np.datetime64(first_day, "D").astype("datetime64[M]") - 1,
        np.datetime64(last_day, "D").astype("datetime64[M]") + 3,
    )
    midnights: Ints = months.astype("datetime64[us]").astype(np.int64)
    return midnights


def _first_at(local: Ints, tz: ZoneInfo) -> Ints:
    """Return the first instant at which the local clock shows each reading, or, if skipped, a later one."""
    starts, offsets = _offsets(tz, int(local[0]) - 2 * DAY_US, int(local[-1]) + 2 * DAY_US)
    reached = np.append(starts[1:] + offsets[:-1], np.iinfo(np.int64).max)
    piece = np.searchsorted(np.maximum.accumulate(reached), local, side="right")
    first: Ints = np.maximum(starts[piece], local - offsets[piece])
    return first


def _offsets(tz: ZoneInfo, first_us: int, last_us: int) -> tuple[Ints, Ints]:
    """Return the pieces of constant UTC offset of a time span: starts, and offsets in microseconds."""
    first_us, last_us = (min(max(instant, _FIRST_US), _LAST_US) for instant in (first_us, last_us))
    starts, offsets = [-BEYOND], [_offset(tz, first_us - DAY_US)]
    for year in range(from_us(first_us - DAY_US).year, from_us(last_us).year + 1):
        for start, offset in _changes(tz, year):
            if start > starts[-1] and offset != offsets[-1]:
                starts.append(start)
                offsets.append(offset)
    return np.array(starts, dtype=np.int64), np.array(offsets, dtype=np.int64)


@lru_cache(maxsize=4096)
def _changes(tz: ZoneInfo, year: int) -> tuple[tuple[int, int], ...]:
    """Find the changes of offset within a UTC year, to the microsecond.

    `zoneinfo` does not list them. No zone has ever changed twice within six hours, so that sampling and
    bisection find all.
    """
    step = 6 * HOUR_US
    begin = to_us(dt.datetime(year, 1, 1, tzinfo=dt.UTC))
    end = to_us(dt.datetime(year + 1, 1, 1, tzinfo=dt.UTC))
    changes = []
    before = _offset(tz, begin - 1)
    for sample in range(begin, end + step, step):
        instant = min(sample, end - 1)
        after = _offset(tz, instant)
        if after != before:
            low, high = max(instant - step, begin - 1), instant
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(tz, middle) == before else (low, middle)
            changes.append((high, after))
            before = after
    return tuple(changes)


def _offset(tz: ZoneInfo, instant: int) -> int:
    offset = from_us(instant).astimezone(tz).utcoffset()
    assert offset is not None
    return offset // _MICROSECOND
