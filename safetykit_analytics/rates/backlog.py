"""Placeholder until this stage lands."""

from typing import Any


def backlog(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
