"""Observations → one row per policy version, candidates set against their baseline.

Place in the flow: flow, stats → **versions** → `comparison`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from safetykit_analytics import flow
from safetykit_analytics.compare.comparison import VersionComparison
from safetykit_analytics.compare.sentences import sentences
from safetykit_analytics.errors import UnknownName
from safetykit_analytics.frame import STRING
from safetykit_analytics.labels import natural_key
from safetykit_analytics.rates.arguments import checked_confidence, checked_observations
from safetykit_analytics.rates.completion import grouped, median_brackets, timedeltas
from safetykit_analytics.stats import adjust, cluster_rates, differences, verdicts
from safetykit_analytics.wording import NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LABELS = ("policy_id", "policy_version")


def compare_versions(
    observations: Any,
    *,
    policy_id: str | None,
    baseline: str | None,
    candidate: str | None = None,
    confidence: float = 0.95,
    correction: Literal["holm", "bh", "none"] | None = None,
) -> VersionComparison:
    """Compare the error rates of policy versions, on the final counts of their batches.

    The batch is the unit, as decisions of one batch resemble each other. A batch counts if it is terminal,
    has processed something, and kept its policy and version; the others are counted in ``note``.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    policy_id : str or None
        Which policy; ``"(none)"`` for batches without one. None: scan all policies, each with its own
        baseline.
    baseline : str or None
        The version to compare with; ``"(none)"`` for batches without one. None: the first version in natural
        order (v9 before v10) other than `candidate`. In a scan a policy without this version is listed
        with the note ``no_baseline``.
    candidate : str, optional
        The version to compare. Default: every other version. In a scan policies without it are left out.
    confidence : float
        Of the intervals; a difference counts from p < 1 - confidence.
    correction : {"holm", "bh", "none"}, optional
        How p-values are adjusted for looking at several comparisons. Default: Holm within one policy,
        Benjamini-Hochberg in a scan.

    Returns
    -------
    VersionComparison
        ``table``, ``sentences``, ``to_markdown()``; shows itself in notebooks.

    Raises
    ------
    UnknownName
        No such policy or version; the message lists those that are there.
    ValueError
        Baseline and candidate are the same; `confidence` is not between 0 and 1; no such correction.
    InvalidFrame
        `observations` is not a frame of observations.

    See Also
    --------
    safetykit_analytics.stats.cluster_rates, safetykit_analytics.stats.differences : formulas and sources.

    Notes
    -----
    Versions are not assigned to batches at random, so that a difference need not be the version's doing:
    ``overlap`` says how far their batches lie in the same time.

    Examples
    --------
    Twelve batches of 1,000 decisions, six of each version, all of them done two hours after their creation:

    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> errors = [18, 25, 21, 30, 16, 22, 41, 52, 38, 45, 60, 49]
    >>> created = pd.date_range("2026-03-02", periods=12, freq="h", tz="UTC")
    >>> seen = pd.DataFrame({
    ...     "batch_id": [f"batch_{i}" for i in range(12)], "observed_at": created + pd.Timedelta(hours=2),
    ...     "created_at": created, "batch_status": "SUCCESS", "batch_count": 1000,
    ...     "success_count": [1000 - y for y in errors], "error_count": errors, "cancelled_count": 0,
    ...     "pending_count": 0, "policy_id": "spam", "policy_version": ["v1"] * 6 + ["v2"] * 6,
    ...     "has_download": False, "is_terminal": True,
    ... })
    >>> found = ska.compare_versions(seen, policy_id="spam", baseline="v1")
    >>> print(found.sentences[0])
    v2 is associated with a higher error rate than v1: +2.55 pp (95 % CI +1.67 to +3.43 pp), p < 0.001, ...
    >>> found.table[["policy_version", "n_batches", "error_rate", "verdict"]]
      policy_version  n_batches  error_rate verdict
    0             v1          6      0.0220    <NA>
    1             v2          6      0.0475  higher
    """
    if baseline is not None and baseline == candidate:
        raise ValueError(
            f"baseline and candidate are both {baseline!r}: a version cannot be compared with itself"
        )
    method = correction if correction is not None else "holm" if policy_id is not None else "bh"
    adjust([], method)  # an unknown correction is an error whatever the data hold
    checked_confidence(confidence)
    checked_observations(observations)
    ends = flow.batch_summary(observations)
    shown = {name: ends[name].fillna(NONE) for name in _LABELS}
    if policy_id is not None:
        known = sorted(shown["policy_id"].unique(), key=natural_key)
        if policy_id not in known:
            raise UnknownName("policy", policy_id, known)
        ends = ends[(shown["policy_id"] == policy_id).to_numpy(dtype=bool)]
    group, heads = grouped(ends, _LABELS)
    table = _table(
        ends, group, heads, _pairs(heads, baseline, candidate), confidence=confidence, correction=method
    )
    return VersionComparison(
        table=table,
        sentences=sentences(table, confidence=confidence, correction=method),
        confidence=confidence,
        correction=method,
    )


def _pairs(heads: pd.DataFrame, baseline: str | None, candidate: str | None) -> pd.DataFrame:
    """Choose the rows of the table: the group of each, and that of its baseline, -1 for none or itself."""
    versions = heads["policy_version"].fillna(NONE).tolist()
    for name in (baseline, candidate):
        if name is not None and name not in versions:
            policies = heads["policy_id"].fillna(NONE).unique().tolist()
            where = f"policy {policies[0]!r}" if len(policies) == 1 else "any policy"
            raise UnknownName("version", name, dict.fromkeys(versions), where=where)
    rows = []
    policies = heads.groupby("policy_id", dropna=False, sort=False).ngroup().to_numpy()
    for members in np.split(np.arange(len(heads)), np.flatnonzero(np.diff(policies)) + 1):
        places = {versions[member]: int(member) for member in members}
        if candidate is not None and candidate not in places:
            continue
        others = [place for name, place in places.items() if name != candidate]
        first = others[0] if others else -1
        base = first if baseline is None else places.get(baseline, -1)
        if base >= 0:
            rows.append((base, -1, True))
        chosen = places.values() if candidate is None else [places[candidate]]
        rows.extend((place, base, False) for place in chosen if place != base)
    return pd.DataFrame(rows, columns=["group", "base", "is_baseline"]).astype(
        {"group": "int64", "base": "int64", "is_baseline": "bool"}
    )


def _table(
    ends: pd.DataFrame,
    group: NDArray[np.int64],
    heads: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    confidence: float,
    correction: Literal["holm", "bh", "none"],
) -> pd.DataFrame:
    n_groups = len(heads)
    processed = (ends["success_count"] + ends["error_count"]).to_numpy()
    is_final = (ends["is_terminal"] & ~ends["label_changed"]).to_numpy(dtype=bool)
    is_used = is_final & (processed > 0)
    used, own = ends[is_used], group[is_used]
    errors, cancelled = used["error_count"].to_numpy(), used["cancelled_count"].to_numpy()
    rates = cluster_rates(own, errors, processed[is_used], n_groups=n_groups, confidence=confidence)

    def total(values: Any) -> NDArray[np.float64]:
        return np.bincount(own, weights=values, minlength=n_groups).astype(np.float64)

    finished = rates.processed + total(cancelled)
    hours, timed = _hours(used)
    start, end = _span(used, own, n_groups)
    median = median_brackets(ends, group, n_groups)
    # Everything so far is one value per group; the table has one row per chosen group.
    row, base = pairs["group"].to_numpy(), pairs["base"].to_numpy()
    against = np.where((base >= 0) & (rates.n_clusters[base] > 0), base, -1)
    found = differences(rates, against, row, confidence=confidence)
    is_compared = against >= 0
    p_value = np.where(is_compared, found.p_value, np.nan)
    p_adjusted = adjust(p_value, correction)

    def if_compared(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(is_compared, values, np.nan)

    verdict = verdicts(found, p_adjusted, confidence=confidence)
    verdict[~is_compared] = "not enough batches"
    verdict[pairs["is_baseline"].to_numpy()] = None
    chosen = heads.iloc[row].reset_index(drop=True)
    columns = {
        "role": pd.array(np.where(pairs["is_baseline"], "baseline", "candidate"), dtype=STRING),
        "n_batches": rates.n_clusters[row],
        "processed": rates.processed[row].astype(np.int64),
        "error": rates.errors[row].astype(np.int64),
        "error_rate": rates.rate[row],
        "error_rate_low": rates.low[row],
        "error_rate_high": rates.high[row],
        "cancelled_share": _ratio(total(cancelled), finished)[row],
        "throughput_per_hour": _ratio(total(processed[is_used] * timed), total(hours))[row],
        "difference": if_compared(found.difference),
        "difference_low": if_compared(found.low),
        "difference_high": if_compared(found.high),
        "relative_risk": if_compared(found.relative_risk),
        "relative_risk_low": if_compared(found.relative_risk_low),
        "relative_risk_high": if_compared(found.relative_risk_high),
        "df": if_compared(found.df),
        "p_value": p_value,
        "p_adjusted": p_adjusted,
        "mde": if_compared(found.mde),
        "overlap": if_compared(_overlap(start[against], end[against], start[row], end[row])),
        "verdict": pd.array(verdict, dtype=STRING),
        "median_low": timedeltas([median[place][0] for place in row]),
        "median_high": timedeltas([median[place][1] for place in row]),
    }
    table = chosen.assign(**columns)
    left_out = np.bincount(group, minlength=n_groups) - np.bincount(own, minlength=n_groups)
    missing = np.where(is_compared | pairs["is_baseline"].to_numpy(), "", "no_baseline")
    n_final = np.bincount(group[is_final], minlength=n_groups)
    n_timed = np.bincount(group[ends["created_at"].notna().to_numpy()], minlength=n_groups)
    table["note"] = pd.array(
        [
            _note(
                rates.note[place] if rates.n_clusters[place] else _NOTHING[bool(n_final[place])],
                f"batches_excluded:{left_out[place]}" if left_out[place] else "",
                found.note[i] if is_compared[i] and rates.n_clusters[place] else missing[i],
                "no_created_at"
                if np.isnan(columns["throughput_per_hour"][i]) and rates.n_clusters[place]
                else "",
                "" if np.isfinite(median[place][1]) else _NOT_TIMED[bool(n_timed[place])],
            )
            for i, place in enumerate(row)
        ],
        dtype=STRING,
    )
    return table


#: Why a version has no batches to go by: none is terminal, or those that are processed nothing.
_NOTHING = {False: "no_terminal_batches", True: "no_decisions"}
#: Why there is no upper end of the median: no batch has a creation time, or too many are still running.
_NOT_TIMED = {False: "no_created_at", True: "median_not_reached"}


def _note(*codes: str) -> str:
    return ";".join(dict.fromkeys(code for code in codes if code))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0.0)
    return found


def _hours(used: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Hours from creation to the first terminal observation, 0 where the creation is not known."""
    is_timed = used["created_at"].notna().to_numpy()
    passed = (used["first_terminal_at"] - _started(used)) / pd.Timedelta(hours=1)
    return np.where(is_timed, passed.to_numpy(dtype=np.float64), 0.0), is_timed


def _started(used: pd.DataFrame) -> pd.Series[Any]:
    """When a batch was created, or first observed where that is not known or not earlier."""
    first = used["first_observed_at"]
    return used["created_at"].where(used["created_at"] <= first, first)


def _span(
    used: pd.DataFrame, own: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First start and last end of each group's batches, in microseconds; NaN for a group without any."""
    start = _started(used).groupby(own).min().reindex(range(n_groups))
    end = used["first_terminal_at"].groupby(own).max().reindex(range(n_groups))
    return _microseconds(start), _microseconds(end)


def _microseconds(instants: pd.Series[Any]) -> NDArray[np.float64]:
    since = (instants - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(microseconds=1)
    found: NDArray[np.float64] = since.to_numpy(dtype=np.float64)
    return found


def _overlap(
    start_1: NDArray[np.float64],
    end_1: NDArray[np.float64],
    start_2: NDArray[np.float64],
    end_2: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intersection / union of two time spans: 1 for the same instant, 0 for spans that do not touch.

    NaN where one of them is not known, as of a version without batches to go by.
    """
    common = np.maximum(np.minimum(end_1, end_2) - np.maximum(start_1, start_2), 0.0)
    either = (end_1 - start_1) + (end_2 - start_2) - common
    found: NDArray[np.float64] = ((start_1 == start_2) & (end_1 == end_2)).astype(np.float64)
    np.divide(common, either, out=found, where=either > 0.0)
    found[np.isnan(either)] = np.nan
    return found
