"""Observations → increments → work by calendar bucket: the definition of every number in this library.

Every increment of a batch's counters is spread evenly over the time in which it happened, from the
observation before to this one (the first from the batch's creation), and so over calendar buckets by overlap.
The sum over all buckets is the last count.

A batch lies in one cohort, so a cohort is reduced alone. ``cohorts`` reads each cohort once, here or in an
executor. Then ``observations`` (a table → sorted arrays) → ``increments`` → ``spread`` over the ``grid`` of
groups and buckets → ``reduce`` (one piece → sparse sums) → ``totals`` (the sums of all cohorts). Where few
batches worked in a bucket, their single shares are kept until no later cohort can touch it. ``batches``,
``pending``, ``quality`` and ``selection`` are about single batches, on the same route. NumPy and Arrow; opens
no file, knows no store.
"""

from safetykit_analytics.flow.batches import (
    batch_summary,
    batch_work,
    known_policies,
    summarize,
    summary_sources,
    text_of,
)
from safetykit_analytics.flow.cohorts import (
    Cohort,
    HasCohorts,
    Listing,
    cohort_day,
    last_observed,
    reduced,
    with_listing,
)
from safetykit_analytics.flow.increments import increments_of
from safetykit_analytics.flow.observations import BASE_COLUMNS, Rows
from safetykit_analytics.flow.pending import Levels, levels_of, reduce_pending
from safetykit_analytics.flow.quality import KINDS, contradictions
from safetykit_analytics.flow.reduce import (
    N_BATCHES,
    N_CLUSTERS,
    RATIOS,
    SQUARES,
    TOOK_BACK,
    Reduced,
    reduce_work,
)
from safetykit_analytics.flow.selection import Selection, select
from safetykit_analytics.flow.spread import ABSOLUTE, ERROR, HIGH, LOW, MOVED, REPROCESSED, SMEARED, SUCCESS
from safetykit_analytics.flow.totals import Totals, accumulate

__all__ = [
    "ABSOLUTE",
    "BASE_COLUMNS",
    "ERROR",
    "HIGH",
    "KINDS",
    "LOW",
    "MOVED",
    "N_BATCHES",
    "N_CLUSTERS",
    "RATIOS",
    "REPROCESSED",
    "SMEARED",
    "SQUARES",
    "SUCCESS",
    "TOOK_BACK",
    "Cohort",
    "HasCohorts",
    "Levels",
    "Listing",
    "Reduced",
    "Rows",
    "Selection",
    "Totals",
    "accumulate",
    "batch_summary",
    "batch_work",
    "cohort_day",
    "contradictions",
    "increments_of",
    "known_policies",
    "last_observed",
    "levels_of",
    "reduce_pending",
    "reduce_work",
    "reduced",
    "select",
    "summarize",
    "summary_sources",
    "text_of",
    "with_listing",
]
