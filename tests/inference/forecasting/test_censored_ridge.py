"""Ridge regression with censored readings: its objective, by integration and another optimiser."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import DataError
from latens.inference.forecasting.censored_ridge import censored_ridge

LIMIT, PENALTY = -0.5, 1.0


def readings(count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """y = 1.5 z₁ − .5 z₂ + .3 + .4 n, a third of it below the limit."""
    noise = NoiseStream(2)
    z = 0.2 + noise.normal((count, 2), torch.float64)
    y = z @ torch.tensor([1.5, -0.5]).double() + 0.3 + 0.4 * noise.normal((count,), torch.float64)
    return z, y, y < LIMIT


def cost(parameters: np.ndarray, z: np.ndarray, y: np.ndarray, censored: np.ndarray) -> float:
    """The objective with the probability below the limit by quadrature."""
    w, offset, scale = parameters[:2], parameters[2], np.exp(parameters[3])
    told = z @ w + offset
    seen = norm.logpdf(y, told, scale)[~censored].sum()
    below = sum(
        np.log(quad(norm.pdf, m - 12 * scale, LIMIT, (m, scale), points=[min(m, LIMIT)])[0])
        for m in told[censored]
    )
    return float(-seen - below + PENALTY * w @ w / (2 * scale**2))


def test_it_is_the_maximum_of_its_objective() -> None:
    z, y, censored = readings()
    assert 10 < censored.sum() < 30
    weights, offset = censored_ridge(z, y, censored, LIMIT, PENALTY)
    start = np.asarray([1.0, 0.0, 0.0, -0.5])
    arrays = (z.numpy(), y.numpy(), censored.numpy())
    found = minimize(cost, start, arrays, method="BFGS", options={"gtol": 1e-4}).x
    np.testing.assert_allclose([*weights, offset], found[:3], atol=2e-4)
    hidden = torch.where(censored, torch.nan, y)  # what they were is not looked at
    again = censored_ridge(z, hidden, censored, LIMIT, PENALTY)
    torch.testing.assert_close(again[0], weights)


def test_it_is_nearer_the_truth_than_the_limit_taken_for_a_reading() -> None:
    z, y, censored = readings(2000)
    weights, offset = censored_ridge(z, y, censored, LIMIT, PENALTY)
    torch.testing.assert_close(weights, torch.tensor([1.5, -0.5]).double(), atol=0.05, rtol=0)
    assert float(offset) == pytest.approx(0.3, abs=0.05)
    naive, _ = censored_ridge(z, y.clamp(min=LIMIT), torch.zeros_like(censored), 0.0, PENALTY)
    assert abs(float(naive[0]) - 1.5) > 0.3


def test_without_censored_readings_it_is_ridge_regression() -> None:
    z, y, censored = readings()
    weights, offset = censored_ridge(z, y, torch.zeros_like(censored), LIMIT, PENALTY)
    middle = z.mean(0)
    gram = (z - middle).T @ (z - middle) + PENALTY * torch.eye(2).double()
    expected = torch.linalg.solve(gram, (z - middle).T @ (y - y.mean()))
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(offset, y.mean() - middle @ expected)


def test_nothing_but_censored_readings_is_refused() -> None:
    z, y, censored = readings()
    with pytest.raises(DataError, match="above the limit of detection"):
        censored_ridge(z, y, torch.ones_like(censored), LIMIT, PENALTY)
