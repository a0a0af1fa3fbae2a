"""What throughput, error rate and backlog have in common: one quantity over time, one line per series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safetykit_analytics.plots.axes import GREY, LIGHT, numbers, plain, room, time_axis
from safetykit_analytics.plots.legend import Entry
from safetykit_analytics.plots.lines import (
    draw_band,
    draw_line,
    line_handle,
    pool,
    pooled_hours,
    until_superseded,
    values,
    with_gaps,
)
from safetykit_analytics.plots.panel import Band, Mark, Panel
from safetykit_analytics.plots.series import VERSION, split
from safetykit_analytics.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.series import Key, Names, Series

# How far above its line a band may push the top of the picture.
_REACH = 1.8
_MOST_MARKS = 12
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
    """Draw lines, bands and marks; return what title and legend are to hold."""
    scene = set_scene(table, ax, names, quantity)
    panel = scene.panel
    # Where buckets are pooled, the band is the spread of what was pooled: lighter, as it is no interval. The
    # rates of single hours with a handful of decisions range from 0 to 100 %, which tells nothing.
    is_interval = quantity.band == INTERVAL
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
    # A backlog ends on its zero, so that it is seen to be done.
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
