"""Draws from what a solver kept: without replacement, or in proportion to importance weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.metrics import pareto_smooth
from latens.metrics.importance import effective_size

MAX_K = 0.7
"""Pareto k̂ above which weights are not believed, however many draws there are."""
LEAST_SIZE = 39
"""Fewest effective draws that are believed: intervals at 95 % are read from as many."""


def largest_k(draws: int) -> float:
    """Pareto k̂ above which the weights of some draws are not believed, min(.7, 1 − 1/log₁₀ S).

    Args:
        draws: S.

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, section 3.2.4,
        https://arxiv.org/abs/1507.02646.
    """
    return min(MAX_K, 1 - 1 / math.log10(max(draws, 11)))


def draw_from_pool(pool: Sequence[Tensor], keys: Sequence[int], seed: int, count: int) -> Tensor:
    """Draws without replacement.

    Args:
        pool: Exchangeable positions of each measurement, B tensors `(n, dim)`.
        keys: Key of each measurement.
        seed: Key of the order.
        count: Number of draws.

    Returns:
        `(count, B, dim)`; fewer draws are the first of more.

    Raises:
        ConfigError: If the pool of a measurement is smaller.
    """
    smallest = min(len(draws) for draws in pool)
    if count > smallest:
        raise ConfigError(
            "draws",
            f"at most {smallest}, the smallest effective sample size of a measurement",
            count,
            "Raise `draws` or `chains` of the solver.",
        )
    rows = []
    for key, draws in zip(keys, pool, strict=True):
        order = NoiseStream(seed, Purpose.POOL, key).permutation(len(draws))
        rows.append(draws[order[:count].to(draws.device)])
    return torch.stack(rows, 1)


class ImportanceWeights:
    """Smoothed weights of the draws of a proposal.

    Args:
        log_weights: log p − log q of S draws, `(S, B)`.

    Attributes:
        k: Pareto k̂ of each measurement, `(B,)`.
        size: Effective number of draws, 1/Σ ω², `(B,)`.
        trusted: Measurements whose k̂ is below `largest_k` and whose effective number of draws
            is `LEAST_SIZE` or more, `(B,)`.
    """

    def __init__(self, log_weights: Tensor) -> None:
        smoothed, self.k = pareto_smooth(log_weights)
        weights = smoothed.exp()
        self.size = effective_size(smoothed)
        self.trusted = (self.k < largest_k(len(log_weights))) & (self.size >= LEAST_SIZE)
        self._cumulative = weights.cumsum(0).mT.contiguous()  # (B, S)

    @property
    def numbers(self) -> dict[str, float]:
        """The largest k̂ and the smallest effective number of draws, for `diagnostics`."""
        return {"k": float(self.k.max()), "size": float(self.size.min())}

    def resampled(self, keys: Sequence[int], seed: int, purpose: Purpose, count: int) -> Tensor:
        """Numbers of draws, with replacement, in proportion to their weights, `(count, B)`."""
        uniform = [
            NoiseStream(seed, purpose, key).uniform((count,), torch.float64) for key in keys
        ]
        found = torch.searchsorted(self._cumulative, torch.stack(uniform))  # (B, count)
        return found.clamp(max=self._cumulative.shape[1] - 1).mT
