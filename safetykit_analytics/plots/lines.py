"""Lines over time: gaps stay gaps, bands around them, doubt drawn as doubt, roll-outs marked.

Place in the flow: between the series of a table and the plots of one quantity each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safetykit_analytics.plots.axes import GREY, LIGHT, Entry, numbers
from safetykit_analytics.plots.series import shown_name
from safetykit_analytics.plots.text import literal, put

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Series
    from safetykit_analytics.plots.style import Style

# More buckets than this in one Axes and a marker on each would hide the line.
_MARKED_BUCKETS = 70
_MARKERS_ON_LONG_LINES = 9
_MOST_ROLLOUTS = 12
_BUCKET_NAMES = (("hour", 1, 1), ("day", 23, 25), ("week", 167, 169), ("month", 671, 745))


@dataclass(frozen=True)
class Track:
    """A series on the time axis: date numbers and values, with a NaN row wherever buckets do not touch."""

    start: Any
    end: Any
    value: Any
    low: Any
    high: Any
    doubtful: Any
    partial: Any

    @property
    def middle(self) -> Any:
        """Where a bucket's value is drawn."""
        return (self.start + self.end) / 2


def values(rows: pd.DataFrame, column: str) -> Any:
    """Return a column as float64, NaN where it is missing."""
    return rows[column].to_numpy(dtype="float64", na_value=np.nan)


def track(rows: pd.DataFrame, value: Any, low: Any, high: Any) -> Track:
    """Put one series' rows (in time order) on the time axis."""
    start, end = numbers(rows["bucket_start"]), numbers(rows["bucket_end"])
    doubtful = (values(rows, "coverage") < 0.5) | (values(rows, "smeared_share") > 0.5)
    partial = rows["partial"].to_numpy(dtype=bool, na_value=False)
    # A microsecond is 1.2e-11 days, a float64 of days since 1970 has 3.6e-12 of them.
    breaks = np.flatnonzero(start[1:] - end[:-1] > 1e-9) + 1
    return Track(
        *(np.insert(array, breaks, np.nan) for array in (start, end, value, low, high)),
        *(np.insert(array, breaks, False) for array in (doubtful, partial)),
    )


def draw_line(ax: Axes, line: Track, style: Style, *, buckets: int) -> None:
    """Draw one series: solid where the data is good, dotted and hollow where it is doubtful or unfinished."""
    x, y = line.middle, line.value
    unsure = line.doubtful | line.partial
    sure = np.where(unsure, np.nan, y)
    beside = unsure.copy()
    beside[1:] |= unsure[:-1]
    beside[:-1] |= unsure[1:]
    loose = np.where(beside, y, np.nan)
    width = 1.8 if buckets <= _MARKED_BUCKETS else 1.1
    ax.plot(x, loose, color=style.color, linestyle=":", linewidth=width * 0.9, alpha=0.8, zorder=3)
    ax.plot(x, sure, color=style.color, linestyle=style.linestyle, linewidth=width, zorder=3)
    filled, hollow = _marked(y, unsure, buckets=buckets)
    look: dict[str, Any] = {"linestyle": "none", "marker": style.marker, "color": style.color, "zorder": 4}
    size = 5.0 if buckets <= _MARKED_BUCKETS else 4.0
    ax.plot(x[filled], y[filled], markersize=size, markeredgewidth=0.0, **look)
    ax.plot(x[hollow], y[hollow], markersize=size, markerfacecolor="white", markeredgewidth=1.1, **look)


def _marked(y: Any, unsure: Any, *, buckets: int) -> tuple[Any, Any]:
    """Choose the points that get a marker: all of a short series, few of a long one, each lonely one."""
    there = np.isfinite(y)
    if buckets > _MARKED_BUCKETS:
        before, after = np.roll(there, 1), np.roll(there, -1)
        before[:1], after[-1:] = False, False
        alone = there & ~before & ~after
        step = max(1, len(y) // _MARKERS_ON_LONG_LINES)
        few = np.zeros(len(y), dtype=bool)
        few[step // 2 :: step] = True
        there = alone | (there & few)
    return there & ~unsure, there & unsure


def draw_band(ax: Axes, line: Track, style: Style, *, alpha: float) -> None:
    """Fill between the bounds of a series."""
    x = line.middle
    # One bucket alone has no width between middles, so it gets its own.
    known = np.isfinite(line.low) & np.isfinite(line.high)
    ax.fill_between(
        x, line.low, line.high, where=known, color=style.color, alpha=alpha, linewidth=0, zorder=2
    )
    before, after = np.roll(known, 1), np.roll(known, -1)
    before[:1], after[-1:] = False, False
    alone = known & ~before & ~after
    ax.vlines(
        x[alone], line.low[alone], line.high[alone], color=style.color, alpha=alpha, linewidth=5, zorder=2
    )


def mark_partial(ax: Axes, tracks: Sequence[Track]) -> Entry | None:
    """Shade the buckets that are not over yet."""
    starts = [line.start[line.partial].min() for line in tracks if line.partial.any()]
    if not starts:
        return None
    ends = [line.end[line.partial].max() for line in tracks if line.partial.any()]
    ax.axvspan(
        min(starts), max(ends), facecolor=LIGHT, edgecolor=GREY, hatch="///", linewidth=0, alpha=0.6, zorder=0
    )
    return Entry(Patch(facecolor=LIGHT, edgecolor=GREY, hatch="///", linewidth=0), "not over yet")


def doubt_entry(tracks: Sequence[Track]) -> list[Entry]:
    """Explain dotted lines and hollow markers if there are any."""
    if not any((line.doubtful & np.isfinite(line.value)).any() for line in tracks):
        return []
    handle = Line2D([], [], color=GREY, linestyle=":", marker="o", markerfacecolor="white", markersize=5)
    return [Entry(handle, "hardly observed: under half", "of the time seen, or smeared")]


def band_entry(tracks: Sequence[Track], label: str, *, alpha: float) -> list[Entry]:
    """Explain the bands if there are any."""
    if not any((np.isfinite(line.low) & (line.high > line.low)).any() for line in tracks):
        return []
    return [Entry(Patch(facecolor=GREY, alpha=alpha * 1.6, linewidth=0), label)]


def line_handle(style: Style) -> Line2D:
    """Return what a series looks like in a legend."""
    return Line2D(
        [], [], color=style.color, linestyle=style.linestyle, marker=style.marker, markersize=5, linewidth=1.8
    )


def bucket_name(rows: pd.DataFrame) -> str:
    """Name the length of the buckets: "hour", "day", "6 h", "15 min"."""
    hours = float((rows["bucket_end"] - rows["bucket_start"]).median().total_seconds()) / 3600
    for name, least, most in _BUCKET_NAMES:
        if least <= hours <= most:
            return name
    return f"{hours:g} h" if hours >= 1 else f"{hours * 60:g} min"


def mark_rollouts(ax: Axes, series: Sequence[Series]) -> int:
    """Draw a labelled line where a version did its first work after another version of the same policy.

    Returns
    -------
    int
        How many rows of labels stand above the Axes.
    """
    first = {
        (one.policy, one.version): (_first_work(one.rows), one)
        for one in series
        if not one.is_other and "policy_version" in one.rows
    }
    earliest: dict[str | None, float] = {}
    for (policy, _), (when, _one) in first.items():
        earliest[policy] = min(when, earliest.get(policy, np.inf))
    rollouts = sorted(
        (
            (when, version, one)
            for (policy, version), (when, one) in first.items()
            if np.isfinite(when) and when > earliest[policy]
        ),
        key=lambda rollout: rollout[0],
    )
    if len(rollouts) > _MOST_ROLLOUTS:
        return 0
    return _labelled_lines(
        ax, [(when, shown_name(version), one.style.color) for when, version, one in rollouts]
    )


def _first_work(rows: pd.DataFrame) -> float:
    worked = rows.loc[values(rows, "processed") != 0, "bucket_start"]
    return float(numbers(worked.iloc[:1])[0]) if len(worked) else np.inf


def _labelled_lines(ax: Axes, marks: Sequence[tuple[float, str, str]]) -> int:
    """Draw vertical lines whose labels, above the Axes, move up a row where they would touch."""
    if not marks:
        return 0
    left, right = ax.get_xlim()
    figure = ax.get_figure()
    width = (
        ax.get_position().width
        * (figure.bbox.width if figure else 600.0)
        * 72.0
        / (figure.dpi if figure else 72)
    )
    ends: list[float] = []
    for when, name, color in marks:
        shown = literal(name, longest=16)
        at = (when - left) / (right - left) * width
        half = 2.6 * len(shown) + 3
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row:] = [at + half, *ends[row + 1 :]]
        ax.axvline(when, color=color, linewidth=1.0, linestyle=(0, (2, 2)), alpha=0.9, zorder=1)
        text = ax.annotate(
            "",
            (when, 1),
            (0, 2 + 11 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=color,
            size="small",
        )
        put(text, shown)
    return len(ends)
