"""A run from beginning to end."""

from typing import Any

from torch import Tensor

from latens.inference.samplers import Chains, Kernel, LogDensity, Sampling


def sample(
    log_density: LogDensity, start: Tensor, kernel: Kernel, *, draws: int, **settings: Any
) -> Chains:
    """Warm up and draw; see `Sampling` for the settings."""
    return Sampling(log_density, start, kernel, **settings).run(draws)
