"""What single batches did in a bucket is folded once no later cohort can touch it, and never before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.calendar import BEYOND, with_guards
from safetykit_analytics.flow import accumulate
from safetykit_analytics.flow.reduce import N_BATCHES, N_ROWS, N_TIMES, Reduced, Sparse
from tests.effort import examples
from tests.rates.helpers import CUTS, DAY, HOUR, MONDAY, cohorts_of, frame_of, histories, row

if TYPE_CHECKING:
    from safetykit_analytics.arrays import Floats

CELLS = "safetykit_analytics.flow.totals._CELLS"
# Sums over batches in another order.
OF_BATCHES = ["error_rate_low", "error_rate_high"]


@examples(25)
@given(
    rows=histories(),
    cut=CUTS,
    freq=st.sampled_from(["15min", "6h", "D"]),
    by=st.sampled_from([(), ("policy_id", "policy_version")]),
)
def test_folding_after_every_cohort_gives_what_one_fold_at_the_end_gives(
    rows: Any, cut: Any, freq: str, by: Any
) -> None:
    dealt = cohorts_of(frame_of(rows), cut)
    at_once = ska.rates(dealt, freq=freq, by=by)
    with mock.patch(CELLS, 0):
        again = ska.rates(dealt, freq=freq, by=by)
    exact = [name for name in at_once.columns if name not in OF_BATCHES]
    pd.testing.assert_frame_equal(again[exact], at_once[exact], check_exact=True)
    pd.testing.assert_frame_equal(again[OF_BATCHES], at_once[OF_BATCHES], rtol=1e-12, atol=1e-12)


def fleet(n_days: int) -> list[dict[str, Any]]:
    """Three batches a day that take a day and a half; one of the second day never ends."""
    return [
        row(
            f"batch_{day:02}{name}",
            MONDAY + day * DAY + hours * HOUR,
            11 * hours,
            hours * number // 3,
            created_at=MONDAY + day * DAY + number * HOUR,
            batch_status="SUCCESS" if hours == 36 and (day, number) != (1, 2) else "PENDING",
        )
        for day in range(n_days)
        for number, name in enumerate("abc")
        for hours in (6, 20, 36)
    ]


def test_cells_of_days_that_are_over_are_folded_while_cohorts_are_read() -> None:
    dealt = cohorts_of(frame_of(fleet(10)), [day for day in range(10) for _ in "abc"])
    folds: list[int] = []

    def counted(real: Any) -> Any:
        def fold(sums: Floats, batches: Any, **options: Any) -> Any:
            place, _ = batches(np.ones(sums.shape[1], dtype=np.bool_))
            folds.append(len(place))
            return real(sums, batches, **options)

        return fold

    from safetykit_analytics.rates import table

    with mock.patch.object(table, "own_variances", counted(table.own_variances)):
        with mock.patch(CELLS, 0):
            often = ska.rates(dealt)
        n_folds, largest = len(folds), max(folds)
        folds.clear()
        once = ska.rates(dealt)
    # One of each is of nothing: what a place without work has.
    assert len(folds) == 2
    assert n_folds > 4
    assert largest < max(folds) / 2
    pd.testing.assert_frame_equal(often, once, rtol=1e-12)


def sparse(buckets: list[int], values: Any) -> Sparse:
    return Sparse(np.zeros(len(buckets), dtype=np.int64), np.array(buckets, dtype=np.int64), np.array(values))


def piece(cells: list[int], cover: tuple[int, int]) -> Reduced:
    """One batch with work 1 in each of some buckets, and 1 per microsecond in all buckets of a cover."""
    first, stop = cover
    there = sorted({*cells, *range(first, stop)})
    n_batches = [cells.count(bucket) + (first <= bucket < stop) for bucket in there]
    return Reduced(
        groups=[("spam",)],
        sums=sparse(there, [[1.0] * len(there)] * N_BATCHES + [n_batches] * (N_ROWS - N_BATCHES)),
        times=sparse(there, [[1.0] * len(there)] + [[0.0] * len(there)] * (N_TIMES - 1)),
        cells=sparse(cells, [[1.0] * len(cells)] * 2),
        covers=sparse([first], [[1.0]] * 2),
        n_covered=np.array([stop - first]),
    )


EDGES = [0, 10, 20, 30, 40]


@examples(80)
@given(data=st.data(), n=st.integers(1, 6))
def test_a_bucket_is_folded_once_and_only_when_nothing_can_come_any_more(data: Any, n: int) -> None:
    earliest = sorted(data.draw(st.lists(st.integers(0, 39), min_size=n, max_size=n)))
    pieces = []
    for since in earliest:
        # Buckets are counted from the guard: an instant t lies in bucket 1 + t // 10.
        buckets = st.integers(1 + since // 10, 4)
        cells = sorted(data.draw(st.sets(buckets, min_size=1)))
        pieces.append(piece(cells, tuple(sorted(data.draw(st.tuples(buckets, buckets))))))
    follows = [*earliest[1:], BEYOND]
    edges = with_guards(np.array(EDGES))
    read = 0

    def results() -> Any:
        nonlocal read
        for follow, some in zip(follows, pieces, strict=True):
            read += 1
            yield follow, some

    seen: list[int] = []

    def fold(sums: Floats, batches: Any) -> dict[str, Any]:
        place, work = batches(np.ones(sums.shape[1], dtype=np.bool_))
        # What belongs together comes together: all batches that will ever work there.
        np.testing.assert_array_equal(np.bincount(place, minlength=sums.shape[1]), sums[N_BATCHES])
        seen.append(sums.shape[1])
        return {
            "work": np.bincount(place, weights=work[0], minlength=sums.shape[1]),
            "read": np.full(sums.shape[1], read),
        }

    with mock.patch(CELLS, 0):
        totals = accumulate(results(), edges=edges, fold=fold)
    expected = np.zeros(5)
    last = np.zeros(5, dtype=int)
    for number, some in enumerate(pieces, start=1):
        np.add.at(expected, some.cells.bucket, 1.0)
        first = int(some.covers.bucket[0])
        expected[first : first + int(some.n_covered[0])] += 10.0
        last[some.sums.bucket] = number
    bucket = totals.layout.buckets()
    np.testing.assert_array_equal(totals.folded["work"], expected[bucket])
    done = totals.sums[N_BATCHES] > 0
    assert (totals.folded["read"][done] >= last[bucket][done]).all()
    # Of the results, and one for what a place without work has.
    assert sum(seen) == done.sum() + 1


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_no_cohort_gives_no_places(limit: int) -> None:
    with mock.patch(CELLS, limit):
        table = ska.rates(cohorts_of(frame_of([])))
    assert table.empty


def test_a_batch_that_works_through_many_cohorts_is_one_batch_in_each_bucket() -> None:
    rows = [row("long", MONDAY + hours * HOUR, hours, created_at=MONDAY - DAY) for hours in (1, 100)]
    rows += [
        row(f"short_{day}", MONDAY + day * DAY + HOUR, 9, 1, created_at=MONDAY + day * DAY)
        for day in range(5)
    ]
    dealt = cohorts_of(frame_of(rows), tuple(range(6)))
    with mock.patch(CELLS, 0):
        table = ska.rates(dealt, by=()).set_index("bucket_start")["n_batches"]
    starts = [table.index[0] + pd.Timedelta(days=day + 1) for day in range(5)]
    assert table.loc[starts].tolist() == [2] * 4 + [1 + (table.index[-1] >= starts[-1])]
