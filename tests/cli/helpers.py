"""Running the command as a user does: another process, on a pipe or on a terminal."""

import fcntl
import os
import pathlib
import pty
import struct
import subprocess
import sys
import termios

import safetykit_analytics

# Nothing of ours, as in pyproject.toml: pyparsing in matplotlib before 3.10.8, timedeltas in pandas 2.
OTHERS = [
    "-Wignore::DeprecationWarning:matplotlib._fontconfig_pattern",
    "-Wignore::DeprecationWarning:matplotlib._mathtext",
    "-Wignore:The 'generic' unit for NumPy timedelta:DeprecationWarning",
]
COMMAND = [sys.executable, "-W", "error", *OTHERS, "-m", "safetykit_analytics"]
# As a terminal's Ctrl-C finds it: a test run in the background passes on that SIGINT is ignored.
INTERRUPTIBLE = [
    sys.executable,
    "-c",
    (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from safetykit_analytics.cli import main; main()"
    ),
]
WITHOUT = ("SAFETYKIT_API_KEY", "SAFETYKIT_BASE_URL", "SAFETYKIT_STORE", "NO_COLOR")


def environment(**changes):
    """This process's environment without what would change the command, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    here = str(pathlib.Path(safetykit_analytics.__file__).parents[1])
    return kept | {"COLUMNS": "100", "TERM": "xterm", "PYTHONPATH": here} | changes


def on_pipe(*args, cwd=None, stdin="", **env):
    """Run to the end with pipes for stdout and stderr."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


def on_terminal(*args, cwd=None, **env):
    """Run to the end on a terminal of 100 columns; give the exit code and all that was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # how Linux says that the other side has closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return process.wait(timeout=100), shown.decode()
