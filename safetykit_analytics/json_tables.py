"""Tables → records that JSON has, for other tools."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from safetykit_analytics.formatting import is_missing

if TYPE_CHECKING:
    import pandas as pd


def json_value(value: Any) -> Any:
    """Convert a cell into a JSON value: missing and infinite values into null, spans of time into hours.

    Instants become ISO 8601 in the zone that they have, which is ``Z`` for UTC.
    """
    if is_missing(value):
        return None
    if isinstance(value, dt.timedelta):
        return value.total_seconds() / 3600
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert a table into one dict per row."""
    names = [str(name) for name in table.columns]
    columns = [[json_value(value) for value in table[name]] for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
