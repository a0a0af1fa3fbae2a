"""Arguments that several tables share: parsed and checked before any work is done."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from safetykit_analytics.calendar import Frequency, parse_freq, parse_instant
from safetykit_analytics.errors import InvalidFrame, UnknownName
from safetykit_analytics.flow import HasCohorts, known_policies
from safetykit_analytics.formatting import NONE
from safetykit_analytics.schema import OBSERVATION_SCHEMA
from safetykit_analytics.stats import check_level

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

# Columns that a table has already.
_TAKEN = frozenset(OBSERVATION_SCHEMA.names) | {
    "bucket_start", "bucket_end", "success", "error", "cancelled", "processed", "throughput_per_hour",
    "error_rate", "error_rate_low", "error_rate_high", "n_batches", "processed_low", "processed_high",
    "coverage", "smeared_share", "reprocessed", "partial", "note", "pending", "n_open", "eta_low",
    "eta_high", "idle_at_least", "idle_at_most", "state", "n_running", "median_low", "median_high",
    "p90_low", "p90_high", "kind", "detail", "value", "first_observed_at", "last_observed_at",
    "label_changed", "first_terminal_at", "first_terminal_status", "before_terminal_at",
    "last_moved_after", "last_moved_before", "center", "lower_limit", "upper_limit", "sigma_z",
    "out_of_control", "segment",
}  # fmt: skip


def check_observations(observations: object) -> None:
    """Raise TypeError for what is neither a DataFrame nor a store."""
    if isinstance(observations, pd.DataFrame | HasCohorts) and not isinstance(observations, type):
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


def check_confidence(confidence: object) -> None:
    """Raise TypeError for what is not a number, ValueError for one that is not between 0 and 1."""
    if not isinstance(confidence, Real):
        raise TypeError(
            f"confidence: expected a number between 0 and 1, such as 0.95; found {type(confidence).__name__}"
        )
    check_level(float(confidence))


def check_executor(executor: object) -> None:
    """Raise TypeError for what is neither an executor nor None."""
    if executor is None or (not isinstance(executor, type) and callable(getattr(executor, "submit", None))):
        return
    raise TypeError(
        "executor: expected None or a concurrent.futures.Executor, such as "
        f"ProcessPoolExecutor(max_workers=4); found {_kind(executor)}"
    )


def frequency_or_auto(freq: object) -> Frequency | None:
    """Read a frequency; None for ``"auto"``. Raises ValueError if it is invalid."""
    if freq == "auto":
        return None
    try:
        return parse_freq(freq)
    except ValueError as error:
        raise ValueError(f"{error}, or 'auto' for the finest that the polling supports") from None


def parse_window(start: object, end: object, tz: ZoneInfo) -> tuple[int | None, int | None]:
    """Read `start` and `end`, either of which may be missing, as microseconds since 1970 UTC."""
    first = None if start is None else parse_instant(start, "start", tz)
    stop = None if end is None else parse_instant(end, "end", tz)
    if first is not None and stop is not None and first >= stop:
        raise ValueError(f"start={start!r} is not before end={end!r}; expected start < end")
    return first, stop


def parse_as_of(as_of: object, tz: ZoneInfo) -> int | None:
    """Read `as_of`, which may be missing, as microseconds since 1970 UTC; a date is midnight in `tz`."""
    return None if as_of is None else parse_instant(as_of, "as_of", tz)


def parse_length(value: object, name: str) -> pd.Timedelta:
    """Read a length of time above zero, such as ``"30min"``; raises ValueError for anything else."""
    if isinstance(value, (int, float)):
        raise ValueError(  # noqa: TRY004 -- as any other wrong length
            f"{name}={value!r} has no unit; expected a length of time such as '30min' or '2h'"
        )
    try:
        # pandas writes a day "D" and warns of "d"; "1d" is what people write.
        found = pd.Timedelta(re.sub(r"(?<=[\d\s])d\b", "D", value) if isinstance(value, str) else value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}={value!r} is not a length of time; expected one such as '30min' or '2h'"
        ) from error
    if not found > pd.Timedelta(0):
        raise ValueError(f"{name}={value!r}: expected a length of time above zero")
    return found


def parse_policies(policy_id: object) -> tuple[str, ...] | None:
    """Read `policy_id`: one policy, several, or None for all; raises TypeError for what is not text."""
    if policy_id is None:
        return None
    if not isinstance(policy_id, Iterable):
        raise TypeError(f"policy_id: expected a name or names, found {_kind(policy_id)}")
    names = (policy_id,) if isinstance(policy_id, str) else tuple(policy_id)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"policy_id: expected names, found {_kind(name)}")
    return names


def check_policies(observations: Any, policies: tuple[str, ...] | None, *, found: bool) -> None:
    """Raise UnknownName, with the policies that are there, if nothing was found because one is unknown.

    Known policies are looked up only then.
    """
    if policies is None or found:
        return
    known = known_policies(observations)
    for name in policies:
        if known and name not in known:
            raise UnknownName("policy", name, known)


def parse_batches(batches: object) -> Any:
    """Read `batches`: a DataFrame with ``batch_id`` and columns of the caller's own, as text.

    In the Arrow table ``batch_id`` comes first, and a missing value is null. Raises TypeError for what is
    not a DataFrame; InvalidFrame without ``batch_id``, for a batch twice, for a column of observations or
    of a result.
    """
    if batches is None:
        return None
    if not isinstance(batches, pd.DataFrame):
        raise TypeError(f"batches: expected a DataFrame with a column 'batch_id', found {_kind(batches)}")
    names = [str(name) for name in batches.columns]
    if names.count("batch_id") != 1:
        raise InvalidFrame(f"batches: expected one column 'batch_id', found the columns {names}")
    for name in names:
        if name != "batch_id" and (name in _TAKEN or names.count(name) > 1):
            raise InvalidFrame(f"batches: the column {name!r} is there already; rename it")
    ids = batches["batch_id"]
    if ids.isna().any():
        raise InvalidFrame(f"batches: row {int(ids.isna().argmax())} has no batch_id")
    if ids.duplicated().any():
        raise InvalidFrame(f"batches: {ids[ids.duplicated()].iloc[0]!r} has more than one row; expected one")
    own = [name for name in names if name != "batch_id"]
    return pa.table({name: _text(batches[name]) for name in ("batch_id", *own)})


def _text(values: pd.Series[Any]) -> Any:
    texts = [None if is_none else str(value) for value, is_none in zip(values, values.isna(), strict=True)]
    # As with policies, "" and the label of the missing one mean none.
    return pa.array([None if text in {None, "", NONE} else text for text in texts], pa.string())


def _kind(value: object) -> str:
    """Describe what was found: its type, or that it is one."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
