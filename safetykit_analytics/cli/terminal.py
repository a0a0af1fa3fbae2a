"""What is printed: notes on stderr, tables that a person reads on stdout.

Columns and labels are shown as people write them; nothing here computes. Text that came from elsewhere has
its control characters escaped, so that a policy's name cannot move the cursor.
"""

from __future__ import annotations

import math
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

_MISSING = "-"


class Loudness(NamedTuple):
    """How much to say."""

    quiet: bool
    verbose: bool


def say(line: str) -> None:
    """Print a line on stderr: stdout is for results."""
    typer.echo(line, err=True)


def escaped(text: str) -> str:
    """Show control characters, and what reverses or joins text, as escapes."""
    return "".join(
        char if unicodedata.category(char)[0] != "C" else char.encode("unicode_escape").decode()
        for char in text
    )


def bold(text: str) -> str:
    """Make text bold where colours are wanted: on a terminal, unless NO_COLOR is set."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return typer.style(text, bold=True) if wanted else text


def table_lines(rows: Sequence[Mapping[str, str]], *, right: Iterable[str] = ()) -> list[str]:
    """Lay out rows of text in columns, a header above; the columns named in `right` are aligned right."""
    if not rows:
        return []
    names = list(rows[0])
    widths = {name: max(_width(name), *(_width(row[name]) for row in rows)) for name in names}
    right = set(right)

    def line(cells: Mapping[str, str]) -> str:
        padded = []
        for name in names:
            space = " " * (widths[name] - _width(cells[name]))
            padded.append(space + cells[name] if name in right else cells[name] + space)
        return "  ".join(padded).rstrip()

    return [bold(line({name: name for name in names})), *(line(row) for row in rows)]


def percent(share: Any) -> str:
    """Write a fraction as a percentage."""
    return _MISSING if is_missing(share) else f"{share * 100:.2f} %"


def points(difference: Any) -> str:
    """Write a difference of fractions in percentage points."""
    return _MISSING if is_missing(difference) else f"{difference * 100:+.2f} pp"


def points_interval(low: Any, high: Any) -> str:
    """Write an interval of differences of fractions."""
    return _MISSING if is_missing(low) else f"{low * 100:+.2f} to {high * 100:+.2f} pp"


def interval(low: Any, high: Any) -> str:
    """Write an interval of fractions."""
    return _MISSING if is_missing(low) else f"{low * 100:.2f} to {high * 100:.2f} %"


def number(value: Any) -> str:
    """Write a count, or a rate per hour, as a whole number; a small one with a decimal."""
    if is_missing(value):
        return _MISSING
    return f"{value:,.1f}" if abs(value) < 10 and value != round(value) else f"{value:,.0f}"


def label(name: Any) -> str:
    """Write the name of a policy or a version."""
    return "(none)" if is_missing(name) else escaped(str(name))


def instant(at: pd.Timestamp) -> str:
    """Write a time to the minute, as its zone has it."""
    return f"{at:%Y-%m-%d %H:%M}"


def is_missing(value: Any) -> bool:
    """Tell whether a cell is empty: None, NA, NaT or NaN."""
    # pandas' NA equals nothing and has no truth; NaN is the only float that differs from itself.
    return (
        value is None
        or type(value).__name__ in {"NAType", "NaTType"}
        or (isinstance(value, float) and math.isnan(value))
    )


def _width(text: str) -> int:
    """Count the columns that text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
