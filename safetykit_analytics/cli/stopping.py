"""Stop on Ctrl-C, and on the signals of a service manager or of a terminal that closes."""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

# Windows has no SIGHUP.
_LIKE_CTRL_C = ("SIGTERM", "SIGHUP")


@dataclass
class Stop:
    """The signal that stopped the command."""

    name: str = "Ctrl-C"
    exit_code: int = 130


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
            _raise()

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


def _raise() -> NoReturn:
    raise KeyboardInterrupt
