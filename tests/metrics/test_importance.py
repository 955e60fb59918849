"""Pareto smoothing against ArviZ, and where its answer is known."""

import arviz
import numpy as np
import pytest
import torch

from latens.errors import ShapeError
from latens.metrics import pareto_smooth


def log_weights(scale, count=2000, seed=0):
    """Target N(0, 1), proposals N(0, scale²): k = 1 − scale² for scale < 1, no tail above."""
    noise = np.random.default_rng(seed).normal(size=(count, 3))
    x = torch.from_numpy(scale * noise)
    return -0.5 * x.square() + 0.5 * (x / scale).square()


@pytest.mark.parametrize("scale", [0.4, 0.7, 0.9, 1.3])
@pytest.mark.parametrize("count", [30, 500, 2000])
def test_agrees_with_arviz(scale, count):
    weights = log_weights(scale, count)
    smoothed, k = pareto_smooth(weights)
    for b in range(3):
        expected, expected_k = arviz.psislw(weights[:, b].numpy())
        np.testing.assert_allclose(smoothed[:, b], expected, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(k[b], expected_k, rtol=1e-8)


def test_the_shape_tells_usable_proposals_from_others():
    assert (pareto_smooth(log_weights(1.3))[1] < 0.5).all()
    narrow = pareto_smooth(log_weights(0.3, 20_000))[1]  # .91 in the limit
    assert narrow.mean() > 0.7


def test_weights_sum_to_one_and_zero_weights_stay_zero():
    weights = log_weights(0.9)
    weights[7] = -torch.inf
    smoothed, _ = pareto_smooth(weights)
    torch.testing.assert_close(smoothed.exp().sum(0), torch.ones(3).double())
    assert (smoothed[7] == -torch.inf).all()


def test_equal_weights_have_no_tail():
    smoothed, k = pareto_smooth(torch.zeros(100, 2))
    torch.testing.assert_close(smoothed.exp(), torch.full((100, 2), 0.01).double())
    assert (k == torch.inf).all()


def test_refuses_few_draws():
    with pytest.raises(ShapeError, match="25"):
        pareto_smooth(torch.zeros(24, 2))
