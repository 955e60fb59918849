"""The amortisation gap of every image: its amortised posterior against its sampled one."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.inference import Amortised, SampledPosterior
from latens.metrics import LEVEL, coverage, crps, marginal_gap, mean_ess, region_means
from latens.types import Shape

REFERENCE_DRAWS = 1000
"""Draws of q(z | y) from which its moments are taken."""


def gap_rows(
    sampled: SampledPosterior, x: Tensor, rows: Mapping[str, NDArray], regions: Shape
) -> dict[str, NDArray]:
    """Components of the gap metrics, `(B, p)` each.

    Args:
        sampled: Chains of B measurements.
        x: Truth, `(B, *signal_shape)`.
        rows: Components of the metrics of the sampled posterior, `crps` and `coverage_region`
            among them.
        regions: Blocks per spatial axis whose means are checked.
    """
    solver = Amortised(sampled.model, sampled.problem)
    amortised = solver.solve(sampled.y, sampled.keys, sampled.seed)
    with torch.no_grad():
        chains = sampled.target.latents(sampled.chains.of_problems)  # (S, K, B, dim)
        quick = amortised.latent_draws(REFERENCE_DRAWS)  # (m, B, dim)
        gap = marginal_gap(chains.flatten(0, 1), quick, mean_ess(chains))
        draws = amortised.sample()
        covered = coverage(region_means(draws, regions), region_means(x, regions), [LEVEL])
        score = crps(draws, x)[:, None]
    shift, w2, spread, kl = gap.double().numpy(force=True).T[:, :, None]
    return {
        "gap_shift": shift,
        "gap_w2": w2,
        "gap_spread": spread,
        "gap_kl": kl,
        "gap_crps": _beside(score, rows["crps"]),
        "gap_coverage_region": _beside(covered, rows["coverage_region"]),
    }


def _beside(amortised: Tensor, sampled: NDArray) -> NDArray:
    return np.concatenate([amortised.double().numpy(force=True), sampled], axis=1)
