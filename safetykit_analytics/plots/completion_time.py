"""How long batches take: brackets for the median and for nine in ten, per policy, version or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from safetykit_analytics.formatting import plural
from safetykit_analytics.plots.axes import GREY, number_axis, plain
from safetykit_analytics.plots.panel import Entry, Panel, Plot, draw_alone
from safetykit_analytics.plots.rows import mark_open_end, number, rows_height, rows_of, write_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Names

_BRACKETS = ("median_low", "median_high", "p90_low", "p90_high")
_COLUMNS = ("n_batches", "n_running", *_BRACKETS)
_SHORT = {"days": "d", "hours": "h", "minutes": "min", "seconds": "s"}
_UNITS = (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60), ("seconds", 1 / 3600))


def plot_completion_time(completion: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw between which two times half, and nine in ten, of the batches are done.

    Parameters
    ----------
    completion : DataFrame
        What ``completion_time`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw; without it, on a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        One row per policy, version or both: those with most batches, as many as there is room for. A bracket
        that is open, because too many batches are still running, ends in a chevron.

    Raises
    ------
    UnknownName
        A column of ``completion`` is missing.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_completion_time(ska.completion_time(store))
    >>> axes.figure.savefig("completion-time.png")
    """
    return draw_alone(COMPLETION_TIME, completion, ax)


def _draw(completion: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    hours = {name: completion[name].dt.total_seconds() / 3600 for name in _BRACKETS}
    completion = completion.assign(**hours)
    rows, shared, left_out = rows_of(completion, names, ax, rank=lambda data: (-number(data["n_batches"]),))
    panel = Panel(title=f"Time to completion: {shared}" if shared else "Time to completion")
    known = completion[list(_BRACKETS)].to_numpy(dtype="float64")
    ax.set_xlabel("hours from creation to the first SUCCESS or ERROR")
    if not np.isfinite(known).any():
        plain(ax)
        return panel
    longest = float(np.nanmax(known))
    unit, in_hours = next((unit for unit in _UNITS if longest >= 2 * unit[1]), _UNITS[-1])
    ax.set_xlabel(f"{unit} from creation to the first SUCCESS or ERROR")
    write_rows(ax, [row.label for row in rows], [_words(row.data, unit, in_hours) for row in rows])
    reach = longest / in_hours
    for place, row in enumerate(rows):
        for quantile, offset, width in (("median", -0.12, 5.0), ("p90", 0.12, 2.2)):
            low, high = (row.data[f"{quantile}_{side}"] / in_hours for side in ("low", "high"))
            _bracket(ax, place + offset, low, high, reach, color=row.color, width=width)
    panel.span = (0.0, reach * 1.12)
    panel.detail = _detail(completion, left_out)
    panel.words_right = True
    thick = Line2D([], [], color=GREY, linewidth=5, solid_capstyle="butt")
    panel.entries = [
        Entry(thick, "half done within", is_key=True),
        Entry(Line2D([], [], color=GREY, linewidth=2.2), "nine in ten done within", is_key=True),
    ]
    number_axis(ax.xaxis, lambda value: f"{value:,.6g}")
    return panel


def _bracket(ax: Axes, y: float, low: float, high: float, reach: float, *, color: str, width: float) -> None:
    """Draw the bracket of one quantile: between low and high, or later than low."""
    if np.isnan(low):
        return
    look: dict[str, Any] = {"color": color, "linewidth": width, "solid_capstyle": "butt"}
    if np.isnan(high):
        ax.plot([low, reach * 1.07], [y, y], **look | {"alpha": 0.45})
        mark_open_end(ax, reach * 1.07, y, "right", color)
    else:
        # Both ends at one time are still to be seen.
        ax.plot([low, max(high, low + reach * 0.004)], [y, y], **look)
    ends = [low] if np.isnan(high) else [low, high]
    ax.plot(
        ends, [y] * len(ends), marker="|", color=color, markersize=9, markeredgewidth=1.6, linestyle="none"
    )


def _words(data: dict[str, Any], unit: str, hours: float) -> str:
    half, most = (
        _range(data[f"{quantile}_low"] / hours, data[f"{quantile}_high"] / hours, _SHORT[unit])
        for quantile in ("median", "p90")
    )
    batches = plural(data["n_batches"], "batch")
    return f"half: {half}; nine in ten: {most}\n{batches}, {data['n_running']:,} still running"


def _range(low: float, high: float, unit: str) -> str:
    if np.isnan(low):
        return "not known yet"
    if np.isnan(high):
        return f"> {_short(low)} {unit}"
    between = "" if _short(low) == _short(high) else f"{_short(low)}–"
    return f"{between}{_short(high)} {unit}"


def _short(value: float) -> str:
    return f"{value:.1g}" if value < 0.1 else f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _detail(completion: pd.DataFrame, left_out: list[dict[str, Any]]) -> str:
    batches, running = completion["n_batches"].sum(), completion["n_running"].sum()
    smaller = f"; not drawn: {len(left_out):,} with fewer batches" if left_out else ""
    return f"{plural(batches, 'batch')}, {running:,} of them still running{smaller}"


COMPLETION_TIME = Plot(
    "completion_time()",
    _COLUMNS,
    _draw,
    share_y=False,
    most_columns=2,
    height=lambda table: rows_height(len(table)),
)
