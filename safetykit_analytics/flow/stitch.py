"""The edges of all days put together: the intervals that cross days, labels filled, what was settled before.

Place in the flow: edges → **stitch** → work. One row per batch and day, in memory for the whole store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import NEVER, Flags, Ints, last_valid, run_bounds, run_starts
from safetykit_analytics.flow.edges import creation
from safetykit_analytics.flow.numbering import number_batches
from safetykit_analytics.labels import fill, groups_of, unify

if TYPE_CHECKING:
    from safetykit_analytics.flow.edges import Edges
    from safetykit_analytics.flow.numbering import Hashes
    from safetykit_analytics.labels import Label


_COLUMNS = (
    "ids",
    "hashes",
    "first_t",
    "last_t",
    "first_counts",
    "last_counts",
    "created",
    "first_terminal",
    "run_batch",
    "run_row",
    "run_start",
)


@dataclass(frozen=True)
class Stitched:
    """What is known of all batches once every day's edges are seen.

    An *edge row* is one batch on one day; days follow one another, batches within a day as that day has them.

    Attributes
    ----------
    ids : pyarrow string array, shape (b,)
        Every batch.
    hashes : uint64, shape (e,)
        Of the id of each edge row.
    offset : int64, shape (days + 1,)
        Where the edge rows of each day start.
    batch : int32, shape (e,)
        Index into `ids` of each edge row.
    start, end : int64, shape (e,)
        The interval that leads into the day: from the batch's observation before it, or from its creation,
        to its first observation of the day.
    delta : int32 or int64, shape (3, e)
        What the counters grew by in it.
    is_first : bool, shape (e,)
        The batch was never observed before.
    created : int64, shape (e,)
        As decided for the batch, on its first edge row; NEVER elsewhere, and where it is not known.
    last_t : int64, shape (e,)
    settled : bool, shape (e,)
        The batch was terminal before the day.
    first_terminal : int64, shape (e,)
        Within the day.
    last_row : int32, shape (b,)
        The last edge row of each batch.
    first_row : int32, shape (b,)
    is_terminal : bool, shape (b,)
        The batch was terminal at some time.
    run_edge, run_row, run_start, run_end, run_group : int32, of times int64, shape (r,)
        Label runs in the order of the days: edge row, row within the day, time of the observation before the
        run (for a batch's first row of the day, `start`), time of its last observation, index into `groups`.
    run_labels : dict of str to Label, codes of shape (r,)
        Filled: leading nulls take the batch's first label, later ones the label before.
    groups : list of tuples
        Names in the order of the label columns.
    order : int32, shape (e,)
        Edge rows sorted by batch, then day.
    """

    ids: Any
    hashes: Hashes
    offset: Ints
    batch: Ints
    start: Ints
    end: Ints
    delta: Ints
    is_first: Flags
    created: Ints
    last_t: Ints
    settled: Flags
    first_terminal: Ints
    first_row: Ints
    last_row: Ints
    is_terminal: Flags
    run_edge: Ints
    run_row: Ints
    run_start: Ints
    run_end: Ints
    run_group: Ints
    run_labels: dict[str, Label]
    groups: list[tuple[str | None, ...]]
    order: Ints

    def day_runs(self, day: int) -> slice:
        """Label runs of one day."""
        bounds = np.searchsorted(self.run_edge, self.offset[day : day + 2])
        return slice(int(bounds[0]), int(bounds[1]))


def stitch(parts: list[Edges], labels: tuple[str, ...], *, keep: bool = True) -> Stitched:
    """Put the edges of all days together; with `keep=False` the list of them is empty afterwards."""
    columns = {name: [getattr(part, name) for part in parts] for name in _COLUMNS}
    run_labels = {name: [part.run_labels[name] for part in parts] for name in labels}
    if not keep:
        parts.clear()

    def joined(name: str) -> Any:
        # Each day's arrays are let go as soon as they are joined.
        return np.concatenate(columns.pop(name), axis=-1)

    offset = np.cumsum([0, *(len(some) for some in columns["ids"])])
    hashes = joined("hashes")
    batch, ids = number_batches(columns.pop("ids"), hashes)
    # Sorting numbers that hold both is many times quicker than a stable sort of the one.
    order: Any = (
        np.sort(batch.astype(np.int64) << 32 | np.arange(len(batch))).astype(np.uint32).view(np.int32)
    )
    is_new = run_starts(batch[order])
    begin, stop = run_bounds(is_new)

    before = np.full(len(order), -1, dtype=np.int32)
    before[order[1:]] = np.where(is_new[1:], -1, order[:-1])
    is_first = before < 0
    first_t, last_t = joined("first_t"), joined("last_t")
    created = np.where(is_first, creation(joined("created"), first_t), NEVER)
    start = np.where(
        is_first, np.where(created == NEVER, first_t, np.minimum(created, first_t)), last_t[before]
    )
    last_counts = joined("last_counts")
    delta = joined("first_counts")
    delta = delta.astype(np.result_type(delta, last_counts), copy=False)
    for row, counts in enumerate(last_counts):
        delta[row] -= np.where(is_first, 0, counts[before])
    # Nobody knows when it was done: `data_quality` reports it as unplaced.
    delta[:, is_first & (created == NEVER)] = 0

    first_terminal = joined("first_terminal")
    ends = (first_terminal != NEVER)[order]
    settled = np.zeros(len(order), dtype=np.bool_)
    settled[order[1:]] = (last_valid(ends, np.repeat(begin, stop - begin))[:-1] >= 0) & ~is_new[1:]

    first_row = order[begin]
    last_row = order[stop - 1]
    del before, last_counts
    run_batch = columns.pop("run_batch")
    edge = np.concatenate([some + np.int32(at) for some, at in zip(run_batch, offset, strict=False)])
    runs = {"edge": edge, "row": joined("run_row"), "start": joined("run_start")}
    runs |= _labels(run_labels, edge, batch)
    run_edge = runs["edge"]
    is_leading = runs["start"] == NEVER
    run_start = np.where(is_leading, start[run_edge], runs["start"])
    follows = np.append(~is_leading, [False])[1:]
    run_end = np.where(follows, np.roll(runs["start"], -1), last_t[run_edge])
    run_group, groups = groups_of([runs[name] for name in labels], len(run_edge))
    return Stitched(
        ids=ids,
        hashes=hashes,
        offset=offset,
        batch=batch,
        start=start,
        end=first_t,
        delta=delta,
        is_first=is_first,
        created=created,
        last_t=last_t,
        settled=settled,
        first_terminal=first_terminal,
        first_row=first_row,
        last_row=last_row,
        is_terminal=np.logical_or.reduceat(ends, begin),
        run_edge=run_edge,
        run_row=runs["row"],
        run_start=run_start,
        run_end=run_end,
        run_group=run_group,
        run_labels={name: runs[name] for name in labels},
        groups=groups,
        order=order,
    )


def _labels(labels: dict[str, list[Label]], edge: Ints, batch: Ints) -> dict[str, Any]:
    """Join the labels of all label runs and fill them along each batch."""
    columns: dict[str, Any] = {name: unify(some) for name, some in labels.items()}
    is_missing = [label.codes < 0 for label in columns.values()]
    if any(missing.any() for missing in is_missing):
        # Only batches that lack one somewhere have anything to fill.
        lacks = np.zeros(int(batch.max()) + 1, dtype=np.bool_)
        lacks[batch[edge[np.logical_or.reduce(is_missing)]]] = True
        runs = np.flatnonzero(lacks[batch[edge]])
        owner = batch[edge[runs]]
        # Runs come by day, batch and row, so that a stable sort by batch keeps them in time.
        along = np.argsort(owner, kind="stable")
        for label in columns.values():
            label.codes[runs[along]], _ = fill(label.codes[runs[along]], owner[along])
    return columns
