"""What a store tells of itself from the names of its files."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetykit_analytics.calendar import from_us
from safetykit_analytics.formatting import plural, size_text
from safetykit_analytics.store.names import add_facts

if TYPE_CHECKING:
    import datetime as dt

    from safetykit_analytics.store.listing import Listing


@dataclass(frozen=True)
class StoreInfo:
    """How much is in a store, by the names of its files; rows and batches are upper bounds.

    `recent_files` wait for `SnapshotStore.compact`; `cohorts` have a file of their own. A batch in several
    files is counted in each. `old_files` are of the first layout, whose names do not tell how much they
    hold: they count in `files` and `bytes` alone. Times are aware, UTC; None for an empty store.
    """

    files: int
    recent_files: int
    cohorts: int
    rows: int
    batches: int
    open_batches: int
    first_observed_at: dt.datetime | None
    last_observed_at: dt.datetime | None
    bytes: int
    old_files: int

    def __str__(self) -> str:
        """Write it in one line."""
        if not self.files:
            return "empty"
        parts = [f"{what} {value}" if what == "from" else f"{value} {what}" for what, value in self._facts()]
        return ", ".join(parts)

    def html(self, name: str) -> str:
        """Write it as a small table."""
        facts = self._facts() if self.files else [("files", "0")]
        cells = "".join(f"<tr><th>{what}</th><td>{html.escape(value)}</td></tr>" for what, value in facts)
        return f"<table><caption>SnapshotStore <code>{html.escape(name)}</code></caption>{cells}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        up_to = "up to " if self.recent_files else ""
        facts = [("file" if self.files == 1 else "files", f"{self.files:,}")]
        if self.files > self.old_files:
            facts += [
                (plural(self.cohorts, "cohort").partition(" ")[2], f"{self.cohorts:,}"),
                (plural(self.rows, "observation").partition(" ")[2], f"{up_to}{self.rows:,}"),
                (plural(self.batches, "batch").partition(" ")[2], f"{up_to}{self.batches:,}"),
                ("open", f"{up_to}{self.open_batches:,}"),
            ]
        if self.old_files:
            facts.append(("of the first layout, which compact() converts", f"{self.old_files:,}"))
        first, last = self.first_observed_at, self.last_observed_at
        if first is not None and last is not None:
            facts.append(("from", f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"))
        return [*facts, ("on disk", size_text(self.bytes))]


def summarize(listing: Listing) -> StoreInfo:
    """Add up what the names of the files tell."""
    files = listing.all
    facts = add_facts([file.facts for file in files]) if files else None
    return StoreInfo(
        files=len(files),
        recent_files=len(listing.recent),
        cohorts=len(listing.cohorts),
        rows=facts.n_rows if facts else 0,
        batches=facts.n_batches if facts else 0,
        open_batches=facts.n_open if facts else 0,
        first_observed_at=from_us(facts.first) if facts else None,
        last_observed_at=from_us(facts.last) if facts else None,
        bytes=listing.files.total_size(file.path for file in files),
        old_files=sum(file.is_old for file in files),
    )
