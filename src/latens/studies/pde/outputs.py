"""What a posterior of fields says, as arrays: for pictures, for files, for a reconstruction.

| array | shape | |
|---|---|---|
| `mean`, `std`, `lower`, `upper` | (k, 1, *grid) | of 39 draws, 95 % interval |
| `draws` | (M, k, 1, *grid) | exchangeable draws |
| `points` | (P,) | nodes at which fields are looked at closer |
| `marginals` | (D, k, P) | up to 400 draws of the field there |
| `correlation` | (k, P, *grid) | posterior correlation of a(x) with a at each of the points |
| `predicted` | (3, k, m) | 2.5, 50 and 97.5 % of replicated readings |
| `readings` | (k, m) | what was read |
"""

import numpy as np
import torch
from torch import Tensor

from latens.inference.fields import FieldPosterior, FieldTarget, NoiseLevel

MANY = 400
"""Draws behind marginals, correlations and replicated readings, where there are as many."""
GALLERY = 8
"""Draws that are kept."""
PLACES = ((0.5, 0.5), (0.25, 0.7), (0.8, 0.3))
"""Points (x, y) at which fields are looked at closer."""


def first_rows(posterior: FieldPosterior, count: int) -> FieldPosterior:
    """The posterior of its first measurements alone."""
    whole = posterior.target
    noise = NoiseLevel(whole.scale[:count], whole.noise.spread)
    target = FieldTarget(
        whole.model,
        whole.predict,
        whole.y[:count],
        noise,
        whole.errors,
        whole.coordinates,
        whole.equation_weight,
    )
    return FieldPosterior(
        target,
        posterior.pool[:count],
        posterior.keys[:count],
        posterior.seed,
        posterior.status,
        posterior.diagnostics,
    )


def place_nodes(shape: tuple[int, ...]) -> Tensor:
    """Flat indices of the nodes nearest to `PLACES` of a grid, or of a ring along x."""
    if len(shape) == 1:
        return torch.tensor([round(x * shape[0]) % shape[0] for x, _ in PLACES])
    height, width = shape
    return torch.tensor(
        [round(y * (height - 1)) * width + round(x * (width - 1)) for x, y in PLACES]
    )


@torch.no_grad()
def described(posterior: FieldPosterior, level: float) -> dict[str, np.ndarray]:
    """Arrays of the module's table, float32, of all measurements of a posterior."""
    interval = posterior.interval(level)
    count = min(MANY, *(len(pool) for pool in posterior.pool))
    draws = posterior.sample(count)  # (D, k, 1, *grid)
    flat, shape = draws.flatten(2), tuple(draws.shape[3:])
    points = place_nodes(shape)
    replicates = posterior.replicates(count)
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=replicates.dtype)
    arrays = {
        "mean": posterior.mean,
        "std": posterior.std,
        "lower": interval.lower,
        "upper": interval.upper,
        "draws": posterior.sample()[:GALLERY],
        "points": points,
        "marginals": flat[..., points],
        "correlation": correlations(flat, points).unflatten(-1, shape),
        "predicted": torch.quantile(replicates, levels, dim=0),
        "readings": posterior.target.y,
    }
    return {
        name: array.numpy(force=True).astype(np.int64 if name == "points" else np.float32)
        for name, array in arrays.items()
    }


def correlations(draws: Tensor, points: Tensor) -> Tensor:
    """Correlation over draws of every node with some nodes, `(k, P, nodes)` of `(D, k, nodes)`.

    Zero where a node or a point has no spread.
    """
    centred = draws - draws.mean(0)
    norm = centred.square().sum(0).sqrt()  # (k, nodes)
    covariance = torch.einsum("dkp,dkn->kpn", centred[..., points], centred)
    scale = norm[:, points, None] * norm[:, None]
    return torch.where(scale > 0, covariance / scale.clamp(min=1e-300), 0.0)
