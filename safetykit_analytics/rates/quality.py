"""What is odd in the data, one row per finding: nothing here is repaired or dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics.calendar import zone
from safetykit_analytics.flow import KINDS, contradictions
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import STRING, frame_from_table
from safetykit_analytics.rates.arguments import (
    check_executor,
    check_observations,
    check_policies,
    parse_as_of,
    parse_batches,
    parse_policies,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from concurrent.futures import Executor


_DETAILS = {
    "unplaced": "decisions done before the first observation of a batch of unknown creation: in no bucket",
    "created_after_observed": "seconds by which the id's creation time is later than the first observation",
    "terminal_with_pending": "decisions still pending although the batch had ended; not in the backlog",
    "parts_do_not_sum": "decisions missing from success + error + cancelled + pending to make batch_count",
    "reprocessed": "decisions by which counters went down",
    "policy_changed": "changes of policy or version after the first was known; the batch is in no comparison",
    "conflicting_duplicate": "observations that contradict another of the same instant, which is kept",
    "unknown_status": "runs of equal observations with a status that is not documented",
    "work_after_terminal": "decisions finished after the batch was first seen to have ended",
    "no_created_at": "the id tells no creation time",
}


def data_quality(
    observations: Any,
    *,
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
    policy_id: str | Sequence[str] | None = None,
    batches: pd.DataFrame | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """List contradictions in the observations, at most one row per batch and kind.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    tz, as_of, policy_id, batches, executor : optional
        As for `rates`; columns of `batches` become columns of the result.

        .. versionadded:: 0.2.0 `policy_id` and `batches`.

    Returns
    -------
    DataFrame
        Sorted by ``batch_id``, then in the order of the kinds below.

        - ``batch_id``
        - ``kind``: one of ``unplaced``, ``created_after_observed``, ``terminal_with_pending``,
          ``parts_do_not_sum``, ``reprocessed``, ``policy_changed``, ``conflicting_duplicate``,
          ``unknown_status``, ``work_after_terminal``, ``no_created_at``
        - ``detail``: what it means, in words
        - ``value``: float64, the number that the detail speaks of; NaN for ``no_created_at``. The buckets of
          `rates` and the ``unplaced`` values together are the last counts of all batches.

    Raises
    ------
    InvalidFrame
        `observations` is not a frame of observations.
    ValueError
        `as_of` has no time zone.

    Notes
    -----
    A store drops duplicate keys when it is read: only a DataFrame has ``conflicting_duplicate``.

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> seen = pd.DataFrame({
    ...     "batch_id": ["batch_1", "batch_2"], "observed_at": pd.Timestamp("2026-03-02T13:00Z"),
    ...     "created_at": pd.Timestamp("2026-03-02T12:00Z"), "batch_status": "SUCCESS", "batch_count": 100,
    ...     "success_count": [100, 60], "error_count": 0, "cancelled_count": 0, "pending_count": [0, 40],
    ...     "policy_id": "spam", "policy_version": "v1", "has_download": True, "is_terminal": True,
    ... })
    >>> ska.data_quality(seen)[["batch_id", "kind", "value"]]
      batch_id                   kind  value
    0  batch_2  terminal_with_pending   40.0
    """
    until, policies = parse_as_of(as_of, zone(tz)), parse_policies(policy_id)
    own = parse_batches(batches)
    check_executor(executor)
    check_observations(observations)
    table = contradictions(observations, as_of=until, policies=policies, executor=executor)
    check_policies(observations, policies, found=bool(table.num_rows))
    found = frame_from_table(table)
    kind = found["kind"].map(dict(enumerate(KINDS))).astype(found["batch_id"].dtype)
    detail = kind.map(_DETAILS).astype(found["batch_id"].dtype)
    detail = detail.where(found["text"].isna(), detail + ": " + found["text"].fillna(""))
    table = pd.DataFrame(
        {"batch_id": found["batch_id"], "kind": kind, "detail": detail, "value": found["value"]}
    )
    if own is not None:
        row = own.to_pandas().set_index("batch_id").reindex(table["batch_id"])
        for name in row:
            table[name] = pd.array(row[name].fillna(NONE).to_numpy(), dtype=STRING)
    return table
