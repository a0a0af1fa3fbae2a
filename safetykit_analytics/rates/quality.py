"""What is odd in the data, one row per finding: nothing here is repaired or dropped.

Place in the flow: flow → **data_quality** → report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.calendar import parse_instant, zone
from safetykit_analytics.flow.findings import KINDS, find
from safetykit_analytics.flow.work import open_source
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS
from safetykit_analytics.rates.arguments import checked_observations

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

_DETAILS = {
    "unplaced": "decisions done before the first observation of a batch of unknown creation: in no bucket",
    "created_after_observed": "seconds by which the id's creation time is later than the first observation",
    "terminal_with_pending": "decisions still pending although the batch had ended; not in the backlog",
    "parts_do_not_sum": "decisions missing from success + error + cancelled + pending to make batch_count",
    "reprocessed": "decisions by which counters went down",
    "policy_changed": "changes of policy or version after the first was known; the batch is in no comparison",
    "conflicting_duplicate": "observations that contradict another of the same instant, which is kept",
    "unknown_status": "observations with a status that is not documented",
    "work_after_terminal": "decisions finished after the batch was first seen to have ended",
    "no_created_at": "the id tells no creation time",
}


def data_quality(observations: Any, *, as_of: dt.datetime | dt.date | str | None = None) -> pd.DataFrame:
    """List what is odd in the observations, at most one row per batch and kind.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made.

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
    A store drops duplicate keys when it is read, so that only a DataFrame has ``conflicting_duplicate``.

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
    until = None if as_of is None else parse_instant(as_of, "as_of", zone("UTC"))
    checked_observations(observations)
    source = open_source(observations, labels=LABELS, as_of=until, executor=None, state=True)
    ids = source.stitched.ids
    pieces = []
    for finding in find(source):
        detail = [_DETAILS[finding.kind]] * len(finding.batch)
        if finding.text is not None:
            detail = [f"{words}: {text}" for words, text in zip(detail, finding.text, strict=True)]
        pieces.append(
            pa.table(
                {
                    "batch_id": ids.take(pa.array(finding.batch)),
                    "kind": pa.array([finding.kind] * len(detail), type=pa.string()),
                    "detail": pa.array(detail, type=pa.string()),
                    "value": finding.value.astype(np.float64),
                    "rank": np.full(len(detail), KINDS.index(finding.kind)),
                }
            )
        )
    table = pa.concat_tables(pieces)
    order = pc.sort_indices(table, sort_keys=[("batch_id", "ascending"), ("rank", "ascending")])
    return frame_from_table(table.take(order).drop_columns("rank"))
