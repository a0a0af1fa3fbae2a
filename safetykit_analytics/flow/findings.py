"""What is odd in the observations, per batch: the facts behind `data_quality`.

Place in the flow: stitch → **findings** → data quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import NEVER, Floats, Ints, run_bounds, run_starts
from safetykit_analytics.flow.observations import EDGE_COLUMNS, Rows, instants, rows_of
from safetykit_analytics.flow.partitions import Partition, ordered_map
from safetykit_analytics.labels import LABELS
from safetykit_analytics.schema import KEY_COLUMNS, KNOWN_STATUSES
from safetykit_analytics.wording import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safetykit_analytics.flow.stitch import Stitched
    from safetykit_analytics.flow.work import Source

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
# Findings of one kind on several days: these add up, of the others the last one stands.
_SUMMED = {"reprocessed", "conflicting_duplicate", "unknown_status", "work_after_terminal", "policy_changed"}


@dataclass(frozen=True)
class Finding:
    """Findings of one kind: at most one per batch.

    Attributes
    ----------
    kind : str
    batch : int64 array, shape (k,)
    value : float64 array, shape (k,)
    text : list of str, or None
        What the kind alone does not say.
    """

    kind: str
    batch: Ints
    value: Floats
    text: list[str] | None = None


def find(source: Source) -> list[Finding]:
    """Collect the findings of a source that was opened with both labels and its state."""
    known = source.stitched
    found: dict[str, list[tuple[Ints, Floats, list[str] | None]]] = {kind: [] for kind in KINDS}
    for kind, batch, value in _between_days(known, source):
        found[kind].append((batch, value, None))
    changed, value, text = _label_changes(known)
    found["policy_changed"].append((changed, value, text))
    for day, findings in enumerate(ordered_map(read_findings, _tasks(source), source.executor)):
        batch = known.batch[known.offset[day] : known.offset[day + 1]]
        for finding in findings:
            found[finding.kind].append((batch[finding.batch], finding.value, finding.text))
    return [_combined(kind, pieces) for kind, pieces in found.items() if pieces]


def _combined(kind: str, pieces: list[tuple[Ints, Floats, list[str] | None]]) -> Finding:
    """Make one finding per batch of those of all days."""
    batch = np.concatenate([piece[0] for piece in pieces])
    value = np.concatenate([piece[1] for piece in pieces])
    texts = [text for piece in pieces for text in piece[2] or ()]
    order = np.argsort(batch, kind="stable")
    first = run_starts(batch[order])
    number = np.cumsum(first) - 1
    last = run_bounds(first)[1] - 1
    if kind in _SUMMED:
        combined = np.bincount(number, weights=value[order], minlength=int(first.sum()))
    else:
        combined = value[order][last]
    batches = batch[order][last]
    return Finding(
        kind, batches, combined.astype(np.float64), [texts[at] for at in order[last]] if texts else None
    )


def _between_days(known: Stitched, source: Source) -> Iterable[tuple[str, Ints, Floats]]:
    """Say what the edges of days tell."""
    first = known.first_row
    created = np.concatenate([part.created for part in source.parts])[first]
    counts = np.concatenate([part.first_counts for part in source.parts], axis=1).sum(axis=0)[first]
    batch = np.arange(len(first))
    unknown = known.created[first] == NEVER
    unplaced = unknown & (counts > 0)
    yield "unplaced", batch[unplaced], counts[unplaced].astype(np.float64)
    yield "no_created_at", batch[unknown], np.full(int(unknown.sum()), np.nan)
    late = (created != NEVER) & (created > known.end[first])
    yield "created_after_observed", batch[late], (created - known.end[first])[late] / 1e6
    down = np.maximum(-known.delta, 0).sum(axis=0)
    at = np.flatnonzero(down)
    yield "reprocessed", known.batch[at], down[at].astype(np.float64)
    after = np.where(known.settled, np.maximum(known.delta.sum(axis=0), 0), 0)
    at = np.flatnonzero(after)
    yield "work_after_terminal", known.batch[at], after[at].astype(np.float64)


def _label_changes(known: Stitched) -> tuple[Ints, Floats, list[str]]:
    """Find changes of policy or version after the first one was known."""
    along = np.argsort(known.batch[known.run_edge], kind="stable")
    batch = known.batch[known.run_edge][along]
    changed = np.zeros(len(along), dtype=np.bool_)
    for label in known.run_labels.values():
        changed |= run_starts(label.codes[along])
    at = np.flatnonzero(changed & ~run_starts(batch))

    def name(row: int) -> str:
        names = [
            label.names[code] if (code := int(label.codes[along[row]])) >= 0 else NONE
            for label in known.run_labels.values()
        ]
        return " ".join(names)

    texts = [f"{name(row - 1)} → {name(row)}" for row in at.tolist()]
    return batch[at], np.ones(len(at)), texts


def read_findings(source: Partition | Rows, as_of: int | None, settled: Any) -> list[Finding]:
    """Read one partition and list what is odd in it, by the batches of that partition."""
    if not isinstance(source, Rows):
        columns = (*EDGE_COLUMNS, *LABELS, "batch_count", "pending_count", "batch_status")
        source = rows_of(source.read(columns), as_of=as_of, in_time=True)
    rows, n = source, len(source.t)
    batch = rows.batch
    every = np.arange(n)
    pending = rows.take("pending_count", every).to_numpy()
    size = rows.take("batch_count", every).to_numpy()
    finished = rows.counts.sum(axis=0)
    is_later = np.ones(n, dtype=np.bool_)
    is_later[rows.first[:-1]] = False
    growth = np.where(is_later, np.diff(finished, prepend=0), 0)
    down = np.where(is_later, np.maximum(-np.diff(rows.counts, axis=1, prepend=0), 0).sum(axis=0), 0)
    seen: Ints = np.cumsum(rows.terminal) - rows.terminal
    ended = (seen - seen[rows.first[:-1]][batch] > 0) | settled[batch]
    status = rows.take("batch_status", every)
    status = status if hasattr(status, "dictionary") else status.dictionary_encode()
    names = status.dictionary.to_pylist()
    codes = status.indices.to_numpy()
    unknown = np.array([name not in KNOWN_STATUSES for name in names], dtype=np.bool_)[codes]

    def last_where(kind: str, wrong: Any, value: Any) -> Finding:
        at = np.flatnonzero(wrong)
        at = at[np.append(run_starts(batch[at]), [True])[1:]]
        return Finding(kind, batch[at], value[at].astype(np.float64))

    def total(kind: str, value: Any, text: list[str] | None = None) -> Finding:
        sums = np.bincount(batch, weights=value, minlength=len(rows.ids))
        which = np.flatnonzero(sums)
        return Finding(kind, which, sums[which].astype(np.float64), text)

    last_odd = np.flatnonzero(unknown)
    last_odd = last_odd[np.append(run_starts(batch[last_odd]), [True])[1:]]
    return [
        last_where("terminal_with_pending", rows.terminal & (pending > 0), pending),
        last_where("parts_do_not_sum", finished + pending != size, size - finished - pending),
        total("reprocessed", down),
        total("unknown_status", unknown, [names[code] for code in codes[last_odd]]),
        total("work_after_terminal", np.where(ended, np.maximum(growth, 0), 0)),
        _conflicts(rows, as_of),
    ]


def _conflicts(rows: Rows, as_of: int | None) -> Finding:
    """Count the observations of the same instant as one that was kept, which said something else.

    A store drops duplicates before anybody sees them, so that only a DataFrame can have any.
    """
    kind = "conflicting_duplicate"
    if rows.order is None:
        return Finding(kind, np.zeros(0, dtype=np.int64), np.zeros(0))
    table = rows.table
    if as_of is not None:
        table = table.filter(pa.array(instants(table.column("observed_at")) <= as_of))
    distinct = table.group_by(table.column_names, use_threads=False).aggregate([])
    keys = distinct.group_by(list(KEY_COLUMNS), use_threads=False).aggregate([([], "count_all")])
    keys = keys.filter(pc.greater(keys.column("count_all"), 1))
    batch = pc.index_in(keys.column("batch_id"), value_set=rows.ids).to_numpy()
    sums = np.bincount(batch, weights=keys.column("count_all").to_numpy() - 1, minlength=len(rows.ids))
    which = np.flatnonzero(sums)
    return Finding(kind, which, sums[which].astype(np.float64))


def _tasks(source: Source) -> Iterable[tuple[Any, ...]]:
    known = source.stitched
    for day, piece in enumerate(source.pieces):
        yield piece, source.as_of, known.settled[known.offset[day] : known.offset[day + 1]]
