"""control_chart: limits per version, marks, and reasons."""

import numpy as np
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.errors import InvalidFrame
from safetykit_analytics.stats import laney_limits

NEW = ["center", "lower_limit", "upper_limit", "sigma_z", "out_of_control", "segment"]


def rates(rows, by=("policy_id", "policy_version")):
    """A table like that of rates(): rows of (hour, policy, version, error, processed)."""
    table = pd.DataFrame(rows, columns=["hour", "policy_id", "policy_version", "error", "processed"])
    start = pd.Timestamp("2026-11-02", tz="Europe/Berlin") + pd.to_timedelta(table["hour"], unit="h")
    processed = table["processed"].astype(float)
    return pd.DataFrame(
        {
            "bucket_start": start,
            "bucket_end": start + pd.Timedelta(hours=1),
            **{name: table[name].astype("string") for name in by},
            "error": table["error"].astype(float),
            "processed": processed,
            "error_rate": (table["error"] / processed.where(processed > 0)),
            "partial": False,
            "note": pd.array(np.where(processed > 0, "", "no_decisions"), dtype="string"),
        }
    )


def series(rng, hours, rate, *, version="v7", policy="P", n=1000):
    return [(h, policy, version, int(rng.binomial(n, rate)), n) for h in hours]


def test_rows_columns_and_order_stay_and_the_promised_columns_are_added():
    rng = np.random.default_rng(1)
    table = rates(series(rng, range(24), 0.02)).sample(frac=1, random_state=1)
    before = table.copy()
    chart = ska.control_chart(table)
    assert chart.columns.tolist() == [*table.columns, *NEW]
    pd.testing.assert_frame_equal(chart[table.columns.drop("note")], table.drop(columns="note"))
    pd.testing.assert_frame_equal(table, before)


def test_limits_are_those_of_the_series_in_the_order_of_time():
    rng = np.random.default_rng(2)
    table = rates(series(rng, range(30), 0.02))
    expected = laney_limits(table["error"], table["processed"], np.ones(30, bool))
    for chart in (ska.control_chart(table), ska.control_chart(table[::-1])[::-1]):
        assert chart["upper_limit"].tolist() == expected.upper.tolist()
        assert (chart["sigma_z"] == expected.sigma_z).all()


def test_a_jump_is_out_of_control_and_ordinary_variation_is_not():
    rng = np.random.default_rng(3)
    rows = series(rng, range(40), 0.02)
    rows[33] = (33, "P", "v7", 80, 1000)
    chart = ska.control_chart(rates(rows))
    assert chart.index[chart["out_of_control"]].tolist() == [33]


def test_the_ninth_complete_bucket_in_a_row_on_one_side_of_the_center_is_marked():
    errors = [22, 20, 18] * 10 + [21] * 10
    table = rates([(hour, "P", "v7", error, 1000) for hour, error in enumerate(errors)])
    table.loc[33, "partial"] = True
    chart = ska.control_chart(table)
    assert chart.index[chart["out_of_control"]].tolist() == [39]


def test_a_bucket_without_errors_is_not_below_a_limit_of_zero():
    errors = [0, 1, 3, 2, 0, 1, 4, 1] * 4
    chart = ska.control_chart(rates([(hour, "P", "v7", error, 50) for hour, error in enumerate(errors)]))
    assert (chart["lower_limit"] == 0).all()
    assert not chart["out_of_control"].any()


def test_limits_start_anew_at_a_version_change():
    rng = np.random.default_rng(4)
    rows = series(rng, range(30), 0.02) + series(rng, range(28, 60), 0.06, version="v6")
    # By version, as rates() sorts: the one that began later comes first.
    chart = ska.control_chart(rates(sorted(rows, key=lambda row: row[2])))
    assert not chart["out_of_control"].any()
    assert chart.groupby("policy_version")["segment"].unique().map(list).to_dict() == {"v7": [0], "v6": [1]}
    assert chart.groupby("policy_version")["center"].nunique().tolist() == [1, 1]
    # In a table that is not split by version, the change is what stands out.
    merged = ska.control_chart(
        rates([row for row in rows if row[0] < 28 or row[2] == "v6"], by=("policy_id",))
    )
    assert merged["segment"].unique().tolist() == [0]


def test_each_policy_counts_its_own_segments():
    rng = np.random.default_rng(5)
    rows = [
        row
        for policy in ("P", None)
        for v in ("v1", None)
        for row in series(rng, range(22), 0.1, version=v, policy=policy)
    ]
    chart = ska.control_chart(rates(rows))
    assert sorted(chart.groupby(["policy_id", "policy_version"], dropna=False)["segment"].first()) == [
        0,
        0,
        1,
        1,
    ]
    assert (chart["note"] == "").all()


def test_partial_and_empty_buckets_do_not_move_the_limits():
    rng = np.random.default_rng(6)
    rows = series(rng, range(25), 0.02)
    plain = ska.control_chart(rates(rows))
    more = rates([*rows, (25, "P", "v7", 0, 0), (26, "P", "v7", 50, 60)])
    more["partial"] = [False] * 26 + [True]
    chart = ska.control_chart(more)
    assert chart["center"].unique().tolist() == plain["center"].unique().tolist()
    assert np.isnan(chart["upper_limit"][25])
    assert not chart["out_of_control"][25]
    assert chart["out_of_control"][26]


def test_what_is_judged_does_not_move_its_own_limits_where_twenty_buckets_are_before_it():
    rng = np.random.default_rng(7)
    rows = series(rng, range(20), 0.02)
    before = ska.control_chart(rates(rows))
    table = rates([*rows, *series(rng, range(20, 27), 0.06)])
    chart = ska.control_chart(table, limits_before=table["bucket_start"][20])
    assert chart["upper_limit"][:20].tolist() == before["upper_limit"].tolist()
    assert chart["out_of_control"].tolist() == [False] * 20 + [True] * 7
    # With nineteen there are too few: all count.
    chart = ska.control_chart(table, limits_before=table["bucket_start"][19])
    pd.testing.assert_frame_equal(chart, ska.control_chart(table))


def test_limits_before_a_date_end_at_its_midnight_in_the_zone_of_the_table():
    rng = np.random.default_rng(8)
    table = rates([*series(rng, range(24), 0.02), *series(rng, range(24, 40), 0.06)])
    expected = ska.control_chart(table, limits_before=pd.Timestamp("2026-11-03", tz="Europe/Berlin"))
    pd.testing.assert_frame_equal(ska.control_chart(table, limits_before="2026-11-03"), expected)
    assert not expected.equals(ska.control_chart(table))
    with pytest.raises(ValueError, match="limits_before"):
        ska.control_chart(table, limits_before="2026-11-03T00:00")


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([(h, "P", "v7", 2, 100) for h in range(9)], "few_buckets"),
        ([(h, "P", "v7", 0, 100) for h in range(25)], "clustering_not_estimable"),
        ([(h, "P", "v7", 9, 9) for h in range(25)], "clustering_not_estimable"),
        ([(h, "P", "v7", 0, 0) for h in range(25)], "few_buckets"),
    ],
)
def test_without_enough_to_go_by_there_are_no_limits_no_marks_and_a_reason(rows, code):
    chart = ska.control_chart(rates(rows))
    assert chart["note"].str.split(";").map(lambda codes: code in codes).all()
    assert chart[["lower_limit", "upper_limit", "sigma_z"]].isna().all().all()
    assert not chart["out_of_control"].any()


def test_a_note_that_was_there_stays():
    table = rates([(h, "P", "v7", 2, 100) for h in range(3)])
    table["note"] = pd.array(["low_coverage", "", pd.NA], dtype="string")
    assert ska.control_chart(table)["note"].tolist() == [
        "low_coverage;few_buckets",
        "few_buckets",
        "few_buckets",
    ]


def test_an_empty_table_stays_empty_and_gains_the_columns():
    chart = ska.control_chart(rates([]))
    assert len(chart) == 0
    assert chart.columns[-6:].tolist() == NEW


def test_what_is_no_table_of_rates_is_refused():
    with pytest.raises(TypeError, match=r"the DataFrame that rates\(\) returns, found list"):
        ska.control_chart([])
    with pytest.raises(InvalidFrame, match="missing column 'error_rate'"):
        ska.control_chart(rates([]).drop(columns="error_rate"))
