"""Draws from pools and in proportion to weights, against counting."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.inference.resampling import MAX_K, ImportanceWeights, draw_from_pool, largest_k
from latens.inference.samplers.maximise import Maxima

KEYS = (4, 0, 7)


def pool():
    """Three measurements with 12, 9 and 10 positions, each a number of its own."""
    return [
        torch.arange(start, start + count)[:, None].double()
        for start, count in ((0, 12), (100, 9), (200, 10))
    ]


def test_a_pool_is_drawn_without_replacement_by_key():
    drawn = draw_from_pool(pool(), KEYS, 3, 9)
    assert drawn.shape == (9, 3, 1)
    for b, own in enumerate(pool()):
        values = drawn[:, b, 0].tolist()
        assert len(set(values)) == 9
        assert set(values) <= set(own[:, 0].tolist())
        assert values != sorted(values)
    assert torch.equal(draw_from_pool(pool(), KEYS, 3, 4), drawn[:4])
    assert torch.equal(draw_from_pool(pool()[1:], KEYS[1:], 3, 9), drawn[:, 1:])
    assert not torch.equal(draw_from_pool(pool(), KEYS, 4, 9), drawn)
    with pytest.raises(ConfigError, match="at most 9"):
        draw_from_pool(pool(), KEYS, 3, 10)


def test_draws_are_resampled_as_often_as_they_weigh():
    """Of p ∝ ω: the mean of φ over 40,000 draws against Σ ω φ, four standard errors."""
    log_weights = 0.5 * NoiseStream(1).normal((200, 3), torch.float64)
    values = NoiseStream(2).normal((200, 3), torch.float64)
    weights = ImportanceWeights(log_weights)
    assert weights.trusted.all()
    exact = log_weights.softmax(0)  # light tails: smoothing hardly changes them
    chosen = weights.resampled(KEYS, 5, Purpose.POOL, 40_000)
    assert chosen.shape == (40_000, 3)
    for b in range(3):
        mean = (exact[:, b] * values[:, b]).sum()
        spread = (exact[:, b] * (values[:, b] - mean).square()).sum().sqrt()
        found = values[chosen[:, b], b].mean()
        assert abs(found - mean) < 4 * spread / 200 + 0.02 * spread
    np.testing.assert_allclose(weights.size, 1 / exact.square().sum(0), rtol=0.05)
    alone = ImportanceWeights(log_weights[:, 1:]).resampled(KEYS[1:], 5, Purpose.POOL, 50)
    assert torch.equal(alone, chosen[:50, 1:])


def test_weights_that_one_draw_carries_are_not_trusted():
    heavy = NoiseStream(3).normal((400, 2), torch.float64)
    heavy[:, 1] *= 6
    weights = ImportanceWeights(heavy)
    assert weights.trusted.tolist() == [True, False]
    assert weights.numbers["k"] == float(weights.k[1]) > MAX_K
    assert weights.numbers["size"] == float(weights.size.min()) < 40


def test_few_draws_must_have_lighter_tails():
    """k̂ between 1 − 1/log₁₀ S and .7, and an effective number of draws that is too small."""
    assert largest_k(100) == 0.5
    assert largest_k(10**4) == MAX_K
    few = ImportanceWeights(1.3 * NoiseStream(3).normal((100, 40), torch.float64))
    between = (few.k > largest_k(100)) & (few.k < MAX_K)
    assert between.any()
    assert not few.trusted[between].any()
    assert not few.trusted[few.size < 39].any()
    assert not ImportanceWeights(torch.zeros(30, 1)).trusted.any()


def test_the_best_climb_of_every_measurement_is_kept():
    heights = torch.tensor([1.0, 5.0, 2.0, 7.0, 6.0, 9.0])
    rows = torch.arange(6.0)
    found = Maxima(rows[:, None], heights, heights > 4, rows / 10, 11)
    best = found.best_of(3)
    assert best.position.tolist() == [[1.0], [5.0]]
    assert best.log_density.tolist() == [5.0, 9.0]
    assert best.converged.tolist() == [True, True]
    torch.testing.assert_close(best.promised, torch.tensor([0.1, 0.5]))
    assert found.numbers == {"not_converged": 2.0, "promised_gain": 0.5, "gradients": 11.0}
