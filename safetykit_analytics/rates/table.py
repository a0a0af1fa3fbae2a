"""Throughput and error rates by calendar bucket, policy and version.

Place in the flow: flow → **rates** → plots, control chart, report.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from safetykit_analytics.calendar import (
    HOUR_US,
    Frequency,
    edges_over,
    parse_freq,
    parse_instant,
    zone,
)
from safetykit_analytics.flow.allocate import ABSOLUTE, HIGH, LOW, MOVED, REPROCESSED, SMEARED, Cells
from safetykit_analytics.flow.moving import work_of_store
from safetykit_analytics.flow.partitions import stored_days
from safetykit_analytics.flow.work import Source, open_source, work_of
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import parse_by
from safetykit_analytics.rates.arguments import (
    checked_confidence,
    checked_executor,
    checked_observations,
    frequency_or_auto,
)
from safetykit_analytics.stats import cluster_rates

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from zoneinfo import ZoneInfo

    import pandas as pd

    from safetykit_analytics.arrays import Flags, Floats, Ints
    from safetykit_analytics.flow.window import Work

#: What ``freq="auto"`` chooses from.
AUTO_FREQS = ("1min", "5min", "15min", "30min", "1h", "3h", "6h", "12h", "1D", "W", "MS")
# Of the work, at most this share may come from intervals longer than a bucket.
_AUTO_SMEARED = 0.2
# Below this coverage, or above this smeared share, an interval would be precise about guesses.
_ENOUGH_COVERAGE = 0.5
_TOO_SMEARED = 0.5
# Sums of shares are off by rounding, some 1e-16 each: what is below this share of the work is zero.
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
    confidence: float = 0.95,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Give decisions processed, throughput and error rate per calendar bucket, policy and version.

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
        ``policy_id``, ``policy_version``, both in either order, or ``()``.
    tz : str
        IANA zone of the calendar. A day has 23, 25 or 24.5 hours where the clock is changed in it.
    start, end : aware datetime, date or str, optional
        Which buckets to give: all that overlap [start, end), uncut. A date is midnight in `tz`. They select
        buckets, never observations: the values are the same as without.
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made. Default: the last observation.
    confidence : float
        Of the interval of the error rate.
    executor : concurrent.futures.Executor, optional
        Where to reduce the days of a store: a process pool, or ``distributed.Client().get_executor()``. The
        result is the same to the last bit. Not used for a DataFrame.

    Returns
    -------
    DataFrame
        One row per group and bucket, from the group's first to its last with work or observed activity;
        zeros between are zeros. Sorted by the `by` columns (v9 before v10, none last), then time.

        - ``bucket_start``, ``bucket_end``: datetime64[us, tz], half-open
        - the `by` columns: string, NA for none
        - ``success``, ``error``, ``cancelled``, ``processed`` (success + error): decisions, float64; negative
          where a counter went down
        - ``throughput_per_hour``: processed / hours of the bucket elapsed by `as_of`; NaN if none has
        - ``error_rate``: error / processed; NaN where nothing was processed or a component is negative
        - ``error_rate_low``, ``error_rate_high``: interval with batches as the unit; NaN where less than
          half of the active time was observed, or more than half of the work is smeared (see ``note``)
        - ``n_batches``: int64, distinct batches with work in the bucket
        - ``processed_low``, ``processed_high``: what is certain and what is possible, whatever happened
          between observations
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
        A column in `by` or a zone that is not there (also ValueError).
    ValueError
        `freq` is no frequency; `start`, `end` or `as_of` without a time zone; `start` not before `end`;
        `confidence` is not between 0 and 1.
    InvalidFrame
        The DataFrame does not hold observations (also ValueError).
    TypeError
        Neither a DataFrame nor anything with partitions; `confidence` is no number, `executor` none.

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
    names = parse_by(by)
    calendar = zone(tz)
    frequency = frequency_or_auto(freq)
    first, stop = parse_window(start, end, calendar)
    until = None if as_of is None else parse_instant(as_of, "as_of", calendar)
    checked_confidence(confidence)
    checked_executor(executor)
    checked_observations(observations)
    settle = partial(error_rate_intervals, confidence=confidence)
    partitions = None if frequency is None else stored_days(observations, until)
    if frequency and partitions:
        buckets = partial(edges_over, frequency, calendar, (first, stop))
        work, now = work_of_store(
            partitions, labels=names, as_of=until, calendar=buckets, settle=settle, executor=executor
        )
        return _table(work, names, now, str(tz))
    lengths = () if frequency else tuple(parse_freq(name).length_us for name in AUTO_FREQS)
    source = open_source(observations, labels=names, as_of=until, executor=executor, lengths=lengths)
    buckets = partial(edges_over, frequency or _finest(source), calendar, (first, stop))
    return _table(work_of(source, buckets, settle=settle), names, source.as_of or 0, str(tz))


def parse_window(start: Any, end: Any, tz: ZoneInfo) -> tuple[int | None, int | None]:
    """Read `start` and `end`, either of which may be missing."""
    first = None if start is None else parse_instant(start, "start", tz)
    stop = None if end is None else parse_instant(end, "end", tz)
    if first is not None and stop is not None and first >= stop:
        raise ValueError(f"start={start!r} is not before end={end!r}; expected start < end")
    return first, stop


def _finest(source: Source) -> Frequency:
    """Choose the finest frequency at which at most a fifth of the work is smeared."""
    known = source.stitched
    options = [parse_freq(name) for name in AUTO_FREQS]
    kind = np.searchsorted([option.length_us for option in options], known.end - known.start, side="left")
    work = np.abs(known.delta[0] + known.delta[1])
    weights = source.weights + np.bincount(kind, weights=work, minlength=len(options) + 1)
    smeared = weights.sum() - np.cumsum(weights[:-1])
    enough = np.flatnonzero(smeared <= _AUTO_SMEARED * weights.sum())
    return options[int(enough[0]) if len(enough) else -1]


def _table(work: Work, by: tuple[str, ...], as_of: int, tz: str) -> pd.DataFrame:
    """Turn sums into the table that people read."""
    place = active_places(work)
    bucket, group = work.layout.buckets()[place], work.layout.groups()[place]
    start, stop = work.edges[bucket], work.edges[bucket + 1]
    sums = work.sums[:, place]
    success, error, cancelled = sums[:3]
    processed = success + error
    hours = (np.minimum(stop, as_of) - start) / HOUR_US
    noise = _ZERO_WORK * sums[ABSOLUTE]
    ratable = (np.abs(processed) > noise) & (success >= -noise) & (error >= -noise)
    rate = _ratio(np.where(ratable, error, np.nan), processed)
    coverage = _coverage(work)[place]
    low, high, note = (work.settled[name][place] for name in ("low", "high", "note"))
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
        "throughput_per_hour": _ratio(processed, np.where(hours > 0, hours, 0.0)),
        "error_rate": np.clip(rate, 0.0, 1.0),
        "error_rate_low": low,
        "error_rate_high": high,
        "n_batches": work.n_batches[place],
        "processed_low": sums[LOW],
        "processed_high": sums[HIGH],
        "coverage": coverage,
        "smeared_share": _smeared(sums),
        "reprocessed": sums[REPROCESSED],
        "partial": stop > as_of,
        "note": pa.array(note, type=pa.string()),
    }
    return frame_from_table(pa.table(columns))


def active_places(work: Work) -> Ints:
    """Places of the rows: each group from its first to its last bucket with work or observed activity."""
    active = (work.n_batches > 0) | (work.observed > 0)
    offset = work.layout.offset
    if not len(active):
        return np.zeros(0, dtype=np.int64)
    place = np.arange(len(active))
    group = work.layout.groups()
    first = np.minimum.reduceat(np.where(active, place, len(active)), offset[:-1])
    last = np.maximum.reduceat(np.where(active, place, -1), offset[:-1])
    bucket = work.layout.buckets()
    is_inside = (bucket > 0) & (bucket < len(work.edges) - 2)
    return np.flatnonzero(is_inside & (place >= first[group]) & (place <= last[group]))


def group_columns(groups: list[tuple[str | None, ...]], by: tuple[str, ...], group: Ints) -> dict[str, Any]:
    """Give the label columns of rows as Arrow arrays."""
    return {
        name: pa.array([names[column] for names in groups], type=pa.string()).take(pa.array(group))
        for column, name in enumerate(by)
    }


def error_rate_intervals(
    sums: Floats, batches: Callable[[Flags], Cells], *, confidence: float
) -> dict[str, Any]:
    """Give the intervals of the error rates of some places, and why there is none or a weak one."""
    told = ~(_smeared(sums) > _TOO_SMEARED)
    cells = batches(told)
    found = cluster_rates(
        cells.place,
        cells.work[1],
        cells.work[0] + cells.work[1],
        n_groups=int(np.count_nonzero(told)),
        confidence=confidence,
    )
    low, high = np.full(len(told), np.nan), np.full(len(told), np.nan)
    note = np.full(len(told), "mostly_smeared", dtype=object)
    low[told], high[told], note[told] = found.low, found.high, found.note
    return {"low": low, "high": high, "note": note}


def _coverage(work: Work) -> Floats:
    observed = work.observed.astype(np.float64)
    return _ratio(observed, observed + work.unobserved)


def _smeared(sums: Floats) -> Floats:
    return np.minimum(_ratio(sums[SMEARED], sums[MOVED]), 1.0)


def _ratio(numerator: Any, denominator: Any) -> Floats:
    """Divide; NaN where the denominator is zero."""
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result
