"""Placeholder until this stage lands."""

from typing import Any


def data_quality(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
