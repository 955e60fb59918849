"""An inverse problem simulates and scores consistently."""

import math

import pytest
import torch
from scipy import stats

from latens.errors import ShapeError
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from problems.operator_cases import NOISES, Matrix, normal

SCALE = 0.2


@pytest.fixture
def problem():
    return InverseProblem(GaussianBlur((2, 9, 8), 0.7), GaussianNoise(SCALE))


def test_simulate_adds_scaled_noise(problem):
    x, noise = normal(3, 2, 9, 8), normal(5, 3, 2, 9, 8, seed=1)
    expected = problem.operator(x) + SCALE * noise
    torch.testing.assert_close(problem.simulate(x, noise), expected)


def test_log_likelihood_is_the_formula(problem):
    x, y = normal(3, 2, 9, 8), normal(3, 2, 9, 8, seed=1)
    m = 2 * 9 * 8
    squares = (y - problem.operator(x)).square().flatten(1).sum(1)
    expected = -0.5 * squares / SCALE**2 - m * math.log(SCALE) - 0.5 * m * math.log(2 * math.pi)
    torch.testing.assert_close(problem.log_likelihood(y, x), expected)


def test_score_is_the_adjoint_of_the_residual(problem):
    x, y = normal(2, 9, 8), normal(2, 9, 8, seed=1)
    score = torch.func.grad(lambda v: problem.log_likelihood(y, v))(x)
    expected = problem.operator.A_adjoint(y - problem.operator(x)) / SCALE**2
    torch.testing.assert_close(score, expected)
    mapped = torch.func.vmap(problem.log_likelihood)(y[None], x[None])
    torch.testing.assert_close(mapped[0], problem.log_likelihood(y, x))


def test_leading_axes_broadcast(problem):
    x, y = normal(4, 3, 2, 9, 8), normal(3, 2, 9, 8, seed=1)
    assert problem.likelihood(x).batch_shape == (4, 3)
    assert problem.likelihood(x).event_shape == (2, 9, 8)
    for method in (problem.log_likelihood, problem.chi2):
        values = method(y, x)
        assert values.shape == (4, 3)
        torch.testing.assert_close(values[2, 1], method(y[1], x[2, 1]))
    assert problem.residual(y, x).shape == (4, 3, 2, 9, 8)


def test_chi2_of_the_true_signal_is_chi_square(problem):
    x = normal(2, 9, 8)
    y = problem.simulate(x, normal(2000, 2, 9, 8, seed=1))
    m = 2 * 9 * 8
    statistic = m * problem.chi2(y, x)
    assert stats.kstest(statistic.numpy(), stats.chi2(m).cdf).pvalue > 0.001


@pytest.mark.parametrize("name", list(NOISES))
def test_any_noise_is_simulated_and_explained(name):
    problem = InverseProblem(GaussianBlur((1, 9, 8), 0.7), NOISES[name]())
    x = normal(3, 1, 9, 8).abs()
    noise = normal(100, 3, *problem.noise_shape, seed=1)
    y = problem.simulate(x, noise)
    assert y.shape == (100, 3, 1, 9, 8)
    chi2 = problem.chi2(y, x)
    error = chi2.std() / chi2.numel() ** 0.5
    assert (chi2.mean() - 1).abs() < 4 * error
    assert error < 0.02
    assert (problem.log_likelihood(y[0], x) > problem.log_likelihood(y[0], x + 1)).all()
    with pytest.raises(ShapeError, match="`noise`: expected trailing axes"):
        problem.simulate(x, noise[..., :1])


def test_chi2_is_the_misfit():
    problem = InverseProblem(Matrix(), GaussianNoise(0.5))
    x, y = normal(3, 1, 4, 3), normal(3, 7, seed=1)
    residual = (y - x.flatten(1) @ problem.operator.weight.mT) / 0.5
    torch.testing.assert_close(problem.residual(y, x), residual)
    torch.testing.assert_close(problem.chi2(y, x), residual.square().mean(1))


def test_float32(problem):
    x, y = normal(3, 2, 9, 8), normal(3, 2, 9, 8, seed=1)
    narrow = problem.log_likelihood(y.float(), x.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), problem.log_likelihood(y, x), rtol=1e-5, atol=0)


def test_wrong_shapes(problem):
    with pytest.raises(ShapeError, match="`y`: expected trailing axes"):
        problem.log_likelihood(normal(3, 2, 9, 9), normal(3, 2, 9, 8))
    with pytest.raises(ShapeError, match="`y`: expected trailing axes"):
        problem.chi2(normal(8), normal(3, 2, 9, 8))
    with pytest.raises(ShapeError, match="`x`: expected trailing axes"):
        problem.simulate(normal(3, 9, 8), normal(3, 2, 9, 8))
    with pytest.raises(ShapeError, match="`noise`: expected trailing axes"):
        problem.simulate(normal(3, 2, 9, 8), normal(2, 9, 8))
