"""One row per batch, and the work of single batches, against their definitions."""

from __future__ import annotations

import itertools
from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.flow import batch_summary, batch_work, last_observed
from safetykit_analytics.formatting import NONE
from safetykit_analytics.labels import natural_key
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import CUTS, HOUR, MINUTE, MONDAY, cohorts_of, frame_of, histories, row

COUNTS = ["batch_count", *oracle.COUNTERS, "pending_count"]
LABELS = ["policy_id", "policy_version"]


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
        **{name: last[name] or NONE for name in LABELS},
        **{name: last[name] for name in [*COUNTS, "batch_status", "is_terminal"]},
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


@examples(100)
@given(rows=histories(), as_of=st.none() | st.integers(0, 80 * HOUR), cut=CUTS, together=st.booleans())
def test_every_batch_has_one_row_that_says_where_it_stands(
    rows: Any, as_of: int | None, cut: Any, *, together: bool
) -> None:
    rows, until = distinct(rows), None if as_of is None else MONDAY + as_of
    expected = [end_of(history) for history in oracle.batches(rows, until).values()]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows), cut, together=together)):
        assert plain(batch_summary(observations, as_of=until)) == expected


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
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        assert plain(batch_summary(observations)) == expected


def test_ends_have_fixed_columns_and_types_also_of_nothing() -> None:
    full, empty = batch_summary(frame_of([row("a", MONDAY, 1)])), batch_summary(frame_of([]))
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


@examples(40)
@given(rows=histories(), cut=CUTS)
def test_as_of_is_the_last_observation_unless_it_is_given(rows: Any, cut: Any) -> None:
    newest = max(seen["observed_at"] for seen in rows)
    for observations in (frame_of(rows), cohorts_of(frame_of(rows), cut)):
        assert last_observed(observations) == newest
        assert batch_summary(observations).attrs["as_of"] == newest
        assert batch_summary(observations, as_of=MONDAY).attrs["as_of"] == MONDAY
    assert last_observed(frame_of([])) is None


def work_of(rows: list[dict[str, Any]], edges: list[int], as_of: int | None) -> dict[Any, list[Fraction]]:
    """The work of every batch by batch, bucket, policy and version."""
    work: dict[Any, list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 3)
    for history in oracle.batches(rows, as_of).values():
        for piece, (bucket, span) in itertools.product(
            oracle.pieces(history), enumerate(itertools.pairwise(edges))
        ):
            part = oracle.share(piece, *span)
            key = (piece.batch, bucket, *(piece.labels[name] or NONE for name in LABELS))
            if part and any(piece.delta):
                work[key] = [
                    before + part * grown for before, grown in zip(work[key], piece.delta, strict=True)
                ]
    return work


@examples(100)
@given(
    rows=histories(),
    cuts=st.sets(st.integers(-30 * 4, 60 * 4), min_size=2, max_size=6),
    as_of=st.none() | st.integers(0, 80 * HOUR),
    dealt=CUTS,
)
def test_the_work_of_each_batch_between_instants_equals_the_exact_oracle(
    rows: Any, cuts: set[int], as_of: int | None, dealt: Any
) -> None:
    edges = [MONDAY + cut * 15 * MINUTE for cut in sorted(cuts)]
    until = None if as_of is None else MONDAY + as_of
    expected = {key: work for key, work in work_of(rows, edges, until).items() if any(work)}
    for observations in (frame_of(rows), cohorts_of(frame_of(rows), dealt)):
        table = batch_work(observations, edges=edges, as_of=until)
        assert table["bucket"].dtype == np.int64
        lines = plain(table)
        keys = [tuple(line[name] for name in ("batch_id", "bucket", *LABELS)) for line in lines]
        assert keys == sorted(keys, key=lambda key: (key[0], *map(natural_key, key[2:]), key[1]))
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
    assert batch_work(frame_of(rows), edges=[MONDAY, MONDAY + HOUR]).empty
    assert len(batch_work(frame_of(rows), edges=[MONDAY, MONDAY + 15 * MINUTE])) == 1
