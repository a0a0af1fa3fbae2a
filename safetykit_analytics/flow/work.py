"""The work of every day, put together with what crosses days.

Place in the flow: stitch, day → **work** → rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.calendar import from_us
from safetykit_analytics.flow.between import Window, links_of
from safetykit_analytics.flow.day import How, settle_nothing
from safetykit_analytics.flow.edges import Edges, read_edges
from safetykit_analytics.flow.observations import Rows, rows_of
from safetykit_analytics.flow.partitions import FramePartition, Partition, list_partitions, ordered_map
from safetykit_analytics.flow.stitch import Stitched, stitch
from safetykit_analytics.flow.window import Work, by_place, settle_at, unobserved_time, work_in
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from safetykit_analytics.arrays import Floats
    from safetykit_analytics.flow.day import Calendar, Settle


@dataclass(frozen=True)
class Source:
    """Observations, opened: their partitions and what a first visit to each has told.

    Attributes
    ----------
    pieces : list of Partition or Rows
    as_of : int or None
        Microseconds since 1970, UTC: the last observation, unless one was given; None without observations.
    stitched : Stitched
    parts : list of Edges
        Kept if the source was opened with its state.
    weights : float64 array
        Absolute work by length of interval, within days; see `Edges`.
    executor : Executor or None
    """

    pieces: list[Partition | Rows]
    as_of: int | None
    stitched: Stitched
    parts: list[Edges]
    weights: Floats
    executor: Executor | None


def open_source(
    observations: Any,
    *,
    labels: tuple[str, ...],
    as_of: int | None,
    executor: Executor | None,
    lengths: tuple[int, ...] = (),
    state: bool = False,
) -> Source:
    """List the partitions and visit each once."""
    pieces: list[Partition | Rows] = []
    for partition in list_partitions(observations, None if as_of is None else from_us(as_of).date()):
        if isinstance(partition, FramePartition):
            # In memory already: sorted once, for all visits, and nothing for an executor to fetch.
            pieces.append(rows_of(partition.table, as_of=as_of, labels=labels))
            executor = None
        else:
            pieces.append(partition)
    if not pieces:
        pieces.append(rows_of(OBSERVATION_SCHEMA.empty_table(), labels=labels))
    tasks = ((piece, as_of, labels, lengths, state) for piece in pieces)
    parts = list(ordered_map(read_edges, tasks, executor))
    if as_of is None:
        as_of = max((int(part.last_t.max()) for part in parts if len(part.last_t)), default=None)
    weights = np.sum([part.weights for part in parts], axis=0)
    return Source(pieces, as_of, stitch(parts, labels, keep=state), parts, weights, executor)


def work_of(
    source: Source, calendar: Calendar, *, settle: Settle = settle_nothing, keep_batches: bool = False
) -> Work:
    """Put all work together, at a second visit.

    Parameters
    ----------
    source : Source
    calendar : Calendar
    settle : Settle, optional
    keep_batches : bool
        Give the work of each batch.
    """
    known = source.stitched
    window = Window(known, list(source.pieces), [None] * len(source.pieces))
    part = work_in(
        window,
        range(len(source.pieces)),
        How(source.as_of, (), calendar, settle),
        executor=source.executor,
        links=links_of(window),
        keep_batches=keep_batches,
    )
    rest = settle_at(part, np.flatnonzero(~part.closed), settle)
    return Work(
        groups=part.groups,
        edges=part.edges,
        layout=part.layout,
        sums=part.sums,
        n_batches=part.n_batches + np.bincount(part.cells.place, minlength=part.layout.size),
        observed=part.observed,
        unobserved=unobserved_time(known, part.edges, part.layout, source.as_of),
        settled=by_place([*part.settled, rest], part.layout.size),
        cells=part.cells,
        spans=part.spans,
    )
