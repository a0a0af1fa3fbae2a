"""A progress bar where somebody watches: on a terminal or in a notebook."""

from __future__ import annotations

import sys
import warnings
from typing import Any


class Progress:
    """Ids done and failed, and the rate; if `wanted` is None, on a terminal or in a notebook only."""

    def __init__(self, wanted: bool | None, n_ids: int | None) -> None:  # noqa: FBT001 -- the public argument
        self._bar: Any = None
        self._n_failed = 0
        self._is_waiting = False
        if _on_terminal() or _in_notebook() if wanted is None else wanted:
            with warnings.catch_warnings():
                # Without ipywidgets tqdm falls back to text, which is what we want, and warns, which is not.
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm  # noqa: PLC0415 -- loads ipywidgets where there are some

                self._bar = tqdm(total=n_ids, unit="batch", unit_scale=False, leave=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def count(self, *, failed: bool) -> None:
        """Count one id."""
        if self._bar is None:
            return
        self._n_failed += failed
        if failed or self._is_waiting:
            self._is_waiting = False
            self._show()
        self._bar.update()

    def wait(self, seconds: float) -> None:
        """Show that the API asked the run to wait."""
        if self._bar is not None:
            self._is_waiting = True
            self._show(f"waiting {seconds:.1f} s as the API asked")
            self._bar.refresh()

    def _show(self, note: str = "") -> None:
        failed = f"failed={self._n_failed}" if self._n_failed else ""
        self._bar.set_postfix_str(", ".join(filter(None, (failed, note))), refresh=False)


def _on_terminal() -> bool:
    # A process without a console, or with stderr closed, has None there.
    return sys.stderr is not None and sys.stderr.isatty()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
