"""Lines over time: gaps stay gaps, doubt is drawn as doubt, long series are pooled until they can be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from safetykit_analytics.plots.axes import numbers
from safetykit_analytics.plots.series import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Series
    from safetykit_analytics.plots.style import Style

# More points than this in one Axes, and a marker on each would hide the line.
_MARKED_POINTS = 70
_MARKERS_ON_LONG_LINES = 9
# More points than this per inch, and lines turn into a carpet.
_POINTS_PER_INCH = 32
_NICE_HOURS = (1 / 12, 1 / 6, 1 / 4, 1 / 2, 1, 2, 3, 4, 6, 8, 12, 24, 48, 168, 336, 672)


@dataclass(frozen=True)
class Track:
    """One series on the time axis: arrays of one length, in time order.

    Attributes
    ----------
    start, end : ndarray
        Edges of the buckets, as date numbers.
    value, low, high : ndarray
        What to draw; NaN where there is none.
    weight : ndarray
        How much a bucket counts when buckets are pooled.
    doubtful, partial : ndarray of bool
        Hardly observed, or mostly smeared; not over yet.
    at_end : bool
        The value is that of the bucket's end, not of its whole length.
    """

    start: Any
    end: Any
    value: Any
    low: Any
    high: Any
    weight: Any
    doubtful: Any
    partial: Any
    at_end: bool = False

    @property
    def x(self) -> Any:
        """Return where the value of each bucket is drawn."""
        return self.end if self.at_end else (self.start + self.end) / 2


def values(rows: pd.DataFrame, column: str) -> Any:
    """Return a column as float64, NaN where it is missing."""
    return rows[column].to_numpy(dtype="float64", na_value=np.nan)


def flags(rows: pd.DataFrame, column: str) -> Any:
    """Return a column as bool, False where it is missing."""
    return rows[column].to_numpy(dtype=bool, na_value=False)


def until_superseded(series: Sequence[Series], column: str, *, spare: int = 0) -> list[pd.DataFrame]:
    """Return the rows of each series; those of a version that another one took over from end with its work.

    A version without work while no other version of its group has any is a standstill, and stays.
    """
    last = [np.flatnonzero(values(one.rows, column) != 0) for one in series]
    ends = [
        one.rows["bucket_start"].iloc[some[-1]] if len(some) else None
        for one, some in zip(series, last, strict=True)
    ]
    kept = []
    for one, some, end in zip(series, last, ends, strict=True):
        later = any(
            end is not None and after is not None and after > end and other.key[:-1] == one.key[:-1]
            for other, after in zip(series, ends, strict=True)
            if not other.is_other
        )
        superseded = later and not one.is_other and VERSION in one.rows
        kept.append(one.rows.iloc[: some[-1] + 1 + spare] if superseded else one.rows)
    return kept


def track(
    rows: pd.DataFrame,
    value: Any,
    low: Any = None,
    high: Any = None,
    *,
    weight: Any = None,
    at_end: bool = False,
) -> Track:
    """Return one series (rows in time order) on the time axis."""
    none = np.full(len(rows), np.nan)
    doubtful = np.zeros(len(rows), dtype=bool)
    if "coverage" in rows:
        doubtful |= values(rows, "coverage") < 0.5
    if "smeared_share" in rows:
        doubtful |= values(rows, "smeared_share") > 0.5
    return Track(
        start=numbers(rows["bucket_start"]),
        end=numbers(rows["bucket_end"]),
        value=value,
        low=none if low is None else low,
        high=none if high is None else high,
        weight=np.ones(len(rows)) if weight is None else weight,
        doubtful=doubtful,
        partial=flags(rows, "partial"),
        at_end=at_end,
    )


def pooled_hours(tracks: Sequence[Track], *, bucket_hours: float, inches: float) -> float:
    """Return the hours that one point stands for: a bucket's, or more where those would run together."""
    days = max(float(line.end[-1]) for line in tracks) - min(float(line.start[0]) for line in tracks)
    room = max(40.0, inches * _POINTS_PER_INCH)
    if days * 24 / bucket_hours <= 1.5 * room:
        return bucket_hours
    needed = days * 24 / room
    nice = [hours for hours in _NICE_HOURS if hours >= needed and (hours / bucket_hours) % 1 == 0]
    return nice[0] if nice else bucket_hours * math.ceil(needed / bucket_hours)


def pool(line: Track, *, days: float, anchor: float) -> Track:
    """Return a series with the buckets of each span of `days` days from `anchor` on pooled.

    The value is the weighted mean, as one larger bucket would have it; low and high become the lowest and the
    highest of the pooled values.
    """
    block = np.floor((line.start - anchor) / days + 1e-6)
    first = np.flatnonzero(np.diff(block, prepend=-np.inf))
    weight = np.where(np.isfinite(line.value) & (line.weight > 0), line.weight, 0.0)
    total = np.add.reduceat(weight, first)
    mean = np.full(len(first), np.nan)
    weighted = np.add.reduceat(weight * np.where(weight > 0, line.value, 0.0), first)
    np.divide(weighted, total, out=mean, where=total > 0)
    known = np.where(weight > 0, line.value, np.nan)
    start = anchor + block[first] * days
    return Track(
        start=np.maximum(start, line.start[0]),
        end=np.minimum(start + days, line.end[-1]),
        value=mean,
        low=np.fmin.reduceat(known, first),
        high=np.fmax.reduceat(known, first),
        weight=total,
        doubtful=np.add.reduceat(weight * line.doubtful, first) > total / 2,
        partial=np.logical_or.reduceat(line.partial, first),
    )


def with_gaps(line: Track) -> Track:
    """Return a series with a row of NaN wherever buckets do not touch, so that no line crosses the gap."""
    # A microsecond is 1.2e-11 days, a float64 of days since 1970 has 3.6e-12 of them.
    breaks = np.flatnonzero(line.start[1:] - line.end[:-1] > 1e-9) + 1
    gapped = {
        name: np.insert(getattr(line, name), breaks, np.nan)
        for name in ("start", "end", "value", "low", "high", "weight")
    }
    marks = {name: np.insert(getattr(line, name), breaks, False) for name in ("doubtful", "partial")}
    return Track(**gapped, **marks, at_end=line.at_end)


def draw_line(ax: Axes, line: Track, style: Style, *, points: int, label: str) -> None:
    """Draw one series: solid where the data is good, dotted and hollow where it is doubtful or unfinished."""
    x, y = line.x, line.value
    unsure = line.doubtful | line.partial
    beside = unsure.copy()
    beside[1:] |= unsure[:-1]
    beside[:-1] |= unsure[1:]
    width = 1.8 if points <= _MARKED_POINTS else 1.4
    look: dict[str, Any] = {"color": style.color, "zorder": 3}
    ax.plot(x, np.where(beside, y, np.nan), linestyle=":", linewidth=width * 0.9, **look)
    ax.plot(x, np.where(unsure, np.nan, y), linestyle=style.linestyle, linewidth=width, label=label, **look)
    filled, hollow = _marked(y, unsure, points=points)
    look |= {"linestyle": "none", "marker": style.marker, "zorder": 4}
    size = 5.5
    ax.plot(x[filled], y[filled], markersize=size, markeredgewidth=0.0, **look)
    ax.plot(x[hollow], y[hollow], markersize=size, markerfacecolor="white", markeredgewidth=1.1, **look)


def draw_band(ax: Axes, line: Track, style: Style, *, alpha: float) -> None:
    """Draw an area between the bounds of a series."""
    known = np.isfinite(line.low) & np.isfinite(line.high)
    if not known.any():
        return
    look: dict[str, Any] = {"color": style.color, "alpha": alpha, "zorder": 2}
    ax.fill_between(line.x, line.low, line.high, where=known, linewidth=0, **look)
    lonely = alone(known)
    if lonely.any():
        ax.vlines(line.x[lonely], line.low[lonely], line.high[lonely], linewidth=5, **look)


def alone(there: Any) -> Any:
    """Return which of the points that are there have no neighbour: lines and bands do not show them."""
    before, after = np.roll(there, 1), np.roll(there, -1)
    before[:1], after[-1:] = False, False
    return there & ~before & ~after


def line_handle(style: Style) -> Line2D:
    """Return the look of a series in a legend."""
    return Line2D(
        [],
        [],
        color=style.color,
        linestyle=style.linestyle,
        marker=style.marker,
        markersize=5.5,
        linewidth=1.8,
    )


def _marked(y: Any, unsure: Any, *, points: int) -> tuple[Any, Any]:
    """Return what has a marker: all of a short series; few of a long one, and those that stand alone."""
    there = np.isfinite(y)
    if points > _MARKED_POINTS:
        step = max(1, len(y) // _MARKERS_ON_LONG_LINES)
        few = np.zeros(len(y), dtype=bool)
        few[step // 2 :: step] = True
        there = alone(there) | (there & few)
    return there & ~unsure, there & unsure
