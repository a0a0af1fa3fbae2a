"""Placeholder until this stage lands."""

from typing import Any


class VersionComparison:
    """Not here yet."""


def compare_versions(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
