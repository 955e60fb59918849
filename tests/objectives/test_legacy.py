"""Published losses against their formulas, written out in numpy, and what they imply."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError
from latens.objectives.legacy import Weights, legacy, legacy_mean

SHAPE = (3, 1, 4, 5)


def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = NoiseStream(2)
    x, m = stream.uniform(SHAPE, torch.float64), stream.uniform(SHAPE, torch.float64)
    return x, m, 0.1 + stream.uniform((3, 1, 1, 1), torch.float64)


def test_losses_are_those_that_were_published():
    x, m, scale = pair()
    decoded = diagonal_normal(m, scale, 3)
    weights = Weights(500, 300, 5)
    found, of_mean = legacy(x, decoded, weights), legacy_mean(x, decoded, weights)
    for b in range(3):
        error = np.sum((x[b].numpy() - m[b].numpy()) ** 2)
        s = float(scale[b])
        loss = 500 * error / (2 * s**2) + 300 * np.log(s)
        assert float(-5 * found[b]) == pytest.approx(loss, rel=1e-12)
        assert float(-5 * of_mean[b]) == pytest.approx(500 * error / 20, rel=1e-12)


def test_a_mean_is_a_decoder_of_fixed_variance():
    """Up to a constant it is log N(x; m, s²) with s² = D v / 2w: 3.9 for 28² with 500 and 5."""
    x, m, _ = pair()
    weights = Weights()
    size = 20
    variance = size * weights.kl / (2 * weights.error)
    implied = diagonal_normal(m, torch.tensor(variance**0.5, dtype=torch.float64), 3)
    difference = legacy_mean(x, implied, weights) - implied.log_prob(x)
    torch.testing.assert_close(difference, difference[:1].expand(3))
    assert 784 * weights.kl / (2 * weights.error) == pytest.approx(3.92)


def test_log_sigma_lacks_its_factor():
    """The best σ² for an error e is w e / u: D w / u times the e / D of the likelihood."""
    x, m, _ = pair()
    weights = Weights(50, 50, 5)
    error = (x - m).square().flatten(1).sum(1)
    scale = error.sqrt().reshape(3, 1, 1, 1).requires_grad_()
    legacy(x, diagonal_normal(m, scale, 3), weights).sum().backward()
    np.testing.assert_allclose(scale.grad.numpy(), 0, atol=1e-12)
    exact = (error / 20).sqrt().reshape(3, 1, 1, 1).requires_grad_()
    diagonal_normal(m, exact, 3).log_prob(x).sum().backward()
    np.testing.assert_allclose(exact.grad.numpy(), 0, atol=1e-10)


@pytest.mark.parametrize("name", ["error", "log_scale", "kl"])
def test_weights_at_fault(name):
    with pytest.raises(ConfigError, match=name):
        Weights(**{name: 0.0})
