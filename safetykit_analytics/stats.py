"""Placeholder until this stage lands."""

from typing import Any


def cluster_rates(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
