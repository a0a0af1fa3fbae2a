"""Batches that lie in the days that were read together, from beginning to end: nothing has to be stitched.

Place in the flow: visit → **apart** → moving.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from safetykit_analytics.arrays import Ints, run_starts

if TYPE_CHECKING:
    from safetykit_analytics.flow.edges import Edges
    from safetykit_analytics.flow.visit import Visited


def seen_once(queue: list[Visited], past: Edges) -> list[Ints]:
    """Say which batches of some days are whole, and seen in no others nor in the past.

    Returns
    -------
    list of int64 arrays
    """
    hashes = np.concatenate([past.hashes, *(some.edges.hashes for some in queue)])
    order = np.argsort(hashes)
    is_new = run_starts(hashes[order])
    once = np.zeros(len(hashes), dtype=np.bool_)
    # Two batches of one hash count as one: it costs nothing but to stitch them.
    once[order] = is_new & np.append(is_new[1:], [True])
    starts = np.cumsum([len(past.hashes), *(len(some.edges.hashes) for some in queue)]).tolist()
    own = [once[slice(*bounds)] for bounds in pairwise(starts)]
    return [some.whole[flags[some.whole]] for some, flags in zip(queue, own, strict=True)]


def without(visited: Visited, batches: Ints, n_lost: int) -> Visited:
    """Leave batches out of what has to be stitched; their work stays.

    Parameters
    ----------
    visited : Visited
    batches : int64 array
    n_lost : int
        Numbers from -1 - `n_lost` downwards are free for them.
    """
    edges, work = visited.edges, visited.work
    is_left = np.ones(len(edges.hashes), dtype=np.bool_)
    is_left[batches] = False
    number = np.where(is_left, np.cumsum(is_left) - 1, -1 - n_lost - np.arange(len(is_left)))
    run_left = is_left[edges.run_batch]
    work = replace(
        work,
        cells=replace(work.cells, batch=number[work.cells.batch]),
        spans=replace(work.spans, batch=number[work.spans.batch]),
        claimed=work.claimed[is_left],
        timed=work.timed[run_left],
        unsure_run=(np.cumsum(run_left) - 1)[work.unsure_run],
    )
    return replace(visited, edges=edges.take(np.flatnonzero(is_left)), work=work, whole=batches[:0])
