"""Conformal promises over 1000 resampled calibrations, whatever the solver.

The population is finite and known, so that the risk of each factor is exact and only the number
of calibrations limits the test. Bounds are three standard errors of the mean over calibrations,
or three binomial standard errors of a share of them.
"""

from math import sqrt

import numpy as np
import pytest

from latens.metrics import RiskCurve, rcps_allowance
from oracles.conformal_population import METHODS, SOLVERS, population

RUNS = 1000
POPULATION = 3000
CASES = [(0.9, 40), (0.9, 137)]


def risks(name: str, method: str, level: float, count: int, groups: int = 0) -> np.ndarray:
    everyone = population(name, method, level, groups or POPULATION, groups)
    seed = [list(SOLVERS).index(name), list(METHODS).index(method), count]
    rng = np.random.default_rng(seed)
    return np.array([everyone.risk(f) for f in everyone.factors(method, level, count, RUNS, rng)])


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize("method", ["split", "cqr", "simultaneous"])
@pytest.mark.parametrize(("level", "count"), CASES)
def test_coverage_of_images_is_the_level_and_hardly_more(name, method, level, count):
    covered = 1 - risks(name, method, level, count)
    error = 3 * covered.std() / sqrt(RUNS)
    assert covered.mean() >= level - error
    # Draws with replacement repeat images: ties of probability 1/N add to the upper bound.
    assert covered.mean() <= level + 1 / (count + 1) + 1 / POPULATION + error
    assert (covered < level).mean() > 0.2  # the promise is on average over calibrations


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize(("level", "count"), CASES)
def test_expected_risk_is_controlled(name, level, count):
    found = risks(name, "crc", level, count)
    error = 3 * found.std() / sqrt(RUNS)
    assert found.mean() <= 1 - level + error
    assert found.mean() >= 1 - level - 2 / (count + 1) - error  # not by endless intervals


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize(("level", "count"), CASES)
def test_risk_is_controlled_with_confidence(name, level, count):
    found = risks(name, "rcps", level, count)
    assert (found > 1 - level).mean() <= 0.1 + 3 * sqrt(0.1 * 0.9 / RUNS)
    assert found.mean() > 0.1 * (1 - level)


@pytest.mark.parametrize("method", ["split", "crc", "rcps"])
def test_groups_count_once(method):
    level, groups = 0.9, 800
    found = risks("a fifth of the spread, biased", method, level, 60, groups)
    if method == "rcps":
        assert (found > 1 - level).mean() <= 0.1 + 3 * sqrt(0.1 * 0.9 / RUNS)
    else:
        assert found.mean() <= 1 - level + 3 * found.std() / sqrt(RUNS)
        assert found.mean() >= 1 - level - 2 / 61 - 3 * found.std() / sqrt(RUNS)


def test_pixels_as_the_exchangeable_unit_would_break_the_promise():
    """The same RCPS with every pixel as a unit: the risk is too high in far too many runs."""
    level, count = 0.9, 40
    everyone = population("right spread", "rcps", level, POPULATION)
    rng = np.random.default_rng(5)
    allowed = rcps_allowance(level, 0.1, count * everyone.steps.shape[1])
    broken = []
    for _ in range(300):
        drawn = everyone.steps[rng.integers(POPULATION, size=count)].reshape(-1, 1)
        factor = RiskCurve.from_steps(drawn, [1.0]).threshold(allowed)
        broken.append(everyone.risk(factor) > 1 - level)
    assert np.mean(broken) > 0.1 + 3 * sqrt(0.1 * 0.9 / 300)
