"""Axes: where a plot draws, how large its text is, and how its axes read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from safetykit_analytics.plots.text import put, wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    import pandas as pd
    from matplotlib.text import Text

_dates: Any = matplotlib.dates  # has no annotations

GREY = "#6E6E6E"
LIGHT = "#EDEDED"
_WIDTH = 9.6  # inches of a figure of ours
# A figure of ours of ordinary height has matplotlib's own size of text; a slide has larger text.
_SCALED_FROM = (7.0, 4.6)
_SMALLEST, _LARGEST = 0.85, 2.0
_STEPS = (1, 2, 2.5, 5, 10)


class Picture(Figure):
    """A figure that pyplot does not know, and that a notebook shows all the same."""

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", bbox_inches="tight")
        return target.getvalue()


def new_axes(height: float) -> Axes:
    """Return the Axes of a new pyplot figure, `height` inches high.

    Where pyplot has no screen for its backend, the figure is one that pyplot does not know.
    """
    size: dict[str, Any] = {"figsize": (_WIDTH, height), "layout": "constrained"}
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 -- a report that passes `ax` does without

        figure: Figure = plt.figure(**size)
    except ImportError:
        figure = Picture(**size)
    return figure.add_subplot()


def check_axes(ax: object) -> None:
    """Raise TypeError unless `ax` is None or an Axes."""
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax: expected a matplotlib Axes or None, found {type(ax).__name__}")


def room(ax: Axes) -> tuple[float, float]:
    """Return about how many inches wide and high the place of an Axes and of all its words is."""
    figure: Any = ax.get_figure()
    spec = ax.get_subplotspec()
    place = ax.get_position() if spec is None else spec.get_position(figure)
    width, height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
    if spec is None or figure.get_layout_engine() is None:
        # The margins of a figure without a layout engine hold tick labels and a title.
        return float(place.width * width) + 0.5, float(place.height * height) + 0.5
    rows, columns = spec.get_gridspec().get_geometry()
    return (
        float(width * len(spec.colspan) / columns) - 0.2,
        float(height * len(spec.rowspan) / rows) - 0.2,
    )


def has_neighbours(ax: Axes) -> bool:
    """Return whether another Axes is beside this one: a layout engine shares out the room among all words."""
    spec = ax.get_subplotspec()
    return spec is not None and spec.get_gridspec().ncols > len(spec.colspan)


def set_text_size(ax: Axes, *, is_ours: bool) -> None:
    """Set the size of text in a caller's Axes by the size of its place."""
    width, height = room(ax)
    scale = min((width + 0.2) / _SCALED_FROM[0], (height + 0.2) / _SCALED_FROM[1])
    scale = 1.0 if is_ours else min(max(scale, _SMALLEST), _LARGEST)

    label, tick = (
        FontProperties(size=size).get_size_in_points() * scale
        for size in (mpl.rcParams["axes.labelsize"], mpl.rcParams["xtick.labelsize"])
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(label)
        axis.set_tick_params(labelsize=tick)
        axis.offsetText.set_fontsize(tick)


def text_size(ax: Axes, *, small: bool = False) -> float:
    """Return the size of text in an Axes, in points."""
    return float(ax.xaxis.label.get_fontsize()) * (0.833 if small else 1.0)


def letters_in(inches: float, text: Text) -> int:
    """Return how many letters of a text go beside each other in so many inches."""
    per_letter = 0.7 if text.get_fontweight() == "bold" else 0.6
    return max(12, int(inches * 72 / (per_letter * float(text.get_fontsize()))))


def wrap_label(axis: Any, inches: float) -> None:
    """Break the label of an axis into lines of so many inches."""
    put(axis.label, wrap(axis.label.get_text(), width=letters_in(inches, axis.label)))


def numbers(times: pd.Series[Any]) -> Any:
    """Return tz-aware times as matplotlib's date numbers (float64, days), NaN for NaT."""
    return _dates.date2num(times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]"))


class _DateLabels(_dates.ConciseDateFormatter):  # type: ignore[misc]
    """Concise dates whose year and month stand under the first of them, where no axis label is."""

    def format_ticks(self, values: Any) -> list[str]:
        labels: list[str] = super().format_ticks(values)
        low, high = sorted(self.axis.get_view_interval())
        shown = [place for place, value in enumerate(values) if low <= value <= high]
        if shown and (offset := super().get_offset()):
            # It is that of the last tick, and stands under the first one shown, whose month may be another.
            last, first = (_dates.num2date(values[place], tz=self._tz) for place in (-1, shown[0]))
            form = next(form for form in self.offset_formats if last.strftime(form) == offset)
            # "2025" under "Sep", not "2025-Sep".
            labels[shown[0]] += f"\n{first.strftime(form).removesuffix('-' + labels[shown[0]])}"
        return labels

    def get_offset(self) -> str:
        return ""


class _DateTicks(_dates.AutoDateLocator):  # type: ignore[misc]
    """Ticks on dates, as many as the width of the axis holds when it is drawn."""

    def get_locator(self, dmin: Any, dmax: Any) -> Any:
        ax = self.axis.axes
        letters = ax.bbox.width / ax.get_figure(root=True).dpi * 72 / text_size(ax)
        # With a narrower range the locator finds no interval for some spans, and warns.
        self.minticks, most = (3, 8) if letters > 32 else (2, 5)
        self.maxticks = dict.fromkeys(range(7), most)
        return super().get_locator(dmin, dmax)


def time_axis(ax: Axes, zone: tzinfo) -> None:
    """Label the x axis with dates and times of `zone`."""
    ax.xaxis_date(zone)
    # The line with year and month is space enough above the label.
    ax.xaxis.labelpad = 1.0
    # Two lines under the left end of the axis are wide; the lowest label of the y axis is beside them.
    ax.tick_params(axis="x", pad=0.55 * text_size(ax))
    locator = _DateTicks(tz=zone)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(_DateLabels(locator, tz=zone))


def percent_axis(ax: Axes) -> None:
    """Label the y axis, whose values are fractions, in percent."""
    number_axis(ax.yaxis, lambda value: f"{100 * value:.6g} %")


def count_axis(ax: Axes) -> None:
    """Label the y axis with numbers that have thousands separators."""
    number_axis(ax.yaxis, lambda value: f"{value:,.10g}")


def number_axis(axis: Any, write: Callable[[float], str]) -> None:
    """Label an axis with numbers; on a log axis its own ticks stay."""
    if axis.get_scale() == "linear":
        axis.set_major_locator(_NumberTicks(6, steps=_STEPS, min_n_ticks=2))
    else:
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


class _NumberTicks(MaxNLocator):
    """Round numbers, as many as the axis holds when it is drawn, up to six."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        ax: Any = self.axis.axes  # type: ignore[union-attr]
        along, letters = (ax.bbox.width, 5.0) if self.axis is ax.xaxis else (ax.bbox.height, 2.2)
        inches = along / ax.get_figure(root=True).dpi
        self.set_params(nbins=min(6, max(2, int(inches * 72 / (letters * text_size(ax))))))
        return super().tick_values(vmin, vmax)


def plain(ax: Axes, *, grid: str = "y") -> None:
    """Remove the frame and draw a light grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.88", linewidth=0.6)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def make_room(ax: Axes) -> None:
    """Keep the words beside the data within the place of an Axes, also where no layout engine does."""
    figure: Any = ax.get_figure()
    spec = ax.get_subplotspec()
    if (engine := figure.get_layout_engine()) is not None:
        if has_neighbours(ax):
            # Columns become equally wide step by step: after one of them no legend is cut.
            engine.execute(figure)
        return
    place = ax.get_position() if spec is None else spec.get_position(figure)
    ax.set_position(place)
    whole = ax.get_tightbbox()
    if whole is None:
        return
    whole = whole.transformed(figure.transFigure.inverted())
    # The slot's own margins hold tick labels and titles of ordinary size; only larger ones cost room.
    left, right = max(0.0, 0.01 - whole.x0), max(0.0, whole.x1 - place.x1 - 0.01)
    bottom, top = max(0.0, 0.01 - whole.y0), max(0.0, whole.y1 - 0.99)
    ax.set_position(
        (
            place.x0 + left,
            place.y0 + bottom,
            max(0.3 * place.width, place.width - left - right),
            max(0.3 * place.height, place.height - bottom - top),
        )
    )
