"""Linear functionals: block means and principal scores."""

import numpy as np
import pytest
import torch

from latens.errors import ShapeError
from latens.metrics import coverage, principal_directions, principal_scores, region_means


@pytest.mark.parametrize(
    ("shape", "grid"), [((2, 1, 7), (3,)), ((2, 3, 10, 7), (4, 3)), ((1, 2, 5, 6, 7), (2, 3, 2))]
)
def test_block_means_against_a_loop(shape: tuple[int, ...], grid: tuple[int, ...]):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spatial = shape[2:]
    expected = []
    for block in np.ndindex(*grid):
        part = tuple(
            slice(i * n // g, (i + 1) * n // g)
            for i, n, g in zip(block, spatial, grid, strict=True)
        )
        expected.append(x[(..., *part)].flatten(2).mean(dim=2))
    torch.testing.assert_close(region_means(x, grid), torch.stack(expected, dim=2))


def test_functionals_commute_with_the_draw_axis():
    draws = torch.randn(4, 3, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    directions = principal_directions(draws[:, 0], 2)
    assert region_means(draws, (2, 3)).shape == (4, 3, 1, 6)
    torch.testing.assert_close(region_means(draws, (2, 3))[1], region_means(draws[1], (2, 3)))
    scores = principal_scores(draws, directions)
    assert scores.shape == (4, 3, 2)
    torch.testing.assert_close(scores[2], principal_scores(draws[2], directions))


@pytest.mark.parametrize("n", [6, 200])
def test_principal_directions_against_the_svd(n: int):
    x = torch.randn(n, 1, 4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = x * torch.linspace(3, 0.1, 20, dtype=torch.float64).reshape(4, 5)
    directions = principal_directions(x, 3).flatten(1)
    flat = x.flatten(1)
    reference = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:3]
    torch.testing.assert_close((directions @ reference.T).abs(), torch.eye(3, dtype=x.dtype))


def test_region_means_see_what_pixels_do_not():
    """Independent draws around a correlated truth: right pixel spread, wrong everywhere else."""
    generator = torch.Generator().manual_seed(4)
    shared = torch.randn(300, 1, 1, 1, generator=generator).expand(300, 1, 8, 8)
    draws = torch.randn(39, 300, 1, 8, 8, generator=generator)
    pixel = coverage(draws, shared, [0.95]).mean().item()
    region = coverage(region_means(draws, (1, 1)), region_means(shared, (1, 1)), [0.95])
    assert pixel == pytest.approx(0.95, abs=0.04)
    assert region.mean().item() < 0.35


def test_impossible_requests():
    with pytest.raises(ShapeError, match="blocks per axis"):
        region_means(torch.rand(2, 1, 3, 3), (4, 1))
    with pytest.raises(ShapeError, match="directions"):
        principal_scores(torch.rand(2, 1, 3, 3), torch.rand(2, 1, 3, 4))
    with pytest.raises(ShapeError, match="count"):
        principal_directions(torch.rand(3, 1, 4, 4), 3)
