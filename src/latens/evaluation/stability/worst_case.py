"""The worst disturbance of a measurement inside a ball of the noise.

    W(ε; x) = max ‖R(y + Σ^{1/2} u) − x‖/‖x‖   over ‖u‖ ≤ ε

with y the noisy measurement and Σ its noise covariance at the true signal. What a search finds is
a lower bound.

References:
    Genzel, Macdonald, März (2022), Solving inverse problems with deep neural networks –
    robustness included?, https://doi.org/10.1109/TPAMI.2022.3148324.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.evaluation.stability.ascent import ascend, best_of, on_sphere
from latens.evaluation.stability.reconstruction import (
    Reconstruction,
    norms,
    repeat,
)
from latens.evaluation.stability.settings import StabilitySettings
from latens.metrics import relative_error

FINE_STEP = 0.05
"""First step of polishing, in radii."""


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst disturbance found of each image.

    Attributes:
        whitened: u, `(B, *measurement_shape)`, in noise standard deviations.
        error: ‖R(y + Σ^{1/2} u) − x‖/‖x‖ by the ordinary call of the solver, `(B,)`.
    """

    whitened: Tensor
    error: Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """What is attacked.

    Attributes:
        reconstruction: R with all its draws.
        x: Truth, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        scale: Noise standard deviation of every element, shape of `y`.
    """

    reconstruction: Reconstruction
    x: Tensor
    y: Tensor
    scale: Tensor

    def repeated(self, copies: int) -> "Target":
        """The same for `copies` rows of every image."""
        x, y, scale = (repeat(value, copies) for value in (self.x, self.y, self.scale))
        return Target(self.reconstruction.repeated(copies), x, y, scale)

    def error(self, whitened: Tensor) -> Tensor:
        """Relative error at disturbed measurements, by the ordinary call, `(B,)`."""
        return relative_error(self.reconstruction.at(self.y + self.scale * whitened), self.x)

    def square_error(self, whitened: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Squared relative error from some draws, and its gradient."""
        size = norms(self.x).square()
        return self.reconstruction.with_draws(draws).value_and_gradient(
            whitened,
            lambda u, rows: self.y[rows] + self.scale[rows] * u,
            lambda x_hat, _, rows: (x_hat - self.x[rows]).square().flatten(1).sum(1) / size[rows],
        )


def random_disturbances(
    keys: Sequence[int], seed: int, count: int, y: Tensor, radius: Tensor
) -> Tensor:
    """Whitened disturbances uniform on spheres, `(count, B, *measurement_shape)`."""
    key = (seed, Purpose.PERTURBATION)
    noise = row_noise(key, keys, (count, *y.shape[1:]), y.dtype, y.device)
    return torch.stack([on_sphere(u, radius) for u in noise])


def worst_case(
    target: Target, radius: Tensor, starts: Tensor, settings: StabilitySettings
) -> WorstCase:
    """Search a ball from several starts.

    Climbs with few draws, judges all ends by the ordinary call, and polishes the best one with
    all draws.

    Args:
        target: What is attacked.
        radius: Of the ball in noise standard deviations, `(B,)`.
        starts: Whitened, `(B, S, *measurement_shape)`.
        settings: Budgets.
    """
    copies = starts.shape[1]
    every = target.repeated(copies)
    found = ascend(
        lambda u: every.square_error(u, settings.search_draws),
        starts.flatten(0, 1),
        repeat(radius, copies),
        settings.steps,
    )
    errors = every.error(found.point)
    rows = best_of(errors, copies)
    point, error = found.point[rows], errors[rows]
    all_draws = target.reconstruction.draws
    polished = ascend(
        lambda u: target.square_error(u, all_draws),
        point,
        radius,
        settings.polish_steps,
        FINE_STEP,
    ).point
    return better(WorstCase(point, error), WorstCase(polished, target.error(polished)))


def noise_to_error(
    target: Target,
    main: WorstCase,
    radius: Tensor,
    levels: Sequence[float],
    settings: StabilitySettings,
) -> list[WorstCase]:
    """Worst cases of balls of other radii, from the worst case of one.

    A disturbance found in a small ball lies in the larger ones too, so that the errors never fall
    with the radius.

    Args:
        target: What is attacked.
        main: Worst case at level 1.
        radius: Its radius, `(B,)`.
        levels: Radii in units of that, increasing.
        settings: Budgets.

    Returns:
        One for each level.
    """
    others = [level for level in levels if level != 1]
    every = target.repeated(len(others))
    factor = radius.new_tensor(others).repeat(len(radius))  # (B L,)
    balls = repeat(radius, len(others)) * factor
    start = on_sphere(repeat(main.whitened, len(others)), balls)
    found = ascend(
        lambda u: every.square_error(u, settings.search_draws),
        start,
        balls,
        settings.level_steps,
        FINE_STEP,
    ).point
    best = better(WorstCase(start, every.error(start)), WorstCase(found, every.error(found)))
    error = best.error.unflatten(0, (-1, len(others)))
    point = best.whitened.unflatten(0, (-1, len(others)))
    at = {level: WorstCase(point[:, i], error[:, i]) for i, level in enumerate(others)} | {1: main}
    curve: list[WorstCase] = []
    for level in levels:
        curve.append(better(curve[-1], at[level]) if curve else at[level])
    return curve


def better(first: WorstCase, second: WorstCase) -> WorstCase:
    """Of each image the one with the larger error; the first where they are equal."""
    gains = second.error > first.error
    chosen = gains.reshape(-1, *[1] * (first.whitened.ndim - 1))
    return WorstCase(
        torch.where(chosen, second.whitened, first.whitened),
        torch.where(gains, second.error, first.error),
    )


def length_of(target: Target, whitened: Tensor) -> Tensor:
    """‖e‖ in units of the measurement, `(B,)`."""
    return norms(target.scale * whitened)
