"""Throughput and error rate over time: what the artists hold."""

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import safetykit_analytics as ska
from safetykit_analytics.errors import InvalidFrame, UnknownName
from safetykit_analytics.plots.axes import time_axis
from tests.plots.helpers import empty_rates, lines_with_data, rates_table

OVER_TIME = [ska.plot_throughput, ska.plot_error_rate]
VALUE = {ska.plot_throughput: "throughput_per_hour", ska.plot_error_rate: "error_rate"}
TWO = [("spam", "v7"), ("spam", "v8")]


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def solid(ax):
    return [line for line in lines_with_data(ax) if line.get_linestyle() not in {"None", ":"}]


@pytest.mark.parametrize("plot", OVER_TIME)
def test_a_line_goes_through_the_middle_of_each_bucket_at_the_tables_value(plot):
    table = rates_table([("spam", "v7")])
    (line,) = solid(plot(table))
    middle = table["bucket_start"] + (table["bucket_end"] - table["bucket_start"]) / 2
    assert np.allclose(line.get_xdata(), mdates.date2num(middle.dt.tz_convert(None)), rtol=0, atol=1e-9)
    assert np.array_equal(line.get_ydata(), table[VALUE[plot]])


@pytest.mark.parametrize("plot", OVER_TIME)
def test_rows_in_any_order_and_with_any_index_draw_the_same_lines(plot):
    table = rates_table(TWO)
    shuffled = table.sample(frac=1, random_state=1).set_index("processed", drop=False)
    for expected, found in zip(solid(plot(table)), solid(plot(shuffled)), strict=True):
        assert np.array_equal(expected.get_xydata(), found.get_xydata(), equal_nan=True)


def test_the_error_rate_axis_begins_at_zero_and_is_in_percent():
    ax = ska.plot_error_rate(rates_table(TWO))
    ax.figure.draw_without_rendering()
    assert ax.get_ylim()[0] == 0
    assert all(label.get_text().endswith(" %") for label in ax.get_yticklabels())


def test_throughput_is_labelled_with_its_unit_and_the_tables_zone():
    ax = ska.plot_throughput(rates_table(TWO, tz="America/New_York"))
    assert ax.get_ylabel() == "processed decisions per hour"
    assert ax.get_xlabel() == "time (America/New_York), one point per day"
    assert isinstance(ax.xaxis.get_major_formatter(), mdates.ConciseDateFormatter)


def test_ticks_stand_at_midnight_of_the_tables_zone():
    ax = ska.plot_throughput(rates_table(TWO, tz="Asia/Tokyo", buckets=5))
    ticks = mdates.num2date(ax.xaxis.get_major_locator()(), tz=ax.xaxis.get_major_locator().tz)
    assert {tick.hour for tick in ticks} <= {0, 12}
    assert str(ticks[0].tzinfo) == "Asia/Tokyo"


@pytest.mark.parametrize("plot", OVER_TIME)
def test_a_missing_bucket_is_a_gap(plot):
    table = rates_table([("spam", "v7")]).drop(index=[5, 6])
    (line,) = solid(plot(table))
    assert np.isnan(line.get_ydata()[5])
    assert np.isfinite(line.get_ydata()).sum() == len(table)


def test_a_bucket_that_stands_alone_between_gaps_has_a_marker_even_in_a_long_series():
    table = rates_table([("spam", "v7")], buckets=300, freq="h")
    table.loc[[99, 101], "error_rate"] = np.nan
    ax = ska.plot_error_rate(table)
    marked = np.concatenate([line.get_ydata() for line in ax.get_lines() if line.get_marker() != "None"])
    assert table.loc[100, "error_rate"] in marked


@pytest.mark.parametrize("plot", OVER_TIME)
@pytest.mark.parametrize(("column", "value"), [("coverage", 0.49), ("smeared_share", 0.51)])
def test_a_doubtful_bucket_is_hollow_and_dotted_and_the_legend_says_so(plot, column, value):
    table = rates_table([("spam", "v7")])
    table.loc[4, column] = value
    ax = plot(table)
    hollow = [
        line
        for line in lines_with_data(ax)
        if line.get_linestyle() == "None" and line.get_markerfacecolor() == "white"
    ]
    assert [list(line.get_ydata()) for line in hollow] == [[table.loc[4, VALUE[plot]]]]
    (dotted,) = [line for line in lines_with_data(ax) if line.get_linestyle() == ":"]
    assert np.array_equal(np.flatnonzero(np.isfinite(dotted.get_ydata())), [3, 4, 5])
    assert any("hardly observed" in text for text in texts(ax))
    assert np.isnan(solid(ax)[0].get_ydata()[4])


@pytest.mark.parametrize("plot", OVER_TIME)
def test_good_buckets_bring_no_word_of_doubt(plot):
    assert not any("hardly" in text or "not over" in text for text in texts(plot(rates_table(TWO))))


@pytest.mark.parametrize("plot", OVER_TIME)
def test_the_last_bucket_is_marked_while_it_is_not_over(plot):
    table = rates_table(TWO, partial=True)
    ax = plot(table)
    assert "not over yet" in texts(ax)
    shaded = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    edges = mdates.date2num(table[["bucket_start", "bucket_end"]].max().dt.tz_convert(None))
    assert np.allclose([shaded.x0, shaded.x1], edges)


@pytest.mark.parametrize("plot", OVER_TIME)
def test_bounds_are_a_band_of_the_lines_colour(plot):
    table = rates_table([("spam", "v7")])
    ax = plot(table)
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    bounds = {
        ska.plot_error_rate: table[["error_rate_low", "error_rate_high"]],
        ska.plot_throughput: table[["processed_low", "processed_high"]].div(
            (table["bucket_end"] - table["bucket_start"]).dt.total_seconds() / 3600, axis=0
        ),
    }[plot]
    drawn = band.get_paths()[0].vertices[:, 1]
    assert np.isclose(drawn.min(), bounds.min().min())
    assert np.isclose(drawn.max(), bounds.max().max())
    assert np.allclose(band.get_facecolor()[0][:3], _rgb(solid(ax)[0].get_color()))


def test_a_version_that_comes_later_is_a_labelled_line_at_its_first_work():
    table = rates_table(TWO, first={("spam", "v8"): 6})
    ax = ska.plot_error_rate(table)
    start = mdates.date2num(table.loc[table["policy_version"] == "v8", "bucket_start"].min().tz_convert(None))
    assert [line.get_xdata()[0] for line in ax.get_lines() if list(line.get_ydata()) == [0, 1]] == [start]
    assert [text.get_text() for text in ax.texts if text.get_text() == "v8"] == ["v8"]


def test_a_version_that_was_there_from_the_start_is_no_rollout():
    ax = ska.plot_error_rate(rates_table(TWO))
    assert not [text for text in ax.texts if text.get_text() in {"v7", "v8"}]


def test_the_legend_says_how_many_decisions_and_batches_each_line_rests_on():
    table = rates_table(TWO)
    rows = table[table["policy_version"] == "v8"]
    (entry,) = [text for text in texts(ska.plot_throughput(table)) if text.startswith("v8\n")]
    assert f"{rows['processed'].sum():,.0f} decisions" in entry
    assert f"{rows['n_batches'].min()}–{rows['n_batches'].max()} batches per day" in entry


@pytest.mark.parametrize("plot", OVER_TIME)
def test_an_empty_table_gives_labelled_axes_that_say_no_data(plot):
    ax = plot(empty_rates())
    assert [text.get_text() for text in ax.texts] == ["no data"]
    assert ax.get_ylabel()
    assert "UTC" in ax.get_xlabel()
    ax.figure.draw_without_rendering()


def test_rates_of_nothing_say_no_data():
    table = rates_table(TWO).assign(error_rate=np.nan)
    assert "no data" in [text.get_text() for text in ska.plot_error_rate(table).texts]


@pytest.mark.parametrize("by", [(), ("policy_id",), ("policy_version",), ("policy_id", "policy_version")])
@pytest.mark.parametrize("plot", OVER_TIME)
def test_every_grouping_of_rates_can_be_drawn(plot, by):
    table = rates_table([("spam", "v7")], by=by)
    assert len(solid(plot(table))) == 1


@pytest.mark.parametrize("plot", OVER_TIME)
def test_a_callers_axes_is_drawn_into_and_returned(plot):
    ax = Figure().add_subplot()
    assert plot(rates_table(TWO), ax=ax) is ax


def test_a_missing_column_is_named():
    with pytest.raises(UnknownName, match="error_rate_low"):
        ska.plot_error_rate(rates_table(TWO).drop(columns="error_rate_low"))


def test_naive_times_are_refused_by_name():
    table = rates_table(TWO)
    with pytest.raises(InvalidFrame, match="bucket_start"):
        ska.plot_error_rate(table.assign(bucket_start=table["bucket_start"].dt.tz_localize(None)))


def test_something_else_than_a_table_is_a_type_error():
    with pytest.raises(TypeError, match="list"):
        ska.plot_throughput([1, 2])
    with pytest.raises(TypeError, match="ax"):
        ska.plot_throughput(rates_table(TWO), ax=Figure())


def _rgb(color):
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


@pytest.mark.parametrize("freq", ["5min", "h", "D", "MS"])
@pytest.mark.parametrize("width", [2.2, 9.0])
def test_any_span_has_ticks_that_fit(freq, width):
    ax = Figure(figsize=(width, 3)).add_subplot()
    for buckets in (1, 2, 3, 5, 23, 47, 71, 400):
        ax.set_xlim(*mdates.date2num(_span(buckets, freq)))
        time_axis(ax, _span(buckets, freq)[0].tzinfo)
        assert 1 <= len(ax.xaxis.get_major_locator()()) <= 10, buckets


def _span(buckets, freq):
    edges = pd.date_range("2026-01-31 22:00", periods=buckets + 1, freq=freq, tz="Europe/Berlin")
    return edges[0].to_pydatetime(), edges[-1].to_pydatetime()
