"""Throughput, error rate and backlog over time."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from safetykit_analytics.formatting import plural
from safetykit_analytics.plots.axes import GREY, count_axis, percent_axis
from safetykit_analytics.plots.lines import (
    DOUBTFUL,
    INTERVAL,
    Quantity,
    decisions,
    draw_over_time,
    flags,
    mark_partial,
    set_scene,
    track,
    values,
    without_giant,
)
from safetykit_analytics.plots.panel import Entry, Plot, draw_alone
from safetykit_analytics.plots.rows import rows_height, write_rows
from safetykit_analytics.plots.series import keys_of, names_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.panel import Panel
    from safetykit_analytics.plots.series import Names

_THROUGHPUT_COLUMNS = (
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
        A lighter band runs from the certain to the possible throughput of a bucket, given when the batches
        were polled. Doubtful buckets are hollow and dotted (in a stack: dotted), missing ones are
        gaps. A version that another one took over from ends with its last work. Where buckets are too many
        to be told apart, several make one point (the axis says so) and the band is their range. "other" is
        the sum of all beyond ten; where it is more than four times as high as each, it is named, not drawn.

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


def _throughput_track(rows: pd.DataFrame) -> Track:
    """Return throughput, and the bounds on decisions as bounds on decisions per hour."""
    processed, throughput = values(rows, "processed"), values(rows, "throughput_per_hour")
    hours = (rows["bucket_end"] - rows["bucket_start"]).dt.total_seconds().to_numpy(dtype="float64") / 3600
    # The hours gone by of a bucket that is not over follow from its work and its throughput.
    unfinished = flags(rows, "partial")
    gone: Any = np.where(unfinished, np.nan, hours)
    np.divide(processed, throughput, out=gone, where=unfinished & (throughput != 0))
    low, high = values(rows, "processed_low") / gone, values(rows, "processed_high") / gone
    return track(rows, throughput, low, high, weight=np.where(np.isfinite(gone), gone, 0.0))


_THROUGHPUT = Quantity(
    title="Throughput",
    unit="processed decisions per hour",
    volume="processed",
    sums=_SUMS,
    track=_throughput_track,
    axis=count_axis,
    about=decisions,
    band="certain to possible,\ngiven when it was polled",
)


def _draw_stack(rates: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw areas whose heights add up; a bucket without any row is a gap."""
    scene = set_scene(rates, ax, names, _THROUGHPUT)
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


THROUGHPUT = Plot("rates()", _THROUGHPUT_COLUMNS, partial(draw_over_time, quantity=_THROUGHPUT))
STACKED = Plot("rates()", _THROUGHPUT_COLUMNS, _draw_stack)


_ERROR_RATE_COLUMNS = (
    "bucket_start", "bucket_end", "error", "processed", "error_rate", "error_rate_low", "error_rate_high",
    "n_batches", "coverage", "smeared_share", "partial",
)  # fmt: skip


def plot_error_rate(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of processed decisions that ended in an error over time, with its interval as a band.

    Parameters
    ----------
    rates : DataFrame
        What ``rates`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        The y axis begins at zero, in percent. Buckets in which nothing was processed are gaps. "other" has
        no band. An interval that reaches beyond 1.8 times the highest rate is cut, and marked, at the top;
        where all rates are zero, the axis shows how high they may be. Where buckets are too many to be told
        apart, several make one point without a band (the axis says so).

    Raises
    ------
    UnknownName
        A column of ``rates`` is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_error_rate(ska.rates(store, freq="1D"))
    >>> axes.figure.savefig("error-rate.png")
    """
    return draw_alone(ERROR_RATE, rates, ax)


_ERROR_RATE = Quantity(
    title="Error rate",
    unit="errors / processed decisions",
    volume="processed",
    sums=("error", "processed", "n_batches"),
    track=lambda rows: track(
        rows,
        *(values(rows, name) for name in ("error_rate", "error_rate_low", "error_rate_high")),
        weight=values(rows, "processed"),
    ),
    axis=percent_axis,
    about=decisions,
    band=INTERVAL,
    least=0.01,
)
ERROR_RATE = Plot("rates()", _ERROR_RATE_COLUMNS, partial(draw_over_time, quantity=_ERROR_RATE))


def draw_over_each_other(rates: pd.DataFrame, upper: Axes, lower: Axes) -> None:
    """Draw throughput above the error rate, with one legend and one label of the time axis."""
    draw_alone(THROUGHPUT, rates, upper, legend=False)
    draw_alone(ERROR_RATE, rates, lower)
    upper.set_xlabel("")
    upper.set_ylabel("decisions per hour")
    lower.set_ylabel("error rate")


_BACKLOG_COLUMNS = ("bucket_start", "bucket_end", "pending", "n_open", "partial")
# More lines than this cross too often to be followed.
_MOST_LINES = 3


def plot_backlog(backlog: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw pending decisions of open batches over time, by policy, version or both.

    Parameters
    ----------
    backlog : DataFrame
        What ``backlog`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        Each value stands at its bucket's end, which is when it holds; the last one, while its bucket is
        not over, holds now. More than three groups have a lane each, with one scale for all of them.

    Raises
    ------
    UnknownName
        A column of ``backlog`` is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_backlog(ska.backlog(store, by="policy_id"))
    >>> axes.figure.savefig("backlog.png")
    """
    return draw_alone(_LANES if _n_groups(backlog) > _MOST_LINES else BACKLOG, backlog, ax)


def _backlog_at_end(rows: pd.DataFrame, bucket: str) -> str:
    """Return where a line ends."""
    if not bucket:
        return "decisions that wait in open batches"
    last = rows.iloc[-1]
    waiting = 0 if np.isnan(float(last["n_open"])) else last["n_open"]
    batches = plural(waiting, "open batch")
    return f"at the end {float(last['pending']):,.0f} pending,\n{batches}"


_BACKLOG = Quantity(
    title="Backlog",
    unit="pending decisions",
    volume="pending",
    sums=("pending", "n_open"),
    track=lambda rows: track(rows, values(rows, "pending"), at_end=True),
    axis=count_axis,
    about=_backlog_at_end,
    pools=False,
)


def _draw_lanes(backlog: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw one area per group, above each other and on one scale."""
    scene = set_scene(backlog, ax, names, _BACKLOG)
    if not scene.tracks:
        return scene.panel
    scene = without_giant(scene)
    highest = max(float(np.nanmax(line.value)) for line in scene.tracks)
    write_rows(
        ax, [one.label for one in scene.series], [_backlog_at_end(one.rows, "lane") for one in scene.series]
    )
    for place, (one, line) in enumerate(zip(scene.series, scene.tracks, strict=True)):
        floor = place + 0.4
        ax.fill_between(
            line.x, floor, floor - 0.8 * line.value / (highest or 1.0), color=one.style.color, linewidth=0
        )
        ax.axhline(floor, color="0.8", linewidth=0.6, zorder=1)
    ax.set_ylabel("")
    mark_partial(ax, scene)
    scene.panel.marks = []
    scene.panel.detail += f"; the highest lane reaches {highest:,.0f}"
    scene.panel.words_right = True
    return scene.panel


def _n_groups(backlog: pd.DataFrame) -> int:
    known = isinstance(backlog, pd.DataFrame)
    return len(set(keys_of(backlog, names_in(backlog)))) if known else 0


_LANES = Plot("backlog()", _BACKLOG_COLUMNS, _draw_lanes, height=lambda table: rows_height(_n_groups(table)))
BACKLOG = Plot("backlog()", _BACKLOG_COLUMNS, partial(draw_over_time, quantity=_BACKLOG))
