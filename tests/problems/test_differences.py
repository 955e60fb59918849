"""Forward differences against `torch.diff` and dense algebra."""

import pytest
import torch

from latens.problems.differences import Poisson, gradient, gradient_adjoint, magnitude
from problems.operator_cases import normal

GRIDS = [(9,), (6, 5), (1, 7), (4, 3, 5), (2, 1, 3)]


@pytest.mark.parametrize("grid", GRIDS)
def test_gradient(grid):
    x = normal(2, 3, *grid)
    result = gradient(x, len(grid))
    assert result.shape == (2, len(grid), 3, *grid)
    for axis, size in enumerate(grid):
        last = x.narrow(2 + axis, size - 1, 1)  # repeated, so that its difference is zero
        torch.testing.assert_close(result[:, axis], torch.diff(x, dim=2 + axis, append=last))


@pytest.mark.parametrize("grid", GRIDS)
def test_adjoint(grid):
    x, p = normal(2, 3, *grid), normal(2, len(grid), 3, *grid, seed=1)
    forward = (gradient(x, len(grid)) * p).sum()
    assert abs(forward) > 1e-3
    assert (x * gradient_adjoint(p)).sum() == pytest.approx(forward.item(), rel=1e-12)


def test_squared_norm_is_at_most_four_per_axis():
    basis = torch.eye(60, dtype=torch.float64).reshape(60, 1, 4, 3, 5)
    matrix = gradient(basis, 3).flatten(1)
    assert 0.75 * 12 < torch.linalg.matrix_norm(matrix, 2) ** 2 < 12


def test_magnitude_is_the_length_of_the_vector():
    p = normal(2, 3, 1, 4, 5)
    expected = torch.linalg.vector_norm(p, dim=1, keepdim=True)
    torch.testing.assert_close(magnitude(p), expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_poisson(grid):
    r = normal(2, 3, *grid)
    axes = tuple(range(2, 2 + len(grid)))
    r = r - r.mean(axes, keepdim=True)
    poisson = Poisson(grid, r.device)
    u = poisson(r)
    torch.testing.assert_close(gradient_adjoint(gradient(u, len(grid))), r)
    torch.testing.assert_close(poisson(r + 3), u)  # a mean has no solution and is left out
    assert u.mean(axes).abs().max() < 1e-12
