"""Axes: where a plot draws, and how its axes read.

Place in the flow: below every plot. Never touches pyplot or rcParams: a figure made here is garbage as soon
as nobody holds it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib.dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    import pandas as pd

_dates: Any = matplotlib.dates  # has no annotations

GREY = "#6E6E6E"
LIGHT = "#EDEDED"


class Picture(Figure):
    """A figure that a notebook shows although pyplot, which teaches notebooks to, does not know it."""

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", bbox_inches="tight")
        return target.getvalue()


def axes_or_new(ax: Axes | None, *, height: float) -> Axes:
    """Return the caller's Axes, or one in a new figure (`height` in inches) that pyplot does not know.

    Raises
    ------
    TypeError
        Neither None nor an Axes.
    """
    if ax is None:
        return Picture(figsize=(9.6, height), layout="constrained").add_subplot()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected a matplotlib Axes or None, found {type(ax).__name__}")
    return ax


def numbers(times: pd.Series[Any]) -> Any:
    """Return tz-aware times as matplotlib's date numbers (float64, days), NaN for NaT."""
    return _dates.date2num(times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]"))


def width_inches(ax: Axes) -> float:
    """Return about how wide an Axes is."""
    figure: Any = ax.get_figure()
    return float(ax.get_position().width * figure.bbox.width / figure.dpi)


def height_inches(ax: Axes) -> float:
    """Return about how tall an Axes is."""
    figure: Any = ax.get_figure()
    return float(ax.get_position().height * figure.bbox.height / figure.dpi)


def time_axis(ax: Axes, zone: tzinfo) -> None:
    """Label the x axis with dates and times of `zone`."""
    ax.xaxis_date(zone)
    # With a narrower range the locator finds no interval for some spans, and warns.
    fewest, most = (3, 8) if width_inches(ax) > 4 else (2, 5)
    locator = _dates.AutoDateLocator(tz=zone, minticks=fewest, maxticks=most)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(_dates.ConciseDateFormatter(locator, tz=zone))


def percent_axis(ax: Axes) -> None:
    """Label the y axis, whose values are fractions, in percent."""
    _number_axis(ax.yaxis, lambda value: f"{100 * value:.6g} %")


def count_axis(ax: Axes) -> None:
    """Label the y axis with numbers that have thousands separators."""
    _number_axis(ax.yaxis, lambda value: f"{value:,.10g}")


def _number_axis(axis: Any, write: Callable[[float], str]) -> None:
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def no_data(ax: Axes) -> None:
    """Say that there is nothing to draw."""
    ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY, size="large")


def plain(ax: Axes, *, grid: str = "y") -> None:
    """Leave the data as the loudest thing in the picture."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.88", linewidth=0.6)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
