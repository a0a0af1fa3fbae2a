"""Batch ids → observations: the only stage that talks to the network."""

from safetykit_analytics.fetch.client import (
    afetch_batches,
    aget_batch,
    fetch_batches,
    fetch_in_pieces,
    get_batch,
)
from safetykit_analytics.fetch.request import checked_ids
from safetykit_analytics.fetch.result import FetchResult

__all__ = [
    "FetchResult",
    "afetch_batches",
    "aget_batch",
    "checked_ids",
    "fetch_batches",
    "fetch_in_pieces",
    "get_batch",
]
