"""How a comparison writes names and numbers for people.

Place in the flow: below `sentences` and `comparison`. Values in, text out.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from typing import Any

import pandas as pd

#: What stands where a batch has no policy or no version; as an argument it names them.
NONE = "(none)"

# No shape of their own: controls, format characters (the bidirectional ones too), separators, surrogates.
_SHAPELESS = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
_MARKUP = re.compile(r"([\\`*_\[\]|~$@])")
# What opens a heading, a list or a quotation at the start of a list item.
_BLOCK = re.compile(r"^(\s*\d*)([#+=.)-])")


def visible(name: Any) -> str:
    r"""Write a name so that all of it can be seen; ``(none)`` for a missing one.

    Examples
    --------
    >>> print(visible("first\nsecond"), visible(None))
    first\nsecond (none)
    """
    if pd.isna(name):
        return NONE
    return "".join(
        character
        if unicodedata.category(character) not in _SHAPELESS
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(name)
    )


def in_html(text: str) -> str:
    """Escape text for HTML, quotes too."""
    return html.escape(text, quote=True)


def in_markdown(text: str) -> str:
    r"""Escape text for a Markdown table cell: no markup, HTML, formula or link is left.

    Examples
    --------
    >>> print(in_markdown("a|b <i>*c*</i> +1.2"))
    a\|b &lt;i&gt;\*c\*&lt;/i&gt; +1.2
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", text).replace("://", r"\://").replace("www.", "www&#46;")


def as_list_item(text: str) -> str:
    r"""Escape text for a Markdown list item, where its first characters could open a heading or a list too.

    Examples
    --------
    >>> print(as_list_item("# v1"), as_list_item("2. v1"))
    - \# v1 - 2\. v1
    """
    return "- " + _BLOCK.sub(r"\1\\\2", in_markdown(text))


def points(about: float, *values: float) -> tuple[str, ...]:
    """Write fractions in percentage points, with as many digits as a thing of the size `about` deserves.

    Examples
    --------
    >>> points(0.009, 0.0123, 0.0034), points(0.00009, 0.000123), points(0.005, 0.005, -0.0003)
    (('1.2', '0.3'), ('0.012',), ('0.50', '-0.03'))
    """
    digits = min(max(1, -math.floor(math.log10(100 * about))), 6) if 0 < about < math.inf else 1
    # An end that is nearly zero must not look as if it were, as its sign is the finding.
    while digits < 6 and any(value and float(f"{100 * value:.{digits}f}") == 0 for value in values):
        digits += 1
    return tuple(f"{100 * value:.{digits}f}" for value in values)


def percent(fraction: float) -> str:
    """Write a fraction in percent with three digits or more.

    Examples
    --------
    >>> percent(0.0234), percent(0.5), percent(0.00012), percent(1.0), percent(0.0)
    ('2.34 %', '50.0 %', '0.0120 %', '100 %', '0 %')
    """
    if fraction in {0.0, 1.0}:
        return f"{100 * fraction:.0f} %"
    return f"{100 * fraction:.{min(max(1, 2 - math.floor(math.log10(100 * fraction))), 6)}f} %"


def probability(p: float, alpha: float) -> str:
    """Write a p-value so that it stays on its side of alpha.

    Examples
    --------
    >>> probability(0.0123, 0.05), probability(0.66, 0.05), probability(0.04996, 0.05)
    ('p = 0.012', 'p = 0.66', 'p = 0.04996')
    >>> probability(1e-9, 0.05)
    'p < 0.001'
    """
    if p < 0.001:
        return "p < 0.001"
    digits = 3 if p < 0.1 else 2
    # 0.04996 is below 0.05, and "0.050" would not say so.
    while (float(f"{p:.{digits}f}") < alpha) != (p < alpha) and digits < 12:
        digits += 1
    return f"p = {p:.{digits}f}"


def plural(count: int, one: str, many: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {one if count == 1 else many}"


def duration(low: Any, high: Any) -> str:
    """Write the bracket of a duration; ``> x`` where its upper end is not reached.

    Examples
    --------
    >>> duration(pd.Timedelta(minutes=90), pd.Timedelta(hours=2)), duration(pd.Timedelta(days=3), pd.NaT)
    ('1.5 h to 2 h', '> 72 h')
    """
    if pd.isna(low):
        return "not reached"
    if pd.isna(high):
        return f"> {_hours(low)}"
    return _hours(high) if low == high else f"{_hours(low)} to {_hours(high)}"


def _hours(value: pd.Timedelta) -> str:
    return f"{value / pd.Timedelta(hours=1):.3g} h"
