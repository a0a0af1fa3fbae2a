"""Placeholder until this stage lands."""

from typing import Any


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


def plot_error_rate(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_grid(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def plot_throughput(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
