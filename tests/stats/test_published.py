"""The other intervals that the sources publish: those that scipy and statsmodels get right, and our distance.

Where a library is wrong, a short root search here stands in for it. Every case also says how far what this
package uses is from it: near enough to be used instead, or on the safe side.
"""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import xlogy
from scipy.stats import beta, chi2, norm

from safetykit_analytics.stats import cluster_rates, quantile_interval
from safetykit_analytics.stats.difference import newcombe
from tests.stats.sides import compare_sides, wilson

Z = norm.ppf(0.975)


def score_interval(x1, n1, x2, n2, *, is_ratio=False, correction=1.0):
    """Values that the score test of p1 - p2 (or p1 / p2) does not reject, the nuisance fitted numerically."""

    def first(value, p2):
        return value * p2 if is_ratio else p2 + value

    def excess(value):
        low, high = (0.0, min(1.0, 1.0 / value)) if is_ratio else (max(0.0, -value), min(1.0, 1.0 - value))

        def minus_likelihood(p2):
            p1 = min(max(first(value, p2), 0.0), 1.0)
            return -(xlogy(x1, p1) + xlogy(n1 - x1, 1 - p1) + xlogy(x2, p2) + xlogy(n2 - x2, 1 - p2))

        p2 = minimize_scalar(minus_likelihood, bounds=(low, high), options={"xatol": 1e-12}).x
        p1 = first(value, p2)
        slope = value if is_ratio else 1.0
        variance = p1 * (1 - p1) / n1 + slope**2 * p2 * (1 - p2) / n2
        distance = x1 / n1 - (value * x2 / n2 if is_ratio else x2 / n2 + value)
        return distance**2 - Z**2 * variance * correction

    estimate = (x1 / n1) / (x2 / n2) if is_ratio else np.clip(x1 / n1 - x2 / n2, -1 + 1e-6, 1 - 1e-6)
    edges = (1e-6, 1e4) if is_ratio else (-1 + 1e-9, 1 - 1e-9)
    # At the estimate the excess is negative; where it is so at the edge too, the interval ends there.
    return tuple(brentq(excess, edge, estimate) if excess(edge) > 0 else edge for edge in edges)


def numbers(case):
    return tuple(case["input"][name] for name in ("x1", "n1", "x2", "n2"))


@pytest.mark.parametrize("name", ["wilson_81_263", "wilson_0_20", "wilson_4_10"])
def test_wilsons_interval_is_within_the_published_exact_one(reference_cases, name):
    from statsmodels.stats.proportion import proportion_confint

    case = reference_cases[name]
    x, n = case["input"]["x"], case["input"]["n"]
    published = case["expected"]["clopper_pearson"]
    assert np.allclose(proportion_confint(x, n, method="beta"), published, rtol=0, atol=case["tol"])
    low, high = wilson(x, n)
    assert published[0] < low + case["tol"] < high <= published[1]


def test_wilsons_interval_has_nearly_the_centre_of_agresti_and_coulls(reference_cases):
    case = reference_cases["wilson_4_10"]
    # Published with 2 errors and 2 successes added, which are z²/2 = 1.92 of each, rounded.
    p = (4 + 2) / (10 + 4)
    half = Z * np.sqrt(p * (1 - p) / 14)
    assert np.allclose([p - half, p + half], case["expected"]["agresti_coull"], rtol=0, atol=case["tol"])
    assert np.mean(wilson(4, 10)) == pytest.approx(p, abs=0.001)


def test_wilsons_upper_end_is_near_jeffreys(reference_cases):
    case = reference_cases["jeffreys_bcd"]
    for name, published in case["expected"].items():
        x, n = map(int, name.split("/"))
        low, high = beta.ppf([0.025, 0.975], x + 0.5, n - x + 0.5)
        jeffreys = [low if x else 0.0, high]
        assert np.allclose(jeffreys, published, rtol=0, atol=case["tol"])
        assert np.allclose(wilson(x, n), published, rtol=0, atol=0.07)


@pytest.mark.parametrize(
    "name",
    [*(f"newcombe_diff_{case}" for case in "abefh"), "perondi_diff"],
)
def test_newcombes_interval_is_near_the_score_intervals_of_mee_and_of_miettinen_and_nurminen(
    reference_cases, name
):
    case = reference_cases[name]
    x1, n1, x2, n2 = numbers(case)
    size = n1 + n2
    expected = case["expected"]
    mn = expected.get("miettinen_nurminen", expected.get("mn"))
    assert np.allclose(score_interval(x1, n1, x2, n2), expected["mee"], rtol=0, atol=case["tol"])
    corrected = score_interval(x1, n1, x2, n2, correction=size / (size - 1))
    assert np.allclose(corrected, mn, rtol=0, atol=case["tol"])
    assert np.allclose(newcombe(x2 / n2, n2, x1 / n1, n1, Z), mn, rtol=0, atol=0.06)


def test_the_example_of_miettinen_and_nurminen_is_met_to_eight_digits(reference_cases):
    case = reference_cases["mn_ex5"]
    x1, n1, x2, n2 = numbers(case)
    found = score_interval(x1, n1, x2, n2, correction=30 / 29)
    assert np.allclose(found, case["expected"]["miettinen_nurminen"], rtol=0, atol=case["tol"])
    assert np.allclose(newcombe(0.0, n2, 0.0, n1, Z), found, rtol=0, atol=0.01)


def test_walds_and_agresti_and_caffos_intervals_are_statsmodels(reference_cases):
    from statsmodels.stats.proportion import confint_proportions_2indep

    case = reference_cases["perondi_diff"]
    for method, key in (("wald", "wald"), ("agresti-caffo", "agresti_caffo")):
        found = confint_proportions_2indep(*numbers(case), method=method, compare="diff")
        assert np.allclose(found, case["expected"][key], rtol=0, atol=case["tol"])


def test_the_score_interval_of_a_ratio_in_statsmodels_is_wrong_where_everything_is_an_error(reference_cases):
    from statsmodels.stats.proportion import confint_proportions_2indep

    case = reference_cases["rr_mn_ratio_29_11"]
    found = confint_proportions_2indep(*numbers(case), compare="ratio", method="score")
    assert abs(found[0]) > case["expected"]["mn_ratio"][0] + 0.2


def linearised(x, n):
    """Variance of Σx/Σn with m/(m-1), and the design effect, as Rao and Scott have them."""
    p, total, m = x.sum() / n.sum(), n.sum(), len(n)
    variance = m / (m - 1) * ((x - p * n) ** 2).sum() / total**2
    return p, variance, variance * total / (p * (1 - p))


def test_litters_have_the_published_rao_scott_donner_and_welch_values_and_ours_agree(reference_cases):
    from statsmodels.stats.proportion import proportions_chisquare

    case = reference_cases["weil_raoscott"]
    expected, tol = case["expected"], case["tol"]
    sides = [np.array(case["input"][side], float).T for side in ("control", "treated")]
    x, n = (np.array([side[i].sum() for side in sides]) for i in (0, 1))
    (p1, v1, deff1), (p2, v2, deff2) = (linearised(*side) for side in sides)
    naive = proportions_chisquare(x, n)
    assert (naive[0], naive[1]) == pytest.approx((expected["naive_chi2"], expected["naive_p"]), abs=tol)
    deffs = np.array([deff1, deff2])
    assert np.allclose(deffs, expected["deff"], rtol=0, atol=tol)
    assert np.allclose(np.column_stack([x, n]) / deffs[:, None], expected["eff_counts"], rtol=0, atol=tol)
    adjusted = proportions_chisquare(x / deffs, n / deffs)
    assert adjusted[0] == pytest.approx(expected["raoscott_chi2"], abs=tol)
    assert adjusted[1] == pytest.approx(expected["raoscott_p"], abs=tol)

    icc, c = donner(sides)
    assert icc == pytest.approx(expected["donner_icc"], abs=tol)
    assert np.allclose(c, expected["donner_C"], rtol=0, atol=tol)
    pooled = x.sum() / n.sum()
    statistic = ((x - n * pooled) ** 2 / (n * c * pooled * (1 - pooled))).sum()
    assert statistic == pytest.approx(expected["donner_chi2"], abs=tol)
    assert chi2.sf(statistic, 1) == pytest.approx(expected["donner_p"], abs=tol)
    naive_interval = newcombe(x[1] / n[1], n[1], x[0] / n[0], n[0], Z)
    assert np.allclose(naive_interval, expected["newcombe_naive"], rtol=0, atol=tol)

    welch = expected["welch_lin"]
    assert np.allclose([v1, v2], expected["v_lin"], rtol=0, atol=tol)
    assert expected["delta_method_equal"]
    assert (p1 - p2, np.sqrt(v1 + v2)) == pytest.approx((welch["diff"], welch["se"]), abs=tol)
    assert (v1 + v2) ** 2 / (v1**2 / 15 + v2**2 / 15) == pytest.approx(welch["df"], abs=1e-4)
    assert (p1 - p2) / np.sqrt(v1 + v2) == pytest.approx(welch["t"], abs=tol)

    ours = compare_sides(*(np.column_stack(side) for side in reversed(sides)))
    # All that respect the litters see little; ours lies between Rao and Scott's and Welch's, or near.
    assert expected["raoscott_p"] < expected["donner_p"] < welch["p"]
    assert ours.p_value[0] == pytest.approx(welch["p"], abs=0.01)


def donner(sides):
    """ICC by analysis of variance over both sides, and each side's inflation of the variance."""
    size = sum(n.sum() for _, n in sides)
    clusters = sum(len(n) for _, n in sides)
    within = sum((x * (1 - x / n)).sum() for x, n in sides)
    between = sum((n * (x / n - x.sum() / n.sum()) ** 2).sum() for x, n in sides)
    mean_size = (size - sum((n**2).sum() / n.sum() for _, n in sides)) / (clusters - len(sides))
    msw, msb = within / (size - clusters), between / (clusters - len(sides))
    icc = (msb - msw) / (msb + (mean_size - 1) * msw)
    return icc, np.array([(n * (1 + (n - 1) * icc)).sum() / n.sum() for _, n in sides])


def test_households_have_the_published_icc_and_wilson_interval_and_ours_is_no_narrower(reference_cases):
    case = reference_cases["liang_icc"]
    x = np.array(
        [0] * 36 + [1] * 12 + [0] * 15 + [1] * 7 + [2] + [0] * 5 + [1] * 7 + [2] * 3 + [3] * 2
        + [0] * 3 + [1] * 3 + [2] + [0, 2, 3, 4, 6], float
    )  # fmt: skip
    n = np.repeat([1, 2, 3, 4, 6], [48, 23, 17, 7, 5]).astype(float)
    expected, tol = case["expected"], case["tol"]
    icc, inflation = donner([(x, n)])
    assert len(n) == expected["clusters"]
    assert icc == pytest.approx(expected["icc"], abs=tol)
    assert inflation[0] == pytest.approx(expected["xi"], abs=tol)
    effective = wilson(60 / inflation[0], 203 / inflation[0])
    assert np.allclose(effective, expected["wilson_eff"], rtol=0, atol=tol)
    ours = cluster_rates(np.zeros(100, int), x, n, n_groups=1)
    assert ours.low[0] < effective[0] < effective[1] < ours.high[0]


def test_statsmodels_gives_the_published_power_and_sample_size(reference_cases):
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    case = reference_cases["power_prop"]
    p1, p2, alpha = (case["input"][name] for name in ("p1", "p2", "alpha"))
    expected = case["expected"]

    def power(n):
        pooled = np.sqrt(2 * (p1 + p2) / 2 * (1 - (p1 + p2) / 2))
        se = np.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
        return norm.cdf((np.sqrt(n) * abs(p2 - p1) - norm.isf(alpha / 2) * pooled) / se)

    assert power(50) == pytest.approx(expected["power_n50"], abs=case["tol"])
    assert brentq(lambda n: power(n) - 0.9, 10, 200) == pytest.approx(expected["n_for_90"], abs=0.05)
    assert expected["statsmodels_n"] == pytest.approx(brentq(lambda n: power(n) - 0.9, 10, 200), abs=0.01)
    # Cohen's effect size is another approximation of the same power.
    cohen = NormalIndPower().power(proportion_effectsize(p2, p1), 50, alpha)
    assert cohen == pytest.approx(power(50), abs=0.01)


def test_freireichs_trial_has_the_published_logrank_test_and_ours_tells_the_arms_apart(reference_cases):
    case = reference_cases["freireich"]
    expected, tol = case["expected"], case["tol"]
    time, event = (np.array(case["input"]["sixmp"][name], float) for name in ("time", "event"))
    placebo = np.array(case["input"]["placebo"], float)
    excess = variance = 0.0
    for t in np.union1d(placebo, time[event == 1]):
        treated, alike = ((time == t) & (event == 1)).sum(), (placebo == t).sum()
        at_risk = (time >= t).sum()
        total, events = at_risk + (placebo >= t).sum(), treated + alike
        share = at_risk / total
        excess += treated - events * share
        variance += events * share * (1 - share) * (total - events) / max(total - 1, 1)
    z = excess / np.sqrt(variance)
    assert (z, z**2) == pytest.approx((expected["logrank_z"], expected["logrank_chi2"]), abs=tol)
    assert chi2.sf(z**2, 1) == pytest.approx(expected["p"], abs=tol)
    assert (placebo.sum(), len(placebo)) == (expected["person_time"][1], expected["events"][1])
    ours = quantile_interval(placebo, placebo, np.ones(21, bool), 0.5)
    treated = quantile_interval(time, time, event.astype(bool), 0.5)
    assert ours[0] <= expected["median"][1] <= ours[1] < treated[0] <= expected["median"][0]
