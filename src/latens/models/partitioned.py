"""Partitioned VAE: latents that *are* volume, place and shape, and latents that know none of them.

    z = (z_volume ∈ R¹, z_location ∈ R³, z_shape ∈ R³, z_rest) ~ N(0, I)
    t_j ~ N(z_j, s_j²)                 known quantities in standard units, s learned
    t_j < L_j  with  Φ((L_j − z_j)/s_j)          of no lesion: the volume is left-censored
    x ~ N(D(z), σ_c²),   q(z | x) = N(μ(x), diag σ(x)²)
    μ_rest(x) = m + P (h_rest(x) − m),   P Cov(h_rest, t) = 0          h: head of the encoder
    σ_rest(x) = σ_rest                                                 one for each latent

    objective:  E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))  −  DIP                      over D
                + w E_q[Σ_j log p(t_j | z_j)] − u [mask term]
                − v Σ_parts dCor²(μ_rest, μ_part)                               after the division

The aligned latents are read from a mask that the model makes itself and is taught, since the known
quantities are those of a mask (`latens.nets.lesion_reader`). With u = 0 there is no such reader,
and they are outputs of the encoder as the rest is.

P is a projection of rank k − T: it takes from the k latents of the rest the T directions in which
a linear probe reads the known quantities. The decoder loses nothing by it that the aligned latents
do not say. While the encoder trains, P is of a moving average of its batches; after the training
it is fitted to all training volumes in closed form. Where t is not known, h_part stands for it.

σ of the rest is a parameter and no function of x: it can tell nothing of t, linear or not. An
encoder that gives σ(x) writes t into it: beside means that told nothing, log σ told .2 of the
variance of the volume and .3 of the place, means and log σ together .25 and .55. It has little
else to say: over phantoms log σ scattered by .04, and the bound lost nothing (1.0 ± 1.0 nats of
31,000 gained) where the root of the mean precision stood for it. What the encoder says of σ of
the rest is not used.

A supervised latent is the standardised quantity itself, so a change of z_volume by one is a
change of log V by one standard deviation. The independence term moves z_rest alone: gradients do
not pass into the other parts. It is unbiased, so that it asks for nothing where there is no
dependence. It is there for what is not linear, and what still leaks is for held-out probes to say.

Quantities that are not known (NaN) are left out, one by one. The volume of no lesion (log V = −∞)
is known to be too small to be seen, and no more: its term is −log Φ((L − z)/s). L is the smallest
finite value of the training scans: for scans of patients the smallest lesion that was drawn. No
empty segmentation hides one that would have been drawn; an L above the true limit says less, and
nothing false. Phantoms know their true volume at every visit, above 0 however small: none is
censored.

| symbol | attribute | shape |
|---|---|---|
| t | first columns of y, standardised by `target_loc`, `target_scale` | (B, T) |
| mask | further columns of y, flat, where there is a reader; NaN where unknown | (B, D·H·W) |
| z_part | `part` | (…, dim) → (…, size of the part) |
| s | `target_spread` | (T,) |
| L | `target_floor`, standard units | (T,) |
| m, P | `erasure` | (k,), (k, k) |
| σ_rest | `rest_scale` | (k,) |

References:
    Székely, Rizzo (2013), https://doi.org/10.1016/j.jmva.2013.02.012.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, log, pi, prod

import torch
from torch import Tensor, nn

from latens.distributions import NoiseStream, diagonal_normal, draw, log_below
from latens.errors import ConfigError, DataError, ShapeError
from latens.models.volume_vae import UNIT_VOLUMES, Encoded, VolumeVAE
from latens.nets import Architecture, PerChannelScale
from latens.nets.architecture import GaussianVector
from latens.nets.erasure import LinearErasure
from latens.nets.lesion_reader import LesionReader
from latens.nets.scale import Scale
from latens.nets.volumetric import LOG_SCALE
from latens.objectives import LossTerms
from latens.objectives.dependence import distance_correlation
from latens.objectives.dip import Dip
from latens.objectives.distributed import gathered
from latens.objectives.kl_control import KLControl, Ramp
from latens.objectives.segmentation import mask_loss
from latens.problems import InverseProblem
from latens.types import Shape

REST = "rest"
BLOCK = 16
"""Volumes that are encoded at once after the training."""
LOWEST, WIDEST = -3.0, 3.0
"""Floor of log σ of the rest where the encoder has none of its own, and the largest σ."""


@dataclass(frozen=True)
class Partition:
    """Weights of the terms that give parts their meaning, added after the division by D.

    Args:
        supervised: w, of the log-likelihood of the known quantities, nats. Its weight against a
            likelihood in nats per element is w D: at .1 or more it holds the encoder for a
            hundred steps and more in which nothing is learned of the volumes.
        independent: v, of the squared distance correlation between `rest` and each part.
        mask: u, of the mask that aligned latents are read from, nats per voxel and Dice; 0 for
            aligned latents that the encoder gives, without a mask.
        start: Optimiser step from which both count.
        ramp: Steps over which they rise linearly to their weights.
        alone: Steps at the beginning in which reader or encoder learn the known quantities and
            nothing else is trained. They cost a fraction of the others, since nothing is decoded;
            what they leave is told to the decoder from its first step, and to the rest of the
            latents, which then have no reason to say it again.
    """

    supervised: float = 0.01
    independent: float = 0.01
    mask: float = 0.0
    start: int = 0
    ramp: int = 0
    alone: int = 0

    def __post_init__(self) -> None:
        for name in ("supervised", "independent", "mask", "alone"):
            if getattr(self, name) < 0:
                value = getattr(self, name)
                raise ConfigError(f"partition.{name}", "0 or more", value, "Raise it.")
        Ramp(self.start, self.ramp)

    @property
    def steps(self) -> int:
        """Optimiser steps until the weights are final."""
        return max(self.start + self.ramp, self.alone)

    def weights(self, step: int) -> dict[str, float]:
        """w, v and u at an optimiser step."""
        share = Ramp(self.start, self.ramp)(step)
        return {
            "supervised": share * self.supervised,
            "dependence": share * self.independent,
            "mask": share * self.mask,
        }


class PartitionedVAE(VolumeVAE):
    """VAE whose first latents are known quantities.

    Args:
        signal_shape: `(C, D, H, W)`.
        parts: Number of known quantities of each part, in the order of the columns of y.
        dim: Number of latents in all; more than twice as many as known quantities, of which each
            takes a direction away from the rest.
        partition: Weights of supervision and independence.
        voxel: Edges of a voxel, mm: shapes are those of the body, whatever the grid.
        scale, architecture, control, dip: See `VolumeVAE`.
    """

    target_loc: Tensor
    target_scale: Tensor
    target_floor: Tensor

    def __init__(
        self,
        signal_shape: Shape,
        parts: Mapping[str, int],
        *,
        dim: int = 128,
        partition: Partition = Partition(),
        voxel: tuple[float, float, float] = (1.0, 1.0, 1.0),
        scale: Scale = "shared",
        architecture: Architecture | None = None,
        control: KLControl = KLControl(),  # noqa: B008
        dip: Dip | None = None,
    ) -> None:
        count = sum(parts.values())
        if REST in parts or not parts or min(parts.values()) < 1 or dim <= 2 * count:
            raise ConfigError(
                "parts, dim",
                f"parts of one quantity or more, none called {REST}, and more than two latents "
                "for each quantity",
                (dict(parts), dim),
                "Raise `dim`.",
            )
        if partition.mask and len(signal_shape) != 4:
            raise ShapeError(
                "signal_shape",
                "(C, D, H, W): three spatial axes, for a mask to be read",
                tuple(signal_shape),
                "Set `partition.mask: 0`.",
            )
        super().__init__(
            signal_shape,
            dim=dim,
            scale=scale,
            architecture=architecture,
            control=control,
            dip=dip,
            told=count + (prod(signal_shape[1:]) if partition.mask else 0),
            read=count if partition.mask else 0,
        )
        self.partition = partition
        self.reader = LesionReader(signal_shape, count, voxel) if partition.mask else None
        self.parts: dict[str, slice] = {}
        first = 0
        for name, size in (*parts.items(), (REST, self.dim - count)):
            self.parts[name] = slice(first, first + size)
            first += size
        self.erasure = LinearErasure(self.dim - count, count)
        net = self.encoder_net
        lowest = net.lowest if isinstance(net, GaussianVector) else LOWEST
        self.rest_scale = PerChannelScale(self.dim - count, exp(lowest), WIDEST, exp(LOG_SCALE))
        self.target_spread = PerChannelScale(count, lower=0.02, upper=3.0, start=0.5)
        self.register_buffer("target_loc", torch.zeros(count))
        self.register_buffer("target_scale", torch.ones(count))
        self.register_buffer("target_floor", torch.zeros(count))

    def part(self, name: str, z: Tensor) -> Tensor:
        """Latents of one part, `(…, size)` of `(…, dim)`.

        Raises:
            ConfigError: If there is no such part.
        """
        if name not in self.parts:
            raise ConfigError("part", f"one of {', '.join(self.parts)}", name, "Choose one.")
        return z[..., self.parts[name]]

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Set the units of the volumes and of the known quantities.

        Raises:
            DataError: If fewer than two values of a quantity are known, or all are the same.
        """
        super().fit_units(x, y)
        count = len(self.target_loc)
        if self.reader is not None:
            masks = self._mask(y[:UNIT_VOLUMES])
            masks = masks[masks.flatten(1).sum(1) > 0]  # false where NaN
            if len(masks) < 2:
                raise DataError(
                    "masks",
                    f"two lesions or more among the first {UNIT_VOLUMES} training scans",
                    len(masks),
                    "Add scans with a lesion, or set `partition.mask: 0`.",
                )
            self.reader.fit_units(masks)
        for j, column in enumerate(y[:, :count].unbind(1)):
            known = column[torch.isfinite(column)]
            if len(known) < 2 or not bool(known.std() > 0):
                raise DataError(
                    "targets",
                    "two different known values or more of every quantity",
                    f"{len(known)} of quantity {j}",
                    "Leave the quantity out of the parts, or add scans with a lesion.",
                )
            self.target_loc[j], self.target_scale[j] = known.mean(), known.std()
            self.target_floor[j] = (known.min() - known.mean()) / known.std()

    def standard_targets(self, y: Tensor) -> Tensor:
        """Known quantities in standard units, `(B, T)` of y; NaN where unknown or censored."""
        standard = (y[:, : len(self.target_loc)] - self.target_loc) / self.target_scale
        return torch.where(torch.isfinite(standard), standard, torch.nan)

    def predicted_targets(self, z: Tensor) -> Tensor:
        """Quantities in data units that latents stand for, `(…, T)`."""
        return z[..., : len(self.target_loc)] * self.target_scale + self.target_loc

    def training_terms(
        self,
        stage: str,
        x: Tensor,
        y: Tensor,
        noise: NoiseStream,
        problem: InverseProblem | None,
        step: int,
    ) -> LossTerms:
        """See `VolumeVAE.training_terms`; at first the known quantities alone."""
        if step >= self.partition.alone:
            return super().training_terms(stage, x, y, noise, problem, step)
        standard = self.signal_units(x)
        encoded = self._encoded(standard, y) if self.reader is None else self.reader(standard)
        q = encoded.q
        z = draw(q, noise.normal(q.mean.shape))  # (B, dim), or (B, T)
        # All parameters belong to the sum, with gradients of 0, as distributed training asks.
        idle = sum(parameter.sum() for parameter in self.waiting_parameters())
        nothing = 0.0 * (idle + q.mean.sum(1) + q.stddev.sum(1))  # (B,)
        told = {"supervised": self.supervised(z, y)}
        if encoded.mask is not None:
            told["mask"] = self.partition.mask * mask_loss(encoded.mask, self._mask(y))
        return LossTerms(nothing, None, told)

    @property
    def waiting_steps(self) -> int:
        """See `Model.waiting_steps`."""
        return self.partition.alone

    def waiting_parameters(self) -> Iterable[nn.Parameter]:
        """The decoder and σ of the rest; the encoder too where a reader learns the quantities."""
        yield from self.decoder_net.parameters()
        yield from self.rest_scale.parameters()
        if self.reader is not None:
            yield from self.encoder_net.parameters()

    def _encoded(self, standard: Tensor, y: Tensor | None = None) -> Encoded:
        """See `VolumeVAE._encoded`; the mean of the rest is projected, its σ that of all volumes.

        A training batch whose quantities are known moves the projection before it is applied.
        """
        q, mask = self._head(standard)
        if self.training and y is not None:
            self.erasure.learn(*(gathered(part) for part in self._pairs(q.mean, y)))
        count = len(self.target_loc)
        rest = self.erasure(self.part(REST, q.mean))
        shared = self.rest_scale.value.to(rest).expand_as(rest)
        loc = torch.cat([q.mean[:, :count], rest], 1)
        return Encoded(diagonal_normal(loc, torch.cat([q.stddev[:, :count], shared], 1), 1), mask)

    def _head(self, standard: Tensor) -> Encoded:
        """What reader and encoder give, nothing erased yet."""
        encoded = super()._encoded(standard)
        if self.reader is None:
            return encoded
        read = self.reader(standard)
        parts = ((q.mean, q.stddev) for q in (read.q, encoded.q))
        loc, scale = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return Encoded(diagonal_normal(loc, scale, 1), read.mask)

    def _mask(self, y: Tensor) -> Tensor:
        """Known masks, `(B, D, H, W)`, NaN where unknown."""
        return y[:, len(self.target_loc) :].unflatten(1, self.signal_shape[1:])

    def _pairs(self, head: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What is erased from, and what is erased: h_rest and t, `(B, k)`, `(B, T)`."""
        head, t = head.detach(), self.standard_targets(y)
        t = torch.where(torch.isfinite(t), t, head[:, : t.shape[1]])
        return self.part(REST, head), t

    @torch.no_grad()
    def fit_closed_form(self, x: Tensor, y: Tensor) -> None:
        """Fit the projection to the final encoder on all training volumes."""
        device, pairs = self.target_loc.device, []
        for start in range(0, len(x), BLOCK):
            rows = slice(start, start + BLOCK)
            standard = self.signal_units(x[rows].to(device))
            head = self._head(standard).q.mean
            known = y[rows, : len(self.target_loc)].to(device)  # no masks
            pairs.append(self._pairs(head, known))
        rest, t = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self.erasure.fit(rest, t)

    def supervised(self, z: Tensor, y: Tensor) -> Tensor:
        """−Σ_j log N(t_j; z_j, s_j²) over the known quantities, nats, `(B,)`; of a censored one
        −log Φ((L_j − z_j)/s_j).

        Args:
            z: Latents, `(B, dim)`.
            y: Quantities in data units, the first T columns; NaN where unknown, −∞ where too
                small to be seen.
        """
        t = self.standard_targets(y)  # (B, T)
        known, censored = torch.isfinite(t), torch.isneginf(y[:, : t.shape[1]])
        s = self.target_spread.value  # (T,)
        told = z[:, : t.shape[1]]  # (B, T)
        error = (torch.where(known, t, 0.0) - told) / s
        nats = 0.5 * error.square() + s.log() + 0.5 * log(2 * pi)
        below = -log_below(self.target_floor, told, s)
        return torch.where(known, nats, torch.where(censored, below, 0.0)).sum(1)

    def penalties(self, encoded: Encoded, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        """See `VolumeVAE.penalties`; adds `supervised`, `mask` and `dependence`."""
        found = super().penalties(encoded, z, y)
        found["supervised"] = self.supervised(z, y)
        if encoded.mask is not None:
            found["mask"] = mask_loss(encoded.mask, self._mask(y))
        if self.partition.independent:
            loc = encoded.q.mean
            loc = gathered(loc) if self.training else loc
            rest, total = self.part(REST, loc), loc.new_zeros(())
            for name in self.parts:
                if name != REST:
                    other = self.part(name, loc).detach()
                    total = total + distance_correlation(rest, other)
            found["dependence"] = total.expand(len(z))
        return found

    def weights(self, step: int) -> dict[str, float]:
        """See `VolumeVAE.weights`."""
        return {**super().weights(step), **self.partition.weights(step)}

    @property
    def schedule_steps(self) -> int:
        """See `VolumeVAE.schedule_steps`."""
        return max(super().schedule_steps, self.partition.steps)

    def schedule(self, step: int) -> dict[str, float]:
        """See `Model.schedule`."""
        own = {f"sched/{name}": value for name, value in self.partition.weights(step).items()}
        return {**super().schedule(step), **own}
