"""Placeholder until this stage lands."""

from typing import Any


def rates(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
