"""One row per batch: where it stands, when it ended, when it last moved.

Place in the flow: stitch → **ends** → stalled batches, backlog, completion time, comparisons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Ints, last_valid, next_valid, run_bounds, run_starts
from safetykit_analytics.calendar import from_us, parse_instant, zone
from safetykit_analytics.flow.observations import instants
from safetykit_analytics.flow.partitions import list_partitions
from safetykit_analytics.flow.work import Source, open_source
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS

if TYPE_CHECKING:
    import datetime as dt
    from concurrent.futures import Executor

    import pandas as pd

_INSTANT = pa.timestamp("us", tz="UTC")


def resolve_as_of(observations: Any, as_of: dt.datetime | dt.date | str | None = None) -> dt.datetime | None:
    """Give the instant that `as_of` means, which is the last observation if none is given.

    Returns
    -------
    datetime
        In UTC; None if there are no observations and no `as_of`.
    """
    if as_of is not None:
        return from_us(parse_instant(as_of, "as_of", zone("UTC")))
    for partition in reversed(list_partitions(observations)):
        t = instants(partition.read(("observed_at",)).column("observed_at"))
        if len(t):
            return from_us(int(t.max()))
    return None


def batch_ends(
    observations: Any,
    *,
    as_of: dt.datetime | dt.date | str | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Give one row per batch: its last observation, when it ended, and when it last moved.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made.
    executor : concurrent.futures.Executor, optional
        Where to read the days of a store.

    Returns
    -------
    DataFrame
        Sorted by ``batch_id``; instants are datetime64[us, UTC].

        - ``batch_id``; ``policy_id``, ``policy_version``: the last ones, NA for none
        - ``label_changed``: bool, the policy or version changed after the first one was known
        - ``created_at``: NaT if not known
        - ``first_observed_at``, ``last_observed_at``
        - ``batch_count``, ``success_count``, ``error_count``, ``cancelled_count``, ``pending_count``: int64,
          of the last observation, as are ``batch_status`` and ``is_terminal``
        - ``first_terminal_at``, ``first_terminal_status``: of the first terminal observation; NaT, NA if none
        - ``before_terminal_at``: the observation before that; NaT if there is none
        - ``last_moved_after``, ``last_moved_before``: one of success, error and cancelled last changed after
          the one and at or before the other; both NaT if none ever did, the first NaT if it is not known
    """
    until = None if as_of is None else parse_instant(as_of, "as_of", zone("UTC"))
    source = open_source(observations, labels=LABELS, as_of=until, executor=executor, state=True)
    return ends_of(source)


def ends_of(source: Source) -> pd.DataFrame:
    """Reduce a source, opened with its state, to one row per batch."""
    known = source.stitched
    order, last = known.order, known.last_row
    begin, end = run_bounds(run_starts(known.batch[order]))
    state = state_of(source)
    counts = (
        np.concatenate([part.last_counts for part in source.parts], axis=1)
        .take(last, axis=1)
        .astype(np.int64)
    )

    ended = next_valid((known.first_terminal != NEVER)[order], np.repeat(end, end - begin))[begin]
    has_ended = ended >= 0
    terminal_row = np.where(has_ended, order[ended], 0)
    before = state["before_terminal"][terminal_row]
    # Terminal at the first observation of that day: the one before it is the day's edge before.
    earlier = has_ended & (before == NEVER) & (ended > begin)
    before = np.where(earlier, known.last_t[order[np.maximum(ended - 1, 0)]], before)

    after, until = _last_moves(known, source, state)
    run_batch = known.batch[known.run_edge]
    last_run = np.zeros(len(last), dtype=np.int64)
    # Runs come by day: the last one written stays.
    last_run[run_batch] = np.arange(len(run_batch))
    columns: dict[str, Any] = {"batch_id": known.ids}
    for name in LABELS:
        label = known.run_labels[name]
        codes = label.codes[last_run]
        columns[name] = pa.array(label.names, type=pa.string()).take(pa.array(codes, mask=codes < 0))
    columns |= {
        "label_changed": _changed(known, run_batch, len(last)),
        "created_at": _times(known.created[known.first_row]),
        "first_observed_at": _times(known.end[known.first_row]),
        "last_observed_at": _times(known.last_t[last]),
        "batch_count": state["batch_count"][last],
        "success_count": counts[0],
        "error_count": counts[1],
        "cancelled_count": counts[2],
        "pending_count": state["pending_count"][last],
        "batch_status": state["batch_status"].take(pa.array(last)),
        "is_terminal": state["is_terminal"][last],
        "first_terminal_at": _times(np.where(has_ended, known.first_terminal[terminal_row], NEVER)),
        "first_terminal_status": state["first_terminal_status"].take(pa.array(terminal_row, mask=~has_ended)),
        "before_terminal_at": _times(np.where(has_ended, before, NEVER)),
        "last_moved_after": _times(after),
        "last_moved_before": _times(until),
    }
    table = pa.table(columns)
    return frame_from_table(table.take(pc.sort_indices(table.column("batch_id"))))


def state_of(source: Source) -> dict[str, Any]:
    """Put the states of all days end to end."""
    parts = [part.state for part in source.parts]
    return {
        name: pa.chunked_array([part[name] for part in parts], type=pa.string()).combine_chunks()
        if name.endswith("status")
        else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


def _last_moves(known: Any, source: Source, state: dict[str, Any]) -> tuple[Ints, Ints]:
    """Give when a counter of each batch last moved: after the one and at or before the other."""
    first_counts = np.concatenate([part.first_counts for part in source.parts], axis=1)
    # The lead-in of a batch without creation time moves nothing, yet tells that something was done before.
    lead_moved = (np.where(known.is_first, first_counts, known.delta) != 0).any(axis=0)
    lead_after = np.where(known.is_first & (known.created == NEVER), NEVER, known.start)
    inside = state["moved_before"] != NEVER
    after = np.where(inside, state["moved_after"], lead_after)
    until = np.where(inside, state["moved_before"], known.end)
    order = known.order
    begin, end = run_bounds(run_starts(known.batch[order]))
    found = last_valid((inside | lead_moved)[order], np.repeat(begin, end - begin))[end - 1]
    row = order[np.maximum(found, 0)]
    return np.where(found >= 0, after[row], NEVER), np.where(found >= 0, until[row], NEVER)


def _changed(known: Any, run_batch: Ints, n: int) -> Any:
    """Say of each batch whether its filled labels ever changed."""
    along = np.argsort(run_batch, kind="stable")
    changed = np.zeros(n, dtype=np.bool_)
    same_batch = ~run_starts(run_batch[along])
    for label in known.run_labels.values():
        differs = run_starts(label.codes[along]) & same_batch
        changed[run_batch[along][differs]] = True
    return changed


def _times(values: Ints) -> Any:
    return pa.array(values, mask=values == NEVER).cast(_INSTANT)
