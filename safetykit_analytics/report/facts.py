"""Observations → everything that a week's report states, as numbers."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from safetykit_analytics import __version__
from safetykit_analytics.calendar import to_us, zone
from safetykit_analytics.compare import compare_batches
from safetykit_analytics.flow import batch_summary, batch_work
from safetykit_analytics.frame import STRING
from safetykit_analytics.rates import backlog, control_chart, rates, stalled_batches
from safetykit_analytics.report.week_tables import (
    Outage,
    compare_weeks,
    find_outage,
    list_failures,
    list_rollouts,
)
from safetykit_analytics.report.weeks import week_name, week_spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from safetykit_analytics.compare import VersionComparison
    from safetykit_analytics.flow import Selection
    from safetykit_analytics.report.reading import Reading

#: Buckets of the work that the two weeks are compared by.
PREVIOUS, THIS, BETWEEN = 0, 1, 2
_HOUR = dt.timedelta(hours=1)

#: A batch counts as stalled in a report when nothing in it has moved for so many hours. A week's page is read
#: days later: half an hour, which is the default for looking at a running fleet, would be noise.
IDLE_H = 6.0

#: Error rate and control chart are by day, as most batches take less; backlog and outages are finer.
FINE = "6h"


class Compared(NamedTuple):
    """A candidate's row, its baseline's, and the day on which the verdict was reached."""

    row: Any
    base: Any
    found_on: dt.date | None


@dataclass(frozen=True)
class Facts:
    """All numbers of one week's report; instants are in UTC.

    `previous_end` is `start`, or for a partial week the instant until which as many hours of the previous
    week had passed. Backlog and stalled batches are as of `state_at`, the earlier of `end` and `as_of`.
    `elapsed_hours`, by `as_of`, are 167 to 169 for a complete week. `store` is a name, never a path.
    """

    week: str
    previous_week: str
    tz: str
    previous_start: dt.datetime
    previous_end: dt.datetime
    start: dt.datetime
    end: dt.datetime
    as_of: dt.datetime
    store: str | None
    n_observations: int
    n_batches: int
    n_ended: int
    totals: pd.DataFrame
    previous: pd.DataFrame
    change: pd.DataFrame
    versions: pd.DataFrame
    trend: pd.DataFrame
    comparison: VersionComparison
    outage: Outage | None
    rollouts: pd.DataFrame
    control: pd.DataFrame
    backlog: pd.DataFrame
    open: pd.DataFrame
    stalled: pd.DataFrame
    failures: pd.DataFrame
    data_quality: pd.DataFrame
    library_version: str = __version__

    @property
    def state_at(self) -> dt.datetime:
        """When backlog and stalled batches were as the report says: the week's end, or `as_of` before it."""
        return min(self.end, self.as_of)

    @property
    def partial(self) -> bool:
        """Whether the week was not over by `as_of`."""
        return self.as_of < self.end

    @property
    def elapsed_hours(self) -> float:
        """Hours of the week that had passed by `as_of`."""
        return max(0.0, (self.state_at - self.start) / _HOUR)

    def versions_compared(self) -> Iterator[Compared]:
        """Yield each candidate."""
        baseline: Any = None
        for row, found_on in zip(self.comparison.table.itertuples(), self.comparison.found_on, strict=True):
            if row.role == "baseline":
                baseline = row
            else:
                yield Compared(row, baseline, found_on)

    @property
    def charted(self) -> pd.DataFrame:
        """Rows of the control chart that have limits."""
        return self.control[self.control["upper_limit"].notna()]

    @property
    def outside(self) -> pd.DataFrame:
        """Rows of the control chart that are out of control in this week."""
        this_week = self.charted["bucket_start"] >= pd.Timestamp(self.start)
        return self.charted[self.charted["out_of_control"].to_numpy(dtype=bool) & this_week.to_numpy()]


def gather_facts(reading: Reading, findings: pd.DataFrame, *, tz: str, store: str | None) -> Facts:
    """Compute everything that a report on one week states; `findings` are those of `data_quality`."""
    monday, as_of, observations = reading.monday, reading.as_of, reading.selection
    previous_start, previous_end, start, end = week_spans(monday, tz, as_of)
    state_at = max(start, min(end, as_of))
    # What was seen at `as_of` itself is in a week that is not over; what is seen at its end is in the next.
    until = end if as_of >= end else max(start, as_of + dt.timedelta.resolution)
    both: dict[str, Any] = {"tz": tz, "start": previous_start, "end": end, "as_of": as_of}
    work = _work(observations, ((previous_start, previous_end), (start, until)), as_of)
    ends = batch_summary(observations, as_of=to_us(as_of))
    ended = ends["first_terminal_at"].between(start, until, inclusive="left")
    seen = observations.seen_within(to_us(start), to_us(until)).to_pandas()
    shares = _observed_shares(observations, both)
    totals, previous, change = compare_weeks(
        ends,
        ((previous_start, previous_end), (start, until)),
        work[work["bucket"] != BETWEEN],
        (shares[0] if previous_end == start else shares[0].iloc[:0], shares[1]),
        ((previous_end - previous_start) / _HOUR, (state_at - start) / _HOUR),
    )
    then = ends if state_at >= as_of else batch_summary(observations, as_of=to_us(state_at))
    versions = rates(observations, freq="D", **both)
    chart = control_chart(reading.days, limits_before=start)
    chart = chart[(chart["bucket_start"] >= pd.Timestamp(previous_start)).to_numpy(dtype=bool)]
    # A group has rows from its first day with work on; one that did nothing in these two weeks is not shown.
    most = chart["processed"].abs().groupby([chart["policy_id"], chart["policy_version"]]).transform("max")
    rollouts = list_rollouts(work.assign(bucket=work["bucket"].replace(BETWEEN, PREVIOUS)), ends)
    touched = pd.concat([seen, work["batch_id"][work["bucket"] == THIS]]).unique()
    work_by_bucket = rates(observations, freq=FINE, by=(), **(both | {"start": start}))
    waiting = backlog(observations, freq=FINE, by=("policy_id",), **(both | {"start": start}))
    return Facts(
        week=week_name(monday),
        previous_week=week_name(monday - dt.timedelta(days=7)),
        tz=tz,
        previous_start=previous_start,
        previous_end=previous_end,
        start=start,
        end=end,
        as_of=as_of,
        store=store,
        n_observations=len(seen),
        n_batches=int(seen.nunique()),
        n_ended=int(ended.sum()),
        totals=totals,
        previous=previous,
        change=change,
        versions=versions,
        trend=reading.trend,
        comparison=compare_week(reading.batches, start, until, zone(tz)),
        outage=find_outage(waiting, work_by_bucket, until),
        rollouts=rollouts,
        control=chart[(most > 0).to_numpy(dtype=bool)].reset_index(drop=True),
        backlog=waiting,
        open=_open(waiting, until),
        stalled=_stalled(observations, ends, then, state_at),
        failures=list_failures(ends, start, until),
        data_quality=findings[findings["batch_id"].isin(touched)].reset_index(drop=True),
    )


def _work(
    observations: Selection, weeks: tuple[tuple[dt.datetime, dt.datetime], ...], as_of: dt.datetime
) -> pd.DataFrame:
    """Return the work of the compared hours of the previous week, of its rest, and of this week.

    Spans without length hold nothing and are left out of the edges, which must rise.
    """
    spans = [
        (kind, begin, stop)
        for kind, begin, stop in (
            (PREVIOUS, *weeks[0]),
            (BETWEEN, weeks[0][1], weeks[1][0]),
            (THIS, *weeks[1]),
        )
        if begin < stop
    ]
    edges = [begin for _, begin, _ in spans] + [spans[-1][2]]
    work = batch_work(observations, edges=list(map(to_us, edges)), as_of=to_us(as_of))
    return work.assign(bucket=work["bucket"].map(dict(enumerate(kind for kind, _, _ in spans))))


def _observed_shares(observations: Selection, both: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return coverage and smeared share of the previous week and of this one, of all policies and of each."""
    whole, each = (rates(observations, freq="W", by=by, **both) for by in ((), ("policy_id",)))
    # Typed, as pandas 2 warns of a column of None that meets one of strings.
    none = pd.Series(pd.NA, index=whole.index, dtype=STRING)
    rows = pd.concat([whole.assign(scope="all", policy_id=none), each.assign(scope="policy")])
    rows["policy_id"] = rows["policy_id"].astype(STRING)
    is_first = (rows["bucket_start"] < both["start"] + dt.timedelta(days=3, hours=12)).to_numpy()
    rows = rows[["scope", "policy_id", "coverage", "smeared_share"]]
    return rows[is_first], rows[~is_first]


def compare_week(
    batches: pd.DataFrame, start: dt.datetime, until: dt.datetime, tz: ZoneInfo
) -> VersionComparison:
    """Compare the versions that ended a batch in the week, since they ran beside their baselines.

    All policies are adjusted for each other, by Benjamini and Hochberg: one comparison for each baseline.
    """
    ended = batches["first_terminal_at"].between(start, until, inclusive="left").to_numpy(dtype=bool)
    whole = compare_batches(
        batches,
        window=(np.iinfo(np.int64).min, to_us(until)),
        tz=tz,
        as_of_us=to_us(until) - 1,
        wanted=ended,
    )
    # A version without any other has no baseline, and nothing to compare.
    is_baseline = (whole.table["role"] == "baseline").astype("bool")
    parts = is_baseline.groupby([whole.table["policy_id"].fillna(""), is_baseline.cumsum()])
    kept = np.flatnonzero(parts.transform("any") & (parts.transform("size") > 1))
    return dataclasses.replace(
        whole,
        table=whole.table.iloc[kept].reset_index(drop=True),
        found_on=tuple(whole.found_on[row] for row in kept),
    )


def _open(waiting: pd.DataFrame, until: dt.datetime) -> pd.DataFrame:
    """Return what was open just before an instant, by policy, from the last bucket of `backlog`."""
    at = pd.Timestamp(until)
    last = waiting[(waiting["bucket_start"] < at) & (waiting["bucket_end"] >= at) & (waiting["n_open"] > 0)]
    table = last[["policy_id", "n_open", "pending"]].reset_index(drop=True)
    for name in ("eta_low", "eta_high"):
        table[f"{name}_h"] = (last[name] / pd.Timedelta(hours=1)).to_numpy(dtype="float64")
    return table


def _stalled(
    observations: Selection, ends: pd.DataFrame, then: pd.DataFrame, at: dt.datetime
) -> pd.DataFrame:
    """List what stood still at an instant, the longest first, and say what became of it."""
    table = stalled_batches(observations, idle=IDLE_H * _HOUR, as_of=at)
    now = ends.set_index("batch_id").loc[table["batch_id"]]
    before = then.set_index("batch_id").loc[table["batch_id"]]
    moved = np.zeros(len(table), dtype=bool)
    for name in ("success_count", "error_count", "cancelled_count"):
        moved |= now[name].to_numpy() != before[name].to_numpy()
    seen_again = (now["last_observed_at"] > before["last_observed_at"]).to_numpy()
    since = np.select(
        [now["is_terminal"].to_numpy(dtype=bool), moved, seen_again], ["ended", "moved", "still"], "unknown"
    )
    result = table.assign(since=pd.array(since, dtype="str"))
    for name in ("idle_at_least", "idle_at_most"):
        result[f"{name}_h"] = result.pop(name) / pd.Timedelta(hours=1)
    return result.sort_values(["idle_at_least_h", "batch_id"], ascending=[False, True], ignore_index=True)
