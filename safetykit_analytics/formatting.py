r"""How names and numbers are written for people: the same in the terminal, in reports, in pictures.

Every stage that writes for people uses it. Only the standard library is imported: ``--help`` stays quick.

A name comes from whoever wrote the policy, so it may hold anything. What people read shows characters that
have no shape, or that would reorder the text around them, as escapes; everything else stays as it is.
Machine-readable formats carry names and numbers unchanged.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What stands where a batch has no policy or no version; as an argument it names them.
NONE = "(none)"

#: Shown where a number is missing.
MISSING = "—"

#: Longer names are cut where they are read.
LONGEST = 60

# Without a shape of their own: controls, format characters (the bidirectional ones among them), line and
# paragraph separators, surrogates, private use, unassigned.
_SHAPELESS = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
# These join letters and emoji; escaping them would change how well-formed text looks.
_JOINERS = {"\u200c", "\u200d"}
_MARKUP = re.compile(r"([\\`*_\[\]|~$@])")
# One slash, too: that is how a URL is mistyped.
_CREDENTIALS = re.compile(r"(\b[a-z0-9+]{2,}:/{1,2})[^/]*@", re.IGNORECASE)
# Fewer hours are written as hours.
_DAYS_FROM = 72
# Python's \s includes no-break spaces; the others have no width.
_FORMULA = re.compile(r"[\t\r\n]|[\s\x00-\x1f\u200b\u2060\ufeff]*[=+\-@＝＋－＠]")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, NA, NaT or NaN."""
    # pandas' NA equals nothing and has no truth; the others are the values that differ from themselves.
    return value is None or type(value).__name__ == "NAType" or bool(value != value)  # noqa: PLR0124


def visible(text: str) -> str:
    """Show what has no shape as an escape."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _SHAPELESS and character not in _JOINERS
        else character
        for character in text
    )


def visible_name(name: Any) -> str:
    """Write the name of a policy, version or batch with all of its characters visible; "(none)" for NA."""
    return NONE if is_missing(name) else visible(str(name))


def place_name(place: str) -> str:
    """Write where a store is without the user and the password that a URL may hold."""
    return _CREDENTIALS.sub(r"\1", place)


def shortened(text: str, *, longest: int = LONGEST) -> str:
    """Cut text that is longer than so many characters, with an ellipsis as the last of them."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number(value: Any) -> str:
    """Write an amount, or a rate per hour, as a whole number, such as ``12,346``; a small one as ``7.2``."""
    if is_missing(value):
        return MISSING
    return f"{value:,.1f}" if abs(value) < 10 and value != round(value) else f"{value:,.0f}"


def plural(count: float, one: str, many: str | None = None) -> str:
    """Write a whole number with its noun, whose plural is to be given where it is irregular."""
    regular = f"{one}es" if one.endswith("ch") else f"{one}s"
    return f"{count:,.0f} {one if round(count) == 1 else many or regular}"


def size_text(count: float) -> str:
    """Write a number of bytes: ``1.2 MB``."""
    if count < 1000:
        return plural(count, "byte")
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} GB"


def listed(words: Sequence[str]) -> str:
    """Write words as a list in a sentence: ``one, two and three``."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def percent(fraction: Any) -> str:
    """Write a fraction in percent, such as ``2.13 %``; a value above zero is never shown as 0 %."""
    return MISSING if is_missing(fraction) else f"{_percent(fraction)} %"


def percent_interval(low: Any, high: Any) -> str:
    """Write an interval of fractions, such as ``1.80 to 2.40 %``."""
    return MISSING if is_missing(low) or is_missing(high) else f"{_percent(low)} to {_percent(high)} %"


def points(difference: Any, *, signed: bool = True) -> str:
    """Write a difference of fractions in percentage points, such as ``−0.03 pp``, with a true minus sign."""
    return MISSING if is_missing(difference) else f"{_points(difference, signed=signed)} pp"


def points_between(before: Any, after: Any) -> str:
    """Write the difference of two fractions as it follows from both as `percent` writes them."""
    if is_missing(before) or is_missing(after):
        return MISSING
    shown = [_rounded(100 * abs(value)) for value in (before, after)]
    digits = max(len(text.partition(".")[2]) for text in shown)
    first, last = (
        float(text) if value >= 0 else -float(text)
        for text, value in zip(shown, (before, after), strict=True)
    )
    size = f"{abs(last - first):.{digits}f}"
    if float(size) == 0:
        return "0 pp"
    return f"{'+' if last > first else '−'}{size} pp"


def points_interval(low: Any, high: Any) -> str:
    """Write an interval of differences of fractions, such as ``−0.10 to +0.40 pp``."""
    return MISSING if is_missing(low) or is_missing(high) else f"{_points(low)} to {_points(high)} pp"


def p_value(p: Any, *, alpha: float = 0.05) -> str:
    """Write a p-value, rounded to its own side of alpha."""
    if is_missing(p):
        return MISSING
    if p < 0.001:
        return "< 0.001"
    digits = 3 if p < 0.1 else 2
    # 0.04996 is below 0.05, and "0.050" would not say so.
    while (float(f"{p:.{digits}f}") < alpha) != (p < alpha) and digits < 12:
        digits += 1
    return f"{p:.{digits}f}"


def hours(value: Any) -> str:
    """Write a number of hours in the unit that reads best: ``40 min``, ``7.5 h``, ``3.2 days``."""
    if is_missing(value):
        return MISSING
    if value < 1:
        return f"{60 * value:.0f} min"
    if value < _DAYS_FROM:
        return f"{value:.1f} h".replace(".0 h", " h")
    return _days(value)


def hours_between(low: Any, high: Any) -> str:
    """Write a range of hours, either end of which may be unknown, such as ``at least 5 h``."""
    if is_missing(low):
        return MISSING if is_missing(high) else f"at most {hours(high)}"
    if is_missing(high):
        return f"at least {hours(low)}"
    # Both ends in one unit, although the low one alone would be hours.
    first, last = (_days(low) if low >= 24 and high >= _DAYS_FROM else hours(low)), hours(high)
    return first if first == last else f"{first} to {last}"


def in_markdown(text: str) -> str:
    """Escape text for Markdown, in a paragraph or a table cell: no markup, HTML, formula or link is left."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", text).replace("://", r"\://").replace("www.", "www&#46;")


def csv_cell(value: object) -> object:
    """Keep a spreadsheet from running a cell: text that looks like a formula gets a leading apostrophe.

    Also behind blanks, and for full-width signs: some spreadsheets read both as formulas.
    """
    if isinstance(value, str) and _FORMULA.match(value):
        return value if _NUMBER.fullmatch(value) else "'" + value
    return value


def _days(value: float) -> str:
    return f"{value / 24:.1f} days".replace(".0 days", " days")


def _percent(fraction: float) -> str:
    shown = _rounded(100 * abs(fraction))
    return f"−{shown}" if fraction < 0 and shown != "0" else shown


def _points(difference: float, *, signed: bool = True) -> str:
    shown = _rounded(100 * abs(difference), least=0.005)
    sign = "" if shown == "0" or not signed else "+" if difference > 0 else "−"
    return sign + shown


def _rounded(size: float, *, least: float = 0.1) -> str:
    """Keep two digits after the point, one from 10 on; below `least` two that count, of six at most."""
    if size >= 10:
        digits = 1
    elif size >= least or size == 0:
        digits = 2
    else:
        digits = min(1 - math.floor(math.log10(size)), 6)
    shown = f"{size:.{digits}f}"
    return f"{size:.0f}" if size == 100 or float(shown) == 0 else shown
