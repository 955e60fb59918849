"""Regressors as posteriors: one Gaussian, an ensemble of Gaussians, and dropout."""

import math

import pytest
import torch

from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError
from latens.inference import (
    DEFAULT_DRAWS,
    Ensemble,
    EnsemblePosterior,
    MonteCarloDropout,
    Posterior,
    Predictive,
    Regression,
)
from latens.models import UNet
from latens.store import Status
from models.model_cases import SHAPE, make_model, make_pairs

X, Y = make_pairs(6, seed=1)


def unet(name: str = "unet", seed: int = 0, free: float = -1.0) -> UNet:
    """A U-Net whose σ is not the initial one."""
    model = make_model(name, seed)
    assert isinstance(model, UNet)
    torch.nn.init.constant_(model.scale.free, free / 10)
    return model.eval()


def sigma(model: UNet) -> float:
    with torch.no_grad():
        return float(model.signal_units.scale * model.scale(torch.zeros(1, 1, 1)))


def test_a_predictive_has_the_moments_of_its_normal():
    model = unet()
    posterior = Predictive(model, Status.STOPPED)(Y, seed=3)
    assert isinstance(posterior, Posterior)
    assert posterior.includes_decoder_spread
    assert posterior.status is Status.STOPPED
    torch.testing.assert_close(posterior.mean, Regression(model)(Y).mean)
    assert 0.01 < sigma(model) < 0.6
    torch.testing.assert_close(posterior.std, torch.full_like(X, sigma(model)))
    residual = (posterior.sample(400) - posterior.mean) / sigma(model)
    assert abs(residual.std() - 1) < 4.5 / math.sqrt(2 * residual.numel())
    # pixels are independent, so a region of 144 gets a twelfth of the spread: stated, not hidden
    region = residual.flatten(2).mean(2) * 12
    assert abs(region.std() - 1) < 4.5 / math.sqrt(2 * region.numel())


def test_an_ensemble_of_predictives_is_the_mixture():
    models = [unet(seed=seed, free=free) for seed, free in ((0, -1.0), (1, -0.5), (2, -2.0))]
    posterior = Ensemble([Predictive(model) for model in models])(Y, seed=2)
    assert isinstance(posterior, EnsemblePosterior)
    assert posterior.includes_decoder_spread
    with torch.no_grad():
        means = torch.stack([model.reconstruct(Y) for model in models])
    mean = means.mean(0)
    variance = sum(sigma(m) ** 2 for m in models) / 3 + (means - mean).square().mean(0)
    torch.testing.assert_close(posterior.mean, mean)
    torch.testing.assert_close(posterior.std, variance.sqrt())
    draws = posterior.sample(600)
    error = (draws.mean(0) - mean) / variance.sqrt() * math.sqrt(600)
    assert error.square().mean().sqrt() < 1.3
    ratio = draws.var(0).mean() / variance.mean()
    assert abs(ratio - 1) < 0.15


def test_dropout_draws_are_the_network_under_keyed_masks():
    model = unet("unet-dropout")
    keys = range(20, 26)
    posterior = MonteCarloDropout(model)(Y, keys=keys, seed=4)
    draws = posterior.make_draws(5)
    masks = row_noise((4, Purpose.MASK), keys, (5, model.maps))
    noise = row_noise((4, Purpose.SIGNAL), keys, (5, *SHAPE))
    with torch.no_grad():
        for m in range(5):
            loc = model.reconstruct_dropped(Y, masks[m])
            torch.testing.assert_close(draws.loc[m], loc)
            torch.testing.assert_close(draws.values[m], loc + sigma(model) * noise[m])
    assert len(draws.loc.flatten(1).unique(dim=0)) == 5
    torch.testing.assert_close(
        draws.variance.expand_as(draws.loc), torch.full_like(draws.loc, sigma(model) ** 2)
    )
    assert posterior.includes_decoder_spread
    kept = posterior.draws.loc
    torch.testing.assert_close(posterior.mean, kept.mean(0))
    torch.testing.assert_close(posterior.std, (sigma(model) ** 2 + kept.var(0)).sqrt())
    assert kept.shape == (DEFAULT_DRAWS, *X.shape)


def test_masks_are_no_matter_of_torch_s_generator():
    model = unet("unet-dropout")
    first = MonteCarloDropout(model)(Y, seed=4).sample()
    before = torch.get_rng_state()
    torch.rand(3)
    moved = torch.get_rng_state()
    again = MonteCarloDropout(model)(Y, seed=4).sample()
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(before, moved)
    torch.testing.assert_close(Regression(model)(Y).mean, model.reconstruct(Y).detach())


def test_a_network_without_dropout_has_no_masks():
    with pytest.raises(ConfigError, match="dropout") as caught:
        MonteCarloDropout(unet())
    assert "\n" not in str(caught.value)
