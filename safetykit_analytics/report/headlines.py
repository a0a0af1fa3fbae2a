"""The three sentences that a reader takes away: changes, stuck batches, and the limits of the data.

Versions are not assigned by chance, and looking every week is looking often. So a difference is
*associated with* a version, and the sentence names the interval and what it rests on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from safetykit_analytics import formatting as fmt
from safetykit_analytics.calendar import zone
from safetykit_analytics.formatting import MISSING, is_missing
from safetykit_analytics.report.document import Name, Sentence, named
from safetykit_analytics.report.facts import IDLE_H

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd

    from safetykit_analytics.report.facts import Facts
    from safetykit_analytics.report.week_tables import Outage

#: Below this share of observed active time, the headline on limits is about coverage.
_WELL_OBSERVED = 0.9
#: A shift of the mix of policies by less than this is not worth a sentence.
_LITTLE_MIX = 0.0005


class _Change(NamedTuple):
    """A significant difference; `decisions` is how many more or fewer errors it stands for."""

    decisions: float
    policy: Name
    sentence: Sentence


def headlines(facts: Facts) -> tuple[Sentence, Sentence, Sentence]:
    """Write the three sentences, always in the same order."""
    return what_changed(facts), what_is_stuck(facts), what_cannot_be_said(facts)


def what_changed(facts: Facts) -> Sentence:
    """Name the significant change that concerns most decisions, or say that there is none."""
    whole = all_policies(facts.weeks)
    if not whole.processed > 0:
        return ("No decision was processed in this week, so there is no error rate to compare.",)
    if facts.outage is not None:
        return _outage(facts.outage)
    weekly, between = _weekly_changes(facts), _version_changes(facts)
    if not weekly and not between:
        return _no_change(facts, whole)
    # A rate that moved in this week is news; a difference of versions may have been there for longer.
    largest = max(weekly or between, key=lambda change: change.decisions)
    # What happened to the policy first, then the version that goes with it.
    same = [[change for change in some if change.policy == largest.policy] for some in (weekly, between)]
    first, *second = [max(some, key=lambda change: change.decisions).sentence for some in same if some]
    return (*first, " ", *second[0]) if second else first


def _outage(outage: Outage) -> Sentence:
    lasted = (outage.end - outage.start).total_seconds() / 3600
    return (
        f"Nothing was processed for {fmt.hours(lasted)}, from {outage.start:%Y-%m-%d %H:%M} UTC, while "
        f"batches were open: {fmt.number(outage.pending)} decisions were pending at its end.",
    )


def _weekly_changes(facts: Facts) -> list[_Change]:
    found = []
    for row in facts.weeks.itertuples():
        if row.scope == "policy" and row.verdict in {"higher", "lower"} and row.is_headline:
            policy = named(row.policy_id)
            moved = "rose" if row.verdict == "higher" else "fell"
            sentence: Sentence = (
                "The error rate of ",
                policy,
                f" {moved} from {fmt.percent(row.error_rate_before)} to "
                f"{fmt.percent(row.error_rate)} "
                f"({fmt.points_between(row.error_rate_before, row.error_rate)}, 95 % interval "
                f"{fmt.points_interval(row.difference_low, row.difference_high)}), over "
                f"{fmt.number(row.processed)} decisions in {fmt.plural(row.n_batches, 'batch')}.",
            )
            found.append(_Change(abs(row.difference) * row.processed, policy, sentence))
    return found


def _version_changes(facts: Facts) -> list[_Change]:
    found = []
    for row, baseline, found_on in facts.versions_compared():
        if is_missing(row.verdict):
            continue
        if row.verdict in {"higher since", "lower since"}:
            found.append(_handed_over(row, baseline))
        if row.verdict in {"higher", "lower"}:
            policy = named(row.policy_id)
            sentence: Sentence = (
                "Version ",
                named(row.policy_version),
                " of ",
                policy,
                f" is associated with a {row.verdict} error rate than ",
                named(baseline.policy_version),
                f": {fmt.points(row.difference)} (95 % interval "
                f"{fmt.points_interval(row.difference_low, row.difference_high)}; "
                f"{row.n_batches:,} against {fmt.plural(int(baseline.n_batches), 'batch')}, "
                f"{'partly ' if row.design == 'mixed' else ''}side by side; {_age(found_on, facts)}).",
            )
            found.append(_Change(abs(row.difference) * row.processed, policy, sentence))
    return found


def _handed_over(row: Any, baseline: Any) -> _Change:
    policy = named(row.policy_id)
    more = "more" if row.verdict == "higher since" else "fewer"
    sentence: Sentence = (
        "Since version ",
        named(row.policy_version),
        " of ",
        policy,
        f" there are {more} errors ({fmt.points(row.difference_raw)}); it never ran beside ",
        named(baseline.policy_version),
        ", so that anything else that changed then may be the reason.",
    )
    return _Change(abs(row.difference_raw) * row.processed, policy, sentence)


def _age(found_on: dt.date | None, facts: Facts) -> str:
    """Return how long a verdict has stood by the report's week."""
    if found_on is None:
        return "new this week"
    monday = facts.start.astimezone(zone(facts.tz)).date()
    weeks = -(-(monday - found_on).days // 7)
    return "new this week" if weeks <= 0 else f"since {fmt.plural(weeks, 'week')}"


def _no_change(facts: Facts, whole: Any) -> Sentence:
    rate = f"{fmt.percent(whole.error_rate)} of {fmt.number(whole.processed)} decisions"
    if not whole.processed_before > 0:
        return (f"There is no week before to compare with: the error rate was {rate}.",)
    if not (facts.weeks["verdict"] == "no difference found").any():
        return (
            f"No policy is known well enough in both weeks to tell a change of its error rate; "
            f"all together had {rate}, after {fmt.percent(whole.error_rate_before)}.",
        )
    interval = fmt.points_interval(whole.difference_low, whole.difference_high)
    moved = fmt.points_between(whole.error_rate_before, whole.error_rate)
    return (
        f"No policy's error rate changed significantly: all together had {rate}, after "
        f"{fmt.percent(whole.error_rate_before)} ({moved}"
        + (f", 95 % interval {interval})." if interval != MISSING else ").")
        + _mix(whole),
    )


def _mix(change: Any) -> str:
    """Return how much of a change of all policies comes from their shares, where that matters."""
    if is_missing(change.mix_effect) or abs(change.mix_effect) < _LITTLE_MIX:
        return ""
    return (
        f" Of this {fmt.points(change.mix_effect)} comes from the mix of policies and "
        f"{fmt.points(change.rate_effect)} from their rates."
    )


def what_is_stuck(facts: Facts) -> Sentence:
    """Name the batches that do not move, or say that none is known to stand still."""
    when, are = ("now", "are") if facts.partial else ("at the end of the week", "were")
    one, many = f"batch {'is' if facts.partial else 'was'}", f"batches {are}"
    n_open, pending = int(facts.open["n_open"].sum()), float(facts.open["pending"].sum())
    if facts.stalled.empty:
        if not n_open:
            return (f"Nothing is stuck: no {one} open {when}.",)
        return (
            f"Nothing is known to be stuck: {fmt.plural(n_open, one, many)} open "
            f"{when} with "
            f"{fmt.number(pending)} decisions pending, none of them idle for as long as {fmt.hours(IDLE_H)}.",
        )
    longest = facts.stalled.iloc[0]
    n = len(facts.stalled)
    stuck = float(facts.stalled["pending_count"].sum())
    ended = int((facts.stalled["since"] == "ended").sum())
    moved = int((facts.stalled["since"] == "moved").sum())
    later = [f"{ended:,} ended"] * bool(ended) + [f"{moved:,} moved"] * bool(moved)
    return (
        f"{fmt.plural(n, one, many)} stuck {when}, with {fmt.number(stuck)} "
        "decisions pending" + (": " if n == 1 else "; the longest is "),
        named(longest["batch_id"]),
        " of ",
        named(longest["policy_id"]),
        f", without progress for at least {fmt.hours(longest['idle_at_least_h'])}.",
        *([f" Since then {fmt.listed(later)}."] if later else []),
    )


def what_cannot_be_said(facts: Facts) -> Sentence:
    """Name the largest gap in what is known, from no data at all to the smallest change that would show."""
    if not facts.n_observations:
        return ("The data cannot tell what happened: nothing was observed in this week.",)
    whole = all_policies(facts.weeks)
    if whole.coverage < _WELL_OBSERVED:
        return _little_seen(facts, whole)
    if undecided := _undecided(facts):
        return undecided
    unplaced = facts.data_quality[facts.data_quality["kind"] == "unplaced"]
    if len(unplaced):
        return (
            f"{fmt.number(float(unplaced['value'].sum()))} decisions of "
            f"{fmt.plural(len(unplaced), 'batch')} were made before anyone looked, at a time that no "
            "id tells: they are in no week.",
        )
    half = (whole.difference_high - whole.difference_low) / 2
    if not is_missing(half):
        return (
            f"The data covers {fmt.percent(whole.coverage)} of the time in which batches were at work; "
            f"a change of the overall error rate of less than about {fmt.points(half, signed=False)} "
            "would not show in it.",
        )
    return ("The data cannot tell whether the error rate changed: there is too little to compare it with.",)


def _little_seen(facts: Facts, whole: Any) -> Sentence:
    covered = f"The data covers {fmt.percent(whole.coverage)} of the time in which batches were at work"
    rest = "what happened in the rest is not in these numbers."
    policies = facts.weeks[facts.weeks["scope"] == "policy"].dropna(subset=["coverage"])
    # A policy of which nothing was processed in either week has no row.
    if policies.empty:
        return (f"{covered}: {rest}",)
    least = policies.loc[policies["coverage"].idxmin()]
    return (
        f"{covered}, least for ",
        named(least["policy_id"]),
        f" ({fmt.percent(least['coverage'])}): {rest}",
    )


def _undecided(facts: Facts) -> Sentence | None:
    rows = [row for row, _, _ in facts.versions_compared()]
    open_ones = [row for row in rows if row.verdict == "not enough batches"]
    if not open_ones:
        return None
    most = max(open_ones, key=lambda row: row.processed)
    return (
        f"For {len(open_ones):,} of "
        f"{fmt.plural(len(rows), 'comparison of versions', 'comparisons of versions')} "
        f"there are not enough batches to tell; the largest is version ",
        named(most.policy_version),
        " of ",
        named(most.policy_id),
        f", with {fmt.plural(int(most.n_batches), 'batch')} so far.",
    )


def all_policies(table: pd.DataFrame) -> Any:
    """Return the row that stands for all policies together."""
    return next(table[table["scope"] == "all"].itertuples(index=False))
