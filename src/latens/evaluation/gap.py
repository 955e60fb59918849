"""The amortisation gap of every image: its amortised posterior against its sampled one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.inference import Amortised, SampledPosterior
from latens.metrics import LEVEL, coverage, crps, marginal_gap, mean_ess, region_means
from latens.types import Shape

REFERENCE_DRAWS = 1000
"""Draws of q(z | y) from which its moments are taken."""


def gap_rows(sampled: SampledPosterior, x: Tensor, regions: Shape) -> dict[str, NDArray]:
    """Components of the gap metrics, `(B, p)` each.

    Args:
        sampled: Chains of B measurements.
        x: Truth, `(B, *signal_shape)`.
        regions: Blocks per spatial axis whose means are checked.
    """
    solver = Amortised(sampled.model, sampled.problem)
    amortised = solver.solve(sampled.y, sampled.keys, sampled.seed)
    with torch.no_grad():
        chains = sampled.target.latents(sampled.chains.of_problems)  # (S, K, B, dim)
        quick = amortised.latent_draws(REFERENCE_DRAWS)  # (m, B, dim)
        gap = marginal_gap(chains.flatten(0, 1), quick, mean_ess(chains))
        ours, theirs = amortised.sample(), sampled.sample()
        covered = [
            coverage(region_means(draws, regions), region_means(x, regions), [LEVEL])
            for draws in (ours, theirs)
        ]  # (B, 1) each
        scores = [crps(draws, x)[:, None] for draws in (ours, theirs)]
    columns = {
        "gap_shift": gap[:, :1],
        "gap_w2": gap[:, 1:2],
        "gap_spread": gap[:, 2:3],
        "gap_kl": gap[:, 3:],
        "gap_crps": torch.cat(scores, 1),
        "gap_coverage_region": torch.cat(covered, 1),
    }
    return {
        name: value.double().numpy(force=True).astype(np.float64)
        for name, value in columns.items()
    }
