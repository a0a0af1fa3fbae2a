"""Selecting policies, splitting by columns of one's own, and times as arguments, in every table alike."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from safetykit_analytics.flow import batch_summary, known_policies
from safetykit_analytics.formatting import NONE
from safetykit_analytics.labels import natural_key
from tests.effort import examples
from tests.rates.helpers import CUTS, DAY, HOUR, MONDAY, at, cohorts_of, frame_of, histories, row

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = ["success", "error", "cancelled", "processed", "processed_low", "processed_high", "reprocessed"]
POLICIES = st.sets(st.sampled_from(["spam", "scam", NONE]), min_size=1).map(sorted)
TABLES = [ska.rates, ska.backlog, ska.data_quality, ska.stalled_batches, ska.completion_time]


def with_pending(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [seen | {"pending_count": 7 * number % 31} for number, seen in enumerate(rows)]


@examples(15)
@given(rows=histories(), policies=POLICIES, cut=CUTS, function=st.sampled_from([ska.rates, ska.backlog]))
def test_a_selected_policy_has_the_rows_that_it_has_in_the_whole_table(
    rows: Any, policies: Any, cut: Any, function: Any
) -> None:
    frame = frame_of(with_pending(rows))
    whole = function(frame)
    expected = whole[whole["policy_id"].isin(policies)].reset_index(drop=True)
    if expected.empty and not set(policies) <= set(known_policies(frame)):
        with pytest.raises(ska.UnknownName):
            function(frame, policy_id=policies)
        return
    for observations in (frame, cohorts_of(frame, cut)):
        found = function(observations, policy_id=policies)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-9)


@examples(15)
@given(rows=histories(), policies=POLICIES, by=st.sampled_from([(), ("policy_version",)]))
def test_selected_policies_add_up_to_the_table_that_does_not_tell_them_apart(
    rows: Any, policies: Any, by: Any
) -> None:
    frame = frame_of(with_pending(rows))
    split = ska.rates(frame, by=("policy_id", *by))
    chosen = split[split["policy_id"].isin(policies)]
    if chosen.empty:
        return
    keys = [*by, "bucket_start"]
    expected = chosen.groupby(keys)[WORK].sum()
    found = ska.rates(frame, by=by, policy_id=policies).set_index(keys)[WORK]
    # Where two policies were active with a gap between them there are rows of zeros.
    pd.testing.assert_frame_equal(found.loc[expected.index], expected, check_dtype=False, atol=1e-9)
    assert (found.drop(expected.index) == 0).all(axis=None)
    waiting = ska.backlog(frame, by=("policy_id", *by))
    waiting = waiting[waiting["policy_id"].isin(policies)].groupby(keys)[["pending", "n_open"]].sum()
    if waiting.empty:
        return
    found = ska.backlog(frame, by=by, policy_id=policies).set_index(keys)[["pending", "n_open"]]
    pd.testing.assert_frame_equal(found.loc[waiting.index], waiting, check_dtype=False, atol=1e-9)
    assert (found.drop(waiting.index) == 0).all(axis=None)


MOVED = [
    row("moved", MONDAY, 1, created_at=MONDAY - HOUR, policy_id="old", pending_count=9),
    row("moved", MONDAY + 5 * HOUR, 1, policy_id="new", pending_count=9),
    row("unnamed", MONDAY, 1, created_at=MONDAY - HOUR, policy_id=None, pending_count=9),
    row("unnamed", MONDAY + 5 * HOUR, 1, policy_id=None, pending_count=9),
    row("named late", MONDAY, 1, created_at=MONDAY - HOUR, policy_id=None, pending_count=9),
    row("named late", MONDAY + 5 * HOUR, 1, policy_id="new", pending_count=9),
]


@pytest.mark.parametrize("is_frame", [True, False])
def test_tables_of_batches_select_by_the_last_label(*, is_frame: bool) -> None:
    observations = frame_of(MOVED) if is_frame else cohorts_of(frame_of(MOVED))
    for policy, expected in (
        ("new", ["moved", "named late"]),
        (NONE, ["unnamed"]),
        (["new", NONE], ["moved", "named late", "unnamed"]),
    ):
        stalled = ska.stalled_batches(observations, idle="1h", policy_id=policy)
        assert sorted(stalled["batch_id"]) == expected
        assert ska.completion_time(observations, by=(), policy_id=policy)["n_running"].sum() == len(expected)
        assert set(ska.data_quality(observations, policy_id=policy)["batch_id"]) <= set(expected)
    found = ska.data_quality(observations, policy_id="new")
    assert found.loc[found["kind"] == "policy_changed", "batch_id"].tolist() == ["moved"]
    assert ska.data_quality(observations, policy_id=NONE)["kind"].tolist() == (
        ska.data_quality(frame_of(MOVED[2:4]))["kind"].tolist()
    )


def test_labels_after_as_of_do_not_count() -> None:
    table = ska.stalled_batches(frame_of(MOVED), idle="1h", as_of=at(MONDAY + HOUR), policy_id="old")
    assert table.empty
    assert ska.rates(frame_of(MOVED), as_of=at(MONDAY + HOUR), policy_id="old")["processed"].sum() == 1


def test_the_last_observation_of_all_is_the_default_as_of_of_a_selection() -> None:
    rows = [row("a", MONDAY + HOUR, 5, created_at=MONDAY), row("b", MONDAY + 9 * HOUR, 5, policy_id="scam")]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows))):
        assert not ska.rates(observations, policy_id="spam")["partial"].any()
        assert ska.backlog(observations, policy_id="spam")["bucket_end"].max() > at(MONDAY + 9 * HOUR)


@pytest.mark.parametrize("function", TABLES)
def test_an_unknown_policy_is_refused_with_those_that_there_are(function: Any) -> None:
    for observations in (frame_of(MOVED), cohorts_of(frame_of(MOVED))):
        with pytest.raises(ska.UnknownName, match="no policy 'spma'") as caught:
            function(observations, policy_id="spma")
        assert caught.value.known == ("new", "old", NONE)
        with pytest.raises(ska.UnknownName, match="no policy 'nobody'"):
            function(observations, policy_id=["nobody", "spma"])


@pytest.mark.parametrize("function", [ska.rates, ska.backlog])
def test_names_are_looked_up_only_when_nothing_matched(function: Any) -> None:
    assert set(function(frame_of(MOVED), policy_id=["new", "nobody"])["policy_id"]) == {"new"}
    # Known, but not then.
    assert function(frame_of(MOVED), policy_id="new", end=at(MONDAY - DAY)).empty
    assert function(frame_of(MOVED), policy_id="new", as_of=at(MONDAY - DAY)).empty


@pytest.mark.parametrize("function", TABLES)
def test_of_nothing_every_policy_gives_an_empty_table(function: Any) -> None:
    empty = function(frame_of([]), policy_id="spam")
    assert empty.empty
    assert empty.dtypes.to_dict() == function(frame_of(MOVED)).dtypes.to_dict()


@pytest.mark.parametrize(
    ("policy_id", "message"),
    [
        (7, "policy_id: expected a name or names, found int"),
        (["spam", None], "policy_id: expected names, found NoneType"),
        ([["spam"]], "policy_id: expected names, found list"),
    ],
)
@pytest.mark.parametrize("function", TABLES)
def test_a_policy_is_a_name(function: Any, policy_id: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        function(frame_of([]), policy_id=policy_id)
    assert str(caught.value) == message


# Columns of one's own.

MARKETS = pd.DataFrame(
    {
        "batch_id": ["batch_0", "batch_1", "batch_2", "nobody"],
        "market": ["DE", "", None, "FR"],
        "queue": [10, 9, 10, 8],
    }
)


@examples(15)
@given(
    rows=histories(),
    cut=CUTS,
    by=st.sampled_from(
        [("market",), ("queue", "policy_id"), ("market", "queue", "policy_id", "policy_version")]
    ),
    function=st.sampled_from([ska.rates, ska.backlog]),
)
def test_batches_are_grouped_by_columns_of_ones_own(rows: Any, cut: Any, by: Any, function: Any) -> None:
    frame = frame_of(with_pending(rows))
    found = function(frame, by=by, batches=MARKETS)
    dealt = function(cohorts_of(frame, cut), by=by, batches=MARKETS)
    pd.testing.assert_frame_equal(dealt, found, rtol=1e-9, atol=1e-9)
    own = MARKETS.set_index("batch_id").astype(object)
    column = "processed" if function is ska.rates else "pending"
    # Each batch alone, under the names that it has.
    expected: dict[Any, float] = {}
    for batch in frame["batch_id"].unique():
        names = [own.loc[batch, name] if batch in own.index else None for name in ("market", "queue")]
        named = dict(
            zip(
                ("market", "queue"),
                [str(name) if pd.notna(name) and name else NONE for name in names],
                strict=True,
            )
        )
        alone = function(frame[frame["batch_id"] == batch], as_of=frame["observed_at"].max())
        for line in (alone.assign(**named)).to_dict("records"):
            key = (*(line[name] for name in by), line["bucket_start"])
            expected[key] = expected.get(key, 0) + line[column]
    got = {
        (*(line[name] for name in by), line["bucket_start"]): line[column]
        for line in found.to_dict("records")
    }
    for key in expected.keys() | got.keys():
        assert got.get(key, 0) == pytest.approx(expected.get(key, 0), abs=1e-9), key
    keys = [key[:-1] for key in got]
    assert keys == sorted(keys, key=lambda key: tuple(map(natural_key, key)))


@pytest.mark.parametrize("is_frame", [True, False])
def test_tables_of_batches_carry_columns_of_ones_own(*, is_frame: bool) -> None:
    rows = [seen | {"batch_id": f"batch_{number // 2}"} for number, seen in enumerate(MOVED)]
    rows += [seen | {"batch_id": "batch_9"} for seen in MOVED[:2]]
    observations = frame_of(rows) if is_frame else cohorts_of(frame_of(rows))
    expected = {"batch_0": "DE", "batch_1": NONE, "batch_2": NONE, "batch_9": NONE}
    for table in (
        ska.stalled_batches(observations, idle="1h", batches=MARKETS),
        ska.data_quality(observations, batches=MARKETS),
    ):
        assert len(table)
        for batch, market in zip(table["batch_id"], table["market"], strict=True):
            assert market == expected[batch]
        assert set(table["queue"]) <= {"10", "9", NONE}
    stalled = ska.stalled_batches(observations, idle="1h", batches=MARKETS)
    assert set(stalled["batch_id"]) == set(expected)
    done = ska.completion_time(observations, by="queue", batches=MARKETS)
    assert done.set_index("queue")["n_running"].to_dict() == {"9": 1, "10": 2, NONE: 1}


@pytest.mark.parametrize("function", TABLES)
def test_no_observations_have_columns_of_ones_own_all_the_same(function: Any) -> None:
    by = {} if function in {ska.data_quality, ska.stalled_batches} else {"by": "market"}
    empty = function(frame_of([]), batches=MARKETS, **by)
    assert empty.empty
    assert "market" in empty
    assert empty.dtypes.to_dict() == function(frame_of(MOVED), batches=MARKETS, **by).dtypes.to_dict()


@pytest.mark.parametrize(
    ("batches", "kind", "message"),
    [
        (
            {"batch_id": ["a"]},
            TypeError,
            "batches: expected a DataFrame with a column 'batch_id', found dict",
        ),
        (
            pd.DataFrame({"market": ["DE"]}),
            ska.InvalidFrame,
            "batches: expected one column 'batch_id', found the columns ['market']",
        ),
        (
            pd.DataFrame([["a", "b"]], columns=["batch_id", "batch_id"]),
            ska.InvalidFrame,
            "batches: expected one column 'batch_id', found the columns ['batch_id', 'batch_id']",
        ),
        (
            pd.DataFrame([["a", 1, 2]], columns=["batch_id", "market", "market"]),
            ska.InvalidFrame,
            "batches: the column 'market' is there already; rename it",
        ),
        *(
            (
                pd.DataFrame({"batch_id": ["a"], name: [1]}),
                ska.InvalidFrame,
                f"batches: the column {name!r} is there already; rename it",
            )
            for name in ("policy_id", "error_rate", "pending", "median_low", "kind", "idle_at_least")
        ),
        (
            pd.DataFrame({"batch_id": ["a", None], "market": ["DE", "FR"]}),
            ska.InvalidFrame,
            "batches: row 1 has no batch_id",
        ),
        (
            pd.DataFrame({"batch_id": ["a", "b", "a"], "market": ["DE", "DE", "DE"]}),
            ska.InvalidFrame,
            "batches: 'a' has more than one row; expected one",
        ),
    ],
)
@pytest.mark.parametrize("function", TABLES)
def test_batches_that_cannot_be_matched_are_refused(
    function: Any, batches: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        function(frame_of([]), batches=batches)
    assert str(caught.value) == message


def test_no_column_of_a_table_may_be_one_of_ones_own() -> None:
    for function in TABLES:
        for name in set(function(frame_of(MOVED)).columns) - {"batch_id"}:
            with pytest.raises(ska.InvalidFrame, match="is there already"):
                function(frame_of([]), batches=pd.DataFrame({"batch_id": ["a"], name: ["x"]}))


@pytest.mark.parametrize(
    "table", [lambda frame: ska.control_chart(ska.rates(frame)), batch_summary], ids=["chart", "summary"]
)
def test_no_column_of_a_chart_or_of_a_summary_of_batches_may_be_one_of_ones_own(table: Any) -> None:
    for name in set(table(frame_of(MOVED)).columns) - {"batch_id"}:
        with pytest.raises(ska.InvalidFrame, match=f"the column '{name}' is there already"):
            ska.rates(frame_of([]), batches=pd.DataFrame({"batch_id": ["a"], name: ["x"]}))


def test_a_column_of_ones_own_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ska.UnknownName, match="no column to split by 'markt'") as caught:
        ska.rates(frame_of([]), by="markt", batches=MARKETS)
    assert caught.value.known == ("policy_id", "policy_version", "market", "queue")
    with pytest.raises(ska.UnknownName, match="no column to split by 'market'"):
        ska.rates(frame_of([]), by="market")


def test_five_columns_to_split_by_are_too_many() -> None:
    batches = MARKETS.assign(site=1)
    names = ("policy_id", "policy_version", "market", "queue", "site")
    with pytest.raises(ValueError, match="expected at most 4 columns, found 5"):
        ska.rates(frame_of([]), by=names, batches=batches)


# Times.


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the clock of the machine be that of Tokyo."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


HOURLY = frame_of(
    [
        row("a", MONDAY + hour * HOUR, hour // 5, 1 - hour % 2, created_at=MONDAY, pending_count=5)
        for hour in range(72)
    ]
)


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize("function", TABLES)
@pytest.mark.parametrize(
    ("tz", "hours", "day"),
    [
        ("America/New_York", 29, "2026-03-03"),
        ("Asia/Kolkata", 18.5, dt.date(2026, 3, 3)),
        (None, 24, dt.date(2026, 3, 3)),
    ],
)
def test_a_date_is_midnight_of_the_zone_of_the_call(
    function: Any, tz: str | None, hours: float, day: dt.date | str
) -> None:
    zone = {} if tz is None else {"tz": tz}
    midnight = at(MONDAY + int(hours * HOUR))
    expected = function(HOURLY, as_of=midnight, **zone)
    pd.testing.assert_frame_equal(function(HOURLY, as_of=day, **zone), expected)
    if function not in {
        ska.stalled_batches,
        ska.completion_time,
    }:  # which tell the same of it three hours before
        assert not expected.equals(function(HOURLY, as_of=midnight - dt.timedelta(hours=3), **zone))


@pytest.mark.parametrize("function", TABLES)
def test_a_time_without_a_zone_is_refused_by_the_name_of_its_argument(function: Any) -> None:
    with pytest.raises(ValueError, match="as_of='2026-03-02 00:00:00' has no time zone"):
        function(frame_of([]), as_of=dt.datetime(2026, 3, 2))


@pytest.mark.parametrize(
    ("tz", "observations"), [("Asia/Tokyo", HOURLY), ("America/New_York", cohorts_of(HOURLY))]
)
@pytest.mark.parametrize("function", TABLES)
def test_the_first_and_the_last_year_are_times_like_any_other(
    function: Any, tz: str, observations: Any
) -> None:
    early = function(observations, tz=tz, as_of="0001-01-01")
    assert early.empty
    if function is not ska.backlog:  # which lasts as long as one looks at it
        late = function(observations, tz=tz, as_of="9999-12-31")
        assert set(late.columns) == set(early.columns)


@pytest.mark.parametrize("tz", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("function", [ska.rates, ska.backlog])
def test_windows_reach_from_the_first_to_the_last_year(function: Any, tz: str) -> None:
    everything = function(HOURLY, tz=tz)
    whole = function(HOURLY, tz=tz, start="0001-01-01", end="9999-12-31")
    pd.testing.assert_frame_equal(whole, everything)
    assert function(HOURLY, tz=tz, start="9999-12-31").empty
    assert function(HOURLY, tz=tz, end="0001-01-02").empty


def test_a_backlog_of_more_buckets_than_anybody_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="use a coarser freq"):
        ska.backlog(HOURLY, as_of="9999-12-31")


def test_thousands_of_combinations_of_labels_are_kept_apart() -> None:
    names = [None if number % 50 == 0 else f"x{number}" for number in range(100)]
    rows = [
        row(
            f"batch_{number:03}",
            MONDAY + HOUR,
            number + 1,
            created_at=MONDAY,
            policy_id=policy,
            policy_version=version,
        )
        for number, (policy, version) in enumerate(zip(names, names[7:] + names[:7], strict=True))
    ]
    table = ska.rates(frame_of(rows))
    found = list(table[["policy_id", "policy_version"]].itertuples(index=False, name=None))
    expected = {}
    for seen in rows:
        key = (seen["policy_id"] or NONE, seen["policy_version"] or NONE)
        expected[key] = expected.get(key, 0) + seen["success_count"]
    assert found == sorted(expected, key=lambda key: tuple(map(natural_key, key)))
    assert table["success"].tolist() == [expected[key] for key in found]


@pytest.mark.parametrize(
    ("by", "kind", "message"),
    [
        (1, TypeError, "by: expected column names, such as ('policy_id', 'policy_version'), found int"),
        (
            None,
            TypeError,
            "by: expected column names, such as ('policy_id', 'policy_version'), found NoneType",
        ),
        (("policy_id", "policy_id"), ValueError, "by=('policy_id', 'policy_id') names a column twice"),
        ("batch_id", ska.UnknownName, "no column to split by 'batch_id'"),
        (["policy_version", None], ska.UnknownName, "no column to split by 'None'"),
    ],
)
def test_what_nothing_can_be_split_by_is_refused(by: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        ska.rates(frame_of([]), by=by)
    assert str(caught.value).startswith(message)


def test_something_else_than_observations_is_refused_by_its_type() -> None:
    message = "expected a DataFrame of observations or a SnapshotStore, found "
    for wrong in ("snapshots", None, pd.Series([1])):
        for function in (ska.rates, ska.backlog, ska.data_quality, ska.stalled_batches, ska.completion_time):
            with pytest.raises(TypeError, match=message + type(wrong).__name__):
                function(wrong)
