"""Lines over time: gaps stay gaps, doubt is drawn as doubt, long series are pooled until they can be read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safetykit_analytics.formatting import plural
from safetykit_analytics.plots.axes import GREY, LIGHT, numbers, plain, room, time_axis
from safetykit_analytics.plots.panel import Band, Entry, Mark, Panel
from safetykit_analytics.plots.series import VERSION, split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Key, Names, Series, Style

# More points than this in one Axes, and a marker on each would hide the line.
_MARKED_POINTS = 70
_MARKERS_ON_LONG_LINES = 9
# More points than this per inch, and lines turn into a carpet.
_POINTS_PER_INCH = 32
_NICE_HOURS = (1 / 12, 1 / 6, 1 / 4, 1 / 2, 1, 2, 3, 4, 6, 8, 12, 24, 48, 168, 336, 672)


@dataclass(frozen=True)
class Track:
    """One series on the time axis: arrays of one length, in time order; NaN where missing.

    `start` and `end` of the buckets are date numbers, `weight` counts when buckets are pooled, `doubtful` is
    hardly observed or mostly smeared, `partial` not over yet; with `at_end` the value is that of the end.
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
    """Return a series with a row of NaN between buckets that do not touch: no line crosses the gap."""
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
    """Return which points have a marker: all of a short series; few of a long one, and lonely ones."""
    there = np.isfinite(y)
    if points > _MARKED_POINTS:
        step = max(1, len(y) // _MARKERS_ON_LONG_LINES)
        few = np.zeros(len(y), dtype=bool)
        few[step // 2 :: step] = True
        there = alone(there) | (there & few)
    return there & ~unsure, there & unsure


# How far above its line a band may push the top of the picture.
_REACH = 1.8
_MOST_MARKS = 12
# A sum of the rest so many times as high as each of the largest would flatten them.
_LARGEST_OTHER = 4.0
_CALENDAR = (("hour", 1, 1), ("day", 23, 25), ("week", 167, 169), ("month", 671, 745))


INTERVAL = "confidence interval"
DOUBTFUL = ("hardly observed, or spread", "from longer polling gaps")


@dataclass(frozen=True)
class Quantity:
    """How to draw one column of a table over time.

    `volume` is the column by which the largest groups are found, `sums` what "other" adds up, `least` what
    the axis shows where all is zero, `band` the meaning of low and high.
    """

    title: str
    unit: str
    volume: str
    sums: tuple[str, ...]
    track: Callable[[pd.DataFrame], Track]
    axis: Callable[[Axes], None]
    about: Callable[[pd.DataFrame, str], str]
    least: float = 1.0
    band: str = ""
    pools: bool = True


@dataclass(frozen=True)
class Scene:
    """The series of one Axes, ready to draw."""

    panel: Panel
    series: list[Series]
    tracks: list[Track]
    points: int
    pooled: bool
    bucket: str


def draw_over_time(table: pd.DataFrame, ax: Axes, names: Names, quantity: Quantity) -> Panel:
    """Draw lines, bands and marks; return the words around them."""
    scene = set_scene(table, ax, names, quantity)
    panel = scene.panel
    is_interval = quantity.band == INTERVAL
    if not is_interval:
        scene = without_giant(scene)
    # Where buckets are pooled, the band is the spread of what was pooled: lighter, as it is no interval. The
    # rates of single hours with a handful of decisions range from 0 to 100 %, which tells nothing.
    alpha = 0.13 if scene.pooled or not is_interval else 0.2
    banded = not (is_interval and scene.pooled)
    for one, line in zip(scene.series, scene.tracks, strict=True):
        if banded:
            draw_band(ax, line, one.style, alpha=alpha)
            if is_interval:
                panel.bands.append(Band(line.x, line.high, one.style.color))
        draw_line(ax, line, one.style, points=scene.points, label=one.label)
        about = quantity.about(one.rows, scene.bucket)
        panel.entries.append(Entry(line_handle(one.style), one.label, about, is_other=one.is_other))
    if banded and any((line.high > line.low).any() for line in scene.tracks):
        said = f"lowest to highest {scene.bucket}" if scene.pooled else quantity.band
        area = Patch(facecolor=GREY, alpha=1.6 * alpha, linewidth=0)
        panel.entries.append(Entry(area, said, is_key=True))
    if any((line.doubtful & np.isfinite(line.value)).any() for line in scene.tracks):
        handle = Line2D([], [], color=GREY, linestyle=":", marker="o", markerfacecolor="white", markersize=5)
        panel.entries.append(Entry(handle, *DOUBTFUL, is_key=True))
    mark_partial(ax, scene)
    if scene.tracks:
        panel.extent = _extent(scene.tracks, quantity.least)
    return panel


def set_scene(table: pd.DataFrame, ax: Axes, names: Names, quantity: Quantity) -> Scene:
    """Label the axes and return the series on them; no series at all where there is nothing to draw."""
    plain(ax)
    zone = table["bucket_start"].dtype.tz
    ax.set_ylabel(quantity.unit)
    ax.set_xlabel(f"time ({zone})")
    series, shared = split(table, names, volume=quantity.volume, sums=quantity.sums)
    panel = Panel(title=f"{quantity.title}: {shared}" if shared else quantity.title)
    # A backlog ends with a zero, which shows that it is done.
    ended = until_superseded(series, quantity.volume, spare=int(quantity.volume == "pending"))
    tracks = [quantity.track(rows) for rows in ended]
    if not any(np.isfinite(line.value).any() for line in tracks):
        return Scene(panel, [], [], 0, pooled=False, bucket="")
    hours = float((table["bucket_end"] - table["bucket_start"]).median().total_seconds()) / 3600
    shown = hours
    if quantity.pools:
        shown = pooled_hours(tracks, bucket_hours=hours, inches=0.8 * room(ax)[0])
    if shown > hours:
        anchor = float(numbers(table["bucket_start"].nsmallest(1).dt.normalize())[0])
        tracks = [pool(line, days=shown / 24, anchor=anchor) for line in tracks]
    tracks = [with_gaps(line) for line in tracks]
    ax.set_xlabel(f"time ({zone}), one point per {bucket_name(shown)}")
    time_axis(ax, zone)
    quantity.axis(ax)
    panel.detail = quantity.about(table, "")
    panel.marks = rollouts(series, names)
    panel.span = (
        min(float(np.nanmin(line.start)) for line in tracks),
        max(float(np.nanmax(line.end)) for line in tracks),
    )
    points = max(len(line.start) for line in tracks)
    return Scene(panel, series, tracks, points, pooled=shown > hours, bucket=bucket_name(hours))


def without_giant(scene: Scene) -> Scene:
    """Return a scene without a sum of many that would flatten each one; the legend names it."""
    shown = [not one.is_other for one in scene.series]
    highest = [float(np.nanmax(line.value, initial=0.0)) for line in scene.tracks]
    if all(shown) or highest[-1] <= _LARGEST_OTHER * max(highest[:-1]):
        return scene
    rest = scene.series[-1]
    empty = Line2D([], [], linestyle="none")
    scene.panel.entries.append(
        Entry(empty, f"not drawn: {rest.label}", f"up to {highest[-1]:,.0f}", is_key=True)
    )
    return replace(scene, series=scene.series[:-1], tracks=scene.tracks[:-1])


def mark_partial(ax: Axes, scene: Scene) -> None:
    """Draw a shade over the buckets that are not over yet."""
    unfinished = [line for line in scene.tracks if line.partial.any()]
    if not unfinished:
        return
    start = min(float(line.start[line.partial].min()) for line in unfinished)
    end = max(float(line.end[line.partial].max()) for line in unfinished)
    ax.axvspan(start, end, facecolor=LIGHT, edgecolor="#BBBBBB", hatch="////", linewidth=0, zorder=0)
    handle = Patch(facecolor=LIGHT, edgecolor="#BBBBBB", hatch="////", linewidth=0)
    scene.panel.entries.append(Entry(handle, "not over yet", is_key=True))


def rollouts(series: Sequence[Series], names: Names) -> list[Mark]:
    """Return when each version did its first work after another version of its group; none if too many."""
    if VERSION not in names:
        return []
    started = [(one, _first_work(one.rows)) for one in series if not one.is_other]
    earliest: dict[Key, float] = {}
    for one, when in started:
        earliest[one.key[:-1]] = min(when, earliest.get(one.key[:-1], np.inf))
    marks = [
        Mark(when, names[VERSION][one.key[-1]], one.style.color)
        for one, when in started
        if earliest[one.key[:-1]] < when < np.inf
    ]
    return sorted(marks, key=lambda mark: mark.when) if len(marks) <= _MOST_MARKS else []


def bucket_name(hours: float) -> str:
    """Return the name of a length of time.

    >>> bucket_name(24.0), bucket_name(6.0), bucket_name(0.25)
    ('day', '6 h', '15 min')
    """
    for name, least, most in _CALENDAR:
        if least <= hours <= most:
            return name
    if hours >= 48 and hours % 24 == 0:
        return f"{hours / 24:g} days"
    return f"{hours:g} h" if hours >= 1 else f"{hours * 60:g} min"


def decisions(rows: pd.DataFrame, bucket: str) -> str:
    """Return how many decisions, and of how many batches at a time, a line rests on."""
    said = plural(float(np.nansum(values(rows, "processed"))), "decision")
    batches = values(rows, "n_batches")
    batches = batches[batches > 0]
    if not bucket or not len(batches):
        return said
    few, most = f"{batches.min():,.0f}", plural(float(batches.max()), "batch")
    between = "" if batches.min() == batches.max() else f"{few}–"
    return f"{said},\n{between}{most} per {bucket}"


def _first_work(rows: pd.DataFrame) -> float:
    column = "processed" if "processed" in rows else "pending"
    worked = rows.loc[values(rows, column) != 0, "bucket_start"]
    return float(numbers(worked.iloc[:1])[0]) if len(worked) else np.inf


def _extent(tracks: Sequence[Track], least: float) -> tuple[float, float]:
    """Return the smallest and largest value to show: all of the lines, and most of the bands.

    One bucket with three decisions has an interval up to 70 %: it must not flatten all others.
    """
    lines = np.concatenate([line.value for line in tracks])
    bands = np.concatenate([array for line in tracks for array in (line.low, line.high)])
    bands = bands[np.isfinite(bands)]
    highest, lowest = float(np.nanmax(lines)), min(0.0, float(np.nanmin(lines)))
    reach = _REACH * max(highest, -lowest)
    if reach == 0:
        # Nothing but zeros: how high it may be is all there is to see.
        return 0.0, float(bands.max(initial=0.0)) or least
    return (
        min(lowest, max(-reach, float(bands.min(initial=0.0)))),
        max(highest, min(reach, float(bands.max(initial=0.0)))),
    )
