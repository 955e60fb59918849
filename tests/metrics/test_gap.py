"""The amortisation gap of Gaussians, where every part of it is known."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from latens.errors import ShapeError
from latens.metrics import marginal_gap


def draws(count, loc, scale, seed, images=4, dim=30):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, images, dim, generator=generator, dtype=torch.float64)
    return loc + scale * noise


def sizes(count, images=4, dim=30):
    return torch.full((images, dim), float(count))


def test_gaussians():
    reference = draws(20_000, 1.0, 2.0, 0)
    found = marginal_gap(reference, draws(20_000, 2.0, 3.0, 1), sizes(20_000)).mean(0)
    exact = kl_divergence(Normal(1.0, 2.0), Normal(2.0, 3.0))
    expected = [0.25, 0.25 + 0.25, math.log(1.5), 30 * exact]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0.02, atol=0)


def test_equal_posteriors_have_no_gap_however_few_the_draws():
    """Without the correction the squared shift would be 1/40 + 1/40."""
    found = marginal_gap(draws(40, 0, 1, 0, 200), draws(40, 0, 1, 1, 200), sizes(40, 200))
    assert abs(found[:, 0].mean()) < 0.003


def test_units_do_not_matter():
    reference, other = draws(50, 0, 1, 0), draws(50, 0.3, 0.8, 1)
    unit = torch.logspace(-3, 3, 30, dtype=torch.float64)
    torch.testing.assert_close(
        marginal_gap(reference, other, sizes(50)),
        marginal_gap(unit * reference + 7, unit * other + 7, sizes(50)),
    )


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(ShapeError):
        marginal_gap(draws(9, 0, 1, 0), draws(9, 0, 1, 1, images=3), sizes(9))
    with pytest.raises(ShapeError):
        marginal_gap(draws(9, 0, 1, 0), draws(1, 0, 1, 1), sizes(9))
