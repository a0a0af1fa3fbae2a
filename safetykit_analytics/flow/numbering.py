"""Batch ids as numbers: the same id on any two days is one batch.

Place in the flow: edges → **numbering** → stitch. NumPy and Arrow.

A table of all ids would take more memory than everything else that is known of batches. So ids are matched by
a hash of 64 bits, which each day computes for itself, and every match is then checked by the ids themselves.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.arrays import Ints, run_starts

if TYPE_CHECKING:
    from safetykit_analytics.arrays import Flags

Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]

# An odd number without pattern: 2^64 divided by the golden ratio.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def hash_ids(ids: Any) -> Hashes:
    """Hash strings.

    Parameters
    ----------
    ids : pyarrow string array, without nulls

    Returns
    -------
    uint64 array
        The same for the same string, on every machine.
    """
    hashes = np.zeros(len(ids), dtype=np.uint64)
    if not len(ids):
        return hashes
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    text = np.frombuffer(data or b"", dtype=np.uint8)
    lengths = np.diff(ends)
    if (lengths == lengths[0]).all():
        return _hash(text[ends[0] : ends[-1]].reshape(len(ids), int(lengths[0])))
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        hashes[rows] = _hash(text[ends[rows][:, None] + np.arange(length)])
    return hashes


def _hash(texts: Any) -> Hashes:
    """Hash texts of one length, given as bytes, shape (n, length)."""
    n, length = texts.shape
    if length % 8:
        padded = np.zeros((n, -(-length // 8) * 8), dtype=np.uint8)
        padded[:, :length] = texts
        texts = padded
    mixed = np.full(n, length, dtype=np.uint64)
    for word in np.ascontiguousarray(texts).view("<u8").T:
        mixed = (mixed ^ word) * _FACTOR
        mixed ^= mixed >> _SHIFT
    return mixed


def number_batches(ids: list[Any], hashes: Hashes) -> tuple[Ints, Any]:
    """Assign numbers to the batches of several days, in the order in which they first appear.

    Parameters
    ----------
    ids : list of pyarrow string arrays
        Of each day, every batch once.
    hashes : uint64 array
        By `hash_ids`, of all days end to end.

    Returns
    -------
    numbers : int32 array
        Of all days end to end.
    ids : pyarrow string array
        The id of each number.
    """
    if len(ids) == 1:
        return np.arange(len(ids[0]), dtype=np.int32), ids[0]
    order = np.argsort(hashes).astype(np.int32)
    is_new = run_starts(hashes[order])
    first_row = np.minimum.reduceat(order, np.flatnonzero(is_new))
    is_first = np.zeros(len(order), dtype=np.bool_)
    is_first[first_row] = True
    appearance = np.cumsum(is_first, dtype=np.int32) - 1
    numbers: Any = np.empty(len(order), dtype=np.int32)
    numbers[order] = appearance[first_row][np.cumsum(is_new) - 1]
    offset = np.cumsum([0, *(len(some) for some in ids)])
    days = [slice(*bounds) for bounds in pairwise(offset)]
    names = pa.concat_arrays(
        [some.filter(pa.array(is_first[day])) for some, day in zip(ids, days, strict=True)]
    )
    if all(_is_same(some, names, numbers[day], ~is_first[day]) for some, day in zip(ids, days, strict=True)):
        return numbers, names
    # Two ids have one hash: compare the ids themselves, whatever it takes.
    encoded = pa.chunked_array(ids, type=pa.string()).dictionary_encode()
    return np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks]), encoded.chunk(0).dictionary


def _is_same(ids: Any, names: Any, numbers: Ints, which: Flags) -> bool:
    """Say whether some ids of a day are what their numbers stand for."""
    expected = names.take(pa.array(numbers[which]))
    return bool(pc.all(pc.equal(ids.filter(pa.array(which)), expected), min_count=0).as_py())
