"""How long batches take from creation to completion, those still running counted as such."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from safetykit_analytics.calendar import zone
from safetykit_analytics.flow import batch_summary
from safetykit_analytics.frame import STRING
from safetykit_analytics.labels import LABELS, natural_key, parse_by
from safetykit_analytics.rates.arguments import (
    check_confidence,
    check_executor,
    check_observations,
    check_policies,
    parse_as_of,
    parse_batches,
    parse_policies,
)
from safetykit_analytics.stats import quantile_bracket, quantile_interval

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

_QUANTILES = {"median": 0.5, "p90": 0.9}


def completion_time(
    observations: Any,
    *,
    by: str | Sequence[str] = ("policy_id", "policy_version"),
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
    policy_id: str | Sequence[str] | None = None,
    batches: pd.DataFrame | None = None,
    confidence: float | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Bracket the median and the 90th percentile of the time from creation to completion.

    A batch is completed at its first SUCCESS or ERROR. Polls tell only that this was after one of them and
    not after the next; a batch that is still running, or was cancelled, was not completed until then. The
    bracket holds the Kaplan-Meier quantile for any times between polls. It is never the mean of
    the batches that happen to be done, which are the quick ones.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    by : str or sequence of str
        Up to four of ``policy_id``, ``policy_version`` and the columns of `batches`; a batch counts for its
        last ones.
    tz, as_of, policy_id, batches : optional
        As for `rates`.

        .. versionadded:: 0.2.0 `policy_id` and `batches`.
    confidence : float, optional
        Add confidence intervals of the quantiles, for all batches like these, at this confidence.
    executor : optional
        As for `rates`.

    Returns
    -------
    DataFrame
        One row per group, in natural order, none last: the `by` columns, ``n_batches`` (int64, batches with
        a known creation time), ``n_running`` (int64, those of them that never were terminal),
        ``median_low``, ``median_high``, ``p90_low``, ``p90_high`` (timedelta64[us]): low < quantile ≤ high.
        NaT where it is not reached: with a low end and no high one the quantile is above the low end. With
        `confidence` also ``median_ci_low``, ``median_ci_high``, ``p90_ci_low``, ``p90_ci_high``, around the
        brackets.

    Raises
    ------
    InvalidFrame
        `observations` is not a frame of observations.
    UnknownName
        A column in `by` that nothing can be split by.
    ValueError
        `confidence` is not between 0 and 1.

    See Also
    --------
    safetykit_analytics.stats.quantile_bracket : formulas and sources.

    Examples
    --------
    Two batches ended between the polls at 13:00 and 14:00; a third is still running at 15:00:

    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> times = pd.to_datetime(["2026-03-02T13:00Z", "2026-03-02T14:00Z"] * 2 + ["2026-03-02T15:00Z"])
    >>> done = [False, True, False, True, False]
    >>> seen = pd.DataFrame({
    ...     "batch_id": ["batch_1", "batch_1", "batch_2", "batch_2", "batch_3"], "observed_at": times,
    ...     "created_at": pd.Timestamp("2026-03-02T12:00Z"),
    ...     "batch_status": ["SUCCESS" if end else "PENDING" for end in done], "batch_count": 100,
    ...     "success_count": [100 if end else 50 for end in done], "error_count": 0, "cancelled_count": 0,
    ...     "pending_count": [0 if end else 50 for end in done], "policy_id": "spam",
    ...     "policy_version": "v1", "has_download": False, "is_terminal": done,
    ... })
    >>> table = ska.completion_time(seen, by="policy_id")
    >>> table[["policy_id", "n_batches", "n_running", "median_low", "median_high"]]
      policy_id  n_batches  n_running      median_low     median_high
    0      spam          3          1 0 days 01:00:00 0 days 02:00:00
    """
    own, policies = parse_batches(batches), parse_policies(policy_id)
    names = parse_by(by, () if own is None else own.column_names[1:])
    until = parse_as_of(as_of, zone(tz))
    if confidence is not None:
        check_confidence(confidence)
    check_executor(executor)
    check_observations(observations)
    ends = batch_summary(
        observations,
        as_of=until,
        policies=policies,
        own=own,
        columns=(*LABELS, *DURATION_COLUMNS),
        executor=executor,
    )
    check_policies(observations, policies, found=bool(len(ends)))
    group, table = grouped(ends, names)
    times = durations(ends)
    group = group[times["is_known"].to_numpy()]
    times = times[times["is_known"]]
    table["n_batches"] = np.bincount(group, minlength=len(table)).astype(np.int64)
    running = group[times["is_running"].to_numpy()]
    table["n_running"] = np.bincount(running, minlength=len(table)).astype(np.int64)
    parts = _split(times, group, len(table))
    for name, quantile in _QUANTILES.items():
        _add(table, name, [quantile_bracket(*part, quantile) for part in parts])
    if confidence is not None:
        for name, quantile in _QUANTILES.items():
            found = [quantile_interval(*part, quantile, confidence=confidence) for part in parts]
            _add(table, f"{name}_ci", found)
    return table


def _add(table: pd.DataFrame, name: str, pairs: list[tuple[float, float]]) -> None:
    for place, end in enumerate(("low", "high")):
        table[f"{name}_{end}"] = timedeltas([pair[place] for pair in pairs])


def grouped(ends: pd.DataFrame, labels: Sequence[str]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Return a number for each row's combination of labels, in natural order of the columns, none last.

    Also one row of labels per group; with no labels, one row unless `ends` is empty.
    """
    n_groups = min(len(ends), 1)
    group = np.zeros(len(ends), dtype=np.int64)
    columns: dict[str, Any] = {}
    for label in labels:
        codes, names = pd.factorize(ends[label])
        order = sorted(range(len(names)), key=lambda place: natural_key(names[place]))
        rank = np.empty(len(names) + 1, dtype=np.int64)
        rank[order] = np.arange(len(names))
        rank[-1] = len(names)  # a missing label has code -1
        columns[label] = pd.array([*(names[place] for place in order), None], dtype=STRING)
        group = group * (len(names) + 1) + rank[codes]
    found, group = np.unique(group, return_inverse=True)
    heads = {}
    for label in reversed(labels):
        found, place = np.divmod(found, len(columns[label]))
        heads[label] = columns[label].take(place)
    index = pd.RangeIndex(len(found) if labels else n_groups)
    return group.astype(np.int64), pd.DataFrame({label: heads[label] for label in labels}, index=index)


#: What `durations` needs of a batch.
DURATION_COLUMNS = (
    "created_at",
    "first_observed_at",
    "last_observed_at",
    "first_terminal_at",
    "first_terminal_status",
    "before_terminal_at",
)


def durations(ends: pd.DataFrame) -> pd.DataFrame:
    """Return the microseconds from creation between which each batch ended, or its age when it was last seen.

    One row per row of `ends`: ``lower``, ``upper`` (float64) as `quantile_bracket` takes them;
    ``is_event``: completed; ``is_running``: never terminal; ``is_known``: it has a creation time (the
    others' numbers mean nothing).
    """
    # A clock that runs ahead may put the creation after the first observation.
    created = ends["created_at"].where(
        ends["created_at"] <= ends["first_observed_at"], ends["first_observed_at"]
    )
    is_known = ends["created_at"].notna()
    is_running = ends["first_terminal_at"].isna()
    last = ends["last_observed_at"]
    lower = last.where(is_running, ends["before_terminal_at"].fillna(created))
    upper = last.where(is_running, ends["first_terminal_at"])
    return pd.DataFrame(
        {
            "lower": _microseconds(lower - created).clip(lower=0.0),
            "upper": _microseconds(upper - created).clip(lower=0.0),
            "is_event": ends["first_terminal_status"].isin(["SUCCESS", "ERROR"]).astype(bool),
            "is_running": is_running.astype(bool),
            "is_known": is_known.astype(bool),
        }
    )


def median_brackets(ends: pd.DataFrame, group: NDArray[np.int64], n_groups: int) -> list[tuple[float, float]]:
    """Bracket the median time to completion of each group of batches, in microseconds."""
    times = durations(ends)
    is_known = times["is_known"].to_numpy()
    return [quantile_bracket(*part, 0.5) for part in _split(times[is_known], group[is_known], n_groups)]


def _split(times: pd.DataFrame, group: NDArray[np.int64], n_groups: int) -> list[tuple[Any, Any, Any]]:
    """Return each group's lower and upper ends and which of them are completions."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(n_groups + 1))
    lower, upper, is_event = (times[name].to_numpy()[order] for name in ("lower", "upper", "is_event"))
    return [(lower[a:b], upper[a:b], is_event[a:b]) for a, b in itertools.pairwise(bounds)]


def timedeltas(microseconds: Sequence[float]) -> NDArray[np.timedelta64]:
    """Convert microseconds into timedelta64[us]; NaT for inf."""
    values = np.asarray(microseconds, dtype=np.float64)
    is_finite = np.isfinite(values)
    found = np.where(is_finite, values, 0.0).astype(np.int64).astype("timedelta64[us]")
    found[~is_finite] = np.timedelta64("NaT", "us")
    return found


def _microseconds(duration: pd.Series[Any]) -> pd.Series[Any]:
    return duration / pd.Timedelta(microseconds=1)
