"""Tables → an Excel workbook."""

from __future__ import annotations

import datetime as dt
import io
import re
from typing import TYPE_CHECKING, Any

from safetykit_analytics.wording import is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

# What XML cannot hold.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MOST_ROWS = 1_048_576
_LONGEST = 32_767


def workbook(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Write tables as the sheets of a workbook.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By the name of the sheet, of at most 31 characters.

    Returns
    -------
    bytes
        An .xlsx file. Excel knows no time zones: instants are UTC without one, and durations are hours; the
        headings of both say so. Text is never a formula; characters that Excel cannot hold become U+FFFD.

    Raises
    ------
    ModuleNotFoundError
        openpyxl is not installed; the message says how.
    ValueError
        A table has more rows than a sheet.
    """
    try:
        from openpyxl import Workbook  # noqa: PLC0415 -- an extra
        from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415
    except ModuleNotFoundError as error:
        hint = "pip install 'safetykit-analytics[excel]'"
        raise ModuleNotFoundError(f"{error.name} is not installed: {hint}", name=error.name) from error
    book = Workbook(write_only=True)
    for name, table in tables.items():
        if len(table) >= _MOST_ROWS:
            raise ValueError(f"{len(table):,} rows are more than the {_MOST_ROWS - 1:,} of an Excel sheet")
        sheet = book.create_sheet(name)
        sheet.append([_heading(name, table[name].dtype) for name in table.columns])
        for row in table.itertuples(index=False, name=None):
            cells = []
            for value in map(_value, row):
                cell = WriteOnlyCell(sheet, value=value)
                if isinstance(value, str):
                    cell.data_type = "s"  # openpyxl takes a leading "=" for a formula
                cells.append(cell)
            sheet.append(cells)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def _heading(name: Any, dtype: Any) -> str:
    unit = {"M": " (UTC)", "m": " (hours)"}.get(getattr(dtype, "kind", ""), "")
    return f"{name}{unit}"


def _value(value: Any) -> Any:
    if is_missing(value):
        return None
    if isinstance(value, dt.timedelta):
        return value.total_seconds() / 3600
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    if isinstance(value, str):
        return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value)[:_LONGEST]
    value = value.item() if hasattr(value, "item") else value
    return None if value in {float("inf"), float("-inf")} else value
