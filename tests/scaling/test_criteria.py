"""AICc of the laws: against a direct likelihood, and the law that made the data."""

from math import isnan

import numpy as np
import pytest
from scipy import optimize, stats

from latens.scaling.criteria import LAWS, best_law, law_criteria
from latens.scaling.seed_noise import CORRELATIONS, POWERS

SIZES = 32.0 * 2 ** np.arange(5)


def _direct(sizes: np.ndarray, table: np.ndarray, law) -> float:
    """Smallest −2 log L by a general optimiser over a law's parameters and log σ."""
    logs, octaves, best = np.log(sizes), np.log2(sizes), np.inf
    for power in POWERS:
        scale = np.exp(-power * (logs - logs.mean()))
        for correlation in CORRELATIONS:
            matrix = np.outer(scale, scale) * correlation ** np.abs(octaves[:, None] - octaves)

            def deviance(x: np.ndarray, matrix: np.ndarray = matrix) -> float:
                density = stats.multivariate_normal(law(x[1:]), np.exp(2 * x[0]) * matrix)
                return -2 * float(density.logpdf(table).sum())

            for start in ((-4.0, 0.3, 0.5), (-4.0, 1.0, 1.0)):
                options = {"maxiter": 2000, "xatol": 1e-7, "fatol": 1e-7}
                found = optimize.minimize(deviance, start, method="Nelder-Mead", options=options)
                best = min(best, found.fun)
    return best


def test_the_difference_of_two_laws_is_that_of_their_likelihoods():
    rng = np.random.default_rng(0)
    sizes = SIZES[:4]
    table = 2 * sizes**-0.4 * (1 + 0.05 * rng.standard_normal((3, 4)))
    found = law_criteria(sizes, table)
    power = _direct(sizes, table, lambda x: x[0] * (sizes / 32) ** -abs(x[1]))
    constant = _direct(sizes, table, lambda x: np.full(4, x[0]))
    n = table.size

    def corrected(deviance: float, k: int) -> float:
        return deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1)

    expected = corrected(constant, 4) - corrected(power, 5)
    assert found["constant"] - found["power"] == pytest.approx(expected, abs=0.01)


LAW = {
    "constant": lambda n: 0.3 + 0 * n,
    "power": lambda n: n**-0.5,
    "floor": lambda n: 0.05 + n**-0.8,
    "broken": lambda n: 0.3 * n**-0.1 * (1 + (n / 300) ** (1 / 0.3)) ** (-0.9 * 0.3),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_law_behind_the_data_is_among_the_best(law: str):
    rng = np.random.default_rng(1)
    n = 32.0 * 2 ** np.arange(8)
    table = LAW[law](n) * (1 + 0.01 * rng.standard_normal((5, 8)))
    found = law_criteria(n, table)
    assert found[law] < min(found.values()) + 3
    for other in {"constant": (), "power": ("constant",), "floor": ("constant", "power")}.get(
        law, ("constant", "power", "floor")
    ):
        assert found[other] > found[law] + 10


def test_too_few_values_for_a_law():
    found = law_criteria(SIZES[:3], np.array([[3.0, 2.0, 1.5], [3.1, 2.1, 1.4]]))
    assert isnan(found["broken"])
    assert isnan(found["floor"])  # six parameters, six values
    assert best_law(found) == "constant"
    assert best_law({"power": float("nan")}) == ""
