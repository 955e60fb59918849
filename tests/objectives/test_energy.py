"""Energy of diffusion against closed forms."""

import math

import pytest
import torch

from latens.objectives.energy import Energy, cell_quadrature
from latens.objectives.equations import BurgersEquation, DarcyEquation, EITEquation


def test_quadrature_is_exact_for_cubics_in_every_cell_and_has_area_one():
    points, weights = cell_quadrature(4, 6)
    x, y = points.T
    kinked = (x - 0.4).abs()  # 0.4 = 2/5 is a node
    assert weights.sum() == pytest.approx(1)
    assert (weights @ (x**3 * y**2)).item() == pytest.approx(1 / 12, rel=1e-12)
    assert (weights @ kinked).item() == pytest.approx((0.4**2 + 0.6**2) / 2, rel=1e-12)


def test_energy_above_the_minimum_is_half_the_squared_distance():
    """u = sin πx sin πy solves −Δu = 2π² u; the distance is that of ∇ in L²."""
    points, weights = cell_quadrature(41, 41)

    def wave(j: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = math.pi * points.T
        value = (j * x).sin() * (k * y).sin()
        along_x = j * math.pi * (j * x).cos() * (k * y).sin()
        along_y = k * math.pi * (j * x).sin() * (k * y).cos()
        return value[None, None], torch.stack([along_x, along_y])[None, None]

    (u, slope), (v, turn) = wave(1, 1), wave(2, 3)
    energy = Energy(points, weights[None], weights * 2 * math.pi**2 * u[:, 0])
    least = energy.value(u, slope)
    assert least.shape == (1, 1)
    assert least.item() == pytest.approx(-(math.pi**2) / 4, rel=1e-6)
    for size in (0.1, -0.3):
        gap = energy.value(u + size * v, slope + size * turn) - least
        distance = size**2 * math.pi**2 * (4 + 9) / 4
        assert gap.item() == pytest.approx(distance / 2, rel=1e-4)


def test_coefficients_are_divided_by_their_mean():
    a = torch.rand(3, 1, 5, 7) + 0.5
    for equation, source in ((DarcyEquation(source=4.0), 4.0), (EITEquation([2]), 0.0)):
        energy, other = equation.energy(a), equation.energy(3 * a)
        assert energy.stiffness.shape == energy.load.shape == (3, 4 * 4 * 6)
        torch.testing.assert_close(energy.stiffness.sum(1), torch.ones(3).double())
        torch.testing.assert_close(other.stiffness, energy.stiffness, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(3 * other.load, energy.load, rtol=1e-6, atol=0.0)
        mean = source / energy.load.sum(1)
        if source:
            trapezoid = torch.tensor([0.5, 1, 1, 1, 1, 1, 0.5])
            rows = torch.tensor([0.5, 1, 1, 1, 0.5])
            exact = (a[:, 0] * rows[:, None] * trapezoid).sum((1, 2)) / 24
            torch.testing.assert_close(mean.float(), exact)


def test_burgers_has_no_energy():
    assert BurgersEquation().energy(torch.rand(2, 1, 8)) is None
