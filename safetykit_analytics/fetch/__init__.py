"""Batch ids → observations: the only stage that talks to the network.

Place in the flow: **fetch** → frame → store. The modules, from the outside in: `calls` (the public
functions), `result` (what they give back), `run` (workers and retries), `wire` (one answer, read and
judged), `pacing` (how fast, how many at once, how many retries), `request` (key, address and id made safe),
`transport` (aiohttp behind httpx's interface), `loops` (running it from synchronous code) and `progress`.
Imports no store and no rates.
"""

from safetykit_analytics.fetch.calls import afetch_batches, aget_batch, fetch_batches, get_batch
from safetykit_analytics.fetch.result import FetchResult

__all__ = ["FetchResult", "afetch_batches", "aget_batch", "fetch_batches", "get_batch"]
