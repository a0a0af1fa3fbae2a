"""Observations → one row per policy version, candidates set against their baseline."""

from __future__ import annotations

import datetime as dt
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from safetykit_analytics import flow
from safetykit_analytics.arrays import ratio, run_starts
from safetykit_analytics.calendar import HOUR_US, zone
from safetykit_analytics.compare.comparison import VersionComparison
from safetykit_analytics.compare.pairs import NEVER, Ended, choose_pairs
from safetykit_analytics.compare.sentences import sentences
from safetykit_analytics.compare.verdicts import CHANGED, COLUMNS, judge
from safetykit_analytics.frame import STRING
from safetykit_analytics.rates import (
    DURATION_COLUMNS,
    check_confidence,
    check_observations,
    check_policies,
    grouped,
    median_brackets,
    parse_as_of,
    parse_policies,
    parse_window,
    timedeltas,
)
from safetykit_analytics.stats import adjust, cluster_rates

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from numpy.typing import NDArray

_LABELS = ("policy_id", "policy_version")
#: What a comparison needs of each batch.
BATCH_COLUMNS = (
    "batch_id", *_LABELS, "label_changed", "success_count", "error_count", "cancelled_count", "is_terminal",
    *DURATION_COLUMNS,
)  # fmt: skip
_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_EPOCH = dt.date(1970, 1, 1)
Time = dt.datetime | dt.date | str


def compare_versions(
    observations: Any,
    *,
    policy_id: str | None = None,
    baseline: str | None = None,
    candidate: str | None = None,
    start: Time | None = None,
    end: Time | None = None,
    tz: str = "UTC",
    as_of: Time | None = None,
    looks: Literal["any", "once"] = "any",
    confidence: float = 0.95,
    correction: Literal["holm", "bh", "none"] | None = None,
) -> VersionComparison:
    """Compare the error rates of policy versions, on the final counts of their batches.

    Batches that ended close to one another form a stratum, and versions are compared within strata alone:
    what changes over time for both does not count. A batch counts if it is terminal, has processed
    something, and kept its policy and version; the others are counted in ``note``.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
    policy_id : str, optional
        Which policy; ``"(none)"`` for batches without one. Default: all policies, each with its own baseline.
    baseline : str, optional
        The version to compare with; ``"(none)"`` for batches without one. Default: of each candidate the
        version with most batches ended in the 28 days before the candidate's first end. In a scan a policy
        without this version is listed with the note ``no_baseline``.
    candidate : str, optional
        The version to compare. Default: every version but the baseline, or but the oldest. In a scan policies
        without it are left out.
    start, end : aware datetime, date or str, optional
        Compare the batches that ended in [start, end). Strata are those of all batches.
    tz : str
        IANA zone whose days make the strata; a date is its midnight.
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made. Default: the last observation.
    looks : {"any", "once"}
        "any": verdict and interval hold however often and whenever the comparison is repeated, as batches
        arrive. "once": for a single look that was planned; finds smaller differences.
    confidence : float
        Of the intervals; a verdict needs an adjusted p-value below 1 - confidence.
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
        No such policy, version or time zone; the message lists those that are there.
    ValueError
        Baseline and candidate are the same; `start` is not before `end`; `looks`, `correction` or
        `confidence` is not one of those above; a time without a zone.
    InvalidFrame
        `observations` is not a frame of observations.

    See Also
    --------
    safetykit_analytics.stats.evidence, safetykit_analytics.stats.permutation_p : formulas and sources.

    Notes
    -----
    The tests are exact if, within a stratum, neither the sizes of batches nor which of them get a version
    depend on the version; where sizes do, strata are cut into classes of size. Versions are not assigned to
    batches at random, so that a difference need not be the version's doing: ``design`` says whether they ran
    side by side.

    Examples
    --------
    Twenty-four batches of 1,000 decisions, twelve of each version, all of them done two hours after creation:

    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> errors = [18, 41, 25, 52, 21, 38, 30, 45, 16, 60, 22, 49] * 2
    >>> created = pd.date_range("2026-03-02", periods=24, freq="h", tz="UTC")
    >>> seen = pd.DataFrame({
    ...     "batch_id": [f"batch_{i}" for i in range(24)], "observed_at": created + pd.Timedelta(hours=2),
    ...     "created_at": created, "batch_status": "SUCCESS", "batch_count": 1000,
    ...     "success_count": [1000 - y for y in errors], "error_count": errors, "cancelled_count": 0,
    ...     "pending_count": 0, "policy_id": "spam", "policy_version": ["v1", "v2"] * 12,
    ...     "has_download": False, "is_terminal": True,
    ... })
    >>> found = ska.compare_versions(seen, policy_id="spam")
    >>> print(found.sentences[0])
    v2 is associated with a higher error rate than v1, side by side: +2.51 pp (95 % interval ...
    >>> found.table[["policy_version", "n_batches", "error_rate", "verdict"]]
      policy_version  n_batches  error_rate verdict
    0             v1         12      0.0220    <NA>
    1             v2         12      0.0475  higher
    """
    if baseline is not None and baseline == candidate:
        raise ValueError(
            f"baseline and candidate are both {baseline!r}: a version cannot be compared with itself"
        )
    method = correction if correction is not None else "holm" if policy_id is not None else "bh"
    adjust([], method)  # an unknown correction is an error whatever the data hold
    if looks not in {"any", "once"}:
        raise ValueError(f"looks: expected 'any' or 'once', found {looks!r}")
    check_confidence(confidence)
    check_observations(observations)
    place = zone(tz)
    first, last = parse_window(start, end, place)
    at = parse_as_of(as_of, place)
    policies = parse_policies(policy_id)
    batches = flow.batch_summary(observations, as_of=at, policies=policies, columns=BATCH_COLUMNS)
    check_policies(observations, policies, found=bool(len(batches)))
    return compare_batches(
        batches,
        baseline=baseline,
        candidate=candidate,
        window=(_EARLIEST if first is None else first, _LATEST if last is None else last),
        tz=place,
        as_of_us=at,
        looks=looks,
        confidence=confidence,
        correction=method,
    )


def compare_batches(
    batches: pd.DataFrame,
    *,
    baseline: str | None = None,
    candidate: str | None = None,
    window: tuple[int, int] = (_EARLIEST, _LATEST),
    tz: ZoneInfo,
    as_of_us: int | None,
    looks: Literal["any", "once"] = "any",
    confidence: float = 0.95,
    correction: Literal["holm", "bh", "none"] = "bh",
    wanted: NDArray[np.bool_] | None = None,
) -> VersionComparison:
    """Compare versions on a table of batches (BATCH_COLUMNS), of any number of policies.

    `window` is half-open, in microseconds since 1970: when batches ended. Only versions of `wanted` batches
    are candidates.
    """
    group, heads = grouped(batches, _LABELS)
    policy, _ = grouped(batches, _LABELS[:1])
    created_us, seen_us, end_us, last_us = (
        _microseconds(batches[f"{name}_at"])
        for name in ("created", "first_observed", "first_terminal", "last_observed")
    )
    is_open = ~batches["is_terminal"].to_numpy(dtype=bool)
    batches = batches.assign(
        group=group,
        processed=batches["success_count"] + batches["error_count"],
        started_us=np.minimum(created_us, seen_us),
        end_us=end_us,
        is_open=is_open,
        is_final=~is_open & ~batches["label_changed"].to_numpy(dtype=bool),
        is_here=~is_open & (end_us >= window[0]) & (end_us < window[1]),
    )
    order = np.flatnonzero(batches["is_final"] & (batches["processed"] > 0))
    order = order[np.lexsort((end_us[order], policy[order]))]
    # Among those that ended together an order that has nothing to do with time or size.
    is_tied = ~run_starts(policy[order], end_us[order])
    is_tied[:-1] |= is_tied[1:]
    crc = np.zeros(len(order), dtype=np.int64)
    crc[is_tied] = [zlib.crc32(name.encode()) for name in batches["batch_id"].iloc[order[is_tied]]]
    order = order[np.lexsort((crc, end_us[order], policy[order]))]
    some = batches[["first_terminal_at", "error_count", "processed", "started_us", "is_here"]].iloc[order]
    ended = Ended(
        policy[order],
        group[order],
        _local_days(some["first_terminal_at"], tz),
        end_us[order],
        some["error_count"].to_numpy(),
        some["processed"].to_numpy(),
        some["started_us"].to_numpy(),
        len(heads),
    )
    within = some["is_here"].to_numpy()
    batches["is_kept"] = np.isin(np.arange(len(batches)), order[within])
    asked = None if wanted is None else np.bincount(group[wanted], minlength=len(heads)) > 0
    pairs = choose_pairs(heads, ended, baseline=baseline, candidate=candidate, wanted=asked)
    n_within = np.bincount(ended.group[within], minlength=len(heads))
    base, own = pairs["base"].to_numpy(), pairs["group"].to_numpy()
    last = as_of_us if as_of_us is not None else int(last_us.max(initial=0))
    found = judge(
        pairs[(base >= 0) & (n_within[base] > 0) & (n_within[own] > 0)],
        ended,
        created_us=batches.groupby("group")["started_us"].min().to_numpy(),
        within=within,
        today=int(_local_days(pd.Series(pd.to_datetime([last], unit="us", utc=True)), tz)[0]),
        looks=looks,
        alpha=round(1.0 - confidence, 12),
        correction=correction,
    ).reindex(pairs.index)
    table = _table(batches, heads, pairs, found, confidence=confidence)
    since = found["since"].where(table["verdict"].isin(["higher", "lower"]))
    return VersionComparison(
        table=table,
        sentences=sentences(table, found, confidence=confidence, correction=correction, looks=looks),
        confidence=confidence,
        correction=correction,
        looks=looks,
        found_on=tuple(None if np.isnan(day) else _EPOCH + dt.timedelta(days=day) for day in since),
    )


def _local_days(instants: pd.Series[Any], tz: ZoneInfo) -> NDArray[np.int64]:
    """Days since 1970-01-01 that the local calendar shows."""
    local = instants.dt.tz_convert(tz).dt.tz_localize(None).to_numpy()
    days: NDArray[np.int64] = local.astype("datetime64[D]").astype(np.int64)
    return days


def _microseconds(instants: pd.Series[Any]) -> NDArray[np.int64]:
    """Microseconds since 1970, UTC; the largest int64 for what is missing."""
    found = instants.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(found), NEVER, found.astype(np.int64))


#: Columns of the table, in their order.
TABLE = (
    "policy_id", "policy_version", "role", "n_batches", "processed", "error", "error_rate", "error_rate_low",
    "error_rate_high", "cancelled_share", "throughput_per_batch_hour", "difference", "difference_low",
    "difference_high", "relative_risk", "relative_risk_low", "relative_risk_high", "df", "p_value",
    "p_adjusted", "mde", "overlap", "design", "e_value", "p_anytime", "difference_raw", "verdict",
    "median_low", "median_high", "note",
)  # fmt: skip


def _table(
    batches: pd.DataFrame, heads: pd.DataFrame, pairs: pd.DataFrame, found: pd.DataFrame, *, confidence: float
) -> pd.DataFrame:
    """Write what each version's own batches show, and what was `found` of its pair."""
    n_groups, row, base = len(heads), pairs["group"].to_numpy(), pairs["base"].to_numpy()
    flags = {
        "is_open": batches["is_open"],
        "is_timed": batches["created_at"].notna(),
        "is_final": batches["is_here"] & batches["is_final"],
        "is_excluded": batches["is_here"] & ~batches["is_kept"],
    }
    counts = pd.DataFrame(flags).groupby(batches["group"]).sum()
    # Of all that was read, few versions may be asked for.
    is_asked = batches["group"].isin(np.union1d(row, base))
    used = batches.loc[is_asked & batches["is_kept"], _USED]
    own, n, cancelled = (used[name].to_numpy() for name in ("group", "processed", "cancelled_count"))
    rates = cluster_rates(own, used["error_count"], n, n_groups=n_groups, confidence=confidence)

    def total(values: Any) -> NDArray[np.float64]:
        return np.bincount(own, weights=values, minlength=n_groups).astype(np.float64)

    is_timed = used["created_at"].notna().to_numpy()
    hours = np.where(is_timed, (used["end_us"] - used["started_us"]) / HOUR_US, 0.0)
    throughput = ratio(total(n * is_timed), total(hours))
    spans = used.groupby("group").agg({"started_us": "min", "end_us": "max"}).reindex(range(n_groups))
    first, last = (spans[name].to_numpy(dtype=np.float64) for name in spans)
    overlap = _overlap(first[base], last[base], first[row], last[row])
    asked = batches.loc[is_asked, ["group", *DURATION_COLUMNS]]
    median = median_brackets(asked, asked["group"].to_numpy(), n_groups)
    has_base = (base >= 0) & (rates.n_clusters[base] > 0)
    verdict = found["verdict"].fillna("not enough batches").mask(pairs["is_baseline"])
    is_changed = verdict == CHANGED
    text = {
        "role": np.where(pairs["is_baseline"], "baseline", "candidate"),
        "design": found["design"],
        "verdict": verdict.mask(is_changed),
        "note": [
            _note(
                rates.note[place] if rates.n_clusters[place] else _NOTHING[bool(counts["is_final"][place])],
                f"batches_excluded:{counts['is_excluded'][place]}" if counts["is_excluded"][place] else "",
                f"open:{counts['is_open'][place]}" if counts["is_open"][place] else "",
                "" if pairs["is_baseline"][i] or has_base[i] else "no_baseline",
                "no_created_at" if np.isnan(throughput[place]) and rates.n_clusters[place] else "",
                "" if np.isfinite(median[place][1]) else _NOT_TIMED[bool(counts["is_timed"][place])],
                "difference_changed" if is_changed[i] else "",
            )
            for i, place in enumerate(row)
        ],
    }
    table = heads.iloc[row].reset_index(drop=True)
    table = table.assign(
        n_batches=rates.n_clusters[row],
        processed=rates.processed[row].astype(np.int64),
        error=rates.errors[row].astype(np.int64),
        error_rate=rates.rate[row],
        error_rate_low=rates.low[row],
        error_rate_high=rates.high[row],
        cancelled_share=ratio(total(cancelled), rates.processed + total(cancelled))[row],
        throughput_per_batch_hour=throughput[row],
        df=rates.df[row],
        overlap=np.where(has_base, overlap, np.nan),
        median_low=timedeltas([median[place][0] for place in row]),
        median_high=timedeltas([median[place][1] for place in row]),
        **found[list(COLUMNS)],
        **{name: pd.array(values, dtype=STRING) for name, values in text.items()},
    )
    return table[list(TABLE)]


_USED = ["group", "processed", "error_count", "cancelled_count", "created_at", "started_us", "end_us"]
#: Why a version has no batches to go by: none is terminal, or those that are processed nothing.
_NOTHING = {False: "no_terminal_batches", True: "no_decisions"}
#: Why there is no upper end of the median: no batch has a creation time, or too many are still running.
_NOT_TIMED = {False: "no_created_at", True: "median_not_reached"}


def _note(*codes: str) -> str:
    return ";".join(dict.fromkeys(code for code in codes if code))


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
