"""Observations → everything that a week's report states, as numbers."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

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
    side_by_side,
)
from safetykit_analytics.report.weeks import Week

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
class Facts(Week):
    """All numbers of one week's report; `store` is a name, never a path."""

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

    @functools.cached_property
    def weeks(self) -> pd.DataFrame:
        """The three tables of weeks in one, with ``_before`` for the week before: all policies, then each."""
        return side_by_side(self.totals, self.previous, self.change)

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


def gather_facts(reading: Reading, findings: pd.DataFrame, *, store: str | None) -> Facts:
    """Compute everything that a report on one week states; `findings` are those of `data_quality`."""
    week, observations = reading.week, reading.selection
    until, as_of = week.until, week.as_of
    both: dict[str, Any] = {"tz": week.tz, "start": week.previous_start, "end": week.end, "as_of": as_of}
    this = both | {"start": week.start}
    work = _work(observations, week)
    ends = batch_summary(observations, as_of=to_us(as_of))
    ended = ends["first_terminal_at"].between(week.start, until, inclusive="left")
    seen = observations.seen_within(to_us(week.start), to_us(until)).to_pandas()
    earlier, later = _observed_shares(observations, both)
    totals, previous, change = compare_weeks(
        ends,
        ((week.previous_start, week.previous_end), (week.start, until)),
        work[work["bucket"] != BETWEEN],
        (earlier if week.previous_end == week.start else earlier.iloc[:0], later),
        (week.previous_hours, week.elapsed_hours),
    )
    chart = control_chart(reading.days, limits_before=week.start)
    chart = chart[(chart["bucket_start"] >= pd.Timestamp(week.previous_start)).to_numpy(dtype=bool)]
    # A group has rows from its first day with work on; one that did nothing in these two weeks is not shown.
    most = chart["processed"].abs().groupby([chart["policy_id"], chart["policy_version"]]).transform("max")
    touched = pd.concat([seen, work["batch_id"][work["bucket"] == THIS]]).unique()
    waiting = backlog(observations, freq=FINE, by=("policy_id",), **this)
    return Facts(
        **vars(week),
        store=store,
        n_observations=len(seen),
        n_batches=int(seen.nunique()),
        n_ended=int(ended.sum()),
        totals=totals,
        previous=previous,
        change=change,
        versions=rates(observations, freq="D", **both),
        trend=reading.trend,
        comparison=compare_week(reading.batches, week.start, until, zone(week.tz)),
        outage=find_outage(waiting, rates(observations, freq=FINE, by=(), **this), until),
        rollouts=list_rollouts(work.assign(bucket=work["bucket"].replace(BETWEEN, PREVIOUS)), ends),
        control=chart[(most > 0).to_numpy(dtype=bool)].reset_index(drop=True),
        backlog=waiting,
        open=_open(waiting, until),
        stalled=_stalled(observations, ends, max(week.start, week.state_at)),
        failures=list_failures(ends, week.start, until),
        data_quality=findings[findings["batch_id"].isin(touched)].reset_index(drop=True),
    )


def _work(observations: Selection, week: Week) -> pd.DataFrame:
    """Return the work of the compared hours of the previous week, of its rest, and of this week."""
    edges = sorted({week.previous_start, week.previous_end, week.start, week.until})
    work = batch_work(observations, edges=[*map(to_us, edges)], as_of=to_us(week.as_of))
    kinds = [THIS if at >= week.start else BETWEEN if at >= week.previous_end else PREVIOUS for at in edges]
    return work.assign(bucket=work["bucket"].map(dict(enumerate(kinds))))


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
    return compare_batches(
        batches,
        window=(np.iinfo(np.int64).min, to_us(until)),
        tz=tz,
        as_of_us=to_us(until) - 1,
        wanted=batches["first_terminal_at"].between(start, until, inclusive="left").to_numpy(dtype=bool),
    )


def _open(waiting: pd.DataFrame, until: dt.datetime) -> pd.DataFrame:
    """Return what was open just before an instant, by policy, from the last bucket of `backlog`."""
    at = pd.Timestamp(until)
    last = waiting[(waiting["bucket_start"] < at) & (waiting["bucket_end"] >= at) & (waiting["n_open"] > 0)]
    table = last[["policy_id", "n_open", "pending"]].reset_index(drop=True)
    for name in ("eta_low", "eta_high"):
        table[f"{name}_h"] = (last[name] / pd.Timedelta(hours=1)).to_numpy(dtype="float64")
    return table


def _stalled(observations: Selection, ends: pd.DataFrame, at: dt.datetime) -> pd.DataFrame:
    """List what stood still at an instant, the longest first, and say what became of it."""
    table = stalled_batches(observations, idle=IDLE_H * _HOUR, as_of=at)
    now = ends.set_index("batch_id").loc[table["batch_id"]]
    is_now = to_us(at) >= observations.as_of
    then = ends if is_now else batch_summary(observations, as_of=to_us(at))
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
