"""Batch ids from files: lines of text, a column of a CSV file, a column of a Parquet file."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import typer

from safetykit_analytics.errors import UnknownName

_COLUMN = "batch_id"
_QUOTES = "\"'`“”„‘’"  # noqa: RUF001 -- as word processors write them


def read_lines(source: str) -> list[str]:
    """Read the lines of a file of text, or of stdin for ``-``."""
    return _lines(_content(source), source)


def read_ids(source: str, column: str | None) -> list[str]:
    """Read batch ids from a file, or ``-`` for stdin, without blanks and quotes around them.

    Parquet is recognised by its first bytes, CSV by its name or where a column is asked for (default:
    ``batch_id`` or the only one); else one id per line, and ``#`` begins a comment.
    """
    content = _content(source)
    if content[:4] == b"PAR1":
        found = _from_parquet(content, column)
    elif column is not None or source.lower().endswith((".csv", ".tsv")):
        found = _from_csv(_text(content, source), column)
    else:
        found = [line for line in _lines(content, source) if not line.lstrip().startswith("#")]
    return [cleaned for one in found if (cleaned := _cleaned(one))]


def _cleaned(text: str) -> str:
    return text.strip().strip(",;").strip(_QUOTES).strip()


def _from_parquet(content: bytes, column: str | None) -> list[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- most lists are text

    file = pq.ParquetFile(io.BytesIO(content))
    name = _chosen(file.schema_arrow.names, column)
    values = file.read(columns=[name]).column(0).to_pylist()
    return ["" if value is None else str(value) for value in values]


def _from_csv(text: str, column: str | None) -> list[str]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    if not rows:
        return []
    names = [_cleaned(name) for name in rows[0]]
    if column is None and len(names) == 1 and names[0].startswith("batch_") and names[0] != _COLUMN:
        return [row[0] for row in rows if row]  # a list without a header
    at = names.index(_chosen(names, column))
    return [row[at] for row in rows[1:] if len(row) > at]


def _chosen(names: list[str], column: str | None) -> str:
    if column is None and len(names) == 1:
        return names[0]
    wanted = column or _COLUMN
    if wanted not in names:
        raise UnknownName("column", wanted, names, where="the file of ids (--column names it)")
    return wanted


def _content(source: str) -> bytes:
    return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()


def _lines(content: bytes, source: str) -> list[str]:
    # splitlines would also split at characters that JSON may hold.
    return re.split(r"\r\n?|\n", _text(content, source))


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "standard input" if source == "-" else source
        raise typer.BadParameter(
            f"{name} is not text: byte {error.start} is not UTF-8; expected ids as UTF-8 text, CSV or Parquet"
        ) from None
