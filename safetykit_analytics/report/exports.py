"""Facts → values for other tools: a dict that JSON can hold, and the tables of the CSV files.

Place in the flow: `facts` → **exports** → `weekly`. Formats no number and changes no name.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.report.headlines import headlines
from safetykit_analytics.report.sections import METHODS
from safetykit_analytics.report.text import plain

if TYPE_CHECKING:
    from safetykit_analytics.report.facts import Facts

#: Changes when a key or a column is renamed, removed, or means something else; new ones do not change it.
SCHEMA_VERSION = 1


def as_tables(facts: Facts) -> dict[str, pd.DataFrame]:
    """Give every table of a report by name, in the order of the page."""
    compared = [comparison.table for comparison in facts.comparisons]
    return {
        "totals": facts.totals,
        "previous": facts.previous,
        "change": facts.change,
        "versions": facts.versions,
        "comparisons": pd.concat(compared, ignore_index=True) if compared else pd.DataFrame(),
        "rollouts": facts.rollouts,
        "control_chart": facts.control,
        "backlog": facts.backlog,
        "open": facts.open,
        "stalled": facts.stalled,
        "failures": facts.failures,
        "data_quality": facts.data_quality,
    }


def as_dict(facts: Facts) -> dict[str, Any]:
    """Give all facts as plain values; see `WeeklyReport.to_dict`."""
    tables = {name: _records(table) for name, table in as_tables(facts).items()}
    over_time = tables.pop("backlog")
    return {
        "schema_version": SCHEMA_VERSION,
        "library_version": facts.library_version,
        "week": facts.week,
        "previous_week": facts.previous_week,
        "tz": facts.tz,
        "start": _plain(facts.start),
        "end": _plain(facts.end),
        "as_of": _plain(facts.as_of),
        "partial": facts.partial,
        "elapsed_hours": facts.elapsed_hours,
        "headlines": [plain(sentence) for sentence in headlines(facts)],
        **{
            name: records
            for name, records in tables.items()
            if name not in {"open", "stalled", "failures", "data_quality"}
        },
        "backlog": {"now": tables["open"], "over_time": over_time},
        "stalled": tables["stalled"],
        "failures": tables["failures"],
        "data_quality": tables["data_quality"],
        "methods": list(METHODS),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in table.columns]
    columns = [[_plain(value) for value in table[name]] for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    """Turn one value into what JSON has; what is missing or endless becomes None."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, dt.timedelta):
        return value.total_seconds() / 3600
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
