"""Selective risk against brute force over the orders of ties."""

from itertools import permutations

import numpy as np
import pytest

from latens.errors import DataError
from latens.metrics import augrc, aurc, auroc, random_augrc, risk_coverage

SELECTION = {"aurc": aurc, "augrc": augrc}


def brute(uncertainty: np.ndarray, risk: np.ndarray) -> tuple[float, float]:
    """AURC and AUGRC averaged over every order of tied images."""
    n = len(risk)
    found = []
    for order in permutations(range(n)):
        if (np.diff(uncertainty[list(order)]) < 0).any():
            continue
        summed = np.cumsum(risk[list(order)])
        curve = np.concatenate([[0], summed]) / n
        found.append([(summed / np.arange(1, n + 1)).mean(), np.trapezoid(curve, dx=1 / n)])
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("seed", range(4))
def test_selection_by_brute_force_over_ties(seed):
    generator = np.random.default_rng(seed)
    uncertainty = generator.integers(0, 3, 7).astype(float)
    risk = generator.exponential(size=7)
    expected = brute(uncertainty, risk)
    assert aurc(uncertainty, risk)[0] == pytest.approx(expected[0])
    assert augrc(uncertainty, risk)[0] == pytest.approx(expected[1])


@pytest.mark.parametrize("name", list(SELECTION))
def test_weights_of_selection_are_repetitions(name):
    generator = np.random.default_rng(2)
    uncertainty, risk = generator.integers(0, 9, 30), generator.exponential(size=30)
    counts = generator.multinomial(30, np.full(30, 1 / 30), size=8)
    many = SELECTION[name](uncertainty, risk, counts)
    for value, count in zip(many, counts, strict=True):
        once = SELECTION[name](np.repeat(uncertainty, count), np.repeat(risk, count))[0]
        assert value == pytest.approx(once)


@pytest.mark.parametrize("digits", [0, 6])
def test_augrc_of_failures_is_a_function_of_auroc(digits):
    """f(1−f)(1 − AUROC) + f²/2, Traub et al. (2024)."""
    generator = np.random.default_rng(3)
    failed = generator.random(300) < 0.3
    uncertainty = np.round(generator.standard_normal(300) + failed, digits)
    f = failed.mean()
    expected = f * (1 - f) * (1 - auroc(uncertainty, failed)[0]) + f**2 / 2
    assert augrc(uncertainty, failed)[0] == pytest.approx(expected)
    assert augrc(np.ones(300), failed)[0] == pytest.approx(f / 2)
    assert random_augrc(failed)[0] == pytest.approx(f / 2)


def test_the_curve_of_selective_risk():
    curve = risk_coverage([1, 3, 2, 2], [0.1, 4.0, 1.0, 2.0])
    expected = [[0.25, 0.1, 0.025], [0.75, 3.1 / 3, 3.1 / 4], [1, 7.1 / 4, 7.1 / 4]]
    np.testing.assert_allclose(curve, expected)


def test_risks_without_a_number():
    with pytest.raises(DataError):
        aurc([1, 2], [np.nan, 1])
