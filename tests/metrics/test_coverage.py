"""Finite-M coverage is exact; everything else is off."""

import numpy as np
import pytest
import torch

from latens.errors import ConfigError, ShapeError
from latens.metrics import attainable_levels, central_interval, coverage, interval_width, rank


def _exchangeable(m: int, images: int, pixels: int, seed: int = 0):
    """Draws and truth from one distribution, independent elements."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(m + 1, images, pixels, generator=generator, dtype=torch.float64)
    return both[1:], both[0]


def test_attainable_levels():
    assert attainable_levels(3) == (0.5,)
    assert attainable_levels(4) == pytest.approx((0.2, 0.6))
    assert attainable_levels(39)[-1] == pytest.approx(0.95)
    assert len(attainable_levels(39)) == 19


@pytest.mark.parametrize("m", [3, 8, 19, 39])
def test_every_attainable_level_is_exact(m: int):
    draws, x = _exchangeable(m, 400, 100)
    levels = attainable_levels(m)
    found = coverage(draws, x, levels).mean(dim=0).numpy()
    tolerance = 4.5 * np.sqrt(0.25 / 40_000)  # binomial, 40,000 independent elements
    np.testing.assert_allclose(found, levels, atol=tolerance)


def test_naive_quantiles_make_an_exact_posterior_look_wrong():
    draws, x = _exchangeable(5, 400, 100)
    levels = np.arange(0.05, 1.0, 0.05)
    low = np.quantile(draws.numpy(), (1 - levels) / 2, axis=0)
    high = np.quantile(draws.numpy(), (1 + levels) / 2, axis=0)
    naive = ((low <= x.numpy()) & (x.numpy() <= high)).mean(axis=(1, 2))
    assert np.abs(naive - levels).mean() == pytest.approx(0.15, abs=0.02)


def test_coverage_counts_what_the_interval_holds():
    draws, x = _exchangeable(19, 6, 50)
    x = x * 2
    for level in (0.1, 0.5, 0.9):
        lower, upper, attained = central_interval(draws, level)
        inside = ((lower <= x) & (x <= upper)).double().mean(dim=1)
        assert attained == pytest.approx(level)
        torch.testing.assert_close(coverage(draws, x, [level])[:, 0], inside)
        torch.testing.assert_close(interval_width(draws, level), (upper - lower).mean(dim=1))


def test_widths_of_the_normal_distribution():
    draws, _ = _exchangeable(399, 2, 300)
    assert interval_width(draws, 0.95).mean().item() == pytest.approx(2 * 1.96, abs=0.05)


@pytest.mark.parametrize(
    ("m", "level", "needed"), [(20, 0.95, 39), (10, 0.9, 19), (39, 0.99, 199), (8, 0.68, 24)]
)
def test_an_unreachable_level_names_the_draws_needed(m: int, level: float, needed: int):
    draws, x = _exchangeable(m, 2, 3)
    with pytest.raises(ConfigError, match=f"M = {needed} draws"):
        central_interval(draws, level)
    with pytest.raises(ConfigError, match=f"M = {needed} draws"):
        coverage(draws, x, [level])


def test_a_mask_selects_elements():
    draws, x = _exchangeable(19, 4, 30)
    x[:, 10:] += 100
    mask = torch.arange(30) < 10
    torch.testing.assert_close(
        coverage(draws, x, [0.9], mask), coverage(draws[..., :10], x[:, :10], [0.9])
    )
    with pytest.raises(ShapeError, match="none in image 0"):
        coverage(draws, x, [0.9], torch.zeros(30, dtype=torch.bool))


def test_undefined_draws_do_not_count_as_covered():
    draws, x = _exchangeable(19, 2, 10)
    draws[3, 0, :5] = torch.nan
    rows = coverage(draws, torch.zeros_like(x), [0.9])[:, 0]
    assert rows.tolist() == [0.5, 1.0]


def test_ranks_are_uniform_with_and_without_ties():
    m = 4
    draws, x = _exchangeable(m, 500, 40)
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64)
    for rounding in (None, 0, 5):
        d, t = draws, x
        if rounding == 0:
            d, t = draws.round(), x.round()
        if rounding == 5:
            d, t = torch.zeros_like(draws), torch.zeros_like(x)
        counts = torch.bincount(rank(d, t, uniform).flatten(), minlength=m + 1)
        assert len(counts) == m + 1
        expected = 20_000 / (m + 1)
        chi2 = float(((counts - expected) ** 2 / expected).sum())
        assert chi2 < 20.5  # 0.9996 quantile, 4 degrees of freedom


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="draws"):
        coverage(torch.rand(5, 2, 3), torch.rand(2, 4), [0.5])
    with pytest.raises(ShapeError, match="uniform"):
        rank(torch.rand(5, 2, 3), torch.rand(2, 3), torch.rand(3))
