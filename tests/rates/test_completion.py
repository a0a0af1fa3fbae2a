"""completion_time: brackets from polls, running batches counted as such."""

from collections import defaultdict
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.errors import UnknownName
from tests.compare.helpers import START, observations
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import at, frame_of, histories


def hours(*values):
    return [pd.Timedelta(hours=value) if value is not None else pd.NaT for value in values]


def polled(name, polls, end, *, status="SUCCESS", version="v7", created=0.0):
    """Rows of one batch that is polled at given times and ends between two of them, or never (None)."""
    rows = []
    for age in polls:
        is_done = end is not None and age >= end
        counts = (5, 0, 0, 0) if is_done else (1, 0, 0, 4)
        rows.append((name, age, created, status if is_done else "PENDING", *counts, "P", version))
        if is_done:
            break
    return rows


def one(rows, **options):
    return ska.completion_time(observations(rows), by=(), **options).iloc[0]


def test_the_bracket_lies_between_the_polls_around_the_end():
    row = one(polled("a", [1, 2, 4], end=3))
    assert [row["median_low"], row["median_high"]] == hours(2, 4)
    assert [row["p90_low"], row["p90_high"]] == hours(2, 4)
    assert (row["n_batches"], row["n_running"]) == (1, 0)


def test_a_batch_that_had_ended_when_first_seen_may_have_done_so_at_any_time():
    row = one(polled("a", [4], end=3))
    assert [row["median_low"], row["median_high"]] == hours(0, 4)


def test_a_batch_that_had_ended_when_it_was_created_took_no_time():
    row = one(polled("a", [0], end=0))
    assert [row["median_low"], row["median_high"]] == hours(0, 0)


def test_running_batches_count_as_such_and_a_quantile_may_not_be_reached():
    rows = polled("a", [1, 2], end=2) + polled("b", [1, 9], end=None) + polled("c", [1, 9], end=None)
    row = one(rows)
    assert (row["n_batches"], row["n_running"]) == (3, 2)
    assert row[["median_low", "median_high", "p90_low", "p90_high"]].isna().all()
    # The mean, or the median, of those that are done would be 2 h.


def test_the_upper_end_alone_may_not_be_reached():
    rows = polled("a", [1, 2], end=2) + polled("b", [5, 9], end=8) + polled("c", [3], end=None)
    row = one(rows, as_of=START + pd.Timedelta(hours=9))
    assert row["median_low"] == pd.Timedelta(hours=5)
    assert row["median_high"] == pd.Timedelta(hours=9)
    later = one(rows, as_of=START + pd.Timedelta(hours=5))
    assert pd.isna(later["median_high"])


def test_a_cancelled_batch_is_cut_off_and_not_completed():
    rows = polled("a", [1, 2], end=2) + polled("b", [1, 3], end=3, status="CANCELLED")
    row = one(rows)
    assert (row["n_batches"], row["n_running"]) == (2, 0)
    assert [row["median_low"], row["median_high"]] == hours(1, 2)
    assert pd.isna(row["p90_high"])


def test_an_error_is_a_completion():
    assert one(polled("a", [1, 2], end=2, status="ERROR"))["median_high"] == pd.Timedelta(hours=2)


def test_batches_without_a_creation_time_are_left_out():
    rows = polled("a", [1, 2], end=2) + polled("b", [1, 2], end=2, created=None)
    assert one(rows)["n_batches"] == 1
    row = one(polled("b", [1, 2], end=2, created=None))
    assert row["n_batches"] == 0
    assert pd.isna(row["median_low"])


def test_a_creation_after_the_first_observation_is_taken_for_a_wrong_clock():
    row = one(polled("a", [1, 2], end=2, created=1.5))
    assert [row["median_low"], row["median_high"]] == hours(0, 1)


def test_groups_come_in_natural_order_with_none_last_and_the_columns_are_fixed():
    rows = [
        row for i, v in enumerate(["v10", None, "v9"]) for row in polled(f"b{i}", [1, 2], end=2, version=v)
    ]
    table = ska.completion_time(observations(rows))
    assert table.columns.tolist() == [
        *("policy_id", "policy_version", "n_batches", "n_running"),
        *("median_low", "median_high", "p90_low", "p90_high"),
    ]
    assert table["policy_version"].tolist() == ["v9", "v10", "(none)"]
    assert ska.completion_time(observations(rows), by="policy_version").columns[0] == "policy_version"
    swapped = ska.completion_time(observations(rows), by=["policy_version", "policy_id"])
    assert swapped.columns[:2].tolist() == ["policy_version", "policy_id"]
    assert swapped["policy_version"].tolist() == ["v9", "v10", "(none)"]


def test_no_observations_give_an_empty_table_of_the_same_types():
    full = ska.completion_time(observations(polled("a", [1, 2], end=2)))
    empty = ska.completion_time(observations([]))
    assert len(empty) == 0
    assert empty.dtypes.equals(full.dtypes)
    assert len(ska.completion_time(observations([]), by=())) == 0


def test_with_a_confidence_the_interval_lies_around_the_bracket():
    rng = np.random.default_rng(1)
    rows = [row for i in range(40) for row in polled(f"b{i}", range(1, 60, 2), end=rng.exponential(10) + 0.1)]
    row = ska.completion_time(observations(rows), by=(), confidence=0.9).iloc[0]
    assert row["median_ci_low"] < row["median_low"] < row["median_high"] < row["median_ci_high"]
    wider = ska.completion_time(observations(rows), by=(), confidence=0.99).iloc[0]
    assert wider["median_ci_low"] <= row["median_ci_low"]
    assert wider["median_ci_high"] > row["median_ci_high"]
    assert row["median_low"] == wider["median_low"]


def test_arguments_that_mean_nothing_are_refused():
    data = observations(polled("a", [1, 2], end=2))
    with pytest.raises(UnknownName, match="batch_status"):
        ska.completion_time(data, by="batch_status")
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        ska.completion_time(data, confidence=95)


@examples(60)
@given(
    rows=histories(max_batches=9),
    statuses=st.lists(st.sampled_from(["SUCCESS", "ERROR", "CANCELLED"]), min_size=9, max_size=9),
    by=st.sampled_from([(), ("policy_id",), ("policy_id", "policy_version")]),
    looked=st.none() | st.floats(0, 1),
)
def test_the_table_is_what_the_definitions_give_in_exact_fractions(rows, statuses, by, looked):
    for row in rows:
        if row["is_terminal"]:
            row["batch_status"] = statuses[int(row["batch_id"].removeprefix("batch_"))]
    times = sorted(row["observed_at"] for row in rows)
    as_of = None if looked is None else times[int(looked * (len(times) - 1))]
    groups = defaultdict(list)
    for history in oracle.batches(rows, as_of).values():
        group = tuple(history[-1][name] or "(none)" for name in by)
        groups[group].append((oracle.ended(history), any(row["is_terminal"] for row in history)))
    table = ska.completion_time(frame_of(rows), by=by, as_of=None if as_of is None else at(as_of))
    assert len(table) == len(groups)
    for line in table.to_dict("records"):
        batches = groups[tuple(line[name] for name in by)]
        known = [one for one, _ in batches if one is not None]
        assert line["n_batches"] == len(known)
        assert line["n_running"] == sum(one is not None and not is_over for one, is_over in batches)
        for name, quantile in (("median", Fraction(1, 2)), ("p90", Fraction(9, 10))):
            for end, exact in zip(("low", "high"), oracle.bracket(known, quantile), strict=True):
                found = line[f"{name}_{end}"]
                assert pd.isna(found) if exact is None else found == pd.Timedelta(int(exact), "us")
