"""Placeholder until this stage lands."""


class SnapshotStore:
    """Not here yet."""
