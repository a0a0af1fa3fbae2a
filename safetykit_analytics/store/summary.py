"""What a store says of itself in a notebook: files, observations, batches, days, bytes.

Place in the flow: used by `SnapshotStore.__repr__` alone.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from safetykit_analytics.store.partition import Partition, list_days
from safetykit_analytics.wording import plural

if TYPE_CHECKING:
    from safetykit_analytics.store.files import Files


@dataclass(frozen=True)
class Summary:
    """How much there is in a store."""

    files: int
    observations: int
    batches: int
    days: int
    bytes: int
    first: str
    last: str

    def text(self) -> str:
        """Say it in one line."""
        if not self.files:
            return "empty"
        span = self.first if self.days == 1 else f"{self.first} to {self.last}"
        return (
            f"{plural(self.files, 'file')}, {plural(self.observations, 'observation')}, "
            f"{plural(self.batches, 'batch')}, {plural(self.days, 'day')} ({span}), "
            f"{_size(self.bytes)}"
        )

    def html(self, name: str) -> str:
        """Say it as a small table."""
        rows = {
            "files": f"{self.files:,}",
            "observations": f"{self.observations:,}",
            "batches": f"{self.batches:,}",
            "days": f"{self.days:,}" + (f" ({self.first} to {self.last})" if self.days else ""),
            "size": _size(self.bytes),
        }
        cells = "".join(
            f"<tr><th>{what}</th><td>{html.escape(value)}</td></tr>" for what, value in rows.items()
        )
        return f"<table><caption>SnapshotStore <code>{html.escape(name)}</code></caption>{cells}</table>"


def summarise(files: Files) -> Summary:
    """Count what is there, duplicates once."""
    days = list_days(files)
    observations = 0
    batches = []
    for date, paths in days.items():
        ids = Partition(date, paths, files).read(["batch_id"]).column("batch_id")
        observations += len(ids)
        batches.append(pc.unique(ids).cast(pa.string()))
    dates = [date.isoformat() for date in days]
    return Summary(
        files=sum(map(len, days.values())),
        observations=observations,
        batches=pc.count_distinct(pa.chunked_array(batches)).as_py() if batches else 0,
        days=len(days),
        bytes=sum(files.size(path) for paths in days.values() for path in paths),
        first=dates[0] if dates else "",
        last=dates[-1] if dates else "",
    )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
