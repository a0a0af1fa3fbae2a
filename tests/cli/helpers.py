"""Running the command as a user does: on a pipe, on a terminal, or as a process of its own."""

import contextlib
import fcntl
import io
import os
import pathlib
import pty
import struct
import subprocess
import sys
import termios
import threading
from unittest import mock

import pytest

import safetykit_analytics
from safetykit_analytics.cli import main

# Nothing of ours, as in pyproject.toml: pyparsing in matplotlib before 3.10.8, timedeltas in pandas 2.
OTHERS = [
    "-Wignore::DeprecationWarning:matplotlib._fontconfig_pattern",
    "-Wignore::DeprecationWarning:matplotlib._mathtext",
    "-Wignore:The 'generic' unit for NumPy timedelta:DeprecationWarning",
]
COMMAND = [sys.executable, "-W", "error", *OTHERS, "-m", "safetykit_analytics"]
WITHOUT = ("SAFETYKIT_API_KEY", "SAFETYKIT_BASE_URL", "SAFETYKIT_STORE", "NO_COLOR")


def environment(**changes):
    """This process's environment without what would change the command, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    here = str(pathlib.Path(safetykit_analytics.__file__).parents[1])
    return kept | {"COLUMNS": "100", "TERM": "xterm", "PYTHONPATH": here} | changes


def as_process(*args, cwd=None, **env):
    """Run to the end in a process of its own, with pipes for stdout and stderr."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


def on_pipe(*args, stdin="", encoding="utf-8", **env):
    """Run to the end in this process, with streams that are not a terminal; stdin=None is a closed one."""
    content = stdin.encode() if isinstance(stdin, str) else stdin
    given = None if content is None else io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=how) for how in ("strict", "replace")
    )
    code = _main(args, env, stdin=given, stdout=out, stderr=err)
    out.flush()
    err.flush()
    shown = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    return subprocess.CompletedProcess(args, code, *shown)


def on_terminal(*args, **env):
    """Run to the end in this process on a terminal of 100 columns; return exit code and text."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    shown = []

    def read():
        # The end is an error on Linux, and nothing elsewhere.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65_536):
                shown.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding="utf-8", closefd=False) as out:
        code = _main(args, env, stdout=out, stderr=out)
    os.close(theirs)
    reader.join(60)
    os.close(ours)
    return code, b"".join(shown).decode()


def _main(args, env, **streams):
    with (
        mock.patch.dict(os.environ, environment(**env), clear=True),
        mock.patch.multiple(sys, argv=["safetykit-analytics", *map(str, args)], **streams),
        pytest.raises(SystemExit) as left,
    ):
        main()
    return left.value.code
