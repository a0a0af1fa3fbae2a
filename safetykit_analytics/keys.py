"""Observations as a set: one order, one row per key, one rule for which row stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.schema import KEY_COLUMNS, TIE_BREAKERS


def sorted_unique(table: Any) -> Any:
    """Return observations sorted by (batch_id, observed_at), of each key the most advanced row."""
    plain = table.column("batch_id").cast(pa.string())
    order = pc.sort_indices(
        pa.table({"a": plain, "b": table.column("observed_at")}),
        sort_keys=[("a", "ascending"), ("b", "ascending")],
    )
    if not (np.diff(order.to_numpy()) == 1).all():
        table = table.take(order).combine_chunks()
    if not same_as_before(table, KEY_COLUMNS).any():
        return table
    finished = np.zeros(table.num_rows)
    for name in ("success_count", "error_count", "cancelled_count"):
        finished += table.column(name).to_numpy()
    types = table.schema
    table = pa.table(
        [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in table.columns],
        names=table.column_names,
    )
    table = table.append_column("finished", pa.array(finished))
    keys = [(name, "ascending") for name in KEY_COLUMNS]
    keys += [(name, "descending") for name in ("finished", *TIE_BREAKERS) if name in table.column_names]
    table = table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()
    first_of_key = ~same_as_before(table, KEY_COLUMNS)
    return table.drop_columns("finished").filter(pa.array(first_of_key)).combine_chunks().cast(types)


def same_as_before(table: Any, columns: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each row whether it equals the row before it in these columns; two nulls are equal."""
    same = np.ones(table.num_rows, dtype=bool)
    same[:1] = False
    for name in columns:
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.indices
        here, before = column[1:], column[:-1]
        equal = pc.fill_null(pc.equal(here, before), fill_value=False)
        if column.null_count:
            equal = pc.or_(equal, pc.and_(pc.is_null(here), pc.is_null(before)))
        same[1:] &= equal.to_numpy(zero_copy_only=False)
    return same
