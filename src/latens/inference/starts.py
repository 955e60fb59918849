"""Where samplers and optimisers begin: the amortised posterior, the prior, or around maxima."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latens.distributions import Purpose, draw, row_noise
from latens.inference.latent_target import LatentTarget
from latens.inference.samplers.maximise import gaussian_root, hessian, maximise

Start = Literal["amortised", "prior", "laplace"]

CLIMBS = 8
"""Maxima that `laplace` starts around, each climbed to from a draw of the prior."""


def starts(
    target: LatentTarget, chains: int, start: Start, keys: Sequence[int], seed: int
) -> Tensor:
    """Starting positions, `(B, chains, dim)`.

    Args:
        target: Density of B measurements.
        chains: Positions per measurement.
        start: Draws of q(z | y), of p(z), or of Laplace's Gaussians around `CLIMBS` maxima.
        keys: Key of the noise of each measurement.
        seed: Key of the noise.
    """
    y, model = target.y, target.model
    if start == "laplace":
        return _around_maxima(target, chains, keys, seed)
    noise = row_noise((seed, Purpose.START), keys, (chains, target.dim), y.dtype, y.device)
    white, rest = noise.split([model.dim, target.dim - model.dim], -1)  # (chains, B, ·)
    with torch.no_grad():
        z = draw(model.latent_posterior(y), white) if start == "amortised" else white
        return target.extend(z, rest).transpose(0, 1).contiguous()


def _around_maxima(target: LatentTarget, chains: int, keys: Sequence[int], seed: int) -> Tensor:
    begin = starts(target, CLIMBS, "prior", keys, seed).flatten(0, 1)  # (B climbs, dim)
    density = target.rows(CLIMBS)
    mode = maximise(density, begin).position
    root, _ = gaussian_root(hessian(density, mode))
    shape = (len(keys), CLIMBS, target.dim)
    mode, root = mode.unflatten(0, shape[:2]), root.unflatten(0, shape[:2]).to(mode.dtype)
    place = torch.arange(chains, device=mode.device) % CLIMBS
    noise = row_noise(
        (seed, Purpose.START, CLIMBS), keys, (chains, target.dim), mode.dtype, mode.device
    )  # (chains, B, dim)
    return mode[:, place] + torch.einsum("bkij,kbj->bki", root[:, place], noise)
