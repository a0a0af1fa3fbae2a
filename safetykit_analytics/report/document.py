"""What a report consists of, whatever it is written as: paragraphs, lists, tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safetykit_analytics.report.text import Name, Sentence

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
    """A table whose first column names its rows.

    `numeric` says for each column whether it holds numbers, which are set flush right.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    kind: Literal["table"] = "table"


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
