"""Rician noise against reference values, and far from one."""

import math

import pytest
import torch
from mpmath import besseli, hyp1f1, log, mp, mpf, sqrt

from latens.distributions import draw
from latens.errors import DataError
from latens.problems import RicianNoise
from problems.operator_cases import normal

RATIOS = [0.0, 1e-4, 0.3, 1.0, 5.0, 7.999, 8.001, 29.0, 31.0, 1e3, 1e5]


def reference(y: float, clean: float, scale: float) -> float:
    with mp.workdps(40):
        y, c, s = mpf(y), mpf(clean), mpf(scale)
        value = log(y) - 2 * log(s) - (y * y + c * c) / (2 * s * s)
        return float(value + log(besseli(0, y * c / s**2)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
@pytest.mark.parametrize("clean", RATIOS)
def test_density_against_many_digits(clean, dtype, tolerance):
    noise = RicianNoise(0.5)
    for offset in (-3.0, 0.1, 1.0, 8.0):
        y = torch.tensor(abs(clean / 2 + offset * 0.5), dtype=dtype)
        c = torch.tensor(clean / 2, dtype=dtype)
        expected = reference(y.item(), c.item(), 0.5)
        found = noise.elementwise(c).log_prob(y).item()
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert noise.elementwise(-c).log_prob(y).item() == found


@pytest.mark.parametrize("clean", RATIOS)
def test_moments_against_many_digits(clean):
    with mp.workdps(60):
        ratio = mpf(clean)
        mean = sqrt(mp.pi / 2) * hyp1f1(-mpf(1) / 2, 1, -(ratio**2) / 2)
        expected = float(mean), float(ratio**2 + 2 - mean**2)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-5)):
        found = RicianNoise(1.0).elementwise(torch.tensor(clean, dtype=dtype))
        assert found.mean.item() == pytest.approx(expected[0], rel=tolerance)
        assert found.variance.item() == pytest.approx(expected[1], rel=tolerance)


def test_second_derivative_at_zero():
    y = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    curvature = torch.func.vmap(
        torch.func.grad(torch.func.grad(lambda c, v: RicianNoise(1.0).elementwise(c).log_prob(v)))
    )(torch.zeros_like(y), y)
    torch.testing.assert_close(curvature, y.square() / 2 - 1)


def test_derivatives_are_smooth_where_formulas_meet():
    noise = RicianNoise(1.0)
    y = torch.tensor([10.0, 6.0, 3.0], dtype=torch.float64)
    meeting = 30 / y
    sides = [noise.score(y, meeting * (1 + s)) for s in (-1e-9, 1e-9)]
    torch.testing.assert_close(*sides, rtol=0, atol=1e-7)
    single = noise.score(y.float(), meeting.float() * 1.01)
    torch.testing.assert_close(single.double(), noise.score(y, meeting * 1.01), rtol=0, atol=1e-5)


def test_outside_the_support():
    clean = torch.ones(3, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, -1.0, 0.5], dtype=torch.float64)
    log_prob = RicianNoise(1.0).elementwise(clean).log_prob(y)
    assert log_prob.isneginf().tolist() == [True, True, False]
    (slope,) = torch.autograd.grad(log_prob[2] + log_prob[:2].sum(), clean)
    torch.testing.assert_close(slope, RicianNoise(1.0).score(y, clean).detach())
    assert slope[:2].tolist() == [0.0, 0.0]
    assert slope[2] != 0


def test_a_dark_measurement_is_rayleigh():
    y = torch.linspace(0.1, 4, 9, dtype=torch.float64)
    log_prob = RicianNoise(2.0).elementwise(torch.zeros_like(y)).log_prob(y)
    torch.testing.assert_close(log_prob, (y / 4).log() - y.square() / 8)


def test_information_far_from_the_table_end_is_continuous():
    noise = RicianNoise(0.1)
    ends = noise.fisher(torch.tensor([3.2 - 1e-9, 3.2 + 1e-9, 1e5], dtype=torch.float64))
    assert ends[0].item() == pytest.approx(ends[1].item(), rel=1e-9)
    assert ends[2].item() == pytest.approx(100.0, rel=1e-9)
    small = noise.fisher(torch.tensor(1e-4, dtype=torch.float64)).item()
    assert small == pytest.approx(1e-8 / 0.1**4, rel=1e-5)


def test_draws_are_magnitudes():
    clean, noise = normal(5), normal(3, 5, 2, seed=1)
    drawn = draw(RicianNoise(0.2)(clean, 1), noise)
    wanted = torch.complex(clean + 0.2 * noise[..., 0], 0.2 * noise[..., 1]).abs()
    torch.testing.assert_close(drawn, wanted)
    mapped = torch.func.vmap(lambda c, n: draw(RicianNoise(0.2).elementwise(c), n))
    torch.testing.assert_close(mapped(clean, noise[0]), wanted[0])


@pytest.mark.parametrize("ratio", [0.0, 1.0, 20.0])
def test_estimate_has_little_bias(ratio):
    clean = torch.full((8,), ratio * 0.3, dtype=torch.float64)
    draws = draw(RicianNoise(0.3)(clean, 1), normal(100, 8, 2, seed=4))
    found = torch.tensor([RicianNoise().estimate(y, clean).scale for y in draws]) / 0.3
    # At most 1/(4n) = 3 % below at n = 8, and 4 standard errors of 1/√(2·8·100) = 2.5 %.
    assert abs(found.mean().item() - 1) < 1 / 32 + 4 / math.sqrt(2 * 8 * 100)


@pytest.mark.parametrize("value", [0.0, -0.001])
def test_no_estimate_from_what_is_no_magnitude(value):
    clean = torch.ones(100)
    y = clean.clone()
    y[3] = value
    with pytest.raises(DataError, match=r"`y`: expected magnitudes above 0.*1 elements"):
        RicianNoise().estimate(y, clean)
