"""How many decisions are pending, and how many batches are open, at the end of every bucket.

Pending decisions are a level. Between two observations it changes evenly, like the work. A batch adds all of
its decisions when it begins, and removes the rest when it is first terminal. Changes are spread over buckets
like work, and add up from bucket to bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import Flags, Floats, Ints, run_starts
from safetykit_analytics.flow.grid import Layout, lay_out
from safetykit_analytics.flow.increments import Increments, growth, terminal_before
from safetykit_analytics.flow.reduce import Sparse, groups_by
from safetykit_analytics.flow.spread import spread, spread_work
from safetykit_analytics.flow.totals import merged_sums, naturally, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from safetykit_analytics.flow.observations import Rows

_PENDING, _OPEN, _CAME = 0, 1, 2
# Of the highest level: far above rounding and far below a decision.
_NOISE = 1e-12


@dataclass(frozen=True)
class Changes:
    """What one piece adds to the levels.

    Attributes
    ----------
    groups : list of tuples of str or None
    since : int64 array, shape (groups,)
        When the first batch of each group began.
    levels : Sparse
        Changes of pending decisions and of open batches, and batches that came, by bucket of `edges`.
    done : Sparse
        success + error, and success + error + cancelled, by bucket of the finer edges.
    """

    groups: list[tuple[str | None, ...]]
    since: Ints
    levels: Sparse
    done: Sparse


@dataclass(frozen=True)
class Levels:
    """Levels by group and bucket; arrays have one element per place of `layout`.

    Attributes
    ----------
    groups : list of tuples of str or None
        In natural order, none last.
    since : int64 array, shape (groups,)
    layout : Layout
        Each group from its first bucket to the last bucket of all.
    pending : float64 array
        Decisions pending at the end of each bucket.
    n_open : int64 array
        Batches open then.
    ever_open : bool array
        A batch was open at some time in the bucket.
    done : list of arrays, each of shape (2, buckets of the finer edges)
        Of each group: success + error, and success + error + cancelled.
    """

    groups: list[tuple[str | None, ...]]
    since: Ints
    layout: Layout
    pending: Floats
    n_open: Ints
    ever_open: Flags
    done: list[Floats]


def reduce_pending(
    rows: Rows, *, by: Sequence[str], policies: Sequence[str] | None, edges: Ints, paced: Ints
) -> Changes:
    """Reduce whole batches to changes of the levels, and to their work between finer edges."""
    group, groups = groups_by(rows, by, policies)
    first = np.full(len(groups), np.iinfo(np.int64).max)
    kept = group >= 0
    np.minimum.at(first, group[kept], rows.since[rows.run[:-1][kept]])
    changes = _level_changes(rows, rows.by_row(group))
    layout = lay_out(edges, changes.group, changes.start, changes.end, len(groups))
    levels, _, _ = spread([changes], edges, layout)
    came_or_moved = np.flatnonzero((levels[:3] != 0).any(axis=0))
    work, _, _, places = spread_work(rows, group, paced, len(groups))
    moved = np.flatnonzero((work[:3] != 0).any(axis=0))
    done = work[:3].take(moved, axis=1)
    return Changes(
        groups=groups,
        since=first,
        levels=Sparse(
            layout.groups()[came_or_moved],
            layout.buckets()[came_or_moved],
            levels[:3].take(came_or_moved, axis=1),
        ),
        done=Sparse(
            places.groups()[moved],
            places.buckets()[moved],
            np.stack([done[0] + done[1], done.sum(axis=0)]),
        ),
    )


def _level_changes(rows: Rows, group: Ints) -> Increments:
    """List the changes of pending decisions, open batches, and batches that came."""
    pending, begun = rows.numbers("pending_count"), rows.since
    first = rows.first[:-1]
    is_open = ~terminal_before(rows)
    changes = growth(pending, rows)
    # All that was done before the first observation was pending when the batch began.
    done = rows.counts[:, first].sum(axis=0, dtype=np.int64)
    changes[first] = -done
    changed = np.flatnonzero(is_open & (changes != 0))
    moved = run_starts(rows.batch, group)
    moved[first] = False
    moves = np.flatnonzero(moved & is_open)
    ended = rows.first_terminal
    ended = ended[ended < len(rows.t)]
    carried, one = pending[moves - 1], np.ones(len(moves), dtype=np.int64)
    pieces = [
        # from, to, pending, open, group
        (
            begun[first],
            begun[first],
            pending[first] + done,
            np.ones(len(first), dtype=np.int64),
            group[first],
        ),
        (begun[changed], rows.t[changed], changes[changed], np.zeros(len(changed), np.int64), group[changed]),
        (begun[moves], begun[moves], -carried, -one, group[moves - 1]),
        (begun[moves], begun[moves], carried, one, group[moves]),
        (rows.t[ended], rows.t[ended], -pending[ended], np.full(len(ended), -1), group[ended]),
    ]
    start, end, level, opened, owner = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    kept = np.flatnonzero(owner >= 0)
    delta = np.stack([level, opened, np.maximum(opened, 0)])[:, kept]
    # Not in time: each stands alone.
    return Increments(start[kept], end[kept], delta, np.arange(len(kept)), owner[kept])


def levels_of(results: Iterable[tuple[int, Changes]], *, n_buckets: int, n_paced: int) -> Levels:
    """Add up the changes of all cohorts, and the levels from bucket to bucket.

    `n_buckets` and `n_paced` count the buckets of the edges and of the finer edges, guards included.
    """
    groups: dict[tuple[str | None, ...], int] = {}
    begun: dict[int, int] = {}
    levels: list[Sparse] = []
    done: list[Sparse] = []
    for _, piece in results:
        code = numbered(groups, piece.groups)
        for own, start in zip(code.tolist(), piece.since.tolist(), strict=True):
            begun[own] = min(begun.get(own, start), start)
        levels.append(Sparse(code[piece.levels.group], piece.levels.bucket, piece.levels.values))
        done.append(Sparse(code[piece.done.group], piece.done.bucket, piece.done.values))
    changes, work = merged_sums(levels), merged_sums(done)
    order, rank = naturally(groups, changes.group)
    named = list(groups)
    first = np.full(len(order), n_buckets)
    np.minimum.at(first, rank[changes.group], changes.bucket)
    layout = Layout(first, np.cumsum(np.append(0, n_buckets - first)))
    added = np.zeros((3, layout.size))
    if len(changes.bucket):
        added[:, layout.base(rank[changes.group]) + changes.bucket] = changes.values
    level = np.cumsum(added, axis=1)
    starts = layout.offset[:-1]
    level -= np.repeat(level[:, starts] - added[:, starts], np.diff(layout.offset), axis=1)
    n_open = np.rint(level[_OPEN]).astype(np.int64)
    before = np.append([0], n_open[:-1])[: len(n_open)]
    before[starts] = 0
    by_group = [np.zeros((2, n_paced)) for _ in order]
    for own in range(len(order)):
        at = np.flatnonzero(rank[work.group] == own)
        by_group[own][:, work.bucket[at]] = work.values.take(at, axis=1)
    return Levels(
        groups=[named[code] for code in order],
        since=np.array([begun[code] for code in order], dtype=np.int64),
        layout=layout,
        pending=np.where(n_open > 0, np.maximum(_whole(level[_PENDING]), 0.0), 0.0),
        n_open=n_open,
        ever_open=(before + added[_CAME]) > 0,
        done=by_group,
    )


def _whole(pending: Any) -> Floats:
    """Round away what a running sum of shares is off by: decisions are whole where no interval is cut."""
    whole = np.rint(pending)
    noise = _NOISE * (1.0 + np.abs(pending).max(initial=0.0))
    found: Floats = np.where(np.abs(pending - whole) <= noise, whole, pending)
    return found
