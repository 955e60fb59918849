"""A smooth Gaussian field behind a blur with missing pixels, its posterior and wrong ones.

    x ~ N(0, C),   y = A x + n,   A = mask · blur,   n ~ N(0, σ²I)
    x | y ~ N(K y, Q),   K = C Aᵀ (A C Aᵀ + σ²I)⁻¹,   Q = C − K A C

Half of the pixels of the blurred field are not measured, so A has a null space, which the prior's
correlations tie to what is measured. Each wrong posterior is wrong in one way.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latens.problems import (
    Composition,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
)
from oracles.stationary_gaussian import gaussian_power

SHAPE = (1, 8, 8)
WRONG = ("narrow", "wide", "shifted", "prior", "uncorrelated")


class Dense(LinearOperator):
    """A matrix, `(m, d)`, as an operator on signals of a shape."""

    def __init__(self, matrix: Tensor, signal_shape: tuple[int, ...]) -> None:
        super().__init__(signal_shape, (matrix.shape[0],))
        self.register_buffer("entries", matrix)

    def _map(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.entries.T.to(x)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.entries.to(y)).reshape(-1, *self.signal_shape)


@dataclass(frozen=True, eq=False)
class MaskedField:
    """Oracle for signals `(..., 1, 8, 8)`; made in float64, used in the type of the noise.

    Args:
        scale: Standard deviation σ of the noise.
        length: Correlation length of the field in pixels.
        blur: Standard deviation of the blur in pixels.
    """

    scale: float = 0.2
    length: float = 1.2
    blur: float = 0.8

    @cached_property
    def problem(self) -> InverseProblem:
        """Operator and noise."""
        both = Composition(
            SHAPE, [lambda s: GaussianBlur(s, self.blur), lambda s: Inpainting(s, 0.5)]
        )
        return InverseProblem(Dense(both.matrix(), SHAPE), GaussianNoise(self.scale))

    @cached_property
    def covariance(self) -> Tensor:
        """C, `(64, 64)`."""
        power = gaussian_power(SHAPE[1:], self.length, 1.0)
        impulses = torch.eye(64, dtype=torch.float64).reshape(64, 8, 8)
        return torch.fft.ifft2(torch.fft.fft2(impulses) * power).real.flatten(1)

    @cached_property
    def gain(self) -> Tensor:
        """K, `(64, m)`."""
        a, c = self.problem.operator.matrix(), self.covariance
        measured = a @ c @ a.T + self.scale**2 * torch.eye(len(a), dtype=torch.float64)
        return torch.linalg.solve(measured, a @ c).T

    @cached_property
    def posterior_covariance(self) -> Tensor:
        """Q, `(64, 64)`."""
        found = self.covariance - self.gain @ self.problem.operator.matrix() @ self.covariance
        return (found + found.T) / 2

    @cached_property
    def roots(self) -> tuple[Tensor, Tensor]:
        """Cholesky factors of C and of Q."""
        return torch.linalg.cholesky(self.covariance), torch.linalg.cholesky(
            self.posterior_covariance
        )

    def pairs(self, noise_x: Tensor, noise_y: Tensor) -> tuple[Tensor, Tensor]:
        """Signals and measurements from standard normals `(n, 64)`, `(n, m)`."""
        x = (noise_x @ self.roots[0].T.to(noise_x)).unflatten(-1, SHAPE)
        return x, self.problem.simulate(x, noise_y)

    def draws(self, y: Tensor, noise: Tensor, kind: str) -> Tensor:
        """Draws of the exact posterior or of a wrong one.

        Args:
            y: Measurements, `(n, m)`.
            noise: Standard normal, `(M, n, 64)`.
            kind: `exact`; `narrow` and `wide`, 0.8 and 1.25 times the standard deviation;
                `shifted` by 0.2 standard deviations of each pixel; `prior`, which ignores y;
                `uncorrelated`, right in every pixel and independent between pixels.
        """
        mean = y @ self.gain.T.to(y)
        spread = self.posterior_covariance.diagonal().sqrt().to(y)
        prior, posterior = (root.T.to(y) for root in self.roots)
        match kind:
            case "exact":
                flat = mean + noise @ posterior
            case "narrow" | "wide":
                flat = mean + {"narrow": 0.8, "wide": 1.25}[kind] * noise @ posterior
            case "shifted":
                flat = mean + 0.2 * spread + noise @ posterior
            case "prior":
                flat = noise @ prior
            case "uncorrelated":
                flat = mean + noise * spread
            case _:
                raise ValueError(kind)
        return flat.unflatten(-1, SHAPE)
