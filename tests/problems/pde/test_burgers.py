"""Burgers' equation against the Cole-Hopf solution."""

import itertools
import math

import numpy as np
import pytest
import torch

from latens.problems.pde import Burgers

VISCOSITY = 0.1 / math.pi


def initial(x: np.ndarray) -> np.ndarray:
    return 0.4 + np.sin(2 * np.pi * x) + 0.5 * np.cos(6 * np.pi * x + 1)


def potential(x: np.ndarray) -> np.ndarray:
    """∫ of the initial velocity without its mean."""
    return -np.cos(2 * np.pi * x) / (2 * np.pi) + np.sin(6 * np.pi * x + 1) / (12 * np.pi)


def cole_hopf(x: np.ndarray, time: float, viscosity: float) -> np.ndarray:
    """u = c − 2ν φ_x/φ in the frame moving with the mean c; φ solves the heat equation.

    φ is the convolution of exp(−U/2ν) with the heat kernel, by quadrature.
    """
    nodes = np.linspace(-7, 7, 1001)
    weights = np.exp(-(nodes**2))  # trapezoid rule, exact to rounding for such integrands
    start = (x - 0.4 * time)[:, None] - 2 * math.sqrt(viscosity * time) * nodes
    phi = np.exp(-potential(start) / (2 * viscosity)) * weights
    return 0.4 + (phi * (initial(start) - 0.4)).sum(1) / phi.sum(1)


@pytest.mark.parametrize(("time", "steps"), [(0.1, 100), (1.0, 400)])
def test_solution_of_cole_and_hopf(time, steps):
    x = np.arange(128) / 128
    found = Burgers((1, 128), time=time, steps=steps)(torch.from_numpy(initial(x))[None])
    expected = cole_hopf(x, time, VISCOSITY)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-7)


def test_time_steps_converge_with_fourth_order():
    x = np.arange(96) / 96
    expected = cole_hopf(x, 0.5, VISCOSITY)
    errors = []
    for steps in (80, 160, 320):
        found = Burgers((1, 96), time=0.5, steps=steps)(torch.from_numpy(initial(x))[None])
        errors.append(np.abs(found[0].numpy() - expected).max())
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.6 < rate < 4.4 for rate in rates)


def test_refinement_resolves_what_the_grid_does_not():
    x = np.arange(24) / 24
    expected = cole_hopf(x, 0.3, VISCOSITY)
    errors = [
        np.abs(
            Burgers((1, 24), time=0.3, steps=200, refine=r)(torch.from_numpy(initial(x))[None])[
                0
            ].numpy()
            - expected
        ).max()
        for r in (1, 4)
    ]
    assert errors[1] < 1e-2 * errors[0]


@pytest.mark.parametrize(("n", "refine"), [(33, 1), (32, 1), (32, 2), (33, 2)])
def test_mean_is_kept_and_energy_falls(n, refine):
    x = torch.arange(n, dtype=torch.float64) / n
    start = (0.3 + (2 * math.pi * x).sin() + 0.2 * (10 * math.pi * x).cos())[None]
    final = Burgers((1, n), time=0.5, steps=200, refine=refine)(start)
    assert final.mean().item() == pytest.approx(0.3, abs=1e-12)
    assert final.square().mean() < 0.5 * start.square().mean()
    assert final.abs().max() <= start.abs().max()  # maximum principle


def test_constant_velocity_stays():
    u = torch.full((1, 16), 1.7, dtype=torch.float64)
    torch.testing.assert_close(Burgers((1, 16), steps=40)(u), u)


def test_shifted_starts_give_shifted_ends():
    operator = Burgers((1, 24), time=0.4, steps=60)
    x = torch.arange(24, dtype=torch.float64) / 24
    start = (2 * math.pi * x).sin()[None]
    torch.testing.assert_close(operator(start.roll(5, -1)), operator(start).roll(5, -1))


def test_sensors_read_the_trigonometric_interpolant():
    points = [0.013, 0.25, 0.4999, 0.86]
    x = np.arange(128) / 128
    operator = Burgers((1, 128), points)
    found = operator(torch.from_numpy(initial(x))[None])
    np.testing.assert_allclose(
        found.numpy(), cole_hopf(np.array(points), 1.0, VISCOSITY), atol=2e-7
    )
    nodes = Burgers((1, 15), (torch.arange(15) / 15).tolist(), time=0.2, steps=20)
    start = torch.from_numpy(initial(np.arange(15) / 15))[None]
    torch.testing.assert_close(nodes(start), nodes.field(start)[0], atol=1e-6, rtol=0)
