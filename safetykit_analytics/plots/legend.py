"""Legends beside the data: names drawn literally, and as many words as there is room for.

Place in the flow: below `panel` and `grid`. Knows entries, not tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from matplotlib.transforms import ScaledTranslation

from safetykit_analytics.plots.text import put, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BELOW_AXIS = 0.55  # inches that tick labels and an axis label take
_AROUND_AXES = 1.3  # inches above and below the data of a figure of ours
_TALLEST = 14.0


@dataclass(frozen=True)
class Entry:
    """One line of the legend: an artist, a name, and what there is to say about it."""

    handle: Artist
    label: str
    detail: str = ""
    is_other: bool = False


# Characters per line, letters: what does not fit says less, then says it in smaller letters.
_FORMS: tuple[tuple[int, str | float], ...] = ((30, "small"), (24, "small"), (18, "small"), (18, 5.5))


def draw_legend(ax: Axes, entries: Sequence[Entry], *, below: bool = False, may_grow: bool = False) -> None:
    """Put a legend to the right of the data, or below it where words stand on the right; never on it.

    Parameters
    ----------
    ax : Axes
    entries : sequence of Entry
    below : bool
        Below the x axis, in two columns.
    may_grow : bool
        The figure is ours and becomes taller if the legend needs it.
    """
    if not entries:
        return
    figure: Any = ax.get_figure()
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    if below:
        lower = ax.transAxes + ScaledTranslation(0.0, -_BELOW_AXIS, figure.dpi_scale_trans)
        place |= {"bbox_to_anchor": (0.0, 0.0), "bbox_transform": lower, "ncols": 2}
    spec = ax.get_subplotspec()
    slot = ax.get_position() if spec is None else spec.get_position(figure)
    made = None
    for characters, size in _FORMS:
        # Details only in the first form, which has room for them.
        made = _make(ax, entries if made is None else _brief(entries), characters, size, place)
        extent = made.get_window_extent()
        if may_grow:
            needed = extent.height / figure.dpi + _AROUND_AXES
            figure.set_figheight(min(_TALLEST, max(figure.get_figheight(), needed)))
        wide, high = slot.width * figure.bbox.width, slot.height * figure.bbox.height
        if extent.width <= wide * (1.1 if below else 0.5) and extent.height <= high * (
            0.4 if below else 1.15
        ):
            return
    # Nothing helped. A layout engine would give the legend all the room and warn that none is left for data.
    if made is not None:
        made.set_in_layout(False)


def draw_shared_legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Put one legend to the right of all panels; the figure, ours, becomes taller if the legend needs it."""
    if not entries:
        return
    made = _make(figure, entries, *_FORMS[0], {"loc": "outside right upper"})
    figure.set_figheight(max(figure.get_figheight(), made.get_window_extent().height / figure.dpi + 0.2))


def _brief(entries: Sequence[Entry]) -> list[Entry]:
    return [replace(entry, detail="") for entry in entries]


def _make(
    owner: Any, entries: Sequence[Entry], characters: int, size: str | float, place: dict[str, Any]
) -> Any:
    # matplotlib leaves labels that begin with "_" out, so the words come afterwards.
    made = owner.legend(
        [entry.handle for entry in entries],
        [" "] * len(entries),
        **place,
        frameon=False,
        fontsize=size,
        handlelength=3.2,
        labelspacing=0.8 if any(entry.detail for entry in entries) else 0.5,
    )
    for text, entry in zip(made.get_texts(), entries, strict=True):
        lines = [wrap(entry.label, width=characters)]
        if entry.detail:
            lines.append(entry.detail)
        put(text, "\n".join(lines))
    return made
