"""Tables → pictures that go on slides as they are.

Each ``plot_`` function takes a table and returns the matplotlib Axes it drew into; `plot_grid` draws any of
them as small multiples. matplotlib's object interface only: no pyplot, no rcParams, nothing shown.

Place in the flow: rates, compare → **plots** → report, command. Imports no other stage; computes nothing but
what "other" adds up to.
"""

from __future__ import annotations

from typing import Any

from safetykit_analytics.plots.error_rate import plot_error_rate
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


def plot_backlog(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_comparison(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_completion_time(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_control_chart(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_grid(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
