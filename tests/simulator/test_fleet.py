"""What the fleet model promises."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.batch_ids import created_at_us
from safetykit_analytics.simulator import POLICIES, STATUSES, Policy, Version, make_fleet, to_ms
from tests.effort import examples

FLEET = make_fleet(seed=3, batches=2000, weeks=3)
TIMES = st.datetimes(FLEET.start.replace(tzinfo=None), dt.datetime(2025, 10, 20), timezones=st.just(dt.UTC))


def test_the_same_seed_gives_the_same_fleet_and_another_seed_another():
    again, other = make_fleet(seed=3, batches=2000, weeks=3), make_fleet(seed=4, batches=2000, weeks=3)
    assert again.batch_ids == FLEET.batch_ids
    assert (again.errors == FLEET.errors).all()
    assert not set(other.batch_ids) & set(FLEET.batch_ids)


def test_batch_ids_are_ulids_of_the_creation_time_in_order():
    decoded = np.asarray(created_at_us(FLEET.batch_ids, np.full(2000, 2**52)).cast("int64"))
    assert (decoded == FLEET.created_ms * 1000).all()
    assert list(FLEET.batch_ids) == sorted(set(FLEET.batch_ids))
    assert to_ms(FLEET.start) <= FLEET.created_ms.min()
    assert FLEET.created_ms.max() < to_ms(FLEET.end)


@given(TIMES, TIMES)
@examples(50)
def test_counts_always_sum_to_the_batch_and_never_go_back(one, other):
    earlier, later = sorted((one, other))
    created = np.arange(FLEET.created_by(earlier))
    before, after = (FLEET.counts_at(created, to_ms(at)) for at in (earlier, later))
    for counts in (before, after):
        parts = counts.success_count + counts.error_count + counts.cancelled_count + counts.pending_count
        assert (parts == counts.batch_count).all()
        assert min(column.min(initial=0) for column in counts) >= 0
    for field in ("batch_count", "success_count", "error_count", "cancelled_count"):
        assert (getattr(after, field) >= getattr(before, field)).all()
    terminal = before.status >= STATUSES.index("SUCCESS")
    assert (after.status >= before.status)[~terminal].all()
    for field in before._fields:
        assert (getattr(after, field) == getattr(before, field))[terminal].all()


@given(TIMES, st.integers(0, 1999))
@examples(50)
def test_one_batch_alone_looks_as_it_does_among_all(at, batch):
    alone = FLEET.counts_at(batch, to_ms(at))
    among = FLEET.counts_at(np.arange(2000), to_ms(at))
    assert [int(value) for value in alone] == [int(column[batch]) for column in among]


def test_batches_end_in_every_documented_way_and_some_never():
    counts = FLEET.counts_at(np.arange(2000), to_ms(FLEET.end + dt.timedelta(days=30)))
    ended = {status: int((counts.status == i).sum()) for i, status in enumerate(STATUSES)}
    assert ended["SUCCESS"] > 1850
    assert 30 < ended["CANCELLED"] < 100
    assert ended["ERROR"] > 0
    assert 0 < ended["PENDING"] < 40
    assert ended["WAITING_FOR_UPLOAD"] == 0
    full = (counts.status == STATUSES.index("SUCCESS")) & (counts.pending_count == 0)
    assert (counts.error_count == FLEET.errors)[full].all()
    # As in the documented example: SUCCESS, and some decisions still pending.
    assert ((counts.status == STATUSES.index("SUCCESS")) & (counts.pending_count > 0)).any()
    assert ((counts.cancelled_count > 0) == (counts.status == STATUSES.index("CANCELLED"))).all()


def test_each_version_fails_at_its_own_rate():
    fleet = make_fleet(seed=1, batches=20_000)
    for label, version in enumerate(version for policy in POLICIES for version in policy.versions):
        mine = fleet.label == label
        rate = fleet.errors[mine].sum() / fleet.batch_count[mine].sum()
        assert rate == pytest.approx(version.error_rate, rel=0.1)


def test_errors_cluster_within_batches():
    only = (Policy("p", 1.0, (Version("v1", 0.0, 0.02, 1000),)),)
    fleet = make_fleet(seed=1, batches=20_000, policies=only)
    expected = fleet.batch_count * 0.02
    dispersion = ((fleet.errors - expected) ** 2 / (expected * 0.98)).mean()
    # Beta-binomial: 1 + (n - 1) * ICC, against 1 for independent decisions.
    assert dispersion == pytest.approx(1 + (fleet.batch_count.mean() - 1) * 0.005, rel=0.05)


def test_a_new_version_takes_over_from_the_old_one_within_days():
    first = np.searchsorted([0.5], (FLEET.created_ms - to_ms(FLEET.start)) / (21 * 86_400_000))
    is_v7, is_v8 = ((FLEET.label == FLEET.labels.index(("hate-speech", v))) for v in ("v7", "v8"))
    assert is_v7.sum() > 200
    assert is_v8.sum() > 200
    assert not is_v8[first == 0].any()
    mixed_days = (FLEET.created_ms[is_v7].max() - FLEET.created_ms[is_v8].min()) / 86_400_000
    assert 0.5 < mixed_days < 3


def test_fewer_batches_come_by_night_and_at_the_weekend():
    hour = (FLEET.created_ms - to_ms(FLEET.start)) // 3_600_000
    by_hour = np.bincount(hour % 24, minlength=24)
    by_day = np.bincount(hour // 24 % 7, minlength=7)
    assert by_hour[12:17].mean() > 2 * by_hour[0:5].mean()
    assert by_day[5:].max() < by_day[:5].min()


def test_a_fleet_shorter_than_a_day_and_one_without_batches_can_be_made():
    short = make_fleet(batches=10, weeks=0.01)
    assert short.created_by(short.end) == 10
    assert make_fleet(batches=0).batch_ids == ()


def test_a_fleet_that_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match=r"^weeks=0: expected more than 0, such as 0\.5 or 3$"):
        make_fleet(weeks=0)
    with pytest.raises(ValueError, match=r"^batches=-1: expected 0 or more$"):
        make_fleet(batches=-1)
