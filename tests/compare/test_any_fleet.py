"""Whatever a fleet looks like: no warning, no missing number without its reason, no markup, no crash."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

import safetykit_analytics as ska
from tests.compare.helpers import observations
from tests.effort import examples

VERSIONS = ["v7", "v8", "v10", None]
VERDICTS = {"higher", "lower", "higher since", "lower since", "no difference found", "not enough batches"}
NUMBERS = [
    *("error_rate", "error_rate_low", "error_rate_high", "cancelled_share", "throughput_per_batch_hour"),
    *("median_low", "median_high"),
]
OF_CANDIDATES = [
    *("difference", "difference_low", "difference_high", "relative_risk", "relative_risk_low"),
    *("relative_risk_high", "p_value", "p_adjusted", "mde", "overlap", "design", "e_value", "p_anytime"),
]


@st.composite
def fleets(draw):
    """Batches of every sort: empty and huge, all or no errors, without creation time, relabelled, running."""
    rows = []
    for i in range(draw(st.integers(1, 25))):
        n = draw(st.sampled_from([0, 1, 10, 10, 300, 10_000]))
        y = draw(st.sampled_from([0, n, n // 2, n // 50, min(n, 3)]))
        created = draw(st.sampled_from([None, 0.0, 1.0, 5.0]))
        version, policy = draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(["P", None]))
        status = draw(st.sampled_from(["SUCCESS", "SUCCESS", "SUCCESS", "ERROR", "CANCELLED", "PENDING"]))
        cancelled = draw(st.sampled_from([0, 7]))
        if draw(st.booleans()):
            rows.append(
                (f"b{i}", 2.0, created, "PENDING", 0, 0, 0, n, policy, draw(st.sampled_from(VERSIONS)))
            )
        rows.append((f"b{i}", 6.0, created, status, n - y, y, cancelled, 0, policy, version))
    return observations(rows)


@given(
    fleets(),
    st.sampled_from(["holm", "bh", "none", None]),
    st.sampled_from([0.8, 0.95]),
    st.sampled_from(["any", "once"]),
)
@examples(100)
def test_a_comparison_of_any_fleet_is_whole(data, correction, confidence, looks):
    found = ska.compare_versions(data, correction=correction, confidence=confidence, looks=looks)
    table = found.table
    is_candidate = (table["role"] == "candidate").to_numpy(dtype=bool)
    assert set(table.loc[is_candidate, "verdict"].dropna()) <= VERDICTS
    assert table.loc[~is_candidate, ["verdict", *OF_CANDIDATES]].isna().all().all()
    noted = (table["note"] != "").to_numpy(dtype=bool)
    assert noted[table[NUMBERS].isna().any(axis=1).to_numpy()].all()

    rows = table[is_candidate]
    is_known = rows["difference_low"].notna()
    assert (rows["difference_low"] <= rows["difference"] + 1e-12)[is_known].all()
    assert (rows["difference"] <= rows["difference_high"] + 1e-12)[is_known].all()
    assert (rows["difference_low"].dropna() >= -1).all()
    assert rows["overlap"].dropna().between(0, 1).all()
    p = rows["p_anytime" if looks == "any" else "p_value"]
    assert (rows["p_adjusted"] >= p - 1e-12)[p.notna()].all()
    decided = rows["verdict"].isin(["higher", "lower"]).to_numpy(dtype=bool)
    assert (rows["p_adjusted"][decided] < 1 - confidence).all()
    assert (rows["n_batches"][decided] >= 3).all()
    # The interval leaves out zero exactly where there is a verdict, and on its side.
    enough = rows[is_known & rows["verdict"].isin(["higher", "lower", "no difference found"])]
    assert ((enough["difference_low"] > 0) == (enough["verdict"] == "higher")).all()
    assert ((enough["difference_high"] < 0) == (enough["verdict"] == "lower")).all()

    n_said = len(found.sentences)
    assert n_said == (is_candidate.sum() + 1 if is_candidate.any() else 1)
    assert "nan" not in " ".join(found.sentences).lower()
    assert len(found.to_markdown().splitlines()) == n_said + 3 + len(table)
    assert "nan" not in found._repr_html_().lower()


@given(fleets())
@examples(70)
def test_counts_of_any_fleet_are_those_of_the_batches_that_count(data):
    table = ska.compare_versions(data).table.drop_duplicates(["policy_id", "policy_version"])
    data = data.sort_values("observed_at")
    last = data.groupby("batch_id").last()
    kinds = data.groupby("batch_id")["policy_version"].agg(lambda names: names.dropna().nunique())
    counts = last[last["is_terminal"] & (kinds.reindex(last.index) <= 1)]
    counts = counts[counts["success_count"] + counts["error_count"] > 0]
    assert table["n_batches"].sum() == len(counts)
    assert table["error"].sum() == counts["error_count"].sum()
    left_out = sum(
        table["note"].str.extract(rf"{code}:(\d+)")[0].fillna("0").astype(int).sum()
        for code in ("batches_excluded", "open")
    )
    assert left_out + len(counts) == len(last)


@given(fleets())
@examples(70)
def test_completion_times_of_any_fleet_are_brackets(data):
    table = ska.completion_time(data, confidence=0.9)
    assert (table["n_running"] <= table["n_batches"]).all()
    for name in ("median", "p90"):
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        assert (low <= high)[high.notna()].all()
        assert low[high.notna()].notna().all()
        outer_low, outer_high = table[f"{name}_ci_low"], table[f"{name}_ci_high"]
        assert (outer_low <= low)[low.notna()].all()
        assert (outer_high >= high)[outer_high.notna()].all()
    assert (table["median_low"] <= table["p90_low"])[table["p90_low"].notna()].all()


def test_a_policy_of_very_many_versions_is_compared_and_said_in_full():
    rng = np.random.default_rng(1)
    rows = [
        (f"b{v}-{i}", 2.0, 0.0, "SUCCESS", 100, int(rng.integers(0, 9)), 0, 0, "P", f"v{v}")
        for v in range(25)
        for i in range(4)
    ]
    found = ska.compare_versions(observations(rows), policy_id="P", baseline="v0")
    assert len(found.sentences) == 25
    assert found.table["policy_version"].tolist() == [f"v{v}" for v in range(25)]
    assert isinstance(found.table, pd.DataFrame)
