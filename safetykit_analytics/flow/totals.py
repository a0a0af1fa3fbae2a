"""What cohorts add, one after the other → totals by group and bucket.

Sums are added up in the order of the cohorts. What single batches did, where there are few, is kept until
their bucket is final: no later cohort can touch it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from safetykit_analytics.arrays import Flags, Floats, Ints, expand, run_starts
from safetykit_analytics.flow.grid import Layout
from safetykit_analytics.flow.reduce import N_ROWS, N_TIMES, Reduced, Sparse
from safetykit_analytics.labels import natural_key

Group = tuple[str | None, ...]

# So many cells are kept before those of final buckets are folded.
_CELLS = 1 << 18

#: What is made of the batches of final places: from the sums of k places, and a function that returns place,
#: success + error and error of each batch at some of them, to arrays of length k.
Fold = Callable[[Floats, Callable[[Flags], tuple[Ints, Floats]]], dict[str, Any]]


@dataclass(frozen=True)
class Totals:
    """All work by group and bucket; arrays have one element per place of `layout`.

    Attributes
    ----------
    groups : list of tuples of str or None
        In natural order, none last.
    edges : int64 array
        With guards.
    layout : Layout
    sums : float64 array, shape (14, places)
        Rows as those of `reduce_work`.
    observed, unobserved : float64 arrays
        Microseconds in which batches were active.
    folded : dict of arrays
        What `fold` made of each place.
    """

    groups: list[Group]
    edges: Ints
    layout: Layout
    sums: Floats
    observed: Floats
    unobserved: Floats
    folded: dict[str, Any]


def accumulate(results: Iterable[tuple[int, Reduced]], *, edges: Ints, fold: Fold) -> Totals:
    """Add up what cohorts reduce to.

    Results come in the order of the cohorts, each with the earliest instant that a later one can touch.
    """
    groups: dict[Group, int] = {}
    sums: list[Sparse] = []
    times: list[Sparse] = []
    cells: list[Sparse] = []
    covers: list[tuple[Sparse, Ints]] = []
    folded: list[tuple[Sparse, dict[str, Any]]] = []
    final, size, limit = 0, 0, _CELLS
    for earliest, piece in results:
        code = numbered(groups, piece.groups)
        _append(sums, _with_groups(piece.sums, code))
        _append(times, _with_groups(piece.times, code))
        cells.append(_with_groups(piece.cells, code))
        covers.append((_with_groups(piece.covers, code), piece.n_covered))
        until = int(np.searchsorted(edges, earliest, side="right")) - 1
        size += len(piece.cells.bucket) + int(piece.n_covered.sum())
        if until > final and size > limit:
            folded.append(_folded(fold, sums, cells, covers, (final, until), edges))
            size = sum(len(sparse.bucket) for sparse in cells) + sum(int(n.sum()) for _, n in covers)
            final, limit = until, max(_CELLS, 2 * size)
    folded.append(_folded(fold, sums, cells, covers, (final, len(edges) - 1), edges))
    blank = fold(np.zeros((N_ROWS, 1)), _no_batches)
    # The piles are freed before their sums are laid out.
    sums, times = [merged_sums(sums)], [merged_sums(times)]
    return _totals(groups, sums[0], times[0], folded, blank, edges)


def numbered(groups: dict[Group, int], some: list[Group]) -> Ints:
    """Return the numbers of some groups; new ones get the next numbers."""
    return np.array([groups.setdefault(group, len(groups)) for group in some], dtype=np.int64)


def naturally(groups: dict[Group, int], seen: Ints) -> tuple[list[int], Ints]:
    """Return the groups seen, in natural order, and the rank of each group, -1 if it was not seen."""
    named = list(groups)
    order = sorted(np.unique(seen).tolist(), key=lambda code: tuple(map(natural_key, named[code])))
    rank = np.full(len(groups), -1)
    rank[order] = np.arange(len(order))
    return order, rank


def _no_batches(wanted: Flags) -> tuple[Ints, Floats]:  # noqa: ARG001 -- as the function that a fold is given
    return np.zeros(0, dtype=np.int64), np.zeros((2, 0))


def _with_groups(sparse: Sparse, code: Ints) -> Sparse:
    return Sparse(code[sparse.group], sparse.bucket, sparse.values)


def _append(pile: list[Sparse], sparse: Sparse) -> None:
    """Add sums to a pile; merge it when what came since is more than what was there."""
    pile.append(sparse)
    if sum(len(later.bucket) for later in pile[1:]) > len(pile[0].bucket):
        pile[:] = [merged_sums(pile)]


def merged_sums(pile: list[Sparse]) -> Sparse:
    """Add up sums at the same place, in the order of the pile."""
    if len(pile) == 1:
        return pile[0]
    if not pile:
        none = np.zeros(0, dtype=np.int64)
        return Sparse(none, none, np.zeros((0, 0)))
    group, bucket = (np.concatenate([getattr(s, name) for s in pile]) for name in ("group", "bucket"))
    order = np.lexsort((bucket, group))
    group, bucket = group[order], bucket[order]
    starts = np.flatnonzero(run_starts(group, bucket))
    added = np.zeros((len(pile[0].values), len(starts)))
    # Row by row: the memory of a second whole matrix is not needed.
    for row, sums in enumerate(added if len(starts) else ()):
        values = np.concatenate([sparse.values[row] for sparse in pile])
        np.add.reduceat(values[order], starts, out=sums)
    return Sparse(group[starts], bucket[starts], added)


def _folded(  # noqa: PLR0917 -- all that is there
    fold: Fold,
    sums: list[Sparse],
    cells: list[Sparse],
    covers: list[tuple[Sparse, Ints]],
    span: tuple[int, int],
    edges: Ints,
) -> tuple[Sparse, dict[str, Any]]:
    """Fold the batches of the buckets of `span`, and take them out of `cells` and `covers`."""
    first, stop = span
    at = merged_sums([_chosen(sparse, (sparse.bucket >= first) & (sparse.bucket < stop)) for sparse in sums])
    n_groups = int(at.group.max(initial=-1)) + 1
    place = np.full(n_groups * (stop - first), -1)
    place[at.group * (stop - first) + at.bucket - first] = np.arange(len(at.bucket))
    pieces = [_chosen(sparse, sparse.bucket < stop) for sparse in cells]
    cells[:] = [later for sparse in cells if len((later := _chosen(sparse, sparse.bucket >= stop)).bucket)]
    rest = []
    for sparse, n in covers:
        now = np.clip(stop - sparse.bucket, 0, n)
        pieces.append(_written_out(sparse, now, edges))
        left = np.flatnonzero(n > now)
        if len(left):
            later = Sparse(sparse.group[left], (sparse.bucket + now)[left], sparse.values.take(left, axis=1))
            rest.append((later, (n - now)[left]))
    covers[:] = rest
    pieces.append(Sparse(at.group[:0], at.bucket[:0], np.zeros((2, 0))))
    owner = np.concatenate([place[s.group * (stop - first) + s.bucket - first] for s in pieces])
    work = np.concatenate([sparse.values for sparse in pieces], axis=1)

    def batches(wanted: Flags) -> tuple[Ints, Floats]:
        if wanted.all():
            return owner, work
        kept = np.flatnonzero(wanted[owner])
        return (np.cumsum(wanted) - 1)[owner[kept]], work.take(kept, axis=1)

    return at, fold(at.values, batches)


def _chosen(sparse: Sparse, which: Flags) -> Sparse:
    """Return the sums at flagged places."""
    if which.all():
        return sparse
    at = np.flatnonzero(which)
    return Sparse(sparse.group[at], sparse.bucket[at], sparse.values.take(at, axis=1))


def _written_out(sparse: Sparse, n: Ints, edges: Ints) -> Sparse:
    """Write out the first `n` buckets that each increment covers whole."""
    owner, step = expand(n)
    bucket = sparse.bucket[owner] + step
    return Sparse(
        sparse.group[owner], bucket, sparse.values.take(owner, axis=1) * (edges[bucket + 1] - edges[bucket])
    )


def _totals(  # noqa: PLR0917 -- all that is there
    groups: dict[Group, int],
    sums: Sparse,
    times: Sparse,
    folded: list[tuple[Sparse, dict[str, Any]]],
    blank: dict[str, Any],
    edges: Ints,
) -> Totals:
    """Lay all sums out, group by group in natural order, each from its first to its last bucket."""
    order, rank = naturally(groups, np.concatenate([sums.group, times.group]))
    named = list(groups)
    first, last = np.full(len(order), len(edges)), np.full(len(order), -1)
    for sparse in (sums, times):
        np.minimum.at(first, rank[sparse.group], sparse.bucket)
        np.maximum.at(last, rank[sparse.group], sparse.bucket)
    layout = Layout(first, np.cumsum(np.append(0, last - first + 1)))

    def place(sparse: Sparse) -> Ints:
        return layout.base(rank[sparse.group]) + sparse.bucket

    work = np.zeros((N_ROWS, layout.size))
    spent = np.zeros((N_TIMES, layout.size))
    if len(sums.bucket):
        work[:, place(sums)] = sums.values
    if len(times.bucket):
        spent[:, place(times)] = times.values
    bucket = layout.buckets()
    length = (edges[bucket + 1] - edges[bucket]).astype(np.float64)
    # Covers end within their group's buckets: the running sum is zero where the next group begins.
    covers = np.cumsum(spent[1::2], axis=1)
    time = spent[::2] + np.where(covers > 0, covers * length, 0.0)
    made = {name: np.repeat(values, layout.size) for name, values in blank.items()}
    for at, arrays in folded:
        for name, values in arrays.items():
            made[name][place(at)] = values
    return Totals(
        groups=[named[code] for code in order],
        edges=edges,
        layout=layout,
        sums=work,
        observed=time[0],
        unobserved=time[1],
        folded=made,
    )
