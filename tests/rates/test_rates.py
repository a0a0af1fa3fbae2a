"""The table of rates against the exact oracle."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.formatting import NONE
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import (
    CUTS,
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    Counting,
    at,
    cohorts_of,
    frame_of,
    histories,
    row,
)

BY = [
    (),
    ("policy_id",),
    ("policy_version",),
    ("policy_id", "policy_version"),
    ("policy_version", "policy_id"),
]
EXACT = [
    "success", "error", "cancelled", "processed", "throughput_per_hour", "error_rate", "processed_low",
    "processed_high", "coverage", "smeared_share", "reprocessed",
]  # fmt: skip


def us(times: Any) -> list[int]:
    """Whole microseconds since 1970 of a column of instants."""
    naive = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return naive.astype("datetime64[us]").astype("int64").tolist()


def keyed(table: pd.DataFrame, by: tuple[str, ...]) -> dict[Any, Any]:
    """Rows by (group, bucket start)."""
    return {
        (tuple(None if line[name] == NONE else line[name] for name in by), start): line
        for line, start in zip(table.to_dict("records"), us(table["bucket_start"]), strict=True)
    }


def assert_agrees(table: pd.DataFrame, rows: Any, *, freq: str, tz: str, by: Any, as_of: Any) -> None:
    """Every number equals the oracle's, and rows are complete from a group's first to its last."""
    kept = [seen for seen in rows if as_of is None or seen["observed_at"] <= as_of]
    if not kept:
        assert table.empty
        return
    times = [seen["observed_at"] for seen in kept] + [
        seen["created_at"] for seen in kept if seen["created_at"]
    ]
    edges = oracle.calendar(freq, tz, min(times), max(seen["observed_at"] for seen in kept))
    expected = oracle.table(rows, edges, by, as_of)
    place = {edge: number for number, edge in enumerate(edges)}
    shown: dict[Any, list[int]] = {}
    for (group, start), line in keyed(table, by).items():
        bucket = place[start]
        shown.setdefault(group, []).append(bucket)
        truth = expected.get((group, bucket))
        if truth is None:
            assert line["n_batches"] == 0
            assert [line[name] for name in ("success", "error", "cancelled", "processed")] == [0, 0, 0, 0]
            continue
        work = float(max(1, abs(truth["processed"])))
        for name in EXACT:
            if truth[name] is None:
                assert math.isnan(line[name]), name
            else:
                assert math.isclose(line[name], truth[name], rel_tol=1e-9, abs_tol=1e-12 * work), name
        assert line["n_batches"] == truth["n_batches"]
        assert line["partial"] == truth["partial"]
    assert set(expected) <= {(group, bucket) for group, buckets in shown.items() for bucket in buckets}
    for group, buckets in shown.items():
        active = sorted(bucket for key, bucket in expected if key == group)
        assert buckets == list(range(active[0], active[-1] + 1))


@examples(120)
@given(
    rows=histories(),
    freq=st.sampled_from(["15min", "6h", "D"]),
    tz=st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]),
    by=st.sampled_from(BY),
    as_of=st.none() | st.integers(0, 80 * HOUR),
    cut=st.none() | CUTS,
)
def test_every_column_equals_the_exact_oracle(  # noqa: PLR0917 -- hypothesis draws them
    rows: Any, freq: str, tz: str, by: Any, as_of: Any, cut: Any
) -> None:
    as_of = None if as_of is None else MONDAY + as_of
    frame = frame_of(rows)
    observations = frame if cut is None else cohorts_of(frame, cut)
    table = ska.rates(observations, freq=freq, tz=tz, by=by, as_of=None if as_of is None else at(as_of))
    assert_agrees(table, rows, freq=freq, tz=tz, by=by, as_of=as_of)


@examples(60)
@given(
    rows=histories(),
    freq=st.sampled_from(["15min", "6h", "D", "auto"]),
    by=st.sampled_from(BY),
    cut=CUTS,
    together=st.booleans(),
)
def test_cohorts_give_what_one_frame_gives_however_batches_are_dealt_out(
    rows: Any, freq: str, by: Any, cut: Any, *, together: bool
) -> None:
    frame = frame_of(rows)
    whole = ska.rates(frame, freq=freq, by=by, tz="Asia/Kolkata")
    dealt = cohorts_of(frame, cut, together=together)
    pd.testing.assert_frame_equal(
        ska.rates(dealt, freq=freq, by=by, tz="Asia/Kolkata"), whole, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("hours", [(1, 2, 3), (1, 2, 25), (1, 25, 49)])
@pytest.mark.parametrize("counts", [(3 * 10**9, 5, 7), (5, 3 * 10**9, 7), (2**31 - 1, 2**31, 2**31 + 5)])
def test_counts_that_take_more_than_32_bits_are_counted(counts: Any, hours: Any) -> None:
    rows = [
        row("a", MONDAY + hour * HOUR, count, count // 2, created_at=MONDAY - HOUR)
        for hour, count in zip(hours, counts, strict=True)
    ]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        assert_agrees(ska.rates(observations), rows, freq="1h", tz="UTC", by=BY[3], as_of=None)


@examples(60)
@given(rows=histories(), data=st.data())
def test_row_order_and_duplicates_change_nothing(rows: Any, data: Any) -> None:
    again = data.draw(st.lists(st.sampled_from(rows), max_size=5))
    shuffled = data.draw(st.permutations(rows + again))
    expected = ska.rates(frame_of(rows))
    pd.testing.assert_frame_equal(ska.rates(frame_of(shuffled)), expected, rtol=1e-9, atol=1e-12)


ONE = [row("batch_1", MONDAY + HOUR, 5, 1, created_at=MONDAY)]


@pytest.mark.parametrize("by", BY)
def test_no_observations_give_an_empty_table_of_the_same_types(by: Any) -> None:
    full, empty = ska.rates(frame_of(ONE), by=by), ska.rates(frame_of([]), by=by)
    assert empty.empty
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert list(empty.columns) == list(full.columns)
    assert full["n_batches"].dtype == np.int64
    assert full["partial"].dtype == bool


def test_labels_come_in_natural_order_with_none_last() -> None:
    rows = [
        row(f"batch_{version}", MONDAY + HOUR, 5, created_at=MONDAY, policy_version=version)
        for version in ("v10", None, "v9", "v1")
    ]
    table = ska.rates(frame_of(rows), by="policy_version")
    assert table["policy_version"].tolist() == ["v1", "v9", "v10", "(none)"]


def test_a_version_of_five_thousand_digits_has_its_place_among_numbers() -> None:
    versions = ["1" * 5000, "9" * 4999, "007", "8"]
    rows = [row(f"batch_{v[:3]}", MONDAY + HOUR, 5, created_at=MONDAY, policy_version=v) for v in versions]
    table = ska.rates(frame_of(rows), by="policy_version")
    assert table["policy_version"].tolist() == ["007", "8", "9" * 4999, "1" * 5000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "version"}, "policy_version"),
        ({"by": ("policy_id", "policy_id")}, "twice"),
        ({"tz": "Europe/Berln"}, "Europe/Berlin"),
        ({"freq": "7min"}, "divides a day"),
        ({"freq": "often"}, "invalid frequency"),
        ({"freq": "W-SUN"}, "ISO weeks"),
        ({"freq": 60}, "invalid frequency"),
        ({"start": pd.Timestamp("2026-03-01")}, "time zone"),
        ({"end": "2026-03-01 10:00"}, "time zone"),
        ({"as_of": "yesterday"}, "neither a date such as"),
        ({"start": "2026-03-02", "end": "2026-03-01"}, "before"),
        ({"start": "2026-03-02", "end": "2026-03-02"}, "before"),
        ({"confidence": 95}, "between 0 and 1"),
    ],
)
def test_a_bad_argument_is_a_value_error_that_says_what_was_expected(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ska.rates(frame_of(ONE), **arguments)


def test_something_else_than_observations_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="DataFrame of observations or a SnapshotStore"):
        ska.rates([1, 2])


def test_an_empty_label_is_no_label() -> None:
    rows = [
        row("batch_1", MONDAY + HOUR, 5, created_at=MONDAY, policy_id="", policy_version=""),
        row("batch_2", MONDAY + HOUR, 5, created_at=MONDAY, policy_id="", policy_version="v1"),
    ]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        table = ska.rates(observations)
        assert table["policy_id"].tolist() == ["(none)", "(none)"]
        assert table["policy_version"].tolist() == ["v1", "(none)"]


def test_a_date_is_its_midnight_in_the_zone_of_the_calendar() -> None:
    rows = [row("batch_1", MONDAY + 48 * HOUR, 48, created_at=MONDAY)]
    table = ska.rates(frame_of(rows), by=(), tz="Asia/Tokyo", start=dt.date(2026, 3, 3), end="2026-03-04")
    assert table["bucket_start"].tolist() == list(
        pd.date_range("2026-03-03", periods=24, freq="h", tz="Asia/Tokyo")
    )


@pytest.mark.parametrize(("quick", "freq"), [(80, "1min"), (79, "1h")])
def test_auto_allows_a_fifth_of_the_work_from_longer_intervals(quick: int, freq: str) -> None:
    first = MONDAY + MINUTE
    rows = [row("a", first, quick, created_at=MONDAY), row("a", first + HOUR, 100)]
    frame = frame_of(rows)
    pd.testing.assert_frame_equal(ska.rates(frame, freq="auto"), ska.rates(frame, freq=freq))


def test_auto_is_months_where_even_months_are_too_short() -> None:
    frame = frame_of([row("batch_1", MONDAY + 90 * DAY, 90, created_at=MONDAY)])
    pd.testing.assert_frame_equal(ska.rates(frame, freq="auto"), ska.rates(frame, freq="MS"))


def test_the_first_bucket_of_a_window_learns_from_the_29_before_it() -> None:
    # The batches of the second hour differ more than any others.
    rows = [
        row(
            f"{name}_{hour}",
            MONDAY + (hour + 1) * HOUR,
            100 - error,
            error,
            created_at=MONDAY + hour * HOUR,
            batch_status="SUCCESS",
        )
        for hour in range(31)
        for name, error in (("few", 4), ("many", 60 if hour == 1 else 6))
    ]
    whole = ska.rates(frame_of(rows), by=())
    last = ska.rates(frame_of(rows), by=(), start=at(MONDAY + 30 * HOUR))
    pd.testing.assert_frame_equal(last, whole.tail(1).reset_index(drop=True), rtol=1e-9)
    assert last["error_rate_low"].notna().all()


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (30, ""),
        (29, "low_coverage"),
        (90, "mostly_smeared"),
        (89, "low_coverage;mostly_smeared"),
    ],
)
def test_an_interval_is_left_out_below_half_a_coverage_and_the_note_says_so(seen: int, note: str) -> None:
    rows = [row(f"{error}", MONDAY + seen * MINUTE, 90, error, created_at=MONDAY) for error in range(11)]
    last = ska.rates(frame_of(rows), by=(), as_of=at(MONDAY + -(-seen // 60) * HOUR)).iloc[-1]
    assert last["note"] == note
    assert math.isnan(last["error_rate_low"]) == math.isnan(last["error_rate_high"]) == bool(note)


def test_work_of_which_half_is_smeared_has_an_interval() -> None:
    rows = [
        row("short", MONDAY + HOUR, 9, 1, created_at=MONDAY, batch_status="SUCCESS"),
        row("long", MONDAY + 2 * HOUR, 16, 4, created_at=MONDAY, batch_status="SUCCESS"),
    ]
    table = ska.rates(frame_of(rows), by=())
    assert table["smeared_share"].tolist() == [0.5, 1.0]
    assert (
        table["error_rate_low"].notna().tolist() == table["error_rate_high"].notna().tolist() == [True, False]
    )


def test_the_rate_of_nothing_but_errors_is_one_and_of_nothing_but_successes_zero() -> None:
    rows = [
        row(name, MONDAY + HOUR, *counts, created_at=MONDAY, policy_version=name)
        for name, counts in {"errors": (0, 7), "successes": (7, 0), "nothing": (0, 0)}.items()
    ]
    rates = ska.rates(frame_of(rows)).set_index("policy_version")["error_rate"]
    assert rates[["errors", "successes"]].tolist() == [1, 0]
    assert math.isnan(rates["nothing"])


@pytest.mark.parametrize("n_batches", [10, 11])
def test_so_many_different_batches_have_an_interval_of_their_own(n_batches: int) -> None:
    rows = [
        row(f"{number}", MONDAY + HOUR, 90, number, created_at=MONDAY, batch_status="SUCCESS")
        for number in range(n_batches)
    ]
    last = ska.rates(frame_of(rows), by=()).iloc[-1]
    assert last["error_rate_low"] < last["error_rate"] < last["error_rate_high"]
    assert last["note"] == ""


def test_a_bucket_that_is_mostly_smeared_lends_nothing() -> None:
    later = [
        row(
            f"{number}",
            MONDAY + 4 * HOUR,
            90,
            10 * number,
            created_at=MONDAY + 3 * HOUR,
            batch_status="SUCCESS",
        )
        for number in range(11)
    ]
    smeared = [row("long", MONDAY + 3 * HOUR, 9, 90, created_at=MONDAY, batch_status="SUCCESS")]
    expected, found = (ska.rates(frame_of(rows), by=()).tail(1) for rows in (later, smeared + later))
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_only_cohorts_that_can_touch_the_window_or_what_it_learns_from_are_read() -> None:
    def ended(name: str, start: int) -> dict[str, Any]:
        return row(
            name, MONDAY + (start + 1) * HOUR, 5, created_at=MONDAY + start * HOUR, batch_status="SUCCESS"
        )

    rows = [
        ended("before", 9),
        ended("until the beginning", 10),
        row("open", MONDAY + HOUR, 5, created_at=MONDAY),
        ended("inside", 40),
        ended("from the end", 42),
    ]
    window = {"start": at(MONDAY + 40 * HOUR), "end": at(MONDAY + 42 * HOUR)}
    with Counting(1) as pool:
        ska.rates(cohorts_of(frame_of(rows), range(5)), executor=pool, **window)
        assert pool.n_tasks == 3
        ska.backlog(cohorts_of(frame_of(rows), range(5)), executor=pool, **window)
        # What is pending is due to all that began before.
        assert pool.n_tasks == 3 + 4


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ({"by": ()}, set()),
        ({"by": "policy_version"}, {"policy_version"}),
        ({"by": (), "policy_id": "spam"}, {"policy_id"}),
    ],
)
@pytest.mark.parametrize("function", [ska.rates, ska.backlog])
def test_only_labels_that_are_needed_are_read(function: Any, arguments: Any, labels: set[str]) -> None:
    class Store:
        asked: ClassVar[list[Any]] = []

        def cohorts(self, columns: Any = None) -> list[Any]:
            self.asked.append(columns)
            return []

    function(Store(), **arguments)
    assert {"policy_id", "policy_version"} & set(Store.asked[0]) == labels


@pytest.mark.parametrize("later", [(5, 20), (20, 5)])
def test_an_hour_in_which_successes_or_errors_were_taken_back_has_no_error_rate(later: Any) -> None:
    rows = [row("a", MONDAY + HOUR, 10, 10, created_at=MONDAY), row("a", MONDAY + 2 * HOUR, *later)]
    table = ska.rates(frame_of(rows), by=())
    assert table["processed"].tolist() == [20, 5]
    assert table["error_rate"].isna().tolist() == [False, True]
