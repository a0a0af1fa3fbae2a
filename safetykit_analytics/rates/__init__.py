"""Sums of work → tidy tables: rates, backlog, stalled, completion time, control chart, data quality.

Opens no file: a store is anything that lists cohorts.
"""

from safetykit_analytics.rates.backlog import backlog
from safetykit_analytics.rates.completion import completion_time
from safetykit_analytics.rates.control import control_chart
from safetykit_analytics.rates.quality import data_quality
from safetykit_analytics.rates.stalled import stalled_batches
from safetykit_analytics.rates.table import rates

__all__ = ["backlog", "completion_time", "control_chart", "data_quality", "rates", "stalled_batches"]
