"""Printing: notes on stderr, tables for people on stdout."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd


class Loudness(NamedTuple):
    """How much to print."""

    quiet: bool
    verbose: bool

    def note(self, line: str) -> None:
        """Print a line on stderr unless ``--quiet`` was given."""
        if not self.quiet:
            say(line)


def say(line: str) -> None:
    """Print a line on stderr, if that is neither closed nor full: stdout is for results."""
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


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


def instant(at: pd.Timestamp) -> str:
    """Write a time to the minute, as its zone has it."""
    return f"{at:%Y-%m-%d %H:%M}"


def _width(text: str) -> int:
    """Count the columns that text takes on a terminal."""
    return sum(
        0
        if unicodedata.combining(char) or unicodedata.category(char) == "Cf"
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )
