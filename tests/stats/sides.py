"""Two groups of batches that share none, compared, and Wilson's interval of counts."""

import numpy as np

from safetykit_analytics.stats import week_over_week
from safetykit_analytics.stats.rate import wilson_at


def compare_sides(baseline, candidate, **options):
    """Compare two lists of (errors, processed) per batch."""
    first, second = (np.array(side, float).reshape(-1, 2) for side in (baseline, candidate))
    y_1, n_1 = np.concatenate([first, 0 * second]).T
    y_2, n_2 = np.concatenate([0 * first, second]).T
    *_, found = week_over_week(np.zeros(len(y_1), int), (y_1, y_2), (n_1, n_2), n_groups=1, **options)
    return found


def wilson(errors, processed):
    """Wilson's 95 % interval of independent decisions."""
    n = np.asarray(processed, dtype=float)
    return wilson_at(errors / n, n, 1.959963984540054)
