"""Backlog over time: decisions still pending.

Place in the flow: backlog → **plots** → a slide, or the report.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from safetykit_analytics.plots.axes import count_axis
from safetykit_analytics.plots.lines import track, values
from safetykit_analytics.plots.over_time import Quantity, draw_over_time
from safetykit_analytics.plots.panel import Plot, draw_alone
from safetykit_analytics.wording import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track

_COLUMNS = ("bucket_start", "bucket_end", "pending", "n_open", "partial")


def plot_backlog(backlog: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw pending decisions of open batches over time, one line per policy, version or both.

    Parameters
    ----------
    backlog : DataFrame
        What ``backlog`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw. Without it, a new figure that pyplot does not know: ``ax.figure`` shows and saves it.

    Returns
    -------
    matplotlib Axes
        Each value stands at its bucket's end, which is when it holds; the last one, while its bucket is
        not over, holds now.

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
    return draw_alone(BACKLOG, backlog, ax)


def _track(rows: pd.DataFrame) -> Track:
    return track(rows, values(rows, "pending"), at_end=True)


def _about(rows: pd.DataFrame, bucket: str) -> str:
    """Say where a line ends."""
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
BACKLOG = Plot("backlog()", _COLUMNS, partial(draw_over_time, quantity=_QUANTITY))
