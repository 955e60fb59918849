"""The local test rejects where, and only where, the posterior is wrong."""

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from latens.errors import ConfigError, ShapeError
from latens.metrics import lc2st


def _linear_gaussian(rng: np.random.Generator, images: int, draws: int):
    """θ ~ N(0, I₂), y = θ + n: posterior N(y/2, I/2)."""
    truth = rng.standard_normal((images, 2))
    y = truth + rng.standard_normal((images, 2))
    noise = rng.standard_normal((draws, images, 2))
    return truth, y, y / 2 + noise / np.sqrt(2), noise


def test_the_prior_is_no_posterior():
    rng = np.random.default_rng(0)
    truth, y, _, prior = _linear_gaussian(rng, 300, 4)
    assert lc2st(truth, prior, y, rng, 39).p_value == pytest.approx(1 / 40)


def test_it_says_where():
    """Draws shifted for positive y₁ alone are found there and not elsewhere."""
    rng = np.random.default_rng(1)
    truth, y, draws, _ = _linear_gaussian(rng, 2000, 4)
    draws = draws + 0.8 * np.maximum(y[:, :1], 0)
    found = lc2st(truth, draws, y, rng, 39)
    assert found.p_value == pytest.approx(1 / 40)
    place = y[found.images, 0]
    assert np.mean(found.local_p_value[place > 1.5] <= 0.05) > 0.9
    assert np.mean(found.local_statistic[place > 1.5]) > 5 * np.mean(
        found.local_statistic[np.abs(place + 1) < 0.5]
    )


def test_the_size_is_exact():
    """Under an exact posterior each of ten p-values has chance 1/10, whatever the learner."""
    rng = np.random.default_rng(2)
    learner = GaussianNB
    runs, p = 120, []
    for _ in range(runs):
        truth, y, draws, _ = _linear_gaussian(rng, 40, 2)
        p.append(lc2st(truth, draws, y, rng, 9, learner()).p_value)
    for level in (0.1, 0.3, 0.5):
        rate = np.mean(np.array(p) <= level + 1e-9)
        assert abs(rate - level) < 3.5 * np.sqrt(level * (1 - level) / runs)


def test_shapes_are_checked():
    rng = np.random.default_rng(3)
    truth, y, draws, _ = _linear_gaussian(rng, 30, 2)
    with pytest.raises(ShapeError, match="20 images"):
        lc2st(truth[:10], draws[:, :10], y[:10], rng)
    with pytest.raises(ShapeError, match="condition"):
        lc2st(truth, draws, y[:20], rng)
    with pytest.raises(ConfigError, match="99"):
        lc2st(truth, draws, y, rng, 0)
