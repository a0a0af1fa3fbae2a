"""The tables of a week that no other stage makes: weeks side by side, roll-outs, failures, findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from safetykit_analytics.arrays import ratio
from safetykit_analytics.frame import STRING
from safetykit_analytics.rates import grouped
from safetykit_analytics.stats import (
    ClusterRates,
    Differences,
    adjust,
    find_outcomes,
    make_strata,
    permutation_p,
    verdicts,
    week_over_week,
)

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray


_WORK = ("success", "error", "cancelled")
_UNTRUSTED = 0.5
# Twelve hours of buckets of six.
_OUTAGE_BUCKETS = 2
# A change of a week that reaches this level is a headline: about half a false one a year.
_HEADLINE = 0.01

#: The verdict on a week in which too little was observed, or too much of the work was spread over long
#: intervals.
NOT_OBSERVED = "not observed enough"


def compare_weeks(
    ends: pd.DataFrame,
    spans: tuple[tuple[dt.datetime, dt.datetime], tuple[dt.datetime, dt.datetime]],
    work: pd.DataFrame,
    observed: tuple[pd.DataFrame, pd.DataFrame],
    hours: tuple[float, float],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Compare two spans of time: later, earlier and change, for all policies (`scope` = all), then for each.

    `ends` is as `batch_summary`, `work` as `batch_work` with `bucket` 0 for the earlier span; `observed`
    holds `coverage` and `smeared_share` by `policy_id` (absent for the row of all). `throughput_change` is a
    fraction of the earlier throughput; `difference` one of error rates, later - earlier, with the interval of
    a batch as the unit, also where a batch worked in both. `p_adjusted` is Benjamini and Hochberg's over the
    policies; the row of all policies stands for itself. `is_headline`: also by a permutation test of the
    batches that ended in each span, and below 1 %. `mix_effect` and `rate_effect` add up to the difference of
    all policies: how much comes from the shares of the policies, and how much from their rates.
    """
    group, names = grouped(work, ["policy_id"])
    heads = pd.DataFrame(
        {
            "scope": ["all"] + ["policy"] * len(names),
            "policy_id": pd.array([None, *names["policy_id"]], dtype=STRING),
        }
    )
    both = pd.concat([work.assign(group=0), work.assign(group=group + 1)])
    sums = both.groupby(["group", "batch_id", "bucket"])[list(_WORK)].sum()
    sums = sums.unstack(fill_value=0.0)  # noqa: PD010 -- a pivot table of nothing has no columns
    sums = sums.reindex(columns=pd.MultiIndex.from_product([_WORK, (0, 1)]), fill_value=0.0)
    sides = [sums.xs(bucket, axis=1, level=1) for bucket in (0, 1)]
    sides = [
        side.assign(processed=side["success"] + side["error"], n_batches=(side != 0).any(axis=1))
        for side in sides
    ]
    earlier, later, change = week_over_week(
        sums.index.get_level_values("group"),
        (sides[0]["error"], sides[1]["error"]),
        (sides[0]["processed"], sides[1]["processed"]),
        n_groups=len(heads),
    )
    tables = [
        _side(heads, sides[index], estimate, hours[index], observed[index])
        for index, estimate in ((1, later), (0, earlier))
    ]
    table = _change(heads, tables[0], tables[1], change)
    table["is_headline"] = _headlines(table, ends, spans)
    table["mix_effect"], table["rate_effect"] = _effects(tables[1], tables[0])
    return tables[0], tables[1], table


def side_by_side(totals: pd.DataFrame, previous: pd.DataFrame, change: pd.DataFrame) -> pd.DataFrame:
    """Join the tables of `compare_weeks`; columns of the earlier span end in ``_before``."""
    keys = ["scope", "policy_id"]
    before = previous.drop(columns=keys).add_suffix("_before")
    return pd.concat([totals, change.drop(columns=[*keys, "note"]), before], axis=1)


def _headlines(
    table: pd.DataFrame,
    ends: pd.DataFrame,
    spans: tuple[tuple[dt.datetime, dt.datetime], tuple[dt.datetime, dt.datetime]],
) -> NDArray[np.bool_]:
    """Return which changes of policies hold by the larger of two p-values, adjusted, below 1 %."""
    p = table["p_value"].to_numpy(dtype="float64").copy()
    p[0] = np.nan
    used = ends[(ends["is_terminal"] & ~ends["label_changed"]).to_numpy(dtype=bool)]
    n = (used["success_count"] + used["error_count"]).to_numpy()
    parts = [
        used["first_terminal_at"].between(*span, inclusive="left").to_numpy(dtype=bool) for span in spans
    ]
    policies = used["policy_id"].fillna("").to_numpy()
    for row in np.flatnonzero(p < _HEADLINE).tolist():
        name = table["policy_id"].iloc[row]
        rows = np.flatnonzero((policies == ("" if pd.isna(name) else name)) & (n > 0) & (parts[0] | parts[1]))
        nothing = np.zeros(len(rows), dtype=np.int64)
        strata = make_strata(
            (nothing, nothing, nothing),
            used["error_count"].to_numpy()[rows],
            n[rows],
            parts[1][rows],
        )
        p[row] = np.nanmax([p[row], permutation_p(find_outcomes(strata))]) if len(strata.pair) else 1.0
    found: NDArray[np.bool_] = adjust(p, "bh") < _HEADLINE
    return found


def _effects(earlier: pd.DataFrame, later: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split the change of all policies' rate into shares and rates, each at the mean of the other.

    Kitagawa (1955). Components of a difference between two rates. JASA 50:1168-1194.
    """
    mix, own = (np.full(len(earlier), np.nan) for _ in range(2))
    sides = [side.iloc[1:] for side in (earlier, later)]
    sizes = [side["processed"].to_numpy(dtype="float64") for side in sides]
    if min(size.sum() for size in sizes) <= 0:
        return mix, own
    share = [size / size.sum() for size in sizes]
    rate = [side["error_rate"].to_numpy(dtype="float64") for side in sides]
    # A policy with one week only changes the mix alone.
    rate = [np.where(np.isnan(rate[i]), rate[1 - i], rate[i]) for i in (0, 1)]
    known = ~np.isnan(rate[0])
    mix[0] = ((share[1] - share[0]) * (rate[0] + rate[1]) / 2.0)[known].sum()
    own[0] = ((rate[1] - rate[0]) * (share[0] + share[1]) / 2.0)[known].sum()
    return mix, own


def _side(
    heads: pd.DataFrame, batches: pd.DataFrame, estimate: ClusterRates, hours: float, observed: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per head: the work of one span, its bounds, and how well it was observed."""
    sums = batches.groupby(level="group").sum().reindex(heads.index, fill_value=0)
    table = heads.assign(**sums[["n_batches", "processed", *_WORK]])
    table["throughput_per_hour"] = table["processed"] / hours if hours else np.nan
    table["error_rate"] = estimate.rate
    table["error_rate_low"], table["error_rate_high"] = estimate.low, estimate.high
    table["note"] = estimate.note
    return table.merge(observed, on=["scope", "policy_id"], how="left", validate="one_to_one")


def _change(
    heads: pd.DataFrame, later: pd.DataFrame, earlier: pd.DataFrame, found: Differences
) -> pd.DataFrame:
    table = heads.copy()
    before = earlier["throughput_per_hour"].to_numpy(dtype="float64")
    after = later["throughput_per_hour"].to_numpy(dtype="float64")
    table["throughput_change"] = ratio(after, before) - 1.0
    unsure = np.zeros(len(table), dtype=bool)
    for side in (later, earlier):
        unsure |= (side["coverage"] < _UNTRUSTED).to_numpy() | (side["smeared_share"] > _UNTRUSTED).to_numpy()
    p_value = np.where(unsure, np.nan, found.p_value)
    p_adjusted = p_value.copy()
    p_adjusted[1:] = adjust(p_value[1:], "bh")
    verdict = verdicts(found, p_adjusted)
    verdict[unsure & ~np.isnan(found.difference)] = NOT_OBSERVED
    verdict[np.isnan(found.difference)] = "nothing to compare"
    table["difference"] = found.difference
    table["difference_low"] = np.where(unsure, np.nan, found.low)
    table["difference_high"] = np.where(unsure, np.nan, found.high)
    table["p_value"], table["p_adjusted"] = p_value, p_adjusted
    table["verdict"], table["note"] = verdict, found.note
    return table


def list_rollouts(work: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """List which versions came, stayed and went: one row per policy and version, in natural order.

    `work` has `bucket` 0 for the previous week and 1 for this one. `first_created_at` is that of the
    version's batches that worked in either week (NaT where no id tells); `share` and `previous_share` are of
    the policy's processed decisions.
    """
    group, table = grouped(work, ["policy_id", "policy_version"])
    work = work.assign(group=group, processed=work["success"] + work["error"])
    for name, bucket in (("previous_processed", 0), ("processed", 1)):
        sums = work[work["bucket"] == bucket].groupby("group")["processed"].sum()
        table[name] = sums.reindex(table.index, fill_value=0.0)
    born = work.merge(ends[["batch_id", "created_at"]], on="batch_id").groupby("group")["created_at"].min()
    table["first_created_at"] = born.reindex(table.index)
    for name, share in (("processed", "share"), ("previous_processed", "previous_share")):
        whole = table.groupby("policy_id", dropna=False)[name].transform("sum").to_numpy()
        table[share] = ratio(table[name].to_numpy(), whole)
    table["status"] = np.select(
        [table["previous_processed"] == 0, table["processed"] == 0], ["new", "gone"], "at work"
    )
    return table


@dataclass(frozen=True)
class Outage:
    """The longest stretch of a week in which open batches were watched and none of them moved.

    `pending` counts the decisions that waited at its end.
    """

    start: dt.datetime
    end: dt.datetime
    pending: float


def find_outage(waiting: pd.DataFrame, work: pd.DataFrame, until: dt.datetime) -> Outage | None:
    """Find the longest run of two or more buckets in which nothing was processed though batches were open.

    `waiting` is as `backlog`, by policy; `work` as `rates` over all policies, with the same buckets.
    """
    open_ = waiting.groupby("bucket_start")[["n_open", "pending"]].sum()
    rows = work[(work["bucket_end"] <= pd.Timestamp(until)).to_numpy(dtype=bool)]
    watched = rows["coverage"].ge(_UNTRUSTED).fillna(value=False).to_numpy(dtype=bool)
    n_open = open_["n_open"].reindex(rows["bucket_start"]).fillna(0).to_numpy()
    idle = watched & (n_open > 0) & (rows["processed"].abs() < 1e-9).to_numpy(dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], idle, [False]])))
    runs = [(int(end - begin), int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
    longest = max(runs, default=(0, 0, 0), key=lambda run: run[0])
    if longest[0] < _OUTAGE_BUCKETS or not (rows["processed"] > 0).any():
        return None
    first, last = rows.iloc[longest[1]], rows.iloc[longest[2] - 1]
    pending = float(open_["pending"].get(last["bucket_start"], 0.0))
    return Outage(
        first["bucket_start"].tz_convert("UTC").to_pydatetime(),
        last["bucket_end"].tz_convert("UTC").to_pydatetime(),
        pending,
    )


def list_failures(ends: pd.DataFrame, start: dt.datetime, end: dt.datetime) -> pd.DataFrame:
    """List the batches that ended in ERROR or CANCELLED within [start, end), those with most undone first.

    `ended_at` is the first terminal observation, `undone` counts cancelled and still pending decisions.
    """
    in_week = (ends["first_terminal_at"] >= start) & (ends["first_terminal_at"] < end)
    failed = ends[in_week & ends["first_terminal_status"].isin(["ERROR", "CANCELLED"]).to_numpy(dtype=bool)]
    table = pd.DataFrame(
        {
            "batch_id": failed["batch_id"],
            "policy_id": failed["policy_id"],
            "policy_version": failed["policy_version"],
            "ended_at": failed["first_terminal_at"],
            "batch_status": failed["first_terminal_status"],
            "batch_count": failed["batch_count"],
            "processed": failed["success_count"] + failed["error_count"],
            "undone": failed["cancelled_count"] + failed["pending_count"],
        }
    )
    return table.sort_values(["undone", "batch_id"], ascending=[False, True], ignore_index=True)
