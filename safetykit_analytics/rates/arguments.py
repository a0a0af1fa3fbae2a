"""Arguments that several tables take, refused before any work is done, in words that say what to pass.

Place in the flow: below every table of this package; compare and the report use it too. Reads no observation.
"""

from __future__ import annotations

import os
from numbers import Real

import pandas as pd

from safetykit_analytics.calendar import Frequency, parse_freq
from safetykit_analytics.flow.partitions import Partitioned
from safetykit_analytics.stats.rate import check_confidence


def checked_observations(observations: object) -> None:
    """Refuse what cannot hold observations, with what to pass instead.

    Raises
    ------
    TypeError
        Neither a DataFrame nor anything with partitions.
    """
    if isinstance(observations, pd.DataFrame | Partitioned) and not isinstance(observations, type):
        return
    hint = ""
    # The value itself is not shown: a store's URL may hold a key.
    if isinstance(observations, str | os.PathLike):
        hint = "; if that is where a store is, pass SnapshotStore(path)"
    elif isinstance(getattr(observations, "frame", None), pd.DataFrame):
        hint = "; pass its .frame"
    raise TypeError(
        "observations: expected a DataFrame of observations or a SnapshotStore, found "
        f"{_kind(observations)}{hint}"
    )


def checked_confidence(confidence: object) -> None:
    """Refuse what is no share between 0 and 1.

    Raises
    ------
    TypeError
        Not a number.
    ValueError
        Not between 0 and 1.
    """
    if not isinstance(confidence, Real):
        raise TypeError(
            f"confidence: expected a number between 0 and 1, such as 0.95; found {type(confidence).__name__}"
        )
    check_confidence(float(confidence))


def checked_executor(executor: object) -> None:
    """Refuse what cannot run tasks.

    Raises
    ------
    TypeError
        Neither an executor nor None.
    """
    if executor is None or (not isinstance(executor, type) and callable(getattr(executor, "submit", None))):
        return
    raise TypeError(
        "executor: expected None or a concurrent.futures.Executor, such as "
        f"ProcessPoolExecutor(max_workers=4); found {_kind(executor)}"
    )


def frequency_or_auto(freq: object) -> Frequency | None:
    """Read a frequency; None for ``"auto"``.

    Raises
    ------
    ValueError
        Neither.
    """
    if freq == "auto":
        return None
    try:
        return parse_freq(freq)
    except ValueError as error:
        raise ValueError(f"{error}, or 'auto' for the finest that the polling supports") from None


def _kind(value: object) -> str:
    """Say what was found: its type, or that it is one."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
