"""Tables → an Excel workbook."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

from safetykit_analytics.formatting import is_missing
from safetykit_analytics.json_tables import json_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

# What XML cannot hold.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Excel reads "_x0041_" as "A".
_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_MOST_ROWS = 1_048_576
_LONGEST = 32_767
_INSTANT, _SHARE, _COUNT, _NUMBER, _HOURS = "yyyy-mm-dd hh:mm:ss", "0.00%", "#,##0", "#,##0.00", "#,##0.0"
_SHARES = re.compile(
    r"(_rate|_share|coverage|overlap|difference|_change|mde|center|_limit)(_low|_high|_raw|_before)?$"
)
_UNITS = {"M": " (UTC)", "m": " (hours)"}
_CLOCK = re.compile(rb"<dcterms:(created|modified)[^>]*>[^<]*</dcterms:\1>")


def workbook(tables: Mapping[str, pd.DataFrame], *, about: Sequence[str] = ()) -> bytes:
    """Return an Excel workbook without formulas, with a sheet for each table, the same for the same tables.

    Names of sheets have at most 31 characters; lines `about` make a first sheet. Excel knows no time zones:
    instants are UTC without one, and durations are hours; the headings of both say so. Missing values are
    empty, characters that Excel cannot hold become U+FFFD. Raises ValueError for more rows than a sheet has.
    """
    try:
        from openpyxl import Workbook  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        hint = "pip install 'safetykit-analytics[excel]'"
        raise ModuleNotFoundError(f"{error.name} is not installed: {hint}", name=error.name) from error
    book = Workbook(write_only=True)
    book.properties.creator = "safetykit-analytics"
    if about:
        sheet = book.create_sheet("about")
        sheet.column_dimensions["A"].width = 120
        for line in about:
            sheet.append([_cell(sheet, line)])
    for name, table in tables.items():
        if len(table) >= _MOST_ROWS:
            raise ValueError(
                f"table {name!r}: {len(table):,} rows are more than the {_MOST_ROWS - 1:,} of an Excel sheet"
            )
        _write_sheet(book.create_sheet(name), table)
    written = io.BytesIO()
    book.save(written)
    return _without_clock(written)


def _write_sheet(sheet: Any, table: pd.DataFrame) -> None:
    from openpyxl.styles import Font  # noqa: PLC0415
    from openpyxl.utils import get_column_letter  # noqa: PLC0415

    kinds = [getattr(dtype, "kind", "") for dtype in table.dtypes]
    heads = [f"{name}{_UNITS.get(kind, '')}" for name, kind in zip(table.columns, kinds, strict=True)]
    sheet.freeze_panes = "A2"
    for number, (head, kind) in enumerate(zip(heads, kinds, strict=True), 1):
        width = max(21 if kind == "M" else 10, len(head) + 2)
        sheet.column_dimensions[get_column_letter(number)].width = width
    if heads:
        sheet.auto_filter.ref = f"A1:{get_column_letter(len(heads))}{len(table) + 1}"
    bold = Font(bold=True)
    sheet.append([_cell(sheet, head, font=bold) for head in heads])
    formats = [_format(str(name), kind) for name, kind in zip(table.columns, kinds, strict=True)]
    for row in table.itertuples(index=False, name=None):
        cells = zip(map(_value, row), formats, strict=True)
        sheet.append([_cell(sheet, value, number_format=form) for value, form in cells])


def _format(name: str, kind: str) -> str:
    if kind in {"M", "m", "i"}:
        return {"M": _INSTANT, "m": _HOURS, "i": _COUNT}[kind]
    return _HOURS if name.endswith("_h") else _SHARE if _SHARES.search(name) else _NUMBER


def _value(value: Any) -> Any:
    """Return a cell as a plain value: as in JSON, but instants naive in UTC."""
    if isinstance(value, dt.datetime) and not is_missing(value):
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    return json_value(value)


def _cell(sheet: Any, value: Any, **style: Any) -> Any:
    """Return a cell; text stays text, even if it looks like a number or a formula."""
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415

    if value is None or isinstance(value, bool):
        return value
    is_text = isinstance(value, str)
    if is_text:
        value = _ESCAPE.sub("_x005F_", _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value))[:_LONGEST]
        style.pop("number_format", None)
    cell = WriteOnlyCell(sheet, value=value)
    if is_text:
        cell.data_type = "s"  # openpyxl takes "=1+1" for a formula and "#N/A" for an error
        cell.quotePrefix = value.startswith("=")  # text also after somebody edits it
    for name, chosen in style.items():
        setattr(cell, name, chosen)
    return cell


def _without_clock(source: io.BytesIO) -> bytes:
    """Return a workbook without the time at which it was written."""
    target = io.BytesIO()
    with zipfile.ZipFile(source) as made, zipfile.ZipFile(target, "w") as copy:
        for entry in made.namelist():
            content = made.read(entry)
            if entry == "docProps/core.xml":
                content = _CLOCK.sub(b"", content)
            copy.writestr(zipfile.ZipInfo(entry), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()
