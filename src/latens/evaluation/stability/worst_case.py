"""The worst disturbance of a measurement inside a ball.

    W(ε; x) = max ‖R(y + Σ^{1/2} u) − x‖/‖x‖   over ‖u‖ ≤ ε

with y the noisy measurement and Σ its noise covariance at the true signal, or the identity for
balls ‖e‖ ≤ η ‖y‖. What a search finds is a lower bound.

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
        whitened: u, `(B, *measurement_shape)`, in units of the scale of the target.
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
        scale: Unit of a disturbance of every element, shape of `y`: the noise's standard
            deviation, or 1.
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
    balls = torch.stack([level * radius for level in others])  # (L, B)
    found = _climbed(target, torch.stack([main.whitened] * len(others)), balls, settings)
    at = dict(zip(others, found, strict=True)) | {1: main}
    return _rising([at[level] for level in levels])


def relative_noise_to_error(
    target: Target,
    known: Sequence[WorstCase],
    shares: Sequence[float],
    settings: StabilitySettings,
) -> list[WorstCase]:
    """Worst cases of the balls ‖e‖ ≤ η ‖y‖, each from the known one whose length is nearest.

    Known disturbances that lie in a ball count as found in it.

    Args:
        target: What is attacked, with the noise's standard deviation as scale.
        known: Worst cases of balls of the noise.
        shares: η, increasing.
        settings: Budgets.

    Returns:
        One for each η; `whitened` is e itself.
    """
    plain = Target(target.reconstruction, target.x, target.y, torch.ones_like(target.y))
    seen = [WorstCase(target.scale * case.whitened, case.error) for case in known]
    lengths = torch.stack([norms(case.whitened) for case in seen])  # (K, B)
    points = torch.stack([case.whitened for case in seen])
    balls = torch.stack([share * norms(target.y) for share in shares])  # (L, B)
    tiny = torch.finfo(balls.dtype).tiny
    apart = balls.clamp_min(tiny).log()[:, None] - lengths.clamp_min(tiny).log()  # (L, K, B)
    nearest = apart.abs().argmin(1)  # (L, B)
    starts = points[nearest, torch.arange(len(target.y), device=nearest.device)]
    found = []
    for case, ball in zip(_climbed(plain, starts, balls, settings), balls, strict=True):
        best = case
        for other, length in zip(seen, lengths, strict=True):
            inside = torch.where(length <= ball, other.error, -torch.inf)
            best = better(best, WorstCase(other.whitened, inside))
        found.append(best)
    return _rising(found)


def _climbed(
    target: Target, starts: Tensor, balls: Tensor, settings: StabilitySettings
) -> list[WorstCase]:
    """From one start on the sphere of each ball the better of it and the end of a short climb.

    Args:
        target: What is attacked.
        starts: Directions, `(L, B, *measurement_shape)`.
        balls: Radii, `(L, B)`.
        settings: Budgets.
    """
    every = target.repeated(len(balls))
    radius = balls.T.flatten()  # (B L,)
    start = on_sphere(starts.transpose(0, 1).flatten(0, 1), radius)
    end = ascend(
        lambda u: every.square_error(u, settings.search_draws),
        start,
        radius,
        settings.level_steps,
        FINE_STEP,
    ).point
    best = better(WorstCase(start, every.error(start)), WorstCase(end, every.error(end)))
    point = best.whitened.unflatten(0, (-1, len(balls)))
    error = best.error.unflatten(0, (-1, len(balls)))
    return [WorstCase(point[:, i], error[:, i]) for i in range(len(balls))]


def _rising(cases: Sequence[WorstCase]) -> list[WorstCase]:
    """Each at least as bad as the one before it, whose ball lies inside its own."""
    found = list(cases[:1])
    for case in cases[1:]:
        found.append(better(found[-1], case))
    return found


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
