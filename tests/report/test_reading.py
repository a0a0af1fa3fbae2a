"""Promises of what a report reads: little, once, and enough."""

import dataclasses

import pandas as pd
import pytest

from safetykit_analytics import SnapshotStore, rates, weekly_report
from safetykit_analytics.report.reading import CHART_WEEKS, TREND_WEEKS
from tests.report.helpers import WEEK, fleet_frame


class Watched:
    """A store whose cohorts tell when they are read."""

    def __init__(self, store):
        self.store = store
        self.read = []

    def cohorts(self, columns=None):
        return [WatchedCohort(cohort, self.read) for cohort in self.store.cohorts(columns)]


@dataclasses.dataclass
class WatchedCohort:
    cohort: object
    read: list

    def __getattr__(self, name):
        return getattr(self.cohort, name)

    def tables(self, columns):
        self.read.append(self.cohort.name)
        return self.cohort.tables(columns)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    store = SnapshotStore(tmp_path_factory.mktemp("reading"))
    store.append(fleet_frame(batches=150, hours=6.0))
    store.compact()
    return store


def test_a_report_reads_no_cohort_more_than_twice(stored):
    watched = Watched(stored)
    weekly_report(watched, week=WEEK)
    counts = pd.Series(watched.read).value_counts()
    assert len(counts) >= 7
    assert counts.max() == 2


def test_what_was_created_after_the_week_is_not_read(stored):
    watched = Watched(stored)
    weekly_report(watched, week="2026-W45")
    assert max(watched.read) == "2026-11-08"
    assert max(cohort.name for cohort in stored.cohorts()) > "2026-11-15"


def test_trend_and_control_chart_are_those_of_all_observations():
    fleet = fleet_frame(batches=300, weeks=12.0, start=pd.Timestamp("2026-09-07", tz="UTC").to_pydatetime())
    facts = weekly_report(fleet, week="2026-W47").facts
    end = pd.Timestamp(facts.end)
    weeks = rates(fleet, freq="W", by="policy_id", start=end - pd.Timedelta(weeks=TREND_WEEKS), end=end)
    assert facts.trend["bucket_start"].nunique() == TREND_WEEKS
    told = [name for name in weeks if not name.startswith("error_rate_")]
    pd.testing.assert_frame_equal(facts.trend[told], weeks[told])
    days = rates(fleet, freq="D", start=end - pd.Timedelta(weeks=CHART_WEEKS + 1), end=end)
    chart = facts.control.set_index(["policy_id", "policy_version", "bucket_start"])["processed"]
    by_day = days.set_index(["policy_id", "policy_version", "bucket_start"])["processed"]
    pd.testing.assert_series_equal(chart, by_day[chart.index])
    assert chart.index.get_level_values("bucket_start").min() == facts.previous_start
