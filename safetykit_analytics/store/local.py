"""Files in a folder of this machine, such that they survive crashes.

A file appears under its name only when all its bytes are on disk: hidden temporary (O_EXCL) → fsync → link
(which never replaces anything) → fsync of the folder. Only then does `publish` return. All system calls go
through ``os``, so that tests can fail each of them; what some systems lack has a fallback.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import stat
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetykit_analytics.store.names import MARKER, OLD_MARKER, TEMPORARY_PREFIX, new_token

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# What file systems without hard links answer (FAT, some network shares).
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# What file systems answer that cannot sync a folder.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_READ_BYTES = 1 << 24


def local_files(path: str) -> LocalFiles:
    """Fix a folder by its absolute path, so that a later change of the working folder does not move it."""
    return LocalFiles(os.path.abspath(os.path.expanduser(path)))


@dataclass(frozen=True)
class LocalFiles:
    """A folder, by its absolute path."""

    root: str

    def locate(self, path: str = "") -> str:
        """Return the full path."""
        return os.path.join(self.root, path) if path else self.root

    def tree(self, wanted: Callable[[str], bool] | None) -> dict[str, list[str]] | None:
        """List the root and the wanted folders in it."""
        try:
            names = _entries(self.root)
        except FileNotFoundError:
            if os.path.islink(self.root):
                raise OSError(errno.ENOENT, "a link that leads nowhere", self.root) from None
            return None
        listing = {"": names}
        for name in names:
            if wanted and name.endswith("/") and wanted(name[:-1]):
                listing[name[:-1]] = _entries(self.locate(name[:-1]))
        return listing

    def generation(self) -> object:
        """Names in the markers: a few at most, so that the kernel lists them in one atomic step."""
        found = [_names(self.locate(marker)) for marker in (MARKER, OLD_MARKER)]
        return None if found == [None, None] else found

    def renewed_at(self) -> dt.datetime | None:
        """Return when the folder of the marker was last written to."""
        try:
            changed = os.stat(self.locate(MARKER)).st_mtime
        except FileNotFoundError:
            return None
        return dt.datetime.fromtimestamp(changed, dt.UTC)

    def renew_generation(self) -> None:
        """Make a new name in each marker, and remove the old ones."""
        for marker in (MARKER, OLD_MARKER):
            old = _names(self.locate(marker))
            if old is None:
                continue
            os.mkdir(os.path.join(self.locate(marker), new_token()), 0o700)
            for name in old:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.join(self.locate(marker), name))

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        place = self.locate(path)
        try:
            return _read(place)
        except FileNotFoundError:
            if os.path.islink(place):
                raise OSError(errno.ELOOP, "a link that leads nowhere", place) from None
            raise

    def total_size(self, paths: Iterable[str]) -> int:
        """Bytes of some files."""
        total = 0
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(self.locate(path)).st_size
        return total

    def create(self) -> None:
        """Create the folder and its marker; a marker says that the folder itself is on disk to stay."""
        missing = []
        folder = self.root
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        for folder in missing or [self.root]:
            # A parent that we may not open was there before us.
            with contextlib.suppress(PermissionError):
                _sync_folder(os.path.dirname(folder))
        self._make_folder(self.locate(MARKER))

    def publish(self, path: str, data: bytes) -> None:
        """Write a file beside its place, then link it there."""
        place = self.locate(path)
        folder = os.path.dirname(place)
        temporary = os.path.join(folder, TEMPORARY_PREFIX + new_token())
        leftovers = [temporary]
        try:
            self._make_folder(folder)
            _write(temporary, data, _mode(self.root) & 0o666)
            _link(temporary, place)
            leftovers.append(place)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            _sync_folder(folder)
            # Another process may have made the folder a moment ago and not yet have synced it.
            _sync_folder(self.root)
        except BaseException:
            for leftover in leftovers:
                with contextlib.suppress(OSError):
                    os.unlink(leftover)
            raise

    def remove(self, paths: Iterable[str]) -> list[str]:
        """Unlink files. Windows refuses that while somebody reads one."""
        stay = []
        for path in paths:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.locate(path))
            except PermissionError:
                stay.append(path)
        return stay

    def refuse_old(self) -> None:
        """Replace the marker of the first layout by a link to itself, which cannot be listed."""
        self._remove_old_marker()
        with contextlib.suppress(FileExistsError, NotImplementedError, PermissionError):
            os.symlink(OLD_MARKER, self.locate(OLD_MARKER))

    def retire(self, folders: Iterable[str]) -> None:
        """Remove empty folders of the first layout and, if none is left, its marker."""
        for folder in folders:
            try:
                os.rmdir(self.locate(folder))
            except FileNotFoundError:
                continue
            except OSError:
                return
        self._remove_old_marker()

    def _remove_old_marker(self) -> None:
        marker = self.locate(OLD_MARKER)
        if os.path.islink(marker):
            os.unlink(marker)
            return
        for name in _names(marker) or ():
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(marker, name))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.rmdir(marker)

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

    def _make_folder(self, folder: str) -> None:
        """Create a folder with the permissions of the root, whatever the umask."""
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return
        mode = _mode(self.root)
        if mode != 0o700:
            os.chmod(folder, mode)


def _mode(folder: str) -> int:
    return stat.S_IMODE(os.stat(folder).st_mode)


def _names(folder: str) -> list[str] | None:
    """List a folder; None if it is not there, or a link to itself."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            raise
        return None


def _entries(folder: str) -> list[str]:
    """List a folder, sorted; names of folders end in a slash. A link counts as what it leads to."""
    with os.scandir(folder) as entries:
        return sorted(entry.name + "/" if _is_folder(entry) else entry.name for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link in a circle


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """Open a file; later errors about its number then show its name."""
    file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o600)
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


def _write(path: str, data: bytes, mode: int) -> None:
    """Write a new file and wait until it is on disk."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        if mode != 0o600 and hasattr(os, "fchmod"):
            os.fchmod(file, mode)
        _sync(file)


def _link(temporary: str, place: str) -> None:
    """Return a finished file its name; fail rather than replace anything."""
    try:
        if hasattr(os, "link"):
            os.link(temporary, place)
            return
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(place):
            raise
    # No hard links here. The name is 122 random bits: nothing else has it.
    os.rename(temporary, place)


def _sync(file: int) -> None:
    """Wait until the bytes of a file are on disk: on a Mac, fsync alone leaves them in the drive's cache."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _NO_SYNC | {errno.ENOTTY}:
                raise
        else:
            return
    os.fsync(file)


def _sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as file:
        try:
            _sync(file)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
            warnings.warn(
                f"the file system of {folder} cannot sync folders: a power cut may undo the last append",
                RuntimeWarning,
                stacklevel=2,
            )
