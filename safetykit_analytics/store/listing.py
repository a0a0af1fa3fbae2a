"""A list of a store's files that is consistent while others append and compact.

Compaction publishes new files, renews the generation, and only then removes old ones. So a list is complete
if the generation was the same before and after it was made.
"""

from __future__ import annotations

import errno
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from safetykit_analytics.errors import DamagedFile, DamagedFileWarning, NotAStore, StoreChanged, StoreFailed
from safetykit_analytics.store.files import typed_errors
from safetykit_analytics.store.names import (
    MARKER,
    OLD_MARKER,
    TEMPORARY_PREFIX,
    StoredFile,
    is_folder_of_files,
    old_date,
    parse,
)
from safetykit_analytics.store.parquet import Snapshot, damaged, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from safetykit_analytics.store.files import Files

# Each try fails only if a compaction removed files within it: thousands in a row cannot be chance.
_TRIES = 1000
# From so many on, opening recent files takes longer than reading them.
_MANY_RECENT = 5000

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Listing:
    """The files of a store at one moment; `generation` and `tree` are as `Files` returned them.

    `recent` files hold rows of any cohorts, those of the first layout among them. A cohort usually has one
    file; two after a crash.
    """

    files: Files
    generation: object
    recent: tuple[StoredFile, ...]
    cohorts: dict[str, tuple[StoredFile, ...]]
    tree: dict[str, list[str]]

    @property
    def all(self) -> list[StoredFile]:
        """All files."""
        return [*self.recent, *(file for files in self.cohorts.values() for file in files)]


def list_store(files: Files) -> Listing:
    """List a store, empty if there is none yet; raise NotAStore where the place holds something else."""
    with typed_errors(f"list {files.locate()}"):
        generation, tree = stable_tree(files, is_folder_of_files)
    recent: list[StoredFile] = []
    cohorts: defaultdict[str, list[StoredFile]] = defaultdict(list)
    for folder, names in tree.items():
        for name in names if folder else ():
            # A folder with the name of a file is kept in the list: reading it fails, and says so.
            file = parse(folder, name.rstrip("/"))
            if file is not None:
                (recent if file.is_recent else cohorts[file.kind]).append(file)
    if len(recent) >= _MANY_RECENT:
        warnings.warn(
            f"{files.locate()} has {len(recent):,} recent files, and each must be opened: run compact()",
            UserWarning,
            stacklevel=4,
        )
    return Listing(
        files, generation, tuple(recent), {name: tuple(some) for name, some in cohorts.items()}, tree
    )


def stable_tree(files: Files, wanted: Callable[[str], bool] | None) -> tuple[object, dict[str, list[str]]]:
    """List folders at a moment at which no compaction removed anything; raise unless it is a store."""
    for attempt in range(_TRIES):
        before = files.generation()
        try:
            tree = files.tree(wanted)
        except NotADirectoryError as error:
            raise NotAStore(f"{files.locate()} is a file; name a folder") from error
        except FileNotFoundError:
            # A folder of the first layout that was converted meanwhile.
            if files.generation() != before:
                continue
            raise
        if files.generation() == before:
            if tree is None and before is None:
                return None, {}
            if tree is not None:
                require_store(files, tree[""])
                return before, tree
        time.sleep(min(0.001 * attempt, 0.05))
    raise StoreFailed(f"cannot list {files.locate()}: compactions never leave it alone")


def require_store(files: Files, root: list[str]) -> None:
    """Refuse a folder that holds something else than snapshots."""
    markers = {f"{MARKER}/", f"{OLD_MARKER}/"}
    if root and not any(
        name in markers or name.startswith(TEMPORARY_PREFIX) or old_date(name.rstrip("/")) for name in root
    ):
        some = ", ".join(repr(name) for name in root[:3]) + (", …" if len(root) > 3 else "")
        raise NotAStore(
            f"{files.locate()} is not a snapshot store: it holds {some} and no {MARKER}/. "
            f"Name a new or empty folder, or a store"
        )


def read_whole(files: Files, work: Callable[[Listing], _Result]) -> _Result:
    """List and read; start anew whenever a compaction removed what was listed."""
    for _ in range(_TRIES):
        try:
            return work(list_store(files))
        except StoreChanged:
            continue
    raise StoreFailed(f"cannot read {files.locate()}: compactions never leave it alone")


def open_file(
    files: Files,
    generation: object,
    file: StoredFile,
    *,
    skip_damaged: bool = False,
    verify_pages: bool = False,
) -> Snapshot | None:
    """Open a listed file; None if it is not ours, or damaged and may be skipped.

    Raises StoreChanged if it is gone because a compaction has moved its rows since the list was made.
    """
    place = files.locate(file.path)
    with typed_errors(f"read {place}"):
        try:
            data = _bytes(files, file.path, place)
            return decode(data, path=file.path, place=place, verify_pages=verify_pages)
        except FileNotFoundError:
            pass
        except DamagedFile as error:
            if not skip_damaged:
                raise
            warnings.warn(f"left out: {error}", DamagedFileWarning, stacklevel=2)
            return None
    with typed_errors(f"list {files.locate()}"):
        now = files.generation()
        if now is not None and (now != generation or _is_replaced(files, file)):
            raise StoreChanged(f"{files.locate()} was compacted while it was read")
    raise StoreFailed(
        errno.ENOENT,
        f"{place} was listed and is gone, and no compaction has removed it: is {files.locate()} still there?",
        place,
    )


def _is_replaced(files: Files, gone: StoredFile) -> bool:
    """Look for a file whose footer says that it holds all rows of one that is gone."""
    for other in list_store(files).all:
        try:
            snapshot = decode(files.read(other.path), path=other.path, place=files.locate(other.path))
        except OSError:
            continue
        if snapshot is not None and gone.token in snapshot.replaces:
            return True
    return False


def _bytes(files: Files, path: str, place: str) -> bytes:
    """Read a whole file; a folder or a broken link under the name of a snapshot is damage."""
    try:
        return files.read(path)
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise damaged(place, "it is a folder") from error
        if error.errno == errno.ELOOP:
            raise damaged(place, "it is a link that leads nowhere") from error
        raise
