"""What a plot says around its data: limits, title, roll-out labels, legend; alone or as part of a grid.

Place in the flow: between `axes` and the plots. A plot draws its data and returns a `Panel`; whoever holds
the whole picture decides where the words go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetykit_analytics.plots.axes import GREY, axes_or_new, height_inches, no_data, width_inches
from safetykit_analytics.plots.legend import Entry, draw_legend
from safetykit_analytics.plots.series import Names, check_columns, names_in
from safetykit_analytics.plots.text import literal, put, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.text import Text

_ROW = 11.0  # points between rows of roll-out labels
_LONGEST_MARK = 16
_ROOM_FOR_DETAIL = 1.5  # inches
_LINE_INCHES = 0.2


@dataclass(frozen=True)
class Mark:
    """A roll-out: when (date number), what, in which colour."""

    when: float
    name: str
    color: str


@dataclass
class Panel:
    """What one plot has to say about one Axes.

    Where `title` may differ between the panels of a grid, `shared_title` is what holds for all of them, and
    `own_title` what each then adds to its name.
    """

    title: str
    shared_title: str = ""
    own_title: str = ""
    detail: str = ""
    entries: list[Entry] = field(default_factory=list)
    key: list[Entry] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    span: tuple[float, float] | None = None
    extent: tuple[float, float] | None = None
    words_right: bool = False
    is_empty: bool = False


@dataclass(frozen=True)
class Plot:
    """One kind of plot: what it reads, how it draws, what panels of it have in common."""

    what: str
    columns: tuple[str, ...]
    draw: Callable[[pd.DataFrame, Axes, Names], Panel]
    share_y: bool = True
    most_columns: int = 5
    height: Callable[[pd.DataFrame], float] = lambda _: 4.6


def draw_alone(plot: Plot, table: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw a table into the caller's Axes or a new one."""
    check_columns(table, plot.columns, what=plot.what)
    is_ours = ax is None
    ax = axes_or_new(ax, height=plot.height(table))
    panel = plot.draw(table, ax, names_in(table))
    if panel.is_empty:
        no_data(ax)
        ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    set_limits(ax, [panel])
    beyond = write_title(ax, panel.title, panel.detail, rows_above=draw_marks(ax, panel.marks))
    if is_ours:
        grow(ax.get_figure(), beyond)
    draw_legend(ax, [*panel.entries, *panel.key], below=panel.words_right, may_grow=is_ours)
    make_room(ax)
    return ax


def set_limits(ax: Axes, panels: Sequence[Panel]) -> None:
    """Show all that the panels that share these axes hold, zero included."""
    spans = [panel.span for panel in panels if panel.span is not None]
    if spans:
        start, end = min(start for start, _ in spans), max(end for _, end in spans)
        ax.set_xlim(start - (end - start) * 0.01, end + (end - start) * 0.01)
    extents = [panel.extent for panel in panels if panel.extent is not None]
    if extents:
        low, high = min(low for low, _ in extents), max(high for _, high in extents)
        ax.set_ylim(low * 1.06, high * 1.06 if high > low else 1.0)


def draw_marks(ax: Axes, marks: Sequence[Mark]) -> int:
    """Draw roll-outs as vertical lines, labelled above the Axes; a label that would touch goes up a row.

    Returns
    -------
    int
        How many rows of labels there are.
    """
    left, right = ax.get_xlim()
    width = width_inches(ax) * 72
    ends: list[float] = []
    for mark in marks:
        shown = literal(mark.name, longest=_LONGEST_MARK)
        at = (mark.when - left) / (right - left) * width
        half = 2.8 * len(shown) + 3
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row : row + 1] = [at + half]
        ax.axvline(mark.when, color=mark.color, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1.5)
        text = ax.annotate(
            "",
            (mark.when, 1),
            (0, 2 + _ROW * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=mark.color,
            size="small",
        )
        put(text, shown)
    return len(ends)


def write_title(ax: Axes, title: str, detail: str, *, rows_above: int = 0, size: str | None = None) -> int:
    """Put a title and, smaller, what the picture rests on above whatever else stands above the Axes.

    Returns
    -------
    int
        How many lines that takes beyond one each.
    """
    above = _ROW * rows_above + 5
    beyond = 0
    if detail and height_inches(ax) > _ROOM_FOR_DETAIL:
        note = ax.annotate(
            "",
            (0, 1),
            (0, above),
            xycoords="axes fraction",
            textcoords="offset points",
            color=GREY,
            size="small",
        )
        lines = wrap(detail, width=letters_in(_room_above(ax), note))
        put(note, lines)
        beyond = lines.count("\n")
        above += 12 * (1 + beyond) + 1
    name = ax.set_title("", loc="left", pad=above, size=size, weight="bold")
    lines = wrap(title, width=letters_in(_room_above(ax), name))
    put(name, lines)
    return beyond + lines.count("\n")


def grow(figure: Any, lines: int) -> None:
    """Make a figure of ours taller by lines that no plan foresaw, so that they cost the data no room."""
    figure.set_figheight(figure.get_figheight() + _LINE_INCHES * lines)


def _room_above(ax: Axes) -> float:
    """Return how many inches a text may take that begins over the left end of an Axes.

    A layout engine takes the room for long names on the left from the Axes later.
    """
    figure: Any = ax.get_figure()
    names = ax.yaxis.get_tightbbox()
    return width_inches(ax) - (0.0 if names is None else names.width / figure.dpi)


def letters_in(inches: float, text: Text) -> int:
    """Return how many letters of a text go beside each other in so many inches."""
    per_letter = 0.7 if text.get_fontweight() == "bold" else 0.6
    return max(12, int(inches * 72 / (per_letter * float(text.get_fontsize()))))


def make_room(ax: Axes) -> None:
    """Keep what stands beside the data within the place of an Axes, if no layout engine sees to it."""
    figure: Any = ax.get_figure()
    if figure.get_layout_engine() is not None:
        return
    spec = ax.get_subplotspec()
    place = ax.get_position() if spec is None else spec.get_position(figure)
    ax.set_position(place)
    whole = ax.get_tightbbox()
    if whole is None:
        return
    whole = whole.transformed(figure.transFigure.inverted())
    # The slot's own margins hold tick labels and titles of ordinary size; only what exceeds them costs room.
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
