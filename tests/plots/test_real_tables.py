"""What the other stages really make can be drawn, from a simulated fleet to every plot."""

import functools
import importlib.util
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

import safetykit_analytics as ska
from safetykit_analytics.simulator.fleet import make_fleet

_spec = importlib.util.spec_from_file_location(
    "make_gallery", Path(__file__).parents[2] / "docs" / "make_gallery.py"
)
gallery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gallery)


@pytest.fixture(scope="module")
def observations():
    return gallery.observe(make_fleet(seed=2, batches=60, weeks=0.6))


def tables(observations, by):
    rates = ska.rates(observations, freq="6h", by=by, tz="America/New_York")
    yield ska.plot_throughput, rates
    yield functools.partial(ska.plot_throughput, stacked=True), rates
    yield ska.plot_error_rate, rates
    yield ska.plot_control_chart, ska.control_chart(rates)
    yield ska.plot_backlog, ska.backlog(observations, freq="6h", by=by)
    yield ska.plot_completion_time, ska.completion_time(observations, by=by)


@pytest.mark.parametrize("by", [(), pytest.param(("policy_version", "policy_id"), marks=pytest.mark.heavy)])
def test_every_table_can_be_drawn_whole_and_empty(observations, by):
    for plot, table in tables(observations, by):
        ax = plot(table)
        if not by:
            ax.figure.draw_without_rendering()
        assert "no data" not in {text.get_text() for text in ax.texts}
        assert "no data" in {text.get_text() for text in plot(table[:0]).texts}


def test_the_recipe_for_plotly_names_columns_that_the_table_has(observations, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text(encoding="utf-8")
    recipe = page.partition("## Hover")[2].partition("```py\n")[2].partition("```")[0]
    express = MagicMock()
    monkeypatch.setitem(sys.modules, "plotly", MagicMock(express=express))
    monkeypatch.setitem(sys.modules, "plotly.express", express)
    exec(recipe, {"ska": ska, "store": observations})
    ((table,), options) = express.line.call_args
    columns = {options[name] for name in ("x", "y", "color", "facet_row")}
    assert columns <= set(table.columns)
    assert {"n_batches", "error_rate_low", "error_rate_high", "coverage"} <= set(options["hover_data"])
    assert set(options["hover_data"]) <= set(table.columns)


def test_every_comparison_can_be_drawn(observations):
    one = ska.compare_versions(observations, policy_id="spam", baseline="v9")
    assert ska.plot_comparison(one).get_title(loc="left") == "Error rate against v9: spam"
    scan = ska.compare_versions(observations, policy_id=None, baseline=None)
    assert len(ska.plot_comparison(scan).get_yticklabels()) == (scan.table["role"] == "candidate").sum()
    assert len(ska.plot_grid(ska.plot_comparison, scan).axes) == scan.table["policy_id"].nunique(dropna=False)
