"""Backlog over time: decisions still pending."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from safetykit_analytics.plots.axes import count_axis
from safetykit_analytics.plots.lines import track, values
from safetykit_analytics.plots.over_time import Quantity, draw_over_time, mark_partial, set_scene
from safetykit_analytics.plots.panel import Plot, draw_alone
from safetykit_analytics.plots.rows import rows_height, write_rows
from safetykit_analytics.plots.series import keys_of, names_in
from safetykit_analytics.wording import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.panel import Panel
    from safetykit_analytics.plots.series import Names

_COLUMNS = ("bucket_start", "bucket_end", "pending", "n_open", "partial")
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


def _track(rows: pd.DataFrame) -> Track:
    return track(rows, values(rows, "pending"), at_end=True)


def _about(rows: pd.DataFrame, bucket: str) -> str:
    """Return where a line ends."""
    if not bucket:
        return "decisions that wait in open batches"
    last = rows.iloc[-1]
    waiting = 0 if np.isnan(float(last["n_open"])) else last["n_open"]
    batches = plural(waiting, "open batch")
    return f"at the end {float(last['pending']):,.0f} pending,\n{batches}"


_QUANTITY = Quantity(
    title="Backlog",
    unit="pending decisions",
    volume="pending",
    sums=("pending", "n_open"),
    track=_track,
    axis=count_axis,
    about=_about,
    pools=False,
)


def _draw_lanes(backlog: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw one area per group, above each other and on one scale."""
    scene = set_scene(backlog, ax, names, _QUANTITY)
    if not scene.tracks:
        return scene.panel
    lanes = list(zip(scene.series, scene.tracks, strict=True))
    highest = max(float(np.nanmax(line.value)) for line in scene.tracks) or 1.0
    write_rows(ax, [one.label for one in scene.series], [_about(one.rows, "lane") for one in scene.series])
    for place, (one, line) in enumerate(lanes):
        floor = place + 0.4
        ax.fill_between(line.x, floor, floor - 0.8 * line.value / highest, color=one.style.color, linewidth=0)
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


_LANES = Plot("backlog()", _COLUMNS, _draw_lanes, height=lambda table: rows_height(_n_groups(table)))
BACKLOG = Plot("backlog()", _COLUMNS, partial(draw_over_time, quantity=_QUANTITY))
