"""Stability metrics of arrays whose values are known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    amplification,
    certified_slope,
    contrast_recovery,
    energy_distance,
    largest_patch_error,
    marginal_w2,
    nmse,
    relative_error,
    secant_slope,
    upper_share,
)


def normal(*shape, seed=0):
    return NoiseStream(seed).normal(shape, torch.float64)


def test_relative_error_is_the_root_of_nmse():
    a, b = normal(5, 1, 4, 3), normal(5, 1, 4, 3, seed=1)
    torch.testing.assert_close(relative_error(a, b), nmse(a, b).sqrt())


@pytest.mark.parametrize("shape", [(2, 1, 9, 7), (2, 3, 6, 5, 7), (3, 2, 11)])
def test_patches_against_a_loop(shape):
    a, b = normal(*shape), normal(*shape, seed=1)
    side, spatial = 3, shape[2:]
    square = (a - b).square().numpy()
    worst = np.zeros(shape[0])
    for corner in np.ndindex(*[n - side + 1 for n in spatial]):
        patch = tuple(slice(c, c + side) for c in corner)
        rms = np.sqrt(square[(slice(None), slice(None), *patch)].reshape(shape[0], -1).mean(1))
        worst = np.maximum(worst, rms)
    np.testing.assert_allclose(largest_patch_error(a, b, side).numpy(), worst)


def test_a_small_artefact_counts_in_full():
    x = torch.zeros(1, 1, 20, 20)
    spot = x.clone()
    spot[..., 3:6, 10:13] = 0.7
    assert largest_patch_error(spot, x, 3).item() == pytest.approx(0.7)
    assert largest_patch_error(spot, x, 99).item() == pytest.approx(0.7 * 3 / 20)


def test_amplification_of_a_multiple_is_one():
    y, e = normal(4, 1, 6), normal(4, 1, 6, seed=1)
    torch.testing.assert_close(
        amplification(3 * y, 3 * (y + e), y, y + e), torch.ones(4, dtype=torch.float64)
    )
    shifted = amplification(3 * y + 100, 3 * (y + e) + 100, y, y + e)
    assert (shifted < 0.1).all()


def test_the_secant_of_a_line_is_its_slope():
    y, u = normal(4, 1, 6), normal(4, 1, 6, seed=1)
    u[3] = 0
    expected = torch.tensor([3.0, 3.0, 3.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(secant_slope(3 * y, 3 * (y + u), u), expected)
    with pytest.raises(ShapeError):
        secant_slope(y, y[:, :, :3], u)


@pytest.mark.parametrize("error", [0.0, 0.05, 10.0])
def test_no_pair_proves_more_than_the_norm(error):
    """R = A⁻¹ + error: on the pair along the smallest singular value the proof is complete."""
    matrix = normal(6, 6) + 3 * torch.eye(6, dtype=torch.float64)
    _, values, right = torch.linalg.svd(matrix)
    inverse = torch.linalg.inv(matrix)
    x = normal(7, 6, seed=1)
    other = x + torch.cat([right[-1:], normal(6, 6, seed=2)])
    noise = error * normal(2, 7, 6, seed=3)
    measured, also = x @ matrix.mT, other @ matrix.mT
    apart = (measured - also).norm(dim=1)
    found = certified_slope(
        x, other, measured @ inverse.mT + noise[0], also @ inverse.mT + noise[1], apart
    )
    distance = (x - other).norm(dim=1)
    wrong = noise.norm(dim=2).sum(0)
    torch.testing.assert_close(found, ((distance - wrong) / apart).clamp_min(0))
    assert (found <= 1 / values[-1] * (1 + 1e-12)).all()
    if error == 0:
        assert found[0].item() == pytest.approx(1 / values[-1].item(), rel=1e-9)
    if error == 10:
        assert (found == 0).all()  # a solver that is wrong on both is proven nothing


def test_contrast_is_what_is_kept_along_the_detail():
    detail, image, across = normal(3, 1, 5, 5), normal(3, 1, 5, 5, seed=1), normal(3, 1, 5, 5)
    across = across.flip(-1)
    along = (across * detail).flatten(1).sum(1) / detail.square().flatten(1).sum(1)
    across = across - along[:, None, None, None] * detail
    share = torch.tensor([0.0, 0.4, 1.3], dtype=torch.float64)
    kept = image + share[:, None, None, None] * detail + across
    torch.testing.assert_close(contrast_recovery(kept, image, detail), share)


def test_w2_of_gaussians_against_transport_of_samples():
    """In one dimension by quantiles; in several it is below the distance of any coupling."""
    level = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    quantiles = [norm.ppf(level.numpy(), loc, scale) for loc, scale in ((0.3, 1.0), (1.0, 0.4))]
    transport = math.sqrt(np.square(quantiles[0] - quantiles[1]).mean())
    arguments = [torch.tensor([[value]], dtype=torch.float64) for value in (0.3, 1.0, 1.0, 0.4)]
    assert marginal_w2(*arguments).item() == pytest.approx(transport, rel=2e-3)
    a = normal(60, 3) @ normal(3, 3, seed=4)
    b = 0.5 + normal(60, 3, seed=1) @ normal(3, 3, seed=5)
    moments = [
        v[None] for v in (a.mean(0), a.std(0, correction=0), b.mean(0), b.std(0, correction=0))
    ]
    assert marginal_w2(*moments).item() <= _w2(a.numpy(), b.numpy()) + 1e-12


def _w2(a, b):
    """2-Wasserstein distance of equally many points, by assignment."""
    from scipy.optimize import linear_sum_assignment

    cost = np.square(a[:, None] - b[None]).sum(-1)
    return math.sqrt(cost[linear_sum_assignment(cost)].mean())


def _mean_distance(loc, std):
    """E|Z| of Z ~ N(loc, std²)."""
    w = loc / std
    return std * (2 * norm.pdf(w) + w * (2 * norm.cdf(w) - 1))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("shift", "std"), [(0.0, 1.0), (0.7, 1.0), (0.3, 2.0), (5.0, 0.5)])
def test_energy_distance_of_gaussians(shift, std, shared):
    """Closed form of N(0, 1) and N(δ, s²); unbiased with few draws that share their noise."""
    images, count = 20_000, 5
    noise, more = normal(count, images, 1), normal(count, images, 1, seed=1)
    found = energy_distance(noise, shift + std * (noise if shared else more))
    root = math.sqrt(2)
    within = (_mean_distance(0, root) + _mean_distance(0, root * std)) / 2
    expected = _mean_distance(shift, math.sqrt(1 + std**2)) - within
    error = found.std().item() / math.sqrt(images)
    assert abs(found.mean().item() - expected) < 4 * error + 1e-12
    assert expected <= math.hypot(shift, std - 1) + 1e-12  # W2


def test_energy_distance_of_points_is_their_distance_and_of_equal_draws_nothing():
    x, y = normal(3, 2, 4), normal(3, 2, 4, seed=1)
    points = energy_distance(x.expand(6, *x.shape), y.expand(6, *y.shape))
    torch.testing.assert_close(points, (x - y).flatten(1).norm(dim=1))
    draws = 100 + normal(6, 3, 2, 4, seed=2)
    torch.testing.assert_close(energy_distance(draws, draws), torch.zeros(3).double())
    with pytest.raises(ShapeError):
        energy_distance(draws, draws[:5])
    with pytest.raises(ShapeError):
        energy_distance(draws[:1], draws[:1])


def test_energy_distance_sees_correlations_that_marginals_do_not():
    a, b = normal(200, 5, 1), normal(200, 5, 1, seed=1)
    draws, other = torch.cat([a, a], 2), torch.cat([a, b], 2)
    assert (energy_distance(draws, other) > 0.02).all()


@pytest.mark.parametrize(("count", "expected"), [(19, 19), (20, 20), (39, 38), (99, 95)])
def test_upper_share_is_the_order_statistic_of_each_image(count, expected):
    order = NoiseStream(0).permutation(count)
    values = (1.0 + order)[:, None] * torch.tensor([1.0, 10.0])
    assert upper_share(values, 0.95).tolist() == [expected, 10.0 * expected]


@pytest.mark.parametrize(("count", "coverage"), [(19, 0.95), (39, 0.95), (29, 29 / 30)])
def test_upper_share_covers_a_further_value_as_promised(count, coverage):
    images = 40_000
    values = normal(count + 1, images).square()  # exchangeable, skewed
    covered = (values[-1] <= upper_share(values[:-1], 0.95)).double().mean().item()
    assert abs(covered - coverage) < 4 * math.sqrt(coverage * (1 - coverage) / images)


def test_upper_share_needs_repetitions():
    values = normal(18, 2)
    with pytest.raises(ShapeError, match="19 or more"):
        upper_share(values, 0.95)
    with pytest.raises(ConfigError):
        upper_share(values, 95)
    with pytest.raises(ShapeError):
        upper_share(values[:0])


def test_arguments_that_do_not_fit():
    x = normal(2, 1, 5, 5)
    with pytest.raises(ShapeError):
        relative_error(x, x[:1])
    with pytest.raises(ShapeError):
        contrast_recovery(x, x, x[..., :3])
    with pytest.raises(ConfigError):
        largest_patch_error(x, x, 0)
