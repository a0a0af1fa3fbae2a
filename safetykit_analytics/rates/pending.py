"""What is waiting: pending decisions and open batches over time, and how long they will take."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import ratio
from safetykit_analytics.calendar import (
    DAY_US,
    HOUR_US,
    parse_freq,
    with_guards,
    zone,
)
from safetykit_analytics.flow import (
    BASE_COLUMNS,
    Levels,
    Listing,
    levels_of,
    reduce_pending,
    reduced,
    with_listing,
)
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import parse_by
from safetykit_analytics.rates.arguments import (
    check_executor,
    check_observations,
    check_policies,
    parse_as_of,
    parse_batches,
    parse_policies,
    parse_window,
)
from safetykit_analytics.rates.table import group_columns, label_columns, shown_places, window_edges

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from concurrent.futures import Executor

    import pandas as pd

    from safetykit_analytics.arrays import Floats, Ints

# The pace of today is one number; the fastest and the slowest of the last days are a range.
_PACE_DAYS = 7


def backlog(
    observations: Any,
    *,
    freq: str = "1h",
    by: str | Sequence[str] = ("policy_id", "policy_version"),
    tz: str = "UTC",
    start: dt.datetime | dt.date | str | None = None,
    end: dt.datetime | dt.date | str | None = None,
    as_of: dt.datetime | dt.date | str | None = None,
    policy_id: str | Sequence[str] | None = None,
    batches: pd.DataFrame | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Compute the decisions that wait in open batches at the end of each bucket, and how long they will take.

    A batch is open from its creation (or its first observation, if that is not known) until it is first seen
    to be terminal, even with decisions pending. Between two observations pending changes evenly; after the
    last one it stays.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    freq : str
        As for `rates`, without ``"auto"``: a level is not smeared.
    by, tz, start, end, as_of, policy_id, batches, executor : optional
        As for `rates`.

        .. versionadded:: 0.2.0 `policy_id` and `batches`.

    Returns
    -------
    DataFrame
        One row per group and bucket, from the first to the last in which a batch of the group was open, in
        the order of `rates`:

        - ``bucket_start``, ``bucket_end``, the `by` columns, ``partial``: as in `rates`
        - ``pending``: float64, decisions at the end of the bucket, or at `as_of` if that comes first
        - ``n_open``: int64, open batches then
        - ``throughput_per_hour``: float64, of the bucket, as in `rates`
        - ``eta_low``, ``eta_high``: timedelta64[us], how long the pending decisions take at the fastest
          and at the slowest daily pace (success + error + cancelled) of the seven days before, as far as the
          group goes back. 0 if nothing is pending; NaT where nothing was finished at that pace.

    Raises
    ------
    UnknownName, ValueError, InvalidFrame, TypeError
        As for `rates`.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> seen = pd.DataFrame({
    ...     "batch_id": "batch_1", "observed_at": [pd.Timestamp("2026-03-02T13:00Z")],
    ...     "created_at": pd.Timestamp("2026-03-02T12:00Z"), "batch_status": "PENDING", "batch_count": 100,
    ...     "success_count": 40, "error_count": 0, "cancelled_count": 0, "pending_count": 60,
    ...     "policy_id": "spam", "policy_version": "v1", "has_download": False, "is_terminal": False,
    ... })
    >>> ska.backlog(seen, freq="30min", by=())[["bucket_end", "pending", "n_open"]]
                     bucket_end  pending  n_open
    0 2026-03-02 12:30:00+00:00     80.0       1
    1 2026-03-02 13:00:00+00:00     60.0       1
    2 2026-03-02 13:30:00+00:00     60.0       1
    """
    own = parse_batches(batches)
    names = parse_by(by, () if own is None else own.column_names[1:])
    calendar = zone(tz)
    frequency = parse_freq(freq)
    window = parse_window(start, end, calendar)
    policies = parse_policies(policy_id)
    until = parse_as_of(as_of, calendar)
    check_executor(executor)
    check_observations(observations)
    labels = label_columns(names, policies)
    columns = (*BASE_COLUMNS, "pending_count", *labels)

    def run(listing: Listing) -> pd.DataFrame:
        edges, _ = window_edges(frequency, calendar, window, listing, until=listing.as_of)
        paced = with_guards(_asked_for(edges[1:-1], listing.as_of))
        reducer = partial(reduce_pending, by=names, policies=policies, edges=edges, paced=paced)
        begun = listing.where(lambda cohort: cohort.earliest < edges[-2])
        changes = reduced(begun, reducer, columns=columns, labels=labels, own=own, executor=executor)
        levels = levels_of(changes, n_buckets=len(edges) - 1, n_paced=len(paced) - 1)
        return _table(levels, edges, paced, by=names, now=listing.as_of, tz=str(tz))

    table = with_listing(observations, columns, until, run)
    check_policies(observations, policies, found=bool(len(table)))
    return table


def _asked_for(edges: Ints, now: int) -> Ints:
    """Return the instants up to which `_durations` needs the work, as edges of the pieces it is summed in."""
    days = np.minimum(edges[1:], now) - DAY_US * np.arange(_PACE_DAYS + 1)[:, None]
    return np.unique(np.concatenate([edges, days.ravel()]))


def _table(
    levels: Levels, edges: Ints, paced: Ints, *, by: tuple[str, ...], now: int, tz: str
) -> pd.DataFrame:
    place = shown_places(levels, levels.ever_open, n_edges=len(edges))
    bucket, group = levels.layout.buckets()[place], levels.layout.groups()[place]
    start, stop = edges[bucket], edges[bucket + 1]
    pending = levels.pending[place]
    low, high, processed = _durations(levels, paced, group, (start, stop, now), pending)
    hours = (np.minimum(stop, now) - start) / HOUR_US
    columns = {
        "bucket_start": pa.array(start, type=pa.timestamp("us", tz=tz)),
        "bucket_end": pa.array(stop, type=pa.timestamp("us", tz=tz)),
        **group_columns(levels.groups, by, group),
        "pending": pending,
        "n_open": levels.n_open[place],
        "throughput_per_hour": ratio(processed, hours),
    }
    table = frame_from_table(pa.table(columns))
    table["eta_low"] = low.astype("timedelta64[us]")
    table["eta_high"] = high.astype("timedelta64[us]")
    table["partial"] = stop > now
    return table


def _durations(
    levels: Levels, paced: Ints, group: Ints, span: tuple[Ints, Ints, int], pending: Floats
) -> tuple[Ints, Ints, Floats]:
    """Return the shortest and longest time that pending decisions take, and each row's processed."""
    start, stop, now = span
    until = np.minimum(stop, now)
    fastest, slowest = np.full((2, len(group)), np.nan)
    processed = np.zeros(len(group))
    for number, work in enumerate(levels.done):
        rows = group == number
        reviewed, done = np.cumsum(np.pad(work, ((0, 0), (1, 0))), axis=1)
        processed[rows] = reviewed[_before(paced, stop[rows])] - reviewed[_before(paced, start[rows])]
        since = levels.since[number]
        for day in range(_PACE_DAYS):
            end = until[rows] - day * DAY_US
            # Days before the group began do not count as slow; of its first day only the rest counts.
            begin = np.maximum(end - DAY_US, since) if day == 0 else end - DAY_US
            # What was done at the instant `now` itself belongs to the bucket that holds it.
            grown = done[_before(paced, stop[rows] if day == 0 else end)] - done[_before(paced, begin)]
            pace = np.where(begin >= since, ratio(grown, end - begin), np.nan)
            fastest[rows] = np.fmax(fastest[rows], pace)
            slowest[rows] = np.fmin(slowest[rows], pace)
    return _time_for(pending, fastest), _time_for(pending, slowest), processed


def _before(at: Ints, instants: Ints) -> Ints:
    """Return how many of the pieces between edges lie before each instant.

    Each is an edge of `_asked_for`, or the beginning of a group, before which nothing was done.
    """
    return np.searchsorted(at, instants, side="right") - 1


def _time_for(pending: Floats, pace: Floats) -> Ints:
    """Return the time in microseconds, NaT as an integer where nothing moves."""
    duration = np.where(pending > 0, ratio(pending, pace), 0.0)
    return np.where(duration <= 2**61, np.rint(duration), np.iinfo(np.int64).min).astype(np.int64)
