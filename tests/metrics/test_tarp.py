"""TARP and HPD counts against loops and closed forms."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    area_to_curve,
    coverage,
    hpd_ranks,
    inside_regions,
    reference_distance,
    tarp_ranks,
)


def _normal(key: int, *shape: int) -> torch.Tensor:
    return NoiseStream(key).normal(shape, torch.float64)


def test_counts_of_closer_draws():
    draws, x, references = _normal(0, 9, 5, 2, 3), _normal(1, 5, 2, 3), _normal(2, 5, 2, 3)
    found = tarp_ranks(draws, x, references, torch.rand(5))
    for i in range(5):
        limit = (x[i] - references[i]).norm()
        closer = sum(bool((draws[m, i] - references[i]).norm() < limit) for m in range(9))
        assert int(found[i]) == closer
    torch.testing.assert_close(
        reference_distance(draws, references)[4, 3], (draws[4, 3] - references[3]).norm()
    )


def test_distance_of_a_far_reference_ranks_a_projection():
    """From far away spheres are planes: the TARP rank is the rank along the line of sight."""
    draws, x = _normal(3, 20, 50, 4), _normal(4, 50, 4)
    direction = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    references = (1e7 * direction).expand(50, 4)
    found = tarp_ranks(draws, x, references, torch.zeros(50))
    along = ((draws @ direction) > (x @ direction)).sum(dim=0)  # larger is closer
    assert (found == along).all()


def test_references_at_the_mean_give_chi_square_regions():
    """N(0, s²I) draws, N(0, I) truth, reference 0: the law of the counts in closed form."""
    images, count, scale = 20_000, 19, 0.8
    x = _normal(5, images, 2)
    draws = scale * _normal(6, count, images, 2)
    ranks = tarp_ranks(draws, x, torch.zeros_like(x), torch.rand(images))
    # d² of a draw is s² times an exponential of mean 2, so for a truth at d² the count is
    # binomial with chance 1 − exp(−d²/2s²), and with e = exp(−d²/2) uniform
    e = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:-1]
    farther = e ** (1 / scale**2)
    for k in (1, 10, 19):
        law = torch.distributions.Binomial(count, 1 - farther)
        expected = sum(float(law.log_prob(torch.tensor(float(r))).exp().mean()) for r in range(k))
        found = float(inside_regions(ranks, count)[:, k - 1].mean())
        assert found == pytest.approx(expected, abs=4 * (0.25 / images) ** 0.5)
    area = area_to_curve(ranks, count)
    assert area.mean() < -0.02  # too sure


def test_area_of_perfectly_even_ranks_is_zero():
    for count in (2, 8, 19):
        ranks = torch.arange(count + 1)
        assert float(area_to_curve(ranks, count).mean()) == pytest.approx(0, abs=1e-12)
        assert area_to_curve(torch.full((3,), count), count).mean() < 0
        levels = torch.arange(1, count + 1) / (count + 1)
        torch.testing.assert_close(
            inside_regions(ranks, count).mean(0), levels.double(), rtol=0, atol=1e-6
        )
    with pytest.raises(ConfigError, match="2 draws"):
        area_to_curve(torch.tensor([0]), 1)


def test_hpd_of_a_unimodal_symmetric_density_is_the_central_region():
    draws, x = _normal(7, 19, 300, 1), 1.3 * _normal(8, 300, 1)
    inside = hpd_ranks(-draws[..., 0].abs(), -x[:, 0].abs(), torch.rand(300))
    closer = (draws.abs() < x.abs()).sum(dim=0)[:, 0]
    assert (inside == closer).all()
    central = float(coverage(draws, x, [0.9]).mean())
    hpd = float(inside_regions(inside, 19)[:, 17].mean())
    assert hpd == pytest.approx(central, abs=0.05)


def test_shapes_are_checked():
    draws, x = torch.rand(4, 5, 3), torch.rand(5, 3)
    with pytest.raises(ShapeError, match="references"):
        tarp_ranks(draws, x, torch.rand(5, 2), torch.rand(5))
    with pytest.raises(ShapeError, match="one number per draw"):
        hpd_ranks(torch.rand(4, 5), torch.rand(4), torch.rand(5))
