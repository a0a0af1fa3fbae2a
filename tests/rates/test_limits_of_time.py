"""What lies exactly at a limit, or on the wrong side of it."""

import pandas as pd

import safetykit_analytics as ska
from tests.rates.helpers import DAY, HOUR, MONDAY, at, frame_of, row


def stalled(rows, **options):
    return ska.stalled_batches(frame_of(rows), idle="1h", **options).iloc[0]


def test_a_batch_last_seen_exactly_so_long_ago_is_stalled_and_a_little_earlier_not_seen_lately():
    rows = [row("b", MONDAY + hour * HOUR, 5, pending_count=9) for hour in (0, 2)]
    assert stalled(rows, as_of=at(MONDAY + 3 * HOUR))["state"] == "stalled"
    assert stalled(rows, as_of=at(MONDAY + 3 * HOUR + 1))["state"] == "not_seen_lately"


def test_a_batch_that_never_moved_is_idle_since_it_was_seen_if_its_clock_ran_ahead():
    ahead = at(MONDAY + HOUR // 2)
    rows = [row("b", MONDAY + hour * HOUR, pending_count=9, created_at=ahead) for hour in (0, 2)]
    found = stalled(rows)
    assert found["idle_at_least"] == found["idle_at_most"] == pd.Timedelta(hours=2)


def test_the_pace_of_a_group_that_began_today_is_that_of_its_hours_so_far():
    begun = at(MONDAY + DAY // 2)
    rows = [
        row("b", MONDAY + hour * HOUR, done, pending_count=900 - done, created_at=begun)
        for hour, done in ((18, 300), (24, 600))
    ]
    last = ska.backlog(frame_of(rows), freq="1D", by=()).iloc[0]
    assert last["pending"] == 300
    assert last["eta_low"] == last["eta_high"] == pd.Timedelta(hours=6)


def test_what_was_done_at_the_instant_between_two_buckets_counts_for_the_pace_of_the_second():
    noon = MONDAY + DAY // 2
    rows = [
        row("b", noon, 300, pending_count=900, created_at=at(MONDAY)),
        row("c", noon, 300, created_at=at(noon), batch_status="SUCCESS"),
    ]
    table = ska.backlog(frame_of(rows), freq="12h", by=())
    assert table["pending"].tolist() == [900, 900]
    assert table["partial"].tolist() == [False, True]
    assert (
        table["eta_low"].tolist() == table["eta_high"].tolist() == [pd.Timedelta("36h"), pd.Timedelta("18h")]
    )


def test_a_bucket_in_which_a_batch_was_observed_for_a_microsecond_has_a_row():
    table = ska.rates(frame_of([row("b", MONDAY + HOUR + 1, created_at=MONDAY)]))
    assert table["coverage"].tolist() == [1, 1]
