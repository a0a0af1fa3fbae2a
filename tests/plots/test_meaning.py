"""What marks mean, and what a picture shows of extremes."""

import functools

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

import safetykit_analytics as ska
from safetykit_analytics.plots import text
from tests.plots.helpers import (
    backlog_table,
    comparison_table,
    completion_table,
    control_table,
    lines_with_data,
    rates_table,
)

TWO = [("spam", "v7"), ("spam", "v8")]
RED = "#D0021B"


def legend_of(ax):
    return [words.get_text().replace("\n", " ") for words in ax.get_legend().get_texts()]


def line_of(ax, label):
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    return line


@pytest.mark.parametrize("high", [0.004, 0.03])
def test_rates_that_are_all_zero_show_how_high_they_may_be(high):
    table = rates_table([("spam", "v7")]).assign(error=0.0, error_rate=0.0, error_rate_low=0.0)
    ax = ska.plot_error_rate(table.assign(error_rate_high=high))
    assert ax.get_ylim() == pytest.approx((0, high * 1.06))


def test_an_interval_that_is_cut_is_marked_on_the_upper_edge():
    table = rates_table([("spam", "v7")])
    assert "goes on above" not in legend_of(ska.plot_error_rate(table))
    table.loc[4, "error_rate_high"] = 0.9
    ax = ska.plot_error_rate(table)
    (mark,) = [line for line in ax.get_lines() if isinstance(line.get_marker(), list)]
    assert list(mark.get_ydata()) == [1.0]
    assert mark.get_xdata()[0] == line_of(ax, "v7").get_xdata()[4]
    assert "goes on above" in legend_of(ax)


@pytest.mark.parametrize(("plot", "before"), [(ska.plot_throughput, True), (ska.plot_error_rate, False)])
def test_a_log_axis_shows_all_data(plot, before):
    ax = Figure(layout="constrained").subplots()
    if before:
        ax.set_yscale("log")
    plot(rates_table(TWO), ax=ax)
    if not before:
        ax.set_yscale("log")
    ax.figure.draw_without_rendering()
    drawn = np.concatenate([line.get_ydata() for line in (line_of(ax, "v7"), line_of(ax, "v8"))])
    low, high = ax.get_ylim()
    assert 0 < low <= np.nanmin(drawn) <= np.nanmax(drawn) <= high


def test_a_version_that_another_took_over_from_ends_and_a_standstill_of_all_does_not():
    table = rates_table(TWO)
    old = table["policy_version"] == "v7"
    zero = ["processed", "throughput_per_hour", "processed_low", "processed_high"]
    table.loc[old & (table.index >= 6), zero] = 0.0
    ax = ska.plot_throughput(table)
    assert np.isfinite(line_of(ax, "v7").get_ydata()).sum() == 6
    assert np.isfinite(line_of(ax, "v8").get_ydata()).sum() == 14
    table.loc[~old & (table.index >= 14 + 6), zero] = 0.0
    assert np.isfinite(line_of(ska.plot_throughput(table), "v7").get_ydata()).sum() == 14


def test_in_a_stack_the_newer_version_is_darker_and_doubt_is_dots():
    table = rates_table([("spam", "v7"), ("spam", "v8"), ("scam", "v1")])
    table.loc[4, "coverage"] = 0.2
    ax = ska.plot_throughput(table, stacked=True)
    areas = [area for area in ax.collections if isinstance(area, PolyCollection)]
    scam, old, dotted, new = areas
    assert sum(new.get_facecolor()[0][:3]) < sum(old.get_facecolor()[0][:3])
    assert [area.get_hatch() for area in (scam, old, dotted, new)] == [None, None, "...", None]
    assert {area.get_alpha() for area in areas} == {None}
    assert any("hardly observed" in said for said in legend_of(ax))


def test_more_than_three_backlogs_have_a_lane_each_on_one_scale():
    table = backlog_table([(policy, "v1") for policy in "abcd"], by=("policy_id",))
    ax = ska.plot_backlog(table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c", "d"]
    areas = [area for area in ax.collections if isinstance(area, PolyCollection)]
    heights = [np.ptp(area.get_paths()[0].vertices[:, 1]) for area in areas]
    peaks = table.groupby("policy_id")["pending"].max()
    assert heights == pytest.approx(list(0.8 * peaks / peaks.max()))
    assert len(lines_with_data(ska.plot_backlog(table[table["policy_id"] < "d"]))) >= 3


def test_lanes_without_any_backlog_say_so():
    table = backlog_table([(policy, "v1") for policy in "abcd"], by=("policy_id",)).assign(pending=0.0)
    assert any("the highest lane reaches 0" in words.get_text() for words in ska.plot_backlog(table).texts)


@pytest.mark.parametrize("plot", [ska.plot_throughput, ska.plot_backlog])
def test_a_sum_of_many_small_policies_does_not_flatten_the_large_ones(plot):
    groups = [(f"p{k}", "v1") for k in range(20)]
    table = rates_table(groups, by=("policy_id",)).assign(pending=900.0, n_open=3)
    many = pd.concat(
        [table, *(table.assign(policy_id=table["policy_id"] + f"-{n}") for n in range(9))], ignore_index=True
    )
    ax = plot(many)
    assert any(said.startswith("not drawn: other (190 policies) up to ") for said in legend_of(ax))
    assert not any("other" in str(line.get_label()) for line in ax.get_lines())
    assert not any("other" in label.get_text() for label in ax.get_yticklabels())
    if plot is ska.plot_throughput:
        highest = many.groupby("policy_id")["throughput_per_hour"].max().max()
        assert ax.get_ylim()[1] < 2 * highest


def test_a_ring_within_the_limits_is_explained():
    chart = control_table([("spam", "v7")], alarms=[4])
    assert legend_of(ska.plot_control_chart(chart))[-1] == "out of control"
    chart.loc[9, "out_of_control"] = True
    said = "out of control beyond a limit, or ninth or later in a row on one side of the center"
    assert said in legend_of(ska.plot_control_chart(chart))


def test_alarms_are_red_rings_that_no_edge_cuts_and_limits_leave_room_for_the_data():
    chart = control_table([("spam", "v7")], alarms=[4])
    chart.loc[9, "upper_limit"] = 0.9
    ax = ska.plot_control_chart(chart)
    ring = line_of(ax, "out of control")
    assert ring.get_markeredgecolor() == RED
    assert not ring.get_clip_on()
    assert chart["error_rate"].max() < ax.get_ylim()[1] < 2 * chart["error_rate"].max()
    assert "goes on above" in legend_of(ax)


def test_a_grid_by_policy_and_version_has_one_panel_each_in_the_colours_of_other_pictures():
    chart = control_table([*TWO, ("scam", "v7")])
    figure = ska.plot_grid(ska.plot_control_chart, chart, by=("policy_id", "policy_version"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["scam · v7", "spam · v7", "spam · v8"]
    alone = ska.plot_control_chart(chart[chart["policy_id"] == "spam"])
    colors = [
        line_of(ax, label).get_color() for ax, label in zip(figure.axes, ("v7", "v7", "v8"), strict=True)
    ]
    assert colors == [line_of(alone, label).get_color() for label in ("v7", "v7", "v8")]


def test_a_row_has_the_colour_of_its_version_over_time():
    over_time = ska.plot_error_rate(rates_table(TWO))
    rows = ska.plot_comparison(comparison_table("v7", [("v8", 9, 900, 0.01, 0.0, 0.02, "higher")]))
    (marker,) = [line for line in rows.get_lines() if line.get_marker() == "o"]
    assert marker.get_color() == line_of(over_time, "v8").get_color()
    done = ska.plot_completion_time(completion_table([(*key, 9, 1, (1.0, 2, 3, 4)) for key in TWO]))
    colors = [line.get_color() for line in done.get_lines() if line.get_linewidth() == 5.0]
    assert colors == [line_of(over_time, name).get_color() for name in ("v7", "v8")]


def test_panels_with_y_axes_of_their_own_show_more_of_a_small_one():
    table = rates_table([("spam", "v7"), ("scam", "v1")])
    table.loc[table["policy_id"] == "scam", ["error_rate", "error_rate_low", "error_rate_high"]] *= 20
    shared = ska.plot_grid(ska.plot_error_rate, table)
    own = ska.plot_grid(ska.plot_error_rate, table, sharey=False)
    assert len({ax.get_ylim() for ax in shared.axes}) == 1
    assert len({ax.get_ylim() for ax in own.axes}) == 2
    assert len({ax.get_xlim() for ax in own.axes}) == 1


def test_own_columns_split_a_table_and_a_grid():
    table = rates_table([("spam", "v7"), ("scam", "v7")], by=("policy_id",))
    table = table.rename(columns={"policy_id": "market"})
    ax = ska.plot_error_rate(table)
    assert [said.split(" ")[0] for said in legend_of(ax)[:2]] == ["scam", "spam"]
    figure = ska.plot_grid(ska.plot_error_rate, table, by="market")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["scam", "spam"]


def test_a_missing_name_and_the_word_none_are_drawn_alike():
    missing = rates_table([(None, "v7"), ("spam", None)])
    named = missing.fillna({"policy_id": "(none)", "policy_version": "(none)"})
    for plot in (ska.plot_throughput, ska.plot_error_rate):
        for one, other in zip(plot(missing).get_lines(), plot(named).get_lines(), strict=True):
            assert np.array_equal(one.get_xydata(), other.get_xydata(), equal_nan=True)
            assert (one.get_label(), one.get_color()) == (other.get_label(), other.get_color())


@pytest.mark.parametrize("size", [(6.4, 4.8), (13.3, 7.5)])
def test_text_is_larger_on_a_slide(size):
    ax = Figure(figsize=size, layout="constrained").subplots()
    ska.plot_error_rate(rates_table(TWO), ax=ax)
    assert (ax.xaxis.label.get_fontsize() > 14) == (size[0] > 10)


def test_the_median_is_the_thick_bracket_and_nine_in_ten_the_thin_one():
    ax = ska.plot_completion_time(completion_table([("spam", "v7", 9, 1, (1.0, 2.0, 5.0, 8.0))]))
    widths = {
        tuple(line.get_xdata()): line.get_linewidth()
        for line in lines_with_data(ax)
        if line.get_marker() == "None"
    }
    assert widths[(1.0, 2.0)] > widths[(5.0, 8.0)]
    assert [line.get_linewidth() for line in ax.get_legend().get_lines()] == [5.0, 2.2]
    assert legend_of(ax) == ["half done within", "nine in ten done within"]


def test_names_in_a_script_without_a_font_are_numbered():
    # No font has letters in the planes of private use.
    names = ["\U000f0000\U000f0001", "\U000f0002\U000f0003", "spam"]
    ax = ska.plot_error_rate(rates_table([("p", name) for name in names]))
    assert [said.split(" ")[0:2] for said in legend_of(ax)[1:3]] == [["□□", "(1)"], ["□□", "(2)"]]


def test_a_character_that_the_font_lacks_is_drawn_with_an_installed_one(tmp_path):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 0))
    pen.lineTo((250, 700))
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "han"])
    builder.setupCharacterMap({0x65E5: "han"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "han": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "han": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Only Han Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "han.ttf")
    known = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "han.ttf")
    text._elsewhere.cache_clear()
    try:
        ax = ska.plot_error_rate(rates_table([("日", "v7")]))
        assert ax.get_title(loc="left") == "Error rate: 日"
        assert "Only Han Sans" in ax._left_title.get_fontfamily()
        ax.figure.draw_without_rendering()
    finally:
        fontManager.ttflist[:] = known
        text._elsewhere.cache_clear()


def test_a_character_that_the_bold_face_lacks_is_not_borrowed_from_the_regular_one():
    # STIX has some Japanese letters in its regular face alone, and comes with matplotlib.
    ax = ska.plot_error_rate(rates_table([("\u306e", "v7")]))
    ax.figure.draw_without_rendering()
    assert "STIXGeneral" not in ax._left_title.get_fontfamily()


def test_alt_text_says_what_each_line_does():
    table = rates_table(TWO)
    said = ska.alt_text(ska.plot_error_rate(table))
    assert said.startswith("Error rate: spam. errors / processed decisions; time (Europe/Berlin)")
    assert "v7: " in said
    last = table[table["policy_version"] == "v8"]["error_rate"].iloc[-1]
    assert f"at the end {100 * last:.2f} %" in said
    assert "\n" not in said


@pytest.mark.parametrize("size", [(9.6, 4.6), (4.0, 3.0)])
def test_alt_text_has_the_words_of_rows_even_where_the_picture_has_no_room_for_them(size):
    ax = Figure(figsize=size, layout="constrained").subplots()
    ska.plot_comparison(comparison_table("v7", [("v8", 9, 900, 0.012, 0.004, 0.02, "higher")]), ax=ax)
    assert "v8: +1.20 pp (+0.40 to +2.00 pp): higher" in ska.alt_text(ax.figure)


def test_alt_text_of_a_grid_names_every_panel_and_of_nothing_says_no_data():
    figure = ska.plot_grid(
        functools.partial(ska.plot_throughput, stacked=False), rates_table(TWO), by="policy_version"
    )
    assert ska.alt_text(figure).startswith("Throughput by version. v7.")
    assert "no data" in ska.alt_text(ska.plot_error_rate(rates_table(TWO)[:0]))
    with pytest.raises(TypeError, match="str"):
        ska.alt_text("figure")


def test_a_band_of_throughput_is_named_and_counts_only_the_hours_gone_by():
    table = rates_table([("spam", "v7")], partial=True)
    last = table.index[-1]
    table.loc[last, "throughput_per_hour"] = table.loc[last, "processed"] / 6
    ax = ska.plot_throughput(table)
    assert "certain to possible, given when it was polled" in legend_of(ax)
    (band,) = [area for area in ax.collections if isinstance(area, PolyCollection)]
    points = band.get_paths()[0].vertices
    assert points[points[:, 0] == points[:, 0].max(), 1].max() == pytest.approx(
        table.loc[last, "processed_high"] / 6
    )


def test_a_chart_shows_its_limits_and_an_interval_less_than_twice_the_rate():
    chart = control_table([("spam", "v7")])
    assert ska.plot_control_chart(chart).get_ylim()[1] >= chart["upper_limit"].quantile(0.8)
    table = rates_table([("spam", "v7")])
    table.loc[4, "error_rate_high"] = 0.9
    assert ska.plot_error_rate(table).get_ylim()[1] == pytest.approx(1.8 * 1.06 * table["error_rate"].max())


def test_a_legend_of_a_stack_reads_from_the_top_down():
    ax = ska.plot_throughput(rates_table([("spam", "v7"), ("spam", "v8")]), stacked=True)
    assert [said.split(" ")[0] for said in legend_of(ax)] == ["v8", "v7"]


def test_what_is_not_over_yet_is_hatched_in_the_picture_and_in_the_legend():
    ax = ska.plot_error_rate(rates_table(TWO, partial=True))
    assert [patch.get_hatch() for patch in ax.patches] == ["////"]
    assert ax.get_legend().get_patches()[-1].get_hatch() == "////"


def test_a_backlog_stands_at_the_end_of_its_bucket():
    table = backlog_table([("spam", "v7")], by=("policy_id",))
    line = line_of(ska.plot_backlog(table), "spam")
    assert line.get_xdata() == pytest.approx(mdates.date2num(table["bucket_end"].dt.tz_convert(None)))
    assert list(line.get_ydata()) == list(table["pending"])


def test_errors_are_fewer_on_the_left_of_a_comparison():
    ax = ska.plot_comparison(comparison_table("v7", [("v8", 9, 900, 0.012, 0.004, 0.02, "higher")]))
    left, _, right = ax.get_xlabel().replace("\u00a0", " ").partition("difference, percentage points")
    assert (left.strip(), right.strip()) == ("← fewer errors", "more errors →")
    assert ax.get_xlim()[0] < ax.get_xlim()[1]


def test_beyond_ten_versions_the_smallest_are_added_up():
    table = rates_table([("spam", f"v{k}") for k in range(12)])
    sizes = table.groupby("policy_version")["processed"].sum()
    ax = ska.plot_throughput(table)
    smallest = set(sizes.nsmallest(2).index)
    assert not smallest & {line.get_label() for line in ax.get_lines()}
    rest = table[table["policy_version"].isin(smallest)].groupby("bucket_start")["throughput_per_hour"].sum()
    assert line_of(ax, "other (2 versions)").get_ydata() == pytest.approx(rest.to_numpy())


def test_a_band_over_pooled_buckets_is_paler_than_an_interval_and_pooled_rates_weigh_by_decisions():
    (interval,) = ska.plot_error_rate(rates_table([("spam", "v7")])).collections
    hourly = rates_table([("spam", "v7")], buckets=1200, freq="h", tz="UTC")
    (spread,) = ska.plot_throughput(hourly).collections
    assert (interval.get_alpha(), spread.get_alpha()) == (0.2, 0.13)
    ax = ska.plot_error_rate(hourly)
    hours = int(ax.get_xlabel().split("per ")[1].split(" ")[0])
    whole = hourly.groupby(np.arange(len(hourly)) // hours)[["error", "processed"]].sum()
    assert line_of(ax, "v7").get_ydata() == pytest.approx((whole["error"] / whole["processed"]).to_numpy())


def test_alt_text_runs_from_the_lowest_to_the_highest_value_and_ends_with_the_last():
    table = rates_table([("spam", "v7")], buckets=3).assign(throughput_per_hour=[30.0, 10.0, 20.0])
    assert "v7: 10 to 30, at the end 20." in ska.alt_text(ska.plot_throughput(table))


def test_under_the_name_of_a_month_stands_the_year_alone():
    ax = ska.plot_throughput(rates_table([("spam", "v7")], start="2026-11-01"))
    ax.figure.draw_without_rendering()
    assert ax.get_xticklabels()[0].get_text() == "Nov\n2026"


def test_under_the_first_day_stands_its_own_month_and_not_that_of_the_last():
    ax = ska.plot_throughput(rates_table([("spam", "v7")], start="2026-09-20", buckets=56, freq="D"))
    ax.figure.draw_without_rendering()
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert [name for name in shown if "2026" in name] in (["Oct\n2026"], ["22\n2026-Sep"])
