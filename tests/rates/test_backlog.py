"""Backlog, stalled batches and data quality, against the exact oracle and by hand."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import CUTS, DAY, HOUR, MONDAY, at, cohorts_of, frame_of, histories, row
from tests.rates.test_rates import BY, keyed

if TYPE_CHECKING:
    from collections.abc import Callable


def open_pieces(history: list[dict[str, Any]], now: int) -> list[tuple[int, int, Fraction, int, Any]]:
    """When a batch was open: start, end, decisions pending at both, observation whose labels count."""
    created, first = oracle.created_at(history), history[0]
    start = first["observed_at"] if created is None else created
    # All that was done before the first observation was pending at the creation.
    level = first["pending_count"] + (0 if created is None else sum(first[name] for name in oracle.COUNTERS))
    found = []
    for seen in history:
        found.append((start, seen["observed_at"], level, seen["pending_count"], seen))
        start, level = seen["observed_at"], seen["pending_count"]
        if seen["is_terminal"]:
            return found
    # Still open at `now`, which is before the end of the bucket that holds it.
    return [*found, (start, now + 1, level, level, history[-1])]


def levels_of(
    rows: list[dict[str, Any]], edges: list[int], by: tuple[str, ...], now: int
) -> dict[Any, dict[int, list[Fraction]]]:
    """What each open batch has pending just before the end of each bucket, by group, where any was open."""
    found: dict[Any, dict[int, list[Fraction]]] = {}
    for history in oracle.batches(rows, now).values():
        for start, end, before, after, labels in open_pieces(history, now):
            levels = found.setdefault(tuple(labels[name] for name in by), {})
            for bucket in range(bisect_right(edges, start) - 1, bisect_right(edges, min(end, now))):
                instant = min(edges[bucket + 1], now + 1)
                at_end = levels.setdefault(bucket, [])
                if start < instant <= end:
                    at_end.append(before + (after - before) * Fraction(instant - start, end - start))
    return found


@examples(80)
@given(
    rows=histories(),
    pending=st.data(),
    freq=st.sampled_from(["1h", "6h", "D"]),
    by=st.sampled_from(BY),
    as_of=st.none() | st.integers(0, 80 * HOUR),
    cut=CUTS,
)
def test_pending_and_open_batches_equal_the_exact_oracle(  # noqa: PLR0917 -- hypothesis draws them
    rows: Any, pending: Any, freq: str, by: tuple[str, ...], as_of: int | None, cut: Any
) -> None:
    rows = [seen | {"pending_count": pending.draw(st.integers(0, 90))} for seen in rows]
    now = max(seen["observed_at"] for seen in rows) if as_of is None else MONDAY + as_of
    starts = [
        oracle.created_at(history) or history[0]["observed_at"]
        for history in oracle.batches(rows, now).values()
    ]
    edges = oracle.calendar(freq, "UTC", min(starts, default=now), now)
    expected = levels_of(rows, edges, by, now)
    for observations in (frame_of(rows), cohorts_of(frame_of(rows), cut)):
        table = ska.backlog(observations, freq=freq, by=by, as_of=at(now))
        shown = {group: [] for group in expected}
        for (group, start), line in keyed(table, by).items():
            shown[group].append(edges.index(start))
            levels = expected[group].get(edges.index(start), [])
            assert line["n_open"] == len(levels), start
            assert line["pending"] == pytest.approx(float(sum(levels)), abs=1e-9)
        for group, buckets in shown.items():
            assert buckets == list(range(min(expected[group]), max(expected[group]) + 1))


@examples(40)
@given(rows=histories())
def test_the_backlogs_of_the_versions_add_up_to_the_backlog(rows: Any) -> None:
    rows = [seen | {"pending_count": 7 * number % 31} for number, seen in enumerate(rows)]
    frame = frame_of(rows)
    whole = ska.backlog(frame, by=()).set_index("bucket_start")[["pending", "n_open"]]
    parts = ska.backlog(frame).groupby("bucket_start")[["pending", "n_open"]].sum()
    parts = parts.reindex(whole.index, fill_value=0)
    pd.testing.assert_frame_equal(parts, whole, check_dtype=False, atol=1e-9)


@pytest.mark.parametrize("hours", [2, 25])
def test_a_batch_takes_what_it_has_pending_along_to_its_new_version(hours: int) -> None:
    later = MONDAY + hours * HOUR
    rows = [
        row("a", MONDAY + HOUR, created_at=MONDAY, pending_count=10),
        row("a", later, created_at=MONDAY, pending_count=10, policy_version="v2"),
        row("b", later, created_at=MONDAY, pending_count=3),
    ]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        last = ska.backlog(observations, freq="1h").groupby("policy_version").last()
        assert last["pending"].to_dict() == {"v1": 3, "v2": 10}
        assert last["n_open"].to_dict() == {"v1": 1, "v2": 1}


def test_what_is_pending_when_a_batch_ends_leaves_the_backlog(reference: Callable[[str], Any]) -> None:
    case = reference("terminal_pending")
    pending = case["input"]["pending"]
    rows = [
        row("a", MONDAY, created_at=MONDAY - HOUR, pending_count=2000, batch_count=2000),
        row("a", MONDAY + HOUR, 1460, pending_count=pending, batch_status=case["input"]["status"]),
        row("b", MONDAY + 3 * HOUR, 1, created_at=MONDAY),
    ]
    table = ska.backlog(frame_of(rows), by=())
    assert table["pending"].iloc[-1] == case["expected"]["backlog_contribution"]
    # The other batch is open then, with nothing pending.
    assert (table["n_open"].iloc[-1] > 1) == case["expected"]["in_backlog"]
    found = ska.data_quality(frame_of(rows))
    flagged = found[found["kind"] == case["expected"]["anomaly"]]
    assert flagged[["batch_id", "value"]].to_numpy().tolist() == [["a", pending]]


def test_the_eta_lies_between_the_fastest_and_the_slowest_day() -> None:
    day = 24 * HOUR
    counts = [0, 100, 300, 350]
    rows = [
        row("a", MONDAY + number * day, count, created_at=MONDAY, pending_count=1000 - count)
        for number, count in enumerate(counts)
    ]
    last = ska.backlog(frame_of(rows), freq="D", by=()).iloc[-2]
    assert last["pending"] == 650
    assert last["eta_low"] == pd.Timedelta(days=650 / 200)
    assert last["eta_high"] == pd.Timedelta(days=650 / 50)


@pytest.mark.parametrize("freq", ["D", "W", "MS"])
def test_the_pace_of_a_day_does_not_depend_on_the_length_of_the_buckets(freq: str) -> None:
    day = 24 * HOUR
    counts = [0, 500, 800, 800, 800, 850]
    rows = [
        row(
            "a",
            MONDAY - 2 * day + number * day,
            count,
            created_at=MONDAY - 2 * day,
            pending_count=1250 - count,
        )
        for number, count in enumerate(counts)
    ]
    now = at(MONDAY + 3 * day + 12 * HOUR)
    last = ska.backlog(frame_of(rows), freq=freq, by=(), as_of=now).iloc[-1]
    # From noon to noon, the last day first: 25, 25, none, 150, 400; the day before is not whole.
    assert last["pending"] == 400
    assert last["eta_low"] == pd.Timedelta(days=1)
    assert pd.isna(last["eta_high"])


@pytest.mark.parametrize("created_at", [None, MONDAY])
@pytest.mark.parametrize("pending", [1, 0])
def test_a_batch_seen_once_and_never_before_has_no_pace(pending: int, created_at: int | None) -> None:
    rows = [row("a", MONDAY, 5, created_at=created_at, pending_count=pending)]
    last = ska.backlog(frame_of(rows), by=()).iloc[-1]
    assert last["pending"] == pending
    # Without a pace nothing takes no time, and anything else takes an unknown one.
    expected = pd.NaT if pending else pd.Timedelta(0)
    assert last["eta_low"] is expected or last["eta_low"] == expected
    assert last["eta_high"] is expected or last["eta_high"] == expected


def test_what_takes_longer_than_a_time_can_say_has_no_eta() -> None:
    rows = [row("a", MONDAY + DAY, 1, created_at=MONDAY, pending_count=10**9)]
    assert ska.backlog(frame_of(rows), freq="1D", by=())[["eta_low", "eta_high"]].isna().all(axis=None)


@examples(60)
@given(
    rows=histories(),
    freq=st.sampled_from(["1h", "6h", "D", "W", "MS"]),
    tz=st.sampled_from(["UTC", "Asia/Kathmandu"]),
)
def test_throughput_is_that_of_rates_also_where_the_bucket_is_not_over(rows: Any, freq: str, tz: str) -> None:
    frame = frame_of(rows)
    labels = ["bucket_start", "policy_version"]
    waiting, work = (
        table(frame, freq=freq, by="policy_version", tz=tz) for table in (ska.backlog, ska.rates)
    )
    both = waiting.merge(work, on=labels, suffixes=("", "_of_rates"))
    # In decisions: a bucket of which a microsecond has passed makes much of rounding.
    hours = (both["bucket_end"].clip(upper=frame["observed_at"].max()) - both["bucket_start"]) / pd.Timedelta(
        "1h"
    )
    found, expected = (both[name] * hours for name in ("throughput_per_hour", "throughput_per_hour_of_rates"))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-9, nan_ok=True)


def test_the_pace_is_that_of_the_seven_days_before_and_of_no_earlier_day() -> None:
    rows = [
        row("quick", MONDAY, created_at=MONDAY, pending_count=2424),
        row("quick", MONDAY + DAY, 2400, pending_count=24),
        row("quick", MONDAY + 2 * DAY, 2424, batch_status="SUCCESS"),
        row("slow", MONDAY, created_at=MONDAY, pending_count=432),
        row("slow", MONDAY + 8 * DAY, 192, pending_count=240),
    ]
    last = ska.backlog(frame_of(rows), freq="1D", by=()).iloc[-1]
    # Of 48 decisions on the second day, the first of the seven, and of 24 on every other.
    assert (last["eta_low"], last["eta_high"]) == (pd.Timedelta(days=5), pd.Timedelta(days=10))
    for start in (MONDAY, MONDAY + 6 * DAY):
        early = ska.backlog(frame_of(rows), freq="1D", by=(), start=at(start), as_of=at(MONDAY + 7 * DAY))
        assert early["eta_low"].iloc[-1] == pd.Timedelta(days=432 / 2400)


def test_the_days_of_a_pace_end_with_the_bucket_however_late_the_first_one_asked_for() -> None:
    counts = {7 * DAY: 0, 7 * DAY + 6 * HOUR: 600, 8 * DAY + 6 * HOUR: 840}
    rows = [
        row("one", MONDAY + age, success, created_at=MONDAY, pending_count=1080 - success)
        for age, success in counts.items()
    ]
    first = ska.backlog(frame_of(rows), freq="1h", by=(), start=at(MONDAY + 8 * DAY)).iloc[0]
    # 100 decisions were made in the hour before these 24, and 790 by their end.
    assert first["eta_low"] / pd.Timedelta(days=1) == pytest.approx(290 / 690)


def test_the_first_bucket_asked_for_holds_the_work_of_its_own_time_alone() -> None:
    rows = [
        row("slow", MONDAY, created_at=MONDAY, pending_count=480),
        row("slow", MONDAY + DAY, 480, batch_status="SUCCESS"),
    ]
    table = ska.backlog(frame_of(rows), freq="1h", by=(), start=at(MONDAY + 12 * HOUR))
    assert table["throughput_per_hour"].iloc[0] == pytest.approx(20.0)


def test_a_batch_is_stalled_by_what_two_observations_prove_and_not_for_being_out_of_sight() -> None:
    rows = [
        row("moving", MONDAY, 5, created_at=MONDAY - HOUR, pending_count=9),
        row("moving", MONDAY + 4 * HOUR, 6, pending_count=8),
        row("stuck", MONDAY, 5, created_at=MONDAY - HOUR, pending_count=1),
        row("stuck", MONDAY + 4 * HOUR, 5, pending_count=1),
        row("also stuck", MONDAY, 5, created_at=MONDAY - HOUR, pending_count=1),
        row("also stuck", MONDAY + 4 * HOUR, 5, pending_count=1),
        row("nothing left", MONDAY, 5, created_at=MONDAY - HOUR),
        row("nothing left", MONDAY + 4 * HOUR, 5),
        row("unseen", MONDAY, 5, created_at=MONDAY - HOUR, pending_count=9),
        row("lost", MONDAY - 9 * HOUR, 5, pending_count=9),
        row("lost", MONDAY - 2 * HOUR, 5, pending_count=9),
        row("ended", MONDAY, 5, pending_count=9, batch_status="ERROR"),
        row("ended", MONDAY + 4 * HOUR, 5, pending_count=9, batch_status="ERROR"),
        row("never began", MONDAY + 4 * HOUR, 0, created_at=MONDAY - HOUR, pending_count=9),
    ]
    table = ska.stalled_batches(frame_of(rows), idle="2h").set_index("batch_id")
    assert table.index.tolist() == ["lost", "never began", "also stuck", "stuck"]
    assert table["idle_at_least"].dt.total_seconds().div(3600).to_dict() == {
        "lost": 7,
        "never began": 5,
        "also stuck": 4,
        "stuck": 4,
    }
    assert table["idle_at_most"].dt.total_seconds().div(3600).dropna().to_dict() == {
        "never began": 5,
        "also stuck": 5,
        "stuck": 5,
    }
    assert table["state"].to_dict() == {
        "lost": "not_seen_lately",
        "never began": "stalled",
        "also stuck": "stalled",
        "stuck": "stalled",
    }


def test_a_batch_whose_errors_became_successes_or_that_took_work_back_did_not_stand_still() -> None:
    rows = [
        row("mended", MONDAY, 40, 10, created_at=MONDAY - HOUR, pending_count=50),
        row("mended", MONDAY + 4 * HOUR, 50, 0, pending_count=50),
        row("taken back", MONDAY, 50, created_at=MONDAY - HOUR, pending_count=50),
        row("taken back", MONDAY + 4 * HOUR, 30, pending_count=70),
    ]
    assert ska.stalled_batches(frame_of(rows), idle="2h").empty


def test_a_batch_is_stalled_from_exactly_idle_on() -> None:
    stood = frame_of([row("stuck", when, pending_count=5) for when in (MONDAY, MONDAY + 2 * HOUR)])
    assert len(ska.stalled_batches(stood, idle="2h")) == 1
    assert ska.stalled_batches(stood, idle="7200.000001s").empty
    for later, state in ((2 * HOUR, "stalled"), (2 * HOUR + 1, "not_seen_lately")):
        table = ska.stalled_batches(stood, idle="2h", as_of=at(MONDAY + 2 * HOUR + later))
        assert table["state"].tolist() == [state]


@pytest.mark.parametrize("idle", ["soon", "-1h", "0min", 0, 30, 1.5, None])
def test_an_idle_that_is_no_length_of_time_is_a_value_error(idle: Any) -> None:
    with pytest.raises(ValueError, match="length of time"):
        ska.stalled_batches(frame_of([]), idle=idle)


ODD = [
    row(
        "x",
        MONDAY,
        5,
        5,
        pending_count=1,
        batch_status="WEIRD",
        created_at=MONDAY + 5_000_000,
        batch_count=11,
    ),
    row("x", MONDAY + HOUR, 3, 5, batch_status="SUCCESS", pending_count=3, batch_count=11),
    row("x", MONDAY + HOUR, 3, 4, batch_status="SUCCESS", pending_count=3, batch_count=11),
    row("x", MONDAY + 26 * HOUR, 9, 5, policy_version=None, batch_count=12, batch_status="SUCCESS"),
    row("x", MONDAY + 27 * HOUR, 9, 5, policy_version="v2", batch_count=14, batch_status="SUCCESS"),
    row("y", MONDAY, 2, 1, cancelled_count=1, batch_count=4),
]


def test_every_kind_of_finding_is_reported_once_with_its_number() -> None:
    table = ska.data_quality(frame_of(ODD))
    found = {
        (line.batch_id, line.kind): line.value for line in table.itertuples() if line.kind != "no_created_at"
    }
    assert found == {
        ("x", "created_after_observed"): 5,
        ("x", "terminal_with_pending"): 3,
        ("x", "parts_do_not_sum"): -2,
        ("x", "reprocessed"): 2,
        ("x", "policy_changed"): 1,
        ("x", "conflicting_duplicate"): 1,
        ("x", "unknown_status"): 1,
        ("x", "work_after_terminal"): 6,
        ("y", "unplaced"): 4,
    }
    assert table[table["kind"] == "no_created_at"]["batch_id"].tolist() == ["y"]
    details = table.set_index(["batch_id", "kind"])["detail"]
    assert "WEIRD" in details["x", "unknown_status"]
    assert "v1 → spam v2" in details["x", "policy_changed"]


def test_quality_of_a_store_is_that_of_the_frame() -> None:
    frame = frame_of([seen for seen in ODD if seen["error_count"] != 4])
    pd.testing.assert_frame_equal(ska.data_quality(cohorts_of(frame)), ska.data_quality(frame))


@examples(40)
@given(rows=histories())
def test_buckets_and_unplaced_are_the_last_counts(rows: Any) -> None:
    frame = frame_of(rows)
    table = ska.rates(frame, by=())
    found = ska.data_quality(frame)
    unplaced = found.loc[found["kind"] == "unplaced", "value"].sum()
    last = [history[-1] for history in oracle.batches(rows, None).values()]
    finished = sum(seen[name] for seen in last for name in oracle.COUNTERS)
    placed = table[["success", "error", "cancelled"]].to_numpy().sum()
    assert placed + unplaced == pytest.approx(finished, rel=1e-9, abs=1e-9)


def test_no_observations_give_empty_tables_of_the_same_types() -> None:
    for function in (ska.backlog, ska.stalled_batches, ska.data_quality):
        full, empty = function(frame_of(ODD)), function(frame_of([]))
        assert empty.empty
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()
