"""Snapshots on disk: `SnapshotStore`, and the `Cohort` objects in which it is read; all else is private.

The modules, from the outside in: `snapshots` (the public class); `compaction`, `inspection`;
`batches`; `cohort` (one cohort), `recent` (rows of any), `listing` (a consistent list of files), `parquet`
(one file), `files` (where it all lives: `local` or `objects`), `names`.
"""

from safetykit_analytics.store.cohort import Cohort
from safetykit_analytics.store.objects import put_object
from safetykit_analytics.store.snapshots import SnapshotStore

__all__ = ["Cohort", "SnapshotStore", "put_object"]
