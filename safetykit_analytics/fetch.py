"""Placeholder until this stage lands."""

from typing import Any


class FetchResult:
    """Not here yet."""


def afetch_batches(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def aget_batch(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def fetch_batches(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError


def get_batch(*args: Any, **kwargs: Any) -> Any:
    """Not here yet."""
    raise NotImplementedError
