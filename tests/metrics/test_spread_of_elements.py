"""Bins of spread, sparsification, rank correlation and variogram score against definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    ence,
    error_rank_correlation,
    halves,
    lag_pairs,
    sparsification_areas,
    spread_bin_components,
    spread_bin_deviations,
    variogram,
    variogram_score,
)
from latens.metrics.metric import mean_magnitude


def _normal(key: int, *shape: int) -> torch.Tensor:
    return NoiseStream(key).normal(shape, torch.float64)


EDGES = (0.3, 0.5, 0.8, 1.2)


def _heteroscedastic(count: int, images: int, pixels: int, narrow: float = 1.0):
    """Draws and truth whose spread differs between pixels, 0.2 … 2."""
    scale = torch.linspace(0.2, 2, pixels, dtype=torch.float64)
    return narrow * scale * _normal(0, count, images, pixels), scale * _normal(1, images, pixels)


def test_bins_by_definition():
    draws, x = _heteroscedastic(11, 30, 40)
    rows = spread_bin_components(draws, x, EDGES).numpy()
    first, second = (h.numpy() for h in halves(draws))
    place = np.digitize(first.std(axis=0, ddof=1).ravel(), EDGES)
    variance = (second.var(axis=0, ddof=1) * 6 / 5).ravel()
    error = ((second.mean(axis=0) - x.numpy()) ** 2).ravel()
    weighted, plain = 0.0, 0.0
    for j in range(5):
        inside = place == j
        mvar, mse, share = variance[inside].mean(), error[inside].mean(), inside.mean()
        weighted += share * abs(np.sqrt(mvar) - np.sqrt(mse)) / np.sqrt(mvar)
        plain += share * abs(mvar - mse)
    means = rows.mean(axis=0, keepdims=True)
    assert ence(means)[0] == pytest.approx(weighted)
    deviations = spread_bin_deviations(torch.from_numpy(rows)).numpy().mean(axis=0, keepdims=True)
    assert mean_magnitude(deviations)[0] == pytest.approx(plain)


@pytest.mark.parametrize("count", [4, 8, 39])
def test_an_exact_posterior_has_no_calibration_error_in_any_bin(count: int):
    """For few draws too, where bins by the tested spread itself would be far off."""
    draws, x = _heteroscedastic(count, 4000, 40)
    means = spread_bin_components(draws, x, EDGES).numpy().mean(axis=0)
    share, variance, error = np.split(means, 3)
    assert share.sum() == pytest.approx(1)
    noise = 4 * np.sqrt(3 / (160_000 * share))  # of (error − variance)/variance; heavier tails
    np.testing.assert_allclose(error / variance, 1, atol=noise.max() * 2)
    spread, wrong = draws.std(dim=0), (draws.mean(dim=0) - x) ** 2
    if count == 4:
        small = spread < EDGES[0]
        naive = float(wrong[small].mean() / (draws.var(dim=0)[small].mean() * 5 / 4))
        assert naive > 2


def test_an_overconfident_posterior_is_off_by_its_factor():
    draws, x = _heteroscedastic(39, 500, 40, narrow=0.5)
    means = spread_bin_components(draws, x, EDGES).numpy().mean(axis=0, keepdims=True)
    # mean of 19 draws: (1 + s²/19) σ² against s² (20/19) σ², s = .5
    expected = np.sqrt((1 + 0.25 / 19) / (0.25 * 20 / 19)) - 1
    assert ence(means)[0] == pytest.approx(expected, rel=0.03)


def test_edges_and_masks():
    draws, x = _heteroscedastic(8, 6, 10)
    with pytest.raises(ConfigError, match="increasing"):
        spread_bin_components(draws, x, (0.5, 0.5))
    with pytest.raises(ShapeError, match="at least 4"):
        spread_bin_components(draws[:3], x, EDGES)
    mask = torch.arange(10) < 4
    torch.testing.assert_close(
        spread_bin_components(draws, x, EDGES, mask),
        spread_bin_components(draws[..., :4], x[:, :4], EDGES),
    )
    blank = spread_bin_components(torch.zeros_like(draws), torch.zeros_like(x), EDGES)
    assert ence(blank.numpy().mean(axis=0, keepdims=True))[0] == 0
    certain = spread_bin_components(torch.zeros_like(draws), torch.ones_like(x), EDGES)
    assert ence(certain.numpy().mean(axis=0, keepdims=True))[0] == np.inf


def test_known_elements_in_float32_are_calibrated():
    """Draws that all equal the truth; the mean of 19 equal float32 numbers is another number."""
    known = torch.linspace(0.1, 1.7, 24).reshape(3, 8)
    rows = spread_bin_components(known.expand(39, 3, 8), known, EDGES)
    assert (known.expand(19, 3, 8).mean(dim=0) != known).any()
    assert ence(rows.numpy().mean(axis=0, keepdims=True).astype(float))[0] == 0
    assert (spread_bin_deviations(rows) == 0).all()


def _curve(square: np.ndarray, key: np.ndarray) -> np.ndarray:
    order = np.argsort(-key)  # most uncertain first
    left = [np.sqrt(square[order[f:]].mean()) for f in range(len(square))]
    return np.array(left) / left[0]


def test_sparsification_by_definition():
    spread, error = _normal(2, 3, 4, 5).abs(), _normal(3, 3, 4, 5)
    found = sparsification_areas(spread, error, spread**2).numpy()
    for i in range(3):
        s, e = spread[i].numpy().ravel(), error[i].numpy().ravel()
        by_spread, oracle = _curve(e**2, s), _curve(e**2, np.abs(e))
        reference = _curve(s**2, s)
        assert found[i, 0] == pytest.approx((by_spread - oracle).mean())
        assert found[i, 1] == pytest.approx((1 - by_spread).mean())
        assert found[i, 2] == pytest.approx((by_spread - reference).mean())
    assert (found[:, 0] >= 0).all()


def test_sparsification_of_known_spreads():
    scale = torch.linspace(0.1, 2, 20_000, dtype=torch.float64).expand(4, -1)
    error = scale * _normal(4, 4, 20_000)
    found = sparsification_areas(scale, error, scale**2)
    assert found[:, 2].abs().max() < 0.01  # errors are as stated
    assert found[:, 0].min() > 0.1  # and yet the oracle is far away
    assert sparsification_areas(error.abs(), error, error**2)[:, 0].abs().max() < 1e-12
    useless = sparsification_areas(_normal(5, 4, 20_000), error, scale**2)
    assert useless[:, 1].abs().max() < 0.02  # no gain over random
    claimed = sparsification_areas(scale, _normal(6, 4, 20_000), scale**2)
    assert claimed[:, 2].min() > 0.2  # errors do not follow the spread


def test_equal_spreads_are_removed_in_random_order():
    """The mean over all orders of ties, of squares, by enumeration."""
    spread = torch.tensor([[3.0, 1.0, 3.0, 2.0, 1.0, 3.0]], dtype=torch.float64)
    error = torch.tensor([[0.5, -1.0, 2.0, 0.3, 0.1, -1.5]], dtype=torch.float64)
    variance = torch.tensor([[1.0, 0.2, 4.0, 0.5, 0.9, 2.0]], dtype=torch.float64)
    found = sparsification_areas(spread, error, variance)[0]
    left = {"error": np.zeros(6), "variance": np.zeros(6)}
    orders = [
        p for p in permutations(range(6)) if (np.diff(spread[0].numpy()[list(p)]) >= 0).all()
    ]
    assert len(orders) == 2 * 6
    for name, square in (("error", error[0].numpy() ** 2), ("variance", variance[0].numpy())):
        for order in orders:
            ascending = square[list(order)]
            left[name] += [ascending[:k].mean() for k in range(6, 0, -1)]
        left[name] = np.sqrt(left[name] / left[name][0])
    oracle = _curve(error[0].numpy() ** 2, error[0].abs().numpy())
    expected = [left["error"] - oracle, 1 - left["error"], left["error"] - left["variance"]]
    np.testing.assert_allclose(found, [e.mean() for e in expected], rtol=1e-12)


def test_a_constant_spread_gains_nothing_wherever_the_errors_are():
    error = torch.linspace(0, 2, 400, dtype=torch.float64).reshape(1, 20, 20)
    constant = torch.full_like(error, 0.3)
    for shown in (error, error.flip(1, 2)):
        _, gain, fit = sparsification_areas(constant, shown, constant**2)[0]
        assert abs(gain) < 1e-12
        assert abs(fit) < 1e-12


def test_rank_correlation_agrees_with_scipy_ties_included():
    spread, error = _normal(7, 5, 6, 7).abs(), _normal(8, 5, 6, 7)
    spread[:, :2] = 0.5
    error[:, :3] = 0
    found = error_rank_correlation(spread, error)
    for i in range(5):
        expected = stats.spearmanr(spread[i].ravel(), error[i].abs().ravel()).statistic
        assert float(found[i]) == pytest.approx(expected)
    assert (error_rank_correlation(torch.ones_like(error), error) == 0).all()


def test_variogram_score_by_definition():
    draws, x = _normal(9, 6, 4, 1, 3, 4), _normal(10, 4, 1, 3, 4)
    pairs = lag_pairs((1, 3, 4), (1, 2))
    assert len(pairs) == (2 * 4 + 3 * 3) + (1 * 4 + 3 * 2)
    found = variogram_score(draws, x, pairs, order=0.7)
    for b in range(4):
        d, t = draws[:, b].flatten(1).numpy(), x[b].flatten().numpy()
        total = 0.0
        for i, j in pairs.tolist():
            ensemble = np.abs(d[:, i] - d[:, j]) ** 0.7
            observed = np.abs(t[i] - t[j]) ** 0.7
            total += (observed - ensemble.mean()) ** 2 - ensemble.var(ddof=1) / 6
        assert float(found[b]) == pytest.approx(total / len(pairs))


def test_variogram_score_does_not_depend_on_the_parts(monkeypatch):
    draws, x = _normal(13, 6, 5, 1, 3, 4), _normal(14, 5, 1, 3, 4)
    pairs = lag_pairs((1, 3, 4), (1, 2))
    whole = variogram_score(draws, x, pairs)
    monkeypatch.setattr(variogram, "_PART", 2 * len(pairs))
    torch.testing.assert_close(variogram_score(draws, x, pairs), whole)


def test_lags_stay_inside_an_image_and_a_channel():
    pairs = lag_pairs((2, 3, 5), (2,))
    place = np.array(np.unravel_index(pairs.numpy(), (2, 3, 5)))  # (3, P, 2)
    step = place[:, :, 1] - place[:, :, 0]
    assert (step[0] == 0).all()
    assert sorted({tuple(s) for s in step.T}) == [(0, 0, 2), (0, 2, 0)]
    with pytest.raises(ConfigError, match="smaller lags"):
        lag_pairs((1, 3, 3), (3,))
    with pytest.raises(ConfigError, match="1 or more"):
        lag_pairs((1, 3, 3), (0,))


def test_variogram_score_does_not_depend_on_the_number_of_draws_and_sees_correlation():
    images = 3000
    root = torch.linalg.cholesky(
        torch.tensor([[1, 0.8, 0.5], [0.8, 1, 0.8], [0.5, 0.8, 1]], dtype=torch.float64)
    )
    x = (_normal(11, images, 3) @ root.T)[:, None]
    noise = _normal(12, 40, images, 3)
    pairs = lag_pairs((1, 3), (1, 2))
    exact = [
        float(variogram_score((noise[:m] @ root.T)[:, :, None], x, pairs).mean())
        for m in (2, 8, 40)
    ]
    assert exact[0] == pytest.approx(exact[2], rel=0.1)
    assert exact[1] == pytest.approx(exact[2], rel=0.05)
    independent = float(variogram_score(noise[:, :, None], x, pairs).mean())
    assert independent > 1.2 * exact[2]
    with pytest.raises(ConfigError, match="positive"):
        variogram_score(noise[:, :, None], x, pairs, 0)
    with pytest.raises(ShapeError, match="pairs"):
        variogram_score(noise[:, :, None], x, pairs[:0])
