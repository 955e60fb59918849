"""Readings: atoms and density add up to one, draws follow them."""

import math

import pytest
import torch
from scipy import integrate, stats

from latens.distributions import NoiseStream, Reading, draw
from latens.errors import UnsupportedError

LIMIT = 1.0


def reading(last: float = 4.0) -> Reading:
    def tensor(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float64)

    kinds = torch.tensor([[0.3, 0.5, -1.0]], dtype=torch.float64)
    return Reading(tensor(3.0), tensor(0.6), tensor(3.0), tensor(-0.5), kinds, tensor(last), LIMIT)


def at(distribution: Reading, value: float) -> float:
    return float(distribution.log_prob(torch.tensor([value], dtype=torch.float64)).exp())


@pytest.mark.parametrize("last", [4.0, LIMIT])
def test_atoms_and_density_add_up_to_one(last: float) -> None:
    distribution = reading(last)
    # last is an isolated point of the integrand, which quadrature never meets
    mass, _ = integrate.quad(lambda v: at(distribution, v), LIMIT + 1e-12, 30, limit=200)
    atoms = at(distribution, LIMIT) + (at(distribution, last) if last > LIMIT else 0.0)
    assert mass + atoms == pytest.approx(1, abs=1e-7)


def test_parts_against_scipy() -> None:
    distribution = reading()
    logits = torch.tensor([0.3, 0.5, -1.0], dtype=torch.float64)
    new, repeat, vanish = logits.softmax(0).tolist()
    wide = 1 / (1 + math.exp(0.5))

    def mixture(function: str, value: float) -> float:
        narrow_part = getattr(stats.norm(3.0, 0.6), function)(value)
        return (1 - wide) * narrow_part + wide * getattr(stats.norm(3.0, 1.8), function)(value)

    assert at(distribution, 2.5) == pytest.approx(new * mixture("pdf", 2.5), rel=1e-12)
    assert at(distribution, 4.0) == pytest.approx(repeat, rel=1e-12)
    below = vanish + new * mixture("cdf", LIMIT)
    assert at(distribution, LIMIT) == pytest.approx(below, rel=1e-12)
    assert at(distribution, LIMIT - 5) == pytest.approx(below, rel=1e-12)
    assert at(reading(LIMIT), LIMIT) == pytest.approx(below + repeat, rel=1e-12)
    for value in (0.5, LIMIT, 2.5, 4.0, 6.0):
        expected = (vanish + new * mixture("cdf", value) + repeat * (value >= 4.0)) * (
            value >= LIMIT
        )
        found = float(distribution.cdf(torch.tensor([value], dtype=torch.float64)))
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_draws_follow_the_distribution() -> None:
    distribution = reading()
    noise = NoiseStream(3).normal((200_000, 1, 3), torch.float64)
    values = draw(distribution, noise)
    error = 4 / math.sqrt(len(values))  # four times the largest binomial standard error, twice
    for value in (LIMIT, 2.0, 3.0, 3.999, 4.0, 5.0):
        share = float((values <= value).double().mean())
        expected = float(distribution.cdf(torch.tensor([value], dtype=torch.float64)))
        assert share == pytest.approx(expected, abs=error / 2)
    assert float(values.min()) == LIMIT
    assert torch.equal(values, draw(distribution.expand((1,)), noise))


def test_far_tails_have_a_finite_gradient() -> None:
    loc = torch.tensor([60.0], dtype=torch.float64, requires_grad=True)
    base = reading()
    far = Reading(
        loc, base.scale, base.ratio, base.wide_logit, base.log_kinds, base.last, base.log_limit
    )
    value = far.log_prob(torch.tensor([LIMIT], dtype=torch.float64)) + far.log_prob(
        torch.tensor([2.0], dtype=torch.float64)
    )
    (gradient,) = torch.autograd.grad(value.sum(), loc)
    assert bool(gradient.isfinite().all())


def test_moments_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="median"):
        _ = reading().mean
    with pytest.raises(UnsupportedError, match="interval"):
        _ = reading().variance
