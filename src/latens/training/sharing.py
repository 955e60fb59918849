"""One batch, several processes: every process takes its own rows of the same batch and noise.

A batch and its noise are functions of (seed, step), so processes need not talk to agree on them,
and two processes train with the numbers that one would have used.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from latens.distributions import NoiseStream
from latens.errors import ConfigError
from latens.objectives.distributed import rank, world_size


def own_rows(rows: Tensor) -> Tensor:
    """The share of this process in the rows of a batch, `(B/W, …)` of `(B, …)`.

    Raises:
        ConfigError: If the processes cannot have equally many rows.
    """
    count = world_size()
    if len(rows) % count:
        raise ConfigError(
            "batch_size",
            f"a multiple of the {count} processes",
            len(rows),
            "Every process takes the same number of rows.",
        )
    share = len(rows) // count
    return rows[rank() * share : (rank() + 1) * share]


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """Sums over all processes of numbers that each of them has, in the same order, in float64."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


class SharedNoise(NoiseStream):
    """Noise for the rows of this process, out of the noise for the rows of all."""

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal noise, `shape[0]` rows."""
        return own_rows(super().normal((world_size() * shape[0], *shape[1:]), dtype))

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform noise on [0, 1), `shape[0]` rows."""
        return own_rows(super().uniform((world_size() * shape[0], *shape[1:]), dtype))
