"""Arrays in, arrays out: how sure one can be of rates, differences and times when the batch is the unit.

Decisions of one batch resemble each other, so that a batch of 10,000 says far less than 10,000 independent
decisions would. Every interval here takes the batch (the "cluster") as what was sampled.

Knows NumPy and scipy; no pandas, no pyarrow, no files.
"""

from safetykit_analytics.stats.anytime import (
    Evidence,
    confidence_sequence,
    evidence,
    first_look,
    ratio_sequence,
)
from safetykit_analytics.stats.buckets import FEW_CLUSTERS, POOL_BUCKETS, ClusterSums, rate_intervals
from safetykit_analytics.stats.completion import quantile_bracket, quantile_interval
from safetykit_analytics.stats.control import ControlLimits, find_runs, laney_limits, prediction_bound
from safetykit_analytics.stats.difference import Differences, adjust, verdicts, week_over_week
from safetykit_analytics.stats.permutation import (
    LEAST_DRAWS,
    Outcomes,
    find_outcomes,
    permutation_interval,
    permutation_p,
    permutation_ratio,
)
from safetykit_analytics.stats.power import (
    MIN_BATCHES,
    can_decide,
    detectable,
    missing_batches,
    permutation_detectable,
)
from safetykit_analytics.stats.rate import ClusterRates, check_level, cluster_rates
from safetykit_analytics.stats.strata import Strata, class_sizes, cut_strata, make_strata

__all__ = [
    "FEW_CLUSTERS",
    "LEAST_DRAWS",
    "MIN_BATCHES",
    "POOL_BUCKETS",
    "ClusterRates",
    "ClusterSums",
    "ControlLimits",
    "Differences",
    "Evidence",
    "Outcomes",
    "Strata",
    "adjust",
    "can_decide",
    "check_level",
    "class_sizes",
    "cluster_rates",
    "confidence_sequence",
    "cut_strata",
    "detectable",
    "evidence",
    "find_outcomes",
    "find_runs",
    "first_look",
    "laney_limits",
    "make_strata",
    "missing_batches",
    "permutation_detectable",
    "permutation_interval",
    "permutation_p",
    "permutation_ratio",
    "prediction_bound",
    "quantile_bracket",
    "quantile_interval",
    "rate_intervals",
    "ratio_sequence",
    "verdicts",
    "week_over_week",
]
