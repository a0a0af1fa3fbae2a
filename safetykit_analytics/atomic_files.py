"""A file of results takes its place whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Characters of a name that its temporary one keeps, besides the suffix: file systems limit the length.
_KEPT = 40


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that takes its place when the block ends well, else goes away."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "expected the name of a file, found a folder", str(path))
    if path.exists() and not path.is_file():
        # A pipe or a device, such as /dev/stdout, gets the bytes; root could replace it. Not directly: some
        # writers need to go back in a file, and remove what they fail to write.
        import tempfile  # noqa: PLC0415 -- rarely needed, and --help must be quick

        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    # Not the link, which /dev/stdout is too where it leads to a file.
    place = path.resolve()
    temporary = place.with_name(f".tmp-{os.urandom(8).hex()}-{path.name[-_KEPT:]}")
    try:
        yield temporary
        temporary.replace(place)
    except OSError as error:
        # The error names the file that was asked for. Some errors of pandas have no number.
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
