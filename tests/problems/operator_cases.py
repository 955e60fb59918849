"""Operators and noise models that the property tests run over: list a new one here."""

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.problems import (
    Composition,
    Convolution,
    Downsampling,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Inpainting,
    LinearOperator,
    MotionBlur,
    PoissonGaussianNoise,
    Radon,
    RicianNoise,
    Stack,
    from_physics,
)
from stand_ins import physics


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
    "motion-1d": lambda: MotionBlur((2, 15), [3.4]),
    "motion-2d": lambda: MotionBlur((1, 9, 8), [2.5, -3.7]),
    "motion-3d": lambda: MotionBlur((1, 5, 6, 7), [1.2, 0, 2.1]),
    "motion-2d-zero": lambda: MotionBlur((1, 9, 8), [0.8, 0.5], "zero"),
    "average-1d": lambda: Downsampling((2, 12), 3),
    "average-2d": lambda: Downsampling((2, 6, 8), [3, 2]),
    "average-3d": lambda: Downsampling((1, 4, 6, 4), 2),
    "decimate-2d": lambda: Downsampling((2, 6, 8), [3, 2], "decimate"),
    "decimate-3d": lambda: Downsampling((1, 4, 6, 3), [2, 2, 1], "decimate"),
    "inpainting-1d": lambda: Inpainting((2, 11), 0.6),
    "inpainting-2d": lambda: Inpainting((2, 7, 6), 0.4, seed=3),
    "inpainting-2d-block": lambda: Inpainting((1, 8, 9), 0.8, "block"),
    "inpainting-3d-lines": lambda: Inpainting((2, 4, 3, 5), 0.5, "lines"),
    "blur-average-2d": lambda: Composition(
        (1, 8, 6), [lambda s: GaussianBlur(s, 0.5), lambda s: Downsampling(s, 2)]
    ),
    "blur-decimate-2d-odd": lambda: Composition(
        (2, 9, 15),
        [lambda s: Convolution(s, random_kernel(3, 4)), lambda s: Downsampling(s, 3, "decimate")],
    ),
    "blur-average-blur-3d": lambda: Composition(
        (1, 4, 6, 8),
        [
            lambda s: Convolution(s, random_kernel(3, 3, 2)),
            lambda s: Downsampling(s, [2, 1, 2]),
            lambda s: Convolution(s, random_kernel(2, 3, 3)),
        ],
    ),
    "motion-decimate-3d": lambda: Composition(
        (1, 4, 6, 8),
        [lambda s: MotionBlur(s, [1, 1.5, 0], "zero"), lambda s: Downsampling(s, 2, "decimate")],
    ),
    "average-inpainting-2d": lambda: Composition(
        (2, 8, 6), [lambda s: Downsampling(s, 2), lambda s: Inpainting(s, 0.6)]
    ),
    "stack-2d": lambda: Stack(
        (2, 6, 4), [lambda s: Downsampling(s, 2), lambda s: Inpainting(s, 0.3), Identity]
    ),
    "physics-blur": lambda: from_physics(physics.Blur(random_kernel(3, 5)), (2, 7, 9)),
    "physics-inpainting": lambda: from_physics(
        physics.Inpainting(normal(2, 4, 3, 5) > 0), (2, 4, 3, 5)
    ),
    "physics-coils": lambda: from_physics(
        physics.CoilMaps(torch.complex(normal(3, 5, 4), normal(3, 5, 4, seed=1))), (2, 5, 4)
    ),
    "mri-2d-complex": lambda: FourierSampling((2, 6, 7), 2),
    "mri-2d-complex-points": lambda: FourierSampling((2, 6, 5), 3, pattern="points", seed=1),
    "mri-2d-real-even": lambda: FourierSampling((1, 6, 8), 2, 0.25, seed=1),
    "mri-2d-real-odd": lambda: FourierSampling((1, 7, 5), 1.5, axis=0),
    "mri-2d-real-points": lambda: FourierSampling((1, 6, 7), 1.5, pattern="points"),
    "mri-3d-complex": lambda: FourierSampling((2, 4, 3, 5), 2.5, axis=1),
    "mri-3d-real": lambda: FourierSampling((1, 4, 3, 6), 2, pattern="points", decay=0),
    "mri-2d-coils": lambda: FourierSampling((2, 6, 5), 2, coils=3),
    "mri-3d-real-coils": lambda: FourierSampling((1, 3, 4, 5), 2, coils=2),
    "radon-square": lambda: Radon((1, 7, 7), 4, relative_cutoff=1e-2),
    "radon-wide": lambda: Radon((1, 5, 8), [0, 30, 45, 90, 133.7], spacing=1.3),
    "radon-channels": lambda: Radon((2, 6, 5), 9, 7, relative_cutoff=1e-2),
    "matrix": Matrix,
    "block-sum": BlockSum,
}

NOISES = {
    "gaussian": lambda: GaussianNoise(0.3),
    "gaussian-wide": lambda: GaussianNoise(2.0),
    "poisson-gaussian": lambda: PoissonGaussianNoise(gain=0.01, scale=0.05),
    "poisson-gaussian-dark": lambda: PoissonGaussianNoise(gain=0.3, scale=0.2),
    "rician": lambda: RicianNoise(0.3),
}
