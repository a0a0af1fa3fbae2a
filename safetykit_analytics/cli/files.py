"""Tables and plots → files: complete or not there.

What is written is what the library returned, to the last digit: no rounding, instants in ISO 8601, missing as
null or as an empty cell. Only a name that a spreadsheet would run as a formula is changed in a CSV file.

Place in the flow: below the commands. Imports none of them, and no stage.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetykit_analytics.cli.terminal import say
from safetykit_analytics.records import records
from safetykit_analytics.replacing import replacing
from safetykit_analytics.wording import csv_cell

if TYPE_CHECKING:
    import pandas as pd

Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON records.")]
Parquet = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write the table as Parquet.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it: .png, .svg or .pdf, by the file's name."),
]


def write_table(
    table: pd.DataFrame, *, csv: Path | None, json_file: Path | None, parquet: Path | None, quiet: bool
) -> bool:
    """Write a table to the files that were asked for; say whether there was any."""
    for path, write in ((csv, _write_csv), (json_file, _write_json), (parquet, _write_parquet)):
        if path is not None:
            with replacing(path) as temporary:
                write(table, temporary)
            if not quiet:
                say(f"wrote {path} ({len(table):,} rows)")
    return not csv is json_file is parquet is None


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    safe = {name: table[name].map(csv_cell, na_action="ignore") for name in table.select_dtypes("string")}
    table.assign(**safe).to_csv(path, index=False)


def _write_json(table: pd.DataFrame, path: Path) -> None:
    path.write_text(json.dumps(records(table), ensure_ascii=False, indent=1) + os.linesep, encoding="utf-8")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)
