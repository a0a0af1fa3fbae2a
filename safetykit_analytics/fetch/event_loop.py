"""Run a coroutine from synchronous code, also in a notebook, where an event loop already runs."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end: in this thread, or in one of its own where this one's loop is running.

    Ctrl-C cancels the coroutine, waits until it has cleaned up, and comes out as KeyboardInterrupt.
    """
    try:
        asyncio.get_running_loop()
        in_loop = True
    except RuntimeError:
        in_loop = False
    # Not inside the except: that error would stand behind every error of the work.
    return _run_in_thread(work) if in_loop else _run(work)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        # A transport of the caller's may stay open. Its connections end with this loop, so what it
        # warns of when it is collected is noise.
        runner.get_loop().set_exception_handler(_ignore_unclosed)
        return runner.run(work)


def _ignore_unclosed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not str(context.get("message")).startswith("Unclosed "):
        loop.default_exception_handler(context)


def _run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    task: asyncio.Task[T] | None = None

    async def run() -> T:
        nonlocal task
        task = asyncio.ensure_future(work)
        return await task

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="safetykit-analytics") as pool:
        future = pool.submit(context.run, _run, run())
        try:
            return future.result()
        except KeyboardInterrupt:
            if task is not None and not task.done():
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise
