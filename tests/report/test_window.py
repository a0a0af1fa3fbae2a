"""The few observations that a week depends on give the tables that all observations give."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import batch_work
from safetykit_analytics.frame import frame_from_table, table_from_frame
from safetykit_analytics.report.window import window_observations
from tests.report.helpers import MONDAY, NEXT_MONDAY, batch, together

PREVIOUS = MONDAY - dt.timedelta(days=7)
LATER = NEXT_MONDAY + dt.timedelta(days=10)


def window(observations, as_of=LATER):
    chosen = window_observations(observations, start=PREVIOUS, end=NEXT_MONDAY, as_of=as_of)
    return frame_from_table(chosen.table.cast(ska.OBSERVATION_SCHEMA))


@st.composite
def fleets(draw):
    """Draw batches that begin up to 30 days before the week and 5 after it; some never end."""
    frames = []
    for number in range(draw(st.integers(1, 6))):
        created = MONDAY + dt.timedelta(hours=draw(st.integers(-30 * 24, 12 * 24)))
        steps = draw(
            st.lists(
                st.tuples(st.integers(1, 200), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=8
            )
        )
        polls, hours, success, error = [], 0, 0, 0
        for gap, more, wrong in steps:
            hours, success, error = hours + gap, success + more, error + wrong
            polls.append((hours, success, error))
        size = success + error + (0 if draw(st.booleans()) else 5)
        policy = draw(st.sampled_from(["spam", "adult", None]))
        frames.append(batch(created, *polls, policy=policy, number=number, size=max(size, 1)))
    return together(*frames)


@settings(max_examples=25, deadline=None)
@given(fleets(), st.integers(0, 17 * 24))
def test_every_table_of_the_two_weeks_is_the_same_from_the_selection(observations, hours):
    as_of = PREVIOUS + dt.timedelta(hours=hours, minutes=30)
    chosen = window(observations, as_of)
    span = {"start": PREVIOUS, "end": NEXT_MONDAY, "as_of": as_of}
    for table in (
        lambda seen: _within(ska.rates(seen, freq="D", **span)),
        lambda seen: _within(ska.rates(seen, freq="W", by=(), **span)),
        lambda seen: _within(ska.backlog(seen, freq="6h", by=("policy_id",), **span)),
        lambda seen: batch_work(seen, edges=[PREVIOUS, MONDAY, NEXT_MONDAY], as_of=as_of),
        lambda seen: ska.stalled_batches(seen, idle="6h", as_of=min(as_of, NEXT_MONDAY)),
    ):
        pd.testing.assert_frame_equal(table(chosen), table(observations), rtol=1e-9)


def _within(table):
    """Compare rows that say something: a group's rows end with its last activity, which may lie outside.

    How long the backlog takes depends on since when its policy has been there, which two weeks do not tell.
    """
    said = [name for name in ("success", "error", "cancelled", "n_open") if name in table]
    active = (table[said] != 0).any(axis=1)
    if "coverage" in table:
        active |= table["coverage"].notna()
    return table[active].drop(columns=["eta_low", "eta_high"], errors="ignore").reset_index(drop=True)


def test_what_cannot_matter_is_left_out():
    long_over = batch(PREVIOUS - dt.timedelta(days=9), (1, 5, 0), (2, 10, 0), size=10, number=1)
    not_yet = batch(NEXT_MONDAY + dt.timedelta(days=1), (1, 5, 0), (2, 10, 0), size=10, number=2)
    within = batch(MONDAY, (1, 5, 0), (2, 10, 0), size=10, number=3)
    assert set(window(together(long_over, not_yet, within))["batch_id"]) == set(within["batch_id"])


def test_a_batch_that_stands_still_for_months_leaves_a_handful_of_rows_before_the_week():
    polls = [(hour, 3, 0) for hour in range(1, 24 * 60, 2)]
    stuck = batch(PREVIOUS - dt.timedelta(days=61), *polls, size=9)
    assert len(window(stuck)) <= 4
    assert len(stuck) > 700


def test_a_batch_never_seen_again_is_still_open():
    lost = batch(PREVIOUS - dt.timedelta(days=90), (1, 3, 0), size=9)
    assert len(window(lost)) == 1


def test_work_first_seen_after_the_week_but_begun_in_it_is_kept():
    late = batch(NEXT_MONDAY - dt.timedelta(hours=1), (2, 3, 0), size=9)
    assert len(window(late)) == 1


def test_a_batch_whose_id_tells_no_time_is_found_by_what_was_seen_before_the_week():
    ended = batch(PREVIOUS - dt.timedelta(days=5), (1, 5, 0), (2, 10, 0), size=10, number=1)
    again = batch(NEXT_MONDAY - dt.timedelta(hours=1), (24, 12, 0), size=12, number=1)
    again["batch_id"] = ended["batch_id"].iloc[0]
    first_seen_later = batch(NEXT_MONDAY, (24, 12, 0), size=12, number=2)
    observations = together(ended, again, first_seen_later)
    observations["created_at"] = observations["created_at"].mask(observations["success_count"] >= 0)
    for source in (observations, Days(observations)):
        # What grew between the two weeks may have been done in either; what was first seen later, in none.
        assert window(source)["batch_id"].unique().tolist() == [ended["batch_id"].iloc[0]]
        span = {"start": PREVIOUS, "end": NEXT_MONDAY, "as_of": LATER}
        rates = ska.rates(window(source), freq="W", by=(), **span)
        assert rates["processed"].sum() == pytest.approx(
            ska.rates(observations, freq="W", by=(), **span)["processed"].sum()
        )
        assert rates["processed"].sum() > 0


def test_later_observations_are_as_if_never_made(fleet):
    as_of = MONDAY + dt.timedelta(days=3)
    early = fleet[fleet["observed_at"] <= as_of]
    pd.testing.assert_frame_equal(window(fleet, as_of), window(early, as_of))


def test_the_order_of_rows_and_repeated_rows_change_nothing(fleet):
    shuffled = pd.concat([fleet, fleet.head(500)]).sample(frac=1, random_state=3)
    once = window(fleet)
    again = window(shuffled).drop_duplicates(ignore_index=True)
    pd.testing.assert_frame_equal(once, again)


class Days:
    """A store in memory: a partition per UTC day, strings as dictionaries, as a store gives them."""

    def __init__(self, frame):
        self.frame = frame
        self.read_whole = []

    def partitions(self, start=None, end=None):
        table = table_from_frame(self.frame).sort_by(
            [("batch_id", "ascending"), ("observed_at", "ascending")]
        )
        days = self.frame["observed_at"].dt.date
        dates = sorted(set(days))
        order = np.array(table.column("observed_at").to_pandas().dt.date)
        return [
            Day(date, table.filter(pa.array(order == date)), self.read_whole)
            for date in dates
            if (start is None or date >= start) and (end is None or date < end)
        ]


class Day:
    def __init__(self, date, table, log):
        self.date, self.table, self.log = date, table, log

    def read(self, columns=None):
        columns = list(columns or self.table.column_names)
        if len(columns) > 6:
            self.log.append(self.date)
        chosen = self.table.select(columns)
        for index, field in enumerate(chosen.schema):
            if pa.types.is_string(field.type):
                chosen = chosen.set_column(index, field.name, chosen.column(index).dictionary_encode())
        return chosen


@settings(max_examples=15, deadline=None)
@given(fleets())
def test_a_store_and_a_frame_of_the_same_observations_give_the_same_selection(observations):
    pd.testing.assert_frame_equal(window(Days(observations)), window(observations))


def test_only_days_with_batches_that_matter_are_read_whole():
    over = [batch(PREVIOUS - dt.timedelta(days=n), (1, 9, 1), size=10, number=n) for n in range(10, 30)]
    lost = batch(PREVIOUS - dt.timedelta(days=20, hours=1), (1, 9, 1), size=99)
    days = Days(together(*over, lost, batch(MONDAY, (1, 9, 1), size=10, number=99)))
    assert len(window(days)) == 2
    assert days.read_whole == [(PREVIOUS - dt.timedelta(days=20)).date(), MONDAY.date()]


def test_dtypes_do_not_depend_on_the_rows():
    empty = window(frame_from_table(ska.OBSERVATION_SCHEMA.empty_table()))
    assert empty.dtypes.equals(window(batch(MONDAY, (1, 5, 0))).dtypes)


@pytest.mark.parametrize("bad", [pd.DataFrame({"a": [1]}), 3, None])
def test_what_is_no_observations_is_refused(bad):
    with pytest.raises((ska.SafetyKitAnalyticsError, TypeError, ValueError)):
        ska.weekly_report(bad)
