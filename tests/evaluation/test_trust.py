"""Verdicts follow from intervals and bars, and nothing is said without a number."""

from math import nan, nextafter

import numpy as np
import pytest

from latens.evaluation.trust import trust_card, verdicts
from latens.store import CURVES, METRICS, PER_IMAGE, POWER, SHIFTS, TESTS, from_rows


def curve(metric, mean, lower, upper, solver="a", n=100, status="ok"):
    return {
        **{"solver": solver, "n": n, "metric": metric, "mean": mean},
        **{"lower": lower, "upper": upper, "level": 0.95, "data_seeds": 3},
        **{"fits": 3, "excluded": 0, "status": status},
    }


def shift(name, value, lower, upper, score="any"):
    return {
        **{"solver": "a", "n": 100, "data_seed": 0, "init_seed": 0, "shift": name},
        **{"strength": 1.0, "score": score, "number": "auroc", "value": value},
        **{"lower": lower, "upper": upper, "level": 0.95, "images": 50, "groups": 50},
        **{"status": "converged", "evaluation": "x"},
    }


def cell(metric, value, lower, upper, seed=0):
    return {
        **{"solver": "a", "n": 100, "data_seed": seed, "init_seed": 0, "metric": metric},
        **{"value": value, "lower": lower, "upper": upper, "level": 0.95, "images": 50},
        **{"groups": 50, "status": "converged", "evaluation": "x"},
    }


def ranks(quantity, p_adjusted, test="data: chi-square"):
    return {
        **{"solver": "a", "n": 100, "data_seed": 0, "init_seed": 0, "test": test},
        **{"quantity": quantity, "statistic": 30.0, "p_value": p_adjusted / 20},
        **{"p_adjusted": p_adjusted, "images": 24, "draws": 39, "evaluation": "x"},
    }


def seen(narrow=0.9, wide=0.8, seed=0, source="data"):
    cell = {"solver": "a", "n": 100, "data_seed": seed, "init_seed": 0, "source": source}
    others = {"mean off by 0.2 std": 0.1, "independent pixels": 0.0}
    return [
        {**cell, "posterior": kind, "power": power, "images": 24, "draws": 39, "evaluation": "x"}
        for kind, power in {"std × 0.8": narrow, "std × 1.25": wide, **others}.items()
    ]


HARD = np.random.default_rng(0).lognormal(0.0, 1.0, 40)


def errors(solver, factor, n=100, seeds=2):
    """Errors of 40 images with a tenth of noise, at each of some data seeds."""
    cell = {"solver": solver, "n": n, "init_seed": 0, "metric": "nmse", "component": 0}
    found = []
    for seed in range(seeds):
        noise = 1 + 0.1 * np.random.default_rng([n, seed, len(solver)]).standard_normal(40)
        values = factor * HARD * noise
        found += [
            {**cell, "data_seed": seed, "image": i, "group": str(i), "value": float(v)}
            for i, v in enumerate(values)
        ]
    return found


def card(curves, shifts=(), metrics=(), tests=(), rows=(), power=None):
    return trust_card(
        from_rows(curves, CURVES),
        from_rows(metrics, METRICS),
        from_rows(shifts, SHIFTS),
        from_rows(tests, TESTS),
        from_rows(seen() if power is None else power, POWER),
        from_rows(rows, PER_IMAGE),
    )


def answer(table, question, solver="a", n=100):
    return next(row for row in verdicts(table, solver, n) if row["question"] == question)


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ((0.95, 0.93, 0.97), "yes"),
        ((0.95, 0.90, 0.97), "open"),
        ((0.80, 0.75, 0.91), "no"),
        ((0.99, 0.985, 1.0), "no"),
        ((0.95, nan, nan), "open"),
        ((nan, nan, nan), "not measured"),
    ],
)
def test_an_interval_against_a_bar(bounds, verdict):
    tests = [ranks("pixels", 0.5)]
    row = answer(card([curve("coverage_region", *bounds)], tests=tests), "calibrated")
    assert row["verdict"] == verdict
    assert (row["reason"] == "") == (verdict in ("yes", "not measured"))


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        ((), "open"),
        ((ranks("pixels", 0.06), ranks("norm", 0.8)), "yes"),
        ((ranks("pixels", 0.04), ranks("norm", 0.8)), "no"),
        ((ranks("pixels", 1e-4, "model: chi-square"),), "open"),
        ((ranks("pixels", 1e-4), ranks("norm", 1e-6), ranks("data fit", 0.5)), "no"),
    ],
)
def test_coverage_alone_does_not_make_a_posterior_calibrated(tests, verdict):
    row = answer(card([curve("coverage_region", 0.95, 0.93, 0.97)], tests=tests), "calibrated")
    assert row["verdict"] == verdict
    reasons = {
        "yes": "",
        "open": "coverage is within the bar; ranks were not tested",
        "no": "tests on test images reject: ",
    }
    assert reasons[verdict] in row["reason"]
    if len(tests) == 3:
        assert "2 of 3 tests on test images reject: norm, p = 1e-06" in row["reason"]


@pytest.mark.parametrize(("p", "verdict"), [(0.01, "no"), (0.2, "open")])
@pytest.mark.parametrize("bounds", [(0.95, 0.90, 0.97), (0.95, nan, nan)])
def test_tests_that_reject_decide_where_coverage_is_open(bounds, p, verdict):
    curves, tests = [curve("coverage_region", *bounds)], [ranks("pixels", p)]
    row = answer(card(curves, tests=tests), "calibrated")
    assert row["verdict"] == verdict
    assert ("1 of 1 tests on test images reject: pixels" in row["reason"]) == (verdict == "no")
    outside = card([curve("coverage_region", 0.8, 0.75, 0.85)], tests=tests)
    assert "below the bar" in answer(outside, "calibrated")["reason"]


@pytest.mark.parametrize(
    ("power", "reason"),
    [
        (seen(0.8, 0.8), ""),
        (seen(0.9, 0.79), "tests on 24 images would have seen std × 1.25 with probability 0.79"),
        (seen(0.31, 0.5), "tests on 24 images would have seen std × 0.8 with probability 0.31"),
        ([*seen(), *seen(0.5, seed=1)], "std × 0.8 with probability 0.50"),
        (seen(source="model"), "what the tests could have seen is not known"),
        (seen()[:1], "what the tests could have seen is not known"),
        (seen(wide=nan), "what the tests could have seen is not known"),
        ([], "what the tests could have seen is not known"),
    ],
)
def test_tests_without_power_leave_calibration_open(power, reason):
    curves, tests = [curve("coverage_region", 0.95, 0.93, 0.97)], [ranks("pixels", 0.5)]
    row = answer(card(curves, tests=tests, power=power), "calibrated")
    assert row["verdict"] == ("open" if reason else "yes")
    assert row["reason"].endswith(reason) if reason else row["reason"] == ""
    rejected = [ranks("pixels", 1e-4)]
    assert answer(card(curves, tests=rejected, power=power), "calibrated")["verdict"] == "no"


def test_accuracy_is_measured_against_the_best_at_its_largest_size():
    """The curves have intervals wide enough to leave every verdict open; the images do not."""
    table = card(
        [
            curve("nmse", 1.6, 0.8, 2.4, "a", 100),
            curve("nmse", 2.1, 1.0, 3.2, "bb", 100),
            curve("nmse", 3.2, 1.6, 4.8, "a", 10),
        ],
        rows=[*errors("a", 1.0), *errors("bb", 1.3), *errors("a", 2.0, 10)],
    )
    best = answer(table, "accurate", "a", 100)
    assert best["verdict"] == "yes"
    assert (best["value"], best["bar_upper"]) == (1, 1.1)
    assert "the best of 2 solvers, chosen on these images: 1 by definition" in best["reason"]
    for solver, n, ratio in (("bb", 100, 1.3), ("a", 10, 2.0)):
        row = answer(table, "accurate", solver, n)
        assert row["verdict"] == "no"
        assert row["value"] == pytest.approx(ratio, rel=0.1)
        assert "against a at N = 100, chosen on these images, on 40 images" in row["reason"]


def test_a_solver_alone_is_not_accurate_by_definition():
    curves = [curve("nmse", 1.6, 1.4, 1.8), curve("nmse", 1.6, 1.4, 1.8, n=50)]
    curves.append(curve("nmse", 3.2, 3.0, 3.4, n=10))
    rows = [*errors("a", 1.0), *errors("a", 1.0, 50), *errors("a", 2.0, 10)]
    table = card(curves, rows=rows)
    for n in (50, 100):
        row = answer(table, "accurate", n=n)
        assert (row["verdict"], row["bar_upper"]) == ("open", 1.1)
        assert row["reason"] == "no other solver was compared; NMSE 1.6"
    small = answer(table, "accurate", n=10)
    assert small["verdict"] == "no"
    assert "against a at N = 100, on 40 images" in small["reason"]


def test_a_solver_without_a_common_image_was_not_compared():
    moved = [row | {"image": row["image"] + 40} for row in errors("bb", 1.3)]
    curves = [curve("nmse", 1.6, 1.4, 1.8), curve("nmse", 2.0, 1.8, 2.2, "bb")]
    table = card(curves, rows=[*errors("a", 1.0), *moved])
    assert answer(table, "accurate")["verdict"] == "open"
    assert "no image" in answer(table, "accurate", "bb")["reason"]


def test_a_residual_that_is_too_small_says_so():
    low = answer(card([curve("data_chi2", 0.04, 0.03, 0.05)]), "consistent")
    assert low["verdict"] == "yes"
    assert "fits the noise" in low["reason"]
    usual = answer(card([curve("data_chi2", 0.6, 0.5, 0.7)]), "consistent")
    assert (usual["verdict"], usual["reason"]) == ("yes", "")


@pytest.mark.parametrize(
    ("expected", "verdict", "said"),
    [
        ((0.6, 0.58, 0.62), "open", "leaves 0.6 or more"),
        ((0.6, nan, nan), "open", "leaves 0.6 or more"),
        ((0.6, 0.5, 0.7), "yes", "of 0.6 or more expected"),
        ((0.41, 0.4, 0.42), "yes", "of 0.41 or more expected"),
        ((nan, nan, nan), "yes", "not known without the check `stability`"),
    ],
)
def test_a_residual_below_what_the_sensitivity_leaves_is_open(expected, verdict, said):
    curves = [curve("data_chi2", 0.42, 0.4, 0.44), curve("expected_chi2", *expected)]
    row = answer(card(curves), "consistent")
    assert row["verdict"] == verdict
    assert said in row["reason"]
    above = [curve("data_chi2", 1.4, 1.3, 1.5), curves[1]]
    assert answer(card(above), "consistent")["verdict"] == "no"


@pytest.mark.parametrize("value", [1.0, nextafter(1, 0), nextafter(1, 2)])
def test_the_baseline_against_itself(value):
    row = answer(card([curve("worst_over_baseline", value, nan, nan)]), "stable")
    assert row["verdict"] == "yes"
    assert "by definition" in row["reason"]
    other = answer(card([curve("worst_over_baseline", 1.01, nan, nan)]), "stable")
    assert other["verdict"] == "open"


def test_a_baseline_is_stable_by_definition_against_itself_alone():
    """With data seeds its interval is [1, 1]; the other baseline decides, however low."""
    itself = curve("worst_over_baseline", 1.0, 1.0, 1.0)
    for bounds, verdict in (
        ((0.8, 0.7, 0.9), "yes"),
        ((1.6, 1.4, 1.8), "open"),
        ((2.0, 1.8, 2.2), "no"),
    ):
        row = answer(card([itself, curve("worst_over_wiener", *bounds)]), "stable")
        assert (row["verdict"], row["metric"]) == (verdict, "worst_over_wiener")
        assert "by definition" not in row["reason"]
        assert "against Wiener" in row["reason"]


@pytest.mark.parametrize(
    ("tikhonov", "wiener", "metric", "verdict"),
    [
        ((1.0, 0.9, 1.1), (1.2, 1.1, 1.3), "worst_over_wiener", "yes"),
        ((1.2, 1.1, 1.3), (0.9, 0.8, 1.0), "worst_over_baseline", "yes"),
        ((1.0, 0.9, 1.1), (1.7, 1.6, 1.8), "worst_over_wiener", "no"),
        ((1.7, 1.3, 2.1), (1.6, 1.55, 1.65), "worst_over_wiener", "no"),
        ((1.2, 0.8, 1.6), (1.3, 1.2, 1.4), "worst_over_baseline", "open"),
    ],
)
def test_the_stricter_baseline_decides(tikhonov, wiener, metric, verdict):
    curves = [curve("worst_over_baseline", *tikhonov), curve("worst_over_wiener", *wiener)]
    row = answer(card(curves), "stable")
    assert (row["metric"], row["verdict"]) == (metric, verdict)
    assert row["value"] == (wiener if metric.endswith("wiener") else tikhonov)[0]


def test_the_reason_says_what_the_worst_disturbance_adds():
    within = curve("worst_over_baseline", 0.92, 0.9, 0.94)
    excess = [
        curve("worst_excess", 0.258, 0.25, 0.266),
        curve("worst_excess", 0.011, 0.01, 0.012, "tikhonov"),
        curve("worst_excess", 0.5, 0.4, 0.6, "wiener"),
        curve("worst_excess", 0.7, 0.6, 0.8, "tikhonov", 10),
    ]
    row = answer(card([within, *excess]), "stable")
    assert row["verdict"] == "yes"
    assert row["reason"] == (
        "against Tikhonov; beyond a random one the worst disturbance adds 0.258 to the error, "
        "0.011 to that of Tikhonov, 23 times as much: within the bar for its small error, not for "
        "insensitivity"
    )
    above = curve("worst_over_baseline", 1.7, 1.6, 1.8)
    assert answer(card([above, *excess]), "stable")["reason"].endswith("23 times as much")
    usual = [within, curve("worst_excess", 0.03, 0.02, 0.04), excess[1]]
    assert answer(card(usual), "stable")["reason"].endswith("0.011 to that of Tikhonov")
    alone = answer(card([within, excess[0]]), "stable")["reason"]
    assert alone.endswith("adds 0.258 to the error")


@pytest.mark.parametrize("lower", [0.9, nextafter(0.9, 0), nextafter(0.9, 1)])
def test_the_last_digit_decides_nothing(lower):
    row = answer(card([curve("nmse", 1, 1, 1)], [shift("blur", 0.95, lower, 1.0)]), "aware")
    assert row["verdict"] == "yes"
    bound = nextafter(1.2, 2)
    assert answer(card([curve("data_chi2", 1.0, 0.9, bound)]), "consistent")["verdict"] == "yes"


def test_the_shift_that_is_noticed_least_decides():
    """By the score that the gate flags by: one that is blind to a shift does not count alone."""
    table = card(
        [curve("nmse", 0.01, 0.009, 0.011)],
        [
            shift("noise level", 0.99, 0.97, 1.0),
            shift("images", 0.6, 0.5, 0.7),
            shift("kernel width", 0.3, 0.2, 0.4, score="residual"),
        ],
    )
    row = answer(table, "aware")
    assert row["verdict"] == "no"
    assert row["value"] == 0.6
    assert "least noticed: images" in row["reason"]


def test_a_solver_without_usable_cells_is_not_trusted():
    table = card([curve("nmse", nan, nan, nan, status="3 of 3 collapsed")])
    row = answer(table, "accurate")
    assert row["verdict"] == "no"
    assert "collapsed" in row["reason"]
    assert answer(table, "stable")["verdict"] == "not measured"


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [((0.9, 0.8, 1.0), "open"), ((1.6, 1.4, 1.8), "open"), ((2.0, 1.8, 2.2), "no")],
)
def test_a_lower_bound_can_only_say_no(bounds, verdict):
    row = answer(card([curve("transferred_over_baseline", *bounds)]), "stable")
    assert row["verdict"] == verdict
    assert row["metric"] == "transferred_over_baseline"
    assert ("lower bound" in row["reason"]) == (bounds[2] < 1.5)
    both = [curve("transferred_over_baseline", *bounds), curve("worst_over_baseline", 1, 0.9, 1.1)]
    assert answer(card(both), "stable")["verdict"] == "yes"


def test_a_single_cell_is_judged_by_its_interval_over_images():
    curves = [curve("data_chi2", 1.0, nan, nan)]
    one = answer(card(curves, metrics=[cell("data_chi2", 1.0, 0.9, 1.1)]), "consistent")
    assert one["verdict"] == "yes"
    assert "images alone" in one["reason"]
    high = answer(card(curves, metrics=[cell("data_chi2", 1.0, 0.9, 1.3)]), "consistent")
    assert high["verdict"] == "open"
    two = [cell("data_chi2", 1.0, 0.9, 1.1, seed) for seed in (0, 1)]
    assert answer(card(curves, metrics=two), "consistent")["verdict"] == "open"
