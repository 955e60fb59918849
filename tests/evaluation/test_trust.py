"""Verdicts follow from intervals and bars, and nothing is said without a number."""

from math import nan, nextafter

import numpy as np
import pytest

from latens.evaluation.trust import trust_card, verdicts
from latens.store import CURVES, METRICS, PER_IMAGE, SHIFTS, TESTS, from_rows


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


def card(curves, shifts=(), metrics=(), tests=(), rows=()):
    return trust_card(
        from_rows(curves, CURVES),
        from_rows(metrics, METRICS),
        from_rows(shifts, SHIFTS),
        from_rows(tests, TESTS),
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
    assert "the best solver" in best["reason"]
    for solver, n, ratio in (("bb", 100, 1.3), ("a", 10, 2.0)):
        row = answer(table, "accurate", solver, n)
        assert row["verdict"] == "no"
        assert row["value"] == pytest.approx(ratio, rel=0.1)
        assert "against a at N = 100, on 40 images" in row["reason"]


def test_a_residual_that_is_too_small_says_so():
    low = answer(card([curve("data_chi2", 0.04, 0.03, 0.05)]), "consistent")
    assert low["verdict"] == "yes"
    assert "fits the noise" in low["reason"]
    usual = answer(card([curve("data_chi2", 0.6, 0.5, 0.7)]), "consistent")
    assert (usual["verdict"], usual["reason"]) == ("yes", "")


@pytest.mark.parametrize("value", [1.0, nextafter(1, 0), nextafter(1, 2)])
def test_the_baseline_against_itself(value):
    row = answer(card([curve("worst_over_baseline", value, nan, nan)]), "stable")
    assert row["verdict"] == "yes"
    assert "by definition" in row["reason"]
    other = answer(card([curve("worst_over_baseline", 1.01, nan, nan)]), "stable")
    assert other["verdict"] == "open"


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
