"""Which buckets of a table of rates stand out from how their series varies anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from safetykit_analytics.calendar import parse_instant
from safetykit_analytics.errors import InvalidFrame
from safetykit_analytics.frame import STRING
from safetykit_analytics.stats import find_runs, laney_limits

if TYPE_CHECKING:
    import datetime as dt

_NEEDED = ("bucket_start", "bucket_end", "error", "processed", "error_rate", "partial", "note")
# With fewer buckets before the judged time, limits are learned from the judged time too.
_ENOUGH_BEFORE = 20


def control_chart(
    rates: pd.DataFrame, *, limits_before: dt.datetime | dt.date | str | None = None
) -> pd.DataFrame:
    """Add the limits of Laney's p' chart to a table of rates, and mark what is beyond them.

    Every policy version is a series of its own: its limits come from its own complete buckets and start anew
    at a version change. In a table that is not split by version a change of version is part of how the rate
    varies.

    Parameters
    ----------
    rates : DataFrame
        As `rates` returns it, with any `freq` and `by`.
    limits_before : aware datetime, date or str, optional
        Take limits from the complete buckets that end by then alone, where a series has 20 or more of them:
        what is judged does not move its own limits. A date is midnight in the zone of the table. Default: all
        complete buckets, as in a series with fewer.

    Returns
    -------
    DataFrame
        The same rows and columns and

        - ``center`` (float64): median error rate of the buckets that limits come from; NaN without any
        - ``lower_limit``, ``upper_limit`` (float64, within [0, 1]): 3.25 sigma from the center; NaN where the
          bucket has no error rate, and in a segment of which the note says why
        - ``sigma_z`` (float64): how many times the segment varies as independent decisions would, at least 1
        - ``out_of_control`` (bool): the error rate is beyond a limit, or the ninth or later in a row of
          complete buckets on one side of the center
        - ``segment`` (int64): 0 for the first version of a policy, 1 for the next, by their first bucket

        ``note`` gains ``few_buckets`` (the segment has less than 10 complete buckets with decisions) or
        ``clustering_not_estimable`` (no errors in them, or nothing else).

    Raises
    ------
    TypeError
        Not a DataFrame.
    InvalidFrame
        A column of `rates` is missing.
    ValueError
        `limits_before` is a time without a zone, or no time.

    See Also
    --------
    safetykit_analytics.stats.laney_limits : formulas and source.

    Examples
    --------
    Thirty batches of 1,000 decisions, one each hour, of which one has four times the errors:

    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> errors = [18, 25, 21, 30, 16, 22] * 5
    >>> errors[20] = 80
    >>> created = pd.date_range("2026-03-02", periods=30, freq="h", tz="UTC")
    >>> seen = pd.DataFrame({
    ...     "batch_id": [f"batch_{i}" for i in range(30)], "observed_at": created + pd.Timedelta(minutes=50),
    ...     "created_at": created, "batch_status": "SUCCESS", "batch_count": 1000,
    ...     "success_count": [1000 - y for y in errors], "error_count": errors, "cancelled_count": 0,
    ...     "pending_count": 0, "policy_id": "spam", "policy_version": "v1", "has_download": False,
    ...     "is_terminal": True,
    ... })
    >>> chart = ska.control_chart(ska.rates(seen))
    >>> chart.loc[chart["out_of_control"], ["bucket_start", "error_rate", "segment"]]
                    bucket_start  error_rate  segment
    20 2026-03-02 20:00:00+00:00        0.08        0
    """
    if not isinstance(rates, pd.DataFrame):
        raise TypeError(f"expected the DataFrame that rates() returns, found {type(rates).__name__}")
    if missing := [name for name in _NEEDED if name not in rates.columns]:
        raise InvalidFrame(
            f"not a table of rates: missing column {missing[0]!r}; expected what rates() returns"
        )
    table = rates.copy()
    size = len(table)
    found = {name: np.full(size, np.nan) for name in ("center", "lower_limit", "upper_limit", "sigma_z")}
    notes, is_run = np.full(size, "", dtype=object), np.zeros(size, dtype=np.bool_)
    series, segment = _segments(table)
    is_rate = table["error_rate"].notna().to_numpy()
    is_complete = is_rate & ~table["partial"].to_numpy(dtype=bool)
    is_before = is_complete & _ends_by(table["bucket_end"], limits_before)
    errors, processed = (table[name].to_numpy(dtype=np.float64) for name in ("error", "processed"))
    order = np.lexsort((table["bucket_start"].to_numpy(), series))
    for rows in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
        if not len(rows):
            continue
        is_base = is_before[rows] if is_before[rows].sum() >= _ENOUGH_BEFORE else is_complete[rows]
        # Where there is no rate there is nothing to judge: such a bucket gets no limits.
        limits = laney_limits(errors[rows], np.where(is_rate[rows], processed[rows], 0.0), is_base)
        found["center"][rows], found["sigma_z"][rows] = limits.center, limits.sigma_z
        found["lower_limit"][rows], found["upper_limit"][rows] = limits.lower, limits.upper
        notes[rows] = limits.note
        if not limits.note:
            complete = rows[is_complete[rows]]
            is_run[complete] = find_runs(errors[complete] / processed[complete], limits.center)
    for name, values in found.items():
        table[name] = values
    rate = table["error_rate"].to_numpy(dtype=np.float64)
    table["out_of_control"] = (rate < found["lower_limit"]) | (rate > found["upper_limit"]) | is_run
    table["segment"] = segment
    table["note"] = pd.array(
        [";".join(dict.fromkeys(code for code in (*note.split(";"), more) if code))
         for note, more in zip(table["note"].fillna("").astype(object), notes, strict=True)],
        dtype=STRING,
    )  # fmt: skip
    return table


def _ends_by(ends: pd.Series[Any], instant: dt.datetime | dt.date | str | None) -> Any:
    """Return which buckets end by an instant: all where there is none."""
    if instant is None or ends.empty:
        return np.ones(len(ends), dtype=np.bool_)
    at = parse_instant(instant, "limits_before", ZoneInfo(str(ends.dt.tz)))
    return (ends <= pd.Timestamp(at, unit="us", tz="UTC")).to_numpy()


def _segments(table: pd.DataFrame) -> tuple[Any, Any]:
    """Return numbers to the series (distinct labels), and in a policy to its versions by first bucket."""
    labels = [name for name in ("policy_id", "policy_version") if name in table.columns]
    if not labels:
        return np.zeros(len(table), dtype=np.int64), np.zeros(len(table), dtype=np.int64)
    keys = table[labels].astype(STRING)
    series = keys.groupby(labels, dropna=False, sort=False).ngroup().to_numpy()
    if "policy_version" not in labels:
        return series, np.zeros(len(table), dtype=np.int64)
    firsts = pd.DataFrame({"series": series, "start": table["bucket_start"].to_numpy()})
    firsts["policy"] = (
        keys.groupby("policy_id", dropna=False, sort=False).ngroup().to_numpy()
        if "policy_id" in labels
        else 0
    )
    firsts = firsts.groupby("series", as_index=False).agg(start=("start", "min"), policy=("policy", "first"))
    firsts = firsts.sort_values(["start", "series"], kind="stable")
    rank = firsts.groupby("policy").cumcount().to_numpy()
    of_series = np.empty(len(firsts), dtype=np.int64)
    of_series[firsts["series"].to_numpy()] = rank
    return series, of_series[series]
