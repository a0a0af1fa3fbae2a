"""Some days, read once: reduced to their edges and, by a guess, to their work.

Place in the flow: observations, edges, day → **visit** → moving. Runs wherever an executor puts it.

Days alone cannot tell everything: which label a batch had before or gets later, whether a batch was seen
before, and what happens across the midnights at both ends. So their work is made by a *guess* while their
observations are in memory anyhow: labels as they themselves tell them, batches created in them seen for the
first time, and nothing settled that an interval into another day may touch. When their neighbours are known,
`between` checks all that, and only days of which it was wrong are read again, by what is then *known*.

Array passes cost as much for a thousand rows as for ten thousand, and an observation at the edge of what was
read together costs more than any other. So small days that follow one another are one partition.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import NEVER, Ints, keep_memory, run_bounds, run_starts
from safetykit_analytics.calendar import BEYOND
from safetykit_analytics.flow.day import DayWork, How, Plan, Steps, bounds_of, steps_of, work_by
from safetykit_analytics.flow.edges import Edges, active_until, creation, edges_of
from safetykit_analytics.flow.observations import EDGE_COLUMNS, Rows, rows_of
from safetykit_analytics.flow.partitions import Stretch, concat, in_order
from safetykit_analytics.labels import Label, fill, groups_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from safetykit_analytics.flow.partitions import Partition

# Days that are one task.
_TOGETHER = 8
# Tasks handed to an executor ahead of the one whose result is due: enough for a few dozen workers.
_TASKS_AHEAD = 32
# As many rows are read ahead while the caller is busy, in one piece at least and in four at the most.
_ROWS_AHEAD = 1 << 19
# Days with more rows than these are not taken together.
_ENOUGH = 1 << 18


@dataclass(frozen=True)
class Visited:
    """Some days that were read.

    Attributes
    ----------
    days : Stretch
    edges : Edges
    work : DayWork
        By a guess.
    whole : int64 array
        Batches that began and ended in these days, if they are not seen on others.
    first, last : int
        From where work or activity is known to begin to the last observation.
    """

    days: Stretch
    edges: Edges
    work: DayWork
    whole: Ints
    first: int
    last: int


@dataclass(frozen=True)
class _Planned:
    """Some days that were read: their edges, and what there is to spread.

    Attributes
    ----------
    days : Stretch
    edges : Edges
    plan : Plan
    steps : Steps
    guessed : int64 array
        The label runs whose label is a guess.
    """

    days: Stretch
    edges: Edges
    plan: Plan
    steps: Steps
    guessed: Ints


def visits(pieces: Sequence[Partition], how: How, executor: Executor | None) -> Iterator[Visited]:
    """Read partitions and reduce them, in their order.

    Without an executor another thread reads ahead and says what there is to spread, and the caller's thread
    spreads it: more threads would spend the time that they save waiting for one another.
    """
    tasks = [pieces[at : at + _TOGETHER] for at in range(0, len(pieces), _TOGETHER)]
    if executor is not None:
        for visited in in_order(_visit, ((task, how) for task in tasks), executor, lambda _: _TASKS_AHEAD):
            yield from visited
        return
    planned = (some for task in tasks for some in _planned(task, how))
    with ThreadPoolExecutor(1) as reader:
        for some in in_order(next, repeat((planned, None)), reader, _ahead):
            if some is None:
                return
            yield _work(some, how)


def _ahead(last: _Planned | None) -> int:
    """Say how much to read ahead, by the size of the last."""
    return 2 if last is None else 1 + min(max(_ROWS_AHEAD // (1 + len(last.steps.intervals.batch)), 1), 4)


def _visit(pieces: Sequence[Partition], how: How) -> list[Visited]:
    keep_memory()
    return [_work(some, how) for some in _planned(pieces, how)]


def _work(planned: _Planned, how: How) -> Visited:
    edges, plan = planned.edges, planned.plan
    work = work_by(planned.steps, plan, how, planned.guessed)
    is_whole = edges.first_terminal != NEVER
    is_whole[edges.run_batch[~work.timed]] = False
    first, last = plan.start.min(initial=BEYOND), edges.last_t.max(initial=-BEYOND)
    return Visited(planned.days, edges, work, np.flatnonzero(is_whole), int(first), int(last))


def _planned(pieces: Sequence[Partition], how: How) -> Iterator[_Planned]:
    """Read partitions and plan them, as many at a time as are small."""
    tables: list[Any] = []
    n_rows = 0
    for n_read, piece in enumerate(pieces, start=1):
        tables.append(piece.read((*EDGE_COLUMNS, *how.labels)))
        n_rows += tables[-1].num_rows
        # The next day will have about as many rows as this one.
        if n_read == len(pieces) or n_rows + tables[-1].num_rows > _ENOUGH:
            yield _plan(Stretch(tuple(pieces[n_read - len(tables) : n_read])), tables, how)
            n_rows = 0


def _plan(days: Stretch, tables: list[Any], how: How) -> _Planned:
    """Make edges of some days, and a plan for their observations; empties the list of tables."""
    table = concat(tables)
    tables.clear()
    rows = rows_of(table, as_of=how.as_of, labels=how.labels, in_time=True)
    edges = edges_of(rows)
    # What was decoded takes more room than all that is made of it; Arrow keeps it, thread by thread.
    rows = replace(rows, table=None)
    del table
    if len(rows.t) > _ENOUGH:
        pa.default_memory_pool().release_unused()
    plan, guessed = _guess(rows, edges, how.labels, bounds_of(days)[0])
    return _Planned(days, edges, plan, steps_of(rows, plan), guessed)


def _guess(rows: Rows, edges: Edges, labels: tuple[str, ...], midnight: int) -> tuple[Plan, Ints]:
    """Plan by what days tell of themselves.

    Returns
    -------
    plan : Plan
    guessed : int64 array
        The label runs whose label is a guess.
    """
    created = creation(edges.created, edges.first_t)
    begin = np.minimum(created, edges.first_t)
    claimed = (created != NEVER) & (begin >= midnight)
    batch = edges.run_batch
    is_guess = np.zeros(len(batch), dtype=np.bool_)
    filled = []
    for name in labels:
        label = edges.run_labels[name]
        if (label.codes < 0).any():
            codes, leads = fill(label.codes, batch)
            is_guess |= leads
            label = Label(codes, label.names)
        filled.append(label)
    run_group, groups = groups_of(filled, len(batch))
    first_run, after_run = run_bounds(run_starts(batch))
    free_from = np.full(len(groups), midnight)
    np.maximum.at(free_from, run_group[first_run[~claimed]], edges.first_t[~claimed])
    # Batches that are created after the last poll are seen on another day.
    free_until = np.full(len(groups), edges.last_t.max(initial=midnight))
    is_open = ~rows.terminal[rows.first[1:] - 1]
    np.minimum.at(free_until, run_group[after_run[is_open] - 1], edges.last_t[is_open])
    start = np.where(claimed, begin, edges.first_t)
    until = active_until(edges.first_terminal)[batch]
    until[~claimed[batch] | is_guess] = -BEYOND
    plan = Plan(groups, edges.run_row, run_group, until, claimed, start, free_from, free_until)
    return plan, np.flatnonzero(is_guess)
