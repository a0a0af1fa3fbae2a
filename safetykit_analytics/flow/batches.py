"""Facts about single batches: where each stands, when it ended, when it last moved, what it did when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Flags, Ints
from safetykit_analytics.calendar import with_guards
from safetykit_analytics.flow.cohorts import Listing, reduced, with_listing
from safetykit_analytics.flow.increments import growth
from safetykit_analytics.flow.observations import BASE_COLUMNS, COUNTERS, Rows
from safetykit_analytics.flow.reduce import groups_by, of_policies
from safetykit_analytics.flow.spread import Cells, joined, merged, spread_work, written_out
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS, natural_key
from safetykit_analytics.schema import INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    import pandas as pd

_LABELLED = (*BASE_COLUMNS, *LABELS)


def batch_summary(
    observations: Any,
    *,
    as_of: int | None = None,
    policies: Sequence[str] | None = None,
    own: Any = None,
    columns: Sequence[str] | None = None,
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
    columns : sequence of str, optional
        Only these of the columns below; no other columns are read.
    executor : concurrent.futures.Executor, optional

    Returns
    -------
    DataFrame
        Sorted by ``batch_id`` where that is asked for; instants are datetime64[us, UTC].
        ``attrs["as_of"]`` is the instant in microseconds that the facts are of.

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
    chosen = tuple(_SUMMARY if columns is None else columns)
    read = summary_sources(chosen)
    policies = None if policies is None else tuple(policies)
    reducer = partial(summarize, columns=(*chosen, *names), policies=policies)

    def run(listing: Listing) -> pd.DataFrame:
        frame = _sorted(reduced(listing, reducer, columns=read, labels=LABELS, own=own, executor=executor))
        frame.attrs["as_of"] = listing.as_of
        return frame

    return with_listing(observations, read, as_of, run)


def summary_sources(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of observations that some columns of a summary are found from."""
    return tuple(dict.fromkeys((*_LABELLED, *(_READ[name] for name in columns if name in _READ))))


def batch_work(
    observations: Any,
    *,
    edges: Sequence[int],
    as_of: int | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Return the decisions of each batch between given instants.

    `edges` are ascending microseconds since 1970 UTC; bucket i is [edges[i], edges[i + 1]). One row per
    batch, bucket, policy and version with work, sorted by ``batch_id``, then policy, version and bucket:
    ``batch_id``, ``bucket`` (int64), the labels ("(none)" for none), ``success``, ``error``, ``cancelled``
    (float64 decisions).
    """
    reducer = partial(_work, edges=with_guards(np.asarray(edges, dtype=np.int64)))

    def run(listing: Listing) -> pd.DataFrame:
        def touches(cohort: Any) -> bool:
            return bool(cohort.earliest < edges[-1] and cohort.last_observed >= edges[0])

        results = reduced(
            listing.where(touches), reducer, columns=_LABELLED, labels=LABELS, executor=executor
        )
        return _sorted(results)

    return with_listing(observations, _LABELLED, as_of, run)


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
    if "batch_id" not in table.column_names:
        return frame_from_table(table)
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


def summarize(
    rows: Rows,
    *,
    columns: Sequence[str],
    policies: Sequence[str] | None = None,
    begun_before: int | None = None,
) -> Any:
    """Return the rows of `batch_summary` for the batches of one piece of a cohort, as an Arrow table.

    Only those created, or observed, before `begun_before`, if it is given.
    """
    wanted = np.ones(rows.n_batches, dtype=np.bool_)
    if policies is not None:
        wanted &= of_policies(rows, policies)[rows.last_run]
    if begun_before is not None:
        wanted &= np.where(rows.begin == NEVER, rows.t[rows.first[:-1]], rows.begin) < begun_before
    some = _Some(rows, np.flatnonzero(wanted))
    return pa.table({name: (_SUMMARY.get(name) or partial(_label, name))(some) for name in columns})


@dataclass(frozen=True)
class _Some:
    """Some of the batches of rows."""

    rows: Rows
    batches: Ints

    @cached_property
    def first(self) -> Ints:
        """The first row of each."""
        return self.rows.first[:-1][self.batches]

    @cached_property
    def last(self) -> Ints:
        """The last row of each."""
        return self.rows.first[1:][self.batches] - 1

    @cached_property
    def end(self) -> Ints:
        """The first terminal row of each; the number of rows where there is none."""
        return self.rows.first_terminal[self.batches]

    @cached_property
    def moved(self) -> tuple[Ints, Ints]:
        """Between which instants a counter last moved; NEVER where it is not known."""
        rows = self.rows
        row = _last_row((growth(rows.counts, rows) != 0).any(axis=0), rows.first[:-1])
        after, before = np.append(rows.since, NEVER)[row], np.append(rows.t, NEVER)[row]
        after[(row == rows.first[:-1]) & (rows.begin == NEVER)] = NEVER
        return after[self.batches], before[self.batches]


def _label(name: str, some: _Some) -> Any:
    label = some.rows.labels[name]
    return text_of(label.names, label.codes[some.rows.last_run[some.batches]])


def _value(name: str, some: _Some) -> Any:
    return some.rows.take(name, some.last)


def _count(name: str, some: _Some) -> Any:
    return some.rows.counts[COUNTERS.index(name), some.last].astype(np.int64)


def _terminal_status(some: _Some) -> Any:
    n = len(some.rows.t)
    return pc.if_else(
        pa.array(some.end < n), some.rows.take("batch_status", np.minimum(some.end, n - 1)), None
    )


def _before_terminal(some: _Some) -> Any:
    has_one = (some.end < len(some.rows.t)) & (some.end > some.first)
    return _times(np.append(some.rows.t, NEVER)[np.where(has_one, some.end - 1, -1)])


def _created(some: _Some) -> Any:
    return _times(np.where(some.rows.begin == NEVER, NEVER, some.rows.created)[some.batches])


#: How each column of the summary is found.
_SUMMARY: dict[str, Callable[[_Some], Any]] = {
    "batch_id": lambda some: some.rows.take("batch_id", some.first),
    "policy_id": partial(_label, "policy_id"),
    "policy_version": partial(_label, "policy_version"),
    "label_changed": lambda some: (some.rows.n_runs > 1)[some.batches],
    "created_at": _created,
    "first_observed_at": lambda some: _times(some.rows.t[some.first]),
    "last_observed_at": lambda some: _times(some.rows.t[some.last]),
    "batch_count": partial(_value, "batch_count"),
    "success_count": partial(_count, "success_count"),
    "error_count": partial(_count, "error_count"),
    "cancelled_count": partial(_count, "cancelled_count"),
    "pending_count": partial(_value, "pending_count"),
    "batch_status": partial(_value, "batch_status"),
    "is_terminal": lambda some: some.rows.terminal[some.last],
    "first_terminal_at": lambda some: _times(np.append(some.rows.t, NEVER)[some.end]),
    "first_terminal_status": _terminal_status,
    "before_terminal_at": _before_terminal,
    "last_moved_after": lambda some: _times(some.moved[0]),
    "last_moved_before": lambda some: _times(some.moved[1]),
}
#: The columns of observations that some are found from, beside the usual ones.
_READ = {
    "batch_count": "batch_count",
    "pending_count": "pending_count",
    "batch_status": "batch_status",
    "first_terminal_status": "batch_status",
}


def _last_row(flags: Flags, first: Ints) -> Ints:
    """Return the last flagged row of each batch, -1 where there is none."""
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    return np.maximum.reduceat(np.where(flags, np.arange(len(flags)), -1), first)


def _times(values: Ints) -> Any:
    return pa.array(values, mask=values == NEVER).cast(INSTANT)


def _work(rows: Rows, *, edges: Ints) -> Any:
    group, groups = groups_by(rows, LABELS, None)
    _, parts, spans, layout = spread_work(rows, group, edges, len(groups))
    bucket, owner = layout.buckets(), layout.groups()
    inside = (bucket > 0) & (bucket < len(edges) - 2)
    cells = merged(joined([*parts, written_out(spans, np.diff(edges)[bucket])]), layout.size)
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
