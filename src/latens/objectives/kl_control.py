"""What is done to the KL term against posterior collapse, and when.

    free bits   Σ_k max(λ, KL_k)            per sample, or of the batch means of KL_k
    capacity    γ |KL − C(t)|               C rises linearly to its final value, γ ≫ 1
    cycles      β rises from 0 to 1 and stays there, again and again

With γ = 1 a KL above C has the gradient of the bound, and nothing holds it: γ must exceed what one
more nat of code is worth to the likelihood at C.

The evidence bound has none of them: validation and every reported number use the plain KL.

References:
    Kingma et al. (2016), Improved variational inference with inverse autoregressive flow,
    appendix C.8, https://arxiv.org/abs/1606.04934;
    Pelsmaeker, Aziz (2020), Effective estimation of deep generative language models,
    https://arxiv.org/abs/1904.08194;
    Burgess et al. (2018), Understanding disentangling in β-VAE, https://arxiv.org/abs/1804.03599;
    Fu et al. (2019), Cyclical annealing schedule, https://arxiv.org/abs/1903.10145.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from latens.errors import ConfigError, UnsupportedError
from latens.objectives.distributed import gathered


def kl_per_latent(q: Distribution) -> Tensor:
    """KL(q_k ‖ N(0, 1)) of every latent of a factorised Gaussian, `(B, k)` nats.

    Raises:
        UnsupportedError: If q does not factorise, since a KL per unit is not defined then.
    """
    if not isinstance(q, Independent) or not isinstance(q.base_dist, Normal):
        raise UnsupportedError(
            "free_bits, capacity",
            "a posterior that factorises into normals",
            type(q).__name__,
            "Leave the flow out, or set `free_bits: 0`.",
        )
    loc, scale = q.base_dist.loc, q.base_dist.scale
    return 0.5 * (loc.square() + scale.square() - 1) - scale.log()


@dataclass(frozen=True)
class KLControl:
    """Settings; the default is the evidence bound.

    Args:
        free_bits: λ, nats per latent that cost nothing.
        over: Free bits of the batch mean of each latent's KL, or of every sample's.
        cycles: Annealing cycles over `cycle_steps` each; 0 for none.
        cycle_steps: Optimiser steps of one cycle.
        rising: Share of a cycle in which β rises.
        capacity: C in nats; null for none. It replaces β and free bits.
        capacity_steps: Steps over which C rises from 0.
        capacity_weight: γ, of nats of a whole event as in Burgess et al. (before the division by
            D); above 1. The smallest that holds the KL at C costs the least.
    """

    free_bits: float = 0.0
    over: Literal["batch", "sample"] = "batch"
    cycles: int = 0
    cycle_steps: int = 0
    rising: float = 0.5
    capacity: float | None = None
    capacity_steps: int = 0
    capacity_weight: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("free_bits", "cycles", "cycle_steps", "capacity_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(name, "0 or more", getattr(self, name), "Raise it.")
        if (self.cycles > 0) != (self.cycle_steps > 0):
            raise ConfigError(
                "cycles, cycle_steps",
                "both above 0, or none",
                (self.cycles, self.cycle_steps),
                "Four cycles of a quarter of the run each are usual.",
            )
        if not 0 < self.rising <= 1:
            raise ConfigError("rising", "above 0 and at most 1", self.rising, "Use 0.5.")
        if self.capacity is not None and (
            self.capacity < 0 or self.capacity_weight <= 1 or self.free_bits or self.cycles
        ):
            raise ConfigError(
                "capacity",
                "0 nats or more with a weight above 1, and neither free bits nor cycles",
                (self.capacity, self.capacity_weight, self.free_bits, self.cycles),
                "Choose one way of holding the KL; with a weight of 1 it is not held.",
            )

    @property
    def steps(self) -> int:
        """Optimiser steps until nothing changes any more."""
        return max(self.cycles * self.cycle_steps, self.capacity_steps)

    def beta(self, step: int) -> float:
        """Weight β of the KL at a step; 1 after the last cycle."""
        if self.cycles == 0 or step >= self.cycles * self.cycle_steps:
            return 1.0
        place = (step % self.cycle_steps + 1) / self.cycle_steps
        return min(1.0, place / self.rising)

    def target(self, step: int) -> float:
        """C at a step, nats."""
        if self.capacity is None:
            return 0.0
        return self.capacity * min(1.0, (step + 1) / max(self.capacity_steps, 1))

    def floor(self, latents: int) -> float:
        """Nats that the free bits of so many latents leave unpunished."""
        return self.free_bits * latents

    def controlled(self, per_latent: Tensor, step: int) -> Tensor:
        """The KL term that is trained with, before its weight β.

        Args:
            per_latent: KL of every latent, `(B, k)` nats; of this process.
            step: Optimiser step, from 0.

        Returns:
            `(B,)` nats; functions of the batch, which is that of all processes, have one value
            for all samples.
        """
        if self.capacity is not None:
            distance = (gathered(per_latent.sum(1)).mean() - self.target(step)).abs()
            return (self.capacity_weight * distance).expand(len(per_latent))
        if self.free_bits == 0:
            return per_latent.sum(1)
        least = torch.as_tensor(self.free_bits, dtype=per_latent.dtype, device=per_latent.device)
        if self.over == "sample":
            return torch.maximum(per_latent, least).sum(1)
        return torch.maximum(gathered(per_latent).mean(0), least).sum().expand(len(per_latent))


@dataclass(frozen=True)
class Ramp:
    """A weight that is 0 until `start`, then rises linearly to its value over `length` steps.

    Args:
        start: First optimiser step with a weight above 0.
        length: Steps of the rise.
    """

    start: int = 0
    length: int = 0

    def __post_init__(self) -> None:
        if self.start < 0 or self.length < 0:
            raise ConfigError(
                "start, length", "0 or more", (self.start, self.length), "Raise them."
            )

    def __call__(self, step: int) -> float:
        """Share of the final weight at a step, in [0, 1]."""
        if step < self.start:
            return 0.0
        return min(1.0, (step - self.start + 1) / max(self.length, 1))
