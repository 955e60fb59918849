"""Amortised posteriors where the truth is known: a stationary Gaussian field, affine networks.

At 16 × 16. `benchmarks/linear_gaussian.py` is the same at 64 × 64.
"""

import copy
import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from latens.distributions import NoiseStream
from latens.inference import Amortised
from latens.models import CVAE, Direct, Latent, LatentModel
from latens.nets import Linear
from latens.objectives import reduce_terms
from latens.training import Training
from oracles.affine_posterior import (
    Assessment,
    assess,
    direct_optimum,
    field_direct_optimum,
    implied_posterior,
)
from oracles.exact_maximum import solve
from oracles.few_modes import FewModes, few_modes
from oracles.online_training import train_online

SHAPE = (1, 16, 16)
MODELS = (CVAE, Latent, Direct)


@cache
def make_field() -> FewModes:
    return few_modes(
        16, [(1, 0), (0, 1), (1, 1)], decay=0.5, blur=1.25, noise_scale=0.5, floor=0.07
    )


@pytest.fixture
def field() -> FewModes:
    return make_field()


def untrained(family: type[LatentModel], field: FewModes) -> LatentModel:
    torch.manual_seed(0)
    model = family(SHAPE, SHAPE, dim=len(field.modes), scale="shared", architecture=Linear())
    return model.double()


@cache
def trained(family: type[LatentModel], steps: int, batch: int) -> Assessment:
    field = make_field()
    model = untrained(family, field).float()
    settings = Training(max_steps=steps, batch_size=batch, learning_rate=0.05)
    train_online(model, field, settings, seed=0, first_weight=64)
    return assess(model, field, measurements=200, images=20, draws=200)


@torch.no_grad()
def set_encoder(net: nn.Module, gain: Tensor, scale: Tensor) -> None:
    """Make a `Linear` encoder N(gain · u, diag scale²)."""
    net.head.weight.copy_(gain * math.sqrt(gain.shape[1]))  # its input is divided by √width
    net.log_scale.copy_(scale.log())


@torch.no_grad()
def set_decoder(net: nn.Module, weight: Tensor, scale: float) -> None:
    """Make a `Linear` decoder N(weight z, scale² I)."""
    net.trunk.linear.weight.copy_(weight)
    net.trunk.linear.bias.zero_()
    net.scale.set(scale)


def modal(field: FewModes, response: Tensor) -> Tensor:
    """Eigenvalues on the modes of a filter, `(K,)`."""
    return (field.oracle.filter(field.modes, response) * field.modes).sum((1, 2))


def test_field_is_what_its_oracle_says(field):
    flat = field.modes.flatten(1)
    torch.testing.assert_close(flat @ flat.mT, torch.eye(7, dtype=torch.float64))
    eigenvalues = field.eigenvalues + field.floor**2
    filtered = field.oracle.filter(field.modes, field.oracle.power)
    torch.testing.assert_close(filtered, eigenvalues[:, None, None] * field.modes)
    assert field.oracle.prior_variance == pytest.approx(1 + field.floor**2)
    n = 4000
    x, y = field.pairs(n, NoiseStream(0))
    across = torch.zeros(16, 16, dtype=torch.float64)
    across[3] = torch.cos(torch.arange(16) * (2 * math.pi * 7 / 16)) / math.sqrt(8)
    functionals = torch.cat([flat, across.reshape(1, -1)]).float()
    shape = (-1, 16, 16)
    for values, power in ((x, field.oracle.power), (y, field.oracle.measured_power)):
        expected = (
            (field.oracle.filter(functionals.double().reshape(shape), power).flatten(1))
            * functionals.double()
        ).sum(1)
        found = (values.flatten(1) @ functionals.mT).double().square().mean(0)
        assert ((found / expected - 1).abs() < 4.5 * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("family", [CVAE, Latent])
def test_the_maximum_of_the_objective_is_the_posterior(family, field):
    model = untrained(family, field).float()
    solve(model, field, pairs=2**15, seed=0)
    best = objective(model, field)
    found = assess(copy.deepcopy(model), field, 200, images=2, draws=2)
    assert found.mean_error.mean() < 0.02
    for ratio in (found.pixel, found.region, found.mode):
        assert ((ratio > 0.95) & (ratio < 1.07)).all()
    # and it is the maximum: a step to either side of any weight matrix or vector costs nats
    for name, parameter in model.named_parameters():
        torch.manual_seed(0)
        size = parameter.detach().square().mean().sqrt()
        direction = torch.randn_like(parameter) * (size if parameter.ndim > 1 else 1)
        for step in (-0.05, 0.05):
            with torch.no_grad():
                parameter += step * direction
                worse = objective(model, field)
                parameter -= step * direction
            assert worse.sum() < best.sum(), name


@torch.no_grad()
def objective(model: CVAE | Latent, field: FewModes) -> Tensor:
    """Bound of each stage on the same 2000 fresh pairs, in nats."""
    x, y = field.pairs(2000, NoiseStream(3))
    bounds = []
    for stage in model.stages:
        terms = model.terms(stage, x, y, NoiseStream(4), field.problem)
        bounds.append(-reduce_terms(terms, model.stage_event_size(stage)))
    return torch.stack(bounds).double()


@pytest.mark.parametrize("family", MODELS)
def test_implied_moments_are_those_of_the_draws(family, field):
    # covariance of several functionals at once, so that correlations of pixels count
    model = untrained(family, field)
    y = field.pairs(2, NoiseStream(1))[1].double()
    model.fit_units(*field.pairs(64, NoiseStream(2)))
    implied = implied_posterior(model, field.problem, field.oracle.transfer, y)
    n = 2000
    draws = Amortised(model, field.problem)(y).sample(n)[:, :, 0]  # (n, B, 16, 16)
    for weights in (field.regions(4), field.modes):
        along = draws.flatten(2) @ weights.flatten(1).mT  # (n, B, R)
        expected = implied.functional_variance(weights)
        assert ((along.var(0) / expected - 1).abs() < 5 * math.sqrt(2 / n)).all()
        mean = implied.mean.flatten(1) @ weights.flatten(1).mT
        assert ((along.mean(0) - mean).abs() < 5 * (expected / n).sqrt()).all()
    ratio = draws.var(0).mean(0) / implied.pixel_variance
    assert ((ratio - 1).abs() < 5 * math.sqrt(1 / n)).all()


def test_latent_with_the_right_weights_is_the_exact_posterior(field):
    model = untrained(Latent, field)
    transfer = field.oracle.transfer
    white = field.floor**2 * transfer.abs().square() + field.problem.noise.scale**2
    information = field.eigenvalues * modal(field, transfer.abs().square() / white)
    variance = 1 / (1 + information)
    project = field.oracle.filter(field.modes, transfer.conj() / white).flatten(1)
    gain = (variance * field.eigenvalues.sqrt())[:, None] * project
    set_encoder(model.amortised_net, gain, variance.sqrt())
    weight = field.modes.flatten(1).mT * field.eigenvalues.sqrt()
    set_decoder(model.decoder_net, weight, field.floor)
    found = assess(model, field, measurements=20, images=2, draws=3)
    assert found.mean_error.max() < 1e-9
    for ratio in (found.pixel, found.region, found.mode):
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-9, atol=0)


def test_cvae_with_the_right_weights_misses_only_terms_of_the_floor(field):
    model = untrained(CVAE, field)
    oracle = field.oracle
    variance = (modal(field, oracle.posterior_power) - field.floor**2) / field.eigenvalues
    response = oracle.power * oracle.transfer / oracle.measured_power
    gain = oracle.filter(field.modes, response.conj()).flatten(1)
    set_encoder(model.prior_net, gain / field.eigenvalues.sqrt()[:, None], variance.sqrt())
    weight = field.modes.flatten(1).mT * field.eigenvalues.sqrt()
    set_decoder(model.decoder_net, weight, field.floor)
    found = assess(model, field, measurements=20, images=2, draws=3)
    assert 1e-4 < found.mean_error.mean() < 3e-3
    for ratio in (found.pixel, found.region, found.mode):
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.01, atol=0)


def test_example_of_direct_with_one_latent():
    # z ~ N(0, 1), 64 pixels x = z + 0.05 w, y = z + 0.5 n: Var(z | y) = 1/5
    posterior = torch.full((64, 64), 0.2, dtype=torch.float64) + 0.05**2 * torch.eye(64)
    mean_eigenvalues = torch.tensor([64 * 0.8, 0.0], dtype=torch.float64)
    best = direct_optimum(mean_eigenvalues, posterior.trace().item(), 1, 64)
    functionals = torch.stack([torch.eye(64)[0], torch.full((64,), 1 / 64)]).double()
    along = functionals.sum(1, keepdim=True) / 8  # w·u with u = 1/√64
    found = best.functional_variance(along, functionals.square().sum(1)).sqrt()
    exact = (functionals @ posterior @ functionals.mT).diagonal().sqrt()
    expected = torch.tensor([[0.457, 0.080], [0.450, 0.447]], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([found, exact]), expected, rtol=0, atol=5e-4)


def test_optimum_of_direct_by_numerical_optimisation():
    # q(z | y) = N(a y, v), x | z ~ N(w z, τ²): the expected objective in closed form, same example
    parameters = torch.tensor([0.3, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    along = torch.linspace(0.5, 1.5, 64, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [parameters, along], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        a, log_v, log_variance = parameters
        second = 1.25 * a**2 + log_v.exp()  # E z²; E y² = 1.25
        square = 64 * 1.0025 - 2 * a * along.sum() + along.square().sum() * second
        fit = square / (2 * log_variance.exp()) + 32 * log_variance
        return fit + 0.5 * (second - 1 - log_v)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    _, log_v, log_variance = parameters.detach()
    best = direct_optimum(torch.tensor([64 * 0.8, 0.0], dtype=torch.float64), 64 * 0.2025, 1, 64)
    assert log_variance.exp().item() == pytest.approx(best.observation_variance, rel=1e-6)
    region = along.detach().mean() ** 2 * log_v.exp() + log_variance.exp() / 64
    expected = best.functional_variance(
        torch.tensor([[1 / 8]], dtype=torch.float64), torch.tensor([1 / 64]).double()
    )
    assert region.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("family", [CVAE, Latent])
def test_trained_posteriors_reach_the_truth(family):
    found = trained(family, 1000, 128)
    assert found.mean_error.mean() < 0.012  # 0.01 with more steps, below
    for ratio in (found.pixel, found.region):
        assert 0.93 <= ratio.mean() <= 1.07
    check_draws(found)


@pytest.mark.slow
@pytest.mark.parametrize("family", [CVAE, Latent])
def test_trained_posteriors_reach_the_bar(family):
    found = trained(family, 4000, 128)
    assert found.mean_error.mean() < 0.01
    for ratio in (found.pixel, found.region):
        assert 0.93 <= ratio.mean() <= 1.07
    check_draws(found)


def test_trained_direct_misses_and_agrees_with_its_own_optimum(field):
    found = trained(Direct, 1000, 128)
    assert found.region.max().sqrt() < 0.5
    assert found.mode.max().sqrt() < 0.5
    assert 0.93 <= found.pixel.mean() <= 1.1  # what a look at pixels would see
    best = field_direct_optimum(field)
    for weights, ratio in ((field.regions(4), found.region), (field.modes, found.mode)):
        along = weights.flatten(1) @ field.modes.flatten(1).mT
        predicted = best.functional_variance(along, weights.square().sum((1, 2)))
        exact = field.oracle.region_covariance(weights).diagonal()
        torch.testing.assert_close(ratio, predicted / exact, rtol=0.1, atol=0)
    check_draws(found)


def check_draws(found: Assessment) -> None:
    """200 draws of 20 measurements: variances with a standard error of √(2/4000)."""
    assert ((found.drawn_region - 1).abs() < 5 * math.sqrt(2 / 4000)).all()
