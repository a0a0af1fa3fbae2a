"""Arrays in, arrays out: how sure one can be of rates, differences and times when the batch is the unit.

Decisions of one batch resemble each other, so that a batch of 10,000 says far less than 10,000 independent
decisions would. Every interval here takes the batch (the "cluster") as what was sampled.

Place in the flow: below rates and compare. Knows NumPy, scipy and statsmodels; no pandas, no
pyarrow, no files.
"""

from safetykit_analytics.stats.borrowing import (
    POOL_BUCKETS,
    ClusterSpread,
    borrowed_intervals,
    cluster_spread,
    pooled,
)
from safetykit_analytics.stats.completion import quantile_bracket, quantile_interval, survival_bounds
from safetykit_analytics.stats.control import ControlLimits, laney_limits
from safetykit_analytics.stats.difference import Differences, differences, verdicts, week_over_week
from safetykit_analytics.stats.multiple import adjust
from safetykit_analytics.stats.rate import ClusterRates, cluster_rates, wilson

__all__ = [
    "POOL_BUCKETS",
    "ClusterRates",
    "ClusterSpread",
    "ControlLimits",
    "Differences",
    "adjust",
    "borrowed_intervals",
    "cluster_rates",
    "cluster_spread",
    "differences",
    "laney_limits",
    "pooled",
    "quantile_bracket",
    "quantile_interval",
    "survival_bounds",
    "verdicts",
    "week_over_week",
    "wilson",
]
