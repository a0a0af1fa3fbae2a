"""Is the new policy version worse? Versions, compared batch by batch. Opens no file, draws nothing."""

from safetykit_analytics.compare.comparison import VersionComparison
from safetykit_analytics.compare.versions import compare_batches, compare_versions

__all__ = ["VersionComparison", "compare_batches", "compare_versions"]
