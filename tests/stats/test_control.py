"""laney_limits: by its formula, and quiet where the p chart is not."""

import numpy as np
import pytest
import scipy

from safetykit_analytics.stats import find_runs, laney_limits, prediction_bound


def test_limits_follow_the_formula_bucket_by_bucket():
    rng = np.random.default_rng(1)
    n = rng.integers(50, 500, 30)
    y = rng.binomial(n, rng.beta(2, 38, 30))
    found = laney_limits(y, n, np.ones(30, bool))
    p = np.median(y / n)
    d = 2 * (np.arcsin(np.sqrt(y / n)) - np.arcsin(np.sqrt(p)))
    sigma_z, sigma_d = (
        np.sqrt(sum(min(abs(v), 3 * 1.4826 * np.median(abs(x))) ** 2 for v in x) / 29)
        for x in (d * np.sqrt(n), d)
    )
    assert sigma_z > 1
    assert (found.center, found.sigma_z) == pytest.approx((p, sigma_z))
    for limit, side in ((found.lower, -1), (found.upper, 1)):
        inside = (limit > 0) & (limit < 1)
        ends = 2 * (np.arcsin(np.sqrt(limit)) - np.arcsin(np.sqrt(p)))
        assert ends[inside] == pytest.approx(side * 3.25 * np.maximum(sigma_z / np.sqrt(n), sigma_d)[inside])
    assert found.note == ""


def test_where_buckets_differ_the_p_chart_gives_alarm_and_laneys_does_not():
    rng = np.random.default_rng(2)
    n = np.full(200, 5000)
    y = rng.binomial(n, rng.beta(4, 196, 200))
    found = laney_limits(y, n, np.ones(200, bool))
    rate = y / n
    sigma = np.sqrt(found.center * (1 - found.center) / n)
    assert (abs(rate - found.center) > 3 * sigma).mean() > 0.2
    assert ((rate > found.upper) | (rate < found.lower)).mean() < 0.02
    # The factor is the true overdispersion.
    assert found.sigma_z == pytest.approx(np.sqrt(1 + 4999 / 201), rel=0.15)


def test_less_than_binomial_variation_does_not_narrow_the_limits():
    assert laney_limits([5] * 15 + [6] * 15, [100] * 30, [True] * 30).sigma_z == 1


def test_buckets_outside_the_base_have_limits_but_do_not_move_them():
    y, n = np.array([5, 9, 7, 6, 8] * 5, float), np.full(25, 100.0)
    alone = laney_limits(y, n, np.ones(25, bool))
    more = laney_limits([*y, 90, 0], [*n, 100, 0], [True] * 25 + [False, True])
    assert (more.center, more.sigma_z) == (alone.center, alone.sigma_z)
    assert more.upper[25] == alone.upper[0]
    assert np.isnan(more.upper[26])


@pytest.mark.parametrize(
    ("errors", "processed", "note"),
    [
        ([5, 6, 5] * 3, [100] * 9, "few_buckets"),
        ([5, 6, 5] * 3 + [0, 0, 0], [100] * 9 + [0, 0, 0], "few_buckets"),
        ([5, 6, 5] * 3 + [-1, 3], [100] * 9 + [50, 2], "few_buckets"),
        ([], [], "few_buckets"),
        ([0] * 20, [100] * 20, "clustering_not_estimable"),
        ([100] * 20, [100] * 20, "clustering_not_estimable"),
    ],
)
def test_too_little_to_go_by_gives_a_reason_and_no_limits(errors, processed, note):
    found = laney_limits(errors, processed, np.ones(len(errors), bool))
    assert found.note == note
    assert np.isnan([found.lower, found.upper]).all()
    assert np.isnan(found.sigma_z)
    assert np.isnan(found.center) == (len(errors) == 0)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        laney_limits([1], [2, 3], [True])


def test_two_bad_days_of_fourteen_are_beyond_the_limits_and_no_good_one_is():
    rng = np.random.default_rng(3)
    y = rng.binomial(5000, np.r_[np.full(12, 0.02), 0.04, 0.04])
    found = laney_limits(y, np.full(14, 5000), np.ones(14, bool))
    assert np.flatnonzero((y / 5000 > found.upper) | (y / 5000 < found.lower)).tolist() == [12, 13]


def test_a_large_bucket_is_no_surer_than_the_others_where_batches_differ():
    # Every other bucket is one batch of ten times the size: its rate varies as much as any other's.
    rng = np.random.default_rng(4)
    n = np.tile([500, 5000], 200)
    y = rng.binomial(n, rng.beta(2, 98, 400))
    found = laney_limits(y, n, np.ones(400, bool))
    beyond = (y / n > found.upper) | (y / n < found.lower)
    assert beyond.mean() < 0.01


def test_a_run_is_nine_in_a_row_on_one_side():
    rate = [0.1, *[0.3] * 10, 0.1, *[0.3] * 8, np.nan, 0.3]
    assert np.flatnonzero(find_runs(rate, 0.2)).tolist() == [9, 10]


def test_the_next_move_is_bounded_by_t_times_the_root_mean_square_of_the_moves():
    moves = np.array([0.1, -0.4, 0.2])
    t = scipy.stats.t.ppf(0.95, 3)
    assert prediction_bound(moves, level=0.9) == pytest.approx(t * np.sqrt(np.mean(moves**2)))
    assert np.isnan(prediction_bound([], level=0.9))
