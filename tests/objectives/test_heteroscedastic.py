"""β-NLL and faithful gradients against their definitions, in float64."""

import pytest
import torch
from torch.distributions import Normal

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError
from latens.objectives.heteroscedastic import beta_nll, faithful

B, D = 4, 5


def case():
    stream = NoiseStream(3)
    x = stream.normal((B, D), torch.float64)
    loc = stream.normal((B, D), torch.float64).requires_grad_()
    scale = (0.3 * stream.normal((B, D), torch.float64)).exp().requires_grad_()
    return x, loc, scale


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_gradients_of_beta_nll(beta):
    """∂/∂m = σ^{2β} (x − m)/σ²,  ∂/∂σ = σ^{2β} ((x − m)²/σ³ − 1/σ)."""
    x, loc, scale = case()
    value = beta_nll(x, diagonal_normal(loc, scale, 1), beta)
    assert value.shape == (B,)
    expected = (scale ** (2 * beta) * Normal(loc, scale).log_prob(x)).sum(1)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    s, r = scale.detach(), x - loc.detach()
    torch.testing.assert_close(loc.grad, s ** (2 * beta) * r / s**2)
    torch.testing.assert_close(scale.grad, s ** (2 * beta) * (r**2 / s**3 - 1 / s))


def test_the_ends_of_beta():
    """β = 0 is the likelihood; β = 1 gives the mean the gradient of half a squared error."""
    x, loc, scale = case()
    decoded = diagonal_normal(loc, scale, 1)
    torch.testing.assert_close(beta_nll(x, decoded, 0.0), decoded.log_prob(x))
    (gradient,) = torch.autograd.grad(beta_nll(x, decoded, 1.0).sum(), loc)
    torch.testing.assert_close(gradient, x - loc.detach())


def test_one_scale_per_image_counts_every_element():
    x, loc, _ = case()
    scale = torch.full((B, 1), 0.5, dtype=torch.float64)
    value = beta_nll(x, diagonal_normal(loc, scale, 1), 0.5)
    expected = 0.5 * Normal(loc, 0.5).log_prob(x).sum(1)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_beta_outside_its_range(beta):
    x, loc, scale = case()
    with pytest.raises(ConfigError, match="beta"):
        beta_nll(x, diagonal_normal(loc, scale, 1), beta)


def test_faithful_gradients():
    """The mean learns as its twin with scale s does; σ learns as if the mean were given."""
    x, loc, scale = case()
    reference = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    parts = faithful(x, diagonal_normal(loc, scale, 1), reference)
    sum(part.sum() for part in parts).backward()
    r, s = x - loc.detach(), scale.detach()
    torch.testing.assert_close(loc.grad, r / 0.7**2)
    torch.testing.assert_close(scale.grad, r**2 / s**3 - 1 / s)
    torch.testing.assert_close(reference.grad, (r**2 / 0.7**3 - 1 / 0.7).sum())
    torch.testing.assert_close(parts[0], Normal(loc, 0.7).log_prob(x).sum(1))
    torch.testing.assert_close(parts[1], Normal(loc, scale).log_prob(x).sum(1))


def test_all_have_the_same_best_scale():
    """For a given mean every objective is best at σ² = the mean squared error."""
    x, loc, _ = case()
    loc = loc.detach()
    best = (x - loc).square().mean().sqrt().requires_grad_()
    for beta in (0.0, 0.5, 1.0):
        decoded = diagonal_normal(loc, best.expand(B, D), 1)
        (gradient,) = torch.autograd.grad(beta_nll(x, decoded, beta).sum(), best)
        assert abs(float(gradient)) < 1e-12
    (gradient,) = torch.autograd.grad(
        faithful(x, diagonal_normal(loc, best.expand(B, D), 1), torch.ones(()))[1].sum(), best
    )
    assert abs(float(gradient)) < 1e-12
