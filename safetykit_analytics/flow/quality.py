"""Contradictions in the observations of single batches: the facts behind `data_quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Flags, Ints, run_starts
from safetykit_analytics.flow.batches import batch_summary, text_of
from safetykit_analytics.flow.cohorts import Listing, reduced, with_listing
from safetykit_analytics.flow.increments import growth, terminal_before
from safetykit_analytics.flow.observations import BASE_COLUMNS, Rows, encoded, instants
from safetykit_analytics.formatting import NONE
from safetykit_analytics.frame import table_from_frame
from safetykit_analytics.labels import LABELS
from safetykit_analytics.schema import KEY_COLUMNS, KNOWN_STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

#: Every kind of finding, in the order in which they are listed for one batch.
KINDS = (
    "unplaced",
    "created_after_observed",
    "terminal_with_pending",
    "parts_do_not_sum",
    "reprocessed",
    "policy_changed",
    "conflicting_duplicate",
    "unknown_status",
    "work_after_terminal",
    "no_created_at",
)
_COLUMNS = (*BASE_COLUMNS, *LABELS, "batch_count", "pending_count", "batch_status")
_SCHEMA = pa.schema(
    [
        ("batch_id", pa.string()),
        ("kind", pa.int64()),
        ("value", pa.float64()),
        ("text", pa.string()),
        ("policy_id", pa.string()),
    ]
)


def contradictions(
    observations: Any,
    *,
    as_of: int | None = None,
    policies: Sequence[str] | None = None,
    executor: Executor | None = None,
) -> Any:
    """List contradictions, at most one row per batch and kind, sorted by both.

    Columns: ``batch_id``, ``kind`` (index into KINDS), ``value`` (float64), ``text`` (what the kind alone
    does not say; null for most), ``policy_id`` (the batch's last one, "(none)" for none).
    """

    def run(listing: Listing) -> Any:
        results = reduced(listing, _contradictions, columns=_COLUMNS, labels=LABELS, executor=executor)
        tables = [_SCHEMA.empty_table(), *(table for _, table in results)]
        if isinstance(observations, pd.DataFrame):
            tables.append(_conflicts(observations, listing.as_of))
        return pa.concat_tables(tables)

    table = with_listing(observations, _COLUMNS, as_of, run)
    if policies is not None:
        chosen = pa.array(list(policies), pa.string())
        table = table.filter(pc.is_in(table.column("policy_id"), chosen))
    return table.sort_by([("batch_id", "ascending"), ("kind", "ascending")])


def _contradictions(rows: Rows) -> Any:
    """List the contradictions of whole batches."""
    first = rows.first[:-1]
    every = np.arange(rows.n_batches)
    pending, size = rows.numbers("pending_count"), rows.numbers("batch_count")
    finished = rows.counts.sum(axis=0, dtype=np.int64)
    unknown_age = rows.begin == NEVER
    done = finished[first]
    ahead = np.where(rows.created == NEVER, 0, rows.created - rows.t[first])
    grown = growth(rows.counts, rows)
    down = np.maximum(-grown, 0).sum(axis=0)
    after = np.where(terminal_before(rows), np.maximum(growth(finished, rows), 0), 0)
    found = {
        "unplaced": _some(every[unknown_age & (done > 0)], done),
        "created_after_observed": _some(every[ahead > 0], ahead / 1e6),
        "terminal_with_pending": _last(rows, rows.terminal & (pending > 0), pending),
        "parts_do_not_sum": _last(rows, finished + pending != size, size - finished - pending),
        "reprocessed": _total(rows, down),
        "policy_changed": _label_changes(rows),
        "unknown_status": _unknown_statuses(rows, pending),
        "work_after_terminal": _total(rows, after),
        "no_created_at": _some(every[unknown_age], np.full(len(every), np.nan)),
    }
    ids, policy = rows.ids(), rows.labels["policy_id"]
    policies = text_of(policy.names, policy.codes[rows.last_run])
    pieces = [
        pa.table(
            [
                ids.take(pa.array(batches)),
                np.full(len(batches), KINDS.index(kind)),
                np.asarray(values, dtype=np.float64),
                pa.nulls(len(batches), pa.string()) if texts is None else pa.array(texts, pa.string()),
                policies.take(pa.array(batches)),
            ],
            schema=_SCHEMA,
        )
        for kind, (batches, values, texts) in found.items()
        if len(batches)
    ]
    return pa.concat_tables([_SCHEMA.empty_table(), *pieces])


def _some(batches: Ints, values: Any) -> tuple[Ints, Any, None]:
    return batches, values[batches], None


def _last(rows: Rows, wrong: Flags, values: Ints) -> tuple[Ints, Ints, None]:
    """Return of each batch the value at its last wrong row."""
    at = _last_of_batch(rows, np.flatnonzero(wrong))
    return rows.batch[at], values[at], None


def _total(rows: Rows, values: Ints) -> tuple[Ints, Any, None]:
    return _some(*_nonzero(np.bincount(rows.batch, weights=values, minlength=rows.n_batches)))


def _nonzero(sums: Any) -> tuple[Ints, Any]:
    return np.flatnonzero(sums), sums


def _last_of_batch(rows: Rows, at: Ints) -> Ints:
    """Return of ascending rows those that are the last of their batch."""
    is_last = np.append(run_starts(rows.batch[at]), [True])[1:]
    last: Ints = at[is_last]
    return last


def _label_changes(rows: Rows) -> tuple[Ints, Any, list[str]]:
    """Count changes of policy or version after the first one was known, and show the last one."""
    labels = [rows.labels[name] for name in LABELS]
    batches, counts = _nonzero(rows.n_runs - 1)

    def shown(run: int) -> str:
        return " ".join(NONE if label.codes[run] < 0 else label.names[label.codes[run]] for label in labels)

    last = rows.last_run[batches].tolist()
    return batches, counts[batches], [f"{shown(run - 1)} → {shown(run)}" for run in last]


def _unknown_statuses(rows: Rows, pending: Ints) -> tuple[Ints, Any, list[str]]:
    """Count runs of equal observations with an undocumented status, and show the last one."""
    codes, names = encoded(rows.table.column("batch_status"))
    texts = names.to_pylist()
    unknown = np.array([name not in KNOWN_STATUSES for name in texts], dtype=np.bool_)[codes]
    # Thinning leaves the first and the last of a run: observations that say the same count once.
    odd = unknown & run_starts(rows.batch, codes, pending, *rows.counts)
    batches, counts = _nonzero(np.bincount(rows.batch[odd], minlength=rows.n_batches))
    at = _last_of_batch(rows, np.flatnonzero(unknown))
    return batches, counts[batches], [texts[code] for code in codes[at]]


def _conflicts(frame: pd.DataFrame, as_of: int) -> Any:
    """Count observations that contradict one of the same instant, which is kept.

    A store drops duplicates before anybody sees them, so only a DataFrame can have any.
    """
    table = table_from_frame(frame)
    table = table.filter(pa.array(instants(table.column("observed_at")) <= as_of))
    distinct = table.group_by(table.column_names, use_threads=False).aggregate([])
    keys = distinct.group_by(list(KEY_COLUMNS), use_threads=False).aggregate([([], "count_all")])
    keys = keys.filter(pc.greater(keys.column("count_all"), 1))
    if not keys.num_rows:
        return _SCHEMA.empty_table()
    extra = pc.subtract(keys.column("count_all"), 1)
    sums = pa.table([keys.column("batch_id"), extra], names=["batch_id", "extra"])
    sums = sums.group_by("batch_id", use_threads=False).aggregate([("extra", "sum")])
    last = batch_summary(frame, as_of=as_of).set_index("batch_id")["policy_id"]
    ids = sums.column("batch_id").to_pylist()
    return pa.table(
        [
            pa.array(ids, pa.string()),
            np.full(len(ids), KINDS.index("conflicting_duplicate")),
            sums.column("extra_sum").cast(pa.float64()),
            pa.nulls(len(ids), pa.string()),
            pa.array(last.loc[ids].tolist(), pa.string()),
        ],
        schema=_SCHEMA,
    )
