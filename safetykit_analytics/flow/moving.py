"""The work of a whole store in the memory of some days of it, each file read once.

Place in the flow: window → **moving** → rates.

A window of days moves along. Days leave it when those that follow are known well ahead; of what left, only
batches that may go on are remembered, and work in buckets that may still grow. Should something happen to
what was forgotten, such as work on a batch of which nothing was seen for longer than the window, all is done
once more with a window as long as the store: the result is always the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import NEVER, Floats, Ints, columns_of, keep_memory
from safetykit_analytics.calendar import BEYOND, DAY_US
from safetykit_analytics.flow.allocate import N_SUMS, Cells, Spans, no_cells, no_spans
from safetykit_analytics.flow.apart import seen_once, without
from safetykit_analytics.flow.between import Between, Window, links_of
from safetykit_analytics.flow.day import Calendar, How, Settle, bounds_of
from safetykit_analytics.flow.edges import Edges, no_edges
from safetykit_analytics.flow.places import layout_of
from safetykit_analytics.flow.stitch import Stitched, stitch
from safetykit_analytics.flow.visit import Visited, visits
from safetykit_analytics.flow.window import (
    Part,
    Work,
    by_place,
    numbered,
    settle_at,
    unobserved_time,
    work_in,
)
from safetykit_analytics.labels import Label, natural_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from safetykit_analytics.flow.numbering import Hashes
    from safetykit_analytics.flow.partitions import Partition

# Days that the window holds at the most, and those of them that must be known beyond what leaves it: what is
# stitched twice against how long a batch may go unseen.
LONGEST, AHEAD = 48, 7
# It moves on earlier, with at least so many days, where there are more batches and days than these.
MANY, SHORTEST = 300_000, 9


class _Surprise(Exception):  # noqa: N818 -- nothing is wrong with the data, only with what was expected
    """Something happened to what had left the window."""


@dataclass
class _Total:
    """All that has left the window; lists grow by one with every move.

    Attributes
    ----------
    groups : dict of names to number
    group, start : lists of int64 arrays
        Group and start of buckets with work or active time.
    sums, n_batches, observed : lists of arrays
        Of these; those of one group and bucket add up.
    settled : list of tuples of group, start and dict of arrays
        What was made of the batches of a bucket.
    forgotten : list of tuples of int and uint64 array
        An instant, and the hashes of batches that had ended by then.
    n_lost : int
        Numbers of batches that nobody will have again.
    """

    groups: dict[tuple[str | None, ...], int] = field(default_factory=dict)
    group: list[Ints] = field(default_factory=list)
    start: list[Ints] = field(default_factory=list)
    sums: list[Floats] = field(default_factory=list)
    n_batches: list[Ints] = field(default_factory=list)
    observed: list[Ints] = field(default_factory=list)
    settled: list[tuple[Ints, Ints, dict[str, Any]]] = field(default_factory=list)
    forgotten: list[tuple[int, Hashes]] = field(default_factory=list)
    n_lost: int = 0


def work_of_store(
    partitions: Sequence[Partition],
    *,
    labels: tuple[str, ...],
    as_of: int | None,
    calendar: Calendar,
    settle: Settle,
    executor: Executor | None,
) -> tuple[Work, int]:
    """Put all work together.

    Returns
    -------
    work : Work
        Without the work of each batch.
    as_of : int
        The last observation, unless one was given.
    """
    how = How(as_of, labels, calendar, settle)
    keep_memory()
    try:
        return _move(partitions, how, executor, LONGEST, MANY)
    except _Surprise:
        # Once this is left, so is what the first attempt held.
        pass
    return _move(partitions, how, executor, len(partitions) + 1, math.inf)


def _move(
    partitions: Sequence[Partition], how: How, executor: Executor | None, longest: int, most: float
) -> tuple[Work, int]:
    visited = visits(partitions, how, executor)
    total, queue = _Total(), list[Visited]()
    past, waiting = no_edges(how.labels), None
    first, last = BEYOND, -BEYOND
    # Instants before which all days have left, and before which all buckets are final.
    left = until = -BEYOND
    while True:
        n_old = len(queue)
        is_last = not _fill(queue, visited, longest, most)
        ahead = 0 if is_last else _n_ahead(queue)
        n_leave = sum(_n_days(queue[at:]) >= ahead for at in range(1, len(queue) + 1))
        leaving = range(1, 1 + n_leave)
        apart = seen_once(queue, past)
        rest = [_without(some, batches, total) for some, batches in zip(queue, apart, strict=True)]
        window = _window(past, rest, how)
        links = links_of(window)
        if links.wrong[leaving.start : leaving.stop].any():
            # What is read again is read by what is known of all batches.
            apart, rest = [some.whole[:0] for some in queue], queue
            window = _window(past, rest, how)
            links = links_of(window)
        known = window.known
        _check(window, links.between, past, 1 + n_old, left)
        _check_new(known, known.offset[1 + n_old], total)
        first = min(first, int(known.run_start.min(initial=BEYOND)), *(some.first for some in queue))
        last = max(last, *(some.last for some in queue))
        part = work_in(window, leaving, how, executor=executor, links=links, waiting=waiting)
        # What led into the days that were known beyond `left` is in by now.
        since, until = until, 2 * BEYOND if is_last else left
        _let_go(part, since, until, how.settle, total)
        if is_last:
            break
        past, number, gone = _past(known, [past, *(some.edges for some in rest)], 1 + n_leave)
        ended = [some.edges.hashes[own] for some, own in zip(queue[:n_leave], apart[:n_leave], strict=True)]
        waiting = _renumbered(_remaining(part, until), number, total)
        left = bounds_of(queue[n_leave].days)[0]
        total.forgotten.append((left, np.sort(np.concatenate([gone, *ended]))))
        queue = queue[n_leave:]
        # Far more than what goes on, and of no use while more days are visited.
        del apart, rest, known, window, links, part, number, gone
    as_of = last if how.as_of is None else how.as_of
    return _whole(total, how.calendar(first, last), known, how, as_of), as_of


def _n_days(queue: list[Visited]) -> int:
    return sum(len(some.days.days) for some in queue)


def _n_ahead(queue: list[Visited]) -> int:
    """Say how many days must be known beyond what leaves the window: one at least, which goes on."""
    return min(AHEAD, max(_n_days(queue) // 3, 1))


def _fill(queue: list[Visited], visited: Iterator[Visited], longest: int, most: float) -> bool:
    """Visit days until the window is long enough; say whether there may be more of them."""
    n_rows, n_days = sum(len(some.edges.ids) for some in queue), _n_days(queue)
    # All that was known before must leave: what leads into it is taken to be in when the window moves on.
    n_leave = max(len(queue), 1)
    for some in visited:
        queue.append(some)
        n_rows += len(some.edges.ids)
        n_days += len(some.days.days)
        is_long = n_days >= longest or (n_days >= SHORTEST and n_rows > most)
        if is_long and _n_days(queue[n_leave:]) >= _n_ahead(queue):
            return True
    return False


def _without(visited: Visited, batches: Ints, total: _Total) -> Visited:
    """Leave batches out; their work has numbers that nobody else will have."""
    rest = without(visited, batches, total.n_lost)
    total.n_lost += len(visited.edges.hashes)
    return rest


def _window(past: Edges, queue: list[Visited], how: How) -> Window:
    known = stitch([past, *(some.edges for some in queue)], how.labels)
    return Window(known, [None, *(some.days for some in queue)], [None, *(some.work for some in queue)])


def _check(window: Window, between: Between, past: Edges, n_known: int, left: int) -> None:
    """Raise if something new concerns what has left the window.

    Parameters
    ----------
    window : Window
    between : Between
    past : Edges
    n_known : int
        Pieces of the window that have been in it before.
    left : int
        Instant before which all days have left.
    """
    late = (between.to_day >= n_known) & (between.intervals.start < left)
    if late.any():
        raise _Surprise
    for name, label in window.known.run_labels.items():
        # What it did was added as that of a batch without label.
        if ((past.run_labels[name].codes < 0) & (label.codes[: len(past.hashes)] >= 0)).any():
            raise _Surprise


def _check_new(known: Stitched, n_known: int, total: _Total) -> None:
    """Raise if a batch whose edge row is new to the window has left it before."""
    new = np.flatnonzero(known.is_first[n_known:]) + n_known
    created, hashes = known.created[new], known.hashes[new]
    for until, gone in total.forgotten:
        # Nobody observes a batch more than a day before it is created. What is set apart was created in days
        # that are new, and at least one known day lies between these and all that has left.
        may = (created == NEVER) | (created < until + DAY_US)
        if may.any() and np.isin(hashes[may], gone).any():
            raise _Surprise


def _let_go(part: Part, since: int, until: int, settle: Settle, total: _Total) -> None:
    """Move what cannot grow any more into the total.

    Parameters
    ----------
    part : Part
    since, until : int
        Buckets that end after the one and by the other become final; those that ended earlier are.
    settle : Settle
    total : _Total
    """
    bucket = part.layout.buckets()
    start, end = part.edges[bucket], part.edges[bucket + 1]
    numbers = [total.groups.setdefault(names, len(total.groups)) for names in part.groups]
    group = np.array(numbers, dtype=np.int64)[part.layout.groups()]
    is_inside = (bucket > 0) & (bucket < len(part.edges) - 2)
    final = np.flatnonzero(is_inside & ~part.closed & (end > since) & (end <= until))
    for places, values in [*part.settled, settle_at(part, final, settle)]:
        total.settled.append((group[places], start[places], values))
    n_batches = part.n_batches + np.bincount(part.cells.place, minlength=part.layout.size)
    places = np.flatnonzero((end <= until) & ((n_batches > 0) | (part.observed > 0)))
    total.group.append(group[places])
    total.start.append(start[places])
    total.sums.append(columns_of(part.sums, places))
    total.n_batches.append(n_batches[places])
    total.observed.append(part.observed[places])


def _remaining(part: Part, until: int) -> Part:
    """Give what may still grow: buckets that end after `until`."""
    cut = int(np.searchsorted(part.edges[1:], until, side="right"))
    bucket, group = part.layout.buckets(), part.layout.groups()
    kept = bucket >= cut
    place = np.flatnonzero(kept)
    before = np.append(0, np.cumsum(kept))
    # The bucket before the cut becomes the guard.
    shift = max(cut - 1, 0)
    cells = part.cells.take(np.flatnonzero(kept[part.cells.place]))
    first, stop = before[part.spans.first], before[part.spans.stop]
    spans = Spans(part.spans.batch, first, stop, part.spans.pace).take(stop > first)
    return replace(
        part,
        edges=np.append(-BEYOND, part.edges[shift + 1 :]),
        layout=layout_of(group[place], bucket[place] - shift, bucket[place] - shift, len(part.groups)),
        sums=columns_of(part.sums, place),
        n_batches=part.n_batches[place],
        observed=part.observed[place],
        closed=part.closed[place],
        settled=[],
        cells=Cells(cells.batch, before[cells.place], cells.work),
        spans=spans,
    )


def _renumbered(part: Part, number: Ints, total: _Total) -> Part:
    """Give batches the numbers that they will have; those that are forgotten some that nobody will have."""
    number = np.where(number >= 0, number, -1 - np.arange(len(number)) - total.n_lost)
    total.n_lost += len(number)
    cells, spans = part.cells, part.spans
    return replace(
        part,
        cells=replace(cells, batch=numbered(cells.batch, number)),
        spans=replace(spans, batch=numbered(spans.batch, number)),
    )


def _past(known: Stitched, parts: list[Edges], n_left: int) -> tuple[Edges, Ints, Any]:
    """Reduce the first pieces of a window to one edge row for each batch that may go on.

    Returns
    -------
    past : Edges
    number : int64 array, one per batch of the window
        Its row there; -1 for those that have ended and were not seen in the rest of the window.
    gone : uint64 array
        The hashes of those.
    """
    cut = known.offset[n_left]
    is_before = known.order < cut
    batch = known.batch[known.order]
    goes_on = np.append(batch[1:] == batch[:-1], [False])
    follows = np.append(is_before[1:], [False])
    last = is_before & ~(goes_on & follows)
    rows, seen_later = known.order[last], (goes_on & ~follows)[last]
    ended = known.settled[rows] | (known.first_terminal[rows] != NEVER)
    kept = ~ended | seen_later
    gone = known.hashes[rows[~kept]]
    rows, ended = rows[kept], ended[kept]
    owner = known.batch[rows]
    number = np.full(len(known.ids), -1, dtype=np.int64)
    number[owner] = np.arange(len(rows))
    run = np.searchsorted(known.run_edge, rows, side="right") - 1
    last_t = known.last_t[rows]
    counts = np.concatenate([part.last_counts for part in parts[:n_left]], axis=1).take(rows, axis=1)
    past = Edges(
        ids=known.ids.take(owner),
        hashes=known.hashes[rows],
        first_t=last_t,
        last_t=last_t,
        first_counts=counts,
        last_counts=counts,
        created=known.created[known.first_row[owner]],
        first_terminal=np.where(ended, last_t, NEVER),
        run_batch=np.arange(len(rows), dtype=np.int32),
        run_row=np.arange(len(rows), dtype=np.int32),
        run_start=np.full(len(rows), NEVER),
        run_labels={name: Label(label.codes[run], label.names) for name, label in known.run_labels.items()},
        weights=np.zeros(1),
    )
    return past, number, gone


def _whole(total: _Total, edges: Ints, known: Stitched, how: How, as_of: int) -> Work:
    """Put all that has left the window into one layout."""
    group, start = np.concatenate(total.group), np.concatenate(total.start)
    shown = set(group.tolist())
    names = [name for name, own in total.groups.items() if own in shown]
    names.sort(key=lambda group: [natural_key(name) for name in group])
    rank = np.full(len(total.groups), -1)
    for place, name in enumerate(names):
        rank[total.groups[name]] = place
    group = rank[group]
    bucket = np.searchsorted(edges, start, side="right") - 1
    layout = layout_of(group, bucket, bucket, len(names))
    places = layout.base(group) + bucket
    n_batches, observed = np.zeros(layout.size, dtype=np.int64), np.zeros(layout.size, dtype=np.int64)
    np.add.at(n_batches, places, np.concatenate(total.n_batches))
    np.add.at(observed, places, np.concatenate(total.observed))
    sums = np.zeros((N_SUMS, layout.size))
    for row, some in enumerate(np.concatenate(total.sums, axis=1)):
        sums[row] = np.bincount(places, weights=some, minlength=layout.size)
    number = {name: place for place, name in enumerate(names)}
    own = np.array([number.get(name, -1) for name in known.groups], dtype=np.int64)
    work = Work(
        groups=names,
        edges=edges,
        layout=layout,
        sums=sums,
        n_batches=n_batches,
        observed=observed,
        unobserved=unobserved_time(known, edges, layout, as_of, own),
        settled={},
        cells=no_cells(),
        spans=no_spans(),
    )
    settled = []
    is_open = np.ones(layout.size, dtype=np.bool_)
    for own_group, starts, values in total.settled:
        at, bucket = rank[own_group], np.searchsorted(edges, starts, side="right") - 1
        # Places without any work or time have no row.
        there = np.flatnonzero((at >= 0) & (bucket > 0) & (bucket < len(edges) - 2))
        step = bucket[there] - layout.first[at[there]]
        has_row = (step >= 0) & (step < np.diff(layout.offset)[at[there]])
        there = there[has_row]
        places = layout.offset[:-1][at[there]] + step[has_row]
        is_open[places] = False
        settled.append((places, {name: some[there] for name, some in values.items()}))
    # Nothing happened there.
    settled.append(settle_at(work, np.flatnonzero(is_open), how.settle))
    return replace(work, settled=by_place(settled, layout.size))
