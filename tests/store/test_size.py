"""How much room observations take."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from benchmarks.observations import write_store
from safetykit_analytics.simulator.fleet import STATUSES, make_fleet, to_ms

LIMIT = 15
# An id takes as much as two further observations of its batch: these are seen three to four times.
LIMIT_SELDOM_SEEN = 20


def bytes_per_observation(folder):
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return size / ska.SnapshotStore(folder).info().rows


def polled_fleet():
    """Poll a fleet every hour for four days, and keep the batches created in the first two.

    Each answer has its own microsecond.
    """
    fleet = make_fleet(seed=1, batches=200_000, weeks=4)
    draw = np.random.default_rng(0)
    polls = []
    for hour in range(2 * 168, 2 * 168 + 96):
        at = fleet.start + dt.timedelta(hours=hour)
        last_poll = at - dt.timedelta(hours=1)
        known = np.arange(fleet.created_by(last_poll))
        was_open = fleet.counts_at(known, to_ms(last_poll)).status < STATUSES.index("SUCCESS")
        batch = np.append(known[was_open], np.arange(len(known), fleet.created_by(at)))
        after = np.cumsum(draw.exponential(600, len(batch))).astype("timedelta64[us]")
        counts = fleet.counts_at(batch, to_ms(at))._asdict()
        polls.append(pd.DataFrame({"batch": batch, "observed_at": pd.Timestamp(at) + after} | counts))
    frame = pd.concat(polls, ignore_index=True)
    batch, status = frame.pop("batch").to_numpy(), frame.pop("status").to_numpy()
    labels = np.array(fleet.labels, dtype=object)[fleet.label[batch]]
    frame = frame.assign(
        batch_id=np.array(fleet.batch_ids)[batch],
        created_at=pd.to_datetime(fleet.created_ms[batch], unit="ms", utc=True),
        batch_status=np.array(STATUSES)[status],
        policy_id=labels[:, 0],
        policy_version=labels[:, 1],
        has_download=status == STATUSES.index("SUCCESS"),
        is_terminal=status >= STATUSES.index("SUCCESS"),
    )
    first = frame["observed_at"].min().normalize()
    two_days = frame["created_at"].between(first, first + dt.timedelta(days=2))
    return frame[two_days].reset_index(drop=True)


@pytest.mark.heavy
def test_batches_that_are_seen_three_to_four_times_take_at_most_twenty_bytes_per_observation(tmp_path):
    frame = polled_fleet()
    assert len(frame) > 40_000
    store = ska.SnapshotStore(tmp_path)
    for part in (frame.iloc[::2], frame.iloc[1::2]):
        store.append(part)
    store.compact()
    assert len(store.cohorts()) == len(list(tmp_path.rglob("*.parquet")))
    assert bytes_per_observation(tmp_path) < LIMIT_SELDOM_SEEN


def test_the_fleet_of_the_benchmarks_takes_at_most_fifteen_bytes_per_observation(tmp_path):
    write_store(tmp_path, 135_000, days=5)
    assert bytes_per_observation(tmp_path) < LIMIT
