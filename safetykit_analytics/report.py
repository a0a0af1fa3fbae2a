"""Placeholder until this stage lands."""

from typing import Any


class WeeklyReport:
    """Not here yet."""


def weekly_report(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
