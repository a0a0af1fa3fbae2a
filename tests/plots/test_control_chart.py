"""Control charts: limits, alarms, and what is left out when there are too many."""

import matplotlib.dates as mdates
import numpy as np
from matplotlib.collections import PolyCollection

import safetykit_analytics as ska
from tests.plots.helpers import control_table


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def rings(ax):
    return [line for line in ax.get_lines() if line.get_label() == "out of control"]


def test_points_out_of_control_are_ringed_where_they_are():
    chart = control_table([("spam", "v7")], alarms=[4, 9])
    (ring,) = rings(ska.plot_control_chart(chart))
    bad = chart[chart["out_of_control"]]
    middle = bad["bucket_start"] + (bad["bucket_end"] - bad["bucket_start"]) / 2
    assert np.allclose(ring.get_xdata(), mdates.date2num(middle.dt.tz_convert(None)), rtol=0, atol=1e-9)
    assert list(ring.get_ydata()) == list(bad["error_rate"])


def test_a_chart_in_control_has_no_ring_and_no_word_of_one():
    ax = ska.plot_control_chart(control_table([("spam", "v7")]))
    assert not rings(ax)
    assert "out of control" not in texts(ax)
    assert any("0 of 14 points out of control" in text.get_text() for text in ax.texts)


def test_limits_are_a_band_that_holds_over_each_whole_bucket():
    chart = control_table([("spam", "v7")], buckets=5)
    ax = ska.plot_control_chart(chart)
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    drawn = {tuple(np.round(point, 9)) for point in band.get_paths()[0].vertices}
    edges = [mdates.date2num(chart[name].dt.tz_convert(None)) for name in ("bucket_start", "bucket_end")]
    for limit in ("lower_limit", "upper_limit"):
        for edge in edges:
            assert set(zip(np.round(edge, 9), np.round(chart[limit], 9), strict=True)) <= drawn


def test_a_chart_without_limits_draws_the_rates_and_says_why():
    chart = control_table([("spam", "v7")])
    chart[["center", "lower_limit", "upper_limit"]] = np.nan
    assert any("no limits" in text for text in texts(ska.plot_control_chart(chart)))


def test_many_charts_in_one_picture_keep_center_lines_and_alarms_only():
    chart = control_table([("spam", f"v{k}") for k in range(6)], alarms=[3])
    ax = ska.plot_control_chart(chart)
    assert not [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(rings(ax)) == 1
    assert any("center lines only" in text for text in texts(ax))


def test_the_legend_says_how_many_charts_are_not_drawn():
    chart = control_table([("spam", f"v{k}") for k in range(14)])
    assert any("not drawn: other (4 versions)" in text for text in texts(ska.plot_control_chart(chart)))


def test_an_empty_chart_says_no_data():
    ax = ska.plot_control_chart(control_table([("spam", "v7")])[:0])
    assert [text.get_text() for text in ax.texts] == ["no data"]
