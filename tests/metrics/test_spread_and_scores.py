"""Spread, skill and proper scores of posteriors that are known exactly."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from latens.errors import ConfigError
from latens.metrics import (
    crps,
    crps_gaussian,
    draw_mse_components,
    energy_score,
    interval_score,
    metric,
    scores,
    spread_skill_components,
    z_variance,
    z_variance_divisor,
)


def _posterior(m: int, images: int, pixels: int, width: float = 1.0, seed: int = 0):
    """x ~ N(μ_i, 1) and draws from N(μ_i, width²), μ_i far apart."""
    generator = torch.Generator().manual_seed(seed)
    mu = 5 * torch.randn(images, pixels, generator=generator, dtype=torch.float64)
    x = mu + torch.randn(images, pixels, generator=generator, dtype=torch.float64)
    noise = torch.randn(m, images, pixels, generator=generator, dtype=torch.float64)
    return mu + width * noise, x


@pytest.mark.parametrize("m", [2, 5, 20])
@pytest.mark.parametrize("width", [1.0, 0.8])
def test_spread_skill_ratio_recovers_the_width(m: int, width: float):
    draws, x = _posterior(m, 400, 200, width)
    rows = spread_skill_components(draws, x)
    assert rows.shape == (400, 2)
    expected = math.sqrt((m + 1) / m * width**2 / (1 + width**2 / m))
    assert metric("spread_skill").value(rows.numpy()) == pytest.approx(expected, rel=0.012)


@pytest.mark.parametrize("m", [4, 20, 100])
def test_a_single_draw_of_an_exact_posterior_has_twice_the_error(m: int):
    draws, x = _posterior(m, 300, 200)
    rows = draw_mse_components(draws, x).numpy()
    value = metric("mse_draw_ratio").value(rows)
    assert value == pytest.approx(2.0, rel=0.015)
    ssr = metric("spread_skill").value(spread_skill_components(draws, x).numpy())
    assert value == pytest.approx((m + 1) / m + (m - 1) / m * ssr**2, rel=1e-9)


def test_z_variance_divisor():
    assert z_variance_divisor(20) == pytest.approx(1.1735, abs=1e-4)
    with pytest.raises(ConfigError, match="at least 4"):
        z_variance_divisor(3)


@pytest.mark.parametrize("m", [8, 20, 60])
def test_z_variance_of_an_exact_posterior_is_one(m: int):
    draws, x = _posterior(m, 500, 200)
    assert z_variance(draws, x).mean().item() == pytest.approx(1.0, abs=0.04)
    too_sure, x = _posterior(m, 500, 200, width=0.5)
    assert z_variance(too_sure, x).mean().item() > 3


def test_z_variance_of_constant_elements():
    draws, x = _posterior(8, 3, 10)
    known = torch.ones(3, 4, dtype=x.dtype)
    padded = z_variance(
        torch.cat([draws, known.expand(8, 3, 4)], dim=2), torch.cat([x, known], dim=1)
    )
    torch.testing.assert_close(padded, z_variance(draws, x))
    wrong = z_variance(torch.cat([draws, known.expand(8, 3, 4)], 2), torch.cat([x, known * 2], 1))
    assert wrong.isinf().all()


KNOWN = [0.1, 0.3, 1 / 3, 0.7, 1.1, 12.3]
"""Numbers whose mean over 39 copies is not the number in float32."""


def test_known_elements_in_float32_are_left_out():
    """Their draws equal the truth; the mean of 39 equal float32 numbers does not."""
    draws, x = (part.float() for part in _posterior(39, 3, 10))
    known = torch.tensor([KNOWN] * 3)
    copies = known.expand(39, 3, len(KNOWN))
    assert (copies.mean(dim=0) != known).any()
    every, truth = torch.cat([draws, copies], dim=2), torch.cat([x, known], dim=1)
    torch.testing.assert_close(z_variance(every, truth), z_variance(draws, x))
    assert z_variance(copies, known).isnan().all()
    for rows in (spread_skill_components, draw_mse_components):
        assert (rows(copies, known) == 0).all()
        share = 10 / (10 + len(KNOWN))
        torch.testing.assert_close(rows(every, truth), share * rows(draws, x))
    off = torch.full_like(known[:, :1], 0.2)  # no spread, but wrong
    wrong = torch.cat([copies, off.expand(39, 3, 1)], 2), torch.cat([known, off + 1e-3], 1)
    assert z_variance(*wrong).isinf().all()


def test_crps_against_the_double_sum():
    draws, x = _posterior(7, 3, 11)
    m = len(draws)
    pairs = (draws[:, None] - draws[None]).abs().sum(dim=(0, 1))
    expected = (draws - x).abs().mean(dim=0) - pairs / (2 * m * (m - 1))
    torch.testing.assert_close(crps(draws, x), expected.mean(dim=1))


def test_crps_in_float32_far_from_zero():
    draws, x = _posterior(20, 3, 50)
    far = crps((draws + 1000).float(), (x + 1000).float())
    torch.testing.assert_close(far.double(), crps(draws, x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_crps_does_not_depend_on_the_number_of_draws(width: float):
    """Fair: M = 2 has the expectation of M = ∞, which is the closed form."""
    for m, pixels in ((2, 2000), (20, 400)):
        draws, x = _posterior(m, 100, pixels, width)
        # E CRPS of N(0, s²) against N(0, 1): √(1+s²)·√(2/π) − s/√π
        expected = math.sqrt(1 + width**2) * math.sqrt(2 / math.pi) - width / math.sqrt(math.pi)
        assert crps(draws, x).mean().item() == pytest.approx(expected, rel=0.015)


def test_gaussian_crps_against_quadrature():
    loc, scale, x = 0.3, 0.7, 1.1
    grid = np.linspace(-12, 12, 400_001)
    step = (grid >= x).astype(float)
    direct = np.trapezoid((stats.norm.cdf(grid, loc, scale) - step) ** 2, grid)
    value = crps_gaussian(*(torch.tensor([[v]], dtype=torch.float64) for v in (loc, scale, x)))
    assert value.item() == pytest.approx(direct, rel=1e-4)


def test_many_draws_give_the_gaussian_crps():
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    scale = torch.rand(2, 30, generator=generator, dtype=torch.float64) + 0.1
    x = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    # equally likely quantiles instead of random draws
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    draws = loc + scale * torch.special.ndtri(levels)[:, None, None]
    torch.testing.assert_close(crps(draws, x), crps_gaussian(loc, scale, x), rtol=2e-3, atol=1e-4)


def test_interval_score_by_hand():
    x = torch.tensor([[0.5, -1.0, 2.0]])
    lower, upper = torch.zeros(1, 3), torch.ones(1, 3)
    expected = (1 + (1 + 20 * 1) + (1 + 20 * 1)) / 3
    assert interval_score(lower, upper, x, 0.9).item() == pytest.approx(expected, rel=1e-5)


def test_the_central_interval_minimises_the_interval_score():
    _, x = _posterior(2, 1, 100_000)
    x = x - x.mean()
    scores = []
    half = (1.0, 1.645 * x.std().item(), 12.0)
    for width in half:
        bound = torch.full_like(x, width)
        scores.append(interval_score(-bound, bound, x, 0.9).item())
    assert scores[1] == min(scores)


def test_energy_score_against_loops_and_in_one_dimension():
    draws, x = _posterior(5, 3, 4)
    m = len(draws)
    for image in range(3):
        d, t = draws[:, image], x[image]
        near = sum((v - t).norm() for v in d) / m
        far = sum((v - w).norm() for v in d for w in d) / (2 * m * (m - 1))
        assert energy_score(draws, x)[image].item() == pytest.approx(float(near - far))
    torch.testing.assert_close(
        energy_score(draws[..., :1], x[..., :1]), crps(draws[..., :1], x[..., :1])
    )


def test_energy_score_in_float32_far_from_zero_and_of_equal_draws():
    draws, x = _posterior(12, 3, 50)
    far = energy_score((draws + 1000).float(), (x + 1000).float())
    torch.testing.assert_close(far.double(), energy_score(draws, x), atol=1e-3, rtol=0)
    equal = draws[:1].float().expand(12, 3, 50)
    expected = (draws[0] - x).float().norm(dim=1)
    torch.testing.assert_close(energy_score(equal, x.float()), expected, rtol=1e-6, atol=0)


def test_energy_score_of_a_large_event_does_not_depend_on_its_parts(monkeypatch):
    draws, x = _posterior(6, 2, 1000)
    whole = energy_score(draws, x)
    monkeypatch.setattr(scores, "_PART", 7)
    torch.testing.assert_close(energy_score(draws, x), whole)


@pytest.mark.parametrize("score", [crps, energy_score])
def test_the_true_posterior_scores_best(score):
    values = {w: score(*_posterior(10, 2000, 5, w)).mean().item() for w in (0.5, 1.0, 2.0)}
    assert min(values, key=lambda w: values[w]) == 1.0
