"""Tables → pictures that go on slides as they are.

Each ``plot_`` function takes a table and returns the matplotlib Axes it drew into; `plot_grid` draws any of
them as small multiples. matplotlib's object interface only: no pyplot, no rcParams, nothing shown.

Place in the flow: rates, compare → **plots** → report, command. Of the other stages it imports only the order
of names; it computes nothing but what "other" adds up to.
"""

from __future__ import annotations

from safetykit_analytics.plots.backlog import plot_backlog
from safetykit_analytics.plots.comparison import plot_comparison
from safetykit_analytics.plots.completion_time import plot_completion_time
from safetykit_analytics.plots.control_chart import plot_control_chart
from safetykit_analytics.plots.error_rate import plot_error_rate
from safetykit_analytics.plots.grid import plot_grid
from safetykit_analytics.plots.throughput import plot_throughput

__all__ = [
    "plot_backlog",
    "plot_comparison",
    "plot_completion_time",
    "plot_control_chart",
    "plot_error_rate",
    "plot_grid",
    "plot_throughput",
]
