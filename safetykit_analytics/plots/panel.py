"""Limits, titles, roll-out labels and legends around the data, of one plot or of a grid.

A plot draws its data and returns a `Panel`; whoever holds the whole picture decides where the words go.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from safetykit_analytics.plots.axes import (
    GREY,
    check_axes,
    has_neighbours,
    letters_in,
    make_room,
    new_axes,
    room,
    set_text_size,
    text_size,
    wrap_label,
)
from safetykit_analytics.plots.series import check_columns, names_in
from safetykit_analytics.plots.text import literal, put, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from safetykit_analytics.plots.series import Names

_GAP = 0.08  # inches between a legend and its neighbours above and to the left
_AROUND_AXES = 1.3  # inches above and below the data of a figure of ours
_TALLEST = 14.0
# Beside the data only where that leaves most of the width.
_WIDE = 7.5
_BESIDE, _BELOW, _DETAILED = 0.36, 0.34, 0.2
# A legend in a lower place would leave no room for data.
_LOWEST = 1.6
_LABEL_BESIDE_OTHERS = 0.65
# Letters in a line, size of text, whether details are written.
_FORMS = ((30, 1.0, True), (30, 1.0, False), (24, 0.85, False), (18, 0.7, False), (12, 0.6, False))


@dataclass(frozen=True)
class Entry:
    """One line of the legend: an artist, a name, and a detail."""

    handle: Artist
    label: str
    detail: str = ""
    is_other: bool = False
    is_key: bool = False


def draw_legend(
    ax: Axes,
    entries: Sequence[Entry],
    *,
    slot: tuple[float, float],
    below: bool = False,
    may_grow: bool = False,
) -> float:
    """Draw a legend to the right of the data, or below it where that is too narrow or holds words.

    `slot` is the width and height of the place of the Axes and its words, in inches; `below` rules out the
    right side; a figure that `may_grow` becomes taller if the legend needs it. Return the inches that the
    legend takes to the right of the data.
    """
    if not entries or slot[1] < _LOWEST:
        return 0.0
    if not below and slot[0] >= _WIDE:
        for form in _FORMS[:3]:
            wide, high = _size(_make(ax, entries, form, _beside()))
            if may_grow:
                _grow(ax, high)
            if may_grow or (wide <= _BESIDE * slot[0] and high <= slot[1] - 0.4):
                return wide
    shown, depth = list(entries), _depth(ax)
    while not _fits_below(ax, shown, slot=slot, depth=depth, may_grow=may_grow) and len(shown) > 2:
        # A last resort in a place that is small: fewer names, and how many there are.
        kept = list(entries)[: len(shown) - 2]
        shown = [*kept, Entry(Line2D([], [], linestyle="none"), f"{len(entries) - len(kept):,} more")]
    return 0.0


def _fits_below(
    ax: Axes, entries: Sequence[Entry], *, slot: tuple[float, float], depth: float, may_grow: bool
) -> bool:
    """Draw a legend under the words of the x axis; return whether some form of it fits there."""
    for form in _FORMS:
        limit = (_DETAILED if form[2] else _BELOW) * slot[1]
        if not may_grow and _lowest(ax, entries, form) > limit:
            continue
        wide, high = _size(_make(ax, entries, form, _below(ax, depth, 1)))
        for columns in range(min(len(entries), max(1, int(slot[0] / (wide + 0.1)))), 0, -1):
            wide, high = _size(_make(ax, entries, form, _below(ax, depth, columns)))
            if wide <= slot[0]:
                break
        if may_grow:
            _grow(ax, high)
        if wide <= slot[0] and (may_grow or high <= limit):
            return True
    return False


def _lowest(ax: Axes, entries: Sequence[Entry], form: tuple[int, float, bool]) -> float:
    """Return how many inches high a legend is at least, all names beside each other."""
    lines = max(2 + entry.detail.count("\n") if entry.detail and form[2] else 1 for entry in entries)
    return lines * text_size(ax, small=True) * form[1] / 72


def draw_shared_legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw one legend to the right of all panels; the figure, ours, becomes taller if the legend needs it."""
    if not entries:
        return
    made = _made(figure, entries, _FORMS[0], {"loc": "outside right upper"}, points="small")
    figure.set_figheight(max(figure.get_figheight(), _size(made)[1] + 0.2))


def _grow(ax: Axes, inches: float) -> None:
    figure: Any = ax.get_figure()
    figure.set_figheight(min(_TALLEST, max(figure.get_figheight(), inches + _AROUND_AXES)))


def _beside() -> dict[str, Any]:
    return {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}


def _depth(ax: Axes) -> float:
    """Return how many inches below the data the words of the x axis end."""
    figure: Any = ax.get_figure()
    words = ax.xaxis.get_tightbbox()
    return _GAP if words is None else _GAP + max(0.0, float(ax.bbox.y0 - words.y0)) / figure.dpi


def _below(ax: Axes, depth: float, columns: int) -> dict[str, Any]:
    figure: Any = ax.get_figure()
    under = ax.transAxes + ScaledTranslation(0.0, -depth, figure.dpi_scale_trans)
    return {
        "loc": "upper left",
        "bbox_to_anchor": (0.0, 0.0),
        "bbox_transform": under,
        "borderaxespad": 0.0,
        "ncols": columns,
    }


def _size(made: Any) -> tuple[float, float]:
    extent, dpi = made.get_window_extent(), made.get_figure(root=True).dpi
    return float(extent.width / dpi), float(extent.height / dpi)


def _make(ax: Axes, entries: Sequence[Entry], form: tuple[int, float, bool], place: dict[str, Any]) -> Any:
    return _made(ax, entries, form, place, points=text_size(ax, small=True) * form[1])


def _made(
    owner: Any,
    entries: Sequence[Entry],
    form: tuple[int, float, bool],
    place: dict[str, Any],
    *,
    points: float | str,
) -> Any:
    characters, _, with_details = form
    if not with_details:
        entries = [replace(entry, detail="") for entry in entries]
    # matplotlib leaves labels that begin with "_" out, so the words come afterwards.
    made = owner.legend(
        [entry.handle for entry in entries],
        [" "] * len(entries),
        **place,
        frameon=False,
        fontsize=points,
        handlelength=3.2,
        columnspacing=1.2,
        labelspacing=0.8 if any(entry.detail for entry in entries) else 0.5,
    )
    for text, entry in zip(made.get_texts(), entries, strict=True):
        lines = [wrap(entry.label, width=characters)]
        if entry.detail:
            lines.append(entry.detail)
        put(text, "\n".join(lines))
    return made


_LONGEST_MARK = 16
_ROOM_FOR_DETAIL = 2.4  # inches
_LINE_INCHES = 0.2
# Open, as a filled triangle is a marker of nothing and points all the same.
_CHEVRON_UP = [(-1.0, -1.0), (0.0, 0.0), (1.0, -1.0)]


@dataclass(frozen=True)
class Mark:
    """A roll-out: its time (date number), version and colour."""

    when: float
    name: str
    color: str


@dataclass(frozen=True)
class Band:
    """The upper bounds of a series: they may reach beyond what the axis shows."""

    x: Any
    high: Any
    color: str


@dataclass
class Panel:
    """What one plot has to say about one Axes.

    Where `title` may differ between the panels of a grid, `shared_title` is what holds for all of them, and
    `own_title` what each then adds to its name. Without a `span` on the x axis there is no data.
    """

    title: str
    shared_title: str = ""
    own_title: str = ""
    detail: str = ""
    entries: list[Entry] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    span: tuple[float, float] | None = None
    extent: tuple[float, float] | None = None
    words_right: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return self.span is None


@dataclass(frozen=True)
class Plot:
    """One kind of plot: the columns that it reads, how it draws, and how its panels share axes."""

    what: str
    columns: tuple[str, ...]
    draw: Callable[[pd.DataFrame, Axes, Names], Panel]
    share_y: bool = True
    most_columns: int = 5
    height: Callable[[pd.DataFrame], float] = lambda _: 4.6


def draw_alone(plot: Plot, table: pd.DataFrame, ax: Axes | None, *, legend: bool = True) -> Axes:
    """Draw a table into the caller's Axes or a new one."""
    check_axes(ax)
    check_columns(table, plot.columns, what=plot.what)
    is_ours = ax is None
    if ax is None:
        ax = new_axes(plot.height(table))
    set_text_size(ax, is_ours=is_ours)
    slot = room(ax)
    panel = plot.draw(table, ax, names_in(table))
    if panel.is_empty:
        say_no_data(ax)
        ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    set_limits(ax, [panel])
    left = left_of(ax)
    # The words of a neighbour make the data of both narrower; no layout engine makes room for labels.
    wrap_label(ax.xaxis, (slot[0] - left) * (_LABEL_BESIDE_OTHERS if has_neighbours(ax) else 1.0))
    mark_cuts(ax, panel)
    entries = panel.entries if legend else []
    beside = draw_legend(ax, entries, slot=slot, below=panel.words_right, may_grow=is_ours)
    if beside:
        wrap_label(ax.xaxis, slot[0] - left - beside)
    slot = slot[0] - left, slot[1]
    beyond = write_title(ax, panel.title, panel.detail, slot=slot, rows_above=draw_marks(ax, panel.marks))
    wrap_label(ax.yaxis, slot[1] - 1.2 if is_ours else 0.55 * slot[1])
    if is_ours:
        grow(ax.get_figure(), beyond)
    make_room(ax)
    return ax


def say_no_data(ax: Axes) -> None:
    """Write that there is nothing to draw."""
    ax.text(
        0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color=GREY,
        size=1.2 * text_size(ax),
    )  # fmt: skip


def set_limits(ax: Axes, panels: Sequence[Panel]) -> None:
    """Set limits that show the data of all panels that share these axes, and zero."""
    spans = [panel.span for panel in panels if panel.span is not None]
    if spans:
        start, end = min(start for start, _ in spans), max(end for _, end in spans)
        room = (end - start) * 0.01
        ax.set_xlim(max(start - room, start / 2) if ax.get_xscale() == "log" else start - room, end + room)
    extents = [panel.extent for panel in panels if panel.extent is not None]
    if not extents:
        return
    low, high = min(low for low, _ in extents), max(high for _, high in extents)
    if ax.get_yscale() == "log":
        # A log axis has no zero: it begins below the smallest value that it can show.
        low, high = ax.dataLim.minposy / 1.2, high * 1.2
        if 0 < low < high < np.inf:
            ax.set_ylim(low, high)
        return
    # `auto=None`: a log axis that is set later finds limits of its own.
    ax.set_ylim(low * 1.06, high * 1.06 if high > low else 1.0, auto=None)


def mark_cuts(ax: Axes, panel: Panel) -> None:
    """Mark on the upper edge where an interval goes on beyond it."""
    look: dict[str, Any] = {
        "linestyle": "none", "marker": _CHEVRON_UP, "markersize": 6, "markerfacecolor": "none",
        "markeredgewidth": 1.2,
    }  # fmt: skip
    cut = [(band, band.high > ax.get_ylim()[1] * (1 + 1e-9)) for band in panel.bands]
    for band, beyond in cut:
        if beyond.any():
            # In a fraction of the axes: a marker on the edge would be clipped, or stretch the limits.
            ax.plot(
                band.x[beyond], np.ones(int(beyond.sum())), transform=ax.get_xaxis_transform(),
                color=band.color, clip_on=False, zorder=5, scalex=False, scaley=False, **look,
            )  # fmt: skip
    if any(beyond.any() for _, beyond in cut):
        panel.entries.append(Entry(Line2D([], [], color=GREY, **look), "goes on above", is_key=True))


def draw_marks(ax: Axes, marks: Sequence[Mark]) -> int:
    """Draw roll-outs as vertical lines with labels above the Axes; return the number of rows of labels."""
    left, right = ax.get_xlim()
    points, figure = text_size(ax, small=True), ax.get_figure()
    width = ax.get_position().width * figure.bbox.width / figure.dpi * 72  # type: ignore[union-attr]
    ends: list[float] = []
    for mark in marks:
        shown = literal(mark.name, longest=_LONGEST_MARK)
        at = (mark.when - left) / (right - left) * width
        half = 0.36 * points * len(shown) + 3
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row : row + 1] = [at + half]
        ax.axvline(mark.when, color=mark.color, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1.5)
        text = ax.annotate(
            "", (mark.when, 1), (0, 4 + _row(points) * row), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", va="bottom", color=mark.color, size=points,
        )  # fmt: skip
        put(text, shown)
    return len(ends)


def write_title(
    ax: Axes, title: str, detail: str, *, slot: tuple[float, float], rows_above: int = 0, size: float = 1.2
) -> int:
    """Write a title and, smaller, a detail above the Axes; return the lines beyond one each."""
    points = text_size(ax, small=True)
    above = _row(points) * rows_above + (8 if rows_above else 5)
    beyond, width = 0, slot[0]
    if detail and slot[1] > _ROOM_FOR_DETAIL:
        note = ax.annotate(
            "", (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", color=GREY,
            size=points,
        )  # fmt: skip
        lines = wrap(detail, width=letters_in(width, note))
        put(note, lines)
        beyond = lines.count("\n")
        above += 1.25 * points * (1 + beyond) + 3
    name = ax.set_title("", loc="left", pad=above, size=text_size(ax) * size, weight="bold")
    lines = wrap(title, width=letters_in(width, name))
    put(name, lines)
    return beyond + lines.count("\n")


def grow(figure: Any, lines: int) -> None:
    """Make a figure of ours taller by lines that no plan foresaw, which then cost the data no room."""
    figure.set_figheight(figure.get_figheight() + _LINE_INCHES * lines)


def _row(points: float) -> float:
    return 1.32 * points


def left_of(ax: Axes) -> float:
    """Return how many inches the words to the left of an Axes take, from which a layout engine takes them."""
    figure: Any = ax.get_figure()
    names = ax.yaxis.get_tightbbox()
    return 0.0 if names is None else float(max(0.0, ax.bbox.x0 - names.x0) / figure.dpi)
