"""One row per batch, and the work of single batches, against their definitions."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import batch_ends, batch_work, natural_key, resolve_as_of
from tests.rates import oracle
from tests.rates.helpers import HOUR, MINUTE, MONDAY, Counting, days_of, frame_of, histories, row

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTS = ["batch_count", *oracle.COUNTERS, "pending_count"]
LABELS = ["policy_id", "policy_version"]


def at(instant: int) -> dt.datetime:
    return oracle.EPOCH + dt.timedelta(microseconds=instant)


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same observations, so that no two columns or rows can be taken for one another."""
    endings = ("SUCCESS", "ERROR", "CANCELLED")
    return [
        seen
        | {"batch_count": 500 + number, "pending_count": 7 * number % 31}
        | ({"batch_status": endings[number % 3]} if seen["is_terminal"] else {})
        for number, seen in enumerate(rows)
    ]


def last_move(history: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    """The two instants between which a counter of a batch last changed."""
    counts = [tuple(seen[name] for name in oracle.COUNTERS) for seen in history]
    for number in reversed(range(1, len(history))):
        if counts[number] != counts[number - 1]:
            return history[number - 1]["observed_at"], history[number]["observed_at"]
    return (oracle.created_at(history), history[0]["observed_at"]) if any(counts[0]) else (None, None)


def end_of(history: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said of a batch, from its definition."""
    first, last = history[0], history[-1]
    after, until = last_move(history)
    end = next((number for number, seen in enumerate(history) if seen["is_terminal"]), None)
    unknown = oracle.created_at(history) is None
    return {
        "batch_id": first["batch_id"],
        **{name: last[name] for name in [*LABELS, *COUNTS, "batch_status", "is_terminal"]},
        "label_changed": any(seen[name] != first[name] for seen in history for name in LABELS),
        "created_at": None if unknown else first["created_at"],
        "first_observed_at": first["observed_at"],
        "last_observed_at": last["observed_at"],
        "first_terminal_at": None if end is None else history[end]["observed_at"],
        "first_terminal_status": None if end is None else history[end]["batch_status"],
        "before_terminal_at": history[end - 1]["observed_at"] if end else None,
        "last_moved_after": after,
        "last_moved_before": until,
    }


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python: instants in microseconds since 1970, None for none."""

    def value(one: Any) -> Any:
        if one is pd.NaT or one is pd.NA or one is None:
            return None
        return one.value // 1000 if isinstance(one, pd.Timestamp) else one

    return [{name: value(one) for name, one in line.items()} for line in table.to_dict("records")]


@settings(max_examples=100, deadline=None)
@given(rows=histories(), as_of=st.none() | st.integers(0, 80 * HOUR))
def test_every_batch_has_one_row_that_says_where_it_stands(rows: Any, as_of: int | None) -> None:
    rows, until = distinct(rows), None if as_of is None else MONDAY + as_of
    expected = [end_of(history) for history in oracle.batches(rows, until).values()]
    for observations in (frame_of(rows), days_of(frame_of(rows))):
        found = batch_ends(observations, as_of=None if until is None else at(until))
        assert plain(found) == expected


def fleet() -> list[dict[str, Any]]:
    """A hundred batches over five days, none like another."""
    return [
        row(
            f"batch_{number * 37 % 101:03}",
            MONDAY + (number % 7 + 20 * poll) * HOUR,
            5 * poll if poll != number % 4 else 0,
            created_at=MONDAY - number * HOUR,
            policy_version=f"v{1 + poll * (number % 3) // 3}",
            batch_status="SUCCESS" if poll > number % 5 else f"ODD_{number % 6}",
            batch_count=1000 - number,
            pending_count=number % 2,
        )
        for number in range(101)
        for poll in range(5)
    ]


def test_of_many_batches_over_many_days_each_has_its_own_row() -> None:
    rows = fleet()
    expected = [end_of(history) for history in oracle.batches(rows, None).values()]
    for observations in (frame_of(rows), days_of(frame_of(rows))):
        assert plain(batch_ends(observations)) == expected


def test_ends_have_fixed_columns_and_types_also_of_nothing() -> None:
    full, empty = batch_ends(frame_of([row("a", MONDAY, 1)])), batch_ends(frame_of([]))
    assert empty.empty
    assert list(full.columns) == list(empty.columns)
    assert full.dtypes.to_dict() == empty.dtypes.to_dict()
    assert list(full.columns) == [
        "batch_id", "policy_id", "policy_version", "label_changed", "created_at", "first_observed_at",
        "last_observed_at", "batch_count", "success_count", "error_count", "cancelled_count", "pending_count",
        "batch_status", "is_terminal", "first_terminal_at", "first_terminal_status", "before_terminal_at",
        "last_moved_after", "last_moved_before",
    ]  # fmt: skip
    kinds = full.dtypes.astype(str).to_dict()
    assert {kinds[name] for name in ("label_changed", "is_terminal")} == {"bool"}
    assert {kind for name, kind in kinds.items() if name.endswith("_count")} == {"int64"}
    assert {kind for name, kind in kinds.items() if name.endswith(("_at", "_after", "_before"))} == {
        "datetime64[us, UTC]"
    }


@settings(max_examples=40, deadline=None)
@given(rows=histories())
def test_as_of_is_the_last_observation_unless_it_is_given(rows: Any) -> None:
    for observations in (frame_of(rows), days_of(frame_of(rows))):
        assert resolve_as_of(observations) == at(max(seen["observed_at"] for seen in rows))
        assert resolve_as_of(observations, at(MONDAY)) == at(MONDAY)
        assert resolve_as_of(observations, dt.date(2026, 3, 3)) == at(MONDAY + 24 * HOUR)
    assert resolve_as_of(frame_of([])) is None


def work_of(rows: list[dict[str, Any]], edges: list[int], as_of: int | None) -> dict[Any, list[Fraction]]:
    """The work of every batch by batch, bucket, policy and version."""
    work: dict[Any, list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 3)
    for history in oracle.batches(rows, as_of).values():
        for piece, (bucket, span) in itertools.product(
            oracle.pieces(history), enumerate(itertools.pairwise(edges))
        ):
            part = oracle.share(piece, *span)
            key = (piece.batch, bucket, *(piece.labels[name] for name in LABELS))
            if part and any(piece.delta):
                work[key] = [
                    before + part * grown for before, grown in zip(work[key], piece.delta, strict=True)
                ]
    return work


@settings(max_examples=100, deadline=None)
@given(
    rows=histories(),
    cuts=st.sets(st.integers(-30 * 4, 60 * 4), min_size=2, max_size=6),
    as_of=st.none() | st.integers(0, 80 * HOUR),
)
def test_the_work_of_each_batch_between_instants_equals_the_exact_oracle(
    rows: Any, cuts: set[int], as_of: int | None
) -> None:
    edges = [MONDAY + cut * 15 * MINUTE for cut in sorted(cuts)]
    until = None if as_of is None else MONDAY + as_of
    expected = {key: work for key, work in work_of(rows, edges, until).items() if any(work)}
    for observations in (frame_of(rows), days_of(frame_of(rows))):
        table = batch_work(
            observations,
            edges=[at(edge) for edge in edges],
            as_of=None if until is None else at(until),
        )
        assert table["bucket"].dtype == np.int64
        lines = plain(table)
        keys = [tuple(line[name] for name in ("batch_id", "bucket", *LABELS)) for line in lines]
        assert keys == sorted(keys, key=lambda key: (*key[:2], *map(natural_key, key[2:])))
        found = {
            key: [line[name] for name in ("success", "error", "cancelled")]
            for key, line in zip(keys, lines, strict=True)
        }
        assert len(found) == len(keys)
        # What a batch did and took back within a bucket may leave rounding.
        for key in expected.keys() | found.keys():
            truth = [float(part) for part in expected.get(key, [Fraction(0)] * 3)]
            assert found.get(key, [0.0] * 3) == pytest.approx(truth, rel=1e-9, abs=1e-9), key
            assert any(found.get(key, [1.0]))


def test_what_is_done_and_taken_back_within_a_bucket_is_no_work() -> None:
    rows = [row("a", MONDAY + minute * MINUTE, minute % 20, created_at=MONDAY) for minute in (10, 20)]
    assert batch_work(frame_of(rows), edges=[at(MONDAY), at(MONDAY + HOUR)]).empty
    assert len(batch_work(frame_of(rows), edges=[at(MONDAY), at(MONDAY + 15 * MINUTE)])) == 1


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the clock of the machine be that of Tokyo."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize("day", [dt.date(2026, 3, 3), "2026-03-03"])
def test_a_date_is_its_midnight_in_utc_where_no_zone_is_named(day: Any) -> None:
    rows = [row("a", MONDAY + hour * HOUR, hour, 1 - hour % 2, created_at=MONDAY) for hour in range(48)]
    frame, midnight = frame_of(rows), at(MONDAY + 24 * HOUR)
    assert resolve_as_of(frame, day) == midnight
    for function in (batch_ends, ska.data_quality, ska.stalled_batches):
        pd.testing.assert_frame_equal(function(frame, as_of=day), function(frame, as_of=midnight))
    for edges, as_of in (([at(MONDAY), day], None), ([at(MONDAY), at(MONDAY + 48 * HOUR)], day)):
        assert batch_work(frame, edges=edges, as_of=as_of)["success"].sum() == 24


@pytest.mark.parametrize(
    "edges",
    [
        [],
        [at(MONDAY)],
        [at(MONDAY), at(MONDAY)],
        [at(MONDAY + HOUR), at(MONDAY)],
        [at(MONDAY), at(MONDAY + HOUR), at(MONDAY + HOUR)],
    ],
)
def test_edges_that_bound_no_bucket_are_a_value_error_that_shows_them(edges: Any) -> None:
    with pytest.raises(ValueError, match="edges: expected two or more ascending times, found \\["):
        batch_work(frame_of([]), edges=edges)


@pytest.mark.parametrize("function", [batch_ends, resolve_as_of, ska.data_quality, ska.stalled_batches])
def test_a_time_without_a_zone_is_refused_by_the_name_of_its_argument(function: Any) -> None:
    with pytest.raises(ValueError, match="as_of='2026-03-02 00:00:00' has no time zone"):
        function(frame_of([]), as_of=dt.datetime(2026, 3, 2))


def test_an_edge_without_a_zone_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="edges='2026-03-02 00:00:00' has no time zone"):
        batch_work(frame_of([]), edges=[dt.datetime(2026, 3, 2), at(MONDAY)])
    with pytest.raises(ValueError, match="as_of='2026-03-02 00:00:00' has no time zone"):
        batch_work(frame_of([]), edges=[at(0), at(1)], as_of=dt.datetime(2026, 3, 2))


def test_every_day_of_a_store_is_read_by_the_executor() -> None:
    observations = days_of(frame_of([row("a", MONDAY + day * 24 * HOUR, day) for day in range(3)]))
    edges = [at(MONDAY), at(MONDAY + HOUR)]
    for function, visits in (
        (batch_ends, 1),
        (lambda days, executor: batch_work(days, edges=edges, executor=executor), 2),
        (ska.backlog, 3),
    ):
        with Counting(1) as executor:
            function(observations, executor=executor)
            assert executor.n_tasks == 3 * visits
