"""Priors of a mixture against torch's own densities, Monte Carlo and quadrature, in float64."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.models.mixture import MixtureVAE
from latens.models.mixture_prior import (
    DiagonalPrior,
    FlowPrior,
    FullPrior,
    LatentPrior,
    StandardPrior,
)
from latens.models.mixture_settings import Prior, Terms
from latens.nets.components import Decoder

DIM, K, B = 3, 4, 5
SETTINGS = {
    "standard": Prior(),
    "diagonal": Prior(latents="learned"),
    "full": Prior(latents="learned", covariance="full"),
    "flow": Prior(latents="flow", couplings=3),
}
KINDS = {
    "standard": StandardPrior,
    "diagonal": DiagonalPrior,
    "full": FullPrior,
    "flow": FlowPrior,
}


def make(kind: str) -> LatentPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        prior = SETTINGS[kind].build(DIM, K).double()
        for parameter in prior.parameters():
            parameter.data += 0.4 * torch.randn_like(parameter)
    return prior


def posterior() -> Independent:
    stream = NoiseStream(3)
    scale = 0.2 + stream.uniform((K, B, DIM), torch.float64)
    return diagonal_normal(stream.normal((K, B, DIM), torch.float64), scale, 1)


def test_settings_name_the_kinds():
    for kind, setting in SETTINGS.items():
        assert type(setting.build(DIM, K)) is KINDS[kind]


@torch.no_grad()
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_divergence_is_the_mean_of_the_log_ratio(kind):
    prior, q = make(kind), posterior()
    noise = NoiseStream(4).normal((4000, K, B, DIM), torch.float64)
    z = draw(q, noise)
    ratio = q.log_prob(z) - prior().log_prob(z)  # (S, K, B)
    found = prior.kl(q, z)
    found = found.mean(0) if found.ndim == 3 else found
    assert found.shape == (K, B)
    assert ((found - ratio.mean(0)).abs() < 4.5 * ratio.std(0) / 4000**0.5 + 1e-12).all()


@torch.no_grad()
def test_a_full_covariance_against_the_general_closed_form():
    prior, q = make("full"), posterior()
    p = prior()
    assert isinstance(p, MultivariateNormal)
    off = p.covariance_matrix - torch.diag_embed(p.covariance_matrix.diagonal(0, -2, -1))
    assert (off.abs().amax((1, 2, 3)) > 0.01).all()
    general = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    expected = kl_divergence(general, p.expand((K, B)))
    torch.testing.assert_close(prior.kl(q, q.mean), expected)


@torch.no_grad()
def test_a_full_covariance_without_correlation_is_a_diagonal_one():
    full, diagonal, q = make("full"), make("diagonal"), posterior()
    full.below.zero_()
    full.loc.copy_(diagonal.loc)
    full.log_scale.copy_(diagonal.log_scale)
    torch.testing.assert_close(full.kl(q, q.mean), diagonal.kl(q, q.mean))
    z = NoiseStream(0).normal((7, 1, B, DIM), torch.float64)
    torch.testing.assert_close(full().log_prob(z), diagonal().log_prob(z))


@torch.no_grad()
def test_a_flow_is_a_density():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        flow = Prior(latents="flow", couplings=3).build(2, K).double()
        for parameter in flow.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    axis = torch.linspace(-10, 10, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None, None]
    density = flow().log_prob(grid).exp()[:, 0, 0]
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-4)
    standard = Normal(0, 1).log_prob(grid).sum(-1).exp()[:, 0, 0]
    assert (density - standard).abs().max() > 0.01


@torch.no_grad()
def test_one_component_is_an_ordinary_vae():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtureVAE(
            (1, 6, 6),
            3,
            components=1,
            dim=2,
            decoder=Decoder(component="plain", likelihood="bernoulli", width=8),
            prior=Prior(posterior="shared"),
            terms=Terms(supervised=0, invariance=0, pseudo_label=0),
            encoder="dense",
            width=1,
            features=8,
        ).double()
    x = NoiseStream(1).uniform((B, 1, 6, 6), torch.float64).round()
    found = model.terms("elbo", x, torch.full((B,), -1), NoiseStream(2), None)
    z = draw(model.latent_posterior(x), NoiseStream(2).normal((1, B, 2), torch.float64))[0]
    q = model.latent_posterior(x)
    kl = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(-1)[0]
    logits = model.decoder.trunk(z, torch.ones(B, 1, dtype=torch.float64))[0]
    chance = logits.sigmoid()
    expected = torch.where(x > 0.5, chance, 1 - chance).log().sum((1, 2, 3)) - kl
    torch.testing.assert_close(found.elbo, expected)
    assert math.isclose(float(model.log_component(x).exp().sum()), B)
