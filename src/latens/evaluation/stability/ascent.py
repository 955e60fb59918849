"""Ascent inside balls: many searches in lockstep, each with a step of its own.

    v ← Π(v + s g/‖g‖),   s = radius/4 at first, halved where a step did not gain

The last accepted point is the best one of its search. For a convex objective (a linear
reconstruction) every step gains; elsewhere halving makes the search monotone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.evaluation.stability.reconstruction import norms, scaled

FIRST_STEP = 0.25
"""First step, in radii."""


@dataclass(frozen=True, eq=False)
class Summit:
    """Where the searches ended.

    Attributes:
        point: `(R, *shape)`, inside the balls.
        value: Objective there, `(R,)`.
        step: Last step in radii, `(R,)`; small where the search had come to an end.
    """

    point: Tensor
    value: Tensor
    step: Tensor


def ascend(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    radius: Tensor,
    steps: int,
    first_step: float = FIRST_STEP,
) -> Summit:
    """Climb from every start.

    Args:
        objective: `(R, *shape)` to values `(R,)` and gradients of their sum.
        start: `(R, *shape)`.
        radius: Of each ball about 0, `(R,)`.
        steps: Gradients of each search beside that of its start.
        first_step: In radii.
    """
    point = project(start, radius)
    value, gradient = objective(point)
    step = torch.full_like(radius, first_step)
    for _ in range(steps):
        length = norms(gradient)
        direction = scaled(gradient, torch.where(length > 0, 1 / length.clamp_min(1e-30), 0))
        trial = project(point + scaled(direction, step * radius), radius)
        new_value, new_gradient = objective(trial)
        gains = (new_value > value) & new_gradient.flatten(1).isfinite().all(1)
        chosen = gains.reshape(-1, *[1] * (point.ndim - 1))
        point = torch.where(chosen, trial, point)
        gradient = torch.where(chosen, new_gradient, gradient)
        value = torch.where(gains, new_value, value)
        step = torch.where(gains, step, step / 2)
    return Summit(point, value, step)


def project(point: Tensor, radius: Tensor) -> Tensor:
    """Nearest points of balls about 0."""
    length = norms(point)
    return scaled(point, (radius / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1))


def on_sphere(point: Tensor, radius: Tensor) -> Tensor:
    """Points of given length in the same direction; rows that are 0 stay 0."""
    length = norms(point)
    return scaled(point, radius / length.clamp_min(torch.finfo(length.dtype).tiny))


def best_of(values: Tensor, copies: int) -> Tensor:
    """Row with the largest value among the `copies` of each image, `(B,)`."""
    groups = values.unflatten(0, (-1, copies))
    best = torch.where(groups.isfinite(), groups, -torch.inf).argmax(1)
    return best + copies * torch.arange(len(best), device=values.device)
