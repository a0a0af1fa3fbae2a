"""Batch ids as callers pass them: any iterable of text, or a column of pandas, Polars or pyarrow."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa

from safetykit_analytics.formatting import plural


def checked_ids(batch_ids: object) -> Iterable[object]:
    """Return ids as an iterable of Python objects; raise TypeError for a single id or a table."""
    if isinstance(batch_ids, str | bytes):
        raise TypeError(
            "batch_ids: expected an iterable of ids, found a single one; pass [batch_id], or call get_batch"
        )
    if isinstance(batch_ids, pd.DataFrame):
        raise _a_table(len(batch_ids.columns))
    if isinstance(batch_ids, pa.Array | pa.ChunkedArray):
        return list(batch_ids.to_pylist())
    if hasattr(batch_ids, "__arrow_c_stream__") and not isinstance(batch_ids, pd.Series):
        return _from_stream(batch_ids)
    if not isinstance(batch_ids, Iterable):
        raise TypeError(f"batch_ids: expected an iterable of ids, found {type(batch_ids).__name__}")
    return batch_ids


def _from_stream(stream: object) -> list[object]:
    """Read a column, or a table of one column, through the Arrow C stream interface."""
    reader = pa.RecordBatchReader.from_stream(stream) if _is_table(stream) else None
    if reader is None:
        return list(pa.chunked_array(stream).to_pylist())
    names = reader.schema.names
    if len(names) != 1:
        raise _a_table(len(names))
    return list(reader.read_all().column(0).to_pylist())


def _a_table(width: int) -> TypeError:
    return TypeError(
        f"batch_ids: expected an iterable of ids, found a table of {plural(width, 'column')}; "
        "pass one column, such as table['batch_id']"
    )


def _is_table(stream: object) -> bool:
    # A table has names for its columns; a column has none.
    return hasattr(stream, "columns") or hasattr(stream, "column_names")
