"""Facts → values for other tools: a dict that JSON can hold, and the tables of the CSV files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetykit_analytics.records import json_value, records
from safetykit_analytics.report.headlines import headlines
from safetykit_analytics.report.sections import METHODS
from safetykit_analytics.report.text import plain

if TYPE_CHECKING:
    import pandas as pd

    from safetykit_analytics.report.facts import Facts

#: Changes when a key or a column is renamed, removed, or means something else; new ones do not change it.
SCHEMA_VERSION = 1


def as_tables(facts: Facts) -> dict[str, pd.DataFrame]:
    """Return every table of a report by name, in the order of the page."""
    return {
        "totals": facts.totals,
        "previous": facts.previous,
        "change": facts.change,
        "versions": facts.versions,
        "trend": facts.trend,
        "comparisons": facts.comparison.table,
        "rollouts": facts.rollouts,
        "control_chart": facts.control,
        "backlog": facts.backlog,
        "open": facts.open,
        "stalled": facts.stalled,
        "failures": facts.failures,
        "data_quality": facts.data_quality,
    }


def as_dict(facts: Facts) -> dict[str, Any]:
    """Return all facts as plain values; see `WeeklyReport.to_dict`."""
    tables = {name: records(_in_utc(table)) for name, table in as_tables(facts).items()}
    over_time = tables.pop("backlog")
    return {
        "schema_version": SCHEMA_VERSION,
        "library_version": facts.library_version,
        "week": facts.week,
        "previous_week": facts.previous_week,
        "tz": facts.tz,
        "start": json_value(facts.start),
        "end": json_value(facts.end),
        "as_of": json_value(facts.as_of),
        "partial": facts.partial,
        "elapsed_hours": facts.elapsed_hours,
        "headlines": [plain(sentence) for sentence in headlines(facts)],
        **{
            name: rows
            for name, rows in tables.items()
            if name not in {"trend", "open", "stalled", "failures", "data_quality"}
        },
        "backlog": {"now": tables["open"], "over_time": over_time},
        "stalled": tables["stalled"],
        "failures": tables["failures"],
        "data_quality": tables["data_quality"],
        "methods": list(METHODS),
    }


def _in_utc(table: pd.DataFrame) -> pd.DataFrame:
    instants = table.select_dtypes("datetimetz")
    return table.assign(**{name: instants[name].dt.tz_convert("UTC") for name in instants})
