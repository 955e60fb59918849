"""Every form in which somebody's solver may come, and every form that is refused."""

import functools

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Cauchy, Independent, Laplace, Normal, StudentT

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, LatensError, ShapeError, UnsupportedError
from latens.inference import PointEstimate, Posterior, Regression, as_solver
from models.model_cases import make_model

Y = NoiseStream(0).normal((4, 1, 6, 7))


class Net(nn.Module):
    """A regressor with dropout, which must be off."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, y):
        return self.dropout(self.conv(y))


class Callable:
    """An object that is called."""

    def __call__(self, y, steps=3):
        return y + steps


def double(y, factor=2.0):
    return factor * y


def of_two(y, offset):
    return y + offset


POINTS = {
    "function": (double, lambda: 2 * Y),
    "lambda": (lambda y: 2 * y, lambda: 2 * Y),
    "partial": (functools.partial(of_two, offset=1.0), lambda: Y + 1),
    "object": (Callable(), lambda: Y + 3),
    "any-arguments": (lambda *arguments: 2 * arguments[0], lambda: 2 * Y),
    "compiled": (torch.tanh, lambda: torch.tanh(Y)),
    "estimate": (lambda y: PointEstimate(3 * y), lambda: 3 * Y),
}


@pytest.mark.parametrize("name", list(POINTS))
def test_functions_of_the_measurement(name):
    function, expected = POINTS[name]
    estimate = as_solver(function)(Y)
    assert isinstance(estimate, PointEstimate)
    torch.testing.assert_close(estimate.mean, expected())


def test_a_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
    estimate = as_solver(net)(Y)
    assert isinstance(estimate, PointEstimate)
    assert not net.training
    torch.testing.assert_close(estimate.mean, net.conv(Y).detach())
    assert not estimate.mean.requires_grad


def test_a_solver_is_itself():
    solver = Regression(make_model("unet"))
    assert as_solver(solver) is solver


LOC, SCALE = Y + 1, 0.2 + Y.abs()
FAMILIES = {
    "normal": Independent(Normal(LOC, SCALE), 3),
    "diagonal": diagonal_normal(LOC, SCALE, 3),
    "student": Independent(StudentT(6.0, LOC, SCALE), 3),
    "laplace": Independent(Laplace(LOC, SCALE), 3),
}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_distributions(name):
    family = FAMILIES[name]
    before = torch.get_rng_state()
    posterior = as_solver(lambda y: family)(Y, seed=3)
    assert isinstance(posterior, Posterior)
    draws = posterior.sample()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(posterior.mean, family.mean)  # exact, not from draws
    torch.testing.assert_close(posterior.std, family.stddev)
    assert torch.equal(draws, posterior.sample())
    standard = ((draws - LOC) / SCALE).flatten().double().numpy()
    base = type(family.base_dist).__name__
    law = {"Normal": stats.norm(), "StudentT": stats.t(6), "Laplace": stats.laplace()}[base]
    assert stats.kstest(standard, law.cdf).pvalue > 0.001


def test_a_distribution_with_a_drawing_rule_is_keyed_by_row():
    solver = as_solver(lambda y: diagonal_normal(y, torch.ones_like(y), 3))
    whole = solver(Y, keys=range(4)).sample()
    assert torch.equal(solver(Y[2:], keys=[2, 3]).sample(), whole[:, 2:])


def test_a_distribution_without_moments_keeps_its_draws():
    posterior = as_solver(lambda y: Independent(Cauchy(y, torch.ones_like(y)), 3))(Y)
    assert torch.isfinite(posterior.sample()).all()
    interval = posterior.interval(0.5)
    assert ((interval.lower < Y) & (interval.upper > Y)).float().mean() > 0.9


def sampler(y, n):
    return y + 0.5 * torch.randn(n, *y.shape)


class SamplerNet(nn.Module):
    def forward(self, y, n):
        return sampler(y, n)


@pytest.mark.parametrize("solver", [sampler, SamplerNet(), functools.partial(sampler)])
def test_draws(solver):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        posterior = as_solver(solver)(Y)
        draws = posterior.sample()
        assert draws.shape == (39, *Y.shape)
        assert torch.equal(draws, posterior.sample())
        torch.testing.assert_close(posterior.mean, draws.mean(0))
        torch.testing.assert_close(posterior.std, draws.std(0))
        assert posterior.sample(7).shape == (7, *Y.shape)


def test_a_posterior_passes_through():
    inner = as_solver(lambda y: diagonal_normal(y, torch.ones_like(y), 3))(Y)
    assert as_solver(lambda y: inner)(Y) is inner


WRONG = {
    "list": (lambda y: [y], UnsupportedError),
    "none": (lambda y: None, UnsupportedError),
    "numpy": (lambda y: y.numpy(), UnsupportedError),
    "pair": (lambda y: (y, y), UnsupportedError),
    "too few": (lambda y: y[:2], ShapeError),
    "a number each": (lambda y: y.mean((1, 2, 3)), ShapeError),
    "bare normal": (lambda y: Normal(y, 1.0), ShapeError),
    "one distribution": (lambda y: diagonal_normal(y[0], torch.ones_like(y[0]), 3), ShapeError),
    "batch first": (lambda y, n: sampler(y, n).movedim(0, 1), ShapeError),
    "one draw": (lambda y, n: y, ShapeError),
    "draws of numbers": (lambda y, n: torch.zeros(n, len(y)), ShapeError),
    "draws in a list": (lambda y, n: [y] * n, ShapeError),
    "no argument": (lambda: Y, ConfigError),
    "three arguments": (lambda y, n, m: y, ConfigError),
    "keyword alone": (lambda y, *, noise: y, ConfigError),
    "a tensor": (Y, ConfigError),
    "a number": (3, ConfigError),
    "a model": (make_model("cvae"), ConfigError),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_refused_is_refused_in_one_line(name):
    solver, error = WRONG[name]
    with pytest.raises(error, match="`solver`: expected") as caught:
        as_solver(solver)(Y).mean  # noqa: B018
    assert isinstance(caught.value, LatensError)
    assert "\n" not in str(caught.value)


def test_errors_of_a_solver_are_its_own():
    def broken(y):
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        as_solver(broken)(Y)
