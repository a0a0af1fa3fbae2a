"""Snapshots in a folder of this machine: how bytes become files that survive crashes.

A file appears under its name only when all its bytes are on disk: hidden temporary (O_EXCL) → fsync → link
(which never replaces anything) → fsync of the folder. Only then does `publish` return. Place in the flow: the
bottom of `store`; all of its system calls go through ``os``, so that tests can fail each of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetykit_analytics.store.layout import MARKER, TEMPORARY_PREFIX, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# What file systems without hard links answer (FAT, some network shares).
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_READ_BYTES = 1 << 24


def local_files(path: str) -> LocalFiles:
    """Fix a folder by its absolute path, so that a later change of the working folder does not move it."""
    return LocalFiles(os.path.abspath(os.path.expanduser(path)))


@dataclass(frozen=True)
class LocalFiles:
    """A folder, by its absolute path."""

    root: str

    def locate(self, path: str = "") -> str:
        """Give the full path."""
        return os.path.join(self.root, path) if path else self.root

    def tree(self, wanted: Callable[[str], bool] | None) -> dict[str, list[str]] | None:
        """List the root and the wanted folders in it."""
        try:
            names = _entries(self.root)
        except FileNotFoundError:
            return None
        listing = {"": names}
        for name in names:
            if wanted and name.endswith("/") and wanted(name[:-1]):
                with contextlib.suppress(FileNotFoundError):
                    listing[name[:-1]] = _entries(self.locate(name[:-1]))
        return listing

    def generation(self) -> object:
        """Names in the marker: a few at most, so that the kernel lists them in one atomic step."""
        try:
            return sorted(os.listdir(self.locate(MARKER)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def renew_generation(self) -> None:
        """Put a new name into the marker, and take the old ones away."""
        marker = self.locate(MARKER)
        _make_folder(marker)
        old = os.listdir(marker)
        os.mkdir(os.path.join(marker, new_token()), 0o700)
        for name in old:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(marker, name))

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        place = self.locate(path)
        try:
            return _read(place)
        except FileNotFoundError:
            if os.path.islink(place):
                raise OSError(errno.ELOOP, "a link that leads nowhere", place) from None
            raise

    def size(self, path: str) -> int:
        """Bytes of a file."""
        try:
            return os.stat(self.locate(path)).st_size
        except FileNotFoundError:
            return 0

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Write all files beside their places, then publish one by one."""
        self._make_root()
        folders = list(dict.fromkeys(os.path.dirname(self.locate(path)) for path in files))
        temporaries: dict[str, str] = {}
        published: list[str] = []
        try:
            for folder in folders:
                _make_folder(folder)
            for path, data in files.items():
                place = self.locate(path)
                temporaries[place] = os.path.join(os.path.dirname(place), TEMPORARY_PREFIX + new_token())
                _write(temporaries[place], data)
            for place, temporary in temporaries.items():
                _link(temporary, place)
                published.append(place)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            for folder in folders:
                _sync_folder(folder)
            # Another process may have made the day's folder a moment ago and not yet have synced it.
            _sync_folder(self.root)
        except BaseException:
            for leftover in (*published, *temporaries.values()):
                with contextlib.suppress(OSError):
                    os.unlink(leftover)
            raise

    def remove(self, paths: Iterable[str]) -> None:
        """Unlink files."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.locate(path))

    def sweep(self, paths: Iterable[str], *, older_than_s: float) -> int:
        """Unlink what is older than any write that still runs."""
        swept = 0
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(self.locate(path))
                if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > older_than_s:
                    os.unlink(self.locate(path))
                    swept += 1
        return swept

    def _make_root(self) -> None:
        """Create the folder and its marker; a marker says that the folder itself is on disk to stay."""
        marker = self.locate(MARKER)
        if os.path.isdir(marker):
            return
        missing = []
        folder = self.root
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            _make_folder(folder)
        for folder in missing or [self.root]:
            # A parent that we may not open was there before us.
            with contextlib.suppress(PermissionError):
                _sync_folder(os.path.dirname(folder))
        _make_folder(marker)


def _entries(folder: str) -> list[str]:
    """List a folder, sorted; names of folders end in a slash. A link counts as what it leads to."""
    with os.scandir(folder) as entries:
        return sorted(entry.name + "/" if _is_folder(entry) else entry.name for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link in a circle


def _make_folder(folder: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """Open a file; errors of what is done with its number then say its name."""
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield file
        finally:
            os.close(file)
    except OSError as error:
        error.filename = error.filename or path
        raise


def _read(path: str) -> bytes:
    with _opened(path, os.O_RDONLY) as file:
        size = os.fstat(file).st_size
        data = os.read(file, size + 1)
        if len(data) == size:
            return data
        parts = [data]
        while data := os.read(file, _READ_BYTES):
            parts.append(data)
        return b"".join(parts)


def _write(path: str, data: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)


def _link(temporary: str, place: str) -> None:
    """Give a finished file its name; fail rather than replace anything."""
    try:
        os.link(temporary, place)
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(place):
            raise
        # No hard links here. The name is 122 random bits: nothing else has it.
        os.rename(temporary, place)


def _sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on disk."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as file:
        os.fsync(file)
