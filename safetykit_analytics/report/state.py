"""Facts → the sections on the state of the fleet: backlog, failed batches, quality of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics import formatting as fmt
from safetykit_analytics.calendar import zone
from safetykit_analytics.formatting import is_missing
from safetykit_analytics.report.document import Bullets, Code, Paragraph, Sentence, instant, named, table_of
from safetykit_analytics.report.facts import IDLE_H
from safetykit_analytics.report.headlines import all_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safetykit_analytics.report.document import Cell, Table
    from safetykit_analytics.report.facts import Facts

#: Longer lists are cut, and say so.
MOST_ROWS = 25

#: What each kind of finding means to someone who has not read the manual.
FINDINGS = {
    "unplaced": "work done before the batch was first seen, at a time that nobody knows: it is in no week",
    "created_after_observed": "the id claims a later time than the first observation (a clock is wrong)",
    "terminal_with_pending": "the batch had ended with decisions still pending; they are not in the backlog",
    "parts_do_not_sum": "success, error, cancelled and pending do not add up to the batch's size",
    "reprocessed": "a counter went down: decisions were made again",
    "policy_changed": "the batch changed its policy or version; comparisons leave it out",
    "conflicting_duplicate": "two answers for one batch at one instant; the more advanced one counts",
    "unknown_status": "a status that the API does not document; the batch counts as open",
    "work_after_terminal": "decisions were made after the batch had ended",
    "no_created_at": "the batch's id tells no time, so that its work counts from its first observation",
}


_BATCH: dict[str, Callable[[Any], Cell]] = {
    "Batch": lambda row: named(row.batch_id),
    "Policy": lambda row: named(row.policy_id),
    "Version": lambda row: named(row.policy_version),
}


def first_rows(
    caption: str, rows: pd.DataFrame, columns: Mapping[str, Callable[[Any], Cell]], *, numeric: range
) -> tuple[Table | Paragraph, ...]:
    """Return a table of as many rows as people read, and a sentence on how many more there are."""
    table = table_of(caption, rows.head(MOST_ROWS).itertuples(), columns, numeric=numeric)
    more = len(rows) - MOST_ROWS
    if more <= 0:
        return (table,)
    words: Sentence = (
        f"{fmt.plural(more, 'more row')}: ",
        Code("report.to_csv(folder)"),
        " writes them all.",
    )
    return table, Paragraph(words)


def backlog(facts: Facts) -> tuple[Paragraph | Table, ...]:
    """Describe what is open, how long it will take, and what stands still."""
    tz = zone(facts.tz)
    when = instant(facts.state_at, tz)
    if facts.open.empty:
        return (Paragraph((f"No batch was open at {when}.",)),)
    table = first_rows(
        f"Open batches at {when}",
        facts.open.sort_values("pending", ascending=False, kind="stable"),
        {
            "Policy": lambda row: named(row.policy_id),
            "Open batches": lambda row: fmt.number(row.n_open),
            "Decisions pending": lambda row: fmt.number(row.pending),
            "Done in": lambda row: fmt.hours_between(row.eta_low_h, row.eta_high_h),
        },
        numeric=range(1, 4),
    )
    words = (
        "“Done in” is how long the pending decisions take at the fastest and the slowest pace of the days "
        "before; stuck batches take longer."
    )
    return (Paragraph((words,)), *table, *_stalled(facts))


def _stalled(facts: Facts) -> tuple[Paragraph | Table, ...]:
    least = fmt.hours(IDLE_H)
    if facts.stalled.empty:
        return (Paragraph((f"No open batch is known to have been without progress for {least} or longer.",)),)
    since = {"ended": "ended", "moved": "moved", "still": "still stuck"}
    return first_rows(
        f"Stalled batches: decisions pending and no progress for at least {least}",
        facts.stalled,
        {
            **_BATCH,
            "Pending": lambda row: fmt.number(row.pending_count),
            "Idle for": lambda row: fmt.hours_between(row.idle_at_least_h, row.idle_at_most_h),
            "Since then": lambda row: since.get(row.since, "—"),
        },
        numeric=range(3, 5),
    )


def failures(facts: Facts) -> tuple[Paragraph | Table, ...]:
    """Describe which batches ended otherwise than well."""
    if facts.failures.empty:
        return (
            Paragraph((f"No batch was seen to end in ERROR or CANCELLED, of {facts.n_ended:,} that ended.",)),
        )
    kinds = facts.failures["batch_status"].value_counts()
    undone = float(facts.failures["undone"].sum())
    words = (
        f"Of {fmt.plural(facts.n_ended, 'batch')} that ended, {int(kinds.get('ERROR', 0)):,} "
        "ended in ERROR and "
        f"{int(kinds.get('CANCELLED', 0)):,} in CANCELLED; {fmt.number(undone)} decisions stayed undone."
    )
    cut = facts.failures.head(10)
    table = table_of(
        "Failed and cancelled batches"
        + (", the ten with most undone" if len(facts.failures) > len(cut) else ""),
        cut.itertuples(),
        {
            **_BATCH,
            "Status": lambda row: row.batch_status,
            "Decisions": lambda row: fmt.number(row.batch_count),
            "Processed": lambda row: fmt.number(row.processed),
            "Undone": lambda row: fmt.number(row.undone),
        },
        numeric=range(4, 7),
    )
    return (Paragraph((words,)), table)


def quality(facts: Facts) -> tuple[Paragraph | Bullets, ...]:
    """Describe the coverage of the data, and its contradictions."""
    whole = all_policies(facts.weeks)
    if not facts.n_observations:
        return (Paragraph(("Nothing was observed in this week, so nothing is known of it.",)),)
    rough = _smeared(facts)
    placed = (
        f" {fmt.percent(rough)} of the decisions are placed on a day only roughly, as more than a day "
        "lay between two observations."
        if rough > 0
        else " Every decision is placed on its day."
    )
    words: Sentence = (
        f"{fmt.plural(facts.n_observations, 'observation')} of "
        f"{fmt.plural(facts.n_batches, 'batch')}. {fmt.percent(whole.coverage)} of the "
        "time in which batches were at work was observed.",
        "" if is_missing(rough) else placed,
    )
    found = facts.data_quality.groupby("kind")
    items: list[Sentence] = [
        (f"{fmt.plural(rows['batch_id'].nunique(), 'batch')} ({kind}): {FINDINGS[kind]}.",)
        for kind, rows in sorted(found, key=lambda pair: (-pair[1]["batch_id"].nunique(), pair[0]))
    ]
    if not items:
        return (Paragraph(words), Paragraph(("No anomaly was found.",)))
    return (Paragraph(words), Bullets(tuple(items)))


def _smeared(facts: Facts) -> float:
    """Share of the week's processed decisions that come from intervals longer than a day."""
    rows = facts.versions[facts.versions["bucket_start"] >= pd.Timestamp(facts.start)]
    weight = rows["processed"].abs()
    total = float(weight.sum())
    return float((rows["smeared_share"].fillna(0.0) * weight).sum()) / total if total else float("nan")
