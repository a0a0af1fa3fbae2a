"""Rows: one line of a picture per group, its name on the left, its numbers in words on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.plots.axes import has_neighbours, plain, room, text_size
from safetykit_analytics.plots.series import (
    MOST_SERIES,
    NONE_STYLE,
    Style,
    in_order,
    keys_of,
    styles_of,
    wanted,
)
from safetykit_analytics.plots.text import LITERAL, put, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Key, Names

_NAME_CHARACTERS = 26
_ROW_INCHES, _LOWEST_ROW = 0.52, 0.34
_LOWEST_PICTURE = 2.7  # inches: with room for the line below the title
_AROUND_ROWS = 1.7  # inches of title, axis and legend
_BESIDE_OTHERS = 0.75
_LEAST_FOR_DATA = 0.28
# Open, as a filled triangle is a marker of nothing and points all the same.
_CHEVRONS = {"left": [(1.0, 1.0), (0.0, 0.0), (1.0, -1.0)], "right": [(-1.0, 1.0), (0.0, 0.0), (-1.0, -1.0)]}


@dataclass(frozen=True)
class Row:
    """One line of a picture."""

    label: str
    key: Key
    color: str
    data: dict[str, Any]


def rows_of(
    table: pd.DataFrame, names: Names, ax: Axes, *, rank: Callable[[dict[str, Any]], tuple[float, ...]]
) -> tuple[list[Row], str, list[dict[str, Any]]]:
    """Return the rows to draw, the label that they share, and the records for which there is no room.

    Those of the lowest rank are drawn, as many as the place of the Axes holds, in natural order. A row has
    the colour of its version in every other picture, as its name stands beside it.
    """
    records: list[dict[str, Any]] = table.to_dict("records")
    keys = keys_of(table, names)
    fit = max(1, int(_rows_inches(ax) / _LOWEST_ROW))
    order = sorted(range(len(records)), key=lambda i: rank(records[i]))
    places = {key: place for place, key in enumerate(in_order(keys))}
    drawn = sorted(order[:fit], key=lambda i: (places[keys[i]], i))
    labels, shared, styles = _looks([keys[i] for i in drawn], names)
    return (
        [Row(labels[keys[i]], keys[i], styles[keys[i]].color, records[i]) for i in drawn],
        shared,
        [records[i] for i in order[fit:]],
    )


def rows_height(count: int, *, most: int = MOST_SERIES + 1) -> float:
    """Return the height in inches of a picture of so many rows."""
    return max(_LOWEST_PICTURE, _AROUND_ROWS + _ROW_INCHES * min(count, most))


def write_rows(ax: Axes, labels: Sequence[str], words: Sequence[str]) -> None:
    """Write names to the left of the rows, from the top down, and words to their right.

    Words that have no room are there but invisible, for those who cannot see the picture.
    """
    ax.grid(visible=False)
    plain(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    width, points = room(ax)[0], text_size(ax, small=True)
    # Of text of matplotlib's own size.
    lines = (_rows_inches(ax) + 0.1) / len(labels) * 72 / 1.25
    ax.set_yticks(
        range(len(labels)),
        [_first_lines(wrap(label, width=_NAME_CHARACTERS), int(lines / 10.0)) for label in labels],
        **LITERAL,
    )
    for text in ax.get_yticklabels():
        put(text, text.get_text())
    ax.tick_params(axis="y", length=0)
    notes = []
    for place, said in enumerate(words):
        note = ax.text(
            1.02, place, "", transform=ax.get_yaxis_transform(), va="center", color="0.25", size=points
        )
        put(note, _first_lines(said, int(lines / 8.33)))
        notes.append(note)
    figure: Any = ax.get_figure(root=True)
    widest = [
        max((text.get_window_extent().width / figure.dpi for text in texts), default=0.0)
        for texts in (notes, ax.get_yticklabels())
    ]
    for note in notes:
        note.set_visible(width - sum(widest) > _LEAST_FOR_DATA * width)


def mark_open_end(ax: Axes, x: float, y: float, side: str, color: str) -> None:
    """Draw the end of an interval that goes on beyond the picture."""
    ax.plot(
        [x], [y], marker=_CHEVRONS[side], markersize=8, markeredgewidth=1.6, markerfacecolor="none",
        linestyle="none", color=color, zorder=3,
    )  # fmt: skip


def number(value: Any) -> float:
    """Return a cell as a float, NaN where it is missing."""
    return float("nan") if pd.isna(value) else float(value)


def _rows_inches(ax: Axes) -> float:
    """Return the height that title, axis and legend leave to rows, in inches of text of ordinary size."""
    height = (room(ax)[1] + 0.2) * 10.0 / text_size(ax)
    # A layout engine gives all panels beside each other the height that the largest legend leaves.
    return (_BESIDE_OTHERS if has_neighbours(ax) else 1.0) * height - _AROUND_ROWS


def _first_lines(text: str, most: int) -> str:
    """Return a text in as many lines as a row has."""
    return "\n".join(text.split("\n")[: max(1, most)])


def _looks(keys: list[Key], names: Names) -> tuple[dict[Key, str], str, dict[Key, Style]]:
    labels, shared, _ = styles_of(keys[:MOST_SERIES], names)
    for start in range(MOST_SERIES, len(keys), MOST_SERIES):
        labels |= styles_of(keys[start : start + MOST_SERIES], names)[0]
    return labels, shared, {key: wanted(key[-1]) if key else NONE_STYLE for key in keys}
