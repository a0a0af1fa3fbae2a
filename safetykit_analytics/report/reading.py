"""Observations → what a week's report is computed from. Each cohort is read at most twice, of one listing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from safetykit_analytics.arrays import NEVER
from safetykit_analytics.batch_ids import cohort_days
from safetykit_analytics.calendar import from_us, parse_freq, to_us, zone
from safetykit_analytics.compare import BATCH_COLUMNS
from safetykit_analytics.flow import cohort_day, reduced, select, summarize, summary_sources, with_listing
from safetykit_analytics.frame import frame_from_table
from safetykit_analytics.labels import LABELS
from safetykit_analytics.rates import plan_rates, rates_table
from safetykit_analytics.report.weeks import Week, find_week, last_complete_monday, monday_of, week_bounds
from safetykit_analytics.schema import OBSERVATION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safetykit_analytics.flow import Listing, Reduced, Rows, Selection
    from safetykit_analytics.rates import RatesPlan

#: Weeks of the trend that is drawn beside the two that are compared.
TREND_WEEKS = 8
#: Weeks before the report's that the limits of its control chart come from.
CHART_WEEKS = 4


@dataclass(frozen=True)
class Reading:
    """What a week's report is computed from: the observations that both weeks depend on, and tables of them.

    `batches` (`compare.BATCH_COLUMNS`) are all those begun before the week's end: versions are compared since
    they ran. `trend` is as `rates` by week and policy; `days` by day, policy and version, from CHART_WEEKS
    before the week.
    """

    week: Week
    selection: Selection
    batches: pd.DataFrame
    trend: pd.DataFrame
    days: pd.DataFrame


def read_week(observations: Any, *, week: str | None, tz: str, as_of: int | None) -> Reading:
    """Read what the report on one week, by default the last that was over, is computed from.

    Raises ValueError for no such week, and without a week, `as_of` or any observation to take it from.
    """
    function = partial(_read, week=week, tz=tz, as_of=as_of)
    return with_listing(observations, OBSERVATION_SCHEMA.names, as_of, function)


def _read(listing: Listing, *, week: str | None, tz: str, as_of: int | None) -> Reading:
    known = from_us(listing.as_of) if listing.cohorts or as_of is not None else None
    if week is not None:
        monday = monday_of(week)
    elif known is not None:
        monday = last_complete_monday(known, tz)
    else:
        raise ValueError(
            "there are no observations to take the last week from: is this the right store? Else give week= "
            "or as_of= (to the command: --week or --as-of)"
        )
    found = find_week(monday, tz, known if known is not None else week_bounds(monday, tz)[1])

    def plan(freq: str, by: tuple[str, ...], *, weeks: int, lead: int) -> RatesPlan:
        window = to_us(week_bounds(monday - dt.timedelta(weeks=weeks), tz)[0]), to_us(found.end)
        return plan_rates(listing, parse_freq(freq), by=by, tz=zone(tz), window=window, lead=lead)

    plans = (
        plan("W", ("policy_id",), weeks=TREND_WEEKS - 1, lead=TREND_WEEKS),
        plan("D", LABELS, weeks=CHART_WEEKS, lead=0),
    )
    read = partial(reduced, columns=summary_sources(BATCH_COLUMNS), labels=LABELS)
    until = to_us(found.until)
    parts = list(
        read(
            listing.where(lambda cohort: cohort.earliest < until),
            partial(_reduce, plans=plans, begun_before=until),
        )
    )
    tables = []
    for place, one in enumerate(plans):
        results = [(follow, part) for follow, (some, _) in parts if (part := some[place]) is not None]
        tables.append(rates_table(one, results or read(listing.where(lambda _: False), one.reduce)))
    batches = frame_from_table(pa.concat_tables([some for _, (_, some) in parts]))
    matters = ~batches["is_terminal"] | (batches["last_observed_at"] >= pd.Timestamp(found.previous_start))
    days = set(cohort_days(pa.array(batches["batch_id"][matters], pa.string())).tolist())
    mine = listing.where(lambda cohort: cohort.name is None or cohort_day(cohort.name) in days)
    return Reading(
        week=found,
        selection=select(mine, start=to_us(found.previous_start), end=to_us(found.end)),
        batches=batches,
        trend=tables[0],
        days=tables[1],
    )


def _reduce(rows: Rows, *, plans: Sequence[RatesPlan], begun_before: int) -> tuple[list[Reduced | None], Any]:
    """Reduce a piece of a cohort to all that the report needs of it."""
    batches = summarize(rows, columns=BATCH_COLUMNS, begun_before=begun_before)
    return [plan.reduce(rows) if _touches(rows, plan.edges) else None for plan in plans], batches


def _touches(rows: Rows, edges: Any) -> bool:
    """Return whether anything of some batches can lie between the guards."""
    if not rows.n_batches:
        return True
    is_open = not rows.terminal[rows.first[1:] - 1].all()
    earliest = min(int(rows.t.min()), int(rows.created.min(where=rows.created != NEVER, initial=rows.t[0])))
    return bool(earliest < edges[-2] and (is_open or rows.t.max() >= edges[1]))
