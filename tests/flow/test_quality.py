"""What is odd in observations, once more from its definition."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import KINDS
from tests.effort import examples
from tests.flow.test_batches import fleet
from tests.rates import oracle
from tests.rates.helpers import CUTS, HOUR, MONDAY, at, cohorts_of, frame_of, histories, row

LABELS = ("policy_id", "policy_version")
KNOWN = {"WAITING_FOR_UPLOAD", "PENDING", "SUCCESS", "ERROR", "CANCELLED"}


@st.composite
def oddities(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Observations that contradict themselves and one another."""
    rows: list[dict[str, Any]] = []
    for seen in draw(histories(max_batches=3)):
        pending = draw(st.sampled_from([0, 0, 1, 5]))
        done = sum(seen[name] for name in oracle.COUNTERS)
        odd = seen | {
            "pending_count": pending,
            "batch_count": max(0, done + pending + draw(st.sampled_from([0, 0, 1, -2]))),
        }
        if not seen["is_terminal"]:
            odd["batch_status"] = draw(st.sampled_from(["PENDING", "WAITING_FOR_UPLOAD", "PAUSED", "LOST"]))
        rows.append(odd)
        more = draw(st.lists(st.integers(0, 2), max_size=3)) if draw(st.booleans()) else []
        rows += [odd | {"success_count": odd["success_count"] + some} for some in more]
    return rows


def changes(history: list[dict[str, Any]]) -> list[str]:
    """Each change of labels, in words."""
    names = [" ".join(seen[name] or "(none)" for name in LABELS) for seen in history]
    return [f"{before} → {after}" for before, after in itertools.pairwise(names) if before != after]


def said_by(seen: dict[str, Any]) -> tuple[Any, ...]:
    """What an observation says of where its batch stands."""
    return tuple(seen[name] for name in ("batch_status", "pending_count", *oracle.COUNTERS))


def findings_of(history: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """What is odd in a batch's observations: the value and the words that go with it."""
    first, found = history[0], {}
    done = [sum(seen[name] for name in oracle.COUNTERS) for seen in history]
    created = first["created_at"]
    if oracle.created_at(history) is None:
        found["no_created_at"] = (math.nan, "")
        found["unplaced"] = (done[0], "")
    if created is not None:
        found["created_after_observed"] = (max(0, created - first["observed_at"]) / 1e6, "")
    for seen, finished in zip(history, done, strict=True):
        missing = seen["batch_count"] - finished - seen["pending_count"]
        if missing:
            found["parts_do_not_sum"] = (missing, "")
        if seen["is_terminal"] and seen["pending_count"]:
            found["terminal_with_pending"] = (seen["pending_count"], "")
    # A run of equal observations says it once, so that thinning changes nothing.
    unknown = [
        seen["batch_status"]
        for before, seen in itertools.pairwise([None, *history])
        if seen["batch_status"] not in KNOWN and (before is None or said_by(before) != said_by(seen))
    ]
    found["unknown_status"] = (len(unknown), unknown[-1] if unknown else "")
    found["reprocessed"] = (
        sum(
            max(0, before[name] - after[name])
            for before, after in itertools.pairwise(history)
            for name in oracle.COUNTERS
        ),
        "",
    )
    end = next((number for number, seen in enumerate(history) if seen["is_terminal"]), len(history))
    found["work_after_terminal"] = (
        sum(max(0, after - before) for before, after in itertools.pairwise(done[end:])),
        "",
    )
    changed = changes(history)
    found["policy_changed"] = (len(changed), changed[-1] if changed else "")
    return {kind: finding for kind, finding in found.items() if finding[0] != 0}


def quality_of(rows: list[dict[str, Any]], as_of: int | None, *, is_frame: bool) -> list[tuple[Any, ...]]:
    """The table: batch, kind, value, words."""
    said = defaultdict(set)
    for seen in rows:
        if as_of is None or seen["observed_at"] <= as_of:
            said[seen["batch_id"], seen["observed_at"]].add(tuple(seen.values()))
    table = []
    for batch, history in oracle.batches(rows, as_of).items():
        found = findings_of(history)
        contradictions = sum(len(texts) - 1 for key, texts in said.items() if key[0] == batch)
        if is_frame and contradictions:
            found["conflicting_duplicate"] = (contradictions, "")
        table += [(batch, kind, *found[kind]) for kind in KINDS if kind in found]
    return table


@examples(80)
@given(rows=oddities(), as_of=st.none() | st.integers(0, 80 * HOUR), cut=CUTS)
def test_every_finding_is_there_once_with_its_value_and_no_other_is(
    rows: Any, as_of: int | None, cut: Any
) -> None:
    until = None if as_of is None else MONDAY + as_of
    when = None if until is None else at(until)
    kept = {(seen["batch_id"], seen["observed_at"]): seen for seen in sorted(rows, key=oracle.advance)}
    unique = frame_of(list(kept.values()))
    for observations, is_frame in ((frame_of(rows), True), (cohorts_of(unique, cut), False)):
        table = ska.data_quality(observations, as_of=when)
        assert table["value"].dtype == float
        expected = quality_of(rows, until, is_frame=is_frame)
        for line, (batch, kind, value, words) in zip(table.itertuples(), expected, strict=True):
            assert (line.batch_id, line.kind) == (batch, kind)
            assert line.value == pytest.approx(value, rel=1e-12, nan_ok=True)
            assert line.detail.endswith(words)


def test_one_decision_is_enough_to_be_told() -> None:
    rows = [
        row("a", MONDAY, 1, batch_count=2),
        row("a", MONDAY + HOUR, 0, 1, batch_count=2, pending_count=1, batch_status="ERROR"),
        row("a", MONDAY + 30 * HOUR, 1, 1, batch_count=1, batch_status="ERROR"),
    ]
    expected = [
        ("unplaced", 1), ("terminal_with_pending", 1), ("parts_do_not_sum", -1), ("reprocessed", 1),
        ("work_after_terminal", 1),
    ]  # fmt: skip
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        table = ska.data_quality(observations)
        assert [*zip(table["kind"], table["value"], strict=True)][:-1] == expected


def test_of_many_batches_over_many_days_each_has_its_own_findings() -> None:
    rows = fleet()
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        table = ska.data_quality(observations)
        found = [(line.batch_id, line.kind, line.value) for line in table.itertuples()]
        expected = quality_of(rows, None, is_frame=False)
        assert found == [line[:3] for line in expected]
        assert all(detail.endswith(line[3]) for detail, line in zip(table["detail"], expected, strict=True))


def test_an_undocumented_status_counts_once_for_each_run_of_equal_observations() -> None:
    counts = [1, 1, 1, 2, 2, 2]
    rows = [row("a", MONDAY + n * HOUR, count, batch_status="PAUSED") for n, count in enumerate(counts)]
    thinned = [rows[0], rows[2], rows[3], rows[5]]
    for kept in (rows, thinned):
        found = ska.data_quality(frame_of(kept)).set_index("kind")
        assert found.loc["unknown_status", "value"] == 2
