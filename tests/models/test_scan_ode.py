"""Latent ODE of scans: evidence, padding, closed forms, learning."""

import math

import pytest
import torch
from torch import Tensor

from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError
from latens.models.scan_ode import EncodedVisits, ScanODE
from latens.nets.ode import GompertzField
from latens.training import Training, fit_model


def visits(count: int = 6, length: int = 4, dim: int = 2) -> EncodedVisits:
    noise = NoiseStream(0)
    loc = noise.normal((count, length, dim)).double()
    variance = 0.05 + noise.uniform((count, length, dim)).double()
    since = (0.5 + noise.uniform((count, length)).double()).cumsum(1)
    since = since - since[:, :1]
    mask = torch.arange(length)[None] < torch.tensor([length, 2, length, 3, 1, length])[:, None]
    zero = torch.where(mask, since, 0.0)
    return EncodedVisits(
        torch.where(mask[..., None], loc, 0.0),
        torch.where(mask[..., None], variance, 1.0),
        zero,
        mask,
    )


def model(aligned: bool = True, hidden: int = 1, **settings) -> ScanODE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ScanODE(4, 2, aligned=aligned, hidden=hidden, width=6, **settings)
        for parameter in made.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return made.double()


def test_packing_is_reversible() -> None:
    given = visits()
    back = EncodedVisits.unpacked(given.packed())
    for name in ("loc", "variance", "since", "mask"):
        assert torch.equal(getattr(given, name), getattr(back, name))


def test_elbo_is_below_the_evidence() -> None:
    ode, given = model(), visits()
    packed = given.packed()
    with torch.no_grad():
        terms = [ode.terms("likelihood", packed, packed, NoiseStream(k), None) for k in range(800)]
        elbo = torch.stack([t.elbo for t in terms]).mean(0)
        first = NoiseStream(1).normal((200_000, 6, 3)).double()
        path = ode.path(first, given.since)[..., :2]
        scale = ode.reading_variance(given.variance).sqrt()
        nats = torch.distributions.Normal(path, scale).log_prob(given.loc).sum(-1)
        total = torch.where(given.mask, nats, 0.0).sum(-1)
        evidence = total.logsumexp(0) - math.log(len(first))
    assert bool((elbo < evidence + 0.05).all())
    assert bool((evidence - elbo < 30).all())


def test_without_change_the_evidence_is_that_of_a_mean() -> None:
    """A field of zero: visits are readings of one z ~ N(0, 1), a Gaussian in closed form."""
    ode, given = model(aligned=False, hidden=0), visits()
    ode.ode.field.log_residual.data.fill_(-60.0)  # pyright: ignore
    with torch.no_grad():
        first = NoiseStream(1).normal((200_000, 6, 2)).double()
        path = ode.path(first, given.since)
        torch.testing.assert_close(path, first[..., None, :].expand_as(path))
        variance = ode.reading_variance(given.variance)
        scale = variance.sqrt()
        nats = torch.distributions.Normal(path, scale).log_prob(given.loc).sum(-1)
        sampled = torch.where(given.mask, nats, 0.0).sum(-1).logsumexp(0) - math.log(len(first))
    for b in range(6):
        n = int(given.mask[b].sum())
        exact = torch.zeros(())
        for j in range(2):
            covariance = torch.ones(n, n).double() + torch.diag(variance[b, :n, j])
            normal = torch.distributions.MultivariateNormal(torch.zeros(n).double(), covariance)
            exact = exact + normal.log_prob(given.loc[b, :n, j])
        torch.testing.assert_close(sampled[b], exact.double(), atol=0.05, rtol=0)


def test_the_first_latent_grows_by_gompertz() -> None:
    ode = model(hidden=0)
    field = ode.ode.field
    assert isinstance(field, GompertzField)
    field.log_residual.data.fill_(-60.0)
    rate, plateau = field.log_rate.exp(), field.plateau
    start = torch.tensor([[-1.0, 0.3]]).double()
    since = torch.tensor([[0.0, 1.0, 2.5]]).double()
    with torch.no_grad():
        path = ode.path(start, since)[0]
        exact = plateau + (start[0, 0] - plateau) * torch.exp(-rate * since[0])
    torch.testing.assert_close(path[:, 0], exact, atol=1e-5, rtol=0)
    torch.testing.assert_close(path[:, 1], torch.full((3,), 0.3).double())


def test_padding_and_other_rows_change_nothing() -> None:
    ode, given = model(), visits()
    packed = given.packed()
    with torch.no_grad():
        whole = ode.posterior(given)
        alone = EncodedVisits.unpacked(packed[1:2, :2])
        own = ode.posterior(alone)
        torch.testing.assert_close(own.mean[0], whole.mean[1])
        torch.testing.assert_close(own.stddev[0], whole.stddev[1])
        first = draw(whole, torch.zeros(6, 3).double())
        long = ode.path(first, given.since)[1, :2]
        short = ode.path(first[1:2], alone.since)[0]
        torch.testing.assert_close(long, short)


def test_a_visit_counts_by_what_its_encoder_knew() -> None:
    ode, given = model(hidden=0), visits()
    ode.head.weight.data.zero_()
    ode.head.bias.data.zero_()
    ode.earliest.data.fill_(-30.0)  # the mean of all visits alone
    vague = given.variance.clone()
    vague[0, 1] = 1e6
    with torch.no_grad():
        middle = ode.posterior(EncodedVisits(given.loc, vague, given.since, given.mask)).mean[0]
        precision = 1 / ode.reading_variance(given.variance[0, [0, 2, 3]])
        expected = (precision * given.loc[0, [0, 2, 3]]).sum(0) / precision.sum(0)
    torch.testing.assert_close(middle, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("aligned", [True, False])
def test_gradients_by_steps_and_by_the_adjoint(aligned: bool) -> None:
    packed = visits().packed()
    found: list[list[Tensor]] = []
    for gradient in ("backprop", "adjoint"):
        ode = model(aligned, gradient=gradient, steps=4)
        terms = ode.terms("likelihood", packed, packed, NoiseStream(5), None)
        terms.elbo.sum().backward()
        found.append([p.grad for p in ode.ode.parameters() if p.grad is not None])
    assert len(found[0]) >= 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-4)


def test_it_learns_how_latents_move() -> None:
    """z₁ moves to 1 at a rate of .5, z₂ stays: forecasts beat the last visit."""
    noise = NoiseStream(3)
    start = noise.normal((200, 1, 2))
    since = torch.arange(4.0).expand(200, 4)
    truth = start.expand(200, 4, 2).clone()
    truth[..., 0] = 1 + (start[..., 0] - 1) * torch.exp(-0.5 * since)
    read = truth + 0.1 * noise.normal((200, 4, 2))
    variance = torch.full_like(read, 0.01)
    mask = torch.ones(200, 4, dtype=torch.bool)
    packed = EncodedVisits(read, variance, since, mask).packed()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ode = ScanODE(4, 2, aligned=True, hidden=1, width=8)
    settings = Training(
        max_steps=200,
        batch_size=50,
        learning_rate=1e-2,
        warmup_steps=5,
        kl_warmup_steps=0,
        validate_every=50,
    )
    train, held = packed[:150], packed[150:]
    fit_model(ode, (train, train), (held, held), settings, 0)
    with torch.no_grad():
        known = EncodedVisits.unpacked(packed[150:, :3])
        first = ode.posterior(known).mean
        forecast = ode.path(first, since[150:])[:, 3, :2]
        error_of_steps = ode.halving_error(first, since[150:])
    error = (forecast - truth[150:, 3]).square().mean(0).sqrt()
    last = (read[150:, 2] - truth[150:, 3]).square().mean(0).sqrt()
    assert error[0] < 0.6 * last[0]
    assert error[1] < last[1]
    assert error_of_steps.shape == (50,)
    assert 0 < error_of_steps.max() < 5e-3


@pytest.mark.parametrize("numbers", [(1, 2, 0), (3, 0, 0), (3, 2, -1)])
def test_contradictions(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        ScanODE(numbers[0], numbers[1], aligned=True, hidden=numbers[2])
