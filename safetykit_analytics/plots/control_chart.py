"""Control chart of error rates: which buckets differ from the rest by more than chance and habit explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safetykit_analytics.plots.axes import GREY, percent_axis
from safetykit_analytics.plots.lines import (
    Quantity,
    decisions,
    draw_line,
    flags,
    line_handle,
    mark_partial,
    set_scene,
    track,
    values,
    with_gaps,
)
from safetykit_analytics.plots.panel import Band, Entry, Plot, draw_alone
from safetykit_analytics.plots.series import ALARM

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.panel import Panel
    from safetykit_analytics.plots.series import Names, Series

_COLUMNS = (
    "bucket_start", "bucket_end", "error", "processed", "error_rate", "n_batches", "coverage",
    "smeared_share", "partial", "center", "lower_limit", "upper_limit", "out_of_control",
)  # fmt: skip
# With more series than this, limits and lines lie on top of each other: alarms and center lines stay.
_MOST_WITH_LIMITS = 4


def plot_control_chart(chart: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw error rates with their center line and control limits; points out of control are ringed.

    Parameters
    ----------
    chart : DataFrame
        What ``control_chart`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        One chart per policy, version or both. Beyond four, only center lines and points out of control;
        beyond ten, the smaller ones are left out, and the legend says so (limits do not add up).
        ``plot_grid(plot_control_chart, chart, by=("policy_id", "policy_version"))`` gives each its own axes.

    Raises
    ------
    UnknownName
        A column of ``chart`` is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> chart = ska.control_chart(ska.rates(store, freq="1D"))
    >>> axes = ska.plot_control_chart(chart)
    >>> axes.figure.savefig("control-chart.png")
    """
    return draw_alone(CONTROL_CHART, chart, ax)


def _draw(chart: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    scene = set_scene(chart, ax, names, _QUANTITY)
    panel = scene.panel
    crowded = sum(not one.is_other for one in scene.series) > _MOST_WITH_LIMITS
    highest = 0.0
    for one, line in zip(scene.series, scene.tracks, strict=True):
        if one.is_other:
            panel.entries.append(
                Entry(Line2D([], [], linestyle="none"), f"not drawn: {one.label}", is_key=True)
            )
            continue
        if not crowded:
            draw_line(ax, line, one.style, points=scene.points, label=one.label)
            highest = max(highest, float(np.nanmax(line.value, initial=0.0)))
            limits = track(one.rows, values(one.rows, "center"), high=values(one.rows, "upper_limit"))
            panel.bands.append(Band(limits.x, limits.high, one.style.color))
        highest = max(highest, _draw_limits(ax, one, band=not crowded), _draw_alarms(ax, one))
        panel.entries.append(Entry(line_handle(one.style), one.label, _about(one.rows, scene.bucket)))
    if scene.series:
        _explain(panel, chart, crowded=crowded)
        # The ring around the highest point is larger than the point.
        panel.extent = (0.0, 1.05 * highest or _QUANTITY.least)
    mark_partial(ax, scene)
    return panel


def _draw_limits(ax: Axes, one: Series, *, band: bool) -> float:
    """Draw center and limits of a series, each bucket over its whole length; return the highest to show."""
    rows = one.rows
    line = with_gaps(
        track(rows, values(rows, "center"), values(rows, "lower_limit"), values(rows, "upper_limit"))
    )
    x = np.column_stack([line.start, line.end]).ravel()
    center, low, high = (np.repeat(array, 2) for array in (line.value, line.low, line.high))
    if not np.isfinite(center).any():
        return 0.0
    look: dict[str, Any] = {"color": one.style.color, "zorder": 2}
    ax.plot(x, center, linewidth=1.1, **look)
    if not band or not np.isfinite(high).any():
        return float(np.nanmax(center))
    ax.fill_between(x, low, high, linewidth=0, alpha=0.12, **look)
    ax.plot(x, low, linewidth=0.7, alpha=0.8, **look)
    ax.plot(x, high, linewidth=0.7, alpha=0.8, **look)
    # A bucket of three decisions has limits up to 100 %: it must not flatten all others.
    return float(min(np.nanmax(high), 1.1 * np.nanquantile(high, 0.8)))


def _draw_alarms(ax: Axes, one: Series) -> float:
    """Draw a ring around each point that is out of control; return the highest of them."""
    rate = values(one.rows, "error_rate")
    found = flags(one.rows, "out_of_control") & np.isfinite(rate)
    if not found.any():
        return 0.0
    x = track(one.rows, rate).x[found]
    look: dict[str, Any] = {"linestyle": "none", "zorder": 5}
    ax.plot(x, rate[found], marker=one.style.marker, color=one.style.color, markersize=5, **look)
    ax.plot(x, rate[found], label="out of control", clip_on=False, **look, **_RING)
    return float(rate[found].max())


def _explain(panel: Panel, chart: pd.DataFrame, *, crowded: bool) -> None:
    if np.isfinite(values(chart, "upper_limit")).any() and not crowded:
        panel.entries.append(Entry(Patch(facecolor=GREY, alpha=0.25), "within control limits", is_key=True))
    out = flags(chart, "out_of_control")
    found = int(out.sum())
    if found:
        rate, low, high = (values(chart, name) for name in ("error_rate", "lower_limit", "upper_limit"))
        is_run = bool((out & (rate >= low) & (rate <= high)).any())
        why = "beyond a limit, or ninth or later\nin a row on one side of the center" if is_run else ""
        ring = Line2D([], [], linestyle="none", **_RING)
        panel.entries.append(Entry(ring, "out of control", why, is_key=True))
    if crowded:
        said = ("center lines only: too many", "charts in one picture")
        panel.entries.append(Entry(Line2D([], [], color=GREY), *said, is_key=True))
    panel.detail += f", {found:,} of {len(chart):,} points out of control"


def _about(rows: pd.DataFrame, bucket: str) -> str:
    """Return how many decisions a chart has, or why it has no limits."""
    if not np.isfinite(values(rows, "upper_limit")).any():
        return (
            f"{decisions(rows, bucket)},\nno limits: too few {bucket}s"
            if bucket.isalpha()
            else "no limits yet"
        )
    return decisions(rows, bucket)


_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": ALARM,
    "markeredgewidth": 1.8,
}
_QUANTITY = Quantity(
    title="Control chart of error rates",
    unit="errors / processed decisions",
    volume="processed",
    sums=("error", "processed", "n_batches"),
    track=lambda rows: track(rows, values(rows, "error_rate")),
    axis=percent_axis,
    least=0.01,
    about=decisions,
    pools=False,
)
CONTROL_CHART = Plot("control_chart()", _COLUMNS, _draw)
