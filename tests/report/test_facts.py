"""The numbers of a report, against arithmetic by hand and against the tables that they are taken from."""

import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.report.document import plain
from safetykit_analytics.report.headlines import headlines
from safetykit_analytics.report.weeks import monday_of, week_bounds
from tests.report.helpers import MONDAY, NEXT_MONDAY, UTC, WEEK, batch, fleet_frame, nothing, together

HOUR = dt.timedelta(hours=1)


def facts(frame, **keywords):
    return ska.weekly_report(frame, **({"week": WEEK} | keywords)).facts


def of(table, policy=None):
    rows = table[table["scope"] == "all"] if policy is None else table[table["policy_id"] == policy]
    assert len(rows) == 1
    return rows.iloc[0]


def test_totals_of_a_complete_week_are_those_of_the_weekly_rates(fleet, report):
    found, tz = report.facts, "Europe/Berlin"
    start, end = week_bounds(monday_of(WEEK), tz)
    for by in ((), ("policy_id",)):
        rates = ska.rates(fleet, freq="W", by=by, tz=tz, start=start, end=end)
        for row in rates.itertuples():
            policy = getattr(row, "policy_id", None)
            table = found.totals[found.totals["scope"] == ("policy" if by else "all")]
            mine = table[
                table["policy_id"].isna()
                if policy is pd.NA or policy is None
                else table["policy_id"] == policy
            ]
            for name in (
                "processed",
                "error_rate",
                "throughput_per_hour",
                "coverage",
            ):
                assert mine.iloc[0][name] == pytest.approx(getattr(row, name), rel=1e-9), name
            assert mine.iloc[0]["n_batches"] == row.n_batches


def test_versions_of_both_weeks_add_up_to_both_totals(report):
    found = report.facts
    start = pd.Timestamp(found.start)
    for table, rows in (
        (found.totals, found.versions[found.versions["bucket_start"] >= start]),
        (found.previous, found.versions[found.versions["bucket_start"] < start]),
    ):
        assert of(table)["processed"] == pytest.approx(rows["processed"].sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("week", "tz", "hours", "before"),
    [
        ("2026-W44", "America/New_York", 169, 168),
        ("2026-W40", "Australia/Lord_Howe", 167.5, 168),
        ("2027-W01", "Europe/Berlin", 168, 168),
    ],
)
def test_weeks_of_every_length_are_compared_per_hour(week, tz, hours, before):
    start, _ = week_bounds(monday_of(week), tz)
    # One batch that does 100 decisions an hour from a week before until the end.
    steady = batch(start - dt.timedelta(days=9), (30 * 24, 72_000, 0), size=72_000)
    found = facts(steady, week=week, tz=tz)
    assert found.elapsed_hours == hours
    assert (found.previous_end - found.previous_start) / HOUR == before
    assert of(found.totals)["processed"] == pytest.approx(100 * hours)
    assert of(found.totals)["throughput_per_hour"] == pytest.approx(100)
    assert of(found.change)["throughput_change"] == pytest.approx(0, abs=1e-12)
    assert not found.partial


def test_a_week_that_is_not_over_is_compared_with_as_many_hours_of_the_one_before():
    # 100 decisions an hour last week; 200 an hour in this one.
    last = batch(MONDAY - dt.timedelta(days=7), (168, 16_800, 0), size=16_800)
    this = batch(MONDAY, (30, 6_000, 0), size=99_999, number=1)
    found = facts(together(last, this))
    assert found.partial
    assert found.elapsed_hours == 30
    assert found.previous_end == MONDAY - dt.timedelta(days=7) + 30 * HOUR
    assert of(found.previous)["processed"] == pytest.approx(3_000)
    assert of(found.change)["throughput_change"] == pytest.approx(1)


def test_hours_are_elapsed_ones_also_when_the_clock_changes_in_the_week_before():
    # Berlin's week 13 has 167 hours: 167.5 hours into week 14, all of it is compared.
    start, _ = week_bounds(monday_of("2026-W14"), "Europe/Berlin")
    found = facts(
        batch(start - 100 * HOUR, (150, 10, 0), (267.5, 30, 0), size=99), week="2026-W14", tz="Europe/Berlin"
    )
    assert found.elapsed_hours == 167.5
    assert found.previous_end == found.start


def test_the_default_is_the_last_week_that_was_over_by_the_last_observation():
    seen = batch(MONDAY - dt.timedelta(days=9), (1, 9, 0), (16 * 24 + 9, 50, 0))
    assert ska.weekly_report(seen).facts.week == WEEK
    assert ska.weekly_report(seen, as_of=NEXT_MONDAY - HOUR).facts.week == "2026-W46"
    # In Los Angeles it is still Sunday when the batch was last seen.
    assert (
        ska.weekly_report(seen, as_of=NEXT_MONDAY + 5 * HOUR, tz="America/Los_Angeles").facts.week
        == "2026-W46"
    )


def test_a_worse_version_is_found_and_named_first(report):
    found = report.facts
    assert of(found.change, "hate-speech")["verdict"] == "higher"
    table = found.comparison.table
    table = table[table["policy_id"] == "hate-speech"].reset_index(drop=True)
    assert table["policy_version"].tolist() == ["v7", "v8"]
    assert table["role"].tolist() == ["baseline", "candidate"]
    # v8 took over within two days: too little of it ran beside v7 to blame it, and the week itself is told.
    assert table["design"].iloc[1] == "mixed"
    assert table["difference"].iloc[1] > 0
    assert (
        found.change["is_headline"].tolist()
        == (found.change["policy_id"] == "hate-speech").fillna(value=False).tolist()
    )
    assert headlines(found)[0][0] == "The error rate of "


def test_a_version_that_ran_beside_its_baseline_is_named_with_how_long_it_has_been_known():
    frame = fleet_frame(batches=900, policies=_side_by_side())
    found = facts(frame)
    row = found.comparison.table.iloc[1]
    assert (row["design"], row["verdict"]) == ("side by side", "higher")
    sentence = plain(headlines(found)[0])
    assert "is associated with a higher error rate than v1" in sentence
    assert re.search(r"side by side; since \d weeks?\)", sentence)
    earlier = facts(frame, week="2026-W45")
    assert earlier.comparison.found_on[1] is None or "new this week" in plain(headlines(earlier)[0])


def test_the_mix_of_policies_and_their_rates_add_up_to_the_change_of_all(report):
    change = of(report.facts.change)
    assert change["mix_effect"] + change["rate_effect"] == pytest.approx(change["difference"])


def test_a_day_without_any_work_while_batches_are_open_is_the_headline():
    last = batch(MONDAY - dt.timedelta(days=7), (100, 9_800, 200), size=10_000)
    # Done by Tuesday, nothing until Thursday although it is watched, then the rest.
    steps = [(12, 1_000, 10), *((hours, 1_000, 10) for hours in range(18, 78, 6)), (100, 9_000, 90)]
    found = facts(together(last, batch(MONDAY, *steps, size=9_090, number=1)), as_of=NEXT_MONDAY)
    assert found.outage is not None
    assert found.outage.start == MONDAY + 12 * HOUR
    assert found.outage.end == MONDAY + 72 * HOUR
    assert plain(headlines(found)[0]).startswith("Nothing was processed for 60 h, from 2026-11-16 12:00 UTC")


def test_twenty_policies_that_do_not_differ_give_no_verdict_by_being_many():
    policies = _same_policies(20)
    found = facts(fleet_frame(batches=800, hours=4.0, policies=policies))
    rows = found.change[found.change["scope"] == "policy"]
    assert (rows["p_adjusted"] >= rows["p_value"]).all()
    assert rows["p_adjusted"].max() > rows["p_value"].min()
    assert not rows["verdict"].isin(["higher", "lower"]).any()


def _side_by_side():
    from safetykit_analytics.simulator.fleet import Policy, Version

    versions = (Version("v1", 0.0, 0.02, 1500), Version("v2", 0.0, 0.05, 1500))
    return (Policy("spam", 1.0, versions),)


def _same_policies(number):
    from safetykit_analytics.simulator.fleet import Policy, Version

    versions = (Version("v1", 0.0, 0.02, 1500), Version("v2", 0.5, 0.02, 1500))
    return tuple(Policy(f"policy-{index}", 1 / number, versions) for index in range(number))


def test_roll_outs_are_versions_without_work_the_week_before():
    old = batch(MONDAY - dt.timedelta(days=3), (10, 50, 1), version="v9", size=51)
    new = batch(MONDAY + dt.timedelta(days=2), (10, 50, 1), version="v10", size=51, number=1)
    both = batch(MONDAY - dt.timedelta(days=3), (10, 9, 1), (120, 80, 1), version="v2", size=81, number=2)
    rows = facts(together(old, new, both), as_of=NEXT_MONDAY).rollouts
    assert rows["policy_version"].tolist() == ["v2", "v9", "v10"]
    assert rows["status"].tolist() == ["at work", "gone", "new"]
    assert rows["first_created_at"].iloc[2] == MONDAY + dt.timedelta(days=2)
    assert rows["share"].sum() == pytest.approx(1)
    assert rows["previous_share"].sum() == pytest.approx(1)


def test_stalled_batches_are_those_of_the_weeks_end_and_say_what_became_of_them():
    begun = NEXT_MONDAY - dt.timedelta(hours=20)
    same = ((1, 5, 0), (19, 5, 0))
    frame = together(
        batch(begun, *same, size=50, number=1),
        batch(begun, *same, (25, 50, 0), size=50, number=2),
        batch(begun, *same, (25, 9, 0), size=50, number=3),
        batch(begun, *same, (25, 5, 0), size=50, number=4),
        batch(begun, (1, 5, 0), (19, 20, 0), size=50, number=5),
    )
    rows = facts(frame, as_of=NEXT_MONDAY + dt.timedelta(days=2)).stalled
    assert sorted(rows["since"]) == ["ended", "moved", "still", "unknown"]
    assert rows["idle_at_least_h"].tolist() == [18.0] * 4


def test_of_two_answers_for_one_instant_every_table_takes_the_more_advanced():
    ended = batch(MONDAY, (10, 95, 5), size=100, status="ERROR")
    earlier = batch(MONDAY, (10, 60, 0), size=100)
    found = facts(together(ended, earlier), as_of=NEXT_MONDAY)
    assert of(found.totals)["processed"] == 100
    for table in (found.versions, found.control):
        assert table["processed"].sum() == pytest.approx(100)
        assert table["reprocessed"].sum() == 0
    assert of(found.totals)["coverage"] == 1
    assert "conflicting_duplicate" in set(found.data_quality["kind"])


def test_failures_are_the_batches_first_seen_to_have_failed_within_the_week():
    frame = together(
        batch(MONDAY - 9 * HOUR, (1, 5, 0), size=50, status="ERROR", number=1),
        batch(MONDAY, (1, 5, 0), size=50, status="ERROR", number=2),
        batch(MONDAY, (1, 5, 0, 40), size=50, status="CANCELLED", number=3),
        batch(MONDAY, (1, 50, 0), size=50, number=4),
    )
    found = facts(frame, as_of=NEXT_MONDAY)
    assert found.failures["batch_status"].tolist() == ["ERROR", "CANCELLED"]
    assert found.failures["undone"].tolist() == [45, 45]
    assert found.n_ended == 3


def test_what_the_last_poll_saw_is_in_a_week_that_is_not_over():
    # Polled at whole hours: the last observation of every batch is the instant that the report is as of.
    begun = MONDAY + dt.timedelta(days=1)
    seen_early = batch(begun + dt.timedelta(seconds=1), (3, 90, 10), size=100, number=4, version="v2")
    frame = together(
        batch(begun, (1, 5, 0), (3, 9, 1), size=50, status="ERROR", number=1),
        batch(begun, (1, 5, 0), (3, 50, 0), size=50, number=2),
        batch(begun, (1, 5, 0), (3, 20, 0), size=50, number=3),
        # By its id it was created a second after it was seen: all of it was done at that instant.
        seen_early.assign(observed_at=begun + 3 * HOUR, created_at=begun + 3 * HOUR + HOUR / 3600),
    )
    found = facts(frame)
    assert found.as_of == begun + 3 * HOUR
    assert found.partial
    assert (found.n_observations, found.n_batches, found.n_ended) == (7, 4, 3)
    assert found.failures["undone"].tolist() == [40]
    assert found.open[["n_open", "pending"]].to_numpy().tolist() == [[1, 30]]
    assert of(found.totals)["processed"] == pytest.approx(180)
    weekly = ska.rates(frame, freq="W", by=()).iloc[0]
    assert of(found.totals)["throughput_per_hour"] == pytest.approx(weekly["throughput_per_hour"])
    assert found.comparison.table["processed"].tolist() == [60, 100]


def test_findings_are_of_the_batches_of_the_week_only():
    done = batch(MONDAY - dt.timedelta(days=5), (1, 9, 0), (2, 4, 0), size=50, number=1, status="SUCCESS")
    now = batch(MONDAY, (1, 9, 0), (2, 4, 0), size=50, number=2, status="SUCCESS")
    found = facts(together(done, now), as_of=NEXT_MONDAY)
    assert set(found.data_quality["batch_id"]) == set(now["batch_id"])
    assert "reprocessed" in set(found.data_quality["kind"])


def test_a_badly_observed_week_gets_no_verdict():
    # Batches seen once, early, and never again: most of their time was not observed.
    early = [batch(MONDAY - dt.timedelta(days=6, hours=n), (1, 90, 9), size=500, number=n) for n in range(6)]
    later = [batch(MONDAY + dt.timedelta(hours=n), (1, 90, 1), size=500, number=10 + n) for n in range(6)]
    row = of(facts(together(*early, *later), as_of=NEXT_MONDAY).change, "spam")
    assert row["verdict"] == "not observed enough"
    assert np.isnan(row["difference_low"])


def test_no_observation_at_all_needs_a_week_or_a_time():
    with pytest.raises(ValueError, match="give week= or as_of="):
        ska.weekly_report(nothing())
    assert ska.weekly_report(nothing(), as_of=NEXT_MONDAY).facts.week == WEEK
    assert ska.weekly_report(nothing(), week=WEEK).facts.n_observations == 0


def test_a_naive_as_of_and_an_unknown_zone_are_refused(fleet):
    with pytest.raises(ValueError, match="time zone"):
        ska.weekly_report(fleet, week=WEEK, as_of=dt.datetime(2026, 11, 23))
    with pytest.raises(ska.UnknownName, match="Europe/Berlin"):
        ska.weekly_report(fleet, week=WEEK, tz="Europe/Berln")
    with pytest.raises(ValueError, match="2025-W53"):
        ska.weekly_report(fleet, week="2025-W53")


def test_a_week_in_the_future_has_begun_for_nobody():
    found = facts(batch(MONDAY, (1, 9, 0)), week="2026-W50")
    assert found.elapsed_hours == 0
    assert of(found.totals)["processed"] == 0
    assert found.as_of < found.start == dt.datetime(2026, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize("bad", [pd.DataFrame({"a": [1]}), 3, None])
def test_what_is_no_observations_is_refused(bad):
    with pytest.raises((ska.SafetyKitAnalyticsError, TypeError, ValueError)):
        ska.weekly_report(bad)
