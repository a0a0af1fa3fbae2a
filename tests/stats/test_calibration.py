"""Verdicts and intervals hold what they say, in a small form of `benchmarks/calibration.py`."""

import os

import numpy as np
import pytest

from benchmarks.calibration import (
    ALPHA,
    MONDAY,
    SECTIONS,
    WEEKS,
    Layout,
    any_look,
    charts_cell,
    draw_errors,
    handover_cell,
    is_broken,
    joined,
    null_cell,
    null_year,
    ramp_layout,
    seen_any_cell,
    seen_cell,
    shift_cell,
    summaries,
    week_headline,
    week_layout,
    weeks_cell,
)

# 400 runs tell a share of 5 % to ± 1.1 points: two of them are allowed for.
RUNS, SLACK = 400, 0.022


@pytest.mark.parametrize(
    ("base", "own", "icc", "rate", "kind"),
    [
        (10, 10, 0.005, 0.02, "log-normal"),
        (100, 10, 0.1, 0.02, "log-normal"),
        (100, 5, 0.03, 0.001, "pareto"),
        (30, 10, 0.03, 0.4, "equal"),
    ],
)
def test_equal_versions_are_rarely_called_different_however_unequal_the_sides(base, own, icc, rate, kind):
    higher, lower = null_cell(base, own, icc, rate, kind, runs=RUNS, seed=1)
    assert higher + lower <= 0.065 + SLACK
    assert lower <= 0.035 + SLACK


@pytest.mark.parametrize(("base", "own"), [(20, 20), (50, 5)])
def test_a_policy_that_does_not_change_is_rarely_called_different_at_any_of_26_weekly_looks(base, own):
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(4):
        layout = joined([week_layout(rng, base, own, "log-normal") for _ in range(26)])
        y = draw_errors(rng, layout.n, 0.1, np.full((50, len(layout.n)), 0.02))
        wrong.append((any_look(layout, y)[0] < ALPHA).mean())
    assert np.mean(wrong) <= 0.06 + 0.02


def test_a_ramp_while_the_background_drifts_blames_neither_version():
    rng = np.random.default_rng(2)
    wrong = []
    for _ in range(5):
        layout = ramp_layout(rng, (0.1, 0.25, 0.5, 0.75), 40, 7)
        rate = 0.02 + 0.02 * (layout.day - layout.day[0]) / 27
        y = draw_errors(rng, layout.n, 0.005, np.broadcast_to(rate, (40, len(rate))))
        wrong.append((any_look(layout, y)[0] < ALPHA).mean())
    assert np.mean(wrong) <= 0.06 + 0.02


def test_one_point_more_is_found_within_eight_weeks():
    rng = np.random.default_rng(3)
    layout = joined([week_layout(rng, 20, 20, "log-normal") for _ in range(8)])
    rate = np.where(layout.is_candidate, 0.03, 0.02)
    y = draw_errors(rng, layout.n, 0.005, np.broadcast_to(rate, (100, len(rate))))
    assert (any_look(layout, y)[0] < ALPHA).mean() > 0.85


@pytest.mark.parametrize("weeks", WEEKS)
def test_equal_weeks_are_rarely_called_different_though_batches_span_both(weeks):
    for icc in (0.0, 0.005, 0.03):
        small, wrong = weeks_cell(weeks, icc, runs=1000, seed=1)
        assert wrong <= small <= 0.065 + 0.014


def test_what_would_have_been_seen_is_seen_in_four_of_five_comparisons():
    # 100 runs of 20 layouts: ± 5 points.
    assert seen_cell(np.random.default_rng(4), 20, 0.005, "equal", 100) == pytest.approx(0.8, abs=0.1)


def test_what_any_look_would_have_seen_is_seen_whatever_the_sizes_are():
    rng = np.random.default_rng(8)
    shares = [seen_any_cell(rng, 0.03, kind, 50, n_weeks=3) for kind in ("equal", "log-normal")]
    assert shares == pytest.approx([0.8, 0.8], abs=0.2)


def test_versions_that_never_ran_together_are_never_plainly_different_and_rarely_since():
    since, plain = handover_cell(np.random.default_rng(5), 10, 0.03, 0.0, before=4, runs=20)
    assert plain == 0
    assert since <= 0.065 + 0.11


@pytest.mark.parametrize("kind", ["log-normal", "pareto"])
def test_a_control_chart_of_a_policy_that_does_not_change_is_rarely_marked(kind):
    assert charts_cell(np.random.default_rng(6), 12, 48.0, 0.03, kind, runs=200) <= 0.10 + 0.04


def test_a_shift_of_five_sigma_of_a_bucket_is_marked_within_two_days():
    assert shift_cell(np.random.default_rng(7), 5.0, 0.0, before=28, runs=100) >= 0.9


def test_a_report_on_twenty_policies_that_do_not_change_has_no_headline_of_a_change():
    batches = null_year(np.random.default_rng(7), 0.03, 6)
    assert week_headline(batches, 20).startswith("No policy")


@pytest.mark.parametrize(("sides", "base", "own"), [(12, 2, 99), (50, 0, 5)])
def test_a_side_with_hardly_any_variance_is_a_headline(sides, base, own):
    day = np.repeat(np.arange(MONDAY + 7, MONDAY + 14), 2 * sides)[: 2 * sides]
    is_candidate = np.arange(2 * sides) % 2 == 1
    y = np.where(is_candidate, own, base)
    batches = summaries([(Layout(day, is_candidate, np.full(2 * sides, 100)), y)])
    assert week_headline(batches, 1).startswith("Version v2 of P0 is associated with a higher error rate")


@pytest.mark.heavy
@pytest.mark.parametrize("section", SECTIONS)
def test_every_bar_holds_in_many_runs(section):
    scale = float(os.environ.get("SKA_HEAVY", "1"))
    if section == "null" and scale < 1:
        pytest.skip("its 204 cells have no shorter form than those of every day")
    runs = max(200, int(4000 * scale))
    assert [cell for cell in SECTIONS[section](runs, 2) if is_broken(cell, runs=runs)] == []
