"""Small multiples: panels that can be compared."""

import functools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import safetykit_analytics as ska
from safetykit_analytics.errors import UnknownName
from tests.plots.helpers import (
    backlog_table,
    comparison_table,
    completion_table,
    control_table,
    empty_rates,
    lines_with_data,
    rates_table,
)

GROUPS = [(policy, version) for policy in ("spam", "scam", None) for version in ("v7", "v8")]
COMPLETION = completion_table([(policy, version, 9, 1, (1.0, 2, 3, 4)) for policy, version in GROUPS])
COMPARISON = comparison_table("v7", [("v8", 9, 900, 0.01, 0.0, 0.02, "higher")])


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("plot", "table"),
    [
        (ska.plot_throughput, rates_table(GROUPS)),
        (functools.partial(ska.plot_throughput, stacked=True), rates_table(GROUPS)),
        (ska.plot_error_rate, rates_table(GROUPS)),
        (ska.plot_control_chart, control_table(GROUPS)),
        (ska.plot_backlog, backlog_table(GROUPS)),
        (ska.plot_completion_time, COMPLETION),
    ],
)
def test_every_plot_has_one_panel_per_group_in_natural_order(plot, table):
    assert titles(ska.plot_grid(plot, table)) == ["scam", "spam", "(none)"]


def test_panels_may_be_those_of_the_versions():
    figure = ska.plot_grid(ska.plot_throughput, rates_table(GROUPS), by="policy_version")
    assert titles(figure) == ["v7", "v8"]
    figure.draw_without_rendering()


def test_a_comparison_has_one_panel_per_policy():
    assert titles(ska.plot_grid(ska.plot_comparison, COMPARISON)) == ["spam"]


def test_panels_of_several_policies_say_against_which_version_each_is_drawn():
    other = comparison_table("v1", [("v2", 5, 90, 0.01, 0.0, 0.02, "higher")])
    alone = comparison_table("v5", [])
    for table, policy in ((other, "scam"), (alone, "zeal")):
        table["policy_id"] = policy
    figure = ska.plot_grid(ska.plot_comparison, pd.concat([COMPARISON, other, alone]))
    assert titles(figure) == ["scam, against v1", "spam, against v7", "zeal"]
    assert figure.get_suptitle() == "Error rate against the baseline by policy"
    assert ska.plot_grid(ska.plot_comparison, COMPARISON).get_suptitle() == "Error rate against v7 by policy"
    figure.draw_without_rendering()
    assert not any(label.get_visible() for label in figure.axes[2].get_yticklabels())


def test_panels_share_axes_that_hold_the_data_of_all():
    figure = ska.plot_grid(ska.plot_throughput, rates_table(GROUPS, first={("spam", "v8"): 9}))
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    drawn = np.concatenate([line.get_ydata() for ax in figure.axes for line in lines_with_data(ax)])
    assert low <= np.nanmin(drawn) <= np.nanmax(drawn) <= high


def test_a_version_looks_the_same_in_all_panels_and_is_named_once():
    table = rates_table([("spam", "v1.2"), ("scam", "v2.2"), ("scam", "v1.2")])
    figure = ska.plot_grid(ska.plot_error_rate, table)
    assert legend_texts(figure)[:2] == ["v1.2", "v2.2"]
    scam, spam = figure.axes
    assert {line.get_color() for line in lines_with_data(spam)} < {
        line.get_color() for line in lines_with_data(scam)
    }


def test_where_one_name_cannot_look_the_same_each_panel_has_its_own_legend():
    groups = [("a", f"v{k}") for k in range(10)] + [("b", "v10"), ("b", "v20")]
    figure = ska.plot_grid(ska.plot_error_rate, rates_table(groups))
    assert all(ax.get_legend() is not None for ax in figure.axes)


def test_each_panel_says_what_is_in_its_other():
    figure = ska.plot_grid(
        ska.plot_throughput, rates_table([("a", f"v{k}") for k in range(3, 16)] + [("b", "v9")])
    )
    assert "other (3 versions)" in figure.axes[0].texts[0].get_text()
    assert "other" in legend_texts(figure)


def test_axis_labels_stand_once():
    figure = ska.plot_grid(ska.plot_error_rate, rates_table(GROUPS))
    assert figure.get_supxlabel().startswith("time (Europe/Berlin)")
    assert figure.get_supylabel() == "errors / processed decisions"
    assert {ax.get_ylabel() + ax.get_xlabel() for ax in figure.axes} == {""}


def test_the_lowest_panel_of_each_column_has_tick_labels():
    figure = ska.plot_grid(ska.plot_error_rate, rates_table(GROUPS))
    figure.draw_without_rendering()
    labelled = [
        any(label.get_text() for label in ax.get_xticklabels() if label.get_visible()) for ax in figure.axes
    ]
    assert labelled == [False, True, True]


def test_an_empty_table_is_one_panel_that_says_no_data():
    figure = ska.plot_grid(ska.plot_error_rate, empty_rates())
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["no data"]
    figure.draw_without_rendering()


def test_a_panel_without_data_leaves_the_ticks_of_the_others_alone():
    table = rates_table([("a", "v1"), ("b", "v1")])
    table.loc[table["policy_id"] == "a", "error_rate"] = np.nan
    empty, full = ska.plot_grid(ska.plot_error_rate, table).axes
    full.figure.draw_without_rendering()
    assert [text.get_text() for text in empty.texts] == ["no data"]
    assert any(label.get_text() for label in full.get_xticklabels())
    assert any(label.get_text() for label in empty.get_yticklabels())


def test_only_this_librarys_plots_and_its_two_columns_are_accepted():
    table = rates_table(GROUPS)
    with pytest.raises(TypeError, match="plot_throughput"):
        ska.plot_grid(print, table)
    with pytest.raises(UnknownName, match="batch_id"):
        ska.plot_grid(ska.plot_throughput, table, by="batch_id")
    with pytest.raises(UnknownName, match="policy_id"):
        ska.plot_grid(ska.plot_throughput, table.drop(columns="policy_id"))
    assert isinstance(ska.plot_grid(ska.plot_throughput, table), Figure)
