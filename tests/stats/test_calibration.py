"""p-values, verdicts and intervals hold what they say, cell by cell; the pooled test does not."""

import os

import pytest

from benchmarks.calibration import ICCS, SIDES, WEEKS, broken_bars, simulate, simulate_weeks

CELLS = [(sides, icc) for sides in SIDES for icc in ICCS]


@pytest.mark.parametrize(("sides", "icc"), CELLS)
def test_equal_versions_are_rarely_called_different_and_intervals_hold_the_rate(sides, icc):
    # 1,000 runs tell a share of 5 % to ± 0.7 points: two of them are allowed for.
    assert broken_bars(sides, icc, simulate(sides, icc, runs=1000, seed=1), slack=0.014) == []


@pytest.mark.parametrize("weeks", WEEKS)
def test_equal_weeks_are_rarely_called_different_though_batches_span_both(weeks):
    for icc in ICCS:
        small, wrong = simulate_weeks(weeks, icc, runs=1000, seed=1)
        assert wrong <= small <= 0.065 + 0.014


def test_the_pooled_test_calls_equal_versions_different_in_half_of_all_cases():
    cell = simulate((10, 10), 0.005, runs=1000, seed=1)
    assert cell.pooled > 0.4
    assert cell.coverage_pooled < 0.6


def test_degrees_of_freedom_from_the_estimated_variances_alone_would_open_the_gate():
    cell = simulate((100, 3), 0.03, runs=1000, seed=1)
    assert cell.satterthwaite > 0.15
    assert cell.ours < 0.05


def test_one_batch_of_ten_thousand_and_two_tiny_ones_never_yield_a_verdict():
    for icc in ICCS:
        assert simulate((50, "giant"), icc, runs=1000, seed=1).wrong == 0


def test_a_true_difference_of_two_points_is_found_with_thirty_batches_each():
    assert simulate((30, 30), 0.005, runs=500, seed=1, rates=(0.02, 0.04)).wrong > 0.9


@pytest.mark.heavy
@pytest.mark.parametrize(("sides", "icc"), CELLS)
def test_every_bar_holds_in_many_runs(sides, icc):
    runs = int(20_000 * float(os.environ.get("SKA_HEAVY", "1")))
    # Three standard errors of a share of 5 % (or of 95 %).
    slack = 3 * (0.05 * 0.95 / runs) ** 0.5
    assert broken_bars(sides, icc, simulate(sides, icc, runs=runs, seed=2), slack=slack) == []
