"""Policies and versions: their natural order, filling, and the groups that a table is split by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safetykit_analytics.arrays import last_valid, next_valid, run_bounds, run_starts
from safetykit_analytics.errors import UnknownName
from safetykit_analytics.formatting import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.arrays import Ints

LABELS = ("policy_id", "policy_version")

# More columns make tables that nobody reads.
_MOST_COLUMNS = 4
# Up to this many combinations of labels are counted in an array.
_FEW = 4096

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Label:
    """One label column: `codes` are indices into `names`, -1 for none."""

    codes: Ints
    names: tuple[str, ...]

    def take(self, which: Ints) -> Label:
        """Return the labels of some rows."""
        return Label(self.codes[which], self.names)


def natural_key(name: str | None) -> tuple[object, ...]:
    """Key to sort names the way people do: v9 before v10, none last."""
    if name is None or name == NONE:
        return (1,)
    pieces = _DIGITS.split(name)
    # Text and digits alternate and are compared with their like; the name itself orders "v1" and "v01".
    # A number compares by its length and then its digits: int() refuses more than 4,300 of them.
    numbers = [piece.lstrip("0") if place % 2 else piece for place, piece in enumerate(pieces)]
    return (0, tuple((len(piece) if place % 2 else -1, piece) for place, piece in enumerate(numbers)), name)


def parse_by(by: object, own: Sequence[str] = ()) -> tuple[str, ...]:
    """Read the `by` argument: up to four distinct columns; a bare string is one.

    `own` are the caller's columns that it may name besides. Raises UnknownName, ValueError or TypeError.
    """
    known = (*LABELS, *own)
    if isinstance(by, str):
        by = (by,)
    if not isinstance(by, Iterable):
        raise TypeError(f"by: expected column names, such as {LABELS}, found {type(by).__name__}")
    names = tuple(by)
    for name in names:
        if name not in known:
            raise UnknownName("column to split by", name, known)
    if len(set(names)) != len(names):
        raise ValueError(f"by={names!r} names a column twice")
    if len(names) > _MOST_COLUMNS:
        raise ValueError(f"by={names!r}: expected at most {_MOST_COLUMNS} columns, found {len(names)}")
    return names


def in_natural_order(label: Label) -> Label:
    """Return a label column with its distinct names in natural order."""
    names = tuple(sorted(set(label.names), key=natural_key))
    place = {name: code for code, name in enumerate(names)}
    # The last element is what -1, none, is turned into.
    codes: Any = np.array([*(place[name] for name in label.names), -1], dtype=np.int32)
    return Label(codes[label.codes], names)


def groups_of(labels: list[Label], n: int) -> tuple[Ints, list[tuple[str | None, ...]]]:
    """Return the number of each row's combination of labels, and the names of each combination.

    Those that occur are numbered, in natural order of the columns, none last.
    """
    combined = np.zeros(n, dtype=np.int64)
    for label in labels:
        # None sorts last within each column.
        codes = np.where(label.codes < 0, len(label.names), label.codes)
        combined = combined * (len(label.names) + 1) + codes
    size = int(np.prod([len(label.names) + 1 for label in labels], dtype=np.int64))
    if size <= _FEW + n:
        # Counting all that could occur is quicker than sorting what does.
        occurs = np.zeros(size, dtype=np.bool_)
        occurs[combined] = True
        found, codes = np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[combined]
    else:
        found, codes = np.unique(combined, return_inverse=True)
    groups = []
    for number in found.tolist():
        names: list[str | None] = []
        rest = number
        for label in reversed(labels):
            rest, code = divmod(rest, len(label.names) + 1)
            names.append(label.names[code] if code < len(label.names) else None)
        groups.append(tuple(reversed(names)))
    return codes.astype(np.int32), groups


def fill(codes: Ints, batch: Ints) -> Ints:
    """Replace nulls (-1) by the label before them in their batch, leading nulls by the first one after.

    `batch` ascends from 0, and the rows of one batch are in the order of time.
    """
    valid = codes >= 0
    owner = batch[~valid]
    if not len(owner):
        return codes
    size = np.bincount(batch)
    lacking = np.bincount(owner, minlength=len(size))
    # A batch without any label has none to fill in.
    is_mixed = (lacking > 0) & (lacking < size)
    if not is_mixed.any():
        return codes
    rows = np.flatnonzero(is_mixed[batch])
    begin, end = run_bounds(run_starts(batch[rows]))
    source = last_valid(valid[rows], np.repeat(begin, end - begin))
    leading = source < 0
    source[leading] = next_valid(valid[rows], np.repeat(end, end - begin))[leading]
    filled = codes.copy()
    filled[rows] = codes[rows][source]
    return filled
