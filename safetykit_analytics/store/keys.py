"""Observations as a set: sorting, duplicates, unchanged runs. Tables in, tables out.

Place in the flow: used by `store` alone; opens no file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.schema import KEY_COLUMNS, TIE_BREAKERS


def sorted_unique(table: Any) -> Any:
    """Sort observations by (batch_id, observed_at) and keep one row of each key: the most advanced.

    Parameters
    ----------
    table : pyarrow.Table
        All columns of `OBSERVATION_SCHEMA`.

    Returns
    -------
    pyarrow.Table
        The same whatever the order of the rows was.
    """
    keys = [(name, "ascending") for name in KEY_COLUMNS]
    table = table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()
    if not same_as_before(table, KEY_COLUMNS).any():
        return table
    finished = np.zeros(table.num_rows)
    for name in ("success_count", "error_count", "cancelled_count"):
        finished += table.column(name).to_numpy()
    table = table.append_column("finished", pa.array(finished))
    # Descending, because nulls then come last and the first row of each key is the one to keep.
    keys += [(name, "descending") for name in ("finished", *TIE_BREAKERS)]
    table = table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()
    first_of_key = ~same_as_before(table, KEY_COLUMNS)
    return table.drop_columns("finished").filter(pa.array(first_of_key)).combine_chunks()


def same_as_before(table: Any, columns: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say for each row whether it equals the row before it in these columns; two nulls are equal."""
    same = np.ones(table.num_rows, dtype=bool)
    same[:1] = False
    for name in columns:
        column = table.column(name).combine_chunks()
        here, before = column[1:], column[:-1]
        equal = pc.fill_null(pc.equal(here, before), fill_value=False)
        if column.null_count:
            equal = pc.or_(equal, pc.and_(pc.is_null(here), pc.is_null(before)))
        same[1:] &= equal.to_numpy(zero_copy_only=False)
    return same
