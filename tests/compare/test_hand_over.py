"""Versions that ran one after the other: what is said, and what is never said."""

import dataclasses
import math

import numpy as np
import pytest

import safetykit_analytics as ska
from safetykit_analytics.compare.pairs import Ended
from safetykit_analytics.compare.verdicts import judge_period, own_moves
from safetykit_analytics.stats import LEAST_DRAWS, find_outcomes, make_strata, permutation_p
from tests.compare.helpers import ended, observations, some_counts

PER_BATCH = ("policy", "group", "day", "at_us", "errors", "processed", "started_us")


def weeks_of(rng, rates, *, m=12, version="v7", first=0):
    """Batches of one version, m a week at the given rates."""
    rows = []
    for week, rate in enumerate(rates, first):
        rows += ended(version, some_counts(rng, m, rate), first=1000 * week, start=168 * week)
    return rows


def compare(rows, **options):
    return ska.compare_versions(observations(rows), policy_id="P", baseline="v7", **options)


def test_a_jump_at_a_hand_over_is_since_and_never_higher():
    rng = np.random.default_rng(1)
    rows = weeks_of(rng, [0.02] * 4, m=30) + weeks_of(rng, [0.06], m=30, version="v8", first=4)
    for looks in ("any", "once"):
        row = compare(rows, looks=looks).table.iloc[1]
        assert (row["design"], row["verdict"]) == ("before and after", "higher since")
        assert math.isnan(row["difference"])
        assert math.isnan(row["difference_low"])


@pytest.mark.parametrize(("m", "verdict"), [(2, "not enough batches"), (3, "higher since")])
def test_a_hand_over_needs_three_batches_on_each_side(m, verdict):
    rows = weeks_of(np.random.default_rng(1), [0.02] * 4, m=30)
    rows += ended("v8", [(300, 1000)] * m, first=4000, start=4 * 168)
    row = compare(rows).table.iloc[1]
    assert row["p_adjusted"] < 0.05
    assert (row["design"], row["verdict"]) == ("before and after", verdict)


def test_a_jump_that_the_weeks_of_one_version_made_too_is_no_difference():
    rng = np.random.default_rng(2)
    rows = weeks_of(rng, [0.02, 0.02, 0.07, 0.02], m=30)
    rows += weeks_of(rng, [0.06], m=30, version="v8", first=4)
    row = compare(rows).table.iloc[1]
    assert row["p_adjusted"] < 0.05
    assert row["verdict"] == "no difference found"


def test_a_few_common_days_amid_a_hand_over_are_a_plain_verdict_on_these_days():
    rng = np.random.default_rng(3)
    rows = weeks_of(rng, [0.02] * 2, m=20) + weeks_of(rng, [0.02], version="v8", first=3, m=20)
    for version, rate in (("v7", 0.02), ("v8", 0.12)):
        rows += ended(version, some_counts(rng, 10, rate), first=5000, start=340)
    found = compare(rows, looks="once")
    row = found.table.iloc[1]
    assert (row["design"], row["verdict"]) == ("mixed", "higher")
    assert row["difference"] > 0.05 > row["difference_raw"]
    assert "higher error rate than v7, partly side by side" in found.sentences[0]
    assert (
        "Only the days on which both ran are compared; all batches together differ by" in found.sentences[0]
    )


def own_weeks(rates):
    """Batches of one version, three of 10,000 a week at the given rates."""
    week = np.repeat(np.arange(len(rates)), 3)
    y, n = np.round(np.repeat(rates, 3) * 10_000).astype(int), np.full(len(week), 10_000)
    day = 7 * week + 4
    return Ended(week * 0, week * 0, day, day * 86_400_000_000 + np.arange(len(week)), y, n, day, 1)


def test_a_few_known_moves_leave_room_for_a_larger_one_and_many_do_not():
    few = own_weeks([0.02, 0.023, 0.02])
    largest, allowed = own_moves(few, few.rows())
    assert (largest, allowed) == pytest.approx((0.003, 0.003 * 2.919986))  # t of 2 degrees of freedom, 95 %
    many = own_weeks([0.02, 0.02, 0.023, *[0.023] * 20])
    assert own_moves(many, many.rows()) == pytest.approx((0.003, 0.003))


def test_without_two_neighbouring_weeks_of_three_batches_no_move_is_known():
    one = own_weeks([0.02])
    assert np.isnan(own_moves(one, one.rows())).all()
    three = own_weeks([0.02, 0.5, 0.03])
    for lost in ([3, 4], [3, 4, 5]):  # of the week between one batch is left, or none
        parts = {name: np.delete(getattr(three, name), lost) for name in PER_BATCH}
        apart = dataclasses.replace(three, **parts)
        assert np.isnan(own_moves(apart, apart.rows())).all()
    rng = np.random.default_rng(1)
    rows = weeks_of(rng, [0.02], m=30) + weeks_of(rng, [0.06], m=30, version="v8", first=1)
    found = compare(rows)
    assert found.table["verdict"][1] == "higher since"
    assert "how much the policy's weeks move anyway is not known" in found.sentences[0]


def some_period(seed, more):
    rng = np.random.default_rng(seed)
    n = rng.integers(100, 900, 60)
    own = np.arange(60) >= 40
    y = rng.binomial(n, np.where(own, 0.03 + more, 0.03))
    day = np.where(own, 32, np.arange(60) % 28 + 4)
    order = np.lexsort((np.arange(60), day))
    at_us = day[order] * 86_400_000_000 + np.arange(60)
    batches = Ended(own[order] * 0, own[order] * 1, day[order], at_us, y[order], n[order], at_us, 2)
    return batches, batches.rows()


@pytest.mark.parametrize("looks", ["once", "any"])
def test_few_draws_decide_as_all_of_them_do(looks):
    factor = 1.0 if looks == "once" else math.pi**2 / 6.0
    shortened = 0
    for seed in range(15):
        batches, (base, own) = some_period(seed, 0.012 * (seed % 3))
        both = np.concatenate([base, own])
        nothing = np.zeros(len(both), dtype=int)
        strata = make_strata(
            (nothing, nothing, nothing),
            batches.errors[both],
            batches.processed[both],
            np.arange(len(both)) >= len(base),
        )
        expected = min(1.0, factor * permutation_p(find_outcomes(strata, draws=LEAST_DRAWS)))
        found = judge_period(batches, [base, own], 32, looks=looks, alpha=0.05, draws=LEAST_DRAWS)
        assert (found < 0.05) == (expected < 0.05)
        shortened += found != expected
        if expected < 0.05:
            assert found == expected
    assert shortened >= 1


def period_p(batches, today):
    return judge_period(batches, batches.rows(), today, looks="any", alpha=0.05, draws=LEAST_DRAWS)


def test_each_week_after_a_hand_over_uses_less_of_the_level_until_the_fifth():
    batches, _ = some_period(1, 0.05)
    first, *later = (period_p(batches, day) for day in (38, 39, 46, 53, 60, 67))
    assert first < 0.04
    assert [p / first for p in later] == pytest.approx([4.0, 9.0, 16.0, 25.0, 25.0])


def test_a_hand_over_is_judged_by_four_weeks_on_both_sides():
    batches, _ = some_period(4, 0.01)
    early, late = (
        Ended(*(np.full(5, at) for at in (0, group, day, day * 86_400_000_000, 90, 100, 0)), n_groups=2)
        for group, day in ((0, 2), (1, 61))
    )
    names = ("policy", "group", "day", "at_us", "errors", "processed", "started_us")
    more = Ended(
        *(np.concatenate([getattr(part, name) for part in (early, batches, late)]) for name in names),
        n_groups=2,
    )
    assert period_p(more, 38) == period_p(batches, 38) < 0.5
