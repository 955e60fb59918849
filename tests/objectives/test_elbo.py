"""The evidence lower bound where log p(x) is known, and its one reduction."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import NumericalError
from latens.objectives import LossTerms, elbo_terms, likelihood_terms, reduce_terms
from latens.objectives import kl_divergence as latens_kl
from latens.objectives.terms import require_finite

SIGMA = 0.4
W = torch.tensor([0.9, -1.3, 0.5, 0.2, 1.1], dtype=torch.float64)
B = torch.tensor([0.1, 0.0, -0.4, 1.0, 0.3], dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


# x = W z + B + SIGMA n with one latent: evidence and posterior are closed forms
X = normal(6, 1, seed=1) * W + B + SIGMA * normal(6, 5, seed=2)
EVIDENCE = MultivariateNormal(
    B, torch.outer(W, W) + SIGMA**2 * torch.eye(5, dtype=torch.float64)
).log_prob(X)
PRECISION = 1 + W.square().sum() / SIGMA**2
POSTERIOR_MEAN = ((X - B) @ W / SIGMA**2 / PRECISION)[:, None]
POSTERIOR_SCALE = PRECISION.rsqrt().expand(6, 1)


def monte_carlo_elbo(loc: torch.Tensor, scale: torch.Tensor, draws: int = 4000):
    """Mean and standard error of the one-draw bound, `(6,)` each."""
    q = diagonal_normal(loc, scale, 1)
    prior = diagonal_normal(torch.zeros(6, 1).double(), torch.ones(6, 1).double(), 1)
    z = draw(q, normal(draws, 6, 1, seed=3))
    decoded = diagonal_normal(z * W + B, torch.tensor(SIGMA).double(), 1)
    bound = elbo_terms(X, decoded, q, prior).elbo
    return bound.mean(0), bound.std(0) / math.sqrt(draws)


def test_the_bound_is_the_evidence_at_the_exact_posterior():
    mean, error = monte_carlo_elbo(POSTERIOR_MEAN, POSTERIOR_SCALE)
    assert ((mean - EVIDENCE).abs() < 4 * error).all()
    assert error.max() < 0.05


@pytest.mark.parametrize(("shift", "factor"), [(0.3, 1.0), (-0.5, 1.0), (0.0, 2.0), (0.2, 0.4)])
def test_the_gap_is_the_divergence_from_the_exact_posterior(shift, factor):
    loc, scale = POSTERIOR_MEAN + shift, POSTERIOR_SCALE * factor
    mean, error = monte_carlo_elbo(loc, scale)
    exact = diagonal_normal(POSTERIOR_MEAN, POSTERIOR_SCALE, 1)
    gap = kl_divergence(diagonal_normal(loc, scale, 1), exact)
    assert gap.min() > 0.1
    assert ((mean + gap - EVIDENCE).abs() < 4 * error).all()
    assert (mean < EVIDENCE).all()


def test_kl_is_summed_over_latents():
    q = diagonal_normal(normal(3, 4), normal(3, 4, seed=1).exp(), 1)
    p = diagonal_normal(normal(3, 4, seed=2), normal(3, 4, seed=3).exp(), 1)
    z = draw(q, normal(20_000, 3, 4, seed=4))
    ratio = q.log_prob(z) - p.log_prob(z)
    error = ratio.std(0) / math.sqrt(20_000)
    assert latens_kl(q, p).shape == (3,)
    assert ((ratio.mean(0) - latens_kl(q, p)).abs() < 4 * error).all()


def test_likelihood_terms():
    p = diagonal_normal(normal(6, 5), torch.ones(6, 5).double(), 1)
    terms = likelihood_terms(X, p)
    assert terms.kl is None
    torch.testing.assert_close(terms.log_likelihood, p.log_prob(X))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood)


def some_terms(**weights: float) -> LossTerms:
    extras = {"task": normal(4, seed=3), "other": normal(4, seed=4)}
    return LossTerms(normal(4), normal(4, seed=1).square(), extras, weights)


@pytest.mark.parametrize("size", [1, 7, 784])
@pytest.mark.parametrize("weights", [{}, {"kl": 0.25}, {"kl": 0.0, "task": 3.0, "other": -2.0}])
def test_reduction(size, weights):
    terms = some_terms(**weights)
    beta = weights.get("kl", 1.0)
    expected = -(terms.log_likelihood - beta * terms.kl).mean() / size
    for name, value in terms.extras.items():
        expected = expected + weights.get(name, 1.0) * value.mean()
    torch.testing.assert_close(reduce_terms(terms, size), expected)
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)  # whatever β


@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
def test_a_warm_up_leaves_the_divergence_of_the_component(beta):
    """It counts in full whatever β is, and belongs to the bound."""
    likelihood, kl, component = normal(4), normal(4, seed=1).square(), normal(4, seed=5).square()
    terms = LossTerms(likelihood, kl, weights={"kl": beta}, component_kl=component)
    expected = -(likelihood - beta * kl - component).mean() / 7
    torch.testing.assert_close(reduce_terms(terms, 7), expected)
    torch.testing.assert_close(terms.elbo, likelihood - kl - component)
    assert terms.means()["component_kl"] == pytest.approx(float(component.mean()))


def test_the_size_of_the_event_only_scales():
    likelihood, kl = normal(4).requires_grad_(), normal(4, seed=1).requires_grad_()
    gradients = [
        torch.autograd.grad(reduce_terms(LossTerms(likelihood, kl), size), (likelihood, kl))
        for size in (1, 50)
    ]
    for small, large in zip(*gradients, strict=True):
        torch.testing.assert_close(small, 50 * large)


def test_means_name_every_term():
    terms = some_terms()
    assert set(terms.means()) == {"log_likelihood", "kl", "task", "other"}
    assert terms.means()["kl"] == pytest.approx(float(terms.kl.mean()))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(bad):
    terms = LossTerms(torch.tensor([bad, 1.0]), torch.tensor([2.0, 3.0]))
    with pytest.raises(NumericalError, match="step 17") as caught:
        require_finite(reduce_terms(terms, 10), terms, 17)
    assert caught.value.step == 17
    assert caught.value.terms["kl"] == 2.5
    assert not math.isfinite(caught.value.terms["log_likelihood"])
