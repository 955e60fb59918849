"""The amortisation gap of models whose exact posterior is Gaussian and known."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from latens.distributions import diagonal_normal
from latens.evaluation import Context
from latens.evaluation.measure import measure
from latens.inference import LatentChains
from latens.models import Latent
from latens.nets import Linear
from latens.problems import GaussianNoise, Identity, InverseProblem

SHAPE, IMAGES = (1, 4, 4), 12
PROBLEM = InverseProblem(Identity(SHAPE), GaussianNoise(0.5))


class OneLatent(Latent):
    """x | z ~ N(w z, τ² I), with q(z | y) the exact posterior, moved and widened.

    With S = τ² + σ²:  z | y ~ N(v w·y/S, v),  v = 1/(1 + ‖w‖²/S).
    """

    def __init__(self, shift: float, width: float) -> None:
        torch.manual_seed(0)
        super().__init__(SHAPE, SHAPE, dim=1, scale="shared", architecture=Linear())
        self.shift, self.width = shift, width

    def exact(self, y):
        ends = self.decode(torch.tensor([[0.0], [1.0]]), y[:1].expand(2, *SHAPE))
        w = (ends.mean[1] - ends.mean[0]).flatten()
        total = float(ends.variance.flatten()[0]) + 0.25
        variance = 1 / (1 + w.square().sum() / total)
        residual = (y - ends.mean[0]).flatten(1)
        return Normal(
            (variance * residual @ w / total)[:, None], variance.sqrt().expand(len(y), 1)
        )

    def latent_posterior(self, y):
        exact = self.exact(y)
        return diagonal_normal(
            exact.mean + self.shift * exact.stddev, self.width * exact.stddev, 1
        )


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (0.0, 1.5), (0.7, 1.0)])
def test_shift_and_spread_of_a_known_gap(shift, width):
    model = OneLatent(shift, width)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(IMAGES, *SHAPE, generator=generator)
    y = x + 0.5 * torch.randn(x.shape, generator=generator)
    solver = LatentChains(model, PROBLEM, chains=16, draws=400, warmup=100)
    rows = measure(solver, x, y, Context(4.0, None, PROBLEM))[0]
    mean = {name: float(values.mean()) for name, values in rows.items() if values.shape[1] == 1}
    noise = 4 / math.sqrt(IMAGES * 1000)  # q has 1000 draws, chains are worth more
    assert mean["gap_shift"] == pytest.approx(shift**2, abs=noise * (1 + 2 * shift))
    assert mean["gap_spread"] == pytest.approx(math.log(width), abs=noise)
    kl = math.log(width) + (1 + shift**2) / (2 * width**2) - 0.5
    assert mean["gap_kl"] == pytest.approx(kl, abs=noise)
    amortised, sampled = rows["gap_coverage_region"].mean(0)
    assert sampled == rows["coverage_region"].mean()
    np.testing.assert_array_equal(rows["gap_crps"][:, 1:], rows["crps"])
    if width == 1.5:
        assert amortised >= sampled
