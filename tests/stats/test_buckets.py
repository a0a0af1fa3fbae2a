"""Intervals of bucket rates: what is borrowed, what is not, and what earlier and later buckets may change."""

import numpy as np
import pytest

from benchmarks.calibration import bucket_cell, cluster_sums
from safetykit_analytics.stats import POOL_BUCKETS, cluster_rates, rate_intervals


def some_buckets(seed=1, *, buckets=40, m=5):
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(buckets), m)
    n = rng.integers(50, 900, len(place)).astype(float)
    return place, rng.binomial(n.astype(int), rng.beta(2, 98, len(place))).astype(float), n


def intervals(place, y, n, *, first=0):
    found = cluster_sums(place, y, n, n_places=int(place.max()) + 1)
    buckets = np.arange(int(place.max()) + 1) + first
    return rate_intervals(found, buckets * 0, buckets)


def test_earlier_and_later_buckets_change_no_bit_of_an_interval():
    place, y, n = some_buckets(buckets=90)
    low, high, _ = intervals(place, y, n)
    some = (place >= 20) & (place < 70)
    inner_low, inner_high, _ = intervals(place[some] - 20, y[some], n[some], first=20)
    kept = slice(POOL_BUCKETS - 1, 50)
    assert inner_low[kept].tolist() == low[20:70][kept].tolist()
    assert inner_high[kept].tolist() == high[20:70][kept].tolist()


def test_series_do_not_borrow_from_each_other():
    place, y, n = some_buckets(buckets=20)
    both = cluster_sums(np.append(place, place + 20), np.append(y, 3 * y), np.append(n, n), n_places=40)
    low, high, _ = rate_intervals(both, np.repeat([0, 1], 20), np.tile(np.arange(20), 2))
    alone_low, alone_high, _ = intervals(place, y, n)
    assert low[:20].tolist() == alone_low.tolist()
    assert high[:20].tolist() == alone_high.tolist()


def test_with_too_few_batches_in_the_pool_nothing_is_borrowed():
    place, y, n = np.zeros(5, int), np.array([2.0, 9, 4, 3, 7]), np.full(5, 100.0)
    low, high, note = intervals(place, y, n)
    plain = cluster_rates(place, y, n, n_groups=1)
    assert (low[0], high[0]) == pytest.approx((plain.low[0], plain.high[0]))
    assert note.tolist() == [""]


@pytest.mark.parametrize(("y", "expected"), [([3.0], "one_batch"), ([0.0, 0, 0], "clustering_not_estimable")])
def test_where_nothing_can_be_known_there_is_no_interval(y, expected):
    low, high, note = intervals(np.zeros(len(y), int), np.array(y), np.full(len(y), 100.0))
    assert np.isnan([low[0], high[0]]).all()
    assert note.tolist() == [expected]


def test_one_batch_and_a_bucket_without_errors_borrow_from_the_buckets_before():
    place, y, n = some_buckets(buckets=20)
    place, y, n = np.append(place, [20, 21, 21]), np.append(y, [9.0, 0, 0]), np.append(n, [500.0, 200, 300])
    low, high, note = intervals(place, y, n)
    assert note[20:].tolist() == ["", ""]
    assert 0 < low[20] < 9 / 500 < high[20]
    assert low[21] == 0 < high[21]
    # Decisions alike: wider than if the 500 were independent.
    assert high[21] > 3.84 / 503.84


def test_what_took_back_more_than_it_did_has_no_interval_and_lends_nothing():
    place, y, n = some_buckets(buckets=20)
    low, _, note = intervals(np.append(place, 5), np.append(y, 0.0), np.append(n, -10.0))
    assert np.isnan(low[5])
    assert note[5] == "reprocessed"
    assert not np.isnan(np.delete(low, 5)).any()


@pytest.mark.parametrize(
    ("m", "own", "rate", "icc", "least"),
    [(4, 4, 0.02, 0.03, 0.90), (10, 10, 0.001, 0.03, 0.85), (4, 1, 0.02, 0.03, 0.85)],
)
def test_intervals_hold_the_rate_where_there_are_thirty_buckets_to_borrow_from(m, own, rate, icc, least):
    assert bucket_cell(m, rate, icc, runs=200, seed=1, own=own) > least - 0.03
