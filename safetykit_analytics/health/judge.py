"""What is wrong with polling, with policies and with batches: one function per kind of finding."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from safetykit_analytics import flow
from safetykit_analytics.calendar import DAY_US, to_us, zone
from safetykit_analytics.compare import compare_versions
from safetykit_analytics.formatting import NONE, hours, percent, plural, points, points_interval, visible_name
from safetykit_analytics.rates import backlog, parse_as_of, stalled_batches
from safetykit_analytics.stats import cluster_rates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

READ_DAYS, _NEW_DAYS = 28, 14
_DAY, _HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)


class Limits(NamedTuple):
    """Limits, checked; `error_rate` is for policies that `by_policy` does not name."""

    error_rate: float | None
    by_policy: dict[str, float]
    stalled: pd.Timedelta
    silent: pd.Timedelta
    eta: pd.Timedelta | None


@dataclass(frozen=True)
class Facts:
    """What findings are judged from: recent observations and their batches; `last` is of all observations."""

    now: pd.Timestamp
    last: pd.Timestamp
    recent: flow.Selection
    batches: pd.DataFrame
    tz: ZoneInfo

    @property
    def open(self) -> pd.DataFrame:
        """Return the batches that were not terminal when last seen."""
        return self.batches[~self.batches["is_terminal"]]

    def shown(self, at: pd.Timestamp) -> str:
        """Write an instant as the clock of the zone shows it."""
        return f"{at.tz_convert(self.tz):%Y-%m-%d %H:%M %Z}"


class Finding(NamedTuple):
    """One row of the table, and its sentence."""

    kind: str
    policy_id: Any
    policy_version: Any
    batch_id: Any
    since: Any
    value: float
    limit: float
    sentence: str


def moment(as_of: object, tz: str) -> int:
    """Read `as_of`, whose default is now, as microseconds since 1970 UTC."""
    at = parse_as_of(as_of, zone(tz))
    return to_us(dt.datetime.now(dt.UTC)) if at is None else at


def judge(facts: Facts, limits: Limits, observations: Any) -> list[Finding]:
    """Return all findings; `observations` are what was passed, which a frame may contradict within itself."""
    by_limits = (_silent, _error_rate, _backlog_late, _stalled, _unanswered)
    found = [one for kind in by_limits for one in kind(facts, limits)]
    return [*found, *_worse_version(facts), *_contradiction(facts, observations)]


def _silent(facts: Facts, limits: Limits) -> Iterator[Finding]:
    silent, n = facts.now - facts.last, len(facts.open)
    if n and silent >= limits.silent:
        sentence = (
            f"nothing was observed for {hours(silent / _HOUR)}, since {facts.shown(facts.last)}, although "
            f"{plural(n, 'batch')} {'is' if n == 1 else 'are'} open: is the poll running?"
        )
        yield Finding("silent", None, None, None, facts.last, silent / _HOUR, limits.silent / _HOUR, sentence)


def _error_rate(facts: Facts, limits: Limits) -> Iterator[Finding]:
    done = facts.batches[facts.batches["first_terminal_at"] > facts.now - _DAY]
    done = done.assign(n=done["success_count"] + done["error_count"]).query("n > 0")
    code, policies = pd.factorize(done["policy_id"])
    rates = cluster_rates(code, done["error_count"], done["n"], n_groups=len(policies))
    n_batches = np.bincount(code, minlength=len(policies))
    for at, policy in enumerate(policies):
        limit, rate, low = limits.by_policy.get(policy, limits.error_rate), rates.rate[at], rates.low[at]
        # One batch alone does not tell how much batches differ.
        if limit is None or n_batches[at] < 2 or not low > limit:
            continue
        sentence = (
            f"{visible_name(policy)}: {percent(rate)} of decisions were errors in {n_batches[at]:,} batches "
            f"that ended within 24 h (95 % confident of {percent(low)}); the limit is {percent(limit)}"
        )
        since = done["first_terminal_at"][code == at].min()
        yield Finding("error_rate", policy, None, None, since, rate, limit, sentence)


def _worse_version(facts: Facts) -> Iterator[Finding]:
    """Judge new versions alone: of an older one the window would begin anew with every look."""
    batches = facts.batches
    born = _begun(batches).groupby([batches["policy_id"], batches["policy_version"]]).min()
    new = born[born >= facts.now - _NEW_DAYS * _DAY]
    n_versions = born.groupby(level=0).size()
    policies = [name for name in new.index.unique(level=0) if n_versions[name] > 1]
    if not policies:
        return
    chosen = facts.recent.of_batches(batches["batch_id"][batches["policy_id"].isin(policies)])
    table = compare_versions(chosen).table
    # Each baseline stands above its candidates.
    table["baseline"] = table["policy_version"].where(table["role"] == "baseline").ffill()
    for row in table[table["verdict"].eq("higher").fillna(value=False)].itertuples():
        version = (row.policy_id, row.policy_version)
        if version in new.index:
            sentence = (
                f"{visible_name(row.policy_id)}: {visible_name(row.policy_version)} has more errors than "
                f"{visible_name(row.baseline)}: {points(row.difference)} "
                f"({points_interval(row.difference_low, row.difference_high)})"
            )
            yield Finding("worse_version", *version, None, new[version], row.difference, np.nan, sentence)


def _backlog_late(facts: Facts, limits: Limits) -> Iterator[Finding]:
    if limits.eta is None or facts.open.empty:
        return
    limit, last = limits.eta / _HOUR, facts.last.to_pydatetime()
    table = backlog(facts.recent, freq="1D", by="policy_id", start=last - dt.timedelta(days=1), as_of=last)
    table = table.drop_duplicates("policy_id", keep="last")
    oldest = _begun(facts.open).groupby(facts.open["policy_id"]).min()
    for row in table[(table["n_open"] > 0) & (table["pending"] > 0)].itertuples():
        since, never = oldest[row.policy_id], pd.isna(row.eta_low)
        # A policy that has just begun has had no time for a pace.
        if not (facts.last - since if never else row.eta_low) > limits.eta:
            continue
        takes = np.nan if never else row.eta_low / _HOUR
        pace = "none was finished in 7 days" if never else f"its fastest day of seven needs {hours(takes)}"
        sentence = (
            f"{visible_name(row.policy_id)}: {plural(row.pending, 'decision')} pending at "
            f"{facts.shown(facts.last)}, and {pace}; the limit is {hours(limit)}"
        )
        yield Finding("backlog_late", row.policy_id, None, None, since, takes, limit, sentence)


def _stalled(facts: Facts, limits: Limits) -> Iterator[Finding]:
    idle = limits.stalled.to_pytimedelta()
    for row in stalled_batches(facts.recent, idle=idle, as_of=facts.now.to_pydatetime()).itertuples():
        since, value = row.last_observed_at - row.idle_at_least, row.idle_at_least / _HOUR
        sentence = (
            f"{_named(row)}: {plural(row.pending_count, 'decision')} pending, and no count had changed for "
            f"{hours(value)} at {facts.shown(row.last_observed_at)}"
        )
        yield Finding("stalled", *_key(row), since, value, limits.stalled / _HOUR, sentence)


def _unanswered(facts: Facts, limits: Limits) -> Iterator[Finding]:
    for row in facts.open[facts.open["last_observed_at"] < facts.last - limits.silent].itertuples():
        since, value = row.last_observed_at, (facts.last - row.last_observed_at) / _HOUR
        sentence = (
            f"{_named(row)}: open, but not observed since {facts.shown(since)}, although other batches were "
            f"for {hours(value)} more: does the API still know it?"
        )
        yield Finding("unanswered", *_key(row), since, value, limits.silent / _HOUR, sentence)


def _contradiction(facts: Facts, observations: Any) -> Iterator[Finding]:
    source: Any = facts.recent.observed_since(facts.recent.as_of - DAY_US)
    if isinstance(observations, pd.DataFrame):
        source = observations[pd.to_datetime(observations["observed_at"], utc=True) >= facts.now - _DAY]
    odd = flow.contradictions(source, as_of=facts.recent.as_of).to_pandas()
    odd["kind"] = odd["kind"].map(dict(enumerate(flow.KINDS)))
    odd = odd[odd["kind"].isin(["parts_do_not_sum", "conflicting_duplicate"])].drop_duplicates("batch_id")
    for row in facts.batches.merge(odd[["batch_id", "kind", "value"]], on="batch_id").itertuples():
        what = "two answers of one instant differ"
        if row.kind == "parts_do_not_sum":
            by = f"{plural(abs(row.value), 'decision')} {'less' if row.value > 0 else 'more'}"
            what = f"success, error, cancelled and pending are {by} than the size of the batch"
        since, sentence = row.last_observed_at, f"{_named(row)}: {what}"
        yield Finding("contradiction", *_key(row), since, row.value, np.nan, sentence)


def _begun(batches: pd.DataFrame) -> Any:
    return batches["created_at"].fillna(batches["first_observed_at"])


def _key(row: Any) -> tuple[Any, Any, Any]:
    return row.policy_id, row.policy_version, row.batch_id


def _named(row: Any) -> str:
    labels = [visible_name(name) for name in (row.policy_id, row.policy_version) if name != NONE]
    return visible_name(row.batch_id) + (f" ({' '.join(labels)})" if labels else "")
