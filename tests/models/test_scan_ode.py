"""Latent ODE of scans: evidence, padding, closed forms, learning."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from latens.distributions import NoiseStream, draw
from latens.errors import ConfigError
from latens.models.scan_ode import EncodedVisits, ScanODE
from latens.nets.ode import GompertzField
from latens.training import Training, fit_model


def visits(count: int = 6, length: int = 4, dim: int = 2) -> EncodedVisits:
    noise = NoiseStream(0)
    loc = noise.normal((count, length, dim)).double()
    variance = 0.05 + 0.9 * noise.uniform((count, length, dim)).double()
    since = (0.5 + noise.uniform((count, length)).double()).cumsum(1)
    since = since - since[:, :1]
    mask = torch.arange(length)[None] < torch.tensor([length, 2, length, 3, 1, length])[:, None]
    zero = torch.where(mask, since, 0.0)
    vanished = torch.zeros_like(mask)
    vanished[0, 2] = vanished[3, 0] = vanished[4, 0] = True
    return EncodedVisits(
        torch.where(mask[..., None], loc, 0.0),
        torch.where(mask[..., None], variance, 1.0),
        zero,
        mask,
        vanished,
    )


def model(aligned: bool = True, hidden: int = 1, **settings) -> ScanODE:
    limit = -0.8 if aligned else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ScanODE(4, 2, limit=limit, hidden=hidden, width=6, **settings)
        for parameter in made.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return made.double()


def test_packing_is_reversible() -> None:
    given = visits()
    back = EncodedVisits.unpacked(given.packed())
    for name in ("loc", "variance", "since", "mask", "censored"):
        assert torch.equal(getattr(given, name), getattr(back, name))


def said(visits: EncodedVisits, ode: ScanODE, z: Tensor, points: int = 4001) -> Tensor:
    """g_k(z) by quadrature over z_k, `(…, B, T, dim)`: a density over that of N(0, 1), and for a
    vanished lesion one below the limit.
    """
    grid = torch.linspace(-8, 8, points).double()
    density = Normal(z[..., None], ode.spread[:, None]).log_prob(grid)  # (…, B, T, dim, points)
    q = Normal(visits.loc[..., None], visits.variance.sqrt()[..., None]).log_prob(grid)
    ratio = q - Normal(0.0, 1.0).log_prob(grid)
    found = torch.trapezoid((density + ratio).exp(), grid).log()
    lower = torch.linspace(float(ode.limit) - 2, float(ode.limit), 10 * points).double()
    below = Normal(z[..., :1], ode.spread[0]).log_prob(lower).exp()
    volume = torch.trapezoid(below, lower).log()
    found[..., 0] = torch.where(visits.censored & ode.aligned, volume, found[..., 0])
    return found


@pytest.mark.parametrize("aligned", [True, False])
def test_what_a_visit_says_is_the_integral_of_its_equation(aligned: bool) -> None:
    ode, given = model(aligned), visits()
    z = 0.7 * NoiseStream(4).normal((3, 6, 4, 2)).double()
    with torch.no_grad():
        found, expected = ode.gain(z, given), said(given, ode, z)
    known = given.mask[None, ..., None].expand_as(found)
    torch.testing.assert_close(found[known], expected[known], atol=1e-6, rtol=0)


def test_what_tells_nothing_gains_nothing() -> None:
    """v = 1, μ = 0; a variance above 1 is taken for 1."""
    ode, given = model(), visits()
    none = replace(
        given,
        loc=torch.zeros_like(given.loc),
        variance=torch.full_like(given.variance, 1.0),
        censored=torch.zeros_like(given.mask),
    )
    z = NoiseStream(4).normal((6, 4, 2)).double()
    torch.testing.assert_close(ode.gain(z, none), torch.zeros_like(z))
    more = replace(none, variance=torch.full_like(given.variance, 1.3))
    torch.testing.assert_close(ode.gain(z, more), torch.zeros_like(z))
    near = replace(given, variance=torch.full_like(given.variance, 1 - 1e-9))
    limit = replace(given, variance=torch.full_like(given.variance, 1.0))
    torch.testing.assert_close(ode.gain(z, near), ode.gain(z, limit), atol=1e-6, rtol=0)


def test_elbo_is_below_the_evidence() -> None:
    ode, given = model(), visits()
    ode.first_loc.data += torch.tensor([0.3, -0.2])
    packed = given.packed()
    with torch.no_grad():
        terms = [ode.terms("likelihood", packed, packed, NoiseStream(k), None) for k in range(800)]
        elbo = torch.stack([t.elbo for t in terms]).mean(0)
        first = NoiseStream(1).normal((200_000, 6, 3)).double()
        first[..., :2] = ode.first_loc + ode.first_scale * first[..., :2]
        path = ode.path(first, given.since)[..., :2]
        nats = ode.gain(path, given).sum(-1)
        total = torch.where(given.mask, nats, 0.0).sum(-1)
        evidence = total.logsumexp(0) - math.log(len(first))
    assert bool((elbo < evidence + 0.05).all())
    assert bool((evidence - elbo < 30).all())


WEIGHT, NOISE = 0.8, 0.6
"""x = WEIGHT z + NOISE n, z ~ N(0, 1): a VAE whose posterior is known."""


def linear_encoder(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the exact posterior of z given x."""
    variance = 1 / (1 + (WEIGHT / NOISE) ** 2)
    return variance * WEIGHT / NOISE**2 * x, torch.full_like(x, variance)


def still(**settings) -> ScanODE:
    """An ODE of a field of zero without anything learned: a z that only scans scatter about."""
    ode = model(aligned=False, hidden=0, **settings)
    ode.ode.field.log_residual.data.fill_(-60.0)  # pyright: ignore
    ode.head.weight.data.zero_()
    ode.head.bias.data.zero_()
    ode.earliest.data.fill_(-60.0)  # all visits
    ode.first_loc.data = torch.tensor([0.7, -0.4]).double()
    ode.log_first_scale.data = torch.tensor([1.4, 0.6]).double().log()
    return ode


def test_the_posterior_of_a_linear_model_is_exact_and_that_of_readings_is_not() -> None:
    """Scans of one z ~ N(a, b²): its posterior given the scans themselves, in closed form."""
    ode, given = still(), visits()
    x = torch.where(given.mask[..., None], 1.5 * NoiseStream(6).normal((6, 4, 2)).double(), 0.0)
    loc, variance = linear_encoder(x)
    found = ode.posterior(replace(given, loc=loc, variance=variance))
    a, b = ode.first_loc.detach(), ode.first_scale.detach()
    scatter = (WEIGHT * ode.spread.detach()).square() + NOISE**2  # of x about WEIGHT z
    count = given.mask.sum(1)[:, None].double()
    precision = b**-2 + count * WEIGHT**2 / scatter
    mean = (a / b**2 + WEIGHT * x.sum(1) / scatter) / precision
    torch.testing.assert_close(found.mean.detach(), mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.variance.detach(), 1 / precision, atol=1e-9, rtol=0)
    # The encoder's posterior taken for a reading of z counts its prior at every visit.
    reading = 1 / (variance + ode.spread.detach().square())
    reading = torch.where(given.mask[..., None], reading, 0.0)
    naive = (a / b**2 + (reading * loc).sum(1)) / (b**-2 + reading.sum(1))
    naive_variance = 1 / (b**-2 + reading.sum(1))
    long = given.mask.sum(1) == 4
    assert bool(((naive - mean).abs()[long] > 0.1 * precision.rsqrt()[long]).any())
    assert bool((naive_variance[long] < 0.8 / precision[long]).all())


def test_the_bound_of_a_linear_model_is_its_evidence() -> None:
    """log p(x₁ … x_n) − Σ log p(x_k) of the scans, a Gaussian in closed form, without a gap."""
    ode, given = still(), visits()
    x = torch.where(given.mask[..., None], 1.5 * NoiseStream(6).normal((6, 4, 2)).double(), 0.0)
    loc, variance = linear_encoder(x)
    packed = replace(given, loc=loc, variance=variance).packed()
    with torch.no_grad():
        terms = [ode.terms("likelihood", packed, packed, NoiseStream(k), None) for k in range(9)]
        elbo = torch.stack([t.elbo for t in terms])
        a, b, r = ode.first_loc, ode.first_scale, ode.spread
        one = Normal(0.0, math.sqrt(WEIGHT**2 + NOISE**2))
        for i, n in enumerate(given.mask.sum(1).tolist()):
            exact = -one.log_prob(x[i, :n]).sum()
            for j in range(2):
                covariance = torch.full((n, n), float((WEIGHT * b[j]) ** 2)).double()
                covariance += float((WEIGHT * r[j]) ** 2 + NOISE**2) * torch.eye(n).double()
                centre = float(WEIGHT * a[j]) * torch.ones(n).double()
                exact = exact + MultivariateNormal(centre, covariance).log_prob(x[i, :n, j])
            # q is the posterior, so that every draw of it gives the evidence but for KL − its
            # own estimate: the mean over draws is the evidence.
            error = elbo[:, i].std() / 3
            assert abs(float(elbo[:, i].mean() - exact)) < 4 * float(error) + 1e-9


def test_a_and_b_begin_where_first_visits_are() -> None:
    """Encoded z ~ N(2, 1.5²): one step from N(0, 1) moves most of the way, learning the rest."""
    z = 2 + 1.5 * NoiseStream(8).normal((4000, 1, 2))
    x = WEIGHT * z + NOISE * NoiseStream(9).normal((4000, 1, 2))
    loc, variance = linear_encoder(x)
    flag = torch.ones(4000, 1, dtype=torch.bool)
    seen = EncodedVisits(loc, variance, torch.zeros(4000, 1), flag, ~flag)
    ode = ScanODE(2, 2, limit=None, hidden=0)
    ode.fit_units(seen.packed(), seen.packed())
    v = 1 / (1 + (WEIGHT / NOISE) ** 2)
    torch.testing.assert_close(ode.first_loc.data, torch.full((2,), 2 * (1 - v)), atol=0.1, rtol=0)
    spread = (1 - v) ** 2 * 1.5**2 + v * (1 - v) + v  # Var μ + v
    torch.testing.assert_close(
        ode.first_scale.data, torch.full((2,), math.sqrt(spread)), atol=0.05, rtol=0
    )


def test_the_prior_of_the_first_state_is_learned() -> None:
    """Its gradient vanishes at the mean and the variance that the scans have, and nowhere else."""
    ode = still()
    z = torch.tensor([0.7, -0.4]) + torch.tensor([1.4, 0.6]) * NoiseStream(8).normal((6000, 1, 2))
    z = z + ode.spread.detach() * NoiseStream(10).normal((6000, 1, 2))
    x = WEIGHT * z + NOISE * NoiseStream(9).normal((6000, 1, 2)).double()
    loc, variance = linear_encoder(x.double())
    flag = torch.ones(6000, 1, dtype=torch.bool)
    packed = EncodedVisits(loc, variance, torch.zeros(6000, 1).double(), flag, ~flag).packed()

    def slopes() -> Tensor:
        ode.zero_grad()
        ode.terms("likelihood", packed, packed, NoiseStream(2), None).elbo.mean().backward()
        assert ode.first_loc.grad is not None
        assert ode.log_first_scale.grad is not None
        return torch.cat([ode.first_loc.grad, ode.log_first_scale.grad])

    assert float(slopes().abs().max()) < 0.03
    ode.first_loc.data += 0.8
    ode.log_first_scale.data += 0.8
    assert bool((slopes() < -0.06).all())


def test_a_vanished_lesion_pulls_its_path_below_the_limit() -> None:
    """The posterior of z_vol by quadrature, and what the bound's own gradient asks of it."""
    ode, given = model(hidden=0), visits()
    z = torch.zeros(6, 4, 2).double().requires_grad_()
    ode.gain(z, given).sum().backward()
    assert z.grad is not None
    hazard = Normal(0.0, 1.0).log_prob(ode.limit / ode.spread[0]).exp()
    hazard = hazard / torch.special.ndtr(ode.limit / ode.spread[0]) / ode.spread[0]
    torch.testing.assert_close(z.grad[0, 2, 0], -hazard.detach())
    above = replace(given, loc=given.loc.clone())
    above.loc[0, 2, 0] = 3.0  # what the encoder says of its volume does not count
    torch.testing.assert_close(ode.gain(z, above), ode.gain(z, given))
    told = ode.posterior(above).mean[0, 0]
    assert told < ode.posterior(replace(above, censored=~given.mask)).mean[0, 0]


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
    ode, given = still(), visits()
    vague = given.variance.clone()
    vague[0, 1] = 1.0
    loc = given.loc.clone()
    loc[0, 1] = 0.0  # as the exact posterior of a scan that says nothing
    with torch.no_grad():
        found = ode.posterior(replace(given, loc=loc, variance=vague))
        rest = torch.tensor([0, 2, 3])
        left = EncodedVisits(*(getattr(given, f.name)[:1, rest] for f in fields(given)))
        expected = ode.posterior(left)
    torch.testing.assert_close(found.mean[0], expected.mean[0])
    torch.testing.assert_close(found.stddev[0], expected.stddev[0])


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
    packed = EncodedVisits(read, variance, since, mask, ~mask).packed()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ode = ScanODE(4, 2, limit=-3.0, hidden=1, width=8)
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
        ScanODE(numbers[0], numbers[1], limit=-3.0, hidden=numbers[2])
