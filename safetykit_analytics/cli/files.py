"""Tables and plots → files: complete or not there; ``-`` is stdout.

Files hold the tables of the library to the last digit: no rounding, instants in ISO 8601, missing as null or
as an empty cell. Only a name that a spreadsheet would run as a formula is changed in a CSV file.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from safetykit_analytics.atomic_files import atomic_write
from safetykit_analytics.cli.terminal import table_lines
from safetykit_analytics.formatting import csv_cell
from safetykit_analytics.json_tables import records
from safetykit_analytics.spreadsheet import workbook

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from safetykit_analytics.cli.terminal import Loudness


def check_folder(path: Path | None) -> Path | None:
    """Raise before anything is computed if the folder of a file does not exist."""
    if path is not None and not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path


_table_file = partial(typer.Option, metavar="FILE|-", callback=check_folder)
Csv = Annotated[Path | None, _table_file("--csv", help="Write the table as CSV; - to stdout.")]
Json = Annotated[Path | None, _table_file("--json", help="Write the table as JSON records.")]
Parquet = Annotated[Path | None, _table_file("--parquet", help="Write the table as Parquet.")]
Xlsx = Annotated[Path | None, _table_file("--xlsx", help="Write the table for Excel; times are UTC.")]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        callback=check_folder,
        help="Draw the table as .png, .svg or .pdf, by the file's name.",
    ),
]
_ON_A_TERMINAL = 40


class Outputs(NamedTuple):
    """The options of every table: the files that it goes to."""

    csv: Csv = None
    json_file: Json = None
    parquet: Parquet = None
    xlsx: Xlsx = None


def write_table(table: pd.DataFrame, outputs: Outputs, loudness: Loudness) -> bool:
    """Write a table to the files of the options; return whether there was any."""
    given = {kind: path for kind, path in outputs._asdict().items() if path is not None}
    if sum(is_stdout(path) for path in given.values()) > 1:
        raise typer.BadParameter("only one of --csv, --json, --parquet and --xlsx can go to stdout")
    for kind, path in given.items():
        write_bytes(_WRITERS[kind](table), path)
        if not is_stdout(path):
            loudness.note(f"wrote {path} ({len(table):,} rows)")
    return bool(given)


def show_table(rows: list[dict[str, str]], *, right: tuple[str, ...], loudness: Loudness) -> None:
    """Print a table for people; a terminal shows its last rows."""
    hidden = len(rows) - _ON_A_TERMINAL if sys.stdout.isatty() else 0
    for line in table_lines(rows[max(hidden, 0) :], right=right):
        typer.echo(line)
    if hidden > 0:
        loudness.note(f"note: the last {_ON_A_TERMINAL} of {len(rows):,} rows; --csv FILE writes all of them")


def is_stdout(path: Path) -> bool:
    """Return whether a path means stdout."""
    return str(path) == "-"


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file whole or not at all, or to stdout."""
    if is_stdout(path):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def save_plot(figure: Any, path: Path, loudness: Loudness) -> None:
    """Write a picture in the format of the file's name."""
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise typer.BadParameter(
            f"--plot {path}: expected a name that ends in one of .{', .'.join(sorted(known))}"
        )
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
    loudness.note(f"wrote {path}")


def _csv(table: pd.DataFrame) -> bytes:
    safe = {name: table[name].map(csv_cell, na_action="ignore") for name in table.select_dtypes("string")}
    # Before Python 3.13 the csv module quotes only those line ends that it writes itself.
    has_return = any(names.str.contains("\r", regex=False).any() for names in safe.values())
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    written: str = table.assign(**safe).to_csv(None, index=False, quoting=quoting)
    return written.encode()


def _json(table: pd.DataFrame) -> bytes:
    return (json.dumps(records(table), ensure_ascii=False, indent=1) + os.linesep).encode()


def _parquet(table: pd.DataFrame) -> bytes:
    written = io.BytesIO()
    table.to_parquet(written, index=False)
    return written.getvalue()


_WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _csv,
    "json_file": _json,
    "parquet": _parquet,
    "xlsx": lambda table: workbook({"table": table}),
}
