"""No words lie on each other, on another plot or outside the picture, whatever its size."""

import functools
import itertools
import os

import pandas as pd
import pytest
from matplotlib.figure import Figure

import safetykit_analytics as ska
from tests.plots.helpers import (
    backlog_table,
    comparison_table,
    completion_table,
    control_table,
    rates_table,
)

TWO = [("hate-speech", "v7"), ("hate-speech", "v8")]
MANY = [(policy, f"v{k}") for policy in ("adult-content", "hate-speech", None) for k in range(1, 6)]
LATER = {TWO[1]: 6}


def doubtful(groups, **shape):
    table = rates_table(groups, partial=True, **shape)
    table.loc[[3, 9], "coverage"] = 0.3
    table.loc[5, "error_rate_high"] = 0.9
    return table


def scan():
    """Return a comparison of 30 policies, 19 of which have a verdict."""
    verdicts = ["higher", "lower"] * 9 + ["higher"] + ["no difference found"] * 11
    tables = [
        comparison_table(
            "v7",
            [("v8", 9, 900 + 10 * k, 0.01, 0.002, 0.02, verdict)],
            policy=f"policy with a long name {k}",
        )
        for k, verdict in enumerate(verdicts)
    ]
    return pd.concat(tables, ignore_index=True)


COMPLETION = [(*key, 9, 1, (1.0, 2.0, 3.0, None)) for key in MANY]
PLOTS = {
    "throughput": (ska.plot_throughput, lambda: doubtful(TWO, first=LATER)),
    "throughput_many": (ska.plot_throughput, lambda: doubtful(MANY)),
    "throughput_stacked": (functools.partial(ska.plot_throughput, stacked=True), lambda: doubtful(MANY)),
    "error_rate": (ska.plot_error_rate, lambda: doubtful(TWO, first=LATER)),
    "error_rate_hours": (ska.plot_error_rate, lambda: rates_table(TWO, buckets=30, freq="h")),
    "backlog": (ska.plot_backlog, lambda: backlog_table(TWO, buckets=40)),
    "backlog_many": (ska.plot_backlog, lambda: backlog_table(MANY[:5], buckets=40)),
    "control_chart": (ska.plot_control_chart, lambda: control_table(TWO, first=LATER, alarms=[4, 9])),
    "control_chart_many": (ska.plot_control_chart, lambda: control_table(MANY[:6], alarms=[4, 9])),
    "completion_time": (ska.plot_completion_time, lambda: completion_table(COMPLETION[:4])),
    "completion_time_many": (ska.plot_completion_time, lambda: completion_table(COMPLETION)),
    "comparison": (
        ska.plot_comparison,
        lambda: comparison_table(
            "v7",
            [
                ("v8", 14, 22_000, 0.012, 0.004, 0.020, "higher"),
                ("v9", 11, 18_000, -0.001, -0.007, 0.005, "no difference found"),
                ("v10", 2, 600, None, None, None, "not enough batches"),
            ],
        ),
    ),
    "comparison_many": (ska.plot_comparison, scan),
}
SIZES = list(itertools.product((5, 6.4, 9.6, 13.3, 20, 27), (3, 4, 4.8, 6, 8)))
SMALL, USUAL, SLIDE, FLAT, SIDE_BY_SIDE = (5, 3), (6.4, 4.8), (13.3, 7.5), (27, 3), (10, 4)


def words_of(ax):
    """Yield every text of an Axes that is seen, and where it is, in pixels."""
    labels = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [*labels, ax.xaxis.label, ax.yaxis.label, ax.xaxis.offsetText, ax.yaxis.offsetText, *ax.texts]
    texts += [ax.title, ax._left_title, *(ax.get_legend().get_texts() if ax.get_legend() else [])]
    for text in texts:
        if text.get_visible() and text.get_text().strip():
            yield text.get_text(), text.get_window_extent()


def troubles(figure):
    """Return what lies on something else or outside the figure."""
    figure.draw_without_rendering()
    seen = [(name, box, ax) for ax in figure.axes for name, box in words_of(ax)]
    around = [figure._suptitle, figure._supxlabel, figure._supylabel]
    around += [text for legend in figure.legends for text in legend.get_texts()]
    seen += [(text.get_text(), text.get_window_extent(), None) for text in around if text is not None]
    found = [
        f"{one!r} lies on {other!r}"
        for (one, a, _), (other, b, _) in itertools.combinations(seen, 2)
        if _shared(a, b) > 1.5
    ]
    width, height = figure.bbox.width, figure.bbox.height
    found += [
        f"{name!r} is cut: {box.extents.round()} of {width:.0f} x {height:.0f}"
        for name, box, _ in seen
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    for ax, (name, box, owner) in itertools.product(figure.axes, seen):
        inner = ax.get_window_extent()
        is_inside = owner is ax and name in {text.get_text() for text in ax.texts}
        if not is_inside and _shared(box, inner) > 2:
            found.append(f"{name!r} lies on the data")
    for ax in figure.axes:
        box = ax.get_window_extent()
        if box.width < 0.2 * width / len(figure.axes) or box.height < 0.2 * height:
            found.append(
                f"hardly room for data: {box.width:.0f} x {box.height:.0f} of {width:.0f} x {height:.0f}"
            )
    return found


def _shared(one, other):
    """Return how many pixels two boxes share, in the direction in which they share fewer."""
    return min(min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0))


def drawn(size, *names):
    figure = Figure(figsize=size, layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        plot, table = PLOTS[name]
        plot(table(), ax=ax)
    return figure


# The heavy test below draws all plots in this size too.
@pytest.mark.parametrize(
    "name",
    ["throughput_many", "control_chart_many", "completion_time_many", "comparison_many"],
)  # fmt: skip
def test_words_do_not_overlap_in_a_small_picture(name):
    assert troubles(drawn(SMALL, name)) == []


def test_words_do_not_overlap_on_a_slide():
    assert troubles(drawn(SLIDE, "comparison_many")) == []


def test_words_of_different_plots_beside_each_other_do_not_overlap():
    assert troubles(drawn(SIDE_BY_SIDE, "comparison_many", "throughput")) == []


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PLOTS)
def test_words_do_not_overlap_in_thirty_sizes_and_in_two_pictures_side_by_side(name):
    step = round(1 / float(os.environ.get("SKA_HEAVY", "1")))
    sizes = {USUAL, SLIDE, FLAT, *SIZES[::step]}
    found = {size: troubles(drawn(size, name)) for size in sizes}
    # Beside itself, the largest legend and the longest words.
    others = {name, "throughput_many", "comparison_many"}
    found |= {other: troubles(drawn(SIDE_BY_SIDE, name, other)) for other in others}
    assert found == {case: [] for case in found}


@pytest.mark.parametrize(
    "name", ["throughput_many", pytest.param("comparison_many", marks=pytest.mark.heavy)]
)
def test_words_do_not_overlap_in_a_figure_of_our_own(name):
    plot, table = PLOTS[name]
    assert troubles(plot(table()).figure) == []


GRIDS = {
    "over_time": (ska.plot_error_rate, lambda: doubtful(MANY), {}),
    "own_scales": (ska.plot_error_rate, lambda: doubtful(MANY), {"sharey": False}),
    "stacked": (functools.partial(ska.plot_throughput, stacked=True), lambda: doubtful(MANY), {}),
    "control_charts": (
        ska.plot_control_chart,
        lambda: control_table(MANY[:6], alarms=[4, 9]),
        {"by": ("policy_id", "policy_version")},
    ),
    "completion_times": (ska.plot_completion_time, lambda: completion_table(COMPLETION), {}),
    "one_version": (ska.plot_backlog, lambda: backlog_table(MANY[:1], buckets=40), {}),
}


EVERY_DAY = ("over_time", "control_charts")


@pytest.mark.parametrize(
    "name", [name if name in EVERY_DAY else pytest.param(name, marks=pytest.mark.heavy) for name in GRIDS]
)
def test_words_do_not_overlap_in_a_grid(name):
    plot, table, options = GRIDS[name]
    assert troubles(ska.plot_grid(plot, table(), **options)) == []
