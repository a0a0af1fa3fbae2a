"""What plots leave alone, and where they work."""

import gc
import os
import subprocess
import sys
import weakref

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import safetykit_analytics as ska
from tests.plots.helpers import (
    backlog_table,
    comparison_table,
    completion_table,
    control_table,
    rates_table,
)

GROUPS = [("spam", "v7"), ("spam", "v8")]
COMPLETION = completion_table([("spam", "v7", 9, 1, (1.0, 2, 3, None))])
ALL = {
    "throughput": (ska.plot_throughput, rates_table(GROUPS)),
    "error_rate": (ska.plot_error_rate, rates_table(GROUPS)),
    "backlog": (ska.plot_backlog, backlog_table(GROUPS)),
    "control_chart": (ska.plot_control_chart, control_table(GROUPS)),
    "completion_time": (ska.plot_completion_time, COMPLETION),
    "comparison": (ska.plot_comparison, comparison_table("v7", [("v8", 9, 900, 0.01, 0.0, 0.02, "higher")])),
}  # fmt: skip
every_plot = pytest.mark.parametrize("name", ALL)
# Over time, and in rows with words beside them: plots of one kind are laid out alike.
every_layout = pytest.mark.parametrize("name", ["error_rate", "comparison"])


@every_plot
def test_the_table_and_the_settings_of_matplotlib_stay_as_they_were(name):
    plot, table = ALL[name]
    before, settings = table.copy(deep=True), dict(mpl.rcParams)
    plot(table).figure.draw_without_rendering()
    if name == "error_rate":
        ska.plot_grid(plot, table).draw_without_rendering()
    assert table.equals(before)
    assert dict(mpl.rcParams) == settings


def test_a_plot_without_an_axes_is_on_a_new_pyplot_figure_which_leaves_memory_when_closed():
    before = plt.get_fignums()
    kept = []
    for name in ("throughput", "completion_time"):
        plot, table = ALL[name]
        figure = plot(table).figure
        assert plt.gcf() is figure
        kept.append(weakref.ref(figure))
    assert len(plt.get_fignums()) == len(before) + 2
    del figure
    plt.close("all")
    gc.collect()
    assert [figure for figure in kept if figure() is not None] == []


def test_a_plot_into_a_callers_axes_and_a_grid_open_no_pyplot_figure():
    before = plt.get_fignums()
    ska.plot_throughput(ALL["throughput"][1], ax=Figure().add_subplot())
    ska.plot_grid(*ALL["throughput"])
    assert plt.get_fignums() == before


def test_plots_work_with_a_gui_backend_set_and_without_a_screen(tmp_path):
    code = (
        "import sys, safetykit_analytics as ska\n"
        "from matplotlib.figure import Figure\n"
        "from tests.plots.helpers import rates_table\n"
        "table = rates_table([('spam', 'v7')])\n"
        "ska.plot_throughput(table, ax=Figure().add_subplot())\n"
        "ska.plot_grid(ska.plot_error_rate, table).savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "ska.plot_throughput(table).figure.savefig(sys.argv[1])\n"
    )
    # What old versions of matplotlib call by its old name in others is not about screens.
    strict = ("-W", "error", "-W", "ignore::DeprecationWarning")
    result = subprocess.run(
        [sys.executable, *strict, "-c", code, str(tmp_path / "grid.png")],
        check=False,
        capture_output=True,
        env=os.environ | {"MPLBACKEND": "TkAgg", "DISPLAY": "", "PYTHONPATH": "."},
    )
    assert result.returncode == 0, result.stderr.decode()
    assert (tmp_path / "grid.png").stat().st_size > 5_000


def test_a_notebook_shows_a_grid_that_pyplot_does_not_know():
    formatters = pytest.importorskip("IPython.core.formatters", reason="no IPython: pip install '.[full]'")
    shown, _ = formatters.DisplayFormatter().format(ska.plot_grid(*ALL["throughput"]))
    assert shown["image/png"].startswith(b"\x89PNG")


@every_plot
def test_words_stay_inside_a_figure_that_has_no_layout_engine(name):
    plot, table = ALL[name]
    figure = Figure(figsize=(11, 5))
    FigureCanvasAgg(figure)
    plot(table, ax=figure.add_subplot())
    whole = (
        figure.get_tightbbox().transformed(figure.dpi_scale_trans).transformed(figure.transFigure.inverted())
    )
    assert whole.x0 >= -0.005
    assert whole.x1 <= 1.005


@every_layout
def test_two_plots_stand_beside_each_other_in_a_callers_figure(name):
    plot, table = ALL[name]
    figure = Figure(figsize=(16, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot(table, ax=left)
    plot(table, ax=right)
    figure.draw_without_rendering()
    assert left.get_position().width == pytest.approx(right.get_position().width, rel=0.05)


@every_layout
def test_a_small_axes_draws_without_a_warning(name):
    plot, table = ALL[name]
    figure = Figure(figsize=(5, 1.7), layout="constrained")
    for ax in figure.subplots(1, 2):
        plot(table, ax=ax)
    figure.draw_without_rendering()


@pytest.mark.parametrize("plot", [ska.plot_throughput, ska.plot_error_rate])
def test_drawing_twice_into_one_axes_keeps_it_as_wide(plot):
    figure = Figure()
    ax = figure.add_subplot()
    plot(rates_table(GROUPS), ax=ax)
    first = ax.get_position().bounds
    plot(rates_table(GROUPS), ax=ax)
    assert np.allclose(ax.get_position().bounds, first, atol=0.02)
