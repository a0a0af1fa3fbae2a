"""When a batch was created, read from its id.

A batch id is ``batch_`` and a 26-character lowercase Crockford base32 ULID, whose first 48 bits are the
creation time in milliseconds since 1970 (UTC). That is inferred from the ids, not promised by the API: an id
that does not decode simply has no creation time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

_PREFIX = b"batch_"
_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
_ID_BYTES = len(_PREFIX) + 26
_INVALID = 255
_DIGITS = np.full(256, _INVALID, dtype=np.uint8)
_DIGITS[np.frombuffer(_ALPHABET, dtype=np.uint8)] = np.arange(32, dtype=np.uint8)

_DAY_US = 86_400_000_000
# SafetyKit did not exist before: an earlier time means that the id is not a ULID.
_EARLIEST_US = 1_420_070_400_000_000  # 2015-01-01T00:00:00Z
_LATEST_US = 4_102_444_800_000_000  # 2100-01-01T00:00:00Z


def created_at_us(batch_ids: Any, observed_at_us: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """Decode creation times in bulk, as a TimestampArray in microseconds, UTC.

    Null where the id does not decode, or decodes to a time before 2015 or to more than a day after it was
    observed (clocks differ by seconds, not by days).
    """
    created, known = _decoded(batch_ids)
    known &= (created >= _EARLIEST_US) & (created - observed_at_us <= _DAY_US)
    return pa.array(created, mask=~known).cast(pa.timestamp("us", tz="UTC"))


def cohort_days(batch_ids: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the cohort of each batch, the UTC day of the time in its id, in days since 1970.

    -1 for *undated*: the id does not decode, or to a time outside of [2015, 2100).
    """
    if isinstance(batch_ids, pa.ChunkedArray):
        pieces = [cohort_days(chunk) for chunk in batch_ids.chunks]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
    if isinstance(batch_ids, pa.DictionaryArray):
        codes = batch_ids.indices.to_numpy(zero_copy_only=False)
        days: np.ndarray[Any, np.dtype[np.int32]] = cohort_days(batch_ids.dictionary)[codes]
        return days
    created, known = _decoded(batch_ids)
    known &= (created >= _EARLIEST_US) & (created < _LATEST_US)
    return np.where(known, created // _DAY_US, -1).astype(np.int32)


def _decoded(
    batch_ids: Any,
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the times in ids, in microseconds since 1970, and which ids have one."""
    ids = batch_ids if isinstance(batch_ids, pa.Array) else pa.array(batch_ids, type=pa.string())
    ids = ids.cast(pa.string())
    created = np.zeros(len(ids), dtype=np.int64)
    known = np.zeros(len(ids), dtype=np.bool_)
    offsets, data = _string_buffers(ids)
    right_length = np.flatnonzero(np.diff(offsets) == _ID_BYTES)
    if len(right_length):
        text = data[offsets[right_length][:, None] + np.arange(_ID_BYTES)]
        digits = _DIGITS[text[:, len(_PREFIX) :]]
        decodes = (
            (text[:, : len(_PREFIX)] == np.frombuffer(_PREFIX, dtype=np.uint8)).all(axis=1)
            & (digits != _INVALID).all(axis=1)
            # 26 digits hold 130 bits, a ULID 128: the first digit has 3 bits at most.
            & (digits[:, 0] <= 7)
        )
        # Ten digits of five bits are 50 bits: the 48 of the time behind two zeros.
        place = np.int64(1) << (5 * np.arange(9, -1, -1, dtype=np.int64))
        created[right_length] = digits[:, :10].astype(np.int64) @ place * 1000
        known[right_length] = decodes
    return created, known


def _string_buffers(
    ids: Any,
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the offsets and the bytes of a pyarrow string array; nulls are empty."""
    if ids.null_count:
        ids = ids.fill_null("")
    _, offsets, data = ids.buffers()
    starts = (
        np.frombuffer(offsets, dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1]
        if offsets
        else np.zeros(1)
    )
    return starts.astype(np.int64), np.frombuffer(data or b"", dtype=np.uint8)
