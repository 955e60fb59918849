"""The search for one number, on functions whose minimum is known."""

import math

import pytest

from latens.errors import ConfigError, SolverError
from latens.problems.weights import best_weight, golden_section

DECADES = [10.0**k for k in range(-5, 4)]


def bowl(minimum: float):
    """Error 1 + log²(weight/minimum), and the list of weights that were tried."""
    tried: list[float] = []

    def error(weight: float) -> float:
        tried.append(weight)
        return 1 + math.log(weight / minimum) ** 2

    return error, tried


@pytest.mark.parametrize("minimum", [3e-4, 0.05, 20.0])
def test_the_minimum_is_found(minimum):
    error, _ = bowl(minimum)
    assert best_weight(error, DECADES, 1e-4) == pytest.approx(minimum, rel=1e-4)


def test_small_weights_are_given_up_when_they_get_worse():
    error, tried = bowl(1.0)
    best_weight(error, DECADES, 0.1, worse=1.05)
    assert min(tried) == pytest.approx(0.1)
    patient, tried_patiently = bowl(1.0)
    best_weight(patient, DECADES, 0.1, worse=10.0)
    assert min(tried_patiently) == pytest.approx(0.01)


def test_the_bracket_bounds_the_cost():
    error, tried = bowl(1.0)
    found = best_weight(error, DECADES, 0.1, worse=1.05)
    assert found == pytest.approx(1.0, rel=0.05)
    assert len(tried) == 5 + 2 + math.ceil(math.log(2 * math.log(10) / 0.1) / math.log(1.618034))


@pytest.mark.parametrize("minimum", [1e-7, 1e6])
def test_a_minimum_outside_is_an_error(minimum):
    error, _ = bowl(minimum)
    with pytest.raises(SolverError, match="the best at the border") as caught:
        best_weight(error, DECADES, 0.1)
    assert caught.value.statistics["error"] > 1


def test_an_error_that_is_no_number_is_an_error():
    with pytest.raises(SolverError):
        best_weight(lambda weight: math.nan, DECADES, 0.1)


@pytest.mark.parametrize("grid", [[1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1, 2, math.inf]])
def test_bad_candidates(grid):
    with pytest.raises(ConfigError, match="`candidates`: expected three or more positive"):
        best_weight(bowl(1.0)[0], grid, 0.1)


def test_golden_section_of_an_asymmetric_function():
    found = golden_section(lambda t: abs(t - 0.3) + (t > 0.3) * 5 * (t - 0.3), -1.0, 4.0, 1e-9)
    assert found == pytest.approx(0.3, abs=1e-9)
