"""The moving frame against the equation's own solver."""

import math

import torch

from latens.distributions import NoiseStream
from latens.nets.moving import entered, left
from latens.problems.pde import Burgers
from latens.problems.pde.ring import interpolated

N = 64
X = torch.arange(N, dtype=torch.float64) / N
WAVES = 0.8 * torch.sin(2 * math.pi * X) + 0.3 * torch.cos(4 * math.pi * X)


def test_interpolant_is_exact_for_waves_and_keeps_the_nodes():
    points = NoiseStream(0, 0).uniform((3, 7), torch.float64)
    expected = 0.8 * torch.sin(2 * math.pi * points) + 0.3 * torch.cos(4 * math.pi * points)
    torch.testing.assert_close(interpolated(WAVES.expand(3, N), points), expected)
    rough = NoiseStream(0, 1).normal((2, N), torch.float64)
    torch.testing.assert_close(interpolated(rough, X.expand(2, N)), rough)
    odd = rough[:, : N - 1]
    nodes = torch.arange(N - 1, dtype=torch.float64) / (N - 1)
    torch.testing.assert_close(interpolated(odd, nodes.expand(2, -1)), odd)


def test_solutions_of_one_shape_are_one_solution_in_their_frames():
    velocity = torch.tensor([[0.0], [0.7], [-1.3]], dtype=torch.float64)
    a = (WAVES + velocity)[:, None]  # (3, 1, n)
    u = Burgers((1, N), time=0.8, steps=2000)(a)
    v = entered(u, velocity, 0.8)
    torch.testing.assert_close(v, v[:1].expand_as(v), rtol=0, atol=1e-9)
    assert float((u - u[:1]).abs().max()) > 0.5
    points = NoiseStream(0, 2).uniform((9,), torch.float64)
    read = Burgers((1, N), points, time=0.8, steps=2000)(a)
    torch.testing.assert_close(left(v, velocity, 0.8, points)[:, 0], read, rtol=0, atol=1e-9)
