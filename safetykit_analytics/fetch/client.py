"""The public functions of this stage: `fetch_batches` and `get_batch`, each also for asynchronous code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetykit_analytics.errors import FetchFailed, MissingApiKey, Unauthorized
from safetykit_analytics.fetch.event_loop import run_sync
from safetykit_analytics.fetch.request import Call, checked_ids, checked_key, known_base_url
from safetykit_analytics.fetch.responses import Failure
from safetykit_analytics.fetch.result import (
    FetchResult,
    finish,
    finish_sync,
    refusal,
    warn_of_unknown_statuses,
)
from safetykit_analytics.fetch.retries import Refused
from safetykit_analytics.fetch.run import Run
from safetykit_analytics.frame import frame_from_table, table_from_rows
from safetykit_analytics.models import BatchStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import httpx
    import pandas as pd
    from pydantic import SecretStr

    from safetykit_analytics.fetch.request import Clock


def fetch_batches(
    batch_ids: Iterable[str],
    *,
    api_key: str | SecretStr | None = None,
    base_url: str | None = None,
    concurrency: int = 100,
    max_rate: float | None = None,
    timeout_s: float = 60.0,
    progress: bool | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock = None,
) -> FetchResult:
    """Fetch the status of many batches: one observation or one failure for each id.

    Works in a notebook too, where an event loop already runs: the work is then done in a thread of its own.

    Parameters
    ----------
    batch_ids : iterable of str
        A list, a generator, or a column of pandas, Polars or pyarrow; also a table of one column that has the
        Arrow C stream interface, such as a DuckDB relation. Pulled lazily, at most `concurrency` ahead. An id
        that is there twice is asked for once and keeps its first place.
    api_key : str or SecretStr, optional
        Default: the environment variable ``SAFETYKIT_API_KEY``.
    base_url : str, optional
        Default: the environment variable ``SAFETYKIT_BASE_URL``, else ``https://api.safetykit.com``.
        ``http://`` reaches this machine only, unless you bring a `transport`.
    concurrency : int
        Requests in flight, at most. Fewer while the API answers 429 or 503.
    max_rate : float, optional
        Requests per second, at most, retries included.
    timeout_s : float
        Seconds for one id, all attempts and waits between them included; a third of it for one attempt. An
        API that asks to wait longer, or lets nothing through for so long, ends the run.
    progress : bool, optional
        A progress bar on stderr. Default: on a terminal or in a notebook only.
    transport : httpx.AsyncBaseTransport, optional
        Another way to the API: through a proxy, with other certificates, into a test. It stays open. It
        must not send a request twice by itself. One with connections, such as httpx_aiohttp's, serves one
        event loop: one synchronous call, or all asynchronous ones.
    clock : callable or "server", optional
        What time it is when an answer arrives: a function that returns an aware datetime, or the answer's
        Date header. Default: this machine's clock.

    Returns
    -------
    FetchResult

    Raises
    ------
    MissingApiKey
        No key, or one that cannot be sent in a header.
    InvalidEnvironment
        The environment names certificates that cannot be read, or a proxy that cannot be used.
    Unauthorized
        The API refuses the key; what arrived before is in ``.result``.
    TypeError, ValueError
        An argument is invalid.

    On Ctrl-C the ``KeyboardInterrupt`` has what arrived before as its ``.partial``, a `FetchResult`.

    Warns
    -----
    UnknownStatusWarning
        Once for each status that is not documented.

    Examples
    --------
    Three batches of a simulated SafetyKit. With the real one, the ids are all that is needed:

    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     result = ska.fetch_batches(fleet.batch_ids, base_url=url, api_key="a-key")
    >>> result.frame[["batch_status", "batch_count", "pending_count", "policy_id"]]
      batch_status  batch_count  pending_count    policy_id
    0      SUCCESS         1703              0  counterfeit
    1      SUCCESS          610              0         spam
    2      SUCCESS          965              0  counterfeit
    """
    key = checked_key(api_key)
    del api_key  # from here on no frame of ours holds it plain, for a traceback with captured locals to show
    call = _new_call(key, base_url, concurrency, max_rate, timeout_s, progress, transport, clock)
    run = Run(call, checked_ids(batch_ids))
    result = finish_sync(run)
    warn_of_unknown_statuses(run)
    return result


def fetch_in_pieces(
    batch_ids: Iterable[str],
    keep: Callable[[pd.DataFrame], object],
    *,
    every_s: float,
    api_key: str | SecretStr | None = None,
    **options: Any,
) -> FetchResult:
    """Do what `fetch_batches` does, and call `keep` with what has arrived since: every `every_s` seconds.

    `keep` runs on another thread, and at the end, whatever ends the run, before anything is raised or warned
    of. An error that it raises ends the run.
    """
    key = checked_key(api_key)
    del api_key
    run = Run(
        _new_call(key, **{"base_url": None, "concurrency": 100, "progress": None} | options),
        checked_ids(batch_ids),
        keep=lambda rows: keep(frame_from_table(table_from_rows(rows))),
        every_s=every_s,
    )
    try:
        result = finish_sync(run)
    finally:
        try:
            run.keep_rest()
        except KeyboardInterrupt:
            # Rows that arrived are kept even if Ctrl-C comes now; pressed again, it ends at once.
            run.keep_rest()
            raise
    warn_of_unknown_statuses(run)
    return result


async def afetch_batches(
    batch_ids: Iterable[str],
    *,
    api_key: str | SecretStr | None = None,
    base_url: str | None = None,
    concurrency: int = 100,
    max_rate: float | None = None,
    timeout_s: float = 60.0,
    progress: bool | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock = None,
) -> FetchResult:
    """Do what `fetch_batches` does, from asynchronous code.

    Cancelled, the ``asyncio.CancelledError`` has what arrived before as its ``.partial``; under
    `asyncio.timeout` it is the ``__context__`` of the TimeoutError.

    Examples
    --------
    >>> import asyncio
    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     result = asyncio.run(ska.afetch_batches(fleet.batch_ids, base_url=url, api_key="a-key"))
    >>> len(result.frame), len(result.failures)
    (3, 0)
    """
    key = checked_key(api_key)
    del api_key
    call = _new_call(key, base_url, concurrency, max_rate, timeout_s, progress, transport, clock)
    run = Run(call, checked_ids(batch_ids))
    result = await finish(run)
    warn_of_unknown_statuses(run)
    return result


def get_batch(
    batch_id: str,
    *,
    api_key: str | SecretStr | None = None,
    base_url: str | None = None,
    timeout_s: float = 60.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> BatchStatus:
    """Fetch one batch and return the documented answer, with all eleven fields.

    Parameters
    ----------
    batch_id : str
    api_key, base_url, timeout_s, transport : optional
        As for `fetch_batches`.

    Returns
    -------
    BatchStatus
        The two URLs are `pydantic.SecretStr`: ``status.download_url.get_secret_value()``.

    Raises
    ------
    FetchFailed
        No valid answer: ``.kind``, ``.status_code`` and ``.batch_id`` say more.
    Unauthorized
        The API refuses the key (401).
    MissingApiKey
        No key, or one that cannot be sent in a header.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     status = ska.get_batch(fleet.batch_ids[0], base_url=url, api_key="a-key")
    >>> status.batch_status, status.pending_count
    ('SUCCESS', 0)
    """
    key = checked_key(api_key)
    del api_key
    return run_sync(_get_one(batch_id, _new_call(key, base_url, timeout_s=timeout_s, transport=transport)))


async def aget_batch(
    batch_id: str,
    *,
    api_key: str | SecretStr | None = None,
    base_url: str | None = None,
    timeout_s: float = 60.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> BatchStatus:
    """Do what `get_batch` does, from asynchronous code.

    Examples
    --------
    >>> import asyncio
    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     status = asyncio.run(ska.aget_batch(fleet.batch_ids[0], base_url=url, api_key="a-key"))
    >>> status.batch_status
    'SUCCESS'
    """
    key = checked_key(api_key)
    del api_key
    return await _get_one(batch_id, _new_call(key, base_url, timeout_s=timeout_s, transport=transport))


def _new_call(  # noqa: PLR0917 -- the public arguments, passed on in their order
    key: SecretStr | MissingApiKey,
    base_url: str | None,
    concurrency: int = 1,
    max_rate: float | None = None,
    timeout_s: float = 60.0,
    progress: bool | None = False,  # noqa: FBT001, FBT002 -- the public argument, passed on
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock = None,
) -> Call:
    if isinstance(key, MissingApiKey):
        raise key
    return Call(key, known_base_url(base_url), concurrency, max_rate, timeout_s, progress, transport, clock)


async def _get_one(batch_id: str, call: Call) -> BatchStatus:
    run = Run(call, [batch_id], whole=True)
    refused = None
    try:
        await run.go()
    except Refused as signal:
        # Raised here, it would be the context of the error.
        refused = signal.status_code
    if refused is not None:
        raise Unauthorized(refusal(refused), status_code=refused)
    outcome, shown = run.outcomes[0], str(batch_id)
    if isinstance(outcome, Failure):
        raise FetchFailed(
            f"batch {shown!r}: {outcome.message}",
            batch_id=shown,
            kind=outcome.kind,
            status_code=outcome.status_code,
        )
    assert isinstance(outcome, BatchStatus)
    return outcome
