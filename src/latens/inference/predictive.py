"""The Gaussian around a regressor, and hence deep ensembles of regressors.

    x | y ~ N(f(y), σ²)                                  one member
    x | y ~ (1/K) Σ_k N(f_k(y), σ_k²)                    `Ensemble([Predictive(...), ...])`

Lakshminarayanan, Pritzel, Blundell (2017), Simple and scalable predictive uncertainty estimation
using deep ensembles, https://arxiv.org/abs/1612.01474.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Independent

from latens.distributions import Purpose, draw
from latens.inference.estimates import Draws, Posterior
from latens.inference.points import OfRegressor
from latens.store import Status


class GaussianPosterior(Posterior):
    """N(f, σ²) with independent elements; its mean and variance are exact.

    Args:
        distribution: Normal with batch `(B,)` and event `(*signal_shape)`.
    """

    def __init__(
        self, distribution: Independent, keys: Sequence[int], seed: int, status: Status
    ) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True, status=status)
        self.distribution = distribution

    def make_draws(self, count: int) -> Draws:
        """Draws f + σ·noise, and the same mean and variance for each of them."""
        loc, variance = self.mean, self.variance
        noise = self.noise(Purpose.SIGNAL, count, self.distribution.event_shape, loc)
        values = draw(self.distribution, noise)
        return Draws(values, loc.expand_as(values), variance.expand_as(values))

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x | y) of signals `(..., B, *signal_shape)`, nats per signal, `(..., B)`."""
        return self.distribution.log_prob(x)

    def marginal_log_prob(self, x: Tensor) -> Tensor:
        """log N(x_i; f_i, σ_i²); their sum is `log_prob`."""
        return self.distribution.base_dist.log_prob(x)

    @property
    def mean(self) -> Tensor:
        """f."""
        return self.distribution.mean

    @property
    def variance(self) -> Tensor:
        """σ²."""
        return self.distribution.variance


class Predictive(OfRegressor):
    """A trained regressor as a posterior: N(f(y), σ²) with the σ of its likelihood.

    One σ for every pixel of every image, and pixels independent of each other: pixel intervals
    have about the right width on average over images, while the mean of a region of n pixels gets
    σ/√n, far too little wherever errors of neighbouring pixels go together. In an ensemble the
    members' disagreement is added, which does go together over pixels. A σ as training left it
    may lag behind the network, or be that of pairs the network has learned by heart;
    `UNet.fit_scale` sets it from other pairs. With dropout, f has all feature maps and σ still
    holds the spread of the masks; `MonteCarloDropout` draws them.
    """

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> GaussianPosterior:
        """One pass of the network."""
        around = self.model.around(self.model.reconstruct(y))
        return GaussianPosterior(around, keys, seed, self.status)
