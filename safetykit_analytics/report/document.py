"""A report as a document, for every format: sentences, tables and pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from safetykit_analytics.formatting import NONE, is_missing, shortened, visible

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping


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


def named(value: Any) -> Name:
    """Make a name of a table's cell."""
    return Name(None if is_missing(value) else str(value))


@dataclass(frozen=True)
class Code:
    """A line of Python, which is never cut."""

    value: str

    def __str__(self) -> str:
        return self.value

    @property
    def short(self) -> str:
        """The whole line, with shapeless characters as escapes."""
        return visible(self.value)


#: A sentence whose names are still names, so that each format can write them in its own safe way.
Sentence = tuple["str | Name | Code", ...]


def plain(sentence: Sentence) -> str:
    """Write a sentence as unformatted text; names unchanged."""
    return "".join(map(str, sentence))


def written(sentence: Sentence, words: Callable[[str], str], span: Callable[[str], str]) -> str:
    """Write a sentence: its words by one function, what names and code show by another."""
    return "".join(words(part) if isinstance(part, str) else span(part.short) for part in sentence)


def readable(sentence: Sentence) -> str:
    """Return a sentence as plain text to read, its names in quotation marks."""
    return "".join(f"“{part.short}”" if isinstance(part, Name) else visible(str(part)) for part in sentence)


def cut(sentence: Sentence, longest: int) -> Sentence:
    """Return a sentence of at most so many shown characters; one that is cut ends in an ellipsis."""
    kept: list[str | Name | Code] = []
    left = longest
    for part in sentence:
        shown = part.short if isinstance(part, Name) else str(part)
        if len(shown) > left:
            kept.append(shortened(part, longest=left) if isinstance(part, str) and left > 0 else "…")
            return tuple(kept)
        kept.append(part)
        left -= len(shown)
    return sentence


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """Write text as a Markdown code span, in which nothing has a meaning.

    A code span needs a fence that is longer than any run of backticks in it; only a table's cells still read
    ``|``, which is escaped there.
    """
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text[:1] in {"`", " "} or text[-1:] in {"`", " "} else ""
    inside = text.replace("|", "\\|") if in_table else text
    return f"{fence}{padding}{inside}{padding}{fence}"


def instant(value: dt.datetime, zone: dt.tzinfo) -> str:
    """Write an instant on the local clock, with its offset: ``Mon 16 Nov 2026, 00:00 +01:00``."""
    local = value.astimezone(zone)
    offset = local.strftime("%z")
    shown = "UTC" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}"
    return f"{day(value, zone)}, {local:%H:%M} {shown}"


def day(value: dt.datetime, zone: dt.tzinfo) -> str:
    """Write the local day of an instant: ``Mon 16 Nov 2026``."""
    local = value.astimezone(zone)
    # strftime's names follow the machine's locale; a report must not.
    name = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.weekday()]
    return f"{name} {local.day} {_MONTHS[local.month - 1]} {local.year}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


#: What stands in a cell: words or a formatted number, or a name that each format writes in its own safe way.
Cell = str | Name


@dataclass(frozen=True)
class Paragraph:
    """One or more sentences."""

    sentence: Sentence
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[Sentence, ...]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; `numeric` columns hold numbers and are set flush right."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    kind: Literal["table"] = "table"


def table_of(
    caption: str, rows: Iterable[Any], columns: Mapping[str, Callable[[Any], Cell]], *, numeric: range
) -> Table:
    """Make a table of one row per element of `rows`; `numeric` are the places of its columns of numbers."""
    cells = tuple(tuple(write(row) for write in columns.values()) for row in rows)
    return Table(caption, tuple(columns), cells, tuple(place in numeric for place in range(len(columns))))


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with the words that say the same to those who cannot see it."""

    source: str
    width: int
    height: int
    alt: Sentence
    caption: Sentence


@dataclass(frozen=True)
class Pictures:
    """Pictures that stand beside each other where there is room."""

    items: tuple[Picture, ...]
    kind: Literal["pictures"] = "pictures"


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; `anchor` is its id within the page."""

    title: str
    anchor: str
    blocks: tuple[Paragraph | Bullets | Table | Pictures, ...]


@dataclass(frozen=True)
class Tile:
    """One key number: its label, its value, and how it compares with the week before."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    warnings: tuple[Sentence, ...]
    headlines: tuple[Sentence, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    methods: tuple[str, ...]
    provenance: tuple[tuple[str, Sentence], ...]
    long_names: tuple[Name, ...]
