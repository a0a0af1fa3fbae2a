"""What holds exactly at a boundary: found by changing the code a little and seeing no test fail."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from safetykit_analytics.stats import (
    adjust,
    cluster_rates,
    laney_limits,
    quantile_bracket,
    verdicts,
    week_over_week,
)
from safetykit_analytics.stats.rate import wilson_at
from tests.stats.sides import compare_sides


def test_two_p_values_are_adjusted_for_each_other():
    np.testing.assert_allclose(adjust([0.01, 0.04], "holm"), [0.02, 0.04])
    np.testing.assert_allclose(adjust([0.03, 0.04], "bh"), [0.04, 0.04])


def test_control_limits_are_shares_also_for_rates_near_one():
    errors = np.array([99, 95, 100, 97] * 6)
    limits = laney_limits(errors, np.full(24, 100), is_base=np.ones(24, dtype=bool))
    assert limits.upper.max() == 1.0
    assert limits.lower.min() > 0.4


def test_a_week_over_week_interval_is_narrower_at_lower_confidence():
    rng = np.random.default_rng(1)
    processed = (np.full(40, 1000.0), np.full(40, 1000.0))
    errors = (rng.binomial(1000, 0.02, 40), rng.binomial(1000, 0.03, 40))
    group = np.zeros(40, dtype=int)
    wide = week_over_week(group, errors, processed, n_groups=1, confidence=0.95)
    narrow = week_over_week(group, errors, processed, n_groups=1, confidence=0.5)
    for less, more in zip(narrow, wide, strict=True):
        assert less.high[0] - less.low[0] < 0.5 * (more.high[0] - more.low[0])


def test_errors_that_batches_made_and_took_back_leave_no_rate_to_divide_by():
    result = cluster_rates([0, 0, 0, 1, 1], [2, -2, 0, 0.1 + 0.2, -0.3], [40, 30, 20, 9, 8], n_groups=2)
    assert result.rate.tolist() == [0.0, 0.0]
    assert result.variance.tolist() == [0.0, 0.0]
    assert result.note.tolist() == ["clustering_not_estimable"] * 2
    assert (result.low == 0.0).all()
    assert (result.high > 0.0).all()


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("noise", [[0.1 + 0.2, -0.3], [1.0, 1e-11 - 1.0]])  # neither sums to 0
def test_what_cancels_down_to_rounding_is_nothing_whatever_the_size_of_the_batches(noise, scale):
    noise = np.array(noise) * scale
    n = np.array([40.0, 30.0]) * scale
    none = cluster_rates([0, 0], noise, n, n_groups=1)
    every = cluster_rates([0, 0], n - noise, n, n_groups=1)
    assert (none.rate[0], every.rate[0]) == (0.0, 1.0)
    assert [none.note[0], every.note[0]] == ["clustering_not_estimable"] * 2


def test_a_total_that_is_negative_by_a_billionth_of_the_work_is_a_zero():
    n = np.array([1e6, 1e6])
    for wrong in (1e-4, 1e-10):
        none = cluster_rates([0, 0], [1e3, -1e3 - wrong], n, n_groups=1)
        every = cluster_rates([0, 0], n - [1e3, -1e3 - wrong], n, n_groups=1)
        assert (none.rate[0], every.rate[0]) == (0.0, 1.0)
        assert [none.note[0], every.note[0]] == ["clustering_not_estimable"] * 2
    assert cluster_rates([0, 0], [1e3, -1e3 - 0.1], n, n_groups=1).note[0] == "reprocessed"


def test_a_batch_that_is_below_zero_by_rounding_took_nothing_back():
    counts = [9.0, 20.0, 0.0], [1e6, 1e6, -1e-10]
    assert cluster_rates([0] * 3, *counts, n_groups=1).low[0] > 0
    assert cluster_rates([0] * 3, counts[0], [1e6, 1e6, -1e-3], n_groups=1).note[0] == "reprocessed"


@pytest.mark.parametrize(("left", "note"), [(4e-9, "reprocessed"), (1e-9, "no_decisions")])
def test_what_was_nearly_all_taken_back_is_nothing_below_a_billionth_of_the_work(left, note):
    # Errors alone: each decision counts once as work, two units of it in all.
    counts = np.array([1.0, left - 1.0])
    assert cluster_rates([0, 0], counts, counts, n_groups=1).note[0] == note


def test_a_group_that_processed_nothing_has_no_batches():
    found = cluster_rates([0, 0, 1], [0, 0, 1], [0, 0, 9], n_groups=3).n_clusters
    assert found.tolist() == [0, 1, 0]
    assert found.dtype == np.int64


def test_wilsons_interval_touches_the_ends_exactly_and_never_leaves_them_whatever_the_size():
    n = np.geomspace(1e-6, 1e12, 5000)
    for rate in (0.0, 1e-20, 1e-12, 1.0 - 1e-12, np.nextafter(1.0, 0.0), 1.0):
        low, high = wilson_at(np.full(len(n), rate), n, 1.96)
        assert ((low >= 0.0) & (low <= rate + 1e-15) & (rate <= high + 1e-15) & (high <= 1.0)).all()
        assert rate > 0.0 or (low == 0.0).all()
        assert rate < 1.0 or (high == 1.0).all()


def exactly(errors, processed):
    """Shares and parts of the CR2 variance of each batch, in 60 digits."""
    y, n = [Decimal(x) for x in errors], [Decimal(x) for x in processed]
    p, total = sum(y) / sum(n), sum(n)
    h = [x / total for x in n]
    return h, [(a - p * b) / (total * (1 - c).sqrt()) for a, b, c in zip(y, n, h, strict=True)]


def exact_df(h):
    a = [x * x / (1 - x) for x in h]
    return 1 / (sum(x * x for x in h) + sum(a) ** 2 - sum(x * x for x in a))


def giant(small):
    """Errors and decisions of one batch with nearly everything, and three others."""
    return np.array([200.0, small, 3 * small, 0.0]), np.array([1e4, 10 * small, 20 * small, 15 * small])


@pytest.mark.parametrize("small", [1e-8, 3e-3])
def test_a_batch_with_nearly_everything_loses_no_digits(small):
    found = cluster_rates([0] * 4, *giant(small), n_groups=1)
    with localcontext(prec=60):
        h, e = exactly(*giant(small))
        assert found.df[0] - 1 == pytest.approx(float(exact_df(h) - 1), rel=1e-4)
        assert found.variance[0] == pytest.approx(float(sum(x * x for x in e)), rel=1e-9, abs=0)


@pytest.mark.parametrize("second", [[0, 1, 2, 3], [1, 0, 2, 3]])
@pytest.mark.parametrize("small", [1e-8, 3e-3])
def test_weeks_in_which_one_batch_has_nearly_everything_lose_no_digits(small, second):
    # The same batch in both weeks, or another in the second.
    errors, processed = giant(small)
    weeks = (errors, processed), (2 * errors[second], processed[second])
    *_, found = week_over_week([0] * 4, *zip(*weeks, strict=True), n_groups=1)
    with localcontext(prec=60):
        (h_1, e_1), (h_2, e_2) = (exactly(*week) for week in weeks)
        variance = sum((a - b) ** 2 for a, b in zip(e_1, e_2, strict=True))
        c = [x * y / ((1 - x) * (1 - y)).sqrt() for x, y in zip(h_1, h_2, strict=True)]
        kappa = sum(x * y for x, y in zip(h_1, h_2, strict=True)) + sum(c) ** 2 - sum(x * x for x in c)
        df = min(
            (s_1 + s_2) ** 2 / (s_1**2 / exact_df(h_1) + s_2**2 / exact_df(h_2) + 2 * s_1 * s_2 * kappa)
            for s_1, s_2 in (
                [sum(x * x for x in e) for e in (e_1, e_2)],
                [sum(x * x for x in h) for h in (h_1, h_2)],
            )
        )
        assert found.variance[0] == pytest.approx(float(variance), rel=1e-9, abs=0)
        assert found.df[0] == pytest.approx(float(df), rel=1e-9)


def test_three_equal_batches_on_both_sides_are_just_enough_for_a_verdict():
    found = compare_sides([(1, 100), (2, 100), (3, 100)], [(11, 100), (12, 100), (13, 100)])
    assert found.df[0] == pytest.approx(4)
    assert found.is_enough[0]


def test_a_difference_and_its_interval_are_never_beyond_one():
    few, many = [(0, 100), (60, 100)], [(100, 100), (40, 100)]
    assert compare_sides(few, many).high.tolist() == [1.0]
    assert compare_sides(many, few).low.tolist() == [-1.0]


def test_two_weeks_of_less_than_one_decision_compare_as_any_others():
    weeks = ([9, 2, 5, 8], [7, 1, 4, 6]), ([100] * 4, [110] * 4)
    *_, whole = week_over_week([0] * 4, *weeks, n_groups=1)
    *_, small = week_over_week([0] * 4, *np.array(weeks) / 1e4, n_groups=1)
    assert small.p_value == pytest.approx(whole.p_value)
    assert small.df == pytest.approx(whole.df)


def test_a_week_that_cannot_be_estimated_beside_one_that_can_is_noted_without_a_warning():
    first, _, found = week_over_week([0, 0], ([3, 0], [4, 1]), ([100, 0], [100, 50]), n_groups=1)
    assert first.note[0] == "one_batch"
    assert found.note[0] == "clustering_not_estimable"


def test_a_third_week_is_refused():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        week_over_week([0], ([1], [2]), ([9], [9], [9]), n_groups=1)


def test_no_comparisons_have_no_differences():
    *_, found = week_over_week([], ([], []), ([], []), n_groups=0)
    assert found.difference.tolist() == []


def test_a_bucket_with_less_than_one_decision_counts():
    limits = laney_limits([0.05, 0.09] * 10, [0.9] * 20, [1] * 20)
    assert limits.center == pytest.approx(0.07 / 0.9)
    assert limits.note == ""


def test_numbers_in_objects_count_as_numbers():
    def objects(*values):
        return np.array(values, dtype=object)

    y, n = objects(1, 5, 3), objects(10, 20, 30)
    for errors, processed in [(y, [10, 20, 30]), ([1, 5, 3], n)]:
        assert cluster_rates([0] * 3, errors, processed, n_groups=1).rate[0] == 0.15
        limits = laney_limits(np.tile(errors, 7), np.tile(processed, 7), [True] * 21)
        assert (limits.center, limits.note) == (0.1, "")
    for lower, upper in [(objects(1, 2), [3, 4]), ([1, 2], objects(3, 4))]:
        assert quantile_bracket(lower, upper, [True, True], 0.5) == (1, 3)
    assert adjust(objects(0.01, None, 0.04), "holm")[[0, 2]].tolist() == [0.02, 0.04]
    *_, found = week_over_week([0] * 3, (y, y), (n, n), n_groups=1)
    assert verdicts(found, objects(None)).tolist() == ["not enough batches"]
