"""Draws below a bound, however far in the tail."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr

from latens.distributions import normal_below


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
