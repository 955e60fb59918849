"""VAE of whole volumes with a vector of latents, and DIP-VAE-II as the same model with a penalty.

    z ~ p(z) = N(0, I)
    x ~ p(x | z) = N(D(z), σ_c²)               one learned σ for each channel (modality) c
    q(z | x) = N(μ(x), diag σ(x)²)

    objective:  E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))   over D elements, β = 1
                − λ_od ‖offdiag Cov z‖² − λ_d ‖diag Cov z − 1‖²        with `dip`

With the scale learned, log p(x | z) weighs D log σ against the KL, and no latent that explains
the volume is given up. What `control` does to the KL is for training alone. All of it is divided
by D, the penalty as well: λ weighs squares of covariances against nats, as Kumar et al. have it.
Added after the division, the same λ would weigh D times as much, and leave the decoder no code.

| symbol | attribute | shape |
|---|---|---|
| q(z ∣ x) | `encode` | (B, *signal) → batch (B,), event (dim,) |
| p(x ∣ z) | `decode` | (…, dim) → batch (…), event (*signal) |
| σ_c | `decoder_net.scale` | (C,) |
| Cov z | `dip` | (dim, dim) |

References:
    Kingma, Welling (2014), Auto-encoding variational Bayes, https://arxiv.org/abs/1312.6114;
    Rybkin, Daniilidis, Levine (2021), Simple and effective VAE training with calibrated decoders,
    https://arxiv.org/abs/2006.13202;
    Kumar, Sattigeri, Balakrishnan (2018), https://arxiv.org/abs/1711.00848.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import ConfigError
from latens.models.base import Model
from latens.nets import Architecture, Volumetric
from latens.nets.scale import Scale
from latens.objectives import LossTerms, kl_divergence
from latens.objectives.dip import Dip, DipPenalty
from latens.objectives.kl_control import KLControl, kl_per_latent
from latens.problems import InverseProblem
from latens.types import Shape

UNIT_VOLUMES = 64
"""Training volumes from which units are set."""


class Encoded(NamedTuple):
    """q(z | x), and the logits of a mask `(B, D, H, W)` where the model reads one."""

    q: Independent
    mask: Tensor | None = None


class VolumeVAE(Model):
    """VAE of volumes.

    Args:
        signal_shape: `(C, D, H, W)`; other numbers of spatial axes work too.
        dim: Number of latents.
        scale: Observation scale: shared by the data set (one for each channel), per_image or
            per_pixel.
        architecture: Family of networks; default `Volumetric()`.
        control: What is done to the KL in training.
        dip: Penalty of DIP-VAE-II; null for none.
        told: Length of what is known of each volume; nothing here.
        read: Latents, the first ones, that the encoder leaves to others; none here.
    """

    stages = ("elbo",)

    def __init__(
        self,
        signal_shape: Shape,
        *,
        dim: int = 128,
        scale: Scale = "shared",
        architecture: Architecture | None = None,
        control: KLControl = KLControl(),  # noqa: B008
        dip: Dip | None = None,
        told: int = 0,
        read: int = 0,
    ) -> None:
        nets = Volumetric() if architecture is None else architecture
        dim = nets.latents(dim, signal_shape)
        super().__init__(signal_shape, (told,))
        if dim < 1:
            raise ConfigError("dim", "1 latent or more", dim, "128 are usual.")
        self.dim = dim
        self.control = control
        self.encoder_net = nets.posterior([self.signal_shape], dim - read, signal_shape)
        self.decoder_net = nets.decoder(dim, self.signal_shape, scale)
        self.dip = None if dip is None else DipPenalty(dim, dip)

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Set the units of the volumes from the first of them: data may exceed the memory."""
        self.signal_units.fit(x[:UNIT_VOLUMES])

    def encode(self, x: Tensor) -> Independent:
        """q(z | x) in float32 at least, whatever the autocast."""
        return self._encoded(self.signal_units(x)).q

    def _encoded(self, standard: Tensor, y: Tensor | None = None) -> Encoded:
        """q(z | x) of standardised volumes; of y a model may keep statistics, and no more."""
        q = self.encoder_net(standard)
        if q.mean.dtype in (torch.bfloat16, torch.float16):
            q = diagonal_normal(q.mean.float(), q.stddev.float(), 1)
        return Encoded(q)

    def decode(self, z: Tensor) -> Independent:
        """p(x | z) in data units."""
        return self.in_signal_units(self.decoder_net(z))

    def prior(self, like: Tensor) -> Independent:
        """N(0, I), as many as there are rows."""
        zeros = like.new_zeros(len(like), self.dim)
        return diagonal_normal(zeros, torch.ones_like(zeros), 1)

    def bound(
        self, x: Tensor, noise: NoiseStream, y: Tensor | None = None
    ) -> tuple[Encoded, Tensor, LossTerms]:
        """q(z | x), a draw of it, and the terms of the evidence bound.

        Args:
            x: Volumes, `(B, *signal_shape)`.
            noise: Source of the draw.
            y: What is known, `(B, told)`, where the model may keep statistics of the batch.
        """
        standard = self.signal_units(x)
        encoded = self._encoded(standard, y)
        q = encoded.q
        z = draw(q, noise.normal(q.mean.shape))  # (B, dim)
        with torch.autocast(x.device.type, enabled=False):
            # The net may run in bf16; the sum over millions of voxels may not.
            kl = kl_divergence(q, self.prior(q.mean))
        return encoded, z, LossTerms(self._log_likelihood(standard, z), kl)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in data units, nats per row, `(B,)`, for reports.

        Summed in float64, row by row: at 4·128³ elements float32 misses by half a nat and more,
        the whole of what two bounds differ by.

        Args:
            x: Volumes, `(B, *signal)`, or one for all rows of z.
            z: Latents, `(B, dim)`.

        Returns:
            float64.
        """
        standard = self.signal_units(x)
        base = self.decoder_net(z).base_dist
        volumes = standard.expand(len(z), *standard.shape[1:])
        rows = [
            Normal(loc.double(), scale.double(), validate_args=False).log_prob(volume.double())
            for loc, scale, volume in zip(base.loc, base.scale, volumes, strict=True)
        ]
        change = self.event_size * self.signal_units.scale.double().log()
        return torch.stack([row.sum() for row in rows]) - change

    def _log_likelihood(self, standard: Tensor, z: Tensor) -> Tensor:
        change = self.event_size * self.signal_units.scale.log()  # of variables, to data units
        return self.decoder_net.log_prob(z, standard) - change

    def penalties(self, encoded: Encoded, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Named task terms of a batch, `(B,)` each; functions of the batch repeat their value.

        Fewer validation rows than a covariance needs have none: the bound alone judges them.
        """
        if self.dip is None or not (self.training or len(z) >= self.dip.settings.rows):
            return {}
        found = self.dip(encoded.q)
        return {
            "dip_off": found.off_diagonal.expand(len(z)),
            "dip_diagonal": found.diagonal.expand(len(z)),
            "dip_floor": found.floor.expand(len(z)),
        }

    def weights(self, step: int) -> dict[str, float]:
        """Weights of the task terms at an optimiser step; the noise floor is only watched."""
        if self.dip is None:
            return {}
        weights = self.dip.settings.weights(step)
        return {**{name: w / self.event_size for name, w in weights.items()}, "dip_floor": 0.0}

    @property
    def schedule_steps(self) -> int:
        """Optimiser steps until every weight is final."""
        dip = 0 if self.dip is None else self.dip.settings.steps
        return max(self.control.steps, dip)

    def schedule(self, step: int) -> dict[str, float]:
        """See `Model.schedule`; β is that of `control`, before the warm-up of the training."""
        found = {
            "sched/beta": self.control.beta(step),
            "sched/expected_kl_floor": self.control.floor(self.dim),
        }
        if self.control.capacity is not None:
            found["sched/capacity"] = self.control.target(step)
        if self.dip is not None:
            weights = self.dip.settings.weights(step)
            found["sched/lambda_od"] = weights["dip_off"]
            found["sched/lambda_d"] = weights["dip_diagonal"]
        return found

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """Evidence bound with β = 1, and the task terms with their final weights."""
        encoded, z, terms = self.bound(x, noise, y)
        weights = self.weights(self.schedule_steps)
        return replace(terms, extras=self.penalties(encoded, z, y), weights=weights)

    def training_terms(
        self,
        stage: str,
        x: Tensor,
        y: Tensor,
        noise: NoiseStream,
        problem: InverseProblem | None,
        step: int,
    ) -> LossTerms:
        """The same with what `control` and the ramps make of it at a step."""
        encoded, z, terms = self.bound(x, noise, y)
        q, extras = encoded.q, self.penalties(encoded, z, y)
        extras["kl_raw"] = terms.kl  # pyright: ignore[reportArgumentType]
        kl = self.control.controlled(kl_per_latent(q), step)
        weights = {**self.weights(step), "kl": self.control.beta(step), "kl_raw": 0.0}
        return replace(terms, kl=kl, extras=extras, weights=weights)

    def watched(self, terms: LossTerms) -> dict[str, float]:
        """Every term, and what the covariance costs at the weights of this step."""
        found = terms.means()
        if self.dip is not None:
            parts = ("dip_off", "dip_diagonal")
            found["cov_penalty"] = sum(terms.weights[name] * found[name] for name in parts)
        return found
