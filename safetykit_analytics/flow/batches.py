"""Facts about single batches: where each stands, when it ended, when it last moved, what it did when."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Flags, Ints, run_starts
from safetykit_analytics.calendar import with_guards
from safetykit_analytics.flow.cohorts import Listing, reduced, with_listing
from safetykit_analytics.flow.increments import growth, increments_of, since
from safetykit_analytics.flow.observations import BASE_COLUMNS, Rows
from safetykit_analytics.flow.reduce import groups_by
from safetykit_analytics.flow.spread import Cells, joined, merged, spread, written_out
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS, natural_key
from safetykit_analytics.schema import INSTANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor

    import pandas as pd

_COLUMNS = (*BASE_COLUMNS, *LABELS, "batch_count", "pending_count", "batch_status")


def batch_summary(
    observations: Any,
    *,
    as_of: int | None = None,
    policies: Sequence[str] | None = None,
    own: Any = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Return one row per batch: its last observation, when it ended, and when it last moved.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    as_of : int, optional
        Microseconds since 1970 UTC; later observations are ignored as if never made.
    policies : sequence of str, optional
        Only batches with one of these as their last policy; "(none)" for none.
    own : pyarrow.Table, optional
        ``batch_id`` and further columns of text, which become columns of the result.
    executor : concurrent.futures.Executor, optional

    Returns
    -------
    DataFrame
        Sorted by ``batch_id``; instants are datetime64[us, UTC]. ``attrs["as_of"]`` is the instant in
        microseconds that the facts are of.

        - ``batch_id``; ``policy_id``, ``policy_version``: the last ones, "(none)" for none
        - ``label_changed``: bool, the policy or version changed after the first one was known
        - ``created_at``: NaT if not known
        - ``first_observed_at``, ``last_observed_at``
        - ``batch_count``, ``success_count``, ``error_count``, ``cancelled_count``, ``pending_count``: int64,
          of the last observation, as are ``batch_status`` and ``is_terminal``
        - ``first_terminal_at``, ``first_terminal_status``: of the first terminal observation; NaT, NA if none
        - ``before_terminal_at``: the observation before that; NaT if there is none
        - ``last_moved_after``, ``last_moved_before``: one of success, error and cancelled last changed after
          the one and at or before the other; both NaT if none ever did, the first NaT if it is not known
        - the columns of `own`, "(none)" for batches without a row
    """
    names = tuple(name for name in own.column_names if name != "batch_id") if own is not None else ()

    def run(listing: Listing) -> pd.DataFrame:
        reducer = partial(_summary, names=names, policies=None if policies is None else tuple(policies))
        frame = _sorted(
            reduced(listing, reducer, columns=_COLUMNS, labels=LABELS, own=own, executor=executor)
        )
        frame.attrs["as_of"] = listing.as_of
        return frame

    return with_listing(observations, _COLUMNS, as_of, run)


def batch_work(
    observations: Any,
    *,
    edges: Sequence[int],
    as_of: int | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Return the decisions of each batch between given instants.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    edges : sequence of int
        Ascending microseconds since 1970 UTC; bucket i is [edges[i], edges[i + 1]).
    as_of : int, optional
        Later observations are ignored as if never made.
    executor : concurrent.futures.Executor, optional

    Returns
    -------
    DataFrame
        One row per batch, bucket, policy and version with work: ``batch_id``, ``bucket`` (int64),
        ``policy_id``, ``policy_version`` ("(none)" for none), ``success``, ``error``, ``cancelled`` (float64
        decisions). Sorted by ``batch_id``, then policy, version and bucket.
    """
    columns = (*BASE_COLUMNS, *LABELS)
    reducer = partial(_work, edges=with_guards(np.asarray(edges, dtype=np.int64)))

    def run(listing: Listing) -> pd.DataFrame:
        def touches(cohort: Any) -> bool:
            return bool(cohort.earliest < edges[-1] and cohort.last_observed >= edges[0])

        results = reduced(listing.where(touches), reducer, columns=columns, labels=LABELS, executor=executor)
        return _sorted(results)

    return with_listing(observations, columns, as_of, run)


def known_policies(observations: Any) -> list[str]:
    """Return the policies that occur, in natural order; "(none)" for batches that name none."""
    columns = (*BASE_COLUMNS, "policy_id")

    def run(listing: Listing) -> list[str]:
        results = reduced(listing, _policies, columns=columns, labels=("policy_id",))
        names = {name for _, some in results for name in some}
        return sorted(names, key=natural_key)

    return with_listing(observations, columns, None, run)


def _policies(rows: Rows) -> set[str]:
    label = rows.labels["policy_id"]
    return set(text_of(label.names, np.unique(label.codes)).to_pylist())


def _sorted(results: Iterable[tuple[int, Any]]) -> pd.DataFrame:
    table = pa.concat_tables([table for _, table in results])
    ids = table.column("batch_id")
    # Ids begin with their time, as cohorts do: most often all is in order as it comes.
    if len(ids) < 2 or pc.all(pc.less_equal(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py():
        return frame_from_table(table)
    return frame_from_table(table.take(_stable_order(table)))


def _stable_order(table: Any) -> Any:
    """Return the order by batch_id that keeps the order within a batch."""
    table = pa.table({"batch_id": table.column("batch_id"), "row": np.arange(table.num_rows)})
    return pc.sort_indices(table, sort_keys=[("batch_id", "ascending"), ("row", "ascending")])


def text_of(names: Sequence[str | None], codes: Ints) -> Any:
    """Return labels as an Arrow array of strings; a code of -1 is "(none)"."""
    shown = [NONE if name is None else name for name in names]
    return pa.array([*shown, NONE], type=pa.string()).take(pa.array(np.where(codes < 0, len(shown), codes)))


def _summary(rows: Rows, *, names: tuple[str, ...], policies: tuple[str, ...] | None) -> Any:
    n = len(rows.t)
    first, last = rows.first[:-1], rows.first[1:] - 1
    ended = rows.first_terminal
    has_ended = ended < n
    end_row = np.where(has_ended, ended, 0)
    before = np.where(has_ended & (ended > first), rows.t[end_row - 1] if n else end_row, NEVER)
    moved = _last_row((growth(rows.counts, rows) != 0).any(axis=0), first)
    move_row = np.maximum(moved, 0)
    moved_after = since(rows)[move_row]
    moved_after[(moved == first) & (rows.begin == NEVER)] = NEVER
    columns: dict[str, Any] = {"batch_id": rows.ids()}
    for name in LABELS:
        columns[name] = text_of(rows.labels[name].names, rows.labels[name].codes[last])
    columns |= {
        "label_changed": _changed(rows),
        "created_at": _times(np.where(rows.begin == NEVER, NEVER, rows.created)),
        "first_observed_at": _times(rows.t[first]),
        "last_observed_at": _times(rows.t[last]),
        "batch_count": rows.take("batch_count", last),
        "success_count": rows.counts[0, last].astype(np.int64),
        "error_count": rows.counts[1, last].astype(np.int64),
        "cancelled_count": rows.counts[2, last].astype(np.int64),
        "pending_count": rows.take("pending_count", last),
        "batch_status": rows.take("batch_status", last),
        "is_terminal": rows.terminal[last],
        "first_terminal_at": _times(np.where(has_ended, rows.t[end_row] if n else end_row, NEVER)),
        "first_terminal_status": pc.if_else(has_ended, rows.take("batch_status", end_row), None)
        if n
        else pa.array([], pa.string()),
        "before_terminal_at": _times(before),
        "last_moved_after": _times(np.where(moved >= 0, moved_after, NEVER)),
        "last_moved_before": _times(np.where(moved >= 0, rows.t[move_row] if n else move_row, NEVER)),
        **{name: text_of(rows.labels[name].names, rows.labels[name].codes[last]) for name in names},
    }
    table = pa.table(columns)
    if policies is not None:
        table = table.filter(pc.is_in(table.column("policy_id"), pa.array(policies, pa.string())))
    return table


def _last_row(flags: Flags, first: Ints) -> Ints:
    """Return the last flagged row of each batch, -1 where there is none."""
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    return np.maximum.reduceat(np.where(flags, np.arange(len(flags)), -1), first)


def _changed(rows: Rows) -> Any:
    """Return for each batch whether its filled labels ever changed."""
    is_run = run_starts(rows.batch, *(rows.labels[name].codes for name in LABELS))
    runs = np.bincount(rows.batch[is_run], minlength=rows.n_batches)
    return runs > 1


def _times(values: Ints) -> Any:
    return pa.array(values, mask=values == NEVER).cast(INSTANT)


def _work(rows: Rows, *, edges: Ints) -> Any:
    group, groups = groups_by(rows, LABELS, None)
    _, cells, spans, layout = spread(increments_of(rows, group), edges, len(groups))
    bucket, owner = layout.buckets(), layout.groups()
    inside = (bucket > 0) & (bucket < len(edges) - 2)
    cells = merged(joined([cells, written_out(spans, np.diff(edges)[bucket])]), layout.size)
    cells = cells.take(np.flatnonzero(inside[cells.place] & (cells.work != 0).any(axis=0)))
    return pa.table(_work_columns(rows, cells, bucket, owner, groups))


def _work_columns(
    rows: Rows, cells: Cells, bucket: Ints, owner: Ints, groups: list[tuple[str | None, ...]]
) -> dict[str, Any]:
    code = owner[cells.place]
    return {
        "batch_id": rows.ids().take(pa.array(cells.batch)),
        "bucket": bucket[cells.place] - 1,
        **{name: text_of([names[at] for names in groups], code) for at, name in enumerate(LABELS)},
        "success": cells.work[0],
        "error": cells.work[1],
        "cancelled": cells.work[2],
    }
