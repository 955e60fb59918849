"""How steep a reconstruction is: at a measurement, and over the ball of the noise about it.

    L(y)   = ‖J‖₂
    L^ε(y) = sup ‖R(y + Σ^{1/2} u) − R(y)‖/‖u‖   over 0 < ‖u‖ ≤ ε

L^ε is at least ‖J Σ^{1/2}‖₂, its limit for small u, and larger where the reconstruction bends.
What a search finds is a lower bound of both.

References:
    Gottschling, Antun, Hansen, Adcock (2020), The troublesome kernel: on hallucinations, no free
    lunches and the accuracy-stability trade-off in inverse problems,
    https://arxiv.org/abs/2001.01258 (local ε-Lipschitz constant).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.evaluation.stability.ascent import ascend
from latens.evaluation.stability.lipschitz import Slope, steepest
from latens.evaluation.stability.reconstruction import (
    Reconstruction,
    repeat,
    scaled,
)
from latens.evaluation.stability.settings import StabilitySettings
from latens.evaluation.stability.worst_case import FINE_STEP, Target
from latens.metrics import secant_slope

START = 0.25
"""Length at which the search along the steepest direction begins, in radii."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """The local constants of each image.

    Attributes:
        plain: ‖J‖₂, Euclidean.
        whitened: ‖J Σ^{1/2}‖₂.
    """

    plain: Slope
    whitened: Slope

    def diagnostics(self, tolerance: float) -> dict[str, float]:
        """How near to singular values the searches ended.

        Args:
            tolerance: Residual relative to the square at which they were to stop.

        Returns:
            Largest relative residual, the tolerance, and the number of images where one of the
            two constants is above it: there some other singular value may be the largest one.
        """
        residual = torch.maximum(self.plain.residual, self.whitened.residual)
        return {
            "lipschitz_residual": float(residual.max()),
            "lipschitz_tolerance": tolerance,
            "lipschitz_unsettled": float((~(residual <= tolerance)).sum()),
        }


def local_slopes(
    reconstruction: Reconstruction, y: Tensor, scale: Tensor, settings: StabilitySettings
) -> Slopes:
    """The plain and the whitened constant.

    Args:
        reconstruction: R with all its draws.
        y: Measurements, `(B, *measurement_shape)`.
        scale: Noise standard deviation of every element, shape of `y`.
        settings: Budgets.
    """
    count, key = settings.lipschitz_starts, (reconstruction.seed, Purpose.PERTURBATION, 3)
    starts = row_noise(key, reconstruction.keys, (count, *y.shape[1:]), y.dtype, y.device)
    plain = _steepest(reconstruction, y, torch.ones_like(y), starts, settings)
    flat = scale.flatten(1)
    if bool((flat == flat[:, :1]).all()):  # white noise: the same direction, in other units
        return Slopes(plain, Slope(plain.value * flat[:, 0], plain.direction, plain.residual))
    return Slopes(plain, _steepest(reconstruction, y, scale, starts, settings))


def _steepest(
    reconstruction: Reconstruction,
    y: Tensor,
    scale: Tensor,
    starts: Tensor,
    settings: StabilitySettings,
) -> Slope:
    """From several starts with few draws, then on with all."""
    limits = settings.lipschitz_tolerance, settings.lipschitz_steps
    coarse = reconstruction.with_draws(settings.search_draws)
    rough = steepest(coarse, y, scale, starts.transpose(0, 1), *limits)
    return steepest(reconstruction, y, scale, rough.direction[:, None], *limits)


def ball_slope(
    target: Target,
    x_hat: Tensor,
    local: Slope,
    worst: Tensor,
    radius: Tensor,
    settings: StabilitySettings,
) -> Tensor:
    """The steepest secant found in the ball, `(B,)`, at least the local constant.

    Climbs with few draws from the worst disturbance and from the steepest direction, and judges
    starts and ends by the ordinary call.

    Args:
        target: R, y and the noise's standard deviation.
        x_hat: R(y), `(B, *signal_shape)`.
        local: Whitened constant and its direction.
        worst: Whitened disturbance of the ball that does most harm, `(B, *measurement_shape)`.
        radius: ε, `(B,)`.
        settings: Budgets.
    """
    start = torch.stack([worst, scaled(local.direction, START * radius)], 1).flatten(0, 1)
    every, balls = target.repeated(2), repeat(radius, 2)
    few = target.reconstruction.with_draws(settings.search_draws)
    before = repeat(few.mean_at(target.y), 2)

    def square_slope(moved: Tensor, u: Tensor, rows: slice) -> Tensor:
        change = (moved - before[rows]).square().flatten(1).sum(1)
        return change / u.square().flatten(1).sum(1).clamp_min(torch.finfo(u.dtype).tiny)

    coarse = every.reconstruction.with_draws(settings.search_draws)
    end = ascend(
        lambda u: coarse.value_and_gradient(
            u, lambda v, rows: every.y[rows] + every.scale[rows] * v, square_slope
        ),
        start,
        balls,
        settings.ball_steps,
        FINE_STEP,
    ).point
    found, given = [local.value], repeat(x_hat, 2)
    for u in (start, end):
        moved = every.reconstruction.at(every.y + every.scale * u)
        found += secant_slope(given, moved, u).unflatten(0, (-1, 2)).unbind(1)
    return torch.stack(found).amax(0)
