"""Error rate over time, with its interval."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from safetykit_analytics.plots.axes import percent_axis
from safetykit_analytics.plots.lines import track, values
from safetykit_analytics.plots.over_time import INTERVAL, Quantity, decisions, draw_over_time
from safetykit_analytics.plots.panel import Plot, draw_alone

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from safetykit_analytics.plots.lines import Track

_COLUMNS = (
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


def _track(rows: pd.DataFrame) -> Track:
    low, high = values(rows, "error_rate_low"), values(rows, "error_rate_high")
    return track(rows, values(rows, "error_rate"), low, high, weight=values(rows, "processed"))


_QUANTITY = Quantity(
    title="Error rate",
    unit="errors / processed decisions",
    volume="processed",
    sums=("error", "processed", "n_batches"),
    track=_track,
    axis=percent_axis,
    about=decisions,
    band=INTERVAL,
    least=0.01,
)
ERROR_RATE = Plot("rates()", _COLUMNS, partial(draw_over_time, quantity=_QUANTITY))
