"""Snapshots on disk: `SnapshotStore` and what it gives. Everything else in here is private.

Place in the flow: frame → **store** → flow, which reads `Partition` objects and never imports this stage. The
modules, from the outside in: `snapshots` (the public class), `summary`, `verification`, `compaction` (what it
does besides reading and writing), `partition` (one day), `parquet` (one file), `keys` (a set of facts),
`bounds` and `layout` (times and names), `files` (where it all lives), which is `local` or `objects`.
"""

from safetykit_analytics.store.partition import Partition
from safetykit_analytics.store.snapshots import SnapshotStore

__all__ = ["Partition", "SnapshotStore"]
