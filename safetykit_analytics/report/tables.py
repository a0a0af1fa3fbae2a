"""The tables of a week that no other stage makes: weeks side by side, roll-outs, failures, findings.

Place in the flow: rates, stats → **tables** → `facts`. DataFrames in, DataFrames out; nothing is
formatted here.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from safetykit_analytics.frame import STRING
from safetykit_analytics.rates.completion import grouped
from safetykit_analytics.stats import ClusterRates, Differences, adjust, verdicts, week_over_week

if TYPE_CHECKING:
    import datetime as dt

    from safetykit_analytics.compare import VersionComparison

_WORK = ("success", "error", "cancelled")
_UNTRUSTED = 0.5

#: The verdict on a week in which too little was observed, or too much of the work was spread over long
#: intervals.
NOT_OBSERVED = "not observed enough"


def compare_weeks(
    work: pd.DataFrame, observed: tuple[pd.DataFrame, pd.DataFrame], hours: tuple[float, float]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Set two spans of time against each other, for all policies together and for each.

    Parameters
    ----------
    work : DataFrame
        As `batch_work`, with `bucket` 0 for the earlier span and 1 for the later.
    observed : two DataFrames
        `policy_id` (absent for the row of all policies), `coverage` and `smeared_share` of both spans.
    hours : two floats
        How long each span is.

    Returns
    -------
    later, earlier, change : DataFrame
        Rows in the same order: all policies together (`scope` = all), then each (`scope` = policy) in natural
        order. `throughput_change` is a fraction of the earlier throughput; `difference` one of error
        rates, later - earlier, with the interval of a batch as the unit, also where a batch worked in
        both. `p_adjusted` is Benjamini and Hochberg's over the policies; the row of all policies stands
        for itself.
    """
    group, names = grouped(work, ["policy_id"])
    rows = pd.concat(
        [_per_batch(work.assign(group=0)), _per_batch(work.assign(group=group + 1))], ignore_index=True
    )
    earlier, later, change = week_over_week(
        rows["group"].to_numpy(),
        (rows["error_0"].to_numpy(), rows["error_1"].to_numpy()),
        (rows["processed_0"].to_numpy(), rows["processed_1"].to_numpy()),
        n_groups=len(names) + 1,
    )
    heads = pd.DataFrame(
        {
            "scope": ["all"] + ["policy"] * len(names),
            "policy_id": pd.array([None, *names["policy_id"]], dtype=STRING),
        }
    )
    sums = rows.groupby("group").sum(numeric_only=True).reindex(range(len(heads)), fill_value=0.0)
    tables = [
        _side(heads, sums.filter(regex=f"_{index}$"), estimate, hours[index], observed[index])
        for index, estimate in ((1, later), (0, earlier))
    ]
    return tables[0], tables[1], _change(heads, tables[0], tables[1], change)


def _per_batch(work: pd.DataFrame) -> pd.DataFrame:
    """One row per batch and group; the counters of both spans side by side."""
    first, second = (
        work[work["bucket"] == bucket]
        .groupby(["group", "batch_id"])[list(_WORK)]
        .sum()
        .add_suffix(f"_{bucket}")
        for bucket in (0, 1)
    )
    wide = first.join(second, how="outer").fillna(0.0).sort_index()
    for bucket in (0, 1):
        wide[f"processed_{bucket}"] = wide[f"success_{bucket}"] + wide[f"error_{bucket}"]
        wide[f"worked_{bucket}"] = (
            (wide[[f"{name}_{bucket}" for name in _WORK]] != 0).any(axis=1).astype("int64")
        )
    return wide.reset_index()


def _side(
    heads: pd.DataFrame,
    sums: pd.DataFrame,
    estimate: ClusterRates,
    hours: float,
    observed: pd.DataFrame,
) -> pd.DataFrame:
    """One row per head: what was done in one span, how surely it is known, and how well it was observed."""
    table = heads.copy()
    sums = sums.rename(columns=lambda name: name[:-2])
    table["n_batches"] = sums["worked"].to_numpy().astype("int64")
    for name in ("processed", *_WORK):
        table[name] = sums[name].to_numpy()
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
    table["throughput_change"] = (
        np.divide(after, before, out=np.full(len(table), np.nan), where=before > 0) - 1.0
    )
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


def observed_shares(all_policies: pd.DataFrame, by_policy: pd.DataFrame) -> pd.DataFrame:
    """Take coverage and smeared share of one week from `rates` tables: of all policies, and of each."""
    columns = ["scope", "policy_id", "coverage", "smeared_share"]
    # Typed, as pandas 2 warns of a column of None that meets one of strings.
    none = pd.Series(pd.NA, index=all_policies.index, dtype=STRING)
    rows = pd.concat(
        [all_policies.assign(scope="all", policy_id=none), by_policy.assign(scope="policy")],
        ignore_index=True,
    )[columns]
    rows["policy_id"] = rows["policy_id"].astype(STRING)
    return rows


def list_rollouts(work: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Say which versions came, stayed and went.

    Parameters
    ----------
    work : DataFrame
        As `batch_work`, with `bucket` 0 for the previous week and 1 for this one, whole.
    ends : DataFrame
        As `batch_ends`.

    Returns
    -------
    DataFrame
        One row per policy and version with work in either week, in natural order: `status` (new: no work
        in the previous week; gone: none in this one; at work), `first_created_at` (of the version's batches
        that worked in either week; NaT where no id tells), `processed`, `previous_processed`, and `share` and
        `previous_share` of the policy's processed decisions.
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
        table[share] = np.divide(
            table[name].to_numpy(), whole, out=np.full(len(table), np.nan), where=whole > 0
        )
    table["status"] = np.select(
        [table["previous_processed"] == 0, table["processed"] == 0], ["new", "gone"], "at work"
    )
    return table


def adjust_together(comparisons: tuple[VersionComparison, ...]) -> tuple[VersionComparison, ...]:
    """Adjust the p-values of all comparisons on one page for each other, and their verdicts with them.

    By Benjamini and Hochberg. Looking at every policy every week is looking often: adjusted policy by
    policy, twenty policies without any difference would give a false alarm in most weeks.
    """
    if not comparisons:
        return ()
    p_values = np.concatenate(
        [comparison.table["p_value"].to_numpy(dtype="float64") for comparison in comparisons]
    )
    adjusted = adjust(p_values, "bh")
    found, at = [], 0
    for comparison in comparisons:
        table = comparison.table.copy()
        table["p_adjusted"] = adjusted[at : at + len(table)]
        at += len(table)
        decided = table["verdict"].isin(["higher", "lower", "no difference found"]).to_numpy(dtype=bool)
        significant = decided & (table["p_adjusted"] < 1.0 - comparison.confidence).to_numpy()
        higher = (table["difference"] > 0).to_numpy()
        verdict = np.select(
            [significant & higher, significant, decided],
            ["higher", "lower", "no difference found"],
            table["verdict"].astype(object),
        )
        table["verdict"] = pd.array(verdict, dtype=STRING)
        found.append(dataclasses.replace(comparison, table=table, correction="bh"))
    return tuple(found)


def list_failures(ends: pd.DataFrame, start: dt.datetime, end: dt.datetime) -> pd.DataFrame:
    """List the batches that ended in ERROR or CANCELLED within [start, end), those with most undone first.

    Returns
    -------
    DataFrame
        `batch_id`, `policy_id`, `policy_version`, `ended_at` (the first terminal observation),
        `batch_status`, `batch_count`, `processed`, `undone` (cancelled or still pending decisions).
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
