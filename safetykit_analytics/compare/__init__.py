"""Is the new policy version worse? Versions of a policy, compared batch by batch.

Place in the flow: flow, stats, rates → **compare** → plots, report, command. Opens no file, draws nothing.
"""

from safetykit_analytics.compare.comparison import VersionComparison
from safetykit_analytics.compare.versions import compare_versions

__all__ = ["VersionComparison", "compare_versions"]
