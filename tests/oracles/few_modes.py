"""A stationary Gaussian field with few modes, blurred and noisy.

    x = Σ_k √λ_k a_k u_k + s w,   y = blur(x) + σ n,   a, w, n ~ N(0, I)

u_k are orthonormal sines and cosines, so the field is stationary and `StationaryGaussian` knows
its posterior. An affine latent model with K latents can express p(x) exactly and p(x | y) up to
terms of relative order s²/σ²: this is where amortised solvers can be held to the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from oracles.stationary_gaussian import StationaryGaussian, impulse_transfer


@dataclass(frozen=True)
class FewModes:
    """The field, its measurement and its oracle; made by `few_modes`.

    Attributes:
        modes: Orthonormal u_k, `(K, *spatial)`, float64.
        eigenvalues: λ_k, `(K,)`.
        floor: s.
        problem: Blur and noise.
        oracle: Exact posterior.
    """

    modes: Tensor
    eigenvalues: Tensor
    floor: float
    problem: InverseProblem
    oracle: StationaryGaussian

    @property
    def spatial(self) -> tuple[int, ...]:
        """Size of the grid."""
        return tuple(self.modes.shape[1:])

    def regions(self, blocks: int) -> Tensor:
        """Means over a `blocks` × `blocks` grid of squares, as functionals `(R, *spatial)`."""
        edge = self.spatial[0] // blocks
        cell = torch.eye(blocks**2, dtype=torch.float64).reshape(-1, blocks, blocks)
        return cell.repeat_interleave(edge, 1).repeat_interleave(edge, 2) / edge**2

    def pairs(self, count: int, noise: NoiseStream) -> tuple[Tensor, Tensor]:
        """Fresh pairs, `(count, 1, *spatial)` each, float32."""
        shape = (count, 1, *self.spatial)
        scaled = (self.eigenvalues.sqrt()[:, None] * self.modes.flatten(1)).float()
        smooth = noise.normal((count, len(scaled))) @ scaled  # (count, D)
        x = smooth.reshape(shape) + self.floor * noise.normal(shape)
        return x, self.problem.simulate(x, noise.normal(shape))


def few_modes(
    size: int,
    wave_numbers: Sequence[tuple[int, int]],
    *,
    decay: float,
    blur: float,
    noise_scale: float,
    floor: float,
) -> FewModes:
    """A field of unit variance on a `size` × `size` grid.

    Args:
        size: Edge of the grid.
        wave_numbers: One of ±k for each plane wave besides the constant; K = 1 + 2·len.
        decay: Ratio of successive eigenvalues.
        blur: Width of the Gaussian blur, in pixels.
        noise_scale: σ.
        floor: s.
    """
    grid = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    modes = [torch.full((size, size), 1 / size, dtype=torch.float64)]
    level = [1.0]
    power = torch.zeros(size, size, dtype=torch.float64)
    power[0, 0] = 1.0
    for order, (i, j) in enumerate(wave_numbers, start=1):
        phase = i * grid[:, None] + j * grid
        modes += [math.sqrt(2) / size * phase.cos(), math.sqrt(2) / size * phase.sin()]
        level += [decay**order] * 2
        power[i, j] = power[-i, -j] = decay**order
    unit = size**2 / sum(level)  # a pixel's variance is the mean of the power
    problem = InverseProblem(GaussianBlur((1, size, size), blur), GaussianNoise(noise_scale))
    transfer = impulse_transfer(problem.operator, (size, size))
    return FewModes(
        torch.stack(modes),
        unit * torch.tensor(level, dtype=torch.float64),
        floor,
        problem,
        StationaryGaussian(unit * power + floor**2, transfer, noise_scale),
    )
