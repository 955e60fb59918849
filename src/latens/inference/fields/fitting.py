"""Short trainings of small networks at the time of an inversion: for these sensors, in seconds."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from latens.errors import NumericalError

WARMUP = 100
CLIP = 5.0


def descend(
    parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor], steps: int, rate: float
) -> float:
    """Adam on fresh losses, the rate rising for `WARMUP` steps and then a cosine to zero.

    Args:
        parameters: What is trained.
        loss: Loss of a new batch at every call, a scalar.
        steps: Number of steps.
        rate: Peak rate.

    Returns:
        Mean loss of the last tenth of the steps.

    Raises:
        NumericalError: If a loss is not finite.
    """
    optimiser = torch.optim.Adam(parameters, lr=rate)
    last: list[float] = []
    for step in range(steps):
        share = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = rate * share
        optimiser.zero_grad()
        found = loss()
        value = float(found.detach())
        if not math.isfinite(value):
            raise NumericalError(
                "loss", "finite losses", f"{value} at step {step}", "Lower the rate.", step=step
            )
        found.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        if step >= 0.9 * steps:
            last.append(value)
    return sum(last) / max(1, len(last))


def layers(sizes: Sequence[int]) -> nn.Sequential:
    """Dense layers with SiLU after each, widths `sizes`, initial weights from their sizes alone.

    The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(sizes))
        made: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            linear = nn.Linear(wide, narrow)
            # torch's own start shrinks a signal by half a layer, and features start all alike.
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            made += [linear, nn.SiLU()]
        return nn.Sequential(*made)
