"""What a posterior believes at a measurement that was disturbed on purpose."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latens.evaluation.measure import Rows, block_size, region_grid
from latens.evaluation.stability.reconstruction import norms
from latens.inference import Estimate, Posterior, Solver
from latens.metrics import (
    LEVEL,
    coverage,
    energy_distance,
    interval_width,
    marginal_w2,
    region_means,
)


def belief_rows(
    solver: Solver,
    x: Tensor,
    y: Tensor,
    disturbance: Tensor,
    keys: Sequence[int],
    seed: int,
) -> Rows:
    """Coverage, width and distance of the posterior at a disturbed measurement.

    Args:
        solver: Solver; of one without uncertainty there are no rows.
        x: Truth, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        disturbance: e, shape of `y`, not 0.
        keys: Key of the noise of each image; draws at y and y + e share their noise.
        seed: Key of the noise.

    Returns:
        Components per image of `worst_coverage_pixel`, `worst_coverage_region`, `worst_width`,
        `posterior_lipschitz` and `posterior_energy`.
    """
    parts: list[Rows] = []
    size = block_size(x.shape[1:])
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        given = solver(y[rows], keys=keys[rows], seed=seed)
        moved = solver(y[rows] + disturbance[rows], keys=keys[rows], seed=seed)
        parts.append(compared_beliefs(given, moved, x[rows], disturbance[rows]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compared_beliefs(given: Estimate, moved: Estimate, x: Tensor, disturbance: Tensor) -> Rows:
    """The same of two estimates, at y and at y + e."""
    if not isinstance(given, Posterior) or not isinstance(moved, Posterior):
        return {}
    length = norms(disturbance)
    with torch.no_grad():
        draws, before, grid = moved.sample(), given.sample(), region_grid(x)
        widths = [interval_width(draws, LEVEL), interval_width(before, LEVEL)]
        columns = {
            "worst_coverage_pixel": coverage(draws, x, [LEVEL]),
            "worst_coverage_region": coverage(
                region_means(draws, grid), region_means(x, grid), [LEVEL]
            ),
            "worst_width": torch.stack(widths, 1),
            "posterior_lipschitz": (
                marginal_w2(given.mean, given.std, moved.mean, moved.std) / length
            )[:, None],
            "posterior_energy": (energy_distance(draws, before) / length)[:, None],
        }
    return {name: value.double().numpy(force=True) for name, value in columns.items()}
