"""One piece of a cohort → its work by group and bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.flow.grid import first_bucket, last_bucket, layout_of
from safetykit_analytics.flow.increments import Active, active_spans
from safetykit_analytics.flow.spread import (
    N_SUMS,
    NO_CELLS,
    add_ranges,
    covering,
    joined,
    merged,
    spread_work,
)
from safetykit_analytics.formatting import NONE
from safetykit_analytics.labels import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.arrays import Flags, Floats, Ints
    from safetykit_analytics.flow.observations import Rows

#: Further rows of the matrix of sums: distinct batches with work; of those that processed n > 0, y
#: of them in error, how many there are, Σ n², Σ y²/n, and Σ |n| of those whose n is negative.
N_BATCHES = N_SUMS
N_CLUSTERS, SQUARES, RATIOS, TOOK_BACK = range(N_SUMS + 1, N_SUMS + 5)
N_ROWS = N_SUMS + 5
# A batch's share of less than this is rounding noise of what its counters took back.
_LEAST = 1e-9
# Rows of the matrix of times: microseconds within a span's first and last bucket, and how many more spans
# cover a bucket whole than the bucket before; observed, then not observed.
N_TIMES = 4


@dataclass(frozen=True)
class Sparse:
    """Sums at some places.

    Attributes
    ----------
    group, bucket : integer arrays, shape (p,)
    values : float64 array, shape (k, p)
    """

    group: Ints
    bucket: Ints
    values: Floats


@dataclass(frozen=True)
class Reduced:
    """What one piece adds to the totals.

    Attributes
    ----------
    groups : list of tuples of str or None
    sums : Sparse
        Rows as those of `spread`, and N_BATCHES to TOOK_BACK.
    times : Sparse
    cells : Sparse
        What single batches did in their first and last buckets: success + error, and error.
    covers : Sparse
        The same per microsecond, for increments that cover buckets whole; `bucket` is the first of them.
    n_covered : integer array
        How many buckets each of `covers` covers.
    """

    groups: list[tuple[str | None, ...]]
    sums: Sparse
    times: Sparse
    cells: Sparse
    covers: Sparse
    n_covered: Ints


def groups_by(
    rows: Rows, by: Sequence[str], policies: Sequence[str] | None
) -> tuple[Ints, list[tuple[str | None, ...]]]:
    """Return the group of each run, -1 for those of other policies, and the names of the groups."""
    codes, groups = groups_of([rows.labels[name] for name in by], len(rows.run) - 1)
    if policies is not None:
        codes = np.where(of_policies(rows, policies), codes, -1)
    return codes, groups


def of_policies(rows: Rows, policies: Sequence[str]) -> Flags:
    """Flag the runs whose policy is one of some; "(none)" for none."""
    policy = rows.labels["policy_id"]
    # The last element stands for none, whose code is -1.
    chosen = np.array([*(name in policies for name in policy.names), NONE in policies], dtype=np.bool_)
    return chosen[policy.codes]


def reduce_work(
    rows: Rows,
    *,
    by: Sequence[str],
    policies: Sequence[str] | None,
    edges: Ints,
    as_of: int,
    few: int,
) -> Reduced:
    """Spread the increments of whole batches over buckets, and add them up by group.

    Only the work that observations of `policies` report counts, if any are given; running batches are
    active until `as_of`. What single batches did is kept where there are at most `few`.
    """
    group, groups = groups_by(rows, by, policies)
    sums, parts, spans, layout = spread_work(rows, group, edges, len(groups))
    sums = np.concatenate([sums, np.zeros((N_ROWS - N_SUMS, layout.size))])
    sums[N_BATCHES] = covering(spans, layout.size)
    pace = _processed(spans.pace)
    if len(spans.first):
        length = np.diff(edges)[layout.buckets()].astype(np.float64)
        ranges = add_ranges(np.stack(_measures(pace, 0.0)), spans.first, spans.stop, layout.size)
        sums[N_CLUSTERS:] = ranges * np.stack([np.ones(layout.size), length**2, length, length])
    if len(groups) > 1 and len(group) > rows.n_batches:
        # A batch whose label changes may come back to a group.
        parts = [merged(cells, layout.size) for cells in parts]
    for cells in parts:
        np.add.at(sums[N_BATCHES], cells.place, 1.0)
        for own, values in zip(sums[N_CLUSTERS:], _measures(_processed(cells.work), _LEAST), strict=True):
            np.add.at(own, cells.place, values)
    # Narrow, because every cell carries both.
    bucket: Any = layout.buckets().astype(np.int32)
    owner: Any = layout.groups().astype(np.int32)
    there = np.flatnonzero(sums[N_BATCHES])
    is_few = sums[N_CLUSTERS] <= few
    cells = joined([NO_CELLS, *(cells.take(np.flatnonzero(is_few[cells.place])) for cells in parts)])
    n_few = np.append(0, np.cumsum(is_few))
    over = np.flatnonzero(n_few[spans.stop] > n_few[spans.first])
    first = spans.first[over]
    return Reduced(
        groups=groups,
        sums=Sparse(owner[there], bucket[there], sums.take(there, axis=1)),
        times=_times(active_spans(rows, group, as_of), edges),
        cells=Sparse(owner[cells.place], bucket[cells.place], _processed(cells.work)),
        covers=Sparse(owner[first], bucket[first], pace.take(over, axis=1)),
        n_covered=spans.stop[over] - first,
    )


def _measures(work: Floats, least: float) -> list[Any]:
    """Return what each batch adds to N_CLUSTERS, SQUARES, RATIOS and TOOK_BACK."""
    n, y = work
    counts = n > least
    ratio = np.divide(y * y, n, out=np.zeros(len(n)), where=counts)
    return [counts.astype(np.float64), n * n, ratio, np.maximum(-n, 0.0)]


def _processed(work: Floats) -> Floats:
    return np.stack([work[0] + work[1], work[1]])


def _times(active: Active, edges: Ints) -> Sparse:
    """Sum active time in first and last buckets, and count the spans that cover those between."""
    low, high = first_bucket(edges, active.start), last_bucket(edges, active.end)
    crosses = high > low
    left = np.minimum(active.end, edges[low + 1]) - active.start
    n_groups = int(active.group.max(initial=-1)) + 1
    layout = layout_of(active.group, low, high, n_groups)
    base = layout.base(active.group)
    values = np.zeros((N_TIMES, layout.size))
    for row, kind in ((0, active.observed), (2, ~active.observed)):
        across = kind & crosses
        first, last = (base + low), (base + high)[across]
        values[row] = np.bincount(first[kind], weights=left[kind], minlength=layout.size)
        values[row] += np.bincount(last, weights=(active.end - edges[high])[across], minlength=layout.size)
        values[row + 1] = np.bincount(first[across] + 1, minlength=layout.size)
        values[row + 1] -= np.bincount(last, minlength=layout.size)
    there = np.flatnonzero(values.any(axis=0))
    return Sparse(layout.groups()[there], layout.buckets()[there], values.take(there, axis=1))
