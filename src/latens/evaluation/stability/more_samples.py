"""The same solver with more samples than it was made for: its error must not grow."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose, row_noise
from latens.problems import FourierSampling, Inpainting, InverseProblem

ADDED = 0.5
"""Share of the missing samples that are added."""


def denser(problem: InverseProblem, seed: int = 0) -> InverseProblem | None:
    """The problem with half of its missing samples added, or None where that has no meaning.

    Masks that skip whole lines get whole lines: along axes where a mask is constant it stays so.

    Args:
        problem: Problem whose operator measures pixels or frequencies under a mask.
        seed: Which samples are added.
    """
    operator = problem.operator
    if not isinstance(operator, Inpainting | FourierSampling):
        return None
    mask = operator.mask
    varying = [
        axis for axis in range(mask.ndim) if not bool((mask == mask.narrow(axis, 0, 1)).all())
    ]
    if not varying:  # nothing is missing
        return None
    corner = mask[tuple(slice(None) if a in varying else slice(0, 1) for a in range(mask.ndim))]
    missing = (~corner.flatten()).nonzero()[:, 0]
    order = NoiseStream(seed, Purpose.PERTURBATION).permutation(len(missing)).to(missing.device)
    added = missing[order[: max(1, round(ADDED * len(missing)))]]
    filled = corner.flatten().clone()
    filled[added] = True
    dense = filled.reshape(corner.shape).expand(mask.shape).contiguous()
    return InverseProblem(operator.with_mask(dense), problem.noise)


def extended_measurement(
    problem: InverseProblem,
    more: InverseProblem,
    x: Tensor,
    y: Tensor,
    keys: Sequence[int],
    seed: int,
) -> Tensor:
    """A measurement with more samples that repeats those already made.

    Args:
        problem: Problem of `y`.
        more: Its denser version.
        x: Signals, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        keys: Key of the noise of each image.
        seed: Key of the noise of the added samples.

    Returns:
        `(B, *measurement_shape of more)`.
    """
    grid = problem.operator.grid_shape
    assert grid is not None
    places = torch.arange(torch.Size(grid).numel(), dtype=torch.float64).reshape(grid)
    old, new = (p.operator.from_grid(places.to(y.device)).flatten() for p in (problem, more))
    noise = row_noise(
        (seed, Purpose.PERTURBATION, 1), keys, (1, *more.noise_shape), x.dtype, x.device
    )
    with torch.no_grad():
        fresh = more.simulate(x, noise[0]).flatten(1)
    order = new.argsort()
    fresh[:, order[torch.searchsorted(new[order], old)]] = y.flatten(1)
    return fresh.reshape(len(x), *more.measurement_shape)
