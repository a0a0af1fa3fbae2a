"""Observations → increments → work by calendar bucket: the definition of every number in this library.

Place in the flow: frame, store → **flow** → rates, compare. NumPy and Arrow inside; opens no file, knows no
store, draws nothing.

Every increment of a batch's counters is spread evenly over the time in which it happened, from the
observation before to this one (the first from the batch's creation), and so over calendar buckets by
overlap. The sum over all buckets is the last count.
"""

from safetykit_analytics.flow.by_batch import batch_work
from safetykit_analytics.flow.ends import batch_ends, resolve_as_of
from safetykit_analytics.flow.partitions import Partition, Partitioned
from safetykit_analytics.labels import natural_key

__all__ = ["Partition", "Partitioned", "batch_ends", "batch_work", "natural_key", "resolve_as_of"]
