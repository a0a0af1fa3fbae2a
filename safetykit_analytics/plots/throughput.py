"""Throughput over time: how many decisions per hour each version gets through, as lines or as a stack."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from safetykit_analytics.plots.axes import GREY, count_axis
from safetykit_analytics.plots.legend import Entry
from safetykit_analytics.plots.lines import flags, track, values
from safetykit_analytics.plots.over_time import (
    DOUBTFUL,
    Quantity,
    decisions,
    draw_over_time,
    mark_partial,
    set_scene,
)
from safetykit_analytics.plots.panel import Plot, draw_alone

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.panel import Panel
    from safetykit_analytics.plots.series import Names

_COLUMNS = (
    "bucket_start", "bucket_end", "processed", "throughput_per_hour", "n_batches", "processed_low",
    "processed_high", "coverage", "smeared_share", "partial",
)  # fmt: skip
_DOTS = "..."
_SUMS = ("processed", "throughput_per_hour", "n_batches", "processed_low", "processed_high")


def plot_throughput(rates: pd.DataFrame, *, ax: Axes | None = None, stacked: bool = False) -> Axes:
    """Draw processed decisions per hour over time, one line per policy, version or both.

    Parameters
    ----------
    rates : DataFrame
        What ``rates`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.
    stacked : bool
        Areas on top of each other, whose upper edge is the sum, instead of lines. A stack has no bands.

    Returns
    -------
    matplotlib Axes
        A lighter band runs from what was certainly processed in a bucket to what was possibly, given when the
        batches were polled. Doubtful buckets are hollow and dotted (in a stack: dotted), missing ones are
        gaps. A version that another one took over from ends with its last work. Where buckets are too many
        to be told apart, several make one point (the axis says so) and the band is their range.

    Raises
    ------
    UnknownName
        A column of ``rates`` is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_throughput(ska.rates(store, freq="1D"))
    >>> axes.figure.savefig("throughput.png")
    """
    return draw_alone(STACKED if stacked else THROUGHPUT, rates, ax)


def _track(rows: pd.DataFrame) -> Track:
    """Return throughput, and the bounds on decisions as bounds on decisions per hour."""
    processed, throughput = values(rows, "processed"), values(rows, "throughput_per_hour")
    hours = (rows["bucket_end"] - rows["bucket_start"]).dt.total_seconds().to_numpy(dtype="float64") / 3600
    # Of a bucket that is not over, the hours gone by are known only by what was done in them.
    unfinished = flags(rows, "partial")
    gone: Any = np.where(unfinished, np.nan, hours)
    np.divide(processed, throughput, out=gone, where=unfinished & (throughput != 0))
    low, high = values(rows, "processed_low") / gone, values(rows, "processed_high") / gone
    return track(rows, throughput, low, high, weight=np.where(np.isfinite(gone), gone, 0.0))


_QUANTITY = Quantity(
    title="Throughput",
    unit="processed decisions per hour",
    volume="processed",
    sums=_SUMS,
    track=_track,
    axis=count_axis,
    about=decisions,
    band="certain to possible,\ngiven when it was polled",
)


def _draw_stack(rates: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw areas whose heights add up; a bucket without any row is a gap."""
    scene = set_scene(rates, ax, names, _QUANTITY)
    if not scene.tracks:
        return scene.panel
    starts = np.unique(np.concatenate([line.start[np.isfinite(line.start)] for line in scene.tracks]))
    ends = np.zeros(len(starts))
    below = np.zeros(len(starts))
    top = np.zeros(len(starts))
    colors = _tints([one.style.color for one in scene.series])
    for one, line, color in zip(scene.series, scene.tracks, colors, strict=True):
        there = np.isfinite(line.start)
        places = np.searchsorted(starts, line.start[there])
        height = np.zeros(len(starts))
        doubtful = np.zeros(len(starts), dtype=bool)
        ends[places] = line.end[there]
        height[places] = np.nan_to_num(line.value[there])
        doubtful[places] = line.doubtful[there]
        _fill(ax, (starts, ends), (below, below + height), color=color, doubtful=doubtful)
        below = below + height
        top = np.maximum(top, below)
        about = decisions(one.rows, scene.bucket)
        entry = Entry(Patch(facecolor=color), one.label, about, is_other=one.is_other)
        scene.panel.entries.insert(0, entry)
    if any(line.doubtful.any() for line in scene.tracks):
        handle = Patch(facecolor=GREY, edgecolor="white", hatch=_DOTS, linewidth=0)
        scene.panel.entries.append(Entry(handle, *DOUBTFUL, is_key=True))
    mark_partial(ax, scene)
    # Over the areas, which would hide it; between them it could be taken for a layer.
    ax.patches[-1].set(zorder=2.5, facecolor="none") if ax.patches else None
    scene.panel.extent = (min(0.0, float(below.min())), float(top.max()))
    return scene.panel


def _tints(colors: list[str]) -> list[Any]:
    """Return a darker colour for each further version of a policy, as areas have no markers."""
    total, seen = Counter(colors), Counter[str]()
    tinted = []
    for color in colors:
        white = 1 - 0.62 ** (total[color] - 1 - seen[color])
        tinted.append(tuple(part + (1 - part) * white for part in to_rgb(color)))
        seen[color] += 1
    return tinted


def _fill(ax: Axes, edges: tuple[Any, Any], heights: tuple[Any, Any], *, color: Any, doubtful: Any) -> None:
    """Draw one layer of the stack, each bucket over its whole length, with dots where it is doubtful."""
    (starts, ends), (low, high) = edges, heights
    x = np.column_stack([starts, ends]).ravel()
    touching = np.append(starts[1:] - ends[:-1] < 1e-9, False)
    for shown, hatch in ((~doubtful, ""), (doubtful, _DOTS)):
        if shown.any():
            kept = np.repeat(shown, 2)
            # Where the next bucket does not touch this one, an empty point in between cuts the area.
            cuts = np.flatnonzero(~touching) * 2 + 2
            ax.fill_between(
                np.insert(x, cuts, np.nan),
                np.insert(np.repeat(low, 2), cuts, np.nan),
                np.insert(np.repeat(high, 2), cuts, np.nan),
                where=np.insert(kept, cuts, False),
                facecolor=color,
                hatch=hatch or None,
                linewidth=0.4,
                edgecolor="white",
                zorder=2,
            )


THROUGHPUT = Plot("rates()", _COLUMNS, partial(draw_over_time, quantity=_QUANTITY))
STACKED = Plot("rates()", _COLUMNS, _draw_stack)
