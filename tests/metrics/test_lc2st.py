"""The local test rejects where, and only where, the posterior is wrong."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from latens.errors import ConfigError, ShapeError
from latens.metrics import ecdf_test, labellings, lc2st, local_statistic, relabelling_test


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


def test_least_squares_by_their_definition():
    """Ridge regression of "is the truth" on products less their mean over members of an image."""
    rng = np.random.default_rng(4)
    members, y = rng.standard_normal((4, 25, 2)), rng.standard_normal((25, 3))
    chosen = labellings(3, 25, 3, rng)
    found = local_statistic(members, y)(chosen)[0]
    theta = (members - members.mean((0, 1))) / members.std((0, 1))
    given = (y - y.mean(0)) / y.std(0)
    rows = []
    for row in theta:
        for a, b in zip(row, given, strict=True):
            rows.append([*a, a[0] ** 2, a[0] * a[1], a[1] ** 2, *(s * t for s in a for t in b)])
    features = np.array(rows).reshape(4, 25, -1)
    features -= features.mean(0)
    features /= features.std((0, 1))
    flat = features.reshape(100, -1)
    for label, value in zip(chosen, found, strict=True):
        is_truth = (np.arange(4)[:, None] == label).astype(float).ravel()
        fitted = Ridge(alpha=100 * 0.01, fit_intercept=False).fit(flat, is_truth - 0.25)
        assert value == pytest.approx((fitted.predict(flat) ** 2).mean())


def test_least_squares_find_what_ranks_of_the_signal_cannot():
    """Draws shifted up for one half of the measurements and down for the other."""
    rng = np.random.default_rng(5)
    truth, y, draws, _ = _linear_gaussian(rng, 100, 19)
    wrong = draws + 0.4 * np.sign(y[:, :1])
    members = np.concatenate([truth[None], wrong])
    found = relabelling_test([local_statistic(members, y)], 19, 100, rng, 199)
    assert found.p_value[0] <= 0.01
    right = np.concatenate([truth[None], draws])
    passed = relabelling_test([local_statistic(right, y)], 19, 100, rng, 199)
    assert passed.p_value[0] > 0.05
    ranks = (wrong < truth).sum(axis=0)
    assert (ecdf_test(ranks, 19)[1] > 0.05).all()


def test_numbers_that_do_not_vary_are_left_out():
    rng = np.random.default_rng(6)
    members, y = rng.standard_normal((4, 25, 2)), rng.standard_normal((25, 1))
    chosen = labellings(3, 25, 2, rng)
    expected = local_statistic(members[..., :1], y)(chosen)
    members[..., 1] = 7.0
    np.testing.assert_allclose(local_statistic(members, y)(chosen), expected)


def test_shapes_are_checked():
    rng = np.random.default_rng(3)
    truth, y, draws, _ = _linear_gaussian(rng, 30, 2)
    with pytest.raises(ShapeError, match="20 images"):
        lc2st(truth[:10], draws[:, :10], y[:10], rng)
    with pytest.raises(ShapeError, match="condition"):
        lc2st(truth, draws, y[:20], rng)
    with pytest.raises(ConfigError, match="99"):
        lc2st(truth, draws, y, rng, 0)
    with pytest.raises(ShapeError, match="condition"):
        local_statistic(draws, y[:20])
