"""Throughput and error rates by calendar bucket, policy and version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.arrays import ratio
from safetykit_analytics.calendar import (
    HOUR_US,
    Frequency,
    bucket_edges,
    overlapping,
    parse_freq,
    with_guards,
    zone,
)
from safetykit_analytics.flow import (
    ABSOLUTE,
    BASE_COLUMNS,
    ERROR,
    HIGH,
    LOW,
    MOVED,
    N_BATCHES,
    N_CLUSTERS,
    RATIOS,
    REPROCESSED,
    SMEARED,
    SQUARES,
    SUCCESS,
    TOOK_BACK,
    Listing,
    Reduced,
    Rows,
    Totals,
    accumulate,
    increments_of,
    reduce_work,
    reduced,
    text_of,
    with_listing,
)
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS, parse_by
from safetykit_analytics.rates.arguments import (
    check_confidence,
    check_executor,
    check_observations,
    check_policies,
    frequency_or_auto,
    parse_as_of,
    parse_batches,
    parse_policies,
    parse_window,
)
from safetykit_analytics.stats import FEW_CLUSTERS, POOL_BUCKETS, ClusterSums, cluster_rates, rate_intervals

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor
    from zoneinfo import ZoneInfo

    import pandas as pd

    from safetykit_analytics.arrays import Flags, Floats, Ints
    from safetykit_analytics.flow import Cohort, Levels

#: What ``freq="auto"`` chooses from.
AUTO_FREQS = ("1min", "5min", "15min", "30min", "1h", "3h", "6h", "12h", "1D", "W", "MS")
# Of the work, at most this share may come from intervals longer than a bucket.
_AUTO_SMEARED = 0.2
# Below this coverage, or above this smeared share, an interval would be precise about guesses.
_ENOUGH_COVERAGE = 0.5
_TOO_SMEARED = 0.5
# Sums of shares are off by rounding, some 1e-16 each: below this share of the work they are zero.
_ZERO_WORK = 1e-9


def rates(
    observations: Any,
    *,
    freq: str = "1h",
    by: str | Sequence[str] = ("policy_id", "policy_version"),
    tz: str = "UTC",
    start: dt.datetime | dt.date | str | None = None,
    end: dt.datetime | dt.date | str | None = None,
    as_of: dt.datetime | dt.date | str | None = None,
    policy_id: str | Sequence[str] | None = None,
    batches: pd.DataFrame | None = None,
    confidence: float = 0.95,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Compute decisions processed, throughput and error rate per calendar bucket, policy and version.

    Between two observations of a batch its work is spread evenly over the time; a batch's first counts over
    the time since it was created. Nothing is extrapolated: the buckets add up to the last counts.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
        Columns of `OBSERVATION_SCHEMA`, in any order; duplicates do not matter.
    freq : str
        A length that divides a day (``"1min"`` to ``"12h"``), ``"1D"``, ``"W"`` (ISO weeks), ``"MS"``
        (months), or ``"auto"``: the finest of 1, 5, 15, 30 min, 1, 3, 6, 12 h, day, week, month for which at
        most 20 % of the work comes from intervals between observations that are longer than a bucket.
    by : str or sequence of str
        Up to four of ``policy_id``, ``policy_version`` and the columns of `batches`, in any order; ``()`` for
        no groups.
    tz : str
        IANA zone of the calendar. A day has 23, 25 or 24.5 hours where the clock is changed in it.
    start, end : aware datetime, date or str, optional
        Which buckets to return: all that overlap [start, end), uncut. A date is midnight in `tz`. They select
        buckets, never observations: the values are the same as without.
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made; a date is midnight in `tz`. Default: the last
        observation.
    policy_id : str or sequence of str, optional
        Only the work of these policies; ``"(none)"`` for batches that name none. Select this way and not by
        filtering observations: without its earlier observations a batch loses work.

        .. versionadded:: 0.2.0
    batches : DataFrame, optional
        ``batch_id`` and columns of your own, such as market or queue, that `by` may name. They become text;
        batches without a row are "(none)".

        .. versionadded:: 0.2.0
    confidence : float
        Confidence level of the interval of the error rate.
    executor : concurrent.futures.Executor, optional
        Where to reduce the cohorts of a store: a process pool, or ``distributed.Client().get_executor()``.
        The result is the same to the last bit. Not used for a DataFrame.

    Returns
    -------
    DataFrame
        One row per group and bucket, from the group's first to its last with work or observed activity in
        [start, end); zeros between are zeros. Sorted by the `by` columns (v9 before v10, none last), then by
        time.

        - ``bucket_start``, ``bucket_end``: datetime64[us, tz], half-open
        - the `by` columns: string, "(none)" for none
        - ``success``, ``error``, ``cancelled``, ``processed`` (success + error): decisions, float64; negative
          where a counter went down
        - ``throughput_per_hour``: processed / hours of the bucket elapsed by `as_of`; NaN if none has
        - ``error_rate``: error / processed; NaN where nothing was processed or a component is negative
        - ``error_rate_low``, ``error_rate_high``: interval with batches as the unit. How alike the decisions
          of a batch are is learned from the group's 30 buckets that end with this one. NaN where less than
          half of the active time was observed, where more than half of the work is smeared, and for one
          batch with too few before it to learn from (see ``note``)
        - ``n_batches``: int64, distinct batches with work in the bucket
        - ``processed_low``, ``processed_high``: bounds of ``processed``, certain however the work was
          distributed between observations
        - ``coverage``: observed active time / active time of the batches; NaN where none was active
        - ``smeared_share``: share of processed from intervals longer than the bucket; NaN where nothing was
        - ``reprocessed``: what counters went down by, as a positive number
        - ``partial``: bool, the bucket ends after `as_of`
        - ``note``: ``;``-joined codes, "" for none: ``low_coverage``, ``mostly_smeared``, ``no_decisions``,
          ``reprocessed``, ``one_batch``, ``few_batches``, ``clustering_not_estimable``

        Without observations: no rows, the same columns and types.

    Raises
    ------
    UnknownName
        An unknown column in `by`, policy or time zone (also ValueError).
    ValueError
        Invalid `freq`; `start`, `end` or `as_of` without a time zone; `start` not before `end`; `confidence`
        not between 0 and 1.
    InvalidFrame
        The DataFrame does not hold observations; `batches` has a batch twice (also ValueError).
    TypeError
        Neither a DataFrame nor a store; another argument of the wrong type.

    Examples
    --------
    A batch created at 12:00 and seen half done at 12:30 and finished at 13:30:

    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> times = pd.to_datetime(["2026-03-02T12:30Z", "2026-03-02T13:30Z"])
    >>> seen = pd.DataFrame({
    ...     "batch_id": "batch_1", "observed_at": times, "created_at": pd.Timestamp("2026-03-02T12:00Z"),
    ...     "batch_status": ["PENDING", "SUCCESS"], "batch_count": 100, "success_count": [45, 90],
    ...     "error_count": [5, 10], "cancelled_count": 0, "pending_count": [50, 0], "policy_id": "spam",
    ...     "policy_version": "v1", "has_download": False, "is_terminal": [False, True],
    ... })
    >>> table = ska.rates(seen)
    >>> table[["bucket_start", "processed", "throughput_per_hour", "error_rate"]]
                   bucket_start  processed  throughput_per_hour  error_rate
    0 2026-03-02 12:00:00+00:00       75.0                 75.0         0.1
    1 2026-03-02 13:00:00+00:00       25.0                 50.0         0.1
    """
    own = parse_batches(batches)
    names = parse_by(by, () if own is None else own.column_names[1:])
    calendar = zone(tz)
    frequency = frequency_or_auto(freq)
    window = parse_window(start, end, calendar)
    policies = parse_policies(policy_id)
    until = parse_as_of(as_of, calendar)
    check_confidence(confidence)
    check_executor(executor)
    check_observations(observations)
    labels = label_columns(names, policies)
    columns = (*BASE_COLUMNS, *labels)

    def run(listing: Listing) -> pd.DataFrame:
        read = partial(reduced, columns=columns, labels=labels, own=own, executor=executor)
        chosen = frequency or _finest(read(listing, _weights))
        plan = plan_rates(listing, chosen, by=names, tz=calendar, window=window, policies=policies)
        results = read(overlap_only(listing, plan.edges), plan.reduce)
        return rates_table(plan, results, confidence=confidence)

    table = with_listing(observations, columns, until, run)
    check_policies(observations, policies, found=bool(len(table)))
    return table


@dataclass(frozen=True)
class RatesPlan:
    """What cohorts are reduced to for one table of rates, and over which buckets.

    Attributes
    ----------
    by : tuple of str
    edges : int64 array
        Of the buckets, with guards, in microseconds since 1970 UTC.
    lead : int
        How many buckets before the window there are, to learn from.
    as_of : int
    tz : ZoneInfo
    reduce : callable
        From the observations of whole batches to what they add.
    """

    by: tuple[str, ...]
    edges: Ints
    lead: int
    as_of: int
    tz: ZoneInfo
    reduce: Callable[[Rows], Reduced]


def plan_rates(
    listing: Listing,
    frequency: Frequency,
    *,
    by: tuple[str, ...],
    tz: ZoneInfo,
    window: tuple[int | None, int | None],
    policies: Sequence[str] | None = None,
    lead: int = POOL_BUCKETS - 1,
) -> RatesPlan:
    """Choose the buckets of a table of rates, and how cohorts are reduced to them; see `rates`.

    Its intervals learn from up to `lead` buckets before the window.
    """
    edges, lead = window_edges(frequency, tz, window, listing, until=listing.latest, lead=lead)
    reducer = partial(
        reduce_work, by=by, policies=policies, edges=edges, as_of=listing.as_of, few=FEW_CLUSTERS
    )
    return RatesPlan(by, edges, lead, listing.as_of, tz, reducer)


def rates_table(
    plan: RatesPlan, results: Iterable[tuple[int, Reduced]], *, confidence: float = 0.95
) -> pd.DataFrame:
    """Add up what cohorts were reduced to, as `flow.reduced` yields it, and return the table of `rates`."""
    totals = accumulate(results, edges=plan.edges, fold=own_variances)
    return _table(totals, plan.by, plan.as_of, str(plan.tz), lead=plan.lead, confidence=confidence)


def label_columns(by: Sequence[str], policies: Sequence[str] | None) -> tuple[str, ...]:
    """Return the label columns that must be read to group by some and to select policies."""
    return tuple(name for name in LABELS if name in by or (name == "policy_id" and policies is not None))


def window_edges(
    frequency: Frequency,
    tz: ZoneInfo,
    window: tuple[int | None, int | None],
    listing: Listing,
    *,
    until: int,
    lead: int = 0,
) -> tuple[Ints, int]:
    """Return the edges, with guards, of the buckets that overlap a window and hold a time up to `until`.

    Up to `lead` buckets before the window come first; how many is returned too.
    """
    every = bucket_edges(frequency, tz, listing.earliest, until)
    edges = overlapping(every, *window)
    first = int(np.searchsorted(every, edges[0])) if len(edges) else 0
    lead = min(lead, first)
    return with_guards(every[first - lead : first + len(edges)]), lead


def overlap_only(listing: Listing, edges: Ints) -> Listing:
    """Return the cohorts that can touch the buckets between the guards."""
    start, end = int(edges[1]), int(edges[-2])

    def touches(cohort: Cohort) -> bool:
        return cohort.earliest < end and (cohort.n_open > 0 or cohort.last_observed >= start)

    # Without an edge between the guards start is after end.
    return listing.where(touches)


def _weights(rows: Rows) -> Floats:
    """Sum absolute processed work by the length of the time in which it happened."""
    found = increments_of(rows, np.zeros(len(rows.run) - 1, dtype=np.int32))
    lengths = [parse_freq(name).length_us for name in AUTO_FREQS]
    kind = np.searchsorted(lengths, found.end - found.start, side="left")
    work = np.abs(found.delta[0] + found.delta[1])
    return np.bincount(kind, weights=work, minlength=len(lengths) + 1).astype(np.float64)


def _finest(weights: Iterable[tuple[int, Floats]]) -> Frequency:
    """Choose the finest frequency at which at most a fifth of the work is smeared."""
    total = sum((some for _, some in weights), start=np.zeros(len(AUTO_FREQS) + 1))
    smeared = total.sum() - np.cumsum(total[:-1])
    enough = np.flatnonzero(smeared <= _AUTO_SMEARED * total.sum())
    return parse_freq(AUTO_FREQS[int(enough[0]) if len(enough) else -1])


def _table(
    work: Totals, by: tuple[str, ...], as_of: int, tz: str, *, lead: int, confidence: float
) -> pd.DataFrame:
    """Convert sums into the table that people read."""
    active = (work.sums[N_BATCHES] > 0) | (work.observed > 0)
    place = shown_places(work, active, n_edges=len(work.edges), lead=lead)
    bucket, group = work.layout.buckets()[place], work.layout.groups()[place]
    start, stop = work.edges[bucket], work.edges[bucket + 1]
    sums = work.sums[:, place]
    success, error, cancelled = sums[:3]
    processed = success + error
    hours = (np.minimum(stop, as_of) - start) / HOUR_US
    noise = _ZERO_WORK * sums[ABSOLUTE]
    ratable = (np.abs(processed) > noise) & (success >= -noise) & (error >= -noise)
    rate = ratio(np.where(ratable, error, np.nan), processed)
    coverage = _coverage(work)[place]
    low, high, note = (values[place] for values in _intervals(work, confidence))
    uncovered = coverage < _ENOUGH_COVERAGE
    low[uncovered] = high[uncovered] = np.nan
    note[uncovered] = np.where(
        note[uncovered] == "mostly_smeared", "low_coverage;mostly_smeared", "low_coverage"
    )
    columns = {
        "bucket_start": pa.array(start, type=pa.timestamp("us", tz=str(tz))),
        "bucket_end": pa.array(stop, type=pa.timestamp("us", tz=str(tz))),
        **group_columns(work.groups, by, group),
        "success": success,
        "error": error,
        "cancelled": cancelled,
        "processed": processed,
        "throughput_per_hour": ratio(processed, hours),
        "error_rate": np.clip(rate, 0.0, 1.0),
        "error_rate_low": low,
        "error_rate_high": high,
        "n_batches": sums[N_BATCHES].astype(np.int64),
        "processed_low": sums[LOW],
        "processed_high": sums[HIGH],
        "coverage": coverage,
        "smeared_share": _smeared(sums),
        "reprocessed": sums[REPROCESSED],
        "partial": stop > as_of,
        "note": pa.array(note, type=pa.string()),
    }
    return frame_from_table(pa.table(columns))


def shown_places(sums: Totals | Levels, active: Flags, *, n_edges: int, lead: int = 0) -> Ints:
    """Return the places of the rows: each group from its first to its last active bucket of the window."""
    layout = sums.layout
    bucket, group = layout.buckets(), layout.groups()
    place = np.arange(layout.size)
    is_inside = (bucket > lead) & (bucket < n_edges - 2)
    found = np.flatnonzero(is_inside & active)
    first, last = np.full(len(layout.first), layout.size), np.zeros(len(layout.first), dtype=np.int64)
    np.minimum.at(first, group[found], found)
    np.maximum.at(last, group[found], found)
    return np.flatnonzero(is_inside & (place >= first[group]) & (place <= last[group]))


def group_columns(groups: list[tuple[str | None, ...]], by: tuple[str, ...], group: Ints) -> dict[str, Any]:
    """Return the label columns of rows as Arrow arrays, "(none)" for none."""
    return {name: text_of([names[at] for names in groups], group) for at, name in enumerate(by)}


def own_variances(sums: Floats, batches: Callable[[Flags], tuple[Ints, Floats]]) -> dict[str, Any]:
    """Compute how the batches of a bucket vary, where they may be too few to borrow from others."""
    few = (sums[N_CLUSTERS] <= FEW_CLUSTERS) & ~_is_smeared(sums)
    place, (processed, error) = batches(few)
    found = cluster_rates(place, error, processed, n_groups=int(np.count_nonzero(few)))
    made = np.full((2, len(few)), np.nan)
    made[:, few] = found.variance, found.df
    return {"variance": made[0], "df": made[1]}


def _intervals(work: Totals, confidence: float) -> tuple[Floats, Floats, Any]:
    """Compute intervals of the error rate at all places: rows borrow from buckets before the window too."""
    smeared = _is_smeared(work.sums)
    # Buckets whose work is mostly smeared are not learned from.
    sums = np.where(smeared, 0.0, work.sums)
    found = ClusterSums(
        errors=sums[ERROR],
        processed=sums[SUCCESS] + sums[ERROR],
        work=sums[ABSOLUTE],
        n_clusters=sums[N_CLUSTERS],
        squares=sums[SQUARES],
        ratios=sums[RATIOS],
        took_back=sums[TOOK_BACK],
        **work.folded,
    )
    low, high, note = rate_intervals(
        found, work.layout.groups(), work.layout.buckets(), confidence=confidence
    )
    note[smeared] = "mostly_smeared"
    return low, high, note


def _is_smeared(sums: Floats) -> Flags:
    return _smeared(sums) > _TOO_SMEARED


def _coverage(work: Totals) -> Floats:
    return ratio(work.observed, work.observed + work.unobserved)


def _smeared(sums: Floats) -> Floats:
    return np.minimum(ratio(sums[SMEARED], sums[MOVED]), 1.0)
