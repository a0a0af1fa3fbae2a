"""week_over_week, verdicts and adjust: published values, independent oracles, invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from safetykit_analytics.stats import Differences, adjust, cluster_rates, verdicts, week_over_week
from safetykit_analytics.stats.difference import newcombe
from tests.stats.sides import compare_sides


def two_sides(baseline, candidate, **options):
    """Compare two lists of (errors, processed) per batch; plain values."""
    found = compare_sides(baseline, candidate, **options)
    return {name: getattr(found, name)[0] for name in found.__dataclass_fields__}


def some_batches(rng, m, rate=0.02, icc=0.005):
    n = np.clip(np.exp(rng.normal(6, 1.3, m)), 5, 10_000).astype(int)
    scale = (1 - icc) / icc
    return np.column_stack([rng.binomial(n, rng.beta(rate * scale, (1 - rate) * scale, m)), n])


@pytest.mark.parametrize(
    "name",
    [*(f"newcombe_diff_{case}" for case in "abefh"), "perondi_diff"],
)
def test_newcombe_gives_the_published_interval(reference_cases, name):
    from statsmodels.stats.proportion import confint_proportions_2indep

    case = reference_cases[name]
    x1, n1, x2, n2 = (float(case["input"][key]) for key in ("x1", "n1", "x2", "n2"))
    found = newcombe(x2 / n2, n2, x1 / n1, n1, scipy_stats.norm.ppf(0.975))
    assert np.allclose(found, case["expected"]["newcombe10"], rtol=0, atol=case["tol"])
    assert np.allclose(
        found, confint_proportions_2indep(x1, n1, x2, n2, method="newcomb"), rtol=0, atol=1e-12
    )


def test_newcombe_on_the_published_effective_counts_gives_the_published_interval(reference_cases):
    expected = reference_cases["weil_raoscott"]["expected"]
    (x1, n1), (x2, n2) = expected["eff_counts"]
    found = newcombe(x2 / n2, n2, x1 / n1, n1, scipy_stats.norm.ppf(0.975))
    assert np.allclose(found, expected["newcombe_eff"], rtol=0, atol=1e-5)


def test_litters_differ_by_the_published_amount_and_about_as_surely(reference_cases):
    case = reference_cases["weil_raoscott"]
    found = two_sides(case["input"]["treated"], case["input"]["control"])
    published = case["expected"]["welch_lin"]
    assert found["difference"] == pytest.approx(published["diff"], abs=case["tol"])
    # Published with m/(m-1) for 1/(1-h) and m-1 for Bell and McCaffrey's df: near, not the same.
    assert np.sqrt(found["variance"]) == pytest.approx(published["se"], rel=0.02)
    assert found["p_value"] == pytest.approx(published["p"], abs=0.01)
    # The pooled test finds what is not there.
    assert case["expected"]["naive_p"] < 0.01
    assert found["p_value"] > 0.05


def test_with_batches_of_one_size_it_is_welchs_t_test():
    rng = np.random.default_rng(2)
    one, two = rng.integers(0, 40, 8), rng.integers(10, 60, 12)
    found = two_sides([(y, 1000) for y in one], [(y, 1000) for y in two])
    welch = scipy_stats.ttest_ind(two / 1000, one / 1000, equal_var=False)
    assert found["difference"] == pytest.approx(two.mean() / 1000 - one.mean() / 1000)
    # Never more degrees of freedom than Welch's, nor than equal variances would have.
    assert found["df"] == pytest.approx(
        min(welch.df, 1 / (1 / 64 / 7 + 1 / 144 / 11) * (1 / 8 + 1 / 12) ** 2)
    )
    t = scipy_stats.t(found["df"])
    assert found["p_value"] == pytest.approx(2 * t.sf(abs(welch.statistic)))
    half = t.ppf(0.975) * found["difference"] / welch.statistic
    assert (found["low"], found["high"]) == pytest.approx(
        (found["difference"] - half, found["difference"] + half)
    )


def test_the_variance_is_that_of_a_regression_on_the_version_with_hc2():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    one, two = some_batches(rng, 9), some_batches(rng, 14)
    found = two_sides(one, two)
    y, n = np.vstack([one, two]).T
    x = sm.add_constant(np.repeat([0.0, 1.0], [9, 14]))
    fit = sm.WLS(y / n, x, weights=n).fit(cov_type="HC2")
    assert found["difference"] == pytest.approx(fit.params[1], rel=1e-9)
    assert found["variance"] == pytest.approx(fit.cov_params()[1, 1], rel=1e-9)


def test_a_variance_that_is_small_by_chance_does_not_lend_degrees_of_freedom():
    # Three near-equal batches on one side, so that the other side's thirty seem to decide alone.
    rng = np.random.default_rng(5)
    found = two_sides([(20, 1000), (20, 1000), (21, 1000)], some_batches(rng, 30, rate=0.05))
    assert found["df"] < 4
    assert not found["is_enough"]


MANY = [(3, 100), (0, 100), (9, 120), (4, 90), (2, 100)]


@pytest.mark.parametrize(
    ("baseline", "candidate", "note"),
    [
        ([], MANY, "no_decisions"),
        (MANY, [(0, 0), (0, 0)], "no_decisions"),
        (MANY, [(5, 100)], "clustering_not_estimable"),
        (MANY, [(0, 100)] * 5, "clustering_not_estimable"),
        ([(0, 100)] * 5, MANY, "clustering_not_estimable"),
        ([(100, 100)] * 5, MANY, "clustering_not_estimable"),
        ([(100, 100)] * 5, [(0, 10)] * 5, "clustering_not_estimable"),
        ([(2, 100)] * 5, MANY, "clustering_not_estimable"),
        (MANY, [(5, 100), (-1, -10), (4, 100)], "reprocessed"),
        ([(5, 100), (-1, -10), (4, 100)], MANY, "reprocessed"),
        (MANY, MANY, ""),
    ],
)
def test_what_cannot_be_compared_has_its_reason_and_no_verdict(baseline, candidate, note):
    found = two_sides(baseline, candidate)
    assert found["note"] == note
    assert np.isnan(found["difference"]) == (note == "no_decisions")
    assert np.isnan(found["low"]) == (note in {"no_decisions", "reprocessed"})
    for name in ("df", "p_value", "variance"):
        assert np.isnan(found[name]) == (note != "")
    assert found["is_enough"] == (note == "")


@pytest.mark.parametrize("silent", [[(5, 200)], [(2, 80), (3, 120)]])
def test_a_side_that_cannot_tell_takes_the_other_sides_design_effect(silent):
    from statsmodels.stats.proportion import confint_proportions_2indep

    rates = cluster_rates([0] * 5 + [1] * len(silent), *np.array([*MANY, *silent], float).T, n_groups=2)
    deff = rates.deff[0]
    low, high = confint_proportions_2indep(
        5 / deff, 200 / deff, rates.errors[0] / deff, rates.processed[0] / deff, method="newcomb"
    )
    assert deff > 2
    there, back = two_sides(MANY, silent), two_sides(silent, MANY)
    assert (there["low"], there["high"]) == pytest.approx((low, high))
    assert (back["low"], back["high"]) == pytest.approx((-high, -low))


def test_statsmodels_score_interval_of_a_difference_is_wrong_and_not_used(reference_cases):
    from statsmodels.stats.proportion import confint_proportions_2indep

    case = reference_cases["newcombe_diff_a"]
    x1, n1, x2, n2 = (case["input"][key] for key in ("x1", "n1", "x2", "n2"))
    published = case["expected"]["miettinen_nurminen"]
    found = confint_proportions_2indep(x1, n1, x2, n2, compare="diff", method="score")
    assert abs(found[1] - published[1]) > 0.005
    z = scipy_stats.norm.ppf(0.975)
    assert abs(newcombe(x2 / n2, n2, x1 / n1, n1, z)[1] - published[1]) < 0.005


def test_statsmodels_binomial_model_scaled_by_x2_is_wrong_and_not_used():
    import statsmodels.api as sm

    # One large batch errs at 8 %, many small ones at 2 %.
    y, n = np.array([(800, 10_000), *[(2, 100)] * 49]).T
    model = sm.GLM(np.c_[y, n - y], np.ones(50), family=sm.families.Binomial()).fit(scale="X2")
    # By its definition the scale is Pearson's X² / df; here it comes out below 1, "less than independent".
    assert model.pearson_chi2 / model.df_resid > 4
    assert model.scale < 0.1
    p = y.sum() / n.sum()
    variance = model.cov_params()[0, 0] * (p * (1 - p)) ** 2
    ours = cluster_rates(np.zeros(50, int), y, n, n_groups=1)
    assert ours.variance[0] > 1000 * variance
    assert ours.deff[0] > 40


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12))
@settings(max_examples=60)
def test_swapping_the_sides_mirrors_everything(seed, m1, m2):
    rng = np.random.default_rng(seed)
    one, two = some_batches(rng, m1), some_batches(rng, m2)
    there, back = two_sides(one, two), two_sides(two, one)
    assert there["difference"] == pytest.approx(-back["difference"])
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]), nan_ok=True)
    for name in ("p_value", "df"):
        assert there[name] == pytest.approx(back[name], rel=1e-9, nan_ok=True)
    assert -1 <= there["low"] <= there["difference"] <= there["high"] <= 1


def paired(first, second, **options):
    """week_over_week of one group from two lists of (errors, processed) of the same batches."""
    (y1, n1), (y2, n2) = np.array(first, float).T, np.array(second, float).T
    *_, change = week_over_week(np.zeros(len(y1), int), (y1, y2), (n1, n2), n_groups=1, **options)
    return {name: getattr(change, name)[0] for name in change.__dataclass_fields__}


def test_weeks_of_the_same_batches_of_one_size_compare_as_the_paired_t_test_does():
    rng = np.random.default_rng(8)
    one, two = rng.integers(0, 60, 9), rng.integers(0, 60, 9)
    found = paired([(y, 1000) for y in one], [(y, 1000) for y in two])
    expected = scipy_stats.ttest_rel(two, one)
    if found["df"] == pytest.approx(8):
        assert found["p_value"] == pytest.approx(expected.pvalue)
    assert found["variance"] == pytest.approx(((two - one) / 1000).var(ddof=1) / 9)


def test_the_variance_over_two_weeks_is_the_sum_of_squared_differences_of_residuals():
    rng = np.random.default_rng(9)
    first, second = some_batches(rng, 12).astype(float), some_batches(rng, 12).astype(float)
    first[:4], second[8:] = 0, 0  # four batches in the second week only, four in both, four in the first only
    terms = []
    for y, n in (first.T, second.T):
        h = n / n.sum()
        terms.append((y - y.sum() / n.sum() * n) / (n.sum() * np.sqrt(1 - h)))
    assert paired(first, second)["variance"] == pytest.approx(((terms[0] - terms[1]) ** 2).sum(), rel=1e-9)


def test_the_degrees_of_freedom_over_two_weeks_trace_the_whole_matrix():
    rng = np.random.default_rng(10)
    first, second = some_batches(rng, 10).astype(float), some_batches(rng, 10).astype(float)
    second[:3] = 0
    rates, matrices = [], []
    for y, n in (first.T, second.T):
        h = n / n.sum()
        rates.append(cluster_rates(np.zeros(10, int), y, n, n_groups=1))
        residuals = np.diag(1 / np.sqrt(1 - h)) @ (np.eye(10) - np.outer(h, np.ones(10)))
        matrices.append(residuals @ np.diag(h) @ residuals.T)  # its trace is 1: a period's share of V
    expected = []
    for scale in ([r.variance[0] for r in rates], [r.leverage[0] for r in rates]):
        whole = scale[0] * matrices[0] + scale[1] * matrices[1]
        expected.append(np.trace(whole) ** 2 / np.trace(whole @ whole))
    assert paired(first, second)["df"] == pytest.approx(min(expected), rel=1e-9)


def test_weeks_that_are_exactly_alike_in_every_batch_show_nothing():
    found = paired(MANY, MANY)
    assert found["difference"] == 0
    assert found["note"] == "clustering_not_estimable"
    assert found["low"] < 0 < found["high"]


def test_groups_of_weeks_do_not_mix():
    rng = np.random.default_rng(11)
    first, second = some_batches(rng, 20), some_batches(rng, 20)
    group = np.arange(20) % 2
    *_, change = week_over_week(group, (first[:, 0], second[:, 0]), (first[:, 1], second[:, 1]), n_groups=3)
    for g in (0, 1):
        alone = paired(first[group == g], second[group == g])
        assert change.p_value[g] == pytest.approx(alone["p_value"])
    assert change.note[2] == "no_decisions"


def test_holm_and_benjamini_hochberg_give_the_published_values(reference_cases):
    case = reference_cases["bh1995"]
    p, expected = case["input"]["p"], case["expected"]
    holm, bh = adjust(p, "holm"), adjust(p, "bh")
    assert (holm < 0.05).sum() == expected["holm"]
    assert (bh < 0.05).sum() == expected["bh"]
    assert bh[3] == pytest.approx(expected["bh_adj4"], abs=case["tol"])
    assert np.allclose(holm[:4], expected["holm_adj"], rtol=0, atol=case["tol"])
    assert (np.array(p) * len(p) < 0.05).sum() == expected["bonferroni"]
    assert adjust(p, "none").tolist() == p


def test_a_missing_p_value_is_no_comparison():
    assert adjust([0.01, np.nan, 0.02], "bh")[[0, 2]].tolist() == adjust([0.01, 0.02], "bh").tolist()
    assert np.isnan(adjust([np.nan, np.nan], "holm")).all()
    assert adjust([], "holm").tolist() == []


def test_an_unknown_correction_is_refused():
    with pytest.raises(ValueError, match="'holm', 'bh' or 'none'; found 'sidak'"):
        adjust([0.1], "sidak")


def test_a_verdict_follows_the_adjusted_p_value_the_sign_and_the_gate():
    low, high = [(y, 100) for y in (2, 4, 3, 2, 5)], [(y, 100) for y in (19, 22, 17, 20, 18)]
    pairs = [(low, high), (high, low), (low, [(1, 100), (5, 100)]), (low, high)]
    each = [compare_sides(*pair) for pair in pairs]
    found = Differences(
        *(np.concatenate([getattr(one, name) for one in each]) for name in Differences.__dataclass_fields__)
    )
    assert verdicts(found, [0.01, 0.01, 0.01, 0.06]).tolist() == [
        "higher", "lower", "not enough batches", "no difference found",
    ]  # fmt: skip
    assert verdicts(found, [0.06] * 4, confidence=0.9).tolist()[0] == "higher"
    assert verdicts(found, [0.5] * 4, confidence=0.5).tolist()[0] == "no difference found"
