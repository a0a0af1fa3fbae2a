"""cluster_rates and wilson: against published values, independent implementations and their invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from safetykit_analytics.stats import cluster_rates
from tests.stats.sides import wilson


def one_group(errors, processed, **options):
    """The only group's estimates, as plain Python values."""
    result = cluster_rates(np.zeros(len(errors), int), errors, processed, n_groups=1, **options)
    return {name: getattr(result, name)[0] for name in result.__dataclass_fields__}


@pytest.mark.parametrize("name", ["wilson_81_263", "wilson_0_20", "wilson_4_10"])
def test_wilson_gives_the_published_interval(reference_cases, name):
    case = reference_cases[name]
    found = wilson(case["input"]["x"], case["input"]["n"])
    assert np.allclose(found, case["expected"]["wilson"], rtol=0, atol=case["tol"])
    if "wilson_full" in case["expected"]:
        assert np.allclose(found, case["expected"]["wilson_full"], rtol=0, atol=1e-15)


def test_wilson_agrees_with_statsmodels_on_fractional_counts():
    from statsmodels.stats.proportion import proportion_confint

    assert np.allclose(wilson(2.5, 31.25), proportion_confint(2.5, 31.25, method="wilson"), rtol=1e-12)


def test_the_variance_is_hc2_of_batch_rates_weighted_by_their_size():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, 2], [3, 8, 20])
    n = rng.integers(1, 10_000, len(group))
    y = rng.binomial(n, 0.02)
    found = cluster_rates(group, y, n, n_groups=3)
    fit = sm.WLS(y / n, np.eye(3)[group], weights=n).fit(cov_type="HC2")
    assert np.allclose(found.rate, fit.params, rtol=1e-12)
    assert np.allclose(found.variance, np.diag(fit.cov_params()), rtol=1e-9)


def test_the_degrees_of_freedom_are_bell_and_mccaffreys_traced_through_the_whole_matrix():
    n = np.array([10.0, 300.0, 45.0, 2000.0, 7.0])
    h = n / n.sum()
    # v = ε'Bε with cov(ε) = diag(n): residuals, CR2 factors, and the trace formula, written as matrices.
    residuals = np.eye(5) - np.outer(n, np.ones(5)) / n.sum()
    factors = np.diag(1 / np.sqrt(1 - h))
    covariance = factors @ residuals @ np.diag(n) @ residuals.T @ factors.T
    expected = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert one_group([1, 9, 2, 40, 0], n)["df"] == pytest.approx(expected, rel=1e-12)


def test_the_interval_is_wilsons_on_the_effective_number_with_the_t_quantile():
    found = one_group([4, 1, 9, 3, 2, 11], [100, 80, 120, 90, 100, 130])
    effective = 620 / found["deff"]
    t = student.ppf(0.975, found["df"])
    # What Wilson's interval means: from the rates at its ends the estimate is just t standard errors off.
    for end in (found["low"], found["high"]):
        assert abs(found["rate"] - end) == pytest.approx(t * np.sqrt(end * (1 - end) / effective), rel=1e-9)
    assert found["deff"] == pytest.approx(found["variance"] / (found["rate"] * (1 - found["rate"]) / 620))


def test_equal_batches_have_the_classical_variance_and_m_minus_one_degrees_of_freedom():
    rates = np.array([0.01, 0.05, 0.02, 0.07])
    found = one_group(rates * 1000, np.full(4, 1000))
    assert found["variance"] == pytest.approx(rates.var(ddof=1) / 4)
    assert found["df"] == pytest.approx(3)
    assert found["leverage"] == pytest.approx(0.25)


def test_litters_have_the_published_variance_up_to_the_correction_of_their_sizes(reference_cases):
    case = reference_cases["weil_raoscott"]
    expected = case["expected"]
    for i, side in enumerate(("control", "treated")):
        survived, alive = np.array(case["input"][side], float).T
        found = one_group(survived, alive)
        # The published one multiplies every residual by m/(m-1), ours each by its 1/(1-h).
        r2 = (survived - found["rate"] * alive) ** 2
        m, h = len(alive), alive / alive.sum()
        ours_over_theirs = (r2 / (1 - h)).sum() / (r2.sum() * m / (m - 1))
        assert found["variance"] / ours_over_theirs == pytest.approx(expected["v_lin"][i], abs=1e-9)
        assert found["deff"] / ours_over_theirs == pytest.approx(expected["deff"][i], abs=case["tol"])
        assert ours_over_theirs == pytest.approx(1, abs=0.02)


def liang(case):
    """The 100 households as (ill, size) arrays."""
    x = np.array([0] * 36 + [1] * 12 + [0] * 15 + [1] * 7 + [2] + [0] * 5 + [1] * 7 + [2] * 3 + [3] * 2
                 + [0] * 3 + [1] * 3 + [2] + [0, 2, 3, 4, 6], float)  # fmt: skip
    n = np.repeat([1, 2, 3, 4, 6], [48, 23, 17, 7, 5]).astype(float)
    assert [x.sum(), n.sum()] == case["expected"]["total"]
    return x, n


def test_households_have_the_published_design_effect_up_to_the_correction_of_their_sizes(reference_cases):
    case = reference_cases["liang_icc"]
    x, n = liang(case)
    found = one_group(x, n)
    r2 = (x - found["rate"] * n) ** 2
    ours_over_theirs = (r2 / (1 - n / n.sum())).sum() / (r2.sum() * 100 / 99)
    assert found["deff"] / ours_over_theirs == pytest.approx(case["expected"]["deff_lin"], abs=case["tol"])


@pytest.mark.parametrize(
    ("errors", "processed", "note"),
    [
        ([], [], "no_decisions"),
        ([0, 0], [0, 0], "no_decisions"),
        ([3], [100], "one_batch"),
        ([3, 0], [100, 0], "one_batch"),
        ([0, 0, 0], [10, 20, 30], "clustering_not_estimable"),
        ([10, 20, 30], [10, 20, 30], "clustering_not_estimable"),
        ([1, 2, 3], [10, 20, 30], "clustering_not_estimable"),
        ([1, 5, 3], [10, 20, 30], "few_batches"),
        ([1, 5, 3, 4, 9], [20] * 5, ""),
        ([1, 5, 3, 4], [20] * 4, "few_batches"),
        ([-3, 1], [10, 20], "reprocessed"),
        ([30, 1], [10, 20], "reprocessed"),
        ([1, 5], [-3, 20], "reprocessed"),
        ([0.1 + 0.2 - 0.3], [0.1 + 0.2 - 0.3], "one_batch"),
        ([1, 0.1 + 0.2 - 0.3, -1], [5, 0.1 + 0.2 - 0.3, -5], "no_decisions"),
    ],
)
def test_every_weak_or_missing_interval_has_its_reason(errors, processed, note):
    found = one_group(errors, processed)
    assert found["note"] == note
    assert np.isnan(found["rate"]) == (
        note == "no_decisions" or (note == "reprocessed" and sum(processed) == 30)
    )
    if note in {"one_batch", "clustering_not_estimable"}:
        plain = wilson(max(sum(errors), 0), sum(processed))
        assert (found["low"], found["high"]) == pytest.approx(plain)


def test_one_batch_with_nearly_everything_leaves_one_degree_of_freedom():
    found = one_group([200, 1e-8, 3e-8], [10_000, 1e-7, 2e-7])
    assert found["df"] == pytest.approx(1, abs=1e-6)
    assert found["note"] == "few_batches"
    assert found["high"] > 0.04  # 200 of 10,000 independent decisions would end at 0.023


def test_a_batch_whose_errors_became_successes_is_in_the_variance_of_the_rest():
    found = cluster_rates([0, 0, 0], [10, 12, -20], [100, 100, 0], n_groups=1)
    # By hand: p = 2/200, h = (1/2, 1/2, 0), r = (9, 11, -20), Σ r²/(1-h) / 200².
    assert found.rate[0] == pytest.approx(0.01)
    assert found.variance[0] == pytest.approx((2 * 9**2 + 2 * 11**2 + 20**2) / 200**2)
    assert found.n_clusters[0] == 2


def test_a_batch_that_is_alone_but_for_rounding_noise_is_one_batch():
    assert one_group([200, 1e-18], [10_000, 1e-17])["note"] == "one_batch"


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, float("nan")])
def test_a_confidence_that_is_no_probability_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        cluster_rates([0], [1], [2], n_groups=1, confidence=confidence)


@pytest.mark.parametrize(
    ("group", "errors", "processed", "message"),
    [
        ([0, 0], [1], [2, 2], "one length"),
        ([0, 0], [1, 1], [2], "one length"),
        ([[0]], [[1]], [[2]], "one length"),
        ([1], [1], [2], r"group must be in \[0, 1\)"),
        ([-1], [1], [2], r"group must be in \[0, 1\)"),
        ([0], [np.nan], [2], "finite"),
        ([0], [1], [np.inf], "^errors and processed must be finite; found NaN or infinity$"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(group, errors, processed, message):
    with pytest.raises(ValueError, match=message):
        cluster_rates(group, errors, processed, n_groups=1)


batches = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 10_000), st.floats(0, 1)).map(
        lambda batch: (batch[0], round(batch[1] * batch[2]), batch[1])
    ),
    max_size=30,
)


@given(batches, st.randoms(use_true_random=False))
def test_groups_are_independent_and_the_order_of_batches_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    group, y, n = np.array(shuffled, float).reshape(-1, 3).T
    found = cluster_rates(group.astype(int), y, n, n_groups=4)
    for g in range(4):
        own = [(errors, size) for index, errors, size in rows if index == g]
        alone = one_group([errors for errors, _ in own], [size for _, size in own])
        for name, value in alone.items():
            if isinstance(value, str):
                assert getattr(found, name)[g] == value
            else:
                assert getattr(found, name)[g] == pytest.approx(value, rel=1e-6, abs=1e-12, nan_ok=True)


@given(batches)
def test_an_interval_holds_its_rate_is_no_narrower_than_the_pooled_one_and_is_missing_only_with_the_rate(
    rows,
):
    group, y, n = np.array(rows, float).reshape(-1, 3).T
    found = cluster_rates(group.astype(int), y, n, n_groups=4)
    known = ~np.isnan(found.rate)
    assert (known == (np.bincount(group.astype(int), n, minlength=4) > 0)).all()
    assert (np.isnan(found.low) == ~known).all()
    assert (found.low[known] <= found.rate[known]).all()
    assert (found.rate[known] <= found.high[known]).all()
    assert ((found.low[known] >= 0) & (found.high[known] <= 1)).all()
    assert (found.note[~known] == "no_decisions").all()
    pooled = wilson(
        np.bincount(group.astype(int), y, minlength=4)[known],
        np.bincount(group.astype(int), n, minlength=4)[known],
    )
    assert (found.low[known] <= pooled[0] + 1e-12).all()
    assert (found.high[known] >= pooled[1] - 1e-12).all()
    estimable = ~np.isnan(found.df)
    assert (found.df[estimable] >= 1 - 1e-9).all()
    assert (found.df[estimable] <= found.n_clusters[estimable] - 1 + 1e-9).all()
    assert (found.deff[estimable] >= 1).all()


@given(batches, st.floats(1e-6, 1e6))
def test_the_rate_and_the_degrees_of_freedom_do_not_depend_on_the_unit_of_work(rows, scale):
    group, y, n = np.array(rows, float).reshape(-1, 3).T
    one = cluster_rates(group.astype(int), y, n, n_groups=4)
    other = cluster_rates(group.astype(int), y * scale, n * scale, n_groups=4)
    assert other.rate == pytest.approx(one.rate, rel=1e-9, nan_ok=True)
    assert other.df == pytest.approx(one.df, rel=1e-6, nan_ok=True)
    assert other.n_clusters.tolist() == one.n_clusters.tolist()
