"""Legends beside or below the data: names drawn literally, as many words as there is room for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from safetykit_analytics.plots.axes import text_size
from safetykit_analytics.plots.text import put, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 0.08  # inches between a legend and what is above or left of it
_AROUND_AXES = 1.3  # inches above and below the data of a figure of ours
_TALLEST = 14.0
# Beside the data only where that leaves most of the width.
_WIDE = 7.5
_BESIDE, _BELOW, _DETAILED = 0.36, 0.34, 0.2
# A legend in a lower place would leave no room for data.
_LOWEST = 1.6
# Letters in a line, size of text, whether details are written.
_FORMS = ((30, 1.0, True), (30, 1.0, False), (24, 0.85, False), (18, 0.7, False), (12, 0.6, False))


@dataclass(frozen=True)
class Entry:
    """One line of the legend: an artist, a name, and what there is to say about it."""

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

    Parameters
    ----------
    ax : Axes
    entries : sequence of Entry
    slot : tuple of float
        Width and height of the place of the Axes and its words, in inches.
    below : bool
        Never to the right.
    may_grow : bool
        The figure is ours and becomes taller if the legend needs it.

    Returns
    -------
    float
        How many inches to the right of the data it takes.
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
        wide, high = _size(_make(ax, entries, form, _below(ax, depth, 1)))
        for columns in range(min(len(entries), max(1, int(slot[0] / (wide + 0.1)))), 0, -1):
            wide, high = _size(_make(ax, entries, form, _below(ax, depth, columns)))
            if wide <= slot[0]:
                break
        if may_grow:
            _grow(ax, high)
        if wide <= slot[0] and (may_grow or high <= (_DETAILED if form[2] else _BELOW) * slot[1]):
            return True
    return False


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
