"""Batches that have decisions pending and do not move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.calendar import zone
from safetykit_analytics.flow import batch_summary
from safetykit_analytics.rates.arguments import (
    check_executor,
    check_observations,
    check_policies,
    parse_as_of,
    parse_batches,
    parse_length,
    parse_policies,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from concurrent.futures import Executor

_COLUMNS = ["batch_id", "policy_id", "policy_version", "created_at", "last_observed_at", "pending_count"]


def stalled_batches(
    observations: Any,
    *,
    idle: str | dt.timedelta = "30min",
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
    policy_id: str | Sequence[str] | None = None,
    batches: pd.DataFrame | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """List the open batches whose counts certainly stood still for at least `idle`.

    Only the time between two observations is certain: a batch seen with the same counts at 10:00 and at 11:00
    stood still for an hour. A batch that was not observed is not called stalled: it is listed only if it was
    seen to stand still, and ``state`` says whether that is recent.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    idle : str or timedelta
        A length of time, such as ``"30min"`` or ``"2h"``.
    tz, as_of, policy_id, batches, executor : optional
        As for `rates`; columns of `batches` become columns of the result.

        .. versionadded:: 0.2.0 `policy_id` and `batches`.

    Returns
    -------
    DataFrame
        One row per batch that is not terminal, has decisions pending and was idle for `idle` or more; the
        longest first, then by ``batch_id``: ``batch_id``, ``policy_id``, ``policy_version``, ``created_at``,
        ``last_observed_at``, ``pending_count`` (int64) and

        - ``idle_at_least``: timedelta64[us], from the first observation of its present counts (its creation,
          if it never moved) to its last observation: certain
        - ``idle_at_most``: timedelta64[us], from the last observation of other counts to `as_of`: possible;
          NaT if nobody knows since when
        - ``state``: ``stalled``, or ``not_seen_lately`` if its last observation is longer ago than `idle`

    Raises
    ------
    ValueError
        `idle` is not a length of time above zero, or `as_of` has no time zone.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> seen = pd.DataFrame({
    ...     "batch_id": "batch_1", "created_at": pd.Timestamp("2026-03-02T12:00Z"),
    ...     "observed_at": pd.to_datetime(["2026-03-02T13:00Z", "2026-03-02T14:00Z", "2026-03-02T15:00Z"]),
    ...     "batch_status": "PENDING", "batch_count": 100, "success_count": [30, 40, 40], "error_count": 0,
    ...     "cancelled_count": 0, "pending_count": [70, 60, 60], "policy_id": "spam", "policy_version": "v1",
    ...     "has_download": False, "is_terminal": False,
    ... })
    >>> ska.stalled_batches(seen, idle="1h")[["batch_id", "idle_at_least", "idle_at_most", "state"]]
      batch_id   idle_at_least    idle_at_most    state
    0  batch_1 0 days 01:00:00 0 days 02:00:00  stalled
    """
    least = parse_length(idle, "idle")
    until, own, policies = parse_as_of(as_of, zone(tz)), parse_batches(batches), parse_policies(policy_id)
    check_executor(executor)
    check_observations(observations)
    ends = batch_summary(observations, as_of=until, policies=policies, own=own, executor=executor)
    check_policies(observations, policies, found=bool(len(ends)))
    now = pd.Timestamp(ends.attrs["as_of"], unit="us", tz="UTC")
    ends = ends[~ends["is_terminal"] & (ends["pending_count"] > 0)]
    # A batch that never moved has had its counts, all zero, since it was created.
    never = ends["last_moved_before"].isna()
    created = ends["created_at"].clip(upper=ends["first_observed_at"])
    since = ends["last_moved_before"].where(~never, created.fillna(ends["first_observed_at"]))
    maybe_since = ends["last_moved_after"].where(~never, created)
    more = [] if own is None else own.column_names[1:]
    table = ends[[*_COLUMNS, *more]].assign(
        idle_at_least=(ends["last_observed_at"] - since).astype("timedelta64[us]"),
        idle_at_most=(now - maybe_since).astype("timedelta64[us]"),
    )
    is_old = now - table["last_observed_at"] > least
    state = is_old.map({True: "not_seen_lately", False: "stalled"}).astype(ends["policy_id"].dtype)
    table = table.assign(state=state)[table["idle_at_least"] >= least]
    return table.sort_values(
        ["idle_at_least", "batch_id"], ascending=[False, True], ignore_index=True, kind="stable"
    )
