"""Colour, marker and line style of policies and versions, the same in every picture.

There are ten styles. The tests measure that readers with deuteranopia, protanopia and tritanopia can tell
their colours apart; where two come close, marker and line style differ. A style follows from the name: v7
has style 7, whichever versions stand beside it. No marker points anywhere, as on an axis of differences a
triangle would read as a direction.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safetykit_analytics.labels import natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style of one series."""

    color: str
    marker: Any
    linestyle: Any


_LONG_DASH = (0, (9, 2))
_DASH_DOT_DOT = (0, (6, 1.5, 1.2, 1.5, 1.2, 1.5))
# Dotted is not among the line styles: it means "hardly observed".
STYLES = (
    Style("#661100", "h", _DASH_DOT_DOT),
    Style("#0072B2", "o", "-"),
    Style("#D55E00", "s", "--"),
    Style("#56B4E9", "*", "-."),
    Style("#AA3377", "D", _LONG_DASH),
    Style("#117733", "8", _DASH_DOT_DOT),
    Style("#999933", "P", "-"),
    Style("#332288", "X", "--"),
    Style("#009E73", (4, 1, 45), "-."),
    Style("#E69F00", "H", _LONG_DASH),
)
NONE_STYLE = Style("#404040", "d", "-")
OTHER_STYLE = Style("#A8A8A8", "p", "-")
ALARM = "#D0021B"


def assign(names: Iterable[str | None]) -> dict[str | None, Style]:
    """Return a style for each of up to ten names, and the one of None (no name).

    Parameters
    ----------
    names : iterable of str or None
        At most ten names beside None.

    Returns
    -------
    dict
        A name that ends in a number has the style of that number, any other one a style of its letters. Where
        two want the same, the earlier in natural order has it and the other the next that is free.
    """
    ordered = sorted({name for name in names if name is not None}, key=natural_key)
    taken: dict[int, str] = {}
    waiting = [name for name in ordered if taken.setdefault(_wanted(name), name) != name]
    for name in waiting:
        slot = next(
            slot % len(STYLES)
            for slot in range(_wanted(name), _wanted(name) + len(STYLES))
            if slot % len(STYLES) not in taken
        )
        taken[slot] = name
    return {None: NONE_STYLE} | {name: STYLES[slot] for slot, name in taken.items()}


def wanted(name: str | None) -> Style:
    """Return the style of one name, whether or not another name has the same."""
    return NONE_STYLE if name is None else STYLES[_wanted(name)]


def crossed(first: Style, last: Style) -> Style:
    """Return the style of a version of one of several policies: the policy's colour, the version's shape."""
    return replace(last, color=first.color)


def _wanted(name: str) -> int:
    numbers = re.findall(r"[0-9]+", name)
    number = int(numbers[-1][-9:]) if numbers else zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return number % len(STYLES)
