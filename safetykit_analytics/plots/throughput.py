"""Throughput over time: how many decisions per hour each version gets through.

Place in the flow: rates → **plots** → a slide, or the report. Computes nothing but what "other" adds up to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.plots.axes import axes_or_new, count_axis, finish
from safetykit_analytics.plots.lines import track, values
from safetykit_analytics.plots.over_time import Quantity, draw_over_time
from safetykit_analytics.plots.series import check_columns, names_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.axes import Panel
    from safetykit_analytics.plots.lines import Track
    from safetykit_analytics.plots.series import Names

_COLUMNS = (
    "bucket_start", "bucket_end", "processed", "throughput_per_hour", "n_batches", "processed_low",
    "processed_high", "coverage", "smeared_share", "partial",
)  # fmt: skip
_SUMS = ("processed", "throughput_per_hour", "n_batches", "processed_low", "processed_high")


def plot_throughput(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw processed decisions per hour over time, one line per policy, version or both.

    Parameters
    ----------
    rates : DataFrame
        What ``rates`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw. Without it, a new figure that pyplot does not know: ``ax.figure`` shows and saves it.

    Returns
    -------
    matplotlib Axes
        A lighter band runs from what was certainly processed in a bucket to what was possibly, given when the
        batches were polled. A missing table gives empty axes that say "no data".

    Raises
    ------
    UnknownName
        A column of ``rates`` is missing.
    """
    ax = axes_or_new(ax)
    finish(ax, draw_throughput(rates, ax, names_in(check_columns(rates, _COLUMNS, what="rates"))))
    return ax


def draw_throughput(rates: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw into an Axes; say what its title and legend are to hold."""
    return draw_over_time(rates, ax, names, _THROUGHPUT)


def _track(rows: pd.DataFrame) -> Track:
    """Turn the bounds on decisions into bounds on decisions per hour."""
    processed, throughput = values(rows, "processed"), values(rows, "throughput_per_hour")
    hours = (rows["bucket_end"] - rows["bucket_start"]).dt.total_seconds().to_numpy(dtype="float64") / 3600
    # Of a bucket that is not over, the hours gone by are known only by what was done in them.
    unknown = rows["partial"].to_numpy(dtype=bool, na_value=False)
    gone: Any = np.where(unknown, np.nan, hours)
    np.divide(processed, throughput, out=gone, where=unknown & (throughput != 0))
    return track(
        rows, throughput, values(rows, "processed_low") / gone, values(rows, "processed_high") / gone
    )


_THROUGHPUT = Quantity(
    title="Throughput",
    unit="processed decisions per hour",
    volume="processed",
    sums=_SUMS,
    track=_track,
    axis=count_axis,
    band="certain to possible,\ngiven when it was polled",
    band_alpha=0.13,
)
