"""Draws below a bound, however far in the tail."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr

from latens.distributions import log_below, moments_below, normal_below


@pytest.mark.parametrize("uniform", [1e-6, 0.01, 0.5, 0.99, 1 - 1e-6])
def test_quantiles_and_their_gradients(uniform: float) -> None:
    bound = torch.linspace(-300, 12, 2001, dtype=torch.float64)
    u = torch.tensor(uniform, dtype=torch.float64)
    found = normal_below(bound, u)
    assert (found <= bound).all()
    expected = math.log(uniform) + log_ndtr(bound.numpy())
    np.testing.assert_allclose(log_ndtr(found.numpy()), expected, rtol=1e-12, atol=1e-14)
    few = bound[::100].requires_grad_()
    assert torch.autograd.gradcheck(lambda b: normal_below(b, u), few)


@pytest.mark.parametrize("bound", [-200.0, -31.0, -29.0, -8.5, -1.0, 0.7, 9.0])
def test_probability_and_moments_below_a_bound_against_integration(bound: float) -> None:
    """N(2, 1.5²) below 2 + 1.5 b, its density relative to that at the bound or the mode."""
    top = -0.5 * min(bound, 0.0) ** 2
    width = 1 / max(1.0, -bound)

    def integral(power: int, about: float = 0.0) -> float:
        def density(e: float) -> float:
            return (e - about) ** power * math.exp(-0.5 * e * e - top)

        start = max(bound - 60 * width, -40.0) if bound > -30 else bound - 60 * width
        return quad(density, start, bound, epsabs=0, epsrel=1e-12, limit=400)[0]

    total = integral(0)
    mean = bound + integral(1, bound) / total
    variance = integral(2, mean) / total
    loc, scale = torch.tensor(2.0).double(), torch.tensor(1.5).double()
    limit = torch.tensor(2.0 + 1.5 * bound, dtype=torch.float64)
    found = float(log_below(limit, loc, scale))
    assert found == pytest.approx(math.log(total) + top - 0.5 * math.log(2 * math.pi), rel=1e-9)
    first, second = moments_below(limit, loc, scale)
    assert float(first) == pytest.approx(2 + 1.5 * mean, rel=1e-9)
    assert float(second) == pytest.approx(1.5**2 * variance, rel=1e-5)


def test_the_gradient_of_a_censored_reading_is_finite_in_single_precision() -> None:
    loc = torch.tensor([50.0, 8.0, -3.0], requires_grad=True)
    log_below(torch.tensor(0.0), loc, torch.tensor(1.0)).sum().backward()
    assert loc.grad is not None
    np.testing.assert_allclose(loc.grad, [-50.01998, -8.121368, -4.437839e-3], rtol=1e-4)
