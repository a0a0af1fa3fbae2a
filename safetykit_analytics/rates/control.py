"""Placeholder until this stage lands."""

from typing import Any


def control_chart(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
