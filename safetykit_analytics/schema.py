"""The definition of an observation: columns, types, units, key."""

from __future__ import annotations

import pyarrow as pa

#: Statuses after which a batch changes no more. Everything else, known or not, is still open.
TERMINAL_STATUSES = ("SUCCESS", "ERROR", "CANCELLED")

#: Every status that the API documents.
KNOWN_STATUSES = ("WAITING_FOR_UPLOAD", "PENDING", *TERMINAL_STATUSES)

#: The counters of a batch: decisions, cumulative, never null.
COUNT_COLUMNS = ("batch_count", "success_count", "error_count", "cancelled_count", "pending_count")

#: What identifies an observation.
KEY_COLUMNS = ("batch_id", "observed_at")

#: An instant: UTC, whole microseconds.
INSTANT = pa.timestamp("us", tz="UTC")

#: One row per observation. Order, types and nullability are part of the promise.
OBSERVATION_SCHEMA = pa.schema(
    [
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("observed_at", INSTANT, nullable=False),
        pa.field("created_at", INSTANT),
        pa.field("batch_status", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNT_COLUMNS),
        pa.field("policy_id", pa.string()),
        pa.field("policy_version", pa.string()),
        pa.field("has_download", pa.bool_(), nullable=False),
        pa.field("is_terminal", pa.bool_(), nullable=False),
    ]
)

_ADVANCE = ("is_terminal", "success_count", "error_count", "cancelled_count", "batch_count")

#: Of two rows with one key the most advanced is kept: the greatest by success + error + cancelled, then by
#: these, one after the other. Any order would do as long as it is the same everywhere; null is the least.
TIE_BREAKERS = (
    *_ADVANCE,
    *(name for name in OBSERVATION_SCHEMA.names if name not in _ADVANCE and name not in KEY_COLUMNS),
)
