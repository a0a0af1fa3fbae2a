"""Tables → an Excel workbook, with a sheet for each."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.wording import is_missing

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

# What XML cannot hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Excel reads "_x0041_" as "A", so that the underscore is written in its own way.
_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_LONGEST_TEXT = 32_767
_MOST_ROWS = 1_048_575
_INSTANT, _SHARE, _COUNT, _NUMBER, _HOURS = 'yyyy-mm-dd hh:mm "UTC"', "0.00%", "#,##0", "#,##0.00", "#,##0.0"
_SHARES = re.compile(
    r"(_rate|_share|coverage|overlap|difference|_change|mde|center|_limit)(_low|_high|_raw|_before)?$"
)
_MODIFIED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*")


def write_workbook(tables: Mapping[str, pd.DataFrame], about: Sequence[str], *, as_of: dt.datetime) -> bytes:
    """Write tables as an Excel workbook without formulas.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        One sheet each. Instants become naive datetimes in UTC, which each cell's format says; fractions of
        decisions are shown in percent; missing values are empty.
    about : sequence of str
        The lines of the first sheet.
    as_of : aware datetime
        What the workbook gives as the time when it was made.

    Returns
    -------
    bytes
        The same for the same tables, whenever they are written.

    Raises
    ------
    ModuleNotFoundError
        openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "cannot write an .xlsx file without openpyxl: pip install 'safetykit-analytics[excel]'",
            name=error.name,
        ) from error
    book = Workbook(write_only=True)
    book.properties.creator = "safetykit-analytics"
    book.properties.created = as_of.replace(tzinfo=None)
    sheet = book.create_sheet("about")
    sheet.column_dimensions["A"].width = 120
    for line in about:
        sheet.append([_text_cell(sheet, line, wrap=True)])
    for name, table in tables.items():
        _write_sheet(book.create_sheet(name), table)
    target = io.BytesIO()
    book.save(target)
    return _without_clock(target)


def _write_sheet(sheet: Any, table: pd.DataFrame) -> None:
    names = [str(name) for name in table.columns]
    formats = [_format(name, table[name]) for name in table.columns]
    sheet.freeze_panes = "A2"
    for number, name in enumerate(names, 1):
        letter = _letter(number)
        sheet.column_dimensions[letter].width = max(
            21 if formats[number - 1] == _INSTANT else 10, len(name) + 2
        )
    if names:
        sheet.auto_filter.ref = f"A1:{_letter(len(names))}{min(len(table), _MOST_ROWS) + 1}"
    sheet.append([_text_cell(sheet, name, bold=True) for name in names])
    columns = [_values(table[name]) for name in table.columns]
    for row in list(zip(*columns, strict=True))[:_MOST_ROWS]:
        sheet.append([_cell(sheet, value, kind) for value, kind in zip(row, formats, strict=True)])


def _letter(number: int) -> str:
    from openpyxl.utils import get_column_letter  # noqa: PLC0415

    return str(get_column_letter(number))


def _format(name: str, column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _INSTANT
    if pd.api.types.is_timedelta64_dtype(column.dtype) or name.endswith("_h"):
        return _HOURS
    if pd.api.types.is_integer_dtype(column.dtype):
        return _COUNT
    return _SHARE if _SHARES.search(name) else _NUMBER


def _values(column: pd.Series[Any]) -> list[Any]:
    """Return a column as plain values: instants naive in UTC, spans of time in hours, None where missing."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        naive = column.dt.tz_convert("UTC").dt.tz_localize(None).dt.floor("us")
        return [None if is_missing(value) else value.to_pydatetime() for value in naive]
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        column = column / pd.Timedelta(hours=1)
    return [
        None if is_missing(value) or value in (float("inf"), -float("inf")) else value for value in column
    ]


def _cell(sheet: Any, value: Any, number_format: str) -> Any:
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text_cell(sheet, value)
    cell = WriteOnlyCell(sheet, value=value.item() if hasattr(value, "item") else value)
    cell.number_format = number_format
    return cell


def _text_cell(sheet: Any, text: str, *, bold: bool = False, wrap: bool = False) -> Any:
    """Return a cell that holds text, whatever it looks like."""
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415
    from openpyxl.styles import Alignment, Font  # noqa: PLC0415

    shown = _ESCAPE.sub("_x005F_", _FORBIDDEN.sub("\ufffd", text))[:_LONGEST_TEXT]
    cell = WriteOnlyCell(sheet, value=shown)
    cell.data_type = "s"  # openpyxl takes "=1+1" for a formula and "#N/A" for an error
    if shown[:1] == "=":
        cell.quotePrefix = True  # so that it stays text when somebody edits it
    if bold:
        cell.font = Font(bold=True)
    if wrap:
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    return cell


def _without_clock(source: io.BytesIO) -> bytes:
    """Return a workbook without the time at which it was written."""
    target = io.BytesIO()
    with zipfile.ZipFile(source) as made, zipfile.ZipFile(target, "w") as copy:
        created = re.search(rb"<dcterms:created[^>]*>([^<]*)", made.read("docProps/core.xml"))
        for entry in made.namelist():
            content = made.read(entry)
            if entry == "docProps/core.xml" and created:
                content = _MODIFIED.sub(rb"\g<1>" + created[1], content)
            copy.writestr(zipfile.ZipInfo(entry), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()
