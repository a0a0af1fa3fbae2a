"""Which rows of a store a call needs: some batches, some time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.store.parquet import Snapshot


@dataclass(frozen=True)
class RowFilter:
    """Rows of some batches (sorted ids) from [start_us, end_us) of ``observed_at``; all by default."""

    batch_ids: Sequence[str] | None = None
    start_us: int | None = None
    end_us: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether every row is selected."""
        return self.batch_ids is None and self.start_us is None and self.end_us is None

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether rows that were observed from `first` to `last` can be selected, by their time."""
        return (self.start_us is None or last >= self.start_us) and (
            self.end_us is None or first < self.end_us
        )

    def groups(self, snapshot: Snapshot) -> list[int]:
        """Choose the row groups that may hold a selected row."""
        groups = range(snapshot.n_groups)
        if self.batch_ids is None:
            return list(groups)
        chosen = []
        for group in groups:
            ends = snapshot.id_range(group)
            at = 0 if ends is None else bisect_left(self.batch_ids, ends[0])
            if ends is None or (at < len(self.batch_ids) and self.batch_ids[at] <= ends[1]):
                chosen.append(group)
        return chosen

    def rows(self, table: Any) -> Any:
        """Keep the selected rows of a table that has the key columns."""
        if self.batch_ids is not None:
            wanted = pa.array(self.batch_ids, pa.string())
            table = table.filter(pc.is_in(table.column("batch_id").cast(pa.string()), wanted))
        if self.start_us is None and self.end_us is None:
            return table
        at = table.column("observed_at").cast(pa.int64()).to_numpy()
        inside = np.ones(len(at), dtype=np.bool_)
        if self.start_us is not None:
            inside &= at >= self.start_us
        if self.end_us is not None:
            inside &= at < self.end_us
        if inside.all():
            return table
        # Few of many: their places are quicker than a filter.
        return table.take(pa.array(np.flatnonzero(inside)))

    def read(self, snapshot: Snapshot, groups: Sequence[int], columns: Sequence[str]) -> Any:
        """Read the selected rows of row groups; the columns have those of the key."""
        if self.start_us is not None or self.end_us is not None:
            groups = [group for group in groups if self._has_time(snapshot, group)]
        return self.rows(snapshot.read(groups, columns))

    def _has_time(self, snapshot: Snapshot, group: int) -> bool:
        times = snapshot.read([group], ["observed_at"])
        return bool(RowFilter(None, self.start_us, self.end_us).rows(times).num_rows)


ALL = RowFilter()
