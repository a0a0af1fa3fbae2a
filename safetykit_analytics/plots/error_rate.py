"""Error rate over time, with its interval.

Place in the flow: rates → **plots** → a slide, or the report. Computes nothing but the rate of "other".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetykit_analytics.plots.axes import axes_or_new, finish, percent_axis
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
    "bucket_start", "bucket_end", "error", "processed", "error_rate", "error_rate_low", "error_rate_high",
    "n_batches", "coverage", "smeared_share", "partial",
)  # fmt: skip
_SUMS = ("error", "processed", "n_batches")


def plot_error_rate(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of processed decisions that ended in an error over time, with its interval as a band.

    Parameters
    ----------
    rates : DataFrame
        What ``rates`` returns, or rows of it.
    ax : matplotlib Axes, optional
        Where to draw. Without it, a new figure that pyplot does not know: ``ax.figure`` shows and saves it.

    Returns
    -------
    matplotlib Axes
        The y axis begins at zero, in percent. Buckets in which nothing was processed are gaps. "other" has
        no band. An interval that reaches beyond three times the highest rate is cut at the top.

    Raises
    ------
    UnknownName
        A column of ``rates`` is missing.
    """
    ax = axes_or_new(ax)
    finish(ax, draw_error_rate(rates, ax, names_in(check_columns(rates, _COLUMNS, what="rates"))))
    return ax


def draw_error_rate(rates: pd.DataFrame, ax: Axes, names: Names) -> Panel:
    """Draw into an Axes; say what its title and legend are to hold."""
    return draw_over_time(rates, ax, names, _ERROR_RATE)


def _track(rows: pd.DataFrame) -> Track:
    return track(
        rows, values(rows, "error_rate"), values(rows, "error_rate_low"), values(rows, "error_rate_high")
    )


_ERROR_RATE = Quantity(
    title="Error rate",
    unit="errors / processed decisions",
    volume="processed",
    sums=_SUMS,
    track=_track,
    axis=percent_axis,
    band="confidence interval",
    band_alpha=0.2,
)
