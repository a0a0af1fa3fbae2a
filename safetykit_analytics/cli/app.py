"""The command: its global options, its exit codes, and errors in one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import safetykit_analytics
from safetykit_analytics.cli.demo import demo
from safetykit_analytics.cli.health import check, compact, metrics, status, verify
from safetykit_analytics.cli.options import flattened
from safetykit_analytics.cli.poll import poll
from safetykit_analytics.cli.simulate import simulate
from safetykit_analytics.cli.tables import backlog, compare, completion, quality, rates, stalled
from safetykit_analytics.cli.terminal import Loudness, say
from safetykit_analytics.cli.weekly import report
from safetykit_analytics.errors import SafetyKitAnalyticsError
from safetykit_analytics.formatting import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "safetykit-analytics"

# typer carries a click of its own, which is private; this is its UsageError.
_UsageError = typer.BadParameter.__bases__[0]

_CTRL_C = 130
# Windows has no SIGHUP.
_LIKE_CTRL_C = ("SIGTERM", "SIGHUP")
# Errors of a full or closed stdout; an error of a file has the name of the file.
_OF_STDOUT = (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG)
_ANYWHERE = ("--debug", "--quiet", "-q", "--verbose", "-v")

# \b keeps the lines as they are.
_EPILOG = """Start with: safetykit-analytics demo

\b
Exit codes:
  0    success; also if there was nothing to do
  1    an error: no key, no store or a damaged one, an unknown name, a file that cannot be written
  2    a mistake in the arguments
  3    some ids failed
  4    no id succeeded
  5    check found something
  130  stopped by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
Every code but 0 comes with one line on stderr that says why."""

app = typer.Typer(
    name=NAME,
    help="Throughput and error rates of SafetyKit batches over time, by policy and version.",
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command, _example in (
    (demo, "--output /tmp/demo"),
    (poll, "--ids new-batches.txt --store snapshots"),
    (status, "--store snapshots"),
    (check, "--limits limits.toml --new-since told.json"),
    (metrics, "--output safetykit.prom"),
    (rates, "--freq 1D --tz Europe/Berlin --start 7d --csv rates.csv"),
    (backlog, "--freq 1D --by policy_id --start 7d"),
    (completion, "--by market --batches batches.csv"),
    (stalled, "--idle 6h"),
    (quality, "--policy-id spam --csv quality.csv"),
    (compare, "--policy-id hate-speech --baseline v7 --candidate v8"),
    (report, "--week 2025-W37 --output monday.html"),
    (compact, "--store snapshots"),
    (verify, "--store snapshots"),
    (simulate, "--port 8000 --write-ids ids.txt"),
):
    app.command(epilog=f"Example: {NAME} {_command.__name__} {_example}")(flattened(_command))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 -- typer passes it so
    if wanted:
        typer.echo(f"{NAME} {safetykit_analytics.__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only: no progress, no notes.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List every failure and every finding.")
    ] = False,
) -> None:
    """--debug, --quiet and --verbose may stand anywhere."""
    del version, debug
    ctx.obj = Loudness(quiet=quiet, verbose=verbose)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def main() -> NoReturn:
    """Run the command of this process and leave with its exit code."""
    _open_closed_streams()
    # As on stderr, characters that the terminal's encoding lacks, such as a true minus sign, become escapes.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # nothing has replaced it
    raise SystemExit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Open the null device for each stream that is closed, as by ``2>&-`` in a crontab.

    Otherwise the next file that is opened, such as a snapshot, would get its number.
    """
    for name, flags, mode in (
        ("stdin", os.O_RDONLY, "r"),
        # Text printed there would be lost unnoticed, so writing fails.
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, flags)
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- for good


def run(args: Sequence[str]) -> int:
    """Run one command, without the program's name, and return the exit code."""
    args = _global_options_first(args)
    debug = "--debug" in args
    quiet = "--quiet" in args or "-q" in args
    with _warnings_in_one_line(quiet=quiet), stoppable() as stop:
        try:
            code = _command_tree().main(args, prog_name=NAME, standalone_mode=False)
            sys.stdout.flush()
        except (KeyboardInterrupt, typer.Abort):
            code = _CTRL_C
        except SystemExit as leaving:
            # How typer reacts to a closed pipe; else it is shell completion that is done.
            return (
                _end_of_pipe() if isinstance(leaving.__context__, BrokenPipeError) else int(leaving.code or 0)
            )
        except BrokenPipeError:
            return _end_of_pipe()
        except Exception as error:  # noqa: BLE001 -- the last line of defence: nothing reaches a user as a traceback
            if debug:
                traceback.print_exc()
            _settle_output()
            return _explain(error)
    if code == _CTRL_C:  # typer makes it of a KeyboardInterrupt
        say(f"stopped by {stop.name}")
        return stop.exit_code
    return int(code or 0)


@dataclass
class Stop:
    """The signal that stopped the command."""

    name: str = "Ctrl-C"
    exit_code: int = _CTRL_C


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Handle SIGTERM and SIGHUP like Ctrl-C; one that is ignored, as under nohup, stays ignored."""
    stop = Stop()
    before = {}

    def interrupt(number: int, _: object) -> None:
        stop.name, stop.exit_code = signal.Signals(number).name, 128 + number
        if callable(signal.getsignal(signal.SIGINT)):
            # asyncio has a handler of its own there, which cancels what runs instead of breaking into it.
            signal.raise_signal(signal.SIGINT)
        else:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in _LIKE_CTRL_C:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@functools.cache
def _command_tree() -> Any:
    return typer.main.get_command(app)


def _end_of_pipe() -> int:
    """Return 0: our reader, such as `head`, has seen enough."""
    _settle_output()
    return 0


def _settle_output() -> None:
    """Flush stdout; if that fails, discard the rest, because Python would complain of it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> int:
    """Print an error in one line, and return its exit code."""
    if isinstance(error, _UsageError):
        context = getattr(error, "ctx", None)
        message = error.format_message()  # type: ignore[attr-defined] # mypy knows no base that is looked up
        say(f"error: {visible(message)} (see: {context.command_path if context else NAME} --help)")
        return 2
    # A ValueError is the library's way to refuse the value of an argument, as in freq="7h".
    is_usage = isinstance(error, ValueError) and not isinstance(error, SafetyKitAnalyticsError | OSError)
    if isinstance(error, SafetyKitAnalyticsError | OSError):
        said = _in_words(error)
    elif is_usage or isinstance(error, ModuleNotFoundError):
        said = str(error)
    else:
        said = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    say(f"error: {visible(said)}")
    return 2 if is_usage else 1


def _in_words(error: SafetyKitAnalyticsError | OSError) -> str:
    """Return the message of an error; of an OSError, its file and its reason without the number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.filename is None and type(error) is OSError and error.errno in _OF_STDOUT:
        return f"cannot write to stdout: {error.strerror}"
    ours = isinstance(error, SafetyKitAnalyticsError) or error.filename is None
    return error.strerror if ours else f"{error.filename}: {error.strerror}"


def _global_options_first(args: Sequence[str]) -> list[str]:
    """Move the options that may stand anywhere to where typer expects them."""
    ours = list(args[: args.index("--")]) if "--" in args else list(args)
    moved = [arg for arg in ours if arg in _ANYWHERE]
    return [*moved, *(arg for arg in ours if arg not in _ANYWHERE), *args[len(ours) :]]


@contextlib.contextmanager
def _warnings_in_one_line(*, quiet: bool) -> Iterator[None]:
    def show(message: Warning | str, *_: object) -> None:
        if not quiet:
            say(f"warning: {visible(str(message))}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
