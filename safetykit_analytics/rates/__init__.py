"""Sums of work → tidy tables: rates, backlog, stalled, completion time, control chart, data quality.

Opens no file: a store is anything that lists cohorts.
"""

from safetykit_analytics.rates.arguments import (
    check_confidence,
    check_executor,
    check_observations,
    check_policies,
    parse_as_of,
    parse_length,
    parse_policies,
    parse_window,
)
from safetykit_analytics.rates.completion import (
    DURATION_COLUMNS,
    completion_time,
    grouped,
    median_brackets,
    timedeltas,
)
from safetykit_analytics.rates.control import control_chart
from safetykit_analytics.rates.pending import backlog
from safetykit_analytics.rates.quality import data_quality
from safetykit_analytics.rates.stalled import stalled_batches
from safetykit_analytics.rates.table import RatesPlan, plan_rates, rates, rates_table

__all__ = [
    "DURATION_COLUMNS",
    "RatesPlan",
    "backlog",
    "check_confidence",
    "check_executor",
    "check_observations",
    "check_policies",
    "completion_time",
    "control_chart",
    "data_quality",
    "grouped",
    "median_brackets",
    "parse_as_of",
    "parse_length",
    "parse_policies",
    "parse_window",
    "plan_rates",
    "rates",
    "rates_table",
    "stalled_batches",
    "timedeltas",
]
