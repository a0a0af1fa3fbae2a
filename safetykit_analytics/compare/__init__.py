"""Is the new policy version worse? Versions, compared batch by batch. Opens no file, draws nothing."""

from safetykit_analytics.compare.comparison import VersionComparison
from safetykit_analytics.compare.versions import BATCH_COLUMNS, compare_batches, compare_versions

__all__ = ["BATCH_COLUMNS", "VersionComparison", "compare_batches", "compare_versions"]
