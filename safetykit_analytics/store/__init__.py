"""Snapshots on disk: `SnapshotStore` and what it gives. Everything else in here is private."""

from safetykit_analytics.store.partition import Partition
from safetykit_analytics.store.snapshots import SnapshotStore

__all__ = ["Partition", "SnapshotStore"]
