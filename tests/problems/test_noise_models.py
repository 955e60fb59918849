"""Noise models against their own density: samples, normalisation, score, information."""

import numpy as np
import pytest
import torch
from scipy import stats

from latens.distributions import draw
from latens.errors import ConfigError
from latens.problems import GaussianNoise
from problems.operator_cases import NOISES, normal

CLEAN = torch.tensor([-1.5, 0.0, 0.2, 3.0], dtype=torch.float64)


@pytest.fixture(params=list(NOISES))
def noise(request):
    return NOISES[request.param]()


def quadrature(noise, clean: torch.Tensor):
    """Trapezoid nodes, weights and density of y for each clean value: `(nodes, *clean)`."""
    spread = noise.fisher(clean).rsqrt()
    steps = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    y = clean + steps * spread
    weight = (steps[1] - steps[0]) * spread
    return y, weight, noise.elementwise(clean).log_prob(y).exp()


def test_density_integrates_to_one(noise):
    _, weight, density = quadrature(noise, CLEAN)
    torch.testing.assert_close((weight * density).sum(0), torch.ones_like(CLEAN))


def test_samples_follow_the_density(noise):
    y, weight, density = quadrature(noise, CLEAN)
    samples = draw(noise(CLEAN, 1), normal(4000, len(CLEAN)))
    cumulative = (weight * density).cumsum(0)
    for k in range(len(CLEAN)):
        grid, cdf = y[:, k].numpy(), cumulative[:, k].numpy()
        p = stats.kstest(samples[:, k].numpy(), lambda s, g=grid, c=cdf: _interpolate(s, g, c))
        assert p.pvalue > 0.001


def _interpolate(values, grid, cdf):
    return cdf[np.searchsorted(grid, values)]


def test_fisher_is_the_mean_square_score(noise):
    y, weight, density = quadrature(noise, CLEAN)
    clean = CLEAN.expand_as(y).clone().requires_grad_()
    (score,) = torch.autograd.grad(noise.elementwise(clean).log_prob(y).sum(), clean)
    information = (weight * density * score.square()).sum(0)
    torch.testing.assert_close(information, noise.fisher(CLEAN), rtol=1e-5, atol=1e-8)


def test_gaussian_score_is_closed_form():
    y = normal(5)
    clean = normal(5, seed=1).requires_grad_()
    (score,) = torch.autograd.grad(GaussianNoise(0.3)(clean, 1).log_prob(y), clean)
    torch.testing.assert_close(score, (y - clean.detach()) / 0.09)


def test_whitened_residual_has_unit_variance(noise):
    y, weight, density = quadrature(noise, CLEAN)
    white = noise.whiten(y - CLEAN, CLEAN)
    torch.testing.assert_close((weight * density * white.square()).sum(0), torch.ones_like(CLEAN))


def test_shapes_and_dtype(noise):
    clean = normal(3, 2, 4, 5, dtype=torch.float32)
    distribution = noise(clean, 2)
    assert distribution.batch_shape == (3, 2)
    assert distribution.event_shape == (4, 5)
    log_prob = distribution.log_prob(clean)
    assert log_prob.shape == (3, 2)
    assert log_prob.dtype == torch.float32
    assert noise.fisher(clean).dtype == torch.float32


def test_log_prob_keeps_its_constants():
    clean = normal(6)
    expected = stats.norm.logpdf([0.5] * 6, clean.numpy(), 0.3).sum()
    y = torch.full((6,), 0.5, dtype=torch.float64)
    assert GaussianNoise(0.3)(clean, 1).log_prob(y).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scale(scale):
    with pytest.raises(ConfigError, match="`scale`: expected a positive standard deviation"):
        GaussianNoise(scale)
