"""Facts and pictures → the sections of a report, in the order in which they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics import __version__
from safetykit_analytics import formatting as fmt
from safetykit_analytics.calendar import zone
from safetykit_analytics.formatting import MISSING, is_missing
from safetykit_analytics.report.document import (
    Bullets,
    Code,
    Document,
    Name,
    Paragraph,
    Pictures,
    Section,
    Sentence,
    Tile,
    day,
    instant,
    named,
    table_of,
)
from safetykit_analytics.report.headlines import all_policies, headlines
from safetykit_analytics.report.state import MOST_ROWS, backlog, failures, first_rows, quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safetykit_analytics.report.document import Cell, Picture, Table
    from safetykit_analytics.report.facts import Facts

#: More pictures of one kind than this are more than anyone looks through.
MOST_DRAWN = 8

METHODS = (
    "Work is spread evenly over the time between two observations of a batch, so that hours add up to days "
    "and versions to policies; nothing is extrapolated beyond the last observation.",
    "Throughput is processed decisions (success and error) per elapsed hour; the error rate "
    "is error divided by processed, and missing where nothing was processed.",
    "Decisions of one batch resemble each other, so intervals (95 %) take the batch as the unit "
    "(CR2 variance, Bell-McCaffrey degrees of freedom); a verdict needs three batches on both sides.",
    "Week against week allows for batches that worked in both; p-values are adjusted over all policies and "
    "over all comparisons of versions on this page (Benjamini-Hochberg).",
    "Versions are not assigned by chance and every week is another look: a difference is associated with a "
    "version, which does not show that the version caused it.",
)


def compose(facts: Facts, pictures: Mapping[str, tuple[Picture, ...]]) -> Document:
    """Return a report as a document; `pictures` are by the anchor of their section, and may be empty."""
    sections = tuple(
        Section(title, anchor, (*blocks, *_pictures(pictures, anchor)))
        for title, anchor, blocks in (
            ("This week against the last", "weeks", _weeks(facts)),
            (
                "Throughput and error rate by version",
                "versions",
                _versions(facts, drawn="versions" in pictures),
            ),
            ("Policy versions compared", "comparisons", _comparisons(facts)),
            ("Roll-outs", "rollouts", _rollouts(facts)),
            ("Control chart", "control", _control(facts)),
            ("Backlog and stalled batches", "backlog", backlog(facts)),
            ("Failed and cancelled batches", "failures", failures(facts)),
            ("How good the data is", "quality", quality(facts)),
        )
    )
    return Document(
        title=f"SafetyKit weekly report {facts.week}",
        subtitle=_subtitle(facts),
        warnings=_warnings(facts),
        headlines=headlines(facts),
        tiles=_tiles(facts),
        sections=sections,
        methods=METHODS,
        provenance=_provenance(facts),
        long_names=_long_names(facts),
    )


def _pictures(pictures: Mapping[str, tuple[Picture, ...]], anchor: str) -> tuple[Pictures, ...]:
    found = pictures.get(anchor, ())
    return (Pictures(found),) if found else ()


def _subtitle(facts: Facts) -> str:
    tz = zone(facts.tz)
    span = f"{instant(facts.start, tz)} to {instant(facts.end, tz)}"
    return span if facts.tz == "UTC" else f"{span} ({facts.tz})"


def _warnings(facts: Facts) -> tuple[Sentence, ...]:
    as_of = instant(facts.as_of, zone(facts.tz))
    if facts.as_of <= facts.start:
        return ((f"This week had not begun at {as_of}, when this report was made as of.",),)
    found = []
    if facts.partial:
        found.append(
            f"The week is not over: these are its first {fmt.hours(facts.elapsed_hours)}, until {as_of}. "
            f"They are compared with the same hours of {facts.previous_week}."
        )
    if not facts.n_observations:
        found.append("Nothing was observed in this week.")
    elif not all_policies(facts.weeks).processed:
        batches = fmt.plural(facts.n_batches, "batch was", "batches were")
        found.append(f"{batches} observed in this week, and none of them got any decision processed.")
    elif facts.n_batches == 1:
        found.append(
            "One batch was observed in this week: its decisions are alike, and say little about all others."
        )
    return tuple((warning,) for warning in found)


def _tiles(facts: Facts) -> tuple[Tile, ...]:
    whole = all_policies(facts.weeks)
    since = "the same hours of the week before" if facts.partial else "the week before"
    rate = fmt.points_between(whole.error_rate_before, whole.error_rate)
    interval = fmt.points_interval(whole.difference_low, whole.difference_high)
    return (
        Tile(
            "Decisions processed",
            fmt.number(whole.processed),
            f"{fmt.number(whole.processed_before)} in {since}",
        ),
        Tile(
            "Throughput per hour",
            fmt.number(whole.throughput_per_hour),
            f"{_relative(whole.throughput_change)} on {since}",
        ),
        Tile(
            "Error rate",
            fmt.percent(whole.error_rate),
            f"{rate}" + (f", 95 % interval {interval}" if interval != MISSING else f" on {since}"),
        ),
        Tile(
            "Backlog",
            fmt.number(float(facts.open["pending"].sum())),
            f"decisions pending in {fmt.plural(int(facts.open['n_open'].sum()), 'open batch')}",
        ),
    )


def _relative(change: float) -> str:
    if is_missing(change):
        return "no comparison"
    shown = f"{100 * change:+.1f} %".replace("-", "−")
    return "±0.0 %" if shown[1:] == "0.0 %" else shown


def _weeks(facts: Facts) -> tuple[Paragraph | Table, ...]:
    span = (
        f"the same {fmt.hours(facts.elapsed_hours)} of {facts.previous_week}"
        if facts.partial
        else facts.previous_week
    )
    intro: Sentence = (
        f"{facts.week} ({facts.elapsed_hours:g} h) against {span} ({facts.previous_hours:g} h), per hour and "
        "per decision, so that weeks of different length compare. An interval speaks for its row alone, a "
        "verdict allows for all comparisons on this page: one may leave out zero and the other find no "
        "difference.",
    )
    order = facts.weeks.sort_values(["scope", "processed"], ascending=[True, False], kind="stable")
    if len(order) == 1:
        return (Paragraph(intro), Paragraph(("No policy had any work in either week.",)))
    table = first_rows(
        "Error rate and throughput by policy, with 95 % intervals",
        order,
        {
            "Policy": lambda row: "All policies" if row.scope == "all" else named(row.policy_id),
            "Decisions": lambda row: fmt.number(row.processed),
            "Batches": lambda row: fmt.number(row.n_batches),
            "Per hour": lambda row: fmt.number(row.throughput_per_hour),
            "Change": lambda row: _relative(row.throughput_change),
            "Error rate": lambda row: fmt.percent(row.error_rate),
            "Before": lambda row: fmt.percent(row.error_rate_before),
            "Difference": lambda row: fmt.points_between(row.error_rate_before, row.error_rate),
            "Interval": lambda row: fmt.points_interval(row.difference_low, row.difference_high),
            "Verdict": lambda row: row.verdict,
        },
        numeric=range(1, 9),
    )
    return (Paragraph(intro), *table)


def _versions(facts: Facts, *, drawn: bool) -> tuple[Paragraph, ...]:
    if not (facts.versions["processed"] != 0).any():
        return (Paragraph(("No decision was processed in either week.",)),)
    alone = facts.versions.groupby("policy_id", dropna=False)["policy_version"].nunique(dropna=False)
    nameless = facts.versions["policy_version"] == fmt.NONE
    words = (
        "Each point is one day of the two weeks; a hollow one, on a dotted line, rests on little "
        f"observation.{_drawn_alone(facts)}"
        if drawn
        else "The HTML page draws both weeks day by day."
    )
    if nameless.all():
        words += " No batch names a version of its policy."
    elif (alone <= 1).all():
        words += " Every policy had one version at work."
    return (Paragraph((words,)),)


def _drawn_alone(facts: Facts) -> str:
    """Return which policies have pictures, where not all have."""
    n = facts.versions[facts.versions["processed"] != 0]["policy_id"].nunique()
    if n <= MOST_DRAWN:
        return ""
    chosen = "those with a verdict first, then those with most decisions"
    return f" Drawn are {MOST_DRAWN} of {n:,} policies: {chosen}."


def _comparisons(facts: Facts) -> tuple[Paragraph | Bullets | Table, ...]:
    if facts.comparison.table.empty:
        nothing = "No policy had batches of two versions that ended in these two weeks: nothing to compare."
        return (Paragraph((nothing,)),)
    table = table_of(
        "Error rates of versions since they ran, by the end of the week",
        facts.versions_compared(),
        _COMPARED,
        numeric=range(5, 9),
    )
    words = (
        "“Would have seen” is the smallest difference that this much data shows four times in five; "
        "only days on which both versions ran are compared. Versions that were handed over without "
        "common days have no difference of their own, only one since then."
    )
    return (Paragraph((words,)), table)


_COMPARED: dict[str, Callable[[Any], Cell]] = {
    "Policy": lambda pair: named(pair.row.policy_id),
    "Version": lambda pair: named(pair.row.policy_version),
    "Against": lambda pair: named(pair.base.policy_version),
    "Batches": lambda pair: f"{pair.row.n_batches:,} vs {int(pair.base.n_batches):,}",
    "Error rate": lambda pair: f"{fmt.percent(pair.row.error_rate)} vs {fmt.percent(pair.base.error_rate)}",
    "Difference": lambda pair: fmt.points(pair.row.difference),
    "95 % interval": lambda pair: fmt.points_interval(pair.row.difference_low, pair.row.difference_high),
    "p (adjusted)": lambda pair: fmt.p_value(pair.row.p_adjusted),
    "Would have seen": lambda pair: fmt.points(pair.row.mde, signed=False),
    "Side by side": lambda pair: MISSING if is_missing(pair.row.design) else pair.row.design,
    "Verdict": lambda pair: "no verdict" if is_missing(pair.row.verdict) else pair.row.verdict,
}


def _rollouts(facts: Facts) -> tuple[Paragraph | Bullets, ...]:
    tz = zone(facts.tz)
    items: list[Sentence] = []
    for row in facts.rollouts[facts.rollouts["status"] != "at work"].itertuples():
        if row.status == "new":
            first = row.first_created_at
            since = "" if first is pd.NaT else f" since {instant(first, tz)}"
            said = (
                f" is new{since}: {fmt.number(row.processed)} decisions, "
                f"{fmt.percent(row.share)} of its policy’s."
            )
        else:
            before = fmt.number(row.previous_processed)
            said = f" had no more work, after {before} decisions the week before."
        items.append(("Version ", named(row.policy_version), " of ", named(row.policy_id), said))
    if not items:
        return (Paragraph(("No version began or ceased to work.",)),)
    more: tuple[Sentence, ...] = ((f"{len(items) - MOST_ROWS:,} more.",),) if len(items) > MOST_ROWS else ()
    return (Bullets((*items[:MOST_ROWS], *more)),)


def _control(facts: Facts) -> tuple[Paragraph | Bullets, ...]:
    if facts.charted.empty:
        none = "No control chart: no version has enough complete days with decisions."
        return (Paragraph((none,)),)
    out = facts.outside
    versions = len(facts.charted[["policy_id", "policy_version"]].drop_duplicates())
    words = (
        "Laney’s p′ chart compares the error rate of each day with the four weeks before the week. "
        f"{fmt.plural(versions, 'version')} had enough data for it; "
    )
    if out.empty:
        return (Paragraph((words + "no day of this week was out of control.",)),)
    tz = zone(facts.tz)
    worst = out.assign(
        excess=(out["error_rate"] - out["center"]).abs() / (out["upper_limit"] - out["center"])
    ).sort_values("excess", ascending=False, kind="stable")
    items: list[Sentence] = [
        (
            named(row.policy_id),
            " ",
            named(row.policy_version),
            f": {fmt.percent(row.error_rate)} on {day(row.bucket_start, tz)}, {_why_marked(row)}.",
        )
        for row in worst.head(5).itertuples()
    ]
    count = fmt.plural(len(out), "day of this week was", "days of this week were")
    shown = ":" if len(out) <= len(items) else f"; the {len(items)} furthest from the center:"
    return (Paragraph((f"{words}{count} out of control{shown}",)), Bullets(tuple(items)))


def _why_marked(row: Any) -> str:
    """Write by which rule of the control chart a day is out of control."""
    if row.lower_limit <= row.error_rate <= row.upper_limit:
        side = "above" if row.error_rate > row.center else "below"
        return f"at least the ninth day in a row {side} the center of {fmt.percent(row.center)}"
    return f"with limits of {fmt.percent(row.lower_limit)} and {fmt.percent(row.upper_limit)}"


def _provenance(facts: Facts) -> tuple[tuple[str, Sentence], ...]:
    tz = zone(facts.tz)
    stamp = facts.as_of.isoformat(timespec="microseconds" if facts.as_of.microsecond else "seconds")
    source: Sentence = ("a DataFrame",) if facts.store is None else ("the store ", Name(facts.store))
    call = f'weekly_report(observations, week="{facts.week}", tz="{facts.tz}", as_of="{stamp}")'
    return (
        ("Week", (f"{facts.week}, time zone {facts.tz}",)),
        ("As of", (f"{instant(facts.as_of, tz)}; later observations are left out",)),
        ("Made from", (*source, f", with safetykit-analytics {__version__}")),
        ("To make it again", (Code(call),)),
    )


def _long_names(facts: Facts) -> tuple[Name, ...]:
    """List the names that are cut in the text."""
    tables = (facts.totals, facts.versions, facts.open, facts.stalled, facts.failures, facts.rollouts)
    columns = ("batch_id", "policy_id", "policy_version")
    names = {
        named(value)
        for table in tables
        for column in columns
        if column in table
        for value in table[column].unique()
    }
    return tuple(sorted((name for name in names if name.short != name.visible), key=str))
