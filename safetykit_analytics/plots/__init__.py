"""Tables → pictures that go on slides as they are.

Each ``plot_`` function takes a table and returns the matplotlib Axes that it drew into; `plot_grid` draws
any of them as small multiples, and `alt_text` puts a picture into words. No rcParams are changed. Without
``ax`` a plot is on a new pyplot figure.
"""

from __future__ import annotations

from safetykit_analytics.plots.comparison import plot_comparison
from safetykit_analytics.plots.completion_time import plot_completion_time
from safetykit_analytics.plots.control_chart import plot_control_chart
from safetykit_analytics.plots.grid import plot_grid
from safetykit_analytics.plots.over_time import (
    draw_over_each_other,
    plot_backlog,
    plot_error_rate,
    plot_throughput,
)
from safetykit_analytics.plots.text import alt_text

__all__ = [
    "alt_text",
    "draw_over_each_other",
    "plot_backlog",
    "plot_comparison",
    "plot_completion_time",
    "plot_control_chart",
    "plot_error_rate",
    "plot_grid",
    "plot_throughput",
]
