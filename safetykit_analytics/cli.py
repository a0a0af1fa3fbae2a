"""Placeholder until this stage lands."""

from typing import Any


def main(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
