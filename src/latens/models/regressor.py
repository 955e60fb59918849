"""U-Net regressor: the point estimate that learned reconstruction is usually compared with.

    x ~ N(f(y), σ²)
    x ~ N(f(y; mask), σ²),  mask ~ Bernoulli            with dropout

| symbol | attribute | shape |
|---|---|---|
| f(y) | `reconstruct` | (B, *measurement) → (B, *signal) |
| f(y; mask) | `reconstruct_dropped` | (B, *measurement), (B, maps) → (B, *signal) |
| N(f, σ²) | `around` | (…, *signal) → batch (…,), event (*signal) |

Ronneberger, Fischer, Brox (2015), https://arxiv.org/abs/1505.04597; the network is MONAI's.
Gal, Ghahramani (2016), Dropout as a Bayesian approximation, https://arxiv.org/abs/1506.02142.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent
from torch.nn import functional as F

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError
from latens.models.base import Model
from latens.nets import SharedScale
from latens.nets.dropout import dropout_maps, dropped, key_dropout
from latens.objectives import LossTerms, likelihood_terms
from latens.problems import InverseProblem
from latens.types import Shape


class UNet(Model):
    """MONAI's residual U-Net from y to x, trained by the likelihood of a shared σ.

    Its optimum is the posterior mean. What it can say of its uncertainty is one σ for all pixels
    of all images (`latens.inference.Predictive`), and with dropout the spread of its masks.

    Args:
        signal_shape: `(C, *spatial)` of x.
        measurement_shape: `(C', *spatial')` of y, resized to the grid of x.
        width: Channels of the first level, doubled on each of the two coarser ones.
        norm: Normalisation. MONAI's own default, `instance`, removes the mean of every feature map
            and reached 4.6 dB less on blurred ultrasound with 512 pairs.
        dropout: Probability of dropping a feature map, in [0, 1). The block that makes the
            signal is spared, since its feature maps are the signal itself.
        consistency: Weight λ of operator consistency of f; see `latens.objectives.consistency`
            for its bias.

    Attributes:
        maps: Number of feature maps that dropout acts on: noise needed per image.
    """

    stages = ("likelihood",)

    def __init__(
        self,
        signal_shape: Shape,
        measurement_shape: Shape,
        *,
        width: int = 16,
        norm: Literal["batch", "instance"] = "batch",
        dropout: float = 0.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(signal_shape, measurement_shape, consistency)
        from monai.networks.nets.unet import UNet as MonaiUNet

        if width < 4:
            raise ConfigError("width", "4 or more", width, "Choose 8, 16 or 32.")
        if not 0 <= dropout < 1:
            raise ConfigError(
                "dropout", "a probability in [0, 1)", dropout, "Choose for example 0.1, or 0."
            )
        self.spatial = self.signal_shape[1:]
        self.network = MonaiUNet(
            spatial_dims=len(self.spatial),
            in_channels=measurement_shape[0],
            out_channels=signal_shape[0],
            channels=(width, 2 * width, 4 * width),
            strides=(2, 2),
            num_res_units=2,
            norm=norm,
        )
        if dropout > 0:
            down, between, _ = self.network.model.children()
            key_dropout(down)
            key_dropout(between)
        self.dropout = float(dropout)
        self.maps = dropout_maps(self.network)
        self.scale = SharedScale()

    def reconstruct(self, y: Tensor) -> Tensor:
        """f(y) in data units, `(B, *signal_shape)`."""
        u = self.seen(y)
        if tuple(u.shape[2:]) != self.spatial:
            u = F.interpolate(u, size=self.spatial)
        missing = [-s % 4 for s in self.spatial]
        if any(missing):
            u = F.pad(u, [q for m in reversed(missing) for q in (0, m)], mode="replicate")
        out = self.network(u)
        crop = tuple(slice(0, s) for s in self.spatial)
        return self.signal_units.inverse(out[(slice(None), slice(None), *crop)])

    def reconstruct_dropped(self, y: Tensor, noise: Tensor) -> Tensor:
        """f(y; mask) in data units, `(B, *signal_shape)`.

        Args:
            y: Measurements, `(B, *measurement_shape)`.
            noise: Standard normal, `(B, maps)`, from which the masks follow.
        """
        with dropped(self.network, noise, self.dropout):
            return self.reconstruct(y)

    def around(self, loc: Tensor) -> Independent:
        """N(loc, σ²) with the learned σ, in data units.

        Args:
            loc: `(*leading, *signal_shape)`.
        """
        scale = self.signal_units.scale * self.scale(torch.zeros_like(loc))
        return diagonal_normal(loc, scale, len(self.signal_shape))

    def _reconstruct_for_training(self, y: Tensor, noise: NoiseStream) -> Tensor:
        if self.dropout == 0:
            return self.reconstruct(y)
        return self.reconstruct_dropped(y, noise.normal((len(y), self.maps)))

    @torch.no_grad()
    def fit_scale(self, x: Tensor, y: Tensor, noise: NoiseStream) -> None:
        """Set σ to its maximum-likelihood value for these pairs, given f.

        A gradient moves log σ by a few thousandths a step: after some hundred steps σ may still
        be twice the error of f. On pairs that f was not trained on, σ is that of new images.

        Args:
            x: Signals, `(n, *signal_shape)`.
            y: Measurements, `(n, *measurement_shape)`.
            noise: Source of masks, where there is dropout.
        """
        total = x.new_zeros((), dtype=torch.float64)
        for signal, measurement in zip(x.split(256), y.split(256), strict=True):
            loc = self._reconstruct_for_training(measurement, noise)
            total += (signal - loc).double().square().sum()
        scale = (total / x.numel()).sqrt().to(x.dtype) / self.signal_units.scale
        self.scale.set(scale)

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """log N(x; f, σ²), with one mask per image where there is dropout."""
        loc = self._reconstruct_for_training(y, noise)
        terms = likelihood_terms(x, self.around(loc))
        return self.with_consistency(terms, loc, y, problem)
