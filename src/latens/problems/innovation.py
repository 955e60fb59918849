"""Covariance of a linear-Gaussian measurement, S = A diag(v) Aᵀ + σ²I, and its inverse.

Four representations, chosen from the structure of the problem and never from its values:

| class | applies to | solve | log det, explained variance |
|---|---|---|---|
| `FourierInnovation` | circular convolution, v constant over space | closed form | closed form |
| `DisjointInnovation` | rows of A with disjoint support (denoising, masks) | closed form | same |
| `SpectralInnovation` | spectrum of A Aᵀ known, v one number per item | closed form | same |
| `GeneralInnovation` | every linear operator | conjugate gradients | dense Cholesky |
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latens.problems.convolution import Convolution
from latens.problems.linear_operator import (
    MAX_ITERATIONS,
    LinearOperator,
    per_item,
    solve_tolerance,
)
from latens.problems.linear_solve import conjugate_gradient
from latens.problems.spectrum import Spectrum


class Innovation(ABC):
    """Covariance S of the innovation y − A loc.

    Args:
        operator: A.
        variance: Diagonal of the signal covariance, `(..., *signal)` with sizes 1 where it is
            constant.
        noise_variance: σ².
    """

    def __init__(self, operator: LinearOperator, variance: Tensor, noise_variance: float) -> None:
        self.operator = operator
        self.variance = variance
        self.noise_variance = noise_variance
        self.axes = tuple(range(-len(operator.measurement_shape), 0))

    @abstractmethod
    def solve(self, residual: Tensor) -> Tensor:
        """S⁻¹ r for r `(..., *measurement)`."""

    @abstractmethod
    def log_det(self) -> Tensor:
        """log det S, `(...)`."""

    @abstractmethod
    def explained_variance(self) -> Tensor:
        """diag(V Aᵀ S⁻¹ A V), broadcastable to `(..., *signal)`: what the measurement removes."""

    def log_prob(self, residual: Tensor) -> Tensor:
        """log N(r; 0, S), `(...)`, in nats, constants kept."""
        quadratic = (residual * self.solve(residual)).sum(self.axes)
        return _gaussian_log_prob(quadratic, self.log_det(), self.operator)


class FourierInnovation(Innovation):
    """S is diagonal in Fourier space with eigenvalues v|H|² + σ² per channel."""

    def __init__(self, operator: Convolution, variance: Tensor, noise_variance: float) -> None:
        super().__init__(operator, variance, noise_variance)
        self.power = operator.power_spectrum(variance)
        self.eigenvalues = variance * self.power + noise_variance  # (..., C | 1, *half grid)

    def solve(self, residual: Tensor) -> Tensor:
        spatial = self.operator.signal_shape[1:]
        axes = self.axes[1:]
        spectrum = torch.fft.rfftn(residual, dim=axes)
        return torch.fft.irfftn(spectrum / self.eigenvalues, s=spatial, dim=axes)

    def log_det(self) -> Tensor:
        per_channel = self._over_frequencies(self.eigenvalues.log())  # (..., C | 1)
        channels = self.operator.signal_shape[0]
        return per_channel.expand(*per_channel.shape[:-1], channels).sum(-1)

    def explained_variance(self) -> Tensor:
        pixels = math.prod(self.operator.signal_shape[1:])
        gain = self._over_frequencies(self.power / self.eigenvalues) / pixels  # (..., C | 1)
        return self.variance.square() * gain.reshape(self.variance.shape)

    def _over_frequencies(self, values: Tensor) -> Tensor:
        size = self.operator.signal_shape[-1]
        count = values.new_full((size // 2 + 1,), 2.0)  # rfftn keeps one of each conjugate pair
        count[0] = 1.0
        if size % 2 == 0:
            count[-1] = 1.0
        return (values * count).sum(self.axes[1:])


class DisjointInnovation(Innovation):
    """S is diagonal, since no two measurements share a pixel."""

    def __init__(
        self,
        operator: LinearOperator,
        square: LinearOperator,
        variance: Tensor,
        noise_variance: float,
    ) -> None:
        super().__init__(operator, variance, noise_variance)
        self.square = square
        leading = variance.shape[: variance.ndim - len(operator.signal_shape)]
        full = variance.expand(*leading, *operator.signal_shape)
        self.diagonal = square.A(full) + noise_variance  # (..., *measurement)

    def solve(self, residual: Tensor) -> Tensor:
        return residual / self.diagonal

    def log_det(self) -> Tensor:
        return self.diagonal.log().sum(self.axes)

    def explained_variance(self) -> Tensor:
        return self.variance.square() * self.square.A_adjoint(1 / self.diagonal)


class SpectralInnovation(Innovation):
    """S = v A Aᵀ + σ²I is a function of A Aᵀ; see `LinearOperator.spectrum`."""

    def __init__(
        self,
        operator: LinearOperator,
        spectrum: Spectrum,
        variance: Tensor,
        noise_variance: float,
    ) -> None:
        super().__init__(operator, variance, noise_variance)
        self.spectrum = spectrum

    def solve(self, residual: Tensor) -> Tensor:
        return self.spectrum.gram(residual, self._precision)

    def log_det(self) -> Tensor:
        precision = self._precision(self.spectrum.eigenvalues)  # (..., k)
        return -(self.spectrum.counts * precision.log()).sum(-1).to(self.variance.dtype)

    def explained_variance(self) -> Tensor:
        gain = self.spectrum.diagonal(self._precision).to(self.variance.dtype)
        return self.variance.square() * gain

    def _precision(self, eigenvalues: Tensor) -> Tensor:
        variance = self.variance.flatten(-len(self.operator.signal_shape)).double()  # (..., 1)
        return 1 / (variance * eigenvalues + self.noise_variance)


class GeneralInnovation(Innovation):
    """S by its action; a dense Cholesky factor where a determinant or a diagonal is asked for."""

    def solve(self, residual: Tensor) -> Tensor:
        measurement, signal = self.operator.measurement_shape, self.operator.signal_shape
        own = self.variance.shape[: self.variance.ndim - len(signal)]
        leading = torch.broadcast_shapes(own, residual.shape[: residual.ndim - len(measurement)])
        variance = self.variance.reshape(
            (1,) * (len(leading) - len(own)) + tuple(self.variance.shape)
        )
        return InnovationSolve.apply(
            residual.expand(leading + measurement), variance, self.operator, self.noise_variance
        )

    def log_prob(self, residual: Tensor) -> Tensor:
        factor = self._cholesky(self._scaled_matrix())
        flat = residual.flatten(-len(self.axes))[..., None]  # (..., m, 1)
        white = torch.linalg.solve_triangular(factor, flat, upper=False)
        return _gaussian_log_prob(white.square().sum((-2, -1)), _log_det(factor), self.operator)

    def log_det(self) -> Tensor:
        return _log_det(self._cholesky(self._scaled_matrix()))

    def explained_variance(self) -> Tensor:
        scaled = self._scaled_matrix()
        white = torch.linalg.solve_triangular(self._cholesky(scaled), scaled, upper=False)
        diagonal = white.square().sum(-2)  # (..., d)
        return diagonal.reshape(*diagonal.shape[:-1], *self.operator.signal_shape)

    def _scaled_matrix(self) -> Tensor:
        signal = self.operator.signal_shape
        leading = self.variance.shape[: self.variance.ndim - len(signal)]
        flat = self.variance.expand(*leading, *signal).flatten(-len(signal))  # (..., d)
        return self.operator.matrix(self.variance.dtype) * flat[..., None, :]  # A V, (..., m, d)

    def _cholesky(self, scaled: Tensor) -> Tensor:
        matrix = self.operator.matrix(self.variance.dtype)
        noise = self.noise_variance * torch.eye(
            matrix.shape[0], dtype=matrix.dtype, device=matrix.device
        )
        return torch.linalg.cholesky(scaled @ matrix.mT + noise)  # (..., m, m)


def _log_det(factor: Tensor) -> Tensor:
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _gaussian_log_prob(quadratic: Tensor, log_det: Tensor, operator: LinearOperator) -> Tensor:
    m = math.prod(operator.measurement_shape)
    return -0.5 * (quadratic + log_det + m * math.log(2 * math.pi))


def innovation(operator: LinearOperator, variance: Tensor, noise_variance: float) -> Innovation:
    """The cheapest exact representation of S for this operator and shape of `variance`."""
    event = variance.shape[-len(operator.signal_shape) :]
    constant = all(size == 1 for size in event[1:])
    if isinstance(operator, Convolution) and operator.boundary == "circular" and constant:
        return FourierInnovation(operator, variance, noise_variance)
    square = operator.entrywise_square()
    if square is not None:
        return DisjointInnovation(operator, square, variance, noise_variance)
    spectrum = operator.spectrum() if constant and event[0] == 1 else None
    if spectrum is not None:
        return SpectralInnovation(operator, spectrum, variance, noise_variance)
    return GeneralInnovation(operator, variance, noise_variance)


class InnovationSolve(torch.autograd.Function):
    """u = S(v)⁻¹ r by conjugate gradients, differentiated implicitly in r and v.

        du = S⁻¹ (dr − A (dv ⊙ Aᵀu))

    Both tensors have the same number of axes, so that a mapped axis can lead in both.
    """

    @staticmethod
    def forward(residual, variance, operator, noise_variance):
        wide = variance.double()
        typical = wide.mean(operator_axes(operator)).clamp_min(1e-12 * noise_variance)
        shift = per_item(noise_variance / typical, wide, len(operator.measurement_shape))
        return conjugate_gradient(
            lambda u: operator.A(wide * operator.A_adjoint(u)) + noise_variance * u,
            residual.double(),
            len(operator.measurement_shape),
            solve_tolerance(residual.dtype),
            MAX_ITERATIONS,
            lambda r: operator.precondition(r, shift),
        ).to(residual.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, variance, ctx.operator, ctx.noise_variance = inputs
        ctx.save_for_backward(variance, output)
        ctx.save_for_forward(variance, output)

    @staticmethod
    def backward(ctx, *grad_outputs):
        variance, solution = ctx.saved_tensors
        grad = InnovationSolve.apply(grad_outputs[0], variance, ctx.operator, ctx.noise_variance)
        product = -ctx.operator.A_adjoint(solution) * ctx.operator.A_adjoint(grad)
        return grad, product.sum_to_size(variance.shape), None, None

    @staticmethod
    def jvp(ctx, *grad_inputs):
        variance, solution = ctx.saved_tensors
        shift = grad_inputs[1] * ctx.operator.A_adjoint(solution)
        rhs = grad_inputs[0] - ctx.operator.A(shift)
        return InnovationSolve.apply(rhs, variance, ctx.operator, ctx.noise_variance)

    @staticmethod
    def vmap(info, in_dims, residual, variance, operator, noise_variance):
        moved = [
            value.unsqueeze(0) if axis is None else value.movedim(axis, 0)
            for value, axis in zip((residual, variance), in_dims[:2], strict=True)
        ]
        sizes = (info.batch_size, *(-1,) * (moved[0].ndim - 1))
        return InnovationSolve.apply(
            moved[0].expand(sizes), *moved[1:], operator, noise_variance
        ), 0


def operator_axes(operator: LinearOperator) -> tuple[int, ...]:
    """Axes of one signal, counted from the end."""
    return tuple(range(-len(operator.signal_shape), 0))
