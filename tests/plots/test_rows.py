"""Completion times and comparisons: one row per version."""

from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure

import safetykit_analytics as ska
from safetykit_analytics.errors import UnknownName
from tests.plots.helpers import comparison_table, completion_table

CANDIDATES = [
    ("v8", 14, 22_000, 0.012, 0.004, 0.020, "higher"),
    ("v9", 11, 18_000, -0.001, -0.007, 0.005, "no difference found"),
    ("v10", 2, 600, None, None, None, "not enough batches"),
]
TIMES = [
    ("spam", "v7", 41, 0, (2.0, 2.5, 5.0, 6.0)),
    ("spam", "v8", 18, 3, (3.0, 4.0, 6.5, None)),
    ("spam", None, 5, 4, (1.5, None, None, None)),
]


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_each_candidate_stands_at_its_difference_in_natural_order_from_the_top():
    ax = ska.plot_comparison(comparison_table("v7", CANDIDATES))
    assert names(ax) == ["v8", "v9", "v10"]
    assert ax.yaxis_inverted()
    middles = [line.get_xdata()[0] for line in ax.get_lines() if line.get_markersize() == 9]
    assert middles == [0.012, -0.001]


def test_a_verdict_is_filled_and_no_verdict_is_hollow():
    ax = ska.plot_comparison(comparison_table("v7", CANDIDATES))
    faces = [line.get_markerfacecolor() for line in ax.get_lines() if line.get_markersize() == 9]
    assert faces[0] != "white"
    assert faces[1] == "white"


def test_words_say_the_difference_its_interval_the_verdict_and_what_it_rests_on():
    first, second, third = words(ska.plot_comparison(comparison_table("v7", CANDIDATES)))[:3]
    assert first == "+1.20 pp (+0.40 to +2.00 pp): higher\n14 batches, 22,000 decisions"
    assert "−0.10 pp (−0.70 to +0.50 pp): no difference found" in second
    assert "0.84 pp or more would have been seen" in second
    assert third == "not enough batches\n2 batches, 600 decisions"


def test_the_baseline_is_the_zero_line_and_named():
    ax = ska.plot_comparison(comparison_table("v7", CANDIDATES, policy="hate_speech"))
    assert ax.get_title(loc="left") == "Error rate against v7: hate_speech"
    assert [line for line in ax.get_lines() if list(line.get_xdata()) == [0, 0]]
    assert any(said.startswith("baseline v7: 2.13 % (1.72 to 2.61 %), 12 batches") for said in words(ax))


def test_an_interval_that_leaves_the_picture_has_an_arrow_and_does_not_flatten_the_others():
    wide = [
        ("v1", 14, 22_000, 0.012, 0.004, 0.020, "higher"),
        ("v2", 3, 900, 0.004, -0.4, 0.5, "not enough batches"),
    ]
    ax = ska.plot_comparison(comparison_table("v7", wide))
    assert ax.get_xlim()[1] < 0.1
    assert chevrons(ax) == [("left", 1), ("right", 1)]


def test_a_comparison_object_is_drawn_by_its_table():
    comparison = SimpleNamespace(table=comparison_table("v7", CANDIDATES))
    assert names(ska.plot_comparison(comparison)) == ["v8", "v9", "v10"]


def test_candidates_without_any_estimate_are_still_named():
    ax = ska.plot_comparison(comparison_table("v7", CANDIDATES[2:]))
    assert names(ax) == ["v10"]
    ax.figure.draw_without_rendering()


def test_a_scan_names_the_baseline_of_each_policy():
    scan = [
        comparison_table("v7", CANDIDATES[:1], policy="spam"),
        comparison_table("v1", [("v2", 5, 9, 0, -1, 1, "x")]),
    ]
    scan[1]["policy_id"] = "scam"
    ax = ska.plot_comparison(pd.concat(scan))
    assert [name.replace("\n", " ") for name in names(ax)] == ["scam · v2 against v1", "spam · v8 against v7"]


def test_candidates_for_which_there_is_no_room_are_the_smaller_ones_and_counted():
    many = [(f"v{k}", 5, 1000 + k, 0.001 * k, -0.01, 0.02, "no difference found") for k in range(1, 24)]
    ax = ska.plot_comparison(comparison_table("v0", many))
    drawn = names(ax)
    assert drawn == [f"v{k}" for k in range(24 - len(drawn), 24)]
    left_out = f"not drawn: {23 - len(drawn)} without a verdict"
    assert any(left_out in said.replace("\n", " ") for said in words(ax))


def test_candidates_with_a_verdict_are_drawn_before_larger_ones_without():
    verdicts = ["higher", "lower"] * 9 + ["higher since"] + ["no difference found"] * 11
    table = comparison_table(
        "v0",
        [(f"v{k}", 5, 1000 + 100 * k, 0.01, 0.001, 0.02, said) for k, said in enumerate(verdicts, 1)],
    )
    ax = ska.plot_comparison(table)
    assert set(names(ax)) >= {f"v{k}" for k in range(1, 20)}
    small = Figure(figsize=(6.4, 4.8), layout="constrained").subplots()
    ska.plot_comparison(table, ax=small)
    drawn = names(small)
    assert set(drawn) <= {f"v{k}" for k in range(1, 19)}
    said = f"not drawn: {19 - len(drawn)} with a verdict, 11 without a verdict"
    assert any(said in text.replace("\n", " ") for text in words(small))


def test_a_before_and_after_row_has_a_half_filled_marker_at_the_raw_difference_and_no_interval():
    table = comparison_table("v7", [("v8", 9, 900, None, None, None, "higher since")])
    ax = ska.plot_comparison(table.assign(difference_raw=0.013, design="before and after"))
    (marker,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert marker.get_fillstyle() == "bottom"
    assert list(marker.get_xdata()) == [0.013]
    assert words(ax)[0].startswith("+1.30 pp: higher since")
    assert "higher or lower since (before and after)" in {
        text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()
    }


def test_no_marker_on_an_axis_of_differences_is_a_triangle():
    rows = [(f"v{k}", 9, 900, 0.01, 0.0, 0.02, "higher") for k in range(10)]
    ax = ska.plot_comparison(comparison_table("v77", rows))
    assert {str(line.get_marker()) for line in ax.get_lines()} <= {"o", "|", "None"}


def chevrons(ax):
    """Return at which side of which row an interval goes on."""
    found = [line for line in ax.get_lines() if isinstance(line.get_marker(), list)]
    sides = {1.0: "left", -1.0: "right"}
    return sorted((sides[line.get_marker()[0][0]], line.get_ydata()[0]) for line in found)


def test_a_comparison_without_candidates_says_no_data():
    ax = ska.plot_comparison(comparison_table("v7", []))
    assert "no data" in words(ax)
    assert "percentage points" in ax.get_xlabel()


def test_brackets_run_from_the_earliest_to_the_latest_time_in_hours():
    ax = ska.plot_completion_time(completion_table(TIMES))
    assert names(ax) == ["v7", "v8", "(none)"]
    assert ax.get_xlabel() == "hours from creation to the first SUCCESS or ERROR"
    spans = [tuple(line.get_xdata()) for line in ax.get_lines() if line.get_marker() in ("None", "")]
    assert (2.0, 2.5) in spans
    assert (5.0, 6.0) in spans
    assert (3.0, 4.0) in spans


def test_an_open_bracket_ends_in_an_arrow_and_reads_as_more_than():
    ax = ska.plot_completion_time(completion_table(TIMES))
    assert [side for side, _ in chevrons(ax)] == ["right", "right"]
    assert words(ax)[1] == "half: 3–4 h; nine in ten: > 6.5 h\n18 batches, 3 still running"
    assert words(ax)[2].startswith("half: > 1.5 h; nine in ten: not known yet")


@pytest.mark.parametrize(
    ("factor", "unit"), [(1 / 3600, "seconds"), (1 / 60, "minutes"), (1, "hours"), (24, "days")]
)
def test_the_unit_suits_the_longest_time(factor, unit):
    rows = [("spam", "v7", 4, 0, tuple(factor * value for value in (2.0, 2.5, 5.0, 6.0)))]
    ax = ska.plot_completion_time(completion_table(rows))
    assert ax.get_xlabel().startswith(unit)
    assert ax.get_xlim()[1] == pytest.approx(6 * 1.12, rel=0.02)


def test_no_completion_times_say_no_data():
    empty = completion_table(TIMES)[:0]
    unknown = completion_table([("spam", "v7", 3, 3, (None,) * 4)])
    for table in (empty, unknown):
        ax = ska.plot_completion_time(table)
        assert words(ax) == ["no data"]
        assert ax.get_xlabel()


def test_missing_columns_are_named():
    with pytest.raises(UnknownName, match="verdict"):
        ska.plot_comparison(comparison_table("v7", CANDIDATES).drop(columns="verdict"))
    with pytest.raises(UnknownName, match="p90_high"):
        ska.plot_completion_time(completion_table(TIMES).drop(columns="p90_high"))


def test_each_candidate_names_the_baseline_that_its_row_stands_under():
    first, second = (comparison_table(base, [(to, 5, 900, 0.01, 0.001, 0.02, "higher")]) for base, to in
                     (("v1", "v2"), ("v7", "v8")))  # fmt: skip
    other = comparison_table("v3", [("v4", 5, 900, 0.01, 0.001, 0.02, "higher")], policy="scam")
    ax = ska.plot_comparison(pd.concat([first, other, second], ignore_index=True))
    expected = ["scam · v4 against v3", "spam · v2 against v1", "spam · v8 against v7"]
    assert [name.replace("\n", " ") for name in names(ax)] == expected
    two = ska.plot_comparison(pd.concat([first, second], ignore_index=True))
    assert [name.replace("\n", " ") for name in names(two)] == ["v2 against v1", "v8 against v7"]
    assert "1 policy, each version against its baseline" in words(two)


def test_one_row_is_high_enough_to_say_what_the_baseline_rests_on():
    ax = ska.plot_comparison(comparison_table("v7", CANDIDATES[:1]))
    assert any(said.startswith("baseline v7: 2.13 %") for said in words(ax))
