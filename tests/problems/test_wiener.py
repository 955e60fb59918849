"""The Wiener filter in all three representations against dense algebra."""

import math

import pytest
import torch
from torch import Tensor

from latens.problems import GaussianBlur, LinearOperator, StationaryPrior, wiener_filter
from latens.problems.wiener import DenseWiener, FourierWiener, IterativeWiener
from oracles.stationary_gaussian import StationaryGaussian, gaussian_power, impulse_transfer
from problems.operator_cases import OPERATORS, normal

GRIDDED = [name for name, make in OPERATORS.items() if len(make().signal_shape) > 1]
SCALE, OFFSET = 0.3, 0.2


def make_prior(operator: LinearOperator) -> tuple[StationaryPrior, Tensor]:
    """A prior with other power in every channel, and its covariance `(d, d)`."""
    channels, *spatial = operator.signal_shape
    full = torch.stack([gaussian_power(tuple(spatial), 0.9, 1.0 + c) for c in range(channels)])
    d = math.prod(operator.signal_shape)
    basis = torch.eye(d, dtype=torch.float64).reshape(d, channels, *spatial)
    axes = tuple(range(2, basis.ndim))
    covariance = torch.fft.ifftn(torch.fft.fftn(basis, dim=axes) * full, dim=axes).real
    mean = normal(*operator.signal_shape, seed=7)
    power = full[..., : spatial[-1] // 2 + 1]
    return StationaryPrior(mean, power), covariance.reshape(d, d)


def dense(operator: LinearOperator, prior: StationaryPrior, covariance: Tensor, y: Tensor):
    """Mean and covariance of x | y by matrix algebra."""
    d = len(covariance)
    basis = torch.eye(d, dtype=torch.float64).reshape(d, *operator.signal_shape)
    a = operator.A(basis).reshape(d, -1).mT
    s = a @ covariance @ a.mT + SCALE**2 * torch.eye(len(a), dtype=torch.float64)
    gain = torch.linalg.solve(s, a @ covariance).mT
    residual = y.reshape(-1, len(a)) - OFFSET - a @ prior.mean.flatten()
    mean = prior.mean.flatten() + residual @ gain.mT
    return mean, covariance - gain @ a @ covariance


def filters(operator: LinearOperator, prior: StationaryPrior):
    """Every representation that applies."""
    settings = (operator, prior, SCALE**2, OFFSET)
    chosen = wiener_filter(*settings)
    others = [DenseWiener(*settings), IterativeWiener(*settings)]
    return [chosen, *others] if isinstance(chosen, FourierWiener) else others


@pytest.mark.parametrize("name", GRIDDED)
def test_mean_and_covariance_are_exact(name):
    operator = OPERATORS[name]()
    prior, covariance = make_prior(operator)
    y = normal(2, 3, *operator.measurement_shape)
    mean, posterior = dense(operator, prior, covariance, y)
    d, m = len(covariance), math.prod(operator.measurement_shape)
    noise = torch.eye(d + m, dtype=torch.float64)
    noise_x = noise[:, :d].reshape(-1, *operator.signal_shape)
    noise_n = noise[:, d:].reshape(-1, *operator.measurement_shape)
    for wiener in filters(operator, prior):
        result = wiener.mean(y)
        assert result.shape == (2, 3, *operator.signal_shape)
        torch.testing.assert_close(result.reshape(-1, d), mean, rtol=1e-7, atol=1e-7)
        # draws are linear in the noise, so this is their covariance without sampling
        jacobian = wiener.deviation(noise_x, noise_n).reshape(d + m, d)
        torch.testing.assert_close(jacobian.mT @ jacobian, posterior, rtol=1e-7, atol=1e-7)
        variance = wiener.variance.expand(operator.signal_shape).flatten()
        if isinstance(wiener, IterativeWiener):
            error = variance / posterior.diagonal() - 1
            assert error.abs().max() < 5 * math.sqrt(2 / 256)
            assert error.abs().max() > 0
        else:
            torch.testing.assert_close(variance, posterior.diagonal())


@pytest.mark.parametrize("name", ["circular-2d", "blur-2d", "blur-3d", "motion-2d", "identity-1d"])
def test_circular_convolutions_are_closed_forms(name):
    operator = OPERATORS[name]()
    assert isinstance(wiener_filter(operator, make_prior(operator)[0], 0.1), FourierWiener)


@pytest.mark.parametrize("name", ["blur-2d-zero", "inpainting-2d", "radon-square", "matrix"])
def test_small_operators_are_factored(name):
    operator = OPERATORS[name]()
    assert isinstance(wiener_filter(operator, make_prior(operator)[0], 0.1), DenseWiener)


def test_large_operators_are_iterative():
    operator = GaussianBlur((1, 72, 70), 1.0, "zero")
    full = gaussian_power((72, 70), 2.0, 1.0)
    prior = StationaryPrior(torch.zeros(1, 72, 70), full[None, :, :36])
    wiener = wiener_filter(operator, prior, 0.01)
    assert isinstance(wiener, IterativeWiener)
    y = operator(wiener.prior.mean + normal(2, 1, 72, 70).float())
    x = wiener.mean(y)
    # the normal equations C⁻¹ x = Aᵀ (y − A x) / σ², multiplied by C
    pulled = operator.A_adjoint(y - operator(x)) / 0.01
    full = gaussian_power((72, 70), 2.0, 1.0)
    expected = torch.fft.ifft2(torch.fft.fft2(pulled.double()) * full).real
    torch.testing.assert_close(x.double(), expected, rtol=1e-3, atol=1e-3)


def test_the_closed_form_is_that_of_the_oracle():
    operator = GaussianBlur((1, 16, 17), 1.2)
    power = gaussian_power((16, 17), 1.5, 0.7)
    transfer = impulse_transfer(operator, (16, 17))
    oracle = StationaryGaussian(power, transfer, 0.1, 0.4)
    prior = StationaryPrior(torch.full((1, 16, 17), 0.4, dtype=torch.float64), power[None, :, :9])
    wiener = wiener_filter(operator, prior, 0.1**2)
    y = normal(3, 1, 16, 17)
    torch.testing.assert_close(wiener.mean(y), oracle.posterior_mean(y))
    assert wiener.variance.item() == pytest.approx(oracle.posterior_variance)


@pytest.mark.parametrize("name", ["blur-2d", "inpainting-2d", "mri-2d-coils"])
def test_single_precision(name):
    operator = OPERATORS[name]()
    prior, _ = make_prior(operator)
    y = normal(4, *operator.measurement_shape)
    narrow = StationaryPrior(prior.mean.float(), prior.power)
    for wide, low in zip(filters(operator, prior), filters(operator, narrow), strict=True):
        result = low.mean(y.float())
        assert result.dtype == torch.float32
        torch.testing.assert_close(result.double(), wide.mean(y), rtol=1e-4, atol=1e-4)


def test_blocks_do_not_change_the_result(monkeypatch):
    operator = OPERATORS["inpainting-2d"]()
    prior, _ = make_prior(operator)
    y = normal(7, *operator.measurement_shape)
    expected = IterativeWiener(operator, prior, 0.1, 0.0).mean(y)
    monkeypatch.setattr("latens.problems.wiener.BLOCK_ELEMENTS", 3 * 84)
    result = IterativeWiener(operator, prior, 0.1, 0.0).mean(y)
    torch.testing.assert_close(result, expected)
