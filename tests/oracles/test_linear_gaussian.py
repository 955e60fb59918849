"""The stationary oracle against dense algebra, and `latens.problems` against the oracle."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from latens.distributions import NoiseStream
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem, condition, tikhonov
from oracles.stationary_gaussian import StationaryGaussian, gaussian_power, impulse_transfer

SIZE = (8, 8)
SCALE = 0.2


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


@pytest.fixture
def oracle() -> StationaryGaussian:
    transfer = impulse_transfer(GaussianBlur((1, *SIZE), 0.8), SIZE)
    shift = torch.exp(-2j * math.pi * torch.fft.fftfreq(8, dtype=torch.float64))
    shift[4] = -1  # a whole-pixel shift keeps the kernel real and makes H complex
    return StationaryGaussian(gaussian_power(SIZE, 1.5, 0.7), transfer * shift, SCALE, 0.4)


def dense(oracle: StationaryGaussian):
    """Prior covariance, blur, and posterior covariance as matrices."""
    basis = torch.eye(64, dtype=torch.float64).reshape(64, *SIZE)
    covariance = oracle.filter(basis, oracle.power).reshape(64, 64).mT
    a = oracle.blur(basis).reshape(64, 64).mT
    precision = torch.linalg.inv(covariance) + a.mT @ a / SCALE**2
    return covariance, a, torch.linalg.inv(precision)


def test_power_is_a_covariance(oracle):
    covariance, _, _ = dense(oracle)
    torch.testing.assert_close(covariance, covariance.mT)
    torch.testing.assert_close(covariance.diagonal(), torch.full((64,), 0.7).double())
    assert oracle.prior_variance == pytest.approx(0.7)
    assert covariance[0, 1] == pytest.approx(0.7 * 0.99 * math.exp(-1 / (2 * 1.5**2)), rel=0.05)


def test_posterior_mean_and_variance(oracle):
    _, a, covariance = dense(oracle)
    y = normal(3, *SIZE)
    residual = y.flatten(1) - oracle.loc * a.sum(1)
    expected = oracle.loc + residual @ (covariance @ a.mT / SCALE**2).mT
    torch.testing.assert_close(oracle.posterior_mean(y).flatten(1), expected)
    variance = torch.full((64,), oracle.posterior_variance, dtype=torch.float64)
    torch.testing.assert_close(covariance.diagonal(), variance)


def test_region_covariance(oracle):
    _, _, covariance = dense(oracle)
    regions = torch.zeros(3, *SIZE, dtype=torch.float64)
    regions[0, :4, :4] = 1 / 16
    regions[1, 2:5, 3:8] = 1 / 15
    regions[2] = 1 / 64
    flat = regions.flatten(1)
    torch.testing.assert_close(oracle.region_covariance(regions), flat @ covariance @ flat.mT)


def test_log_evidence(oracle):
    covariance, a, _ = dense(oracle)
    y = normal(3, *SIZE)
    measured = a @ covariance @ a.mT + SCALE**2 * torch.eye(64, dtype=torch.float64)
    density = MultivariateNormal(oracle.loc * a.sum(1), measured)
    torch.testing.assert_close(oracle.log_evidence(y), density.log_prob(y.flatten(1)))


def test_samplers_are_exact(oracle):
    # draws are affine in their noise: covariance J Jᵀ
    prior, _, posterior = dense(oracle)
    basis = torch.eye(64, dtype=torch.float64).reshape(64, *SIZE)
    jacobian = (oracle.sample_prior(basis) - oracle.loc).reshape(64, 64).mT
    torch.testing.assert_close(jacobian @ jacobian.mT, prior)
    y = normal(*SIZE)
    draws = oracle.sample_posterior(y, basis) - oracle.posterior_mean(y)
    jacobian = draws.reshape(64, 64).mT
    torch.testing.assert_close(jacobian @ jacobian.mT, posterior)


def test_mean_squared_error_is_the_trace_of_the_covariance(oracle):
    # E‖μ − x‖² = E tr Cov(x|y), and one draw has twice that error
    n = 4000
    x = oracle.sample_prior(normal(n, *SIZE))
    y = oracle.measure(x, normal(n, *SIZE, seed=1))
    draw = oracle.sample_posterior(y, normal(n, *SIZE, seed=2))
    for estimate, expected in ((oracle.posterior_mean(y), oracle.mmse), (draw, 2 * oracle.mmse)):
        errors = (estimate - x).square().mean((1, 2))
        assert abs(errors.mean() - expected) < 4 * errors.std() / math.sqrt(n)
        assert errors.std() / math.sqrt(n) < 0.01 * expected


def test_evidence_has_the_right_mean(oracle):
    # E −2 log p(y) = m + log det S + m log 2π under the model itself
    n = 4000
    y = oracle.measure(oracle.sample_prior(normal(n, *SIZE)), normal(n, *SIZE, seed=1))
    entropy = 0.5 * (64 * (1 + math.log(2 * math.pi)) + oracle.measured_power.log().sum())
    assert abs(oracle.log_evidence(y).mean() + entropy) < 4 * math.sqrt(32 / n)


def test_conditioning_is_the_oracle_for_a_white_prior():
    operator = GaussianBlur((2, 16, 15), 1.2)
    transfer = impulse_transfer(GaussianBlur((1, 16, 15), 1.2), (16, 15))
    white = StationaryGaussian(torch.full((16, 15), 0.6).double(), transfer, SCALE, 0.4)
    y = normal(3, 2, 16, 15)
    loc = torch.full((3, 2, 16, 15), 0.4, dtype=torch.float64)
    conditioned = condition(loc, 0.6, y, InverseProblem(operator, GaussianNoise(SCALE)))
    torch.testing.assert_close(conditioned.mean, white.posterior_mean(y))
    variance = torch.full_like(y, white.posterior_variance)
    torch.testing.assert_close(conditioned.variance, variance)
    torch.testing.assert_close(conditioned.marginal_log_prob, white.log_evidence(y).sum(1))


def test_tikhonov_is_the_posterior_mean_of_a_white_prior():
    operator = GaussianBlur((1, 64, 64), 2.0)
    transfer = impulse_transfer(operator, (64, 64))
    white = StationaryGaussian(torch.full((64, 64), 0.6).double(), transfer, SCALE)
    y = normal(2, 1, 64, 64)
    torch.testing.assert_close(tikhonov(operator, y, SCALE**2 / 0.6), white.posterior_mean(y))


def test_problem_simulates_what_the_oracle_measures():
    problem = InverseProblem(GaussianBlur((1, 12, 12), 1.0), GaussianNoise(SCALE))
    transfer = impulse_transfer(problem.operator, (12, 12))
    oracle = StationaryGaussian(gaussian_power((12, 12), 2.0, 1.0), transfer, SCALE)
    x = oracle.sample_prior(normal(2, 1, 12, 12))
    noise = normal(2, 1, 12, 12, seed=1)
    torch.testing.assert_close(problem.simulate(x, noise), oracle.measure(x, noise))
