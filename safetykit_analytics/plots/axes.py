"""Axes: where a plot draws, its time axis, its title, its legend beside the data.

Place in the flow: below every plot. Never touches pyplot or rcParams: a figure made here is garbage as
soon as nobody holds it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import matplotlib.dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from safetykit_analytics.plots.text import put, wrap

if TYPE_CHECKING:
    from datetime import tzinfo

    import pandas as pd
    from matplotlib.artist import Artist

_dates: Any = matplotlib.dates  # has no annotations
GREY = "#6E6E6E"
LIGHT = "#EDEDED"
_LEGEND_WIDTH = 28


class Picture(Figure):
    """A figure that a notebook shows although pyplot, which teaches notebooks to, does not know it."""

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", bbox_inches="tight")
        return target.getvalue()


@dataclass(frozen=True)
class Entry:
    """One line of the legend: an artist, a name, and what there is to say about it."""

    handle: Artist
    label: str
    detail: str = ""


@dataclass
class Panel:
    """What one plot put into one Axes: `finish`, or a grid, makes titles, legend and limits of it."""

    title: str
    detail: str = ""
    entries: list[Entry] = field(default_factory=list)
    key: list[Entry] = field(default_factory=list)
    top: float | None = None
    bottom: float = 0.0
    rows_above: int = 0


def axes_or_new(ax: Axes | None, *, height: float = 4.6) -> Axes:
    """Return the caller's Axes, or one in a new figure that pyplot does not know.

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


def time_axis(ax: Axes, zone: tzinfo) -> None:
    """Label the x axis with dates and times of `zone`."""
    ax.xaxis_date(zone)
    locator = _dates.AutoDateLocator(tz=zone, minticks=3, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(_dates.ConciseDateFormatter(locator, tz=zone))


def percent_axis(ax: Axes) -> None:
    """Label the y axis, whose values are fractions, in percent."""
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.10g} %"))


def count_axis(ax: Axes) -> None:
    """Label the y axis with numbers that have thousands separators."""
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def no_data(ax: Axes) -> None:
    """Say that there is nothing to draw."""
    ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY, size="large")
    ax.set_xticks([])
    ax.set_yticks([])


def plain(ax: Axes) -> None:
    """Leave the data as the loudest thing in the picture."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.88", linewidth=0.6)
    ax.set_axisbelow(True)


def finish(ax: Axes, panel: Panel) -> None:
    """Give an Axes that stands alone its limits, title and legend."""
    limits(ax, panel)
    above = 11.0 * panel.rows_above
    if panel.detail:
        note = ax.annotate(
            "",
            (0, 1),
            (0, above + 6),
            xycoords="axes fraction",
            textcoords="offset points",
            color=GREY,
            size="small",
        )
        put(note, panel.detail)
        above += 13
    put(ax.set_title("", loc="left", pad=above + 6), panel.title)
    legend(ax, [*panel.entries, *panel.key])
    _fit(ax)


def limits(ax: Axes, panel: Panel) -> None:
    """Let the y axis begin at zero (below it only where the data is) and end above what is drawn."""
    if panel.top is not None:
        ax.set_ylim(panel.bottom * 1.06, panel.top * 1.06 if panel.top > 0 else 1.0)


def legend(ax: Axes, entries: list[Entry]) -> None:
    """Put a legend to the right of the data."""
    if not entries:
        return
    # matplotlib leaves labels that begin with "_" out, so the texts come afterwards.
    made = ax.legend(
        [entry.handle for entry in entries],
        [" "] * len(entries),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize="small",
        handlelength=2.8,
        labelspacing=0.7,
    )
    name_entries(made.get_texts(), entries)


def name_entries(texts: list[Any], entries: list[Entry]) -> None:
    """Write the legend's texts, names literally."""
    for text, entry in zip(texts, entries, strict=True):
        lines = [wrap(entry.label, width=_LEGEND_WIDTH), *([entry.detail] if entry.detail else [])]
        put(text, "\n".join(lines))


def _fit(ax: Axes) -> None:
    """Make room for the legend inside the place of an Axes whose figure has no layout engine to do so."""
    figure: Any = ax.get_figure()
    made = ax.get_legend()
    if figure is None or made is None or figure.get_layout_engine() is not None:
        return
    spec = ax.get_subplotspec()
    place = spec.get_position(figure) if spec is not None else ax.get_position()
    wide = made.get_window_extent().width / figure.bbox.width
    left = min(place.width * 0.5, wide + 0.02)
    ax.set_position((place.x0, place.y0, place.width - left, place.height))
