"""The work of each batch between given instants, for comparisons that need batches and not sums.

Place in the flow: work → **by_batch** → compare, report.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.calendar import parse_instant, same_edges, zone
from safetykit_analytics.flow.allocate import Cells, clusters
from safetykit_analytics.flow.work import open_source, work_of
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from concurrent.futures import Executor

    import pandas as pd


def batch_work(
    observations: Any,
    *,
    edges: Sequence[dt.datetime],
    as_of: dt.datetime | dt.date | str | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Give the decisions of each batch between given instants.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    edges : sequence of aware datetimes
        Ascending; bucket i is [edges[i], edges[i + 1]).
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made.
    executor : concurrent.futures.Executor, optional
        Where to reduce the days of a store.

    Returns
    -------
    DataFrame
        One row per batch, bucket, policy and version with work, sorted by them (none last): ``batch_id``,
        ``bucket`` (int64), ``policy_id``, ``policy_version``, ``success``, ``error``, ``cancelled`` (float64
        decisions).

    Raises
    ------
    ValueError
        Fewer than two edges, one without a time zone, or not ascending.
    """
    instants = np.array([parse_instant(edge, "edges", zone("UTC")) for edge in edges], dtype=np.int64)
    if len(instants) < 2 or (np.diff(instants) <= 0).any():
        raise ValueError(f"edges: expected two or more ascending times, found {list(edges)!r}")
    until = None if as_of is None else parse_instant(as_of, "as_of", zone("UTC"))
    source = open_source(observations, labels=LABELS, as_of=until, executor=executor)
    work = work_of(source, partial(same_edges, instants), keep_batches=True)
    bucket = work.layout.buckets()
    is_inside = (bucket > 0) & (bucket < len(work.edges) - 2)
    cells = clusters(work.cells, work.spans, is_inside, np.diff(work.edges)[bucket])
    cells = Cells(cells.batch, np.flatnonzero(is_inside)[cells.place], cells.work)
    cells = cells.take((cells.work != 0).any(axis=0))
    group = work.layout.groups()[cells.place]
    ids = source.stitched.ids
    # Groups are numbered in natural order, so that sorting by place sorts by bucket within a group.
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(ids.to_numpy(zero_copy_only=False), kind="stable")] = np.arange(len(ids))
    order = np.lexsort((group, bucket[cells.place], rank[cells.batch]))
    cells, group = cells.take(order), group[order]
    table = pa.table(
        {
            "batch_id": ids.take(pa.array(cells.batch)),
            "bucket": bucket[cells.place] - 1,
            **{
                name: pa.array([names[column] for names in work.groups], type=pa.string()).take(
                    pa.array(group)
                )
                for column, name in enumerate(LABELS)
            },
            "success": cells.work[0],
            "error": cells.work[1],
            "cancelled": cells.work[2],
        }
    )
    return frame_from_table(table)
