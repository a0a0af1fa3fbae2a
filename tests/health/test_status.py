"""What `status` counts is what `check` finds."""

import pandas as pd

import safetykit_analytics as ska
from safetykit_analytics.health import status
from tests.health.helpers import NOW, at, batch, ended, frame


def stand(observations, **changes):
    return status(observations, **({"stalled": "6h", "silent": "2h", "as_of": NOW} | changes))


def test_status_counts_what_check_finds(tmp_path):
    store = ska.SnapshotStore(tmp_path / "snapshots")
    store.append(
        frame(
            ended("old", 3, 24 * 90),
            batch("stuck", (10, 100, 0), (7, 300, 0), (0.5, 300, 0)),
            batch("lost", (8, 100, 0), (3, 200, 0)),
            batch("fine", (8, 100, 0), (0.5, 200, 0)),
        )
    )
    found = stand(store)
    assert found == {
        "last_observed_at": at(0.5).to_pydatetime(),
        "age_s": 1800.0,
        "open": 3,
        "stalled": 1,
        "unanswered": 1,
    }
    kinds = ska.check(store, as_of=NOW).findings["kind"].value_counts()
    assert kinds.to_dict() == {"stalled": found["stalled"], "unanswered": found["unanswered"]}


def test_the_last_observation_is_that_of_all_batches_whether_they_are_read_or_not(tmp_path):
    store = ska.SnapshotStore(tmp_path / "snapshots")
    store.append(frame(ended("done", 3, 2), batch("open", (900, 1, 1), created=901)))
    store.compact()
    assert stand(store)["last_observed_at"] == at(2)
    assert stand(store, as_of=at(2.5))["last_observed_at"] == at(900)


def test_an_empty_store_has_no_last_observation(tmp_path):
    store = ska.SnapshotStore(tmp_path / "snapshots")
    nothing = {"last_observed_at": None, "age_s": None, "open": 0, "stalled": 0, "unanswered": 0}
    assert stand(store) == nothing
    store.append(ended("a", 1, 1))
    assert stand(store, as_of=pd.Timestamp("2020-01-01T00:00Z")) == nothing
