r"""Text in pictures, drawn as it is, and pictures in words.

A policy may be called ``$x$``, ``_hidden``, ``line\nbreak`` or 2,000 emoji. matplotlib would read the first
as a formula, leave the second out of legends, break the third and warn about the glyphs of the fourth.
Characters that the font lacks are drawn with another installed font, else as □.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font, weight_dict

from safetykit_analytics.formatting import LONGEST, number, percent, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.font_manager import FontEntry
    from matplotlib.text import Text

# Properties of every text that holds a name.
LITERAL = {"parse_math": False, "usetex": False}
_WIDE = "MWmw@%"
_BOX = "\u25a1"
# Symbols at the places of letters, bitmaps that matplotlib cannot scale, boxes for every character there is.
_UNFIT = (
    "cm", "STIXSize", "STIXNonUni", "Noto Color Emoji", "Apple Color Emoji", "Last Resort", ".Last",
    "Webdings", "Wingdings", "Symbol",
)  # fmt: skip


def literal(text: str, *, longest: int = LONGEST) -> str:
    r"""Return a name from the data as it is drawn; one longer than `longest` characters ends in ``…``.

    Invisible characters are escaped as Python would write them (``\n``, ``\u202e``), and those that no
    installed font has are □.
    """
    glyphs = _glyphs(FontProperties())
    shown: list[str] = []
    length = 0
    for character in text:
        piece = _piece(character, glyphs)
        shown.append(piece)
        length += len(piece)
        if length > longest:
            break
    else:
        return "".join(shown)
    ellipsis = _piece("…", glyphs)
    while length > longest - len(ellipsis):
        length -= len(shown.pop())
    return "".join(shown) + ellipsis


def put(artist: Text, text: str) -> None:
    """Set the text of an artist to exactly `text`, which neither mathtext nor TeX reads."""
    artist.set(**LITERAL)
    font = artist.get_fontproperties()
    glyphs = _glyphs(font)
    # Our own line breaks stay; names have none left after `literal`.
    shown = "\n".join("".join(_piece(c, glyphs) for c in line) for line in text.split("\n"))
    borrowed = {
        _elsewhere()[ord(c)] for c in shown if c != "\n" and ord(c) not in glyphs and ord(c) in _elsewhere()
    }
    if borrowed:
        artist.set_fontfamily([*font.get_family(), *sorted(borrowed)])
    artist.set_text(shown)


def wrap(text: str, *, width: int) -> str:
    r"""Return a drawn text in lines as wide as `width` letters, dropping only spaces at the breaks.

    >>> wrap("spam and scams in marketplace listings", width=24)
    'spam and scams in\nmarketplace listings'

    Breaks that are there stay.
    """
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    lines: list[str] = []
    for word in line.split(" "):
        if lines and _width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for character in word:
            if lines[-1] and _width(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return "\n".join(lines) or line


def _width(text: str) -> float:
    """Return about how wide a text is, in the letters that most names are made of."""
    return sum(1.75 if ord(c) > 0x2500 or c in _WIDE else 1.2 if c.isupper() else 1.0 for c in text)


def _piece(character: str, glyphs: frozenset[int]) -> str:
    # Whether private and unassigned characters have a shape is for the font to say.
    if unicodedata.category(character) not in {"Cs", "Co", "Cn"} and visible(character) != character:
        return visible(character)
    if ord(character) in glyphs or ord(character) in _elsewhere():
        return character
    return _BOX if ord(_BOX) in glyphs else "?"


def _glyphs(font: FontProperties) -> frozenset[int]:
    """Return the characters that a font and its fallbacks can draw."""
    found: frozenset[int] = frozenset()
    for family in font.get_family():
        alone = font.copy()
        alone.set_family(family)
        try:
            found |= _charmap(findfont(alone, fallback_to_default=False))
        except ValueError:  # not installed: matplotlib draws with the next of the list
            continue
    return found or _charmap(findfont(font))


@functools.cache
def _elsewhere() -> dict[int, str]:
    """Return a family for each character that an installed font can draw; read when one is missing."""
    found: dict[int, str] = {}
    families: dict[str, list[FontEntry]] = {}
    for font in sorted(fontManager.ttflist, key=lambda font: font.fname):
        if font.style == "normal" and not font.name.startswith(_UNFIT):
            families.setdefault(font.name, []).append(font)
    # Sans first, as most names stand among sans-serif letters.
    for name in sorted(families, key=lambda name: ("Sans" not in name, name)):
        # A bold face may lack what the regular one has, and titles are bold.
        faces = {min(families[name], key=functools.partial(_distance, weight)).fname for weight in (400, 700)}
        try:
            characters = frozenset.intersection(*map(_charmap, faces))
        except (OSError, RuntimeError):  # removed since, or a format that FreeType cannot read
            continue
        found = dict.fromkeys(characters, name) | found
    return found


def _distance(weight: int, font: FontEntry) -> int:
    found = weight_dict[font.weight] if isinstance(font.weight, str) else font.weight
    return abs(found - weight)


@functools.lru_cache(maxsize=16)
def _charmap(path: str) -> frozenset[int]:
    return frozenset(get_font(path).get_charmap())


def alt_text(figure: Figure | Axes) -> str:
    """Describe a picture in words, for the ``alt`` attribute of an image.

    .. versionadded:: 0.2.0

    Parameters
    ----------
    figure : matplotlib Figure or Axes
        What a ``plot_`` function returned, or a figure with such plots.

    Returns
    -------
    str
        One line. Of each panel: its title, the time from first to last tick label of the axis, and of each
        line the lowest, the highest and the last value; or of each row the words that belong to it, whether
        or not there was room for them.

    Raises
    ------
    TypeError
        Neither a Figure nor an Axes.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> store = ska.SnapshotStore("snapshots")
    >>> axes = ska.plot_error_rate(ska.rates(store, freq="1D"))
    >>> words = ska.alt_text(axes)
    """
    if isinstance(figure, Axes):
        return " ".join(_sentences(figure))
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: expected a matplotlib Figure or Axes, found {type(figure).__name__}")
    head = [_one_line(figure.get_suptitle())] if figure.get_suptitle() else []
    said = [f"{part}." for part in head]
    for ax in figure.axes:
        said += _sentences(ax)
    return " ".join(said)


def _sentences(ax: Axes) -> Iterator[str]:
    """Yield the sentences on one panel."""
    root: Any = ax.get_figure(root=True)
    title = _one_line(ax.get_title(loc="left"))
    if any(text.get_text() == "no data" for text in ax.texts):
        yield f"{title}: no data."
        return
    names = [_one_line(text.get_text()) for text in ax.get_yticklabels()]
    words = {
        int(text.get_position()[1]): _one_line(text.get_text(), "; ")
        for text in ax.texts
        if text.get_transform() == ax.get_yaxis_transform()
    }
    unit = _one_line(ax.get_ylabel() or root.get_supylabel())
    across = _one_line(ax.get_xlabel() or root.get_supxlabel())
    yield f"{title}. {'; '.join(part for part in (unit, across) if part)}."
    if words:
        yield " ".join(f"{name}: {words[place]}." for place, name in enumerate(names) if place in words)
        return
    is_share = str(ax.yaxis.get_major_formatter()(0.5)).endswith("%")
    write = percent if is_share else number
    lines: dict[str, list[Any]] = {}
    for line in ax.get_lines():
        if not str(line.get_label()).startswith("_child"):
            lines.setdefault(str(line.get_label()), []).append(np.asarray(line.get_ydata(), dtype=float))
    for name, arrays in lines.items():
        values = np.concatenate(arrays)
        values = values[np.isfinite(values)]
        if name == "out of control":
            yield f"{len(values):,} out of control."
        elif len(values):
            low, high, last = (write(float(value)) for value in (values.min(), values.max(), values[-1]))
            yield f"{name}: {low} to {high}, at the end {last}."
    if not lines and (legend := ax.get_legend()):
        yield "; ".join(_one_line(text.get_text()) for text in legend.get_texts()) + "."


def _one_line(text: str, separator: str = " ") -> str:
    return separator.join(part.strip() for part in text.split("\n") if part.strip())
