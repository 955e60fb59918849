"""Operator consistency: its value, its gradient, and what it does to the posterior mean."""

import pytest
import torch
from torch import Tensor

from latens.distributions import NoiseStream, diagonal_normal
from latens.objectives import LossTerms, data_misfit, likelihood_terms, reduce_terms
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem, LinearOperator
from latens.problems.poisson_gaussian import PoissonGaussianNoise
from latens.problems.rician import RicianNoise

D, M, NOISE = 5, 3, 0.4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


class Matrix(LinearOperator):
    """y = matrix x, `(D, 1)` to `(M, 1)`."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__((matrix.shape[1], 1), (matrix.shape[0], 1))
        self.weight = matrix

    def _map(self, x: Tensor) -> Tensor:
        return self.weight @ x

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return self.weight.mT @ y


MATRIX = normal(M, D, seed=7)
NOISES = [GaussianNoise(0.3), PoissonGaussianNoise(0.2, 0.3), RicianNoise(0.3)]
PROBLEM = InverseProblem(Matrix(MATRIX), GaussianNoise(NOISE))


@pytest.mark.parametrize("noise", NOISES)
def test_the_value_is_the_reduced_misfit(noise):
    problem = InverseProblem(GaussianBlur((2, 8, 9), 0.6), noise)
    x, y = normal(4, 2, 8, 9), normal(4, 2, 8, 9, seed=1)
    misfit = data_misfit(problem, y, x)
    assert misfit.shape == (4,)
    assert misfit.std() > 0
    torch.testing.assert_close(misfit, problem.chi2(y, x))


@pytest.mark.parametrize("noise", NOISES)
def test_the_gradient_takes_the_noise_level_as_given(noise):
    problem = InverseProblem(Matrix(MATRIX), noise)
    x, y = normal(4, D, 1).requires_grad_(), normal(4, M, 1, seed=1)
    found = torch.autograd.grad(data_misfit(problem, y, x).sum(), x)[0]
    clean = (MATRIX @ x).detach().requires_grad_()
    measured = noise.elementwise(clean)
    slope = torch.autograd.grad(measured.mean.sum(), clean)[0]
    with torch.no_grad():
        pull = slope * (measured.mean - y) / measured.variance
        expected = 2 / M * MATRIX.mT @ pull
    torch.testing.assert_close(found, expected)


def test_it_is_added_after_the_division_by_the_size_of_the_event():
    likelihood, misfit = normal(6), normal(6, seed=1).square()
    terms = LossTerms(likelihood, None, {"consistency": misfit}, {"consistency": 0.3})
    expected = -likelihood.mean() / 50 + 0.3 * misfit.mean()
    torch.testing.assert_close(reduce_terms(terms, 50), expected)


# x ~ N(0, C), y = A x + noise: every moment is known
ROOT = normal(D, D, seed=3) / D**0.5
C = ROOT @ ROOT.mT + 0.1 * torch.eye(D, dtype=torch.float64)
PRECISION = torch.eye(M, dtype=torch.float64) / NOISE**2
S = MATRIX @ C @ MATRIX.mT + NOISE**2 * torch.eye(M, dtype=torch.float64)
K = C @ MATRIX.mT @ torch.linalg.inv(S)


def pairs() -> tuple[Tensor, Tensor]:
    """Pairs whose sample second moments are exactly those of the model."""
    white = normal(64, D + M, seed=4)
    white = torch.linalg.qr(white).Q * 64**0.5
    x = white[:, :D] @ torch.linalg.cholesky(C).mT
    return x[..., None], (x @ MATRIX.mT + NOISE * white[:, D:])[..., None]


def loss(weight: Tensor, consistency: float, sigma: float) -> Tensor:
    """The library's loss of the regressor f(y) = weight y."""
    x, y = pairs()
    f = weight @ y
    terms = likelihood_terms(x, diagonal_normal(f, torch.tensor(sigma, dtype=torch.float64), 2))
    extras = {"consistency": data_misfit(PROBLEM, y, f)}
    terms = LossTerms(terms.log_likelihood, None, extras, {"consistency": consistency})
    return reduce_terms(terms, D)


def optimum(consistency: float, sigma: float) -> Tensor:
    """The optimum stated in `latens.objectives.consistency`, `(D, M)`."""
    prior = M / (2 * consistency * sigma**2 * D) * torch.eye(D, dtype=torch.float64)
    precision = prior + MATRIX.mT @ PRECISION @ MATRIX
    residual = torch.eye(M, dtype=torch.float64) - MATRIX @ K
    return K + torch.linalg.solve(precision, MATRIX.mT @ PRECISION @ residual)


@pytest.mark.parametrize("consistency", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_the_optimum_is_the_posterior_mean_moved_to_the_data(consistency, sigma):
    weight = optimum(consistency, sigma).requires_grad_()
    gradient = torch.autograd.grad(loss(weight, consistency, sigma), weight)[0]
    assert gradient.abs().max() < 1e-10
    plain = K.clone().requires_grad_()
    assert torch.autograd.grad(loss(plain, 0.0, sigma), plain)[0].abs().max() < 1e-10
    assert torch.autograd.grad(loss(plain, consistency, sigma), plain)[0].abs().max() > 1e-4


def test_a_weight_of_one_count_is_the_data_likelihood():
    x, y = pairs()
    weight = normal(D, M, seed=9)
    f = weight @ y
    terms = likelihood_terms(x, diagonal_normal(f, torch.tensor(1.0).double(), 2))
    counted = LossTerms(terms.log_likelihood + PROBLEM.log_likelihood(y, f))
    shift = PROBLEM.log_likelihood(y, f) + 0.5 * M * data_misfit(PROBLEM, y, f)  # a constant
    expected = reduce_terms(counted, D) + shift.mean() / D
    torch.testing.assert_close(loss(weight, M / (2 * D), 1.0), expected)


def test_the_posterior_mean_fits_better_than_the_truth_and_the_optimum_better_still():
    x, y = pairs()

    def misfit(reconstruction: Tensor) -> float:
        return float(data_misfit(PROBLEM, y, reconstruction).mean())

    assert misfit(x) == pytest.approx(1.0)
    share = float((MATRIX @ K).trace()) / M
    assert 0.5 < share < 0.99
    assert misfit(K @ y) == pytest.approx(1 - share)
    moved = [misfit(optimum(weight, 0.5) @ y) for weight in (1e-3, 0.1, 10.0)]
    assert 1 - share > moved[0] > moved[1] > moved[2]
    assert moved[2] < 0.01 * (1 - share)


def test_the_null_space_keeps_the_posterior_mean():
    blind = torch.linalg.svd(MATRIX).Vh[M:]  # (D - M, D)
    for weight in (0.1, 1e6):
        torch.testing.assert_close(blind @ optimum(weight, 0.5), blind @ K)
    far = optimum(1e8, 0.5) - K
    torch.testing.assert_close(
        far, torch.linalg.pinv(MATRIX) @ (torch.eye(M).double() - MATRIX @ K), rtol=1e-4, atol=1e-6
    )
