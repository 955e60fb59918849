"""Operators and noise models that the property tests run over: list a new one here."""

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.problems import Convolution, GaussianBlur, GaussianNoise, Identity, LinearOperator


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded standard normal tensor."""
    return NoiseStream(seed, len(shape)).normal(shape, dtype)


def random_kernel(*shape: int) -> Tensor:
    """Asymmetric kernel with a dominant centre, so that inverses are well conditioned."""
    kernel = 0.2 * normal(*shape, seed=5) / sum(shape)
    kernel[tuple(n // 2 for n in shape)] += 1.0
    return kernel


class Matrix(LinearOperator):
    """Wide random matrix: the defaults of `LinearOperator`, with a null space."""

    def __init__(self) -> None:
        super().__init__((1, 4, 3), (7,))
        self.weight = normal(7, 12, seed=9)

    def _map(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.to(x.dtype).mT

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.weight.to(y.dtype)).reshape(-1, *self.signal_shape)


class BlockSum(LinearOperator):
    """Weighted sum over pairs of neighbours: rows of disjoint support."""

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__((2, 8), (2, 4))
        self.weights = normal(8, seed=4) if weights is None else weights

    def _map(self, x: Tensor) -> Tensor:
        return (x * self.weights.to(x.dtype)).unflatten(-1, (4, 2)).sum(-1)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(2, -1) * self.weights.to(y.dtype)

    def entrywise_square(self) -> "BlockSum":
        return BlockSum(self.weights.square())


OPERATORS = {
    "identity-1d": lambda: Identity((2, 7)),
    "identity-3d": lambda: Identity((1, 3, 4, 5)),
    "circular-1d-odd": lambda: Convolution((2, 15), random_kernel(5), "circular"),
    "circular-1d-even-kernel": lambda: Convolution((1, 14), random_kernel(4), "circular"),
    "circular-2d": lambda: Convolution((2, 7, 9), random_kernel(3, 5), "circular"),
    "circular-2d-full-kernel": lambda: Convolution((1, 6, 5), random_kernel(6, 5), "circular"),
    "circular-3d": lambda: Convolution((1, 5, 6, 7), random_kernel(3, 2, 5), "circular"),
    "zero-1d-odd": lambda: Convolution((2, 15), random_kernel(5), "zero"),
    "zero-1d-even-kernel": lambda: Convolution((1, 14), random_kernel(4), "zero"),
    "zero-2d": lambda: Convolution((2, 7, 9), random_kernel(3, 5), "zero"),
    "zero-2d-full-kernel": lambda: Convolution((1, 6, 5), random_kernel(6, 5), "zero"),
    "zero-3d": lambda: Convolution((1, 5, 6, 7), random_kernel(3, 2, 5), "zero"),
    "blur-1d": lambda: GaussianBlur((1, 33), 1.5, relative_cutoff=1e-2),
    "blur-2d": lambda: GaussianBlur((2, 9, 11), 0.9),
    "blur-3d": lambda: GaussianBlur((1, 7, 6, 5), 0.5),
    "blur-2d-zero": lambda: GaussianBlur((1, 9, 8), 0.6, "zero"),
    "matrix": Matrix,
    "block-sum": BlockSum,
}

NOISES = {
    "gaussian": lambda: GaussianNoise(0.3),
    "gaussian-wide": lambda: GaussianNoise(2.0),
}
