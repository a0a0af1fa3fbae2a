"""What must hold for all observations, whatever they are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from tests.effort import examples
from tests.rates import oracle
from tests.rates.helpers import CUTS, HOUR, MINUTE, MONDAY, at, cohorts_of, frame_of, histories, row
from tests.rates.test_rates import us

if TYPE_CHECKING:
    from collections.abc import Callable

WORK = ["success", "error", "cancelled", "processed", "reprocessed"]
FEW = examples(40)


@FEW
@given(rows=histories(max_batches=1), freq=st.sampled_from(["1min", "1h", "D", "W", "MS"]))
def test_the_buckets_of_a_batch_add_up_to_its_last_counts(rows: Any, freq: str) -> None:
    (history,) = oracle.batches(rows, None).values()
    table = ska.rates(frame_of(rows), freq=freq, by=())
    first = history[0] if oracle.created_at(history) is None else dict.fromkeys(oracle.COUNTERS, 0)
    for name, column in zip(oracle.COUNTERS, ("success", "error", "cancelled"), strict=True):
        expected = history[-1][name] - first[name]
        assert table[column].sum() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@FEW
@given(rows=histories(), tz=st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]))
def test_hours_add_up_to_days(rows: Any, tz: str) -> None:
    hours = ska.rates(frame_of(rows), freq="1h", by=(), tz=tz)
    days = ska.rates(frame_of(rows), freq="D", by=(), tz=tz).set_index("bucket_start")[WORK]
    summed = hours.groupby(hours["bucket_start"].dt.normalize())[WORK].sum()
    pd.testing.assert_frame_equal(
        summed.reindex(days.index, fill_value=0.0), days, check_names=False, atol=1e-9, check_freq=False
    )


@FEW
@given(rows=histories())
def test_versions_add_up_to_policies_and_policies_to_all(rows: Any) -> None:
    frame = frame_of(rows)
    parts = ska.rates(frame)
    for by in ((), ("policy_id",)):
        keys = ["bucket_start", *by]
        whole = ska.rates(frame, by=by).groupby(keys)[WORK].sum()
        summed = parts.groupby(keys)[WORK].sum()
        pd.testing.assert_frame_equal(
            summed.reindex(whole.index, fill_value=0.0), whole, atol=1e-9, check_dtype=False
        )


@FEW
@given(rows=histories())
def test_what_is_certain_is_at_most_what_is_said_and_that_at_most_what_is_possible(rows: Any) -> None:
    table = ska.rates(frame_of(rows), freq="30min")
    assert (table["processed_low"] <= table["processed"] + 1e-9).all()
    assert (table["processed"] <= table["processed_high"] + 1e-9).all()


@FEW
@given(rows=histories(), weeks=st.integers(-100, 100))
def test_later_observations_give_later_buckets_and_nothing_else(rows: Any, weeks: int) -> None:
    by = weeks * 7 * 24 * HOUR
    moved = [
        seen
        | {
            "observed_at": seen["observed_at"] + by,
            "created_at": None if seen["created_at"] is None else seen["created_at"] + by,
        }
        for seen in rows
    ]
    here, there = ska.rates(frame_of(rows)), ska.rates(frame_of(moved))
    assert [start + by for start in us(here["bucket_start"])] == us(there["bucket_start"])
    rest = [name for name in here.columns if not name.startswith("bucket_")]
    pd.testing.assert_frame_equal(here[rest], there[rest])


@FEW
@given(rows=histories(), which=st.integers(0, 10**6), share=st.integers(1, 9))
def test_an_observation_that_tells_nothing_new_changes_no_work(rows: Any, which: int, share: int) -> None:
    scaled = [seen | {name: 10 * seen[name] for name in oracle.COUNTERS} for seen in rows]
    history = list(oracle.batches(scaled, None).values())[which % len({s["batch_id"] for s in scaled})]
    steps = [
        (before, after)
        for before, after in itertools.pairwise(history)
        if (after["observed_at"] - before["observed_at"]) % 10 == 0 and not before["is_terminal"]
    ]
    if not steps:
        return
    before, after = steps[which % len(steps)]
    length = after["observed_at"] - before["observed_at"]
    between = after | {"observed_at": before["observed_at"] + length * share // 10, "is_terminal": False}
    between |= {"batch_status": "PENDING"}
    between |= {name: before[name] + (after[name] - before[name]) * share // 10 for name in oracle.COUNTERS}
    without, with_it = ska.rates(frame_of(scaled)), ska.rates(frame_of([*scaled, between]))
    kept = [*WORK, "n_batches", "coverage", "throughput_per_hour", "error_rate"]
    pd.testing.assert_frame_equal(without[kept], with_it[kept], atol=1e-9)


@FEW
@given(rows=histories(), until=st.integers(0, 60))
def test_a_later_observation_changes_no_bucket_that_ended_before_the_batchs_previous_one(
    rows: Any, until: int
) -> None:
    cut = MONDAY + until * HOUR
    seen = [seen for seen in rows if seen["observed_at"] <= cut]
    known = {
        history[0]["batch_id"]: history[-1]["observed_at"] for history in oracle.batches(seen, None).values()
    }
    rows = [seen for seen in rows if seen["batch_id"] in known]
    if not known:
        return
    settled = min(known.values())
    before, after = ska.rates(frame_of(seen), by=()), ska.rates(frame_of(rows), by=())
    kept = ["bucket_start", *WORK, "processed_low", "processed_high", "n_batches"]
    then = before.loc[[end <= settled for end in us(before["bucket_end"])], kept]
    now = after.loc[[end <= settled for end in us(after["bucket_end"])], kept]
    pd.testing.assert_frame_equal(then.reset_index(drop=True), now.reset_index(drop=True), atol=1e-9)


def within(table: pd.DataFrame, start: Any, end: Any) -> pd.DataFrame:
    """The rows of a window: each group from its first to its last active bucket that overlaps it."""
    inside = table[(table["bucket_end"] > start) & (table["bucket_start"] < end)].reset_index(drop=True)
    is_active = (inside["n_batches"] > 0) | (inside["coverage"] > 0)
    group = [inside["policy_id"], inside["policy_version"]]
    begun = is_active.groupby(group).cummax()
    goes_on = is_active[::-1].groupby([names[::-1] for names in group]).cummax()[::-1]
    return inside[begun & goes_on].reset_index(drop=True)


@FEW
@given(rows=histories(), window=st.tuples(st.integers(-30, 60), st.integers(1, 40)), cut=CUTS)
def test_start_and_end_select_buckets_and_change_no_value(
    rows: Any, window: tuple[int, int], cut: Any
) -> None:
    start = pd.Timestamp(MONDAY + window[0] * HOUR + 7 * MINUTE, unit="us", tz="UTC")
    end = start + pd.Timedelta(hours=window[1])
    frame = frame_of(rows)
    expected = within(ska.rates(frame), start, end)
    for observations in (frame, cohorts_of(frame, cut)):
        selected = ska.rates(observations, start=start, end=end)
        pd.testing.assert_frame_equal(selected, expected, rtol=1e-9, atol=1e-12)


@FEW
@given(rows=histories(), window=st.tuples(st.integers(-30, 60), st.integers(1, 40)), cut=CUTS)
def test_start_and_end_select_buckets_of_the_backlog_too(
    rows: Any, window: tuple[int, int], cut: Any
) -> None:
    rows = [seen | {"pending_count": 7 * number % 31} for number, seen in enumerate(rows)]
    start = pd.Timestamp(MONDAY + window[0] * HOUR + 7 * MINUTE, unit="us", tz="UTC")
    end = start + pd.Timedelta(hours=window[1])
    whole = ska.backlog(frame_of(rows), freq="6h")
    inside = whole[(whole["bucket_end"] > start) & (whole["bucket_start"] < end)]
    columns = ["pending", "n_open", "throughput_per_hour", "eta_low", "eta_high", "partial"]
    keys = ["policy_id", "policy_version", "bucket_start"]
    inside = inside.set_index(keys)[columns]
    for observations in (frame_of(rows), cohorts_of(frame_of(rows), cut)):
        selected = ska.backlog(observations, freq="6h", start=start, end=end).set_index(keys)[columns]
        pd.testing.assert_frame_equal(selected, inside.loc[selected.index], atol=1e-9)
        missing = inside.drop(selected.index)
        assert not missing[["pending", "n_open"]].any(axis=None)


@FEW
@given(rows=histories(), until=st.integers(-1, 61))
def test_as_of_is_as_if_later_observations_were_never_made(rows: Any, until: int) -> None:
    as_of = pd.Timestamp(MONDAY + until * HOUR, unit="us", tz="UTC")
    kept = [seen for seen in rows if seen["observed_at"] <= MONDAY + until * HOUR]
    pd.testing.assert_frame_equal(
        ska.rates(frame_of(rows), as_of=as_of), ska.rates(frame_of(kept), as_of=as_of), atol=1e-12
    )


@FEW
@given(rows=histories())
def test_auto_is_the_finest_freq_at_which_at_most_a_fifth_is_smeared(rows: Any) -> None:
    from safetykit_analytics.rates.table import AUTO_FREQS

    lengths = [1, 5, 15, 30, 60, 180, 360, 720, 1440, 7 * 1440, 30 * 1440]
    weights = [
        (piece.end - piece.start, abs(piece.delta[0] + piece.delta[1]))
        for history in oracle.batches(rows, None).values()
        for piece in oracle.pieces(history)
    ]
    total = sum(weight for _, weight in weights)
    expected = next(
        (
            freq
            for freq, minutes in zip(AUTO_FREQS, lengths, strict=True)
            if 5 * sum(weight for length, weight in weights if length > minutes * MINUTE) <= total
        ),
        AUTO_FREQS[-1],
    )
    pd.testing.assert_frame_equal(
        ska.rates(frame_of(rows), freq="auto"), ska.rates(frame_of(rows), freq=expected)
    )


@FEW
@given(rows=histories(), by=st.sampled_from([(), ("policy_id", "policy_version")]))
def test_intervals_are_those_of_the_batches_shares_and_are_left_out_where_they_would_be_guesses(
    rows: Any, by: Any
) -> None:
    from benchmarks.calibration import cluster_sums
    from safetykit_analytics.stats import rate_intervals
    from tests.rates.test_rates import keyed

    edges = oracle.calendar("6h", "UTC", MONDAY - 80 * HOUR, MONDAY + 80 * HOUR)
    truth = oracle.table(rows, edges, by)
    told = [key for key, cell in truth.items() if not (cell["smeared_share"] or 0) > 0.5]
    groups = sorted({group for group, _ in told}, key=str)
    shares = [
        (place, *map(float, parts))
        for place, key in enumerate(told)
        for parts in truth[key]["clusters"].values()
    ]
    place, errors, processed = np.array(shares).reshape(-1, 3).T
    sums = cluster_sums(place.astype(int), errors, processed, n_places=len(told))
    series, bucket = [groups.index(group) for group, _ in told], [number for _, number in told]
    intervals = dict(zip(told, zip(*rate_intervals(sums, series, bucket), strict=True), strict=True))
    for (group, start), line in keyed(ska.rates(frame_of(rows), freq="6h", by=by), by).items():
        key = (group, edges.index(start))
        if key not in truth:
            continue
        cell = truth[key]
        if key not in intervals or (cell["coverage"] is not None and cell["coverage"] < 0.5):
            assert np.isnan(line["error_rate_low"])
            assert {"low_coverage", "mostly_smeared"} & set(line["note"].split(";"))
            continue
        low, high, note = intervals[key]
        assert line["error_rate_low"] == pytest.approx(low, abs=1e-6, nan_ok=True)
        assert line["error_rate_high"] == pytest.approx(high, abs=1e-6, nan_ok=True)
        assert line["note"] == note


# Published cases of what Prometheus says of the same counters, and what conservation says.


def counter(values: str) -> list[int]:
    """Read Prometheus' notation: ``0+10x3`` is 0 10 20 30."""
    series = []
    for word in values.split():
        start, plus, rest = word.partition("+")
        step, times = rest.split("x") if plus else ("0", "0")
        series += [int(start) + number * int(step) for number in range(int(times) + 1)]
    return series


def increase(case: Any, window: tuple[int, int], as_of: int | None = None) -> dict[str, float]:
    """Work in a window of seconds, from a batch that has the counter's samples as observations."""
    from safetykit_analytics.flow import batch_work

    given = case["input"]
    values = given["values"] if isinstance(given["values"], list) else counter(given["values"])
    times = given.get("times_s") or [number * given["step_s"] for number in range(len(values))]
    second = 1_000_000
    # At noon, so that no life is cut by a midnight.
    zero = MONDAY + 12 * HOUR
    created = None if given["created_s"] is None else zero + given["created_s"] * second
    rows = [
        row("a", zero + time * second, value, created_at=created)
        for time, value in zip(times, values, strict=True)
    ]

    until = None if as_of is None else zero + as_of * second
    work = batch_work(frame_of(rows), edges=[zero + edge * second for edge in window], as_of=until)
    table = ska.rates(frame_of(rows), freq="D", by=(), as_of=None if until is None else at(until))
    return {
        "net": float(work["success"].sum()),
        "reprocessed": float(table["reprocessed"].sum()),
        "coverage": float(table["coverage"].iloc[-1]),
    }


@pytest.mark.parametrize(
    "name",
    ["prom_foo", "prom_dings", "prom_bumms", "prom_st_inside", "prom_st_limit", "prom_st_single"],
)
def test_a_counter_that_only_grows_gives_its_growth(reference: Callable[[str], Any], name: str) -> None:
    case = reference(name)
    start, end = case["input"]["window"]
    assert increase(case, (start, end))["net"] == pytest.approx(case["expected"]["conserving"], abs=1e-6)


@pytest.mark.parametrize("name", ["prom_bar", "prom_reset"])
def test_a_counter_that_goes_down_is_netted_and_what_it_lost_is_told(
    reference: Callable[[str], Any], name: str
) -> None:
    case = reference(name)
    start, end = case["input"]["window"]
    found = increase(case, (start, end))
    assert found["net"] == pytest.approx(case["expected"]["conserving"]["net"])
    assert found["reprocessed"] == pytest.approx(case["expected"]["conserving"]["reprocessed"])


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_nothing_is_extrapolated_to_the_end_of_a_window(reference: Callable[[str], Any], number: int) -> None:
    case = reference(f"prom_zero_cutoff_{number}")
    expected = case["expected"]["conserving"]
    window = tuple(case["input"]["window"])
    early = increase(case, window, as_of=case["input"]["as_of_s"])
    assert early["net"] == pytest.approx(expected["as_of"])
    assert early["coverage"] == pytest.approx(expected["coverage"], rel=1e-9)
    assert increase(case, window)["net"] == pytest.approx(expected["final"])


def test_windows_are_cut_by_straight_lines_between_samples(reference: Callable[[str], Any]) -> None:
    case = reference("prom52_complete")
    given = case["input"]
    for created, key in ((-given["step_s"], "created_minus15s"), (None, "baseline_first_sample")):
        shown = {"input": given | {"created_s": created}}
        for until, expected in zip(given["eval_s"], case["expected"]["conserving"][key], strict=True):
            found = increase(shown, (until - given["window_s"], until))
            assert found["net"] == pytest.approx(expected, abs=case["tol"] * 10)


def test_a_gap_is_spread_over_the_buckets_that_it_crosses(reference: Callable[[str], Any]) -> None:
    check_scenario(reference("gap_crosses_buckets"))


def test_what_is_taken_back_is_negative_work(reference: Callable[[str], Any]) -> None:
    table = check_scenario(reference("reprocess_errors"))
    assert table["reprocessed"].tolist() == [0, 20]
    assert np.isnan(table["error_rate"].iloc[1])


def test_errors_that_became_successes_are_taken_back_and_nothing_is_processed(
    reference: Callable[[str], Any],
) -> None:
    # What the case says in words: success goes up by what errors go down, from 60 to 80.
    case = reference("reprocess_errors")
    rows = [
        row(
            "a",
            pd.Timestamp(time).value // 1000,
            100 - error,
            error,
            created_at=pd.Timestamp(case["input"]["created"]).value // 1000,
        )
        for time, error in case["input"]["observations"]
    ]
    table = ska.rates(frame_of(rows), freq="1h")
    assert table["error"].tolist() == case["expected"]
    assert table["processed"].tolist() == [100, 0]
    assert table["reprocessed"].tolist() == [0, 20]
    assert table["error_rate"].isna().tolist() == [False, True]
    assert table["note"].tolist() == ["one_batch", "no_decisions"]


def check_scenario(case: Any) -> pd.DataFrame:
    def at(text: str) -> int:
        return pd.Timestamp(text).value // 1000

    rows = [
        row("a", at(time), count, created_at=at(case["input"]["created"]))
        for time, count in case["input"]["observations"]
    ]
    table = ska.rates(frame_of(rows), freq="1h")
    assert table["processed"].tolist() == pytest.approx(case["expected"], rel=case["tol"])
    return table


def test_a_clock_that_is_ahead_puts_the_work_at_the_first_observation(
    reference: Callable[[str], Any],
) -> None:
    case = reference("clock_skew")
    rows = [row("a", MONDAY + 10 * HOUR, 30, created_at=MONDAY + 10 * HOUR + 5_000_000)]
    table = ska.rates(frame_of(rows), freq="1h")
    assert table["processed"].tolist() == [case["expected"]["bucket"]]
    assert case["expected"]["flag"] in ska.data_quality(frame_of(rows))["kind"].tolist()


def test_time_after_the_last_observation_lowers_coverage(reference: Callable[[str], Any]) -> None:
    case = reference("coverage_partial")
    rows = [row("a", MONDAY + 10 * HOUR + 40 * MINUTE, 40, created_at=MONDAY + 10 * HOUR)]
    table = ska.rates(frame_of(rows), as_of=pd.Timestamp(MONDAY + 11 * HOUR, unit="us", tz="UTC"))
    assert table["processed"].tolist() == [case["expected"]["bucket"]]
    assert table["coverage"].tolist() == pytest.approx([case["expected"]["coverage"]])
