"""What `check` promises: each kind of finding at its limit, and silence otherwise."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.health.check import KINDS
from tests.health.helpers import NOW, all_ended, at, batch, ended, frame

MOVING = batch("moving", (5, 100, 0), (3, 400, 0), (0.5, 800, 0))


def check(observations, **limits):
    return ska.check(observations, **({"as_of": NOW} | limits))


def kinds(report):
    return report.findings["kind"].tolist()


@pytest.fixture(params=["frame", "store"])
def held(request, tmp_path):
    """A function that holds observations as a frame or as a store."""

    def hold(observations):
        if request.param == "frame":
            return observations
        store = ska.SnapshotStore(tmp_path / "snapshots")
        store.append(observations)
        return store

    return hold


def test_nothing_is_found_where_all_is_well():
    report = check(frame(MOVING, ended("a", 10, 4)), max_error_rate=0.05, eta="2d")
    assert report.ok
    assert report.sentences == ()
    assert str(report) == "nothing found as of 2026-03-20 12:00 UTC"
    assert report.findings.dtypes.astype(str).to_dict()["since"] == "datetime64[us, UTC]"


def test_nothing_is_found_in_no_observations(tmp_path):
    assert check(MOVING.iloc[:0], max_error_rate={"spam": 0.1}, eta="1h").ok
    assert check(ska.SnapshotStore(tmp_path / "nothing"), max_error_rate={"spam": 0.1}, eta="1h").ok


@pytest.mark.parametrize(("hours", "found"), [(5.99, False), (6.0, True)])
def test_stalled_is_judged_between_observations(hours, found):
    stuck = batch("stuck", (10, 100, 0), (hours + 0.5, 300, 0), (0.5, 300, 0))
    report = check(frame(MOVING, stuck))
    assert kinds(report) == (["stalled"] if found else [])
    if found:
        row = report.findings.iloc[0]
        assert (row["batch_id"], row["policy_id"], row["policy_version"]) == ("stuck", "spam", "v1")
        assert (row["since"], row["value"], row["limit"]) == (at(6.5), 6.0, 6.0)
        assert report.sentences == (
            (
                "stuck (spam v1): 700 decisions pending, and no count had changed for 6 h "
                "at 2026-03-20 11:30 UTC"
            ),
        )


def test_a_store_that_nobody_polls_is_silent_and_its_batches_are_not_stalled(held):
    report = check(held(MOVING), as_of=NOW + pd.Timedelta(days=20))
    assert kinds(report) == ["silent"]
    row = report.findings.iloc[0]
    assert (row["since"], row["value"], row["limit"]) == (at(0.5), 480.5, 2.0)
    assert report.findings[["policy_id", "policy_version", "batch_id"]].isna().all(axis=None)


@pytest.mark.parametrize(("hours", "found"), [(1.99, []), (2.0, ["silent"])])
def test_silence_begins_at_its_limit(hours, found):
    open_batch = batch("open", (hours + 1, 100, 0), (hours, 200, 0))
    assert kinds(check(open_batch)) == found


def test_a_store_without_open_batches_may_be_silent():
    assert check(ended("a", 10, 40)).ok


def test_unanswered_is_measured_from_the_last_observation_of_all(held):
    lost = batch("lost", (8, 100, 0), (2.51, 200, 0))
    assert kinds(check(held(frame(MOVING, lost)))) == ["unanswered"]
    lost = batch("lost", (8, 100, 0), (2.5, 200, 0))
    assert check(held(frame(MOVING, lost))).ok


def test_the_error_rate_of_a_policy_is_judged_by_its_lower_bound():
    errors = [70, 72, 68, 71, 69, 70]
    bad = [ended(f"b{i}", y, 2 + i, policy="hate") for i, y in enumerate(errors)]
    good = [ended(f"g{i}", 10 + i, 2 + i) for i in range(6)]
    observations = frame(MOVING, *bad, *good)
    report = check(observations, max_error_rate=0.05)
    assert kinds(report) == ["error_rate"]
    row = report.findings.iloc[0]
    assert (row["policy_id"], row["value"], row["limit"], row["since"]) == ("hate", 0.07, 0.05, at(7))
    assert check(observations, max_error_rate=0.07).ok
    assert check(observations, max_error_rate={"spam": 0.05}).ok
    assert kinds(check(observations, max_error_rate={"hate": 0.06, "spam": 0.005})) == ["error_rate"] * 2


def test_batches_that_ended_more_than_a_day_ago_and_single_ones_are_not_judged():
    old = [ended(f"b{i}", 500 + i, 24 + i) for i in range(6)]
    assert check(frame(*old), max_error_rate=0.05).ok
    assert check(ended("alone", 500, 1), max_error_rate=0.05).ok


def versions(errors_of_the_new, *, first_day, n=60):
    """Two versions side by side, a batch of each every few hours until now; the old one from 13 days ago."""
    rng = np.random.default_rng(1)
    old = [(f"o{i}", int(rng.integers(15, 26)), 300 - 5 * i) for i in range(n)]
    hours = np.linspace(24 * first_day - 2, 2, n)
    new = [
        (f"n{i}", int(errors_of_the_new + rng.integers(-5, 6)), float(hour)) for i, hour in enumerate(hours)
    ]
    return frame(all_ended(*old), all_ended(*new, version="v2"))


def test_a_new_version_with_more_errors_is_found_once(held):
    report = check(held(versions(40, first_day=12)))
    assert kinds(report) == ["worse_version"]
    row = report.findings.iloc[0]
    assert (row["policy_id"], row["policy_version"]) == ("spam", "v2")
    assert row["value"] == pytest.approx(0.02, abs=0.003)
    assert report.sentences[0].startswith("spam: v2 has more errors than v1: +")


def test_a_version_is_named_beside_its_own_baseline():
    rng = np.random.default_rng(2)
    v1 = [(f"a{i}", int(rng.integers(15, 26)), 330 - 4 * i) for i in range(30)]
    v2 = [(f"b{i}", int(rng.integers(15, 26)), 250 - 4 * i) for i in range(62)]
    v3 = [(f"c{i}", int(rng.integers(35, 46)), 100 - 2 * i) for i in range(48)]
    told = frame(*(all_ended(*some, version=f"v{n}") for n, some in enumerate((v1, v2, v3), 1)))
    (sentence,) = check(told).sentences
    assert sentence.startswith("spam: v3 has more errors than v2: +")


def test_a_version_as_good_as_the_one_before_is_not_found():
    assert check(versions(20, first_day=12)).ok


def test_a_version_older_than_the_window_is_left_to_the_report():
    assert check(versions(40, first_day=16)).ok


def test_a_backlog_is_late_when_its_fastest_day_is_too_slow():
    # 100 an hour for three days, and 4,000 pending: 40 hours.
    slow = batch("slow", *[(72 - hour, 100 * hour, 0) for hour in range(0, 73, 6)], size=11_200, created=72)
    observations = slow
    assert check(observations, eta="41h").ok
    report = check(observations, eta="39h")
    assert kinds(report) == ["backlog_late"]
    row = report.findings.iloc[0]
    assert row["value"] == pytest.approx(40.0)
    assert (row["policy_id"], row["limit"], row["since"]) == ("spam", 39.0, at(72))


def test_a_backlog_of_which_nothing_was_finished_is_late_once_it_is_that_old():
    waiting = batch("waiting", (5, 0, 0), (1, 0, 0), created=10)
    observations = waiting
    assert check(observations, eta="10h", stalled="20h").ok
    report = check(observations, eta="8h", stalled="20h")
    assert kinds(report) == ["backlog_late"]
    assert np.isnan(report.findings["value"][0])


def test_parts_that_do_not_sum_contradict_for_a_day():
    wrong = ended("wrong", 10, 23)
    wrong["pending_count"] = 40
    report = check(frame(MOVING, wrong))
    assert kinds(report) == ["contradiction"]
    assert report.findings["value"][0] == -40.0
    assert report.sentences[0] == (
        "wrong (spam v1): success, error, cancelled and pending are 40 decisions more than "
        "the size of the batch"
    )
    wrong["observed_at"] = at(25)
    assert check(frame(MOVING, wrong)).ok


def test_only_a_frame_holds_two_answers_of_one_instant(tmp_path):
    twice = frame(MOVING, ended("a", 10, 3), ended("a", 11, 3))
    report = check(twice)
    assert kinds(report) == ["contradiction"]
    assert "two answers of one instant differ" in report.sentences[0]


def test_findings_are_told_in_a_fixed_order_with_a_sentence_each_that_names_no_other_kind(held):
    stuck = [batch(f"stuck{i}", (30, 100, 0), (8, 300, 0), (0.5, 300, 0), version=f"v{i}") for i in (10, 9)]
    lost = batch("lost", (8, 100, 0), (3.5, 200, 0))
    hot = [ended(f"b{i}", 70 + i, 2 + i, policy="hate") for i in range(6)]
    odd = ended("odd", 10, 3)
    odd["pending_count"] = 7
    report = check(held(frame(*stuck, lost, *hot, odd)), max_error_rate=0.05, eta="1h", silent="30min")
    found = kinds(report)
    assert found == [
        "silent", "error_rate", "backlog_late", "stalled", "stalled", "unanswered", "contradiction",
    ]  # fmt: skip
    assert report.findings["policy_version"].dropna().tolist() == ["v9", "v10", "v1", "v1"]
    assert len(report.sentences) == len(found)
    for kind, sentence in zip(found, report.sentences, strict=True):
        for other in set(KINDS) - {kind}:
            assert other not in sentence
            assert other.replace("_", " ") not in sentence


def test_later_observations_do_not_count_and_the_default_is_now(held):
    stuck = batch("stuck", (10, 100, 0), (9, 300, 0), (0.5, 300, 0))
    observations = held(stuck)
    assert check(observations, as_of=at(8.9)).ok
    assert kinds(ska.check(observations)) == ["silent", "stalled"]


def test_times_are_those_of_the_zone():
    stuck = batch("stuck", (10, 100, 0), (9, 300, 0), (0.5, 300, 0))
    assert check(stuck, tz="Asia/Tokyo").sentences[0].endswith("at 2026-03-20 20:30 JST")


@pytest.mark.parametrize("limit", [1.5, -0.1, "3%", True, float("nan"), {"spam": "much"}, {"spam": None}])
def test_a_limit_that_is_no_fraction_is_refused(limit):
    with pytest.raises(ValueError, match=r"max_error_rate.*: expected a fraction between 0 and 1"):
        check(MOVING, max_error_rate=limit)


@pytest.mark.parametrize("name", ["stalled", "silent", "eta"])
@pytest.mark.parametrize("length", ["soon", 6, dt.timedelta(0), "-1h"])
def test_a_limit_that_is_no_length_of_time_is_refused(name, length):
    with pytest.raises(ValueError, match=f"^{name}="):
        check(MOVING, **{name: length})


def test_a_limit_of_an_unknown_policy_lists_the_known():
    with pytest.raises(ska.UnknownName, match="no policy 'spma'; known: 'spam'"):
        check(MOVING, max_error_rate={"spma": 0.1})


def test_a_policy_that_has_not_been_seen_lately_is_known(held):
    old = ended("old", 10, 24 * 60, policy="retired")
    assert check(held(frame(MOVING, old)), max_error_rate={"retired": 0.1}).ok
