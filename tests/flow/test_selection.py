"""The few observations that a week depends on give the tables that all observations give."""

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.calendar import to_us
from safetykit_analytics.flow import batch_work, select
from safetykit_analytics.frame import frame_from_table
from tests.effort import examples
from tests.rates.helpers import CUTS, cohorts_of
from tests.report.helpers import MONDAY, NEXT_MONDAY, batch, fleet_frame, nothing, together

PREVIOUS = MONDAY - dt.timedelta(days=7)
LATER = NEXT_MONDAY + dt.timedelta(days=10)


def window(observations, as_of=LATER):
    chosen = select(observations, start=to_us(PREVIOUS), end=to_us(NEXT_MONDAY), as_of=to_us(as_of))
    assert chosen.as_of == to_us(as_of)
    return frame_from_table(chosen.table.sort_by([("batch_id", "ascending"), ("observed_at", "ascending")]))


@pytest.fixture(scope="module")
def fleet():
    return fleet_frame(batches=300)


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


@examples(25)
@given(fleets(), st.integers(0, 17 * 24), CUTS)
def test_every_table_of_the_two_weeks_is_the_same_from_the_selection(observations, hours, cut):
    as_of = PREVIOUS + dt.timedelta(hours=hours, minutes=30)
    chosen = select(
        cohorts_of(observations, cut), start=to_us(PREVIOUS), end=to_us(NEXT_MONDAY), as_of=to_us(as_of)
    )
    span = {"start": PREVIOUS, "end": NEXT_MONDAY, "as_of": as_of}
    for table in (
        lambda seen: _within(ska.rates(seen, freq="D", **span)),
        lambda seen: _within(ska.rates(seen, freq="W", by=(), **span)),
        lambda seen: _within(ska.backlog(seen, freq="6h", by=("policy_id",), **span)),
        lambda seen: batch_work(
            seen, edges=[to_us(edge) for edge in (PREVIOUS, MONDAY, NEXT_MONDAY)], as_of=to_us(as_of)
        ),
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
    for source in (observations, cohorts_of(observations)):
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


@examples(15)
@given(fleets(), CUTS)
def test_cohorts_and_a_frame_of_the_same_observations_give_the_same_selection(observations, cut):
    pd.testing.assert_frame_equal(window(cohorts_of(observations, cut)), window(observations))


def test_a_selection_of_some_batches_holds_their_rows_alone():
    chosen = select(
        together(batch(MONDAY, (1, 5, 0), (2, 9, 0), number=1), batch(MONDAY, (1, 5, 0), number=2)),
        start=to_us(PREVIOUS),
        end=to_us(NEXT_MONDAY),
    )
    ids = chosen.table["batch_id"].to_pylist()
    some = chosen.of_batches([ids[0], "nobody"])
    assert some.table["batch_id"].to_pylist() == ids[:2]
    assert some.as_of == chosen.as_of == to_us(MONDAY + dt.timedelta(hours=2))
    within = chosen.seen_within(to_us(MONDAY + dt.timedelta(hours=1)), to_us(MONDAY + dt.timedelta(hours=2)))
    assert within.to_pylist() == [ids[0], ids[2]]


def test_no_bound_is_too_far_away(fleet):
    for start, end in (("0001-01-01", "9999-12-31"),):
        bounds = [to_us(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)) for day in (start, end)]
        chosen = select(fleet, start=bounds[0], end=bounds[1])
        assert chosen.table.num_rows == len(fleet)


def test_dtypes_do_not_depend_on_the_rows():
    empty = window(nothing())
    assert empty.dtypes.equals(window(batch(MONDAY, (1, 5, 0))).dtypes)
