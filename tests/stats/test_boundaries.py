"""What holds exactly at a boundary: found by changing the code a little and seeing no test fail."""

import numpy as np

from safetykit_analytics.stats import adjust, cluster_rates, laney_limits, week_over_week


def test_two_p_values_are_adjusted_for_each_other():
    np.testing.assert_allclose(adjust([0.01, 0.04], "holm"), [0.02, 0.04])
    np.testing.assert_allclose(adjust([0.03, 0.04], "bh"), [0.04, 0.04])


def test_control_limits_are_shares_also_for_rates_near_one():
    errors = np.array([99, 95, 100, 97] * 6)
    limits = laney_limits(errors, np.full(24, 100), is_base=np.ones(24, dtype=bool))
    assert limits.upper.max() == 1.0
    assert limits.lower.min() > 0.5


def test_a_week_over_week_interval_is_narrower_at_lower_confidence():
    rng = np.random.default_rng(1)
    processed = (np.full(40, 1000.0), np.full(40, 1000.0))
    errors = (rng.binomial(1000, 0.02, 40), rng.binomial(1000, 0.03, 40))
    group = np.zeros(40, dtype=int)
    *_, wide = week_over_week(group, errors, processed, n_groups=1, confidence=0.95)
    *_, narrow = week_over_week(group, errors, processed, n_groups=1, confidence=0.5)
    assert narrow.high[0] - narrow.low[0] < 0.5 * (wide.high[0] - wide.low[0])


def test_errors_that_batches_made_and_took_back_leave_no_rate_to_divide_by():
    result = cluster_rates([0, 0, 0, 1, 1], [2, -2, 0, 0.1 + 0.2, -0.3], [40, 30, 20, 9, 8], n_groups=2)
    assert result.rate.tolist() == [0.0, 0.0]
    assert result.variance.tolist() == [0.0, 0.0]
    assert result.note.tolist() == ["clustering_not_estimable"] * 2
    assert (result.low == 0.0).all()
    assert (result.high > 0.0).all()
