"""Some days, read once: each reduced to its edges and, by a guess, to its work.

Place in the flow: observations, edges, day → **visit** → moving. Runs wherever an executor puts it.

A day alone cannot tell everything: which label a batch had before or gets later, whether a batch was seen
before, and what happens across midnight. So its work is made by a *guess* while its observations are in
memory anyhow: labels as the day itself tells them, batches created on the day seen for the first time, and
nothing settled that an interval into another day may touch. When its neighbours are known, `between` checks
all that, and only a day of which it was wrong is read again, by what is then *known*.

Array passes cost as much for a thousand rows as for ten thousand. So small days go through them side by side:
a batch counts anew on each day, and so does a group.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.flow.allocate import Cells, Spans
from safetykit_analytics.flow.arrays import NEVER, Ints, keep_memory, run_bounds, run_starts
from safetykit_analytics.flow.day import DayWork, How, Plan, Steps, bounds_of, steps_of, work_by
from safetykit_analytics.flow.edges import Edges, creation, edges_of
from safetykit_analytics.flow.labels import fill, groups_of
from safetykit_analytics.flow.observations import EDGE_COLUMNS, Label, Rows, one_array, rows_of
from safetykit_analytics.flow.partitions import in_order, ordered_map
from safetykit_analytics.flow.places import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from safetykit_analytics.flow.partitions import Partition

# Days that are one task.
_TOGETHER = 4
# As many rows are read ahead while the caller is busy, in one piece at least and in four at the most.
_ROWS_AHEAD = 1 << 19
# With so many rows in memory, what has been read is reduced before more is.
_ENOUGH = 1 << 17


@dataclass(frozen=True)
class _Planned:
    """Some days side by side, read: their edges, and what there is to spread.

    Attributes
    ----------
    edges : Edges
    starts : _Starts
    plan : Plan
    steps : Steps
    guessed : int64 array
        The label runs whose label is a guess.
    """

    edges: Edges
    starts: _Starts
    plan: Plan
    steps: Steps
    guessed: Ints


@dataclass(frozen=True)
class _Starts:
    """Where the batches, label runs, rows and groups of each day start; int64 arrays, shape (days + 1,)."""

    batch: Ints
    run: Ints
    row: Ints
    group: Ints


def visits(
    pieces: Sequence[Partition], how: How, executor: Executor | None
) -> Iterator[tuple[Edges, DayWork]]:
    """Read partitions and reduce each, in their order.

    Without an executor another thread reads ahead and says what there is to spread, and the caller's thread
    spreads it: more threads would spend the time that they save waiting for one another.
    """
    stretches = [pieces[at : at + _TOGETHER] for at in range(0, len(pieces), _TOGETHER)]
    if executor is not None:
        for visited in ordered_map(_visit, ((stretch, how) for stretch in stretches), executor):
            yield from visited
        return
    planned = (some for stretch in stretches for some in _planned(stretch, how))
    with ThreadPoolExecutor(1) as reader:
        for some in in_order(next, repeat((planned, None)), reader, _ahead):
            if some is None:
                return
            yield from _work(some, how)


def _ahead(last: _Planned | None) -> int:
    """Say how much to read ahead, by the size of the last."""
    return 2 if last is None else 1 + min(max(_ROWS_AHEAD // (1 + int(last.starts.row[-1])), 1), 4)


def _visit(pieces: Sequence[Partition], how: How) -> list[tuple[Edges, DayWork]]:
    keep_memory()
    return [day for some in _planned(pieces, how) for day in _work(some, how)]


def _planned(pieces: Sequence[Partition], how: How) -> Iterator[_Planned]:
    """Read partitions and plan them, as many at a time as are small."""
    some: list[Any] = []
    n_rows = 0
    for n_read, piece in enumerate(pieces, start=1):
        some.append(piece.read((*EDGE_COLUMNS, *how.labels)))
        n_rows += some[-1].num_rows
        _release(some[-1].num_rows)
        if n_read == len(pieces) or n_rows >= _ENOUGH:
            yield _plan(pieces[n_read - len(some) : n_read], some, how)
            n_rows = 0


def _release(n_rows: int) -> None:
    """Have Arrow return what it keeps of freed memory, thread by thread: where days are large, much."""
    if n_rows >= _ENOUGH:
        pa.default_memory_pool().release_unused()


def _work(planned: _Planned, how: How) -> Iterator[tuple[Edges, DayWork]]:
    """Reduce what was read side by side, and give it day by day."""
    work = work_by(planned.steps, planned.plan, how, planned.guessed)
    if len(planned.starts.batch) == 2:
        return iter([(planned.edges, work)])
    return zip(_edges_by_day(planned.edges, planned.starts), _work_by_day(work, planned.starts), strict=True)


def _plan(pieces: Sequence[Partition], tables: list[Any], how: How) -> _Planned:
    """Make edges of some days side by side, and a plan for their observations; empties the list of tables."""
    midnight = np.array([bounds_of(piece)[0] for piece in pieces])
    table = pa.concat_tables([_encoded(table) for table in tables])
    tables.clear()
    rows = rows_of(table, as_of=how.as_of, labels=how.labels, is_sorted=True, apart=True)
    edges = edges_of(rows)
    # What was decoded takes more room than all that is made of it.
    rows = replace(rows, table=None)
    del table
    _release(len(rows.t))
    day = np.searchsorted(midnight, edges.first_t, side="right") - 1
    plan, group_day, guessed = _guess(rows, edges, how.labels, midnight, day)
    days = np.arange(len(pieces) + 1)
    batch, group = np.searchsorted(day, days), np.searchsorted(group_day, days)
    starts = _Starts(batch, np.searchsorted(edges.run_batch, batch), rows.first[batch], group)
    return _Planned(edges, starts, plan, steps_of(rows, plan), guessed)


def _encoded(table: Any) -> Any:
    """Give a table of one chunk whose strings are dictionary-encoded, so that it goes with others."""
    columns = {}
    for name, column in zip(table.column_names, map(one_array, table.columns), strict=True):
        columns[name] = column.dictionary_encode() if pa.types.is_string(column.type) else column
    return pa.table(columns)


def _guess(
    rows: Rows, edges: Edges, labels: tuple[str, ...], midnight: Ints, day: Ints
) -> tuple[Plan, Ints, Ints]:
    """Plan by what days tell of themselves.

    Returns
    -------
    plan : Plan
        Groups are those of the first day, then those of the next.
    group_day : int64 array, shape (groups,)
    guessed : int64 array
        The label runs whose label is a guess.
    """
    created = creation(edges.created, edges.first_t)
    begin = np.minimum(created, edges.first_t)
    claimed = (created != NEVER) & (begin >= midnight[day])
    batch = edges.run_batch
    is_guess = np.zeros(len(batch), dtype=np.bool_)
    filled = [Label(day[batch], tuple(str(number) for number in range(len(midnight))))]
    for name in labels:
        label = edges.run_labels[name]
        if (label.codes < 0).any():
            codes, leads = fill(label.codes, batch)
            is_guess |= leads
            label = Label(codes, label.names)
        filled.append(label)
    run_group, groups = groups_of(filled, len(batch))
    group_day = np.array([int(number) for number, *_ in groups if number], dtype=np.int64)
    first_run, after_run = run_bounds(run_starts(batch))
    free_from = midnight[group_day]
    np.maximum.at(free_from, run_group[first_run[~claimed]], edges.first_t[~claimed])
    # Batches that are created after the last poll of a day are seen on another.
    last_poll = midnight.copy()
    np.maximum.at(last_poll, day, edges.last_t)
    free_until = last_poll[group_day]
    is_open = ~rows.terminal[rows.first[1:] - 1]
    np.minimum.at(free_until, run_group[after_run[is_open] - 1], edges.last_t[is_open])
    start = np.where(claimed, begin, edges.first_t)
    names = [names for _, *names in groups]
    plan = Plan(
        [tuple(some) for some in names], edges.run_row, run_group, claimed, start, free_from, free_until
    )
    return plan, group_day, np.flatnonzero(is_guess)


def _edges_by_day(edges: Edges, starts: _Starts) -> list[Edges]:
    return [
        replace(
            edges,
            # A slice would take all of them along to another process.
            ids=pa.concat_arrays([edges.ids[own]]),
            hashes=edges.hashes[own],
            first_t=edges.first_t[own],
            last_t=edges.last_t[own],
            first_counts=edges.first_counts[:, own],
            last_counts=edges.last_counts[:, own],
            created=edges.created[own],
            first_terminal=edges.first_terminal[own],
            run_batch=edges.run_batch[runs] - own.start,
            run_row=edges.run_row[runs] - rows.start,
            run_start=edges.run_start[runs],
            run_labels={
                name: Label(label.codes[runs], label.names) for name, label in edges.run_labels.items()
            },
        )
        for own, runs, rows in zip(
            _slices(starts.batch), _slices(starts.run), _slices(starts.row), strict=True
        )
    ]


def _work_by_day(work: DayWork, starts: _Starts) -> list[DayWork]:
    place = work.layout.offset[starts.group]
    # The batches, runs and places of a day come before those of the next in all of these.
    slices = zip(
        _slices(starts.batch),
        _slices(starts.run),
        _slices(starts.group),
        _slices(place),
        _slices(np.append(0, np.cumsum(work.closed))[place]),
        _slices(np.searchsorted(work.cells.batch, starts.batch)),
        _slices(np.searchsorted(work.spans.batch, starts.batch)),
        _slices(np.searchsorted(work.unsure_run, starts.run)),
        strict=True,
    )
    parts = []
    for batches, runs, groups, places, closed, own_cells, own_spans, unsure in slices:
        cells, spans, layout = work.cells.take(own_cells), work.spans.take(own_spans), work.layout
        at = places.start
        parts.append(
            DayWork(
                groups=work.groups[groups],
                edges=work.edges,
                layout=Layout(layout.first[groups], layout.offset[groups.start : groups.stop + 1] - at),
                sums=work.sums[:, places],
                n_batches=work.n_batches[places],
                closed=work.closed[places],
                settled={name: some[closed] for name, some in work.settled.items()},
                cells=Cells(cells.batch - batches.start, cells.place - at, cells.work),
                spans=Spans(spans.batch - batches.start, spans.first - at, spans.stop - at, spans.pace),
                claimed=work.claimed[batches],
                unsure_run=work.unsure_run[unsure] - runs.start,
                unsure_group=work.unsure_group[unsure] - groups.start,
                closed_from=work.closed_from[groups],
                closed_until=work.closed_until[groups],
            )
        )
    return parts


def _slices(starts: Ints) -> list[slice]:
    return [slice(*bounds) for bounds in pairwise(starts.tolist())]
