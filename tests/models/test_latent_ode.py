"""Latent ODE: evidence, padding, gradients, learning."""

import math

import pytest
import torch

from inference.forecasting.growth_cases import uneven
from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError
from latens.models.latent_ode import LatentODE
from latens.models.visits import Visits, usual_gap, visits_of
from latens.training import Training, fit_model


def visits(count: int = 10) -> Visits:
    series = uneven().take(range(count))
    return visits_of(series, usual_gap(series), series.log_limit, ended=True, dtype=torch.float64)


def model(gradient: str = "backprop", dim: int = 3) -> LatentODE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = LatentODE(7, dim=dim, width=8, gradient=gradient)  # pyright: ignore[reportArgumentType]
        for parameter in made.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return made.double()


def test_packing_is_reversible() -> None:
    given = visits()
    back = Visits.unpacked(given.packed())
    for name in ("level", "since", "mask", "final", "gaps", "repeated", "unseen"):
        assert torch.equal(getattr(given, name), getattr(back, name))
    assert bool(given.final.sum(1).eq(1).all())
    assert bool(given.repeated.any())


def test_elbo_is_below_the_evidence() -> None:
    ode, given = model(), visits(6)
    with torch.no_grad():
        posterior = ode.posterior(given)
        effects = draw(posterior, NoiseStream(1).normal((4000, 6, 3), torch.float64))
        log_likelihood, _ = ode.run(effects, given)
        log_ratio = ode.prior(6, effects).log_prob(effects) - posterior.log_prob(effects)
        evidence = (log_likelihood + log_ratio).logsumexp(0) - math.log(4000)
        plain = NoiseStream(2).normal((20_000, 6, 3), torch.float64)
        log_plain, _ = ode.run(plain, given)
        reference = log_plain.logsumexp(0) - math.log(20_000)
        # variance of the log of a mean of weights: one over their effective number
        variance = (log_likelihood + log_ratio).softmax(0).square().sum(0)
        variance = variance + log_plain.softmax(0).square().sum(0)
        packed = given.packed()
        terms = ode.terms("likelihood", packed, packed, NoiseStream(9), None)
        own, _ = ode.run(draw(posterior, NoiseStream(9).normal((6, 3))), given)
    assert float(variance.max()) < 0.05
    assert bool(((evidence - reference).abs() < 4 * variance.sqrt()).all())
    torch.testing.assert_close(terms.log_likelihood, own)
    assert terms.kl is not None
    torch.testing.assert_close(terms.kl, -log_ratio.mean(0), rtol=0.05, atol=0.15)
    bound = log_likelihood.mean(0) - terms.kl
    assert bool((bound < evidence + 0.02).all())
    assert bool((evidence - bound < 5).all())


def test_padding_and_neighbours_do_not_matter() -> None:
    ode, given = model(), visits()
    effects = NoiseStream(4).normal((2, 10, 3), torch.float64)
    total, state = ode.run(effects, given)
    posterior = ode.posterior(given)
    for row in range(10):
        n = int(given.mask[row].sum())
        parts = (given.level, given.since, given.mask, given.final)
        alone = Visits(*(part[row : row + 1, :n] for part in parts))
        value, end = ode.run(effects[:, row : row + 1], alone)
        torch.testing.assert_close(total[:, row : row + 1], value)
        torch.testing.assert_close(state[:, row : row + 1], end)
        torch.testing.assert_close(posterior.mean[row : row + 1], ode.posterior(alone).mean)


def test_adjoint_gives_the_gradients_of_backpropagation() -> None:
    given = visits(5)
    effects = NoiseStream(4).normal((5, 3), torch.float64)
    found = []
    for gradient in ("backprop", "adjoint"):
        ode = model(gradient)
        ode.ode.steps = 12
        ode.run(effects, given)[0].sum().backward()
        found.append([p.grad for p in ode.ode.parameters()] + [ode.log_first.grad])
    for first, second in zip(*found, strict=True):
        assert first is not None
        assert second is not None
        torch.testing.assert_close(first, second, rtol=2e-3, atol=2e-5)


def test_training_raises_the_likelihood() -> None:
    series = uneven()
    packed = visits_of(
        series, usual_gap(series), series.log_limit, ended=True, dtype=torch.float32
    ).packed()
    ode = model().float()
    before = ode.terms("likelihood", packed, packed, NoiseStream(0), None).elbo.mean().detach()
    settings = Training(
        max_steps=60,
        batch_size=20,
        learning_rate=1e-2,
        warmup_steps=2,
        kl_warmup_steps=5,
        validate_every=20,
    )
    train, validation = packed[:48], packed[48:]
    result = fit_model(ode, (train, train), (validation, validation), settings, 0)
    after = ode.terms("likelihood", packed, packed, NoiseStream(0), None).elbo.mean().detach()
    assert result.outcome.usable
    assert float(after) > float(before) + 1.0


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="2 or more"):
        LatentODE(1)
    with pytest.raises(ConfigError, match="2 or more"):
        LatentODE(5, dim=1)
