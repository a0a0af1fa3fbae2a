"""Strata, permutations and e-values: exact cases, enumeration, scipy, and what a later batch may change."""

import itertools
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, permutation_test

from safetykit_analytics.stats import (
    can_decide,
    class_sizes,
    confidence_sequence,
    cut_strata,
    detectable,
    evidence,
    find_outcomes,
    make_strata,
    missing_batches,
    permutation,
    permutation_interval,
    permutation_p,
    permutation_ratio,
    ratio_sequence,
)

CASES = json.loads((Path(__file__).parent / "comparison_cases.json").read_text())["cases"]


def strata_of(case):
    rows = [
        (place, batch["error"], batch["processed"], batch["candidate"])
        for place, stratum in enumerate(case["strata"])
        for batch in stratum
    ]
    look, y, n, z = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.zeros(len(rows), dtype=int)
    return make_strata((nothing, look, nothing), y, n, z)


def some_strata(seed, *, strata=3, m=8, rate=0.05, more=0.0):
    rng = np.random.default_rng(seed)
    n = rng.integers(20, 900, strata * m)
    z = np.tile(np.arange(m) % 3 == 1, strata)
    y = rng.binomial(n, np.where(z, rate + more, rate))
    look = np.repeat(np.arange(strata), m)
    return make_strata((look * 0, look, look * 0), y, n, z)


def all_scores(strata):
    """Scores of every assignment in each stratum."""
    for place, k in enumerate(strata.chosen):
        residual = (strata.base + strata.own)[strata.stratum == place]
        yield np.array([sum(some) for some in itertools.combinations(residual, k)])


def log_e_value(strata):
    """Logarithm of the mean of the ten bets' products, with means over every assignment."""
    logs = np.zeros(10)
    for place, scores in enumerate(all_scores(strata)):
        residual = (strata.base + strata.own)[strata.stratum == place]
        if strata.variance[place] > 1e-12:
            bets = np.array([0.25, 0.5, 1.0, 2.0, 4.0]) / np.sqrt(strata.variance[place])
            bets = np.minimum(bets, 3.0 / np.abs(residual).max())
            bets = np.concatenate([bets, -bets])
            logs += bets * strata.score[place] - np.log(np.exp(np.outer(scores, bets)).mean(axis=0))
    return np.log(np.exp(logs).mean())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_scores_weights_and_p_values_are_those_of_full_enumeration(case):
    strata = strata_of(case)
    expected = [stratum for stratum in case["per_stratum"] if stratum["weight"] > 0]
    assert strata.score == pytest.approx([stratum["score"] for stratum in expected], abs=1e-9)
    assert strata.variance == pytest.approx([stratum["score_variance"] for stratum in expected])
    assert strata.weight == pytest.approx([stratum["weight"] for stratum in expected])
    for scores, stratum in zip(all_scores(strata), expected, strict=True):
        bets = [float(bet) for bet in stratum["log_mgf"]]
        found = np.log(np.exp(np.outer(scores, bets)).mean(axis=0))
        assert found == pytest.approx(list(stratum["log_mgf"].values()), rel=1e-9, abs=1e-13)
    assert evidence(strata).log_now[0] == pytest.approx(log_e_value(strata), abs=1e-9)
    outcomes = find_outcomes(strata)
    assert outcomes.is_exact
    assert outcomes.difference == pytest.approx(case["difference"])
    assert permutation_p(outcomes) == pytest.approx(case["p_two_sided_exact"])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(50, 900)), min_size=2, max_size=10), st.data())
@settings(max_examples=60, deadline=None)
def test_an_e_value_is_that_of_all_assignments(batches, data):
    y, n = map(np.array, zip(*batches, strict=True))
    nothing, own = np.zeros(len(y), dtype=int), data.draw(st.integers(1, len(y) - 1))
    strata = make_strata((nothing, nothing, nothing), y, n, np.arange(len(y)) < own)
    assert evidence(strata).log_now[0] == pytest.approx(log_e_value(strata), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_an_e_value_has_mean_one_over_all_assignments(seed):
    rng = np.random.default_rng(seed)
    n, y = rng.integers(50, 500, 7), rng.integers(0, 40, 7)
    nothing = np.zeros(7, dtype=int)
    values = []
    for some in itertools.combinations(range(7), 3):
        z = np.isin(np.arange(7), some)
        values.append(evidence(make_strata((nothing, nothing, nothing), y, n, z)).e_value[0])
    assert np.mean(values) == pytest.approx(1.0)


def test_drawn_permutations_agree_with_scipy_on_one_stratum():
    rng = np.random.default_rng(4)
    n = rng.integers(100, 900, 24)
    y = rng.binomial(n, np.where(np.arange(24) < 14, 0.03, 0.05))
    z = np.arange(24) >= 14
    nothing = np.zeros(24, dtype=int)
    outcomes = find_outcomes(make_strata((nothing, nothing, nothing), y, n, z))
    assert not outcomes.is_exact
    r = y - y.sum() / n.sum() * n
    theirs = permutation_test(
        (r[~z], r[z]), lambda _, b, axis: b.sum(axis=axis), vectorized=True, n_resamples=19_999, rng=1
    )
    share = (np.abs(theirs.null_distribution) >= abs(theirs.statistic) - 1e-9).mean()
    assert permutation_p(outcomes) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("block", [2**24, 70])
def test_every_subset_is_drawn_equally_often(monkeypatch, block):
    monkeypatch.setattr(permutation, "_BLOCK", block)
    picks = permutation.draw_subsets(np.random.default_rng(1), 7, 3, 35_000)
    subsets, counts = np.unique(np.sort(picks, axis=0), axis=1, return_counts=True)
    assert subsets.shape == (3, 35)
    assert (np.diff(subsets, axis=0) > 0).all()
    assert chisquare(counts).pvalue > 0.001


def test_a_few_batches_are_drawn_from_many_without_room_for_all_of_each_draw():
    z = np.arange(20_000) < 100
    nothing = np.zeros(len(z), dtype=int)
    strata = make_strata((nothing, nothing, nothing), np.arange(len(z)) % 7, nothing + 100, z)
    tracemalloc.start()
    try:
        outcomes = find_outcomes(strata)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6, "9,999 draws of 20,000 batches would take 1,600 MB"
    mirrored = find_outcomes(
        make_strata((nothing, nothing, nothing), np.arange(len(z)) % 7, nothing + 100, ~z)
    )
    assert permutation_p(outcomes) == pytest.approx(permutation_p(mirrored), abs=0.02)


def test_with_many_batches_normal_sums_stand_in_for_permutations():
    rng = np.random.default_rng(5)
    n = rng.integers(100, 900, 1200)
    y = rng.binomial(n, rng.beta(3, 97, 1200))
    look = np.repeat(np.arange(12), 100)
    strata = make_strata((look * 0, look, look * 0), y, n, np.arange(1200) % 2 == 1)
    normal = permutation_interval(find_outcomes(strata), alpha=0.05)
    few = make_strata((look * 0, look, look * 0), y, n, np.arange(1200) % 5 == 1)
    drawn = permutation_interval(find_outcomes(few), alpha=0.05)
    spread = (
        np.sqrt(strata.variance.sum()) / strata.weight.sum(),
        np.sqrt(few.variance.sum()) / few.weight.sum(),
    )
    assert (normal[1] - normal[0]) / spread[0] == pytest.approx((drawn[1] - drawn[0]) / spread[1], rel=0.06)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.1]), st.sampled_from([0.05, 0.2, 0.004]))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_zero_exactly_where_the_test_keeps_it_and_always_the_estimate(seed, more, alpha):
    strata = some_strata(seed, more=more)
    outcomes = find_outcomes(strata)
    low, high = permutation_interval(outcomes, alpha=alpha)
    assert (low <= 0 <= high) == (permutation_p(outcomes) >= alpha)
    assert low <= outcomes.difference <= high
    ratio, ratio_low, ratio_high = permutation_ratio(outcomes, alpha=alpha)
    assert math.isnan(ratio) or ratio_low <= ratio <= ratio_high
    found = evidence(strata)
    d = strata.total(strata.score) / strata.total(strata.weight)
    low, high = confidence_sequence(strata, d, alpha=np.array([alpha]))
    if not np.isnan(low[0]):
        assert low[0] <= d[0] <= high[0]
        assert (low[0] <= 0 <= high[0]) == (found.p_value[0] >= alpha)


def test_the_confidence_sequence_is_where_the_shifted_test_stops_to_reject():
    strata = some_strata(3, strata=6, m=12, more=0.03)
    d = strata.total(strata.score) / strata.total(strata.weight)
    low, high = confidence_sequence(strata, d, alpha=np.array([0.05]))
    for end, outside in ((low[0], -1), (high[0], 1)):
        for step, kept in ((-outside, True), (outside, False)):
            at = end + step * 0.02 * abs(end - d[0])
            shifted = strata.base + strata.own - at * strata.shift
            moved = make_shifted(strata, shifted)
            assert (evidence(moved).p_value[0] > 0.05) == kept


def make_shifted(strata, residual):
    import dataclasses

    return dataclasses.replace(strata, base=residual, own=0 * residual)


def test_an_estimate_that_an_earlier_look_rejected_has_no_interval():
    # Far worse for six looks, then far better for more batches: the mean of both was ruled out before.
    n, z = np.full(12, 1000), np.tile([False, True], 6)
    y = [np.where(z, 200, 20) + np.arange(12) % 5] * 6 + [np.where(z, 20, 200) + np.arange(12) % 5] * 9
    look = np.repeat(np.arange(15), 12)
    strata = make_strata((look * 0, look, look * 0), np.concatenate(y), np.tile(n, 15), np.tile(z, 15))
    d = strata.total(strata.score) / strata.total(strata.weight)
    low, high = confidence_sequence(strata, d, alpha=np.array([0.05]))
    assert np.isnan([low[0], high[0]]).all()


def test_ratios_are_those_of_mantel_and_haenszel():
    strata = strata_of(CASES[0])
    outcomes = find_outcomes(strata)
    base, own = np.array([outcomes.errors_base]), np.array([outcomes.errors_own])
    ratio, low, high = ratio_sequence(strata, (base, own), alpha=np.array([0.05]))
    # Errors of each side by hand, weighted by the share of the other: here one half.
    assert ratio[0] == pytest.approx((88 / 2 + 146 / 2) / (72 / 2 + 147 / 2))
    assert low[0] < ratio[0] < high[0]


def test_a_day_joins_the_next_until_eight_batches_are_in_and_never_the_next_week():
    # Monday to Sunday of one week, and Monday of the next.
    counts = {4: 3, 5: 4, 6: 2, 7: 9, 10: 1, 11: 2}
    day = np.repeat(list(counts), list(counts.values()))
    span, _ = cut_strata(day * 0, day)
    assert {d: int(span[day == d][0]) for d in counts} == {4: 0, 5: 0, 6: 0, 7: 1, 10: 2, 11: 3}


def test_more_than_a_hundred_batches_are_cut_into_equal_runs():
    span, stratum = cut_strata(np.zeros(250, int), np.full(250, 4))
    assert set(span) == {0}
    assert np.bincount(stratum).tolist() == [84, 83, 83]


@given(st.lists(st.integers(4, 24), min_size=1, max_size=120), st.integers(5, 24))
@settings(max_examples=50, deadline=None)
def test_later_batches_do_not_move_the_edges_of_days_that_are_over(days, now):
    day = np.sort(np.array(days))
    early = day[day < now]
    whole, part = cut_strata(day * 0, day)[0], cut_strata(early * 0, early)[0]
    assert whole[: len(early)].tolist() == part.tolist()


def test_strata_are_cut_by_size_where_versions_have_different_sizes_and_only_then():
    z = np.arange(60) % 2 == 1
    stratum = np.repeat([0, 1], 30)
    rng = np.random.default_rng(1)
    n = rng.integers(100, 200, 60)
    for any_look in (True, False):
        assert not class_sizes(stratum, n, z, any_look=any_look).any()
    found = class_sizes(stratum, n * np.where(z, 3, 1), z, any_look=True)
    assert not found[:30].any()
    assert np.bincount(found[30:]).tolist() == [6] * 5
    assert (
        np.bincount(class_sizes(stratum, n * np.where(z, 3, 1), z, any_look=False)[:30]).tolist() == [6] * 5
    )


def test_a_verdict_needs_three_batches_on_both_sides_and_an_outcome_that_can_reach_the_level():
    assert not can_decide([(50, 2)], alpha=0.05, any_look=False)
    assert not can_decide([(3, 3)], alpha=0.05, any_look=False)
    assert can_decide([(4, 4)], alpha=0.05, any_look=False)
    assert not can_decide([(4, 4)], alpha=0.001, any_look=False)
    assert missing_batches([(3, 3)], alpha=0.05, any_look=False) == 1
    assert missing_batches([(6, 6), (6, 6)], alpha=0.05, any_look=True) == 0
    assert missing_batches([], alpha=0.05, any_look=True) is None


def test_what_would_be_seen_is_about_the_quantiles_of_one_normal_score():
    strata = some_strata(8, strata=20, m=20)
    d = strata.total(strata.score) / strata.total(strata.weight)
    found = detectable(strata, d, alpha=np.array([0.05]))[0]
    once = (1.96 + 0.84) * np.sqrt(strata.variance.sum()) / strata.weight.sum()
    assert once < found < 2 * once


def test_strata_without_errors_say_nothing_and_break_nothing():
    nothing = np.zeros(20, dtype=int)
    strata = make_strata((nothing, nothing, nothing), nothing, nothing + 100, np.arange(20) % 2 == 1)
    assert evidence(strata).p_value.tolist() == [1.0]
    low, high = confidence_sequence(strata, np.zeros(1), alpha=np.array([0.05]))
    assert -0.5 < low[0] < 0 < high[0] < 0.5
    assert permutation_p(find_outcomes(strata)) == 1.0
