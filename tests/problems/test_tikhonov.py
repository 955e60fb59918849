"""Tikhonov reconstruction against dense solves, and the choice of its weight."""

import pytest
import torch

from latens.errors import ConfigError, SolverError
from latens.problems import (
    GaussianBlur,
    GaussianNoise,
    Identity,
    InverseProblem,
    choose_weight,
    tikhonov,
)
from problems.operator_cases import OPERATORS, normal

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


@pytest.mark.parametrize("name", list(OPERATORS))
@pytest.mark.parametrize("weight", [0.01, 3.0])
def test_dense_solve(name, weight):
    operator = OPERATORS[name]()
    y = normal(2, 3, *operator.measurement_shape)
    a = operator.matrix()
    gram = a.mT @ a + weight * torch.eye(a.shape[1], dtype=a.dtype)
    flat = y.flatten(2) if y.ndim > 3 else y
    expected = torch.linalg.solve(gram, (flat @ a).mT).mT
    result = tikhonov(operator, y, weight)
    torch.testing.assert_close(result.flatten(2), expected, atol=1e-7, rtol=1e-7)


def test_it_minimises():
    operator = GaussianBlur((1, 9, 9), 0.8, "zero")
    y = normal(1, 9, 9)
    x = tikhonov(operator, y, 0.1)

    def objective(v):
        return (operator(v) - y).square().sum() + 0.1 * v.square().sum()

    gradient = torch.func.grad(objective)(x)
    assert gradient.norm() < 1e-8
    assert objective(x) < objective(0.99 * x)


def test_jacobian_is_the_linear_map():
    operator = GaussianBlur((1, 7), 0.6, "zero")
    jacobian = torch.func.jacrev(lambda v: tikhonov(operator, v, 0.2))(normal(1, 7))
    a = operator.matrix()
    expected = a.mT @ torch.linalg.inv(a @ a.mT + 0.2 * torch.eye(7, dtype=a.dtype))
    torch.testing.assert_close(jacobian.reshape(7, 7), expected, atol=1e-8, rtol=1e-8)


def test_chosen_weight_is_the_bayes_weight():
    # for x ~ N(0, v I) the mean squared error is smallest at σ²/v
    problem = InverseProblem(GaussianBlur((1, 16, 16), 1.0), GaussianNoise(0.3))
    x = 1.5 * normal(200, 1, 16, 16)
    y = problem.simulate(x, normal(200, 1, 16, 16, seed=1))
    weight = choose_weight(problem.operator, x, y)
    assert weight == pytest.approx(0.3**2 / 1.5**2, rel=0.05)  # 4 Monte Carlo errors


def test_weight_of_an_iterative_operator():
    # the smallest candidates are far too ill-conditioned for conjugate gradients
    problem = InverseProblem(GaussianBlur((1, 24, 24), 1.5, "zero"), GaussianNoise(0.1))
    x = normal(20, 1, 24, 24)
    y = problem.simulate(x, normal(20, 1, 24, 24, seed=1))
    weight = choose_weight(problem.operator, x, y)
    assert weight == pytest.approx(0.1**2, rel=0.15)


def test_refinement_finds_a_minimum_between_candidates():
    operator = Identity((1, 50))
    x = normal(4, 1, 50)
    y = x + 0.5 * normal(4, 1, 50, seed=1)
    weight = choose_weight(operator, x, y, [1e-4, 1e-2, 1.0, 100.0], tolerance=1e-6)
    gain = (x * y).sum() / y.square().sum()  # best multiple of y is 1/(1 + weight)
    assert weight == pytest.approx(1 / gain.item() - 1, rel=1e-5)


def test_border_is_an_error():
    operator = Identity((1, 10))
    x = normal(3, 1, 10)
    with pytest.raises(SolverError, match="`candidates`: expected a grid with its best weight"):
        choose_weight(operator, x, x)
    with pytest.raises(SolverError, match="the best at the border"):
        choose_weight(operator, x, normal(3, 1, 10, seed=1) * 10, [1e-3, 1e-2, 0.1])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ConfigError, match="`weight`: expected a positive number"):
        tikhonov(Identity((1, 4)), normal(1, 4), weight)


@pytest.mark.parametrize("grid", [[1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
def test_bad_candidates(grid):
    x = normal(1, 4)
    with pytest.raises(ConfigError, match="`candidates`: expected three or more positive"):
        choose_weight(Identity((1, 4)), x, x, grid)
