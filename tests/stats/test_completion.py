"""quantile_bracket and quantile_interval: whatever happened between polls, the truth is in them."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from safetykit_analytics.stats import quantile_bracket, quantile_interval
from safetykit_analytics.stats.completion import _s_min


def sixmp(case):
    time, event = (np.array(case["input"]["sixmp"][key], float) for key in ("time", "event"))
    return time, event.astype(bool)


def kaplan_meier(time, event):
    """Estimate with scipy, an oracle that knows exact times only."""
    return ecdf(CensoredData.right_censored(time, ~event)).sf


def log_log_limits(curve, confidence):
    """Take scipy's limits of its estimate, which are NaN where that is 1 or 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        return curve.confidence_interval(confidence, method="log-log")


def test_with_exact_times_the_estimate_is_the_published_one_of_kaplan_and_meier(reference_cases):
    case = reference_cases["freireich"]
    time, event = sixmp(case)
    times = np.array(case["expected"]["t"], float)
    for t, share in zip(times, case["expected"]["S"], strict=True):
        assert quantile_bracket(time, time, event, 1 - share - 1.1 * case["tol"]) == (t, t)
        assert quantile_bracket(time, time, event, 1 - share + 1.1 * case["tol"])[0] > t
    share, greenwood = _s_min(time, time, event, times)
    se = share * np.sqrt(greenwood)
    assert np.allclose(se, case["expected"]["greenwood_se"], rtol=0, atol=case["tol"])
    linear = share[0] + np.array([-1.96, 1.96]) * se[0]
    assert np.allclose(np.minimum(linear, 1), case["expected"]["ci_linear_t6"], rtol=0, atol=6e-5)
    assert time.sum() == case["expected"]["person_time"][0]
    assert event.sum() == case["expected"]["events"][0]


def test_with_exact_times_the_bracket_is_the_published_median(reference_cases):
    case = reference_cases["freireich"]
    time, event = sixmp(case)
    assert quantile_bracket(time, time, event, 0.5) == (case["expected"]["median"][0],) * 2
    placebo = np.array(case["input"]["placebo"], float)
    assert quantile_bracket(placebo, placebo, np.ones(21, bool), 0.5) == (case["expected"]["median"][1],) * 2


def test_the_interval_of_the_median_comes_from_the_published_log_log_limits(reference_cases):
    case = reference_cases["freireich"]
    time, event = sixmp(case)
    # The limits of S(6) are published; the interval of the quantile 1 - limit must then turn over just there.
    low, high = case["expected"]["ci_loglog_t6"]
    assert quantile_interval(time, time, event, 1 - low - 1e-4)[0] == 6
    assert quantile_interval(time, time, event, 1 - low + 2e-4)[0] > 6
    assert quantile_interval(time, time, event, 1 - high - 1e-4)[1] == 6
    assert quantile_interval(time, time, event, 1 - high + 2e-4)[1] > 6


def test_with_exact_times_the_interval_of_the_median_is_scipys():
    rng = np.random.default_rng(1)
    time, event = np.round(rng.exponential(10, 60), 3), rng.random(60) < 0.8
    limits = log_log_limits(kaplan_meier(time, event), 0.95)
    expected = [limit.quantiles[limit.probabilities <= 0.5][0] for limit in limits]
    assert quantile_interval(time, time, event, 0.5) == tuple(expected)


@st.composite
def polled(draw):
    """True ends, cut-offs among them, and what polls tell of them."""
    k = draw(st.integers(1, 12))
    ends, lower, upper, event = [], [], [], []
    for _ in range(k):
        end, before, after = draw(st.integers(1, 20)), draw(st.integers(1, 5)), draw(st.integers(0, 5))
        kind = draw(st.sampled_from(["done", "exact", "cancelled", "running"]))
        ends.append(end)
        event.append(kind in {"done", "exact"})
        is_known = kind in {"exact", "running"}
        lower.append(end if is_known else max(0, end - before))
        upper.append(end if is_known else end + after)
    return (*(np.array(values, float) for values in (ends, lower, upper)), np.array(event))


@given(polled(), st.sampled_from([0.25, 0.5, 0.9]))
def test_the_quantile_of_the_true_times_is_within_its_bracket(data, quantile):
    ends, lower, upper, event = data
    exact, same = quantile_bracket(ends, ends, event, quantile)
    assert exact == same
    low, high = quantile_bracket(lower, upper, event, quantile)
    assert low <= exact <= high
    ci_low, ci_high = quantile_interval(lower, upper, event, quantile)
    assert ci_low <= low
    assert ci_high >= high


def latest(data, t):
    """Every end that may lie by t, as late as it can: scipy's estimate just after t."""
    lower, upper, event = data
    time = np.where(event, np.where(lower <= t, np.minimum(upper, t + 1e-6), t + 1), lower)
    return kaplan_meier(time, event)


def earliest(data, t):
    """Only the ends that must lie by t, as early as they can, right after `lower`: scipy's estimate at t."""
    lower, upper, event = data
    soonest = np.where(lower < upper, lower + 1e-6, lower)
    return kaplan_meier(np.where(event, np.where(upper <= t, soonest, t + 1), upper), event)


@given(polled(), st.sampled_from([0.25, 0.5, 0.9]))
def test_the_bracket_is_where_scipys_estimates_of_the_extremes_first_fall_to_the_quantile(data, quantile):
    *_, event = data = data[1:]
    level = 1 - quantile + 1e-9
    low = [t for t in np.unique(data[0]) if latest(data, t).evaluate(t + 1e-6) <= level]
    high = [t for t in np.unique(data[1][event]) if earliest(data, t).evaluate(t) <= level]
    assert quantile_bracket(*data, quantile) == (min(low, default=np.inf), min(high, default=np.inf))


def test_where_the_last_batch_has_ended_its_end_is_no_upper_limit():
    # Two of three ends still allow that most of all batches take longer; the third says nothing.
    assert quantile_interval([1, 2, 3], [1, 2, 3], [True] * 3, 0.5) == (1, np.inf)


def lower_limit(data, quantile, confidence):
    """Find where scipy's lower limit first falls to the quantile when every possible end happens."""
    for t in np.unique(data[0]):
        curve = latest(data, t)
        if curve.evaluate(t + 1e-6) == 0:
            return t
        if log_log_limits(curve, confidence).low.evaluate(t + 1e-6) <= 1 - quantile + 1e-9:
            return t
    return np.inf


def test_the_lower_end_of_the_interval_is_scipys_when_every_possible_end_happens():
    rng = np.random.default_rng(3)
    cases = [(np.array([0.0, 0, 9]), np.array([2.0, 2, 9]), np.array([True, True, False]))]
    for k in (2, 3, 5, 8, 20, 20, 40):
        lower = rng.integers(0, 20, k).astype(float)
        event = rng.random(k) < 0.75
        cases.append((lower, lower + event * rng.integers(0, 6, k), event))
    for data in cases:
        for quantile, confidence in [(0.25, 0.8), (0.5, 0.95), (0.5, 0.5), (0.75, 0.95)]:
            found = quantile_interval(*data, quantile, confidence=confidence)[0]
            assert found == lower_limit(data, quantile, confidence)


def test_where_most_batches_are_running_the_quantile_is_not_reached():
    data = [1, 5, 5, 5], [2, 5, 5, 5], [True, False, False, False]
    assert quantile_bracket(*data, 0.5) == (np.inf, np.inf)
    assert quantile_interval(*data, 0.5)[1] == np.inf


def test_who_was_cut_off_at_a_lower_end_has_left_before_what_ended_after_it():
    assert quantile_bracket([0, 0], [0, 5], [False, True], 0.9) == (0.0, 5.0)
    # At an exact end the other was still there.
    assert quantile_bracket([5, 5], [5, 5], [False, True], 0.9) == (np.inf, np.inf)


def test_a_bracket_of_nothing_is_not_reached():
    assert quantile_bracket([], [], [], 0.5) == quantile_interval([], [], [], 0.5) == (np.inf, np.inf)


def test_kaplan_meier_on_the_lower_ends_is_no_lower_bound_and_not_used():
    # Three batches are running since 2 h, a fourth was done between 1 h and 4 h, in truth after 3 h.
    event = np.array([False, False, False, True])
    lower, upper, ends = np.array([2.0, 2, 2, 1]), np.array([2.0, 2, 2, 4]), np.array([2.0, 2, 2, 3])
    on_lower, on_truth = (kaplan_meier(time, event).evaluate(3) for time in (lower, ends))
    assert on_lower > on_truth
    # All were done after 3 h, of which the lower ends alone know nothing.
    low, high = quantile_bracket(lower, upper, event, 0.9)
    assert low <= 3 <= high


@pytest.mark.parametrize(
    ("lower", "upper", "event", "message"),
    [
        ([1], [0.5], [True], "^expected 0 ≤ lower ≤ upper, none of them NaN or infinite$"),
        ([-1], [1], [True], "0 ≤ lower ≤ upper"),
        ([np.nan], [1], [True], "0 ≤ lower ≤ upper"),
        ([1], [np.inf], [False], "0 ≤ lower ≤ upper"),
        ([1, 2], [3], [True, True], "one length"),
        ([1], [3], [True, True], "one length"),
        ([[1]], [[3]], [[True]], "one length"),
    ],
)
def test_durations_that_are_none_are_refused(lower, upper, event, message):
    with pytest.raises(ValueError, match=message):
        quantile_bracket(lower, upper, event, 0.5)


@pytest.mark.parametrize("quantile", [0, 1, 50])
def test_a_quantile_outside_0_to_1_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile must be between 0 and 1"):
        quantile_bracket([1], [2], [True], quantile)


def test_what_ended_by_the_time_that_two_neighbouring_intervals_share_is_the_first_alone():
    # Half of the batches ended in (0, 1], the other half in (1, 2]: at 1 h just one half is done.
    lower, upper = np.array([0.0, 1, 0, 1]), np.array([1.0, 2, 1, 2])
    assert quantile_bracket(lower, upper, np.ones(4, bool), 0.5) == (0, 1)
    assert quantile_bracket(lower, upper, np.ones(4, bool), 0.9) == (1, 2)
