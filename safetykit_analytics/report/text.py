"""How a report writes names, numbers and times: as data, for people, in HTML, Markdown and CSV.

Place in the flow: below `rendering` and `headlines`. Strings in, strings out; knows no table and no template.

A name comes from whoever wrote the policy, so it may hold anything. What people read shows characters
that have no shape, or that would reorder the text around them, as escapes; everything else stays as it
is. Machine-readable formats carry the name unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

#: Longer names are cut where they are read, and listed whole at the end of the report.
LONGEST = 60

#: What stands where a batch has no policy or no version.
NONE = "(none)"

#: Unicode categories without a shape of their own: controls, format characters (the bidi ones among
#: them), line and paragraph separators, surrogates, private use and unassigned.
_SHAPELESS = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: These join letters and emoji; escaping them would change how well-formed text looks.
_JOINERS = {"\u200c", "\u200d"}


@dataclass(frozen=True)
class Name:
    """A policy, version or batch, as the data has it; ``None`` where there is none."""

    value: str | None

    def __str__(self) -> str:
        return NONE if self.value is None else self.value

    @property
    def visible(self) -> str:
        """The whole name, with shapeless characters as escapes."""
        return visible(str(self))

    @property
    def short(self) -> str:
        """The visible name, cut with an ellipsis after 60 characters."""
        return shortened(self.visible)


@dataclass(frozen=True)
class Code:
    """A line of Python, which is never cut."""

    value: str

    def __str__(self) -> str:
        return self.value


#: A sentence whose names are still names, so that each format can write them in its own safe way.
Sentence = tuple["str | Name | Code", ...]


def plain(sentence: Sentence) -> str:
    """Write a sentence as unformatted text; names unchanged."""
    return "".join(map(str, sentence))


def visible(text: str) -> str:
    r"""Show what has no shape as an escape.

    Examples
    --------
    >>> print(visible("first\nsecond\u202e"))
    first\nsecond\u202e
    """
    return "".join(
        character
        if unicodedata.category(character) not in _SHAPELESS or character in _JOINERS
        else _SHORT_ESCAPES.get(character) or _escape(ord(character))
        for character in text
    )


def _escape(code: int) -> str:
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


def shortened(text: str) -> str:
    """Cut text after 60 characters, with an ellipsis as the last of them."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """Write text as a Markdown code span, in which nothing has a meaning.

    A code span needs a fence that is longer than any run of backticks in it; only a table's cells still read
    ``|``, which is escaped there.

    Examples
    --------
    >>> print(markdown_code("a`b"))
    ``a`b``
    """
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text[:1] in {"`", " "} or text[-1:] in {"`", " "} else ""
    inside = text.replace("|", "\\|") if in_table else text
    return f"{fence}{padding}{inside}{padding}{fence}"


def markdown_text(text: str) -> str:
    """Escape text that stands outside a code span: every character that Markdown may read as its own.

    Brackets and exclamation marks need no care once no ``[`` is left, nor do colons in words of our own.
    """
    return re.sub(r"([\\`*_\[\]<>#|~$&@])", r"\\\1", visible(text))


def csv_cell(value: object) -> object:
    """Keep a spreadsheet from running a cell: text that looks like a formula gets a leading apostrophe.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _is_missing(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 -- NaN and NaT are the values unequal to themselves


def count(value: float | None) -> str:
    """Write a number of decisions or batches: ``12,345``; an em dash where there is none."""
    return "—" if _is_missing(value) else f"{round(value or 0):,}"


def percent(value: float | None) -> str:
    """Write a fraction as ``2.13 %``; two significant places below 1 %, and never 0 % of something."""
    if value is None or _is_missing(value):
        return "—"
    if value == 0 or abs(value) >= 0.1:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.2f} %" if abs(value) >= 0.001 else f"{100 * value:.2g} %"


def points(value: float | None) -> str:
    """Write a difference of fractions as ``+0.42 pp``, with a real minus sign."""
    if value is None or _is_missing(value):
        return "—"
    digits = 1 if abs(value) >= 0.1 else 2
    text = f"{100 * value:+.{digits}f}"
    return ("0.00" if float(text) == 0 else text.replace("-", "−")) + " pp"


def percent_range(low: float | None, high: float | None) -> str:
    """Write an interval of fractions: ``1.80 % to 2.40 %``."""
    return "—" if _is_missing(low) or _is_missing(high) else f"{percent(low)} to {percent(high)}"


def points_range(low: float | None, high: float | None) -> str:
    """Write an interval of differences: ``−0.10 to +0.40 pp``."""
    if _is_missing(low) or _is_missing(high):
        return "—"
    return f"{points(low).removesuffix(' pp')} to {points(high)}"


def p_value(value: float | None) -> str:
    """Write a p value: ``p = 0.012``, ``p < 0.001``."""
    if value is None or _is_missing(value):
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def hours(value: float | None) -> str:
    """Write a number of hours, in the unit that reads best: ``40 min``, ``7.5 h``, ``3.2 days``."""
    if value is None or _is_missing(value):
        return "—"
    if value < 1:
        return f"{60 * value:.0f} min"
    if value < 72:
        return f"{value:.1f} h".replace(".0 h", " h")
    return f"{value / 24:.1f} days".replace(".0 days", " days")


def hours_between(low: float | None, high: float | None) -> str:
    """Write a range of hours: ``5 h to 7.5 h``, ``at least 5 h`` where there is no upper end."""
    if _is_missing(low):
        return "—" if _is_missing(high) else f"at most {hours(high)}"
    if _is_missing(high):
        return f"at least {hours(low)}"
    first, last = hours(low), hours(high)
    return first if first == last else f"{first} to {last}"


def instant(value: dt.datetime | None, zone: dt.tzinfo) -> str:
    """Write an instant on the local clock, with its offset: ``Mon 16 Nov 2026, 00:00 +01:00``."""
    if value is None or _is_missing(value):
        return "—"
    local = value.astimezone(zone)
    # strftime's names follow the machine's locale; a report must not.
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.weekday()]
    offset = local.strftime("%z")
    shown = "UTC" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}"
    return f"{day} {local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M} {shown}"


def day(value: dt.date) -> str:
    """Write a day: ``16 Nov 2026``."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def plural(number: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: ``1 batch``, ``1,204 batches``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Write words as a list in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
