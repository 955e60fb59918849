"""Where samplers and optimisers begin: the amortised posterior, or the prior."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latens.distributions import Purpose, draw, row_noise
from latens.inference.latent_target import LatentTarget

Start = Literal["amortised", "prior"]


def starts(
    target: LatentTarget, chains: int, start: Start, keys: Sequence[int], seed: int
) -> Tensor:
    """Starting positions, `(B, chains, dim)`.

    Args:
        target: Density of B measurements.
        chains: Positions per measurement.
        start: Draws of q(z | y), or of p(z).
        keys: Key of the noise of each measurement.
        seed: Key of the noise.
    """
    y, model = target.y, target.model
    noise = row_noise((seed, Purpose.START), keys, (chains, target.dim), y.dtype, y.device)
    white, rest = noise.split([model.dim, target.dim - model.dim], -1)  # (chains, B, ·)
    with torch.no_grad():
        z = draw(model.latent_posterior(y), white) if start == "amortised" else white
        return target.extend(z, rest).transpose(0, 1).contiguous()
