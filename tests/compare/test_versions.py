"""compare_versions: what its table holds, and what it refuses."""

import datetime as dt
import re
import zlib

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

import safetykit_analytics as ska
from safetykit_analytics.errors import InvalidFrame, UnknownName
from safetykit_analytics.stats import cluster_rates
from tests.compare.helpers import ended, observations, some_counts

COLUMNS = [
    *("policy_id", "policy_version", "role", "n_batches", "processed", "error"),
    *("error_rate", "error_rate_low", "error_rate_high", "cancelled_share", "throughput_per_batch_hour"),
    *("difference", "difference_low", "difference_high"),
    *("relative_risk", "relative_risk_low", "relative_risk_high"),
    *("df", "p_value", "p_adjusted", "mde", "overlap", "design", "e_value", "p_anytime", "difference_raw"),
    *("verdict", "median_low", "median_high", "note"),
]
MANY = [(3, 100), (0, 100), (9, 120), (4, 90), (2, 100), (3, 110)]


def compare(rows, **options):
    return ska.compare_versions(observations(rows), **{"policy_id": "P", "baseline": "v7"} | options)


def codes(row):
    return set(row["note"].split(";")) - {""}


def test_a_table_has_just_the_promised_columns_whatever_is_in_it():
    for rows in (ended("v7", MANY) + ended("v8", MANY), ended("v7", MANY), ended("v7", [(0, 0)])):
        assert compare(rows).table.columns.tolist() == COLUMNS
    empty = ska.compare_versions(observations([]), policy_id=None, baseline=None)
    assert empty.table.columns.tolist() == COLUMNS
    assert len(empty.table) == 0
    assert empty.table.dtypes.equals(compare(ended("v7", MANY) + ended("v8", MANY)).table.dtypes)


def test_every_number_is_that_of_the_final_counts_of_the_batches():
    rng = np.random.default_rng(1)
    one, two = some_counts(rng, 12), some_counts(rng, 9, rate=0.05)
    table = compare(ended("v7", one) + ended("v8", two, hours=3)).table
    y, n = np.array(one + two, float).T
    rates = cluster_rates(np.repeat([0, 1], [12, 9]), y, n, n_groups=2)
    assert table["role"].tolist() == ["baseline", "candidate"]
    assert table["n_batches"].tolist() == [12, 9]
    assert table["processed"].tolist() == [n[:12].sum(), n[12:].sum()]
    assert table["error"].tolist() == [y[:12].sum(), y[12:].sum()]
    assert table["error_rate"].tolist() == rates.rate.tolist()
    assert table["error_rate_low"].tolist() == rates.low.tolist()
    assert table["error_rate_high"].tolist() == rates.high.tolist()
    assert table["df"].tolist() == rates.df.tolist()
    assert table["difference_raw"][1] == pytest.approx(rates.rate[1] - rates.rate[0])
    assert table["p_adjusted"][1] == table["p_anytime"][1]
    assert table["throughput_per_batch_hour"].tolist() == [n[:12].sum() / 24, n[12:].sum() / 27]


def test_two_versions_two_percentage_points_apart_are_told_apart_with_thirty_batches_each():
    rng = np.random.default_rng(2)
    rows = ended("v7", some_counts(rng, 30)) + ended("v8", some_counts(rng, 30, rate=0.04))
    assert compare(rows, looks="once").table["verdict"].tolist()[1] == "higher"
    assert compare(rows, looks="once", baseline="v8").table["verdict"].tolist()[1] == "lower"


def test_a_single_look_is_the_permutation_test_within_the_one_stratum_that_scipy_knows():
    rng = np.random.default_rng(5)
    one, two = some_counts(rng, 7), some_counts(rng, 6, rate=0.05)
    rows = ended("v7", one) + ended("v8", two)
    row = compare([(*r[:1], 5, 0, *r[3:]) for r in rows], looks="once").table.iloc[1]
    y, n = np.array(one + two, float).T
    residual = y - y.sum() / n.sum() * n
    expected = permutation_test(
        (residual[:7], residual[7:]), lambda a, b: b.sum(), permutation_type="independent", n_resamples=np.inf
    )
    twice = np.abs(expected.null_distribution) >= abs(expected.statistic) - 1e-9
    assert row["p_value"] == pytest.approx(twice.mean())
    weight = n[:7].sum() * n[7:].sum() / n.sum()
    assert row["difference"] == pytest.approx(residual[7:].sum() / weight)


def test_all_failed_against_two_percent_is_a_verdict_and_one_success_more_or_less_changes_nothing():
    base = ended("v7", [(2, 100)] * 12)
    for errors in (100, 99):
        for looks in ("any", "once"):
            table = compare(base + ended("v8", [(errors, 100)] * 12), looks=looks).table
            assert table["verdict"][1] == "higher"
            assert table["difference_low"][1] > 0.5


def test_five_percent_against_no_errors_in_fifty_is_a_verdict():
    table = compare(ended("v7", [(0, 100)] * 50, hours=1) + ended("v8", [(5, 100)] * 50, hours=1)).table
    assert table["verdict"][1] == "higher"
    assert np.isnan(table["relative_risk"][1])


def test_a_ramp_under_drift_does_not_blame_the_candidate():
    rng = np.random.default_rng(6)
    rows = []
    for week, (share, rate) in enumerate(((0.1, 0.02), (0.25, 0.025), (0.5, 0.03), (0.75, 0.04))):
        for version, m in (("v7", round(40 * (1 - share))), ("v8", round(40 * share))):
            counts = some_counts(rng, m, rate)
            rows += ended(version, counts, first=100 * week, start=168 * week)
    row = compare(rows).table.iloc[1]
    assert row["verdict"] == "no difference found"
    assert row["difference_raw"] > 1.5 * abs(row["difference"])


def test_start_and_end_choose_batches_by_their_end_and_say_so_when_there_are_none():
    rng = np.random.default_rng(7)
    rows = [
        row
        for week in range(2)
        for version in ("v7", "v8")
        for row in ended(version, some_counts(rng, 12), first=100 * week, start=168 * week)
    ]
    second = compare(rows, start="2026-11-09", end="2026-11-16").table
    assert second["n_batches"].tolist() == [12, 12]
    alone = compare([row for row in rows if row[2] >= 168]).table
    assert second["difference"][1] == pytest.approx(alone["difference"][1])
    # A batch that ended at the start is in; one that ended at the end is not.
    for edge, n_batches in (({"start": "2026-11-02T03:00Z"}, 23), ({"end": "2026-11-02T03:00Z"}, 1)):
        assert compare(rows, **edge).table["n_batches"].tolist() == [n_batches] * 2
    nothing = compare(rows, start="2027-01-01")
    assert nothing.table["n_batches"].tolist() == [0, 0]
    assert nothing.table["verdict"][1] == "not enough batches"
    with pytest.raises(ValueError, match="is not before end="):
        compare(rows, start="2026-11-09", end="2026-11-09")
    with pytest.raises(ValueError, match="looks: expected 'any' or 'once', found 'twice'"):
        compare(rows, looks="twice")


def test_later_batches_change_no_earlier_look():
    rng = np.random.default_rng(11)
    rows = [
        row
        for week in range(3)
        for version in ("v7", "v8")
        for row in ended(
            version,
            some_counts(rng, 15, 0.02 if version == "v7" else 0.05),
            first=100 * week,
            start=168 * week,
        )
    ]
    early = compare([row for row in rows if row[1] < 168]).table.iloc[1]
    later = compare(rows, as_of="2026-11-09").table.iloc[1]
    pd.testing.assert_series_equal(early, later, check_names=False)
    assert compare(rows).table["p_anytime"][1] <= early["p_anytime"]


def test_the_day_on_which_a_verdict_was_reached_stays():
    rng = np.random.default_rng(12)
    rows = [
        row
        for week in range(2)
        for version, rate in (("v7", 0.02), ("v8", 0.12))
        for row in ended(version, some_counts(rng, 20, rate), first=100 * week, start=168 * week)
    ]
    first, both = compare([row for row in rows if row[1] < 168]), compare(rows)
    assert first.table["verdict"][1] == both.table["verdict"][1] == "higher"
    assert first.found_on == both.found_on == (None, dt.date(2026, 11, 2))
    assert compare(rows, looks="once").found_on == (None, None)


def test_the_day_on_which_a_verdict_was_reached_goes_by_the_adjusted_level():
    rng = np.random.default_rng(3)
    rows = [
        row
        for day in range(12)
        for version, rate in (("v7", 0.02), ("v8", 0.04), ("v9", 0.02))
        for row in ended(version, some_counts(rng, 6, rate), first=100 * day, start=24 * day)
    ]
    found = compare(rows)
    assert found.table["verdict"].tolist()[1:] == ["higher", "no difference found"]
    # Of two candidates, the one found needs half the level.
    firsts = {0.05: None, 0.025: None}
    for day in range(3, 15):
        p = compare(rows, as_of=f"2026-11-{day:02}", candidate="v8").table["p_anytime"][1]
        for level, first in firsts.items():
            if first is None and p <= level:
                firsts[level] = dt.date(2026, 11, day - 1)
        if None not in firsts.values():
            break
    assert firsts[0.05] < firsts[0.025] == found.found_on[1]
    assert compare(rows, correction="none").found_on[1] == firsts[0.05]


@pytest.mark.parametrize(
    ("common", "alone", "design"),
    [(2, 3, "side by side"), (1, 3, "mixed"), (1, 15, "mixed"), (1, 24, "before and after")],
)
def test_versions_ran_side_by_side_from_three_tenths_of_the_weight_and_apart_below_a_twentieth(
    common, alone, design
):
    # Shares of 0.4, 0.25, 0.06 and 0.04: ten equal batches a day, on some days of one version alone.
    days = {"v7": range(alone + common), "v8": range(alone, 2 * alone + common)}
    rows = [
        row
        for version, some in days.items()
        for day in some
        for row in ended(version, [(2 + i % 3, 100) for i in range(10)], first=100 * day, start=24 * day)
    ]
    assert compare(rows).table["design"][1] == design


def test_a_baseline_without_a_name_is_who_did_most_in_the_four_weeks_before():
    rows = (
        ended("v3", MANY * 2)
        + ended("v1", MANY, start=200)
        + ended("v2", MANY * 2, start=400)
        + ended("v4", MANY, start=700)
    )
    table = compare(rows, baseline=None, candidate="v4").table
    assert table["policy_version"].tolist() == ["v2", "v4"]
    table = compare(rows, baseline=None).table
    assert table["policy_version"].tolist() == ["v3", "v1", "v2", "v2", "v4"]
    assert table["role"].tolist() == ["baseline", "candidate", "candidate", "baseline", "candidate"]


def test_one_batch_of_ten_thousand_against_fifty_small_ones_yields_no_verdict_by_itself():
    rng = np.random.default_rng(3)
    small = ended("v7", [(int(rng.binomial(100, 0.02)), 100) for _ in range(50)])
    for more in ([], [(0, 10)]):
        table = compare(small + ended("v8", [(500, 10_000), *more])).table
        assert table["verdict"][1] == "not enough batches"
    # The pooled test would be sure beyond doubt.
    pooled = 600 / 15_000
    assert (0.05 - 0.02) / np.sqrt(pooled * (1 - pooled) * (1 / 5000 + 1 / 10_000)) > 8


def test_candidates_come_in_natural_order_with_none_last_and_the_baseline_first():
    rows = [row for version in ("v10", "v9", None, "v8", "v7") for row in ended(version, MANY)]
    table = compare(rows, baseline="v9").table
    assert table["policy_version"].tolist() == ["v9", "v7", "v8", "v10", "(none)"]
    table = compare(rows, baseline="(none)", candidate="v8").table
    assert table["policy_version"].tolist() == ["(none)", "v8"]


def test_several_candidates_are_holm_adjusted_unless_asked_otherwise():
    rng = np.random.default_rng(4)
    rows = [
        row
        for i, rate in enumerate((0.02, 0.02, 0.03, 0.04))
        for row in ended(f"v{i}", some_counts(rng, 12, rate))
    ]
    tables = {
        method: compare(rows, baseline="v0", correction=method).table[1:]
        for method in (None, "holm", "bh", "none")
    }
    adjusted = {method: table["p_adjusted"].to_numpy() for method, table in tables.items()}
    p = tables[None]["p_anytime"].to_numpy()
    assert adjusted["none"].tolist() == p.tolist()
    assert adjusted[None].tolist() == adjusted["holm"].tolist()
    order = np.argsort(p)
    holm = np.minimum(np.maximum.accumulate(p[order] * [3, 2, 1]), 1)
    assert adjusted["holm"][order] == pytest.approx(holm)
    assert (adjusted["bh"] <= adjusted["holm"] + 1e-12).all()


def test_what_would_be_seen_is_at_the_level_that_the_verdict_needs():
    rng = np.random.default_rng(11)
    rows = ended("v7", some_counts(rng, 20)) + ended("v8", some_counts(rng, 20))
    rows += ended("v9", some_counts(rng, 20, rate=0.2))
    alone, holm, bh = (compare(rows, looks="once", correction=name).table for name in ("none", "holm", "bh"))
    assert holm["verdict"].tolist()[1:] == ["no difference found", "higher"]
    # Both compare the last of two with the whole level, once the other is rejected.
    assert holm["mde"][1] == bh["mde"][1] == alone["mde"][1]
    rows = [row for row in rows if row[-1] != "v9"] + ended("v9", some_counts(rng, 20))
    alone, holm, bh = (compare(rows, looks="once", correction=name).table for name in ("none", "holm", "bh"))
    assert holm["mde"][1] == bh["mde"][1] > alone["mde"][1]


def test_the_verdict_and_the_interval_go_by_the_adjusted_p_value():
    rng = np.random.default_rng(16)
    rows = ended("v0", some_counts(rng, 25)) + ended("v1", some_counts(rng, 25, 0.028))
    alone = compare(rows, baseline="v0", looks="once").table.iloc[1]
    rows += [row for i in range(2, 12) for row in ended(f"v{i}", some_counts(rng, 25))]
    among = compare(rows, baseline="v0", looks="once").table.iloc[1]
    assert alone["verdict"] == "higher"
    assert among["p_adjusted"] > 0.05 > alone["p_adjusted"]
    assert among["verdict"] == "no difference found"
    assert among["difference_low"] <= 0 < alone["difference_low"]


def test_batches_that_run_changed_label_or_did_nothing_are_left_out_and_counted():
    rows = ended("v7", MANY) + ended("v8", MANY)
    plain = compare(rows).table
    rows += [
        ("running", 5, 0, "PENDING", 40, 60, 0, 100, "P", "v8"),
        ("relabelled", 1, 0, "PENDING", 10, 0, 0, 90, "P", "v7"),
        ("relabelled", 5, 0, "SUCCESS", 40, 60, 0, 0, "P", "v8"),
        ("nothing", 5, 0, "CANCELLED", 0, 0, 100, 0, "P", "v8"),
    ]
    table = compare(rows).table
    assert codes(table.iloc[1]) == {"batches_excluded:2", "open:1"}
    unchanged = [name for name in COLUMNS if not name.startswith("median") and name != "note"]
    pd.testing.assert_frame_equal(table[unchanged], plain[unchanged])


def test_batches_of_the_baseline_begun_before_the_candidate_are_counted_and_no_evidence():
    rng = np.random.default_rng(5)
    rows = ended("v7", some_counts(rng, 10)) + ended("v8", some_counts(rng, 10))
    plain = compare(rows).table
    slow = [(f"slow{i}", 5 + i, -100, "SUCCESS", 500, 500, 0, 0, "P", "v7") for i in range(4)]
    table = compare(rows + slow).table
    assert table["n_batches"].tolist() == [14, 10]
    assert table["difference_raw"][1] < plain["difference_raw"][1] - 0.1
    evidence = ["difference", "difference_low", "difference_high", "e_value", "p_anytime"]
    pd.testing.assert_frame_equal(table[evidence], plain[evidence])


def test_of_many_batches_that_end_at_once_names_do_not_decide_which_are_compared():
    # A day over 100 is cut; by name, each part would hold one version.
    rows = [
        (f"{version}-{i}", 5, 0, "SUCCESS", 90 - i % 3, 10 + i % 3, 0, 0, "P", version)
        for version in ("v7", "v8")
        for i in range(100)
    ]
    row = compare(rows).table.iloc[1]
    assert (row["design"], row["verdict"]) == ("side by side", "no difference found")


def test_batches_that_end_at_once_are_in_the_order_of_their_checksums():
    names = [f"{version}-{i}" for i in range(101) for version in ("v7", "v8")]
    later = [("running", 40, 39, "PENDING", 0, 0, 0, 10, "P", "v8")]

    def table(ends):
        counts = [(90 - i % 7, 10 + i % 7) for i in range(len(names))]
        rows = [
            (name, ends[name], 0, "SUCCESS", *done, 0, 0, "P", name[:2])
            for name, done in zip(names, counts, strict=True)
        ]
        return compare(rows + later).table[
            ["n_batches", "difference", "e_value", "p_anytime", "difference_low"]
        ]

    ordered = sorted(names, key=lambda name: zlib.crc32(name.encode()))
    apart = {name: 5 + i / 3.6e9 for i, name in enumerate(ordered)}
    pd.testing.assert_frame_equal(table(dict.fromkeys(names, 5)), table(apart))


def test_terminal_batches_with_pending_decisions_count():
    rows = ended("v7", MANY) + [(f"b{i}", 2, 0, "ERROR", 90, 10, 0, 540, "P", "v8") for i in range(4)]
    assert compare(rows).table["n_batches"].tolist() == [6, 4]


def test_cancelled_share_is_cancelled_of_finished():
    rows = ended("v7", MANY) + [(f"b{i}", 2, 0, "CANCELLED", 60, 20, 20, 7, "P", "v8") for i in range(3)]
    assert compare(rows).table["cancelled_share"].tolist() == [0, 0.2]


def test_overlap_is_the_common_share_of_the_two_time_spans():
    one = ended("v7", [(1, 50)] * 5, hours=6)  # 0 h to 10 h
    for start, expected in ((0, 1.0), (5, 5 / 15), (10, 0.0), (40, 0.0)):
        table = compare(one + ended("v8", [(2, 60)] * 5, hours=6, start=start)).table
        assert np.isnan(table["overlap"][0])
        assert table["overlap"][1] == pytest.approx(expected)
    instant = [("a", 3, 3, "SUCCESS", 9, 1, 0, 0, "P", "v7"), ("b", 3, 3, "SUCCESS", 9, 1, 0, 0, "P", "v8")]
    assert compare(instant).table["overlap"][1] == 1


def test_throughput_leaves_batches_without_a_creation_time_out_and_says_so_when_none_is_left():
    known = ("a", 4, 0, "SUCCESS", 90, 10, 0, 0, "P", "v7")
    unknown = ("b", 4, None, "SUCCESS", 900, 100, 0, 0, "P", "v7")
    assert compare([known, unknown]).table["throughput_per_batch_hour"][0] == 25
    table = compare([unknown]).table
    assert np.isnan(table["throughput_per_batch_hour"][0])
    assert "no_created_at" in codes(table.iloc[0])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("b", 1, 0, "PENDING", 5, 5, 0, 90, "P", "v8")], {"no_terminal_batches", "open:1"}),
        ([("b", 1, 0, "CANCELLED", 0, 0, 90, 0, "P", "v8")], {"no_decisions", "batches_excluded:1"}),
        (ended("v8", [(3, 100)]), {"one_batch"}),
        (ended("v8", [(5, 100), (9, 120)]), {"few_batches"}),
    ],
)
def test_a_version_that_cannot_be_compared_has_a_row_with_the_reason(rows, expected):
    row = compare(ended("v7", MANY) + rows).table.iloc[1]
    assert codes(row) - {"median_not_reached"} == expected
    assert row["verdict"] == "not enough batches"
    # No time at all is no time apart.
    assert np.isnan(row["overlap"]) == (row["n_batches"] == 0)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("b", 1, 0, "PENDING", 5, 5, 0, 90, "P", "v7")], "no_terminal_batches"),
        ([("b", 1, 0, "CANCELLED", 0, 0, 90, 0, "P", "v7")], "no_decisions"),
    ],
)
def test_with_a_baseline_that_did_nothing_every_candidate_says_that_there_is_none(rows, reason):
    table = compare(rows + ended("v8", MANY)).table
    assert reason in codes(table.iloc[0])
    assert codes(table.iloc[1]) == {"no_baseline"}
    assert table["verdict"][1] == "not enough batches"
    assert table.loc[1, ["difference", "p_anytime", "mde", "overlap"]].isna().all()


def test_an_unknown_policy_or_version_is_an_error_that_lists_the_known_ones():
    rows = ended("v7", MANY) + ended("v10", MANY) + ended(None, MANY) + ended("w1", MANY, policy="Q")
    with pytest.raises(UnknownName, match=re.escape("no policy 'R'; known: 'P', 'Q'")):
        compare(rows, policy_id="R")
    with pytest.raises(UnknownName) as error:
        compare(rows, baseline="v99")
    assert error.value.known == ("v7", "v10", "(none)")
    with pytest.raises(UnknownName, match="no version 'w1'"):
        compare(rows, candidate="w1")
    with pytest.raises(UnknownName, match="no version 'v99'"):
        compare(rows, policy_id=None, baseline="v99")


def test_a_version_is_not_compared_with_itself():
    with pytest.raises(ValueError, match="baseline and candidate are both 'v7'"):
        compare(ended("v7", MANY), candidate="v7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 95}, "confidence must be between 0 and 1"),
        ({"correction": "sidak"}, "'holm', 'bh' or 'none'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compare(ended("v7", MANY), **options)


def test_what_is_no_frame_of_observations_is_refused():
    with pytest.raises(InvalidFrame, match="missing column"):
        ska.compare_versions(
            observations(ended("v7", MANY)).drop(columns="error_count"), policy_id="P", baseline="v7"
        )


def test_a_scan_compares_within_each_policy_and_adjusts_over_all():
    rng = np.random.default_rng(6)
    rows = [
        row
        for policy in ("P2", "P10", "P1")
        for version in ("v7", "v8")
        for row in ended(version, some_counts(rng, 12), policy=policy)
    ]
    rows += ended("w1", some_counts(rng, 12), policy="other")
    table = compare(rows, policy_id=None).table
    assert table["policy_id"].tolist() == ["P1", "P1", "P2", "P2", "P10", "P10", "other"]
    p, adjusted = (table[name].to_numpy()[[1, 3, 5]] for name in ("p_anytime", "p_adjusted"))
    for policy, place in (("P1", 1), ("P2", 3)):
        alone = compare(rows, policy_id=policy).table.iloc[1]
        assert alone["p_anytime"] == table["p_anytime"][place]
        assert alone["difference"] == table["difference"][place]
    order = np.argsort(p)
    bh = np.minimum.accumulate((p[order] * 3 / [1, 2, 3])[::-1])[::-1]
    assert adjusted[order] == pytest.approx(bh)
    assert codes(table.iloc[6]) == {"no_baseline"}
    assert table["verdict"][6] == "not enough batches"


def test_of_versions_that_began_together_the_first_by_name_is_the_baseline():
    rows = [row for v in ("v10", "v9", "v8") for row in ended(v, MANY)] + ended("w2", MANY, policy="Q")
    table = compare(rows, baseline=None).table
    assert table["policy_version"].tolist() == ["v8", "v9", "v10"]
    assert compare(rows, baseline=None, candidate="v8").table["policy_version"].tolist() == ["v9", "v8"]
    scan = compare(rows, policy_id=None, baseline=None).table
    assert scan[["policy_version", "role"]].iloc[3].tolist() == ["w2", "baseline"]
    only = compare(rows, policy_id=None, baseline=None, candidate="w2").table
    assert only["policy_id"].tolist() == ["Q"]
    assert codes(only.iloc[0]) == {"no_baseline"}
    alone = compare(ended(None, MANY), baseline=None, candidate="(none)").table
    assert alone["role"].tolist() == ["candidate"]
    assert codes(alone.iloc[0]) == {"no_baseline"}


def test_batches_without_a_policy_are_a_policy_of_their_own():
    rows = ended("v7", MANY, policy=None) + ended("v8", MANY, policy="")
    table = compare(rows, policy_id="(none)").table
    assert set(table["policy_id"]) == {"(none)"}
    assert table["policy_version"].tolist() == ["v7", "v8"]


def test_the_median_is_that_of_completion_time_with_running_batches():
    rows = (
        ended("v7", MANY)
        + ended("v8", MANY, hours=3)
        + [(f"running{i}", 9, 0, "PENDING", 1, 1, 0, 9, "P", "v8") for i in range(4)]
    )
    data = observations(rows)
    table = ska.compare_versions(data, policy_id="P", baseline="v7").table
    times = ska.completion_time(data)
    pd.testing.assert_frame_equal(table[["median_low", "median_high"]], times[["median_low", "median_high"]])
    assert "median_not_reached" not in table["note"][1]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_rows_other_columns_and_the_index_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    data = observations(ended("v7", some_counts(rng, 5)) + ended("v8", some_counts(rng, 7)))
    shuffled = data.sample(frac=1, random_state=seed).assign(extra="x")
    shuffled.index = shuffled["batch_id"]
    one, other = (ska.compare_versions(frame, policy_id="P", baseline="v7") for frame in (data, shuffled))
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.sentences == other.sentences


def test_a_store_gives_what_its_frame_gives(tmp_path):
    rng = np.random.default_rng(8)
    rows = ended("v7", some_counts(rng, 12)) + ended("v8", some_counts(rng, 12), hours=30)
    rows += [
        (f"running{i}", at, 0, "PENDING", at, 1, 0, 9, "P", "v8") for i in range(3) for at in (5, 30, 50)
    ]
    data = observations(rows)
    store = ska.SnapshotStore(tmp_path / "snapshots")
    for _, part in data.groupby(np.arange(len(data)) % 3):
        store.append(part)
    one, other = (ska.compare_versions(source, policy_id="P", baseline="v7") for source in (data, store))
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(ska.completion_time(data), ska.completion_time(store))
