"""Rows: one line of a picture per version, its name on the left, its numbers in words on the right.

Place in the flow: between `series` and the plots that compare versions instead of following time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.labels import natural_key
from safetykit_analytics.plots.axes import plain, width_inches
from safetykit_analytics.plots.series import MOST_SERIES, POLICY, VERSION, styles_of
from safetykit_analytics.plots.text import LITERAL, put, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from safetykit_analytics.plots.series import Names
    from safetykit_analytics.plots.style import Style

_NAME_CHARACTERS = 26
_ROW_INCHES = 0.52
_ROOM_FOR_A_LINE, _ROOM_FOR_WORDS = 3.6, 5.2  # inches


@dataclass(frozen=True)
class Row:
    """One version's line in a picture."""

    label: str
    style: Style
    data: dict[str, Any]


def rows_of(
    table: pd.DataFrame, names: Names, *, volume: str, most: int = MOST_SERIES
) -> tuple[list[Row], str, int]:
    """Return the rows to draw, what they all share, and how many smaller ones are left out."""
    by = [name for name in (POLICY, VERSION) if name in table]
    records: list[dict[str, Any]] = table.to_dict("records")
    keys = [tuple(None if pd.isna(record[name]) else str(record[name]) for name in by) for record in records]
    largest = sorted(range(len(records)), key=lambda i: -_size(records[i][volume]))[:most]
    drawn = sorted(largest, key=lambda i: (tuple(map(natural_key, keys[i])), i))
    labels, shared, styles = styles_of(by, [keys[i] for i in drawn], names)
    return (
        [Row(labels[keys[i]], styles[keys[i]], records[i]) for i in drawn],
        shared,
        len(records) - len(drawn),
    )


def rows_height(count: int) -> float:
    """Return the height in inches of a picture of so many rows."""
    return 1.7 + _ROW_INCHES * max(1, min(count, MOST_SERIES + 1))


def write_rows(ax: Axes, labels: Sequence[str], words: Sequence[str]) -> None:
    """Write names to the left of the rows, from the top down, and words to their right if there is room."""
    plain(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    names = [wrap(label, width=_NAME_CHARACTERS) for label in labels]
    ax.set_yticks(range(len(labels)), names, **LITERAL)
    ax.tick_params(axis="y", length=0)
    inches = width_inches(ax)
    if inches < _ROOM_FOR_A_LINE:
        return
    for place, said in enumerate(words):
        note = ax.text(
            1.02, place, "", transform=ax.get_yaxis_transform(), va="center", color="0.25", size="small"
        )
        put(note, said if inches >= _ROOM_FOR_WORDS else said.split("\n", maxsplit=1)[0])


def number(value: Any) -> float:
    """Return a cell as a float, NaN where it is missing."""
    return float("nan") if pd.isna(value) else float(value)


def _size(value: Any) -> float:
    return 0.0 if pd.isna(value) else abs(float(value))
