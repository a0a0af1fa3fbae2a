"""Where a store lives: a local folder or an object store, behind one small interface that knows no Parquet.

Names such as ``cohorts/2026-03-02_….parquet`` are relative to the root of the store.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Protocol

from safetykit_analytics.errors import SafetyKitAnalyticsError, StoreFailed
from safetykit_analytics.formatting import place_name
from safetykit_analytics.store.local import local_files

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Files(Protocol):
    """What a store needs of the place that it lives in. All methods raise OSError."""

    def locate(self, path: str = "") -> str:
        """Return the full name of a file, for people."""

    def tree(self, wanted: Callable[[str], bool] | None) -> dict[str, list[str]] | None:
        """List the root (as ``""``) and those of its folders that are wanted; None if there is no root.

        The names of folders in the root end in ``/``. Never from a cache.
        """

    def generation(self) -> object:
        """Return what differs after anyone has called `renew_generation`; None without a marker."""

    def renew_generation(self) -> None:
        """Let readers know that files which they may have listed are about to be removed."""

    def renewed_at(self) -> dt.datetime | None:
        """Return when `renew_generation` was last called; None without a marker."""

    def read(self, path: str) -> bytes:
        """Read a whole file; FileNotFoundError if it is not there."""

    def total_size(self, paths: Iterable[str]) -> int:
        """Bytes of some files; those that are not there count 0."""

    def create(self) -> None:
        """Create the place and its marker, if they are not there."""

    def publish(self, path: str, data: bytes) -> None:
        """Write a new file, durably and all at once; on failure nothing of it stays."""

    def remove(self, paths: Iterable[str]) -> list[str]:
        """Remove files, if they are still there; return those that may not be removed now."""

    def refuse_old(self) -> None:
        """Make releases that know only the first layout fail from now on, where the place can do that."""

    def retire(self, folders: Iterable[str]) -> None:
        """Remove the emptied folders of the first layout, and its marker last."""

    def sweep(self, paths: Iterable[str], *, older_than_s: float) -> int:
        """Remove what crashed writers left, if it is that old; return how many."""


def open_files(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Files:
    """Choose the kind of place from a path or an fsspec URL."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"a store is a path or a URL as text, found {type(text).__name__}")
    if not text:
        raise ValueError("the path of a store is empty; '.' is the current folder")
    if re.match(r"[a-z0-9+]{2,}:/(?!/)", text):
        # Else a slash too few would make a folder with a colon in its name, and the bucket would stay empty.
        shown = place_name(text)
        raise ValueError(f"{shown!r} is a URL with one slash too few, or a folder: then write ./{shown}")
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        if not rest.strip("/"):
            raise ValueError(f"{text!r} names no place; expected a URL such as s3://bucket/snapshots")
        if scheme != "memory" and "//" in rest.rpartition("://")[2].rstrip("/"):
            raise ValueError(f"{place_name(text)!r} has an empty part between two slashes; write one slash")
        from safetykit_analytics.store.objects import (  # noqa: PLC0415 -- fsspec only when used
            ObjectFiles,
            check_protocols,
        )

        check_protocols(scheme)
        return ObjectFiles(text.rstrip("/"), dict(storage_options or {}))
    if storage_options:
        raise ValueError(f"storage_options are for URLs such as s3://bucket/snapshots; {text!r} is a folder")
    return local_files(rest if separator else text)


@contextlib.contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Convert what the operating system says into an error of ours that says what it stopped."""
    try:
        yield
    except SafetyKitAnalyticsError:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        said = (error.errno, f"cannot {what}: {reason}", error.filename)
        raise StoreFailed(*(said if error.errno else said[1:2])) from error
