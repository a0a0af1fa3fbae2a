"""Files in an object store, through fsspec: one PUT per file, which is all or nothing by itself."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fsspec

from safetykit_analytics.formatting import place_name
from safetykit_analytics.store.names import MARKER, OLD_MARKER, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_GENERATION, _OLD_GENERATION = (f"{marker}/generation" for marker in (MARKER, OLD_MARKER))


def put_object(url: str, data: bytes) -> None:
    """Write one object, whole or not at all; one that is there is replaced."""
    fs, path = fsspec.core.url_to_fs(url)
    with _os_errors(place_name(url)):
        fs.pipe_file(path, data)


def check_protocols(scheme: str) -> None:
    """Raise ValueError for a protocol that fsspec does not know, ModuleNotFoundError without its library."""
    for protocol in scheme.split("::"):
        try:
            fsspec.get_filesystem_class(protocol)
        except ValueError:
            raise ValueError(
                f"a store cannot be at {protocol}://, which fsspec does not know; expected a folder or a URL "
                f"such as s3://bucket/snapshots"
            ) from None
        except ImportError as error:
            extra = "safetykit-analytics[s3]" if protocol in {"s3", "s3a"} else f"fsspec[{protocol}]"
            raise ModuleNotFoundError(
                f"a store at {protocol}:// needs what is not installed: pip install '{extra}' ({error})"
            ) from error


@dataclass(frozen=True)
class ObjectFiles:
    """A prefix of an object store, by its URL. Credentials, in it or in the options, are never shown."""

    url: str = field(repr=False)
    storage_options: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def locate(self, path: str = "") -> str:
        """Return the full URL."""
        shown = place_name(self.url)
        return f"{shown}/{path}" if path else shown

    def tree(self, wanted: Callable[[str], bool] | None) -> dict[str, list[str]] | None:
        """List everything below the prefix in one sweep, which costs one request per thousand files."""
        fs, root = self._open()
        with _os_errors(self.locate()):
            try:
                found = _ls(fs, root) if wanted is None else fs.find(root)
            except FileNotFoundError:
                return None
        if not found:
            return None
        names: set[str] = set()
        listing: dict[str, list[str]] = {}
        for path in found:
            folder, separator, name = path[len(root) :].lstrip("/").partition("/")
            if not folder:
                continue  # the object without a name by which consoles make an empty folder
            names.add(folder + separator)
            if wanted and separator and wanted(folder):
                listing.setdefault(folder, []).extend([name] if name else [])
        return {"": sorted(names)} | {folder: sorted(entries) for folder, entries in listing.items()}

    def generation(self) -> object:
        """Read the objects that every compaction overwrites before it removes anything."""
        found = [self._content(path) for path in (_GENERATION, _OLD_GENERATION)]
        return None if found == [None, None] else found

    def renew_generation(self) -> None:
        """Overwrite them."""
        fs, root = self._open()
        for path in (_GENERATION, _OLD_GENERATION):
            if path == _GENERATION or self._content(path) is not None:
                with _os_errors(self.locate()):
                    fs.pipe_file(f"{root}/{path}", new_token().encode())

    def renewed_at(self) -> dt.datetime | None:
        """Return when the object of the marker was last written; None if the object store does not tell."""
        fs, root = self._open()
        with _os_errors(self.locate()):
            try:
                return fs.modified(f"{root}/{_GENERATION}").astimezone(dt.UTC)  # type: ignore[no-any-return]
            except (FileNotFoundError, NotImplementedError):
                return None

    def _content(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        """Get an object."""
        fs, root = self._open()
        with _os_errors(self.locate(path)):
            return bytes(fs.cat_file(f"{root}/{path}"))

    def total_size(self, paths: Iterable[str]) -> int:
        """Bytes of some objects, from one listing."""
        fs, root = self._open()
        with _os_errors(self.locate()):
            found = {info["name"]: int(info["size"]) for info in fs.find(root, detail=True).values()}
        return sum(found.get(f"{root}/{path}", 0) for path in paths)

    def create(self) -> None:
        """Write the marker."""
        fs, root = self._open()
        with _os_errors(self.locate()), contextlib.suppress(FileExistsError):
            fs.pipe_file(f"{root}/{_GENERATION}", new_token().encode(), mode="create")

    def publish(self, path: str, data: bytes) -> None:
        """Write an object, create-only where the store supports it."""
        fs, root = self._open()
        try:
            with _os_errors(self.locate(path)):
                fs.pipe_file(f"{root}/{path}", data, mode="create")
        except FileExistsError:
            raise
        except BaseException:
            # A PUT whose answer is lost may have succeeded.
            with contextlib.suppress(OSError):
                self.remove([path])
            raise

    def remove(self, paths: Iterable[str]) -> list[str]:
        """Delete objects."""
        fs, root = self._open()
        for path in paths:
            with _os_errors(self.locate(path)), contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{path}")
        return []

    def refuse_old(self) -> None:
        """Do nothing: no object keeps a release that knows only the first layout from listing the others."""

    def retire(self, folders: Iterable[str]) -> None:
        """Delete the marker of the first layout if none of its folders is left."""
        tree = self.tree(None)
        left = set() if tree is None else set(tree[""])
        if not left & {f"{folder}/" for folder in folders}:
            self.remove([_OLD_GENERATION])

    def sweep(self, paths: Iterable[str], *, older_than_s: float) -> int:  # noqa: ARG002 -- as for folders
        """Find nothing: a PUT leaves no temporaries."""
        return 0

    def _open(self) -> tuple[Any, str]:
        """Return the file system, which fsspec keeps, and the path of the root in it."""
        with _os_errors(self.locate()):
            fs, root = fsspec.url_to_fs(self.url, use_listings_cache=False, **self.storage_options)
        return fs, str(root).rstrip("/")


def _ls(fs: Any, root: str) -> list[str]:
    """List what is directly below a prefix; names of folders end in a slash."""
    return [info["name"] + "/" * (info["type"] == "directory") for info in fs.ls(root, detail=True)]


@contextlib.contextmanager
def _os_errors(place: str) -> Iterator[None]:
    """Convert what a client library raises of its own, such as missing credentials, into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins":
            raise
        raise OSError(0, type(error).__name__, place) from error
