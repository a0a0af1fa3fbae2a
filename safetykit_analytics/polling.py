"""Polling: ask for batches, append what they answer. Made to be run by cron every minute.

Overlapping runs do no harm: what two of them append is one set of observations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.fetch import checked_ids, fetch_in_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from safetykit_analytics.store import SnapshotStore

# What a process that is killed loses, at most, and a little more for the append itself.
_PIECE_S = 5.0


@dataclass(frozen=True, eq=False)
class PollResult:
    """What one poll came to.

    .. versionadded:: 0.2.0

    Attributes
    ----------
    asked, answered, failed : int
        Ids; ``asked = answered + failed``.
    settled_skipped : int
        Ids that were given and left out, because the store has seen them end.
    rows_appended : int
        Observations that were written.
    open : int
        Batches of the store, all of them, that had not ended when they were last seen.
    failures : DataFrame
        As ``FetchResult.failures``.

    Examples
    --------
    >>> import tempfile
    >>> import safetykit_analytics as ska
    >>> ska.poll(ska.SnapshotStore(tempfile.mkdtemp()), [], api_key="a-key")
    PollResult(asked=0, answered=0, failed=0, settled_skipped=0, rows_appended=0, open=0)
    """

    asked: int
    answered: int
    failed: int
    settled_skipped: int
    rows_appended: int
    open: int
    failures: pd.DataFrame = field(repr=False)


def poll(
    store: SnapshotStore,
    batch_ids: Iterable[str] | None = None,
    *,
    again: bool = False,
    **fetch_options: Any,
) -> PollResult:
    """Ask for the status of batches and append it to a store.

    .. versionadded:: 0.2.0

    Answers are appended every few seconds, so that a process that is killed loses seconds of work. When a UTC
    day has closed since the last poll, the store is compacted.

    Parameters
    ----------
    store : SnapshotStore
    batch_ids : iterable of str, optional
        As for `fetch_batches`. Default: all batches that the store knows and has not seen end.
    again : bool
        Ask also for those that have ended.
    **fetch_options
        The keywords of `fetch_batches`: ``api_key``, ``concurrency``, ``max_rate`` and so on.

    Returns
    -------
    PollResult
        Failed ids raise nothing: they are in its ``failures``.

    Raises
    ------
    MissingApiKey
        No key, or one that cannot be sent.
    Unauthorized
        The API refuses the key; what arrived before is in the store.
    SafetyKitAnalyticsError
        The store cannot be read or written.

    On Ctrl-C, what arrived before is in the store.

    Examples
    --------
    >>> import safetykit_analytics as ska
    >>> from safetykit_analytics.simulator import make_fleet, serve
    >>> import tempfile
    >>> fleet = make_fleet(seed=1, batches=3, weeks=1)
    >>> store = ska.SnapshotStore(tempfile.mkdtemp())
    >>> with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
    ...     first = ska.poll(store, fleet.batch_ids, base_url=url, api_key="a-key")
    ...     second = ska.poll(store, fleet.batch_ids, base_url=url, api_key="a-key")
    >>> first
    PollResult(asked=3, answered=3, failed=0, settled_skipped=0, rows_appended=3, open=0)
    >>> second.settled_skipped
    3
    """
    wanted, settled = _wanted(store, batch_ids, again=again)
    last = store.info().last_observed_at if wanted else None
    rows_appended = 0

    def keep(frame: pd.DataFrame) -> None:
        nonlocal rows_appended
        rows_appended += store.append(frame)

    result = fetch_in_pieces(wanted, keep, every_s=_PIECE_S, **fetch_options)
    is_later = last is not None and len(result.frame) > 0
    if is_later and result.frame["observed_at"].max().floor("D") > pd.Timestamp(last).floor("D"):
        store.compact()
    return PollResult(
        asked=len(result.frame) + len(result.failures),
        answered=len(result.frame),
        failed=len(result.failures),
        settled_skipped=settled,
        rows_appended=rows_appended,
        open=len(store.open_batch_ids()),
        failures=result.failures,
    )


def _wanted(
    store: SnapshotStore, batch_ids: Iterable[str] | None, *, again: bool
) -> tuple[Sequence[Any], int]:
    """Return the ids to ask for, and how many settled ones were left out."""
    if batch_ids is None:
        return (store.latest()["batch_id"].tolist() if again else store.open_batch_ids()), 0
    given = list(checked_ids(batch_ids))
    if again:
        return given, 0
    still_open = set(store.open_batch_ids())
    others = [one for one in given if isinstance(one, str) and one not in still_open]
    # Only the cohorts of these ids are read, and of them only the keys.
    settled = set(store.read(batch_ids=others, columns=["batch_id"])["batch_id"]) if others else set()
    return [one for one in given if not (isinstance(one, str) and one in settled)], len(settled)
