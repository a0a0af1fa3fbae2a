"""What happens between the observations of different days, and which guesses about a day it proves wrong.

Place in the flow: stitch, day → **between** → window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from safetykit_analytics.arrays import NEVER, Flags, Ints, columns_of
from safetykit_analytics.calendar import BEYOND
from safetykit_analytics.flow.allocate import Intervals
from safetykit_analytics.flow.day import DayWork, bounds_of

if TYPE_CHECKING:
    from safetykit_analytics.flow.observations import Rows
    from safetykit_analytics.flow.partitions import Partition, Stretch
    from safetykit_analytics.flow.stitch import Stitched


@dataclass(frozen=True)
class Window:
    """Partitions that follow one another, put together.

    Attributes
    ----------
    known : Stitched
    pieces : list of Partition, Stretch, Rows or None
        None stands for all that came before, of which `known` has one edge row for each batch.
    days : list of DayWork or None
        The work of each piece by a guess, if there was one.
    """

    known: Stitched
    pieces: list[Partition | Stretch | Rows | None]
    days: list[DayWork | None]

    def bounds(self) -> Ints:
        """Give the instants between which each piece has all observations, shape (pieces, 2)."""
        before = (-BEYOND, -BEYOND)
        bounds = [before if piece is None else bounds_of(piece) for piece in self.pieces]
        return np.array(bounds, dtype=np.int64)


@dataclass(frozen=True)
class Between:
    """Intervals that lead from one partition into another; arrays of one length.

    Attributes
    ----------
    intervals : Intervals
        In which a counter moved.
    to_day : int64
        The partition that each leads into.
    from_day : int64
        The last partition that begins at or before its start; -1 for none.
    starts_inside : bool
        It starts while that partition lasts, rather than after it.
    """

    intervals: Intervals
    to_day: Ints
    from_day: Ints
    starts_inside: Flags


@dataclass(frozen=True)
class Links:
    """What the partitions of a window tell of one another.

    Attributes
    ----------
    claimed : bool array, one per edge row
        A batch's first, with all before it in the same partition.
    between : Between
    wrong : bool array, one per partition
        It must be read again: there was no guess, or a wrong one.
    """

    claimed: Flags
    between: Between
    wrong: Flags


def links_of(window: Window) -> Links:
    """Say what the partitions of a window tell of one another."""
    claimed, between = _between_days(window)
    return Links(claimed, between, _wrong_guesses(window, claimed, between))


def _between_days(window: Window) -> tuple[Flags, Between]:
    """Say which edge rows are a batch's first with all before it in the same partition, and list the rest."""
    known, bounds = window.known, window.bounds()
    day = np.repeat(np.arange(len(bounds)), np.diff(known.offset))
    claimed = known.is_first & (known.created != NEVER) & (known.start >= bounds[day, 0])
    rows = np.flatnonzero(~claimed & (known.delta != 0).any(axis=0))
    start = known.start[rows]
    # An edge row's first run has the label of the observation that ended the interval.
    group = known.run_group[np.searchsorted(known.run_edge, rows)]
    intervals = Intervals(start, known.end[rows], columns_of(known.delta, rows), known.batch[rows], group)
    from_day = np.searchsorted(bounds[:, 0], start, side="right") - 1
    return claimed, Between(intervals, day[rows], from_day, (from_day >= 0) & (start < bounds[from_day, 1]))


def _wrong_guesses(window: Window, claimed: Flags, between: Between) -> Flags:
    """Say which partitions must be read again: those of which there was no guess, or a wrong one."""
    known = window.known
    number = {names: group for group, names in enumerate(known.groups)}
    shape = (len(window.days), len(number))
    wrong = np.array([day is None for day in window.days], dtype=np.bool_)
    closed_from, closed_until = np.full(shape, BEYOND), np.full(shape, -BEYOND)
    for day, part in enumerate(window.days):
        if part is None:
            continue
        wrong[day] = (part.claimed != claimed[known.offset[day] : known.offset[day + 1]]).any()
        truth = known.run_group[known.day_runs(day).start + part.unsure_run]
        own = np.array([number.get(names, -1) for names in part.groups], dtype=np.int64)
        wrong[day] |= (truth != own[part.unsure_group]).any()
        there = own >= 0
        closed_from[day, own[there]] = part.closed_from[there]
        closed_until[day, own[there]] = part.closed_until[there]
    group, some = between.intervals.group, between.starts_inside
    late = between.intervals.end > closed_from[between.to_day, group]
    wrong[between.to_day[late]] = True
    early = between.intervals.start[some] < closed_until[between.from_day[some], group[some]]
    wrong[between.from_day[some][early]] = True
    wrong |= (_passing(between, shape) & (closed_from < closed_until)).any(axis=1)
    return wrong


def untouched(window: Window, between: Between) -> tuple[Ints, Ints]:
    """Say between which instants no interval from or into another partition touches one.

    Returns
    -------
    free_from, free_until : int64 arrays, shape (partitions, groups)
    """
    shape = (len(window.pieces), len(window.known.groups))
    free_from, free_until = np.full(shape, -BEYOND), np.full(shape, BEYOND)
    group, some = between.intervals.group, between.starts_inside
    np.maximum.at(free_from, (between.to_day, group), between.intervals.end)
    np.minimum.at(free_until, (between.from_day[some], group[some]), between.intervals.start[some])
    free_from[_passing(between, shape)] = BEYOND
    return free_from, free_until


def _passing(between: Between, shape: tuple[int, int]) -> Flags:
    """Say through which partitions and groups an interval passes from beginning to end."""
    n_days, n_groups = shape
    group = between.intervals.group
    begun = np.bincount((between.from_day + 1) * n_groups + group, minlength=(n_days + 1) * n_groups)
    over = np.bincount(between.to_day * n_groups + group, minlength=(n_days + 1) * n_groups)
    passing: Flags = (np.cumsum((begun - over).reshape(n_days + 1, n_groups), axis=0) > 0)[:-1]
    return passing
