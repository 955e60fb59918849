"""Linear operators: adjoint, pseudo-inverse, norm, range and null space.

Subclasses write two kernels; every transform of `torch.func`, both modes of differentiation
and derivatives of any order follow from them.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import ConfigError, UnsupportedError
from latens.problems.constants import constant
from latens.problems.linear_map import linear_map
from latens.problems.linear_solve import Map, conjugate_gradient, largest_eigenvalue
from latens.problems.operator import Operator, require_event
from latens.problems.spectrum import SingularValues, Spectrum, thin_svd
from latens.types import Shape

DENSE_LIMIT = 4096
"""Largest number of measurements for which a dense matrix is formed."""

SPECTRUM_LIMIT = 2048
"""Largest min(m, d) for which singular values are computed; max(m, d) may be 8 times as large."""

MAX_ITERATIONS = 2000
"""Iterations after which conjugate gradients give up."""


class LinearOperator(Operator):
    """Linear map A, given by two kernels on a single batch axis.

    Subclasses implement `_map`, `(B, *signal_shape) -> (B, *measurement_shape)`, and its exact
    adjoint `_map_adjoint`; they override `spectrum`, or `norm` and `_gram_solve`, and `_dagger`
    and `_dagger_adjoint` where a closed form is known.

    | size, m measurements of d elements | norm, `gram_solve`, `A_dagger` |
    |---|---|
    | min(m, d) ≤ 2048 and max(m, d) ≤ 16 384 | singular values in float64, computed at first use |
    | larger | Lanczos and conjugate gradients |

    Attributes:
        relative_cutoff: Singular values up to this fraction of the largest one count as null
            space in `A_dagger` and in both projections. Conjugate gradients cut nothing off:
            they raise where they do not converge.
    """

    relative_cutoff: float = 1e-4

    def __init__(self, signal_shape: Shape, measurement_shape: Shape) -> None:
        super().__init__(signal_shape, measurement_shape)
        self._matrices: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._decompositions: dict[torch.device, SingularValues] = {}

    @abstractmethod
    def _map(self, x: Tensor) -> Tensor:
        """Kernel of A: `(B, *signal_shape) -> (B, *measurement_shape)`."""

    @abstractmethod
    def _map_adjoint(self, y: Tensor) -> Tensor:
        """Kernel of Aᵀ: `(B, *measurement_shape) -> (B, *signal_shape)`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    @property
    def view_shape(self) -> Shape:
        """Shape of `view`: the measurement's if it has an image's axes, else the signal's."""
        same_axes = len(self.measurement_shape) == len(self.signal_shape)
        return self.measurement_shape if same_axes else self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """The measurement if it has as many axes as the signal, else Aᵀy; see `Operator.view`."""
        return y if self.view_shape == self.measurement_shape else self.A_adjoint(y)

    def A(self, x: Tensor) -> Tensor:
        """Apply A to `(..., *signal_shape)`.

        Raises:
            ShapeError: If the trailing axes of `x` are not the signal's.
        """
        require_event("x", x, self.signal_shape)
        return linear_map(x, self._forward_any, self._adjoint_any)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply Aᵀ to `(..., *measurement_shape)`.

        Raises:
            ShapeError: If the trailing axes of `y` are not the measurement's.
        """
        require_event("y", y, self.measurement_shape)
        return linear_map(y, self._adjoint_any, self._forward_any)

    def A_dagger(self, y: Tensor) -> Tensor:
        """Pseudo-inverse: the least-squares solution of smallest norm.

        From a closed form or the singular values, with `relative_cutoff`; for large operators by
        conjugate gradients on the normal equations, to a relative residual of 1e-10 (1e-6 in
        float32).

        Args:
            y: Measurement, `(..., *measurement_shape)`.

        Returns:
            Signal, `(..., *signal_shape)`.

        Raises:
            NumericalError: If A is too ill-conditioned for the iteration.
        """
        require_event("y", y, self.measurement_shape)
        return linear_map(y, self._dagger, self._dagger_adjoint)

    def range_projection(self, x: Tensor) -> Tensor:
        """Part of a signal that the measurement sees: A⁺A x, `(..., *signal_shape)`."""
        return self.A_dagger(self.A(x))

    def null_projection(self, x: Tensor) -> Tensor:
        """Part of a signal that the measurement misses: x − A⁺A x, `(..., *signal_shape)`."""
        return x - self.range_projection(x)

    def gram_solve(self, w: Tensor, shift: float | Tensor) -> Tensor:
        """Solve (A Aᵀ + shift·I) u = w.

        Differentiable in `w` to any order; `shift` is a constant.

        Args:
            w: Right-hand sides, `(..., *measurement_shape)`.
            shift: Positive number, or one per item, `(...)`.

        Returns:
            Solutions u, shape of `w`.

        Raises:
            ConfigError: If a number is given as `shift` that is not positive.
            NumericalError: If the iteration does not converge.
        """
        require_event("w", w, self.measurement_shape)
        if not isinstance(shift, Tensor) and not 0 < shift < math.inf:
            raise ConfigError(
                "shift", "a positive number", shift, "Use `A_dagger` for the solution at shift 0."
            )

        def solve(value: Tensor) -> Tensor:
            return self._gram_solve(value, per_item(shift, value, len(self.measurement_shape)))

        return linear_map(w, solve, solve)

    def norm(self, tolerance: float = 1e-6) -> float:
        """Largest singular value: exact where `spectrum` is known, otherwise by Lanczos iteration.

        Args:
            tolerance: Residual ‖AᵀA v − σ²v‖ relative to σ² at which the iteration stops.

        Raises:
            NumericalError: If the iteration does not get there.
        """
        spectrum = self.spectrum()
        if spectrum is not None:
            return spectrum.norm
        start = NoiseStream(0, device=self._device()).normal(
            (1, *self.signal_shape), torch.float64
        )
        square = largest_eigenvalue(lambda v: self._map_adjoint(self._map(v)), start, tolerance)
        return math.sqrt(square)

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A as a dense matrix `(m, d)`, for up to 4096 measurements and 2²⁶ entries.

        Raises:
            UnsupportedError: If the matrix would be larger.
        """
        m, d = math.prod(self.measurement_shape), math.prod(self.signal_shape)
        if m > DENSE_LIMIT or m * d > DENSE_LIMIT * 4 * DENSE_LIMIT:
            raise UnsupportedError(
                "operator",
                f"at most {DENSE_LIMIT} measurements and 2²⁶ entries for a dense matrix",
                f"{m} x {d}",
                "Use a smaller signal, or an operator with a closed form (circular blur).",
            )
        key = (dtype, self._device())
        if key not in self._matrices:
            self._matrices[key] = constant(self._dense(dtype))
        return self._matrices[key]

    def spectrum(self) -> Spectrum | None:
        """Eigenvalues of A Aᵀ and functions of it; None for a large operator without closed form.

        Sizes alone decide, never values: up to min(m, d) = 2048 and max(m, d) = 16 384 there is
        a singular value decomposition in float64, computed at first use and kept.
        """
        return self._singular_values()

    def entrywise_square(self) -> "LinearOperator | None":
        """Operator of the squared entries A², for rows of disjoint support; otherwise None.

        With disjoint rows (masks, block averages) A diag(v) Aᵀ is diagonal, with diagonal A²v.
        """
        return None

    def precondition(self, w: Tensor, shift: Tensor) -> Tensor:
        """Cheap symmetric positive definite stand-in for `gram_solve`; here w/shift."""
        return w / shift

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """A v, whatever `x`; see `Operator.jvp`."""
        return self.A(v)

    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        """Aᵀ w, whatever `x`; see `Operator.vjp`."""
        return self.A_adjoint(w)

    def _singular_values(self) -> SingularValues | None:
        m, d = math.prod(self.measurement_shape), math.prod(self.signal_shape)
        if min(m, d) > SPECTRUM_LIMIT or max(m, d) > 8 * SPECTRUM_LIMIT:
            return None
        device = self._device()
        if device not in self._decompositions:
            with torch.inference_mode(False), torch.no_grad():
                matrix = constant(self._dense(torch.float64))
                left, values, right = thin_svd(matrix)
                self._decompositions[device] = SingularValues(
                    constant(left),
                    constant(values),
                    constant(right),
                    self.signal_shape,
                    self.measurement_shape,
                    self.relative_cutoff,
                )
        return self._decompositions[device]

    def _dense(self, dtype: torch.dtype) -> Tensor:
        """A as `(m, d)`, from the shorter side."""
        m, d = math.prod(self.measurement_shape), math.prod(self.signal_shape)
        basis = torch.eye(min(m, d), dtype=dtype, device=self._device()).split(256)
        if m <= d:
            rows = [self.A_adjoint(part.reshape(-1, *self.measurement_shape)) for part in basis]
            return torch.cat(rows).reshape(m, d)
        columns = [self.A(part.reshape(-1, *self.signal_shape)) for part in basis]
        return torch.cat(columns).reshape(d, m).mT

    def _device(self) -> torch.device:
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))

    def _forward_any(self, x: Tensor) -> Tensor:
        return _over_leading_axes(self._map, x, self.signal_shape, self.measurement_shape)

    def _adjoint_any(self, y: Tensor) -> Tensor:
        return _over_leading_axes(self._map_adjoint, y, self.measurement_shape, self.signal_shape)

    def _gram_solve(self, w: Tensor, shift: Tensor) -> Tensor:
        wide_shift = shift.double()
        spectrum = self.spectrum()
        if spectrum is not None:
            flat_shift = wide_shift.flatten(-len(self.measurement_shape))  # (..., 1)
            return spectrum.gram(w, lambda eigenvalues: 1 / (eigenvalues + flat_shift))
        return conjugate_gradient(
            lambda u: self._forward_any(self._adjoint_any(u)) + wide_shift * u,
            w.double(),
            len(self.measurement_shape),
            solve_tolerance(w.dtype),
            MAX_ITERATIONS,
            lambda r: self.precondition(r, wide_shift),
        ).to(w.dtype)

    def _dagger(self, y: Tensor) -> Tensor:
        decomposition = self._singular_values()
        if decomposition is not None:
            return decomposition.dagger(y)
        return conjugate_gradient(
            lambda x: self._adjoint_any(self._forward_any(x)),
            self._adjoint_any(y.double()),
            len(self.signal_shape),
            solve_tolerance(y.dtype),
            MAX_ITERATIONS,
        ).to(y.dtype)

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        decomposition = self._singular_values()
        if decomposition is not None:
            return decomposition.dagger_adjoint(x)
        return conjugate_gradient(
            lambda u: self._forward_any(self._adjoint_any(u)),
            self._forward_any(x.double()),
            len(self.measurement_shape),
            solve_tolerance(x.dtype),
            MAX_ITERATIONS,
        ).to(x.dtype)


def solve_tolerance(dtype: torch.dtype) -> float:
    """Relative residual of iterative solves, which run in float64 whatever the input."""
    return 1e-10 if dtype == torch.float64 else 1e-6


def _over_leading_axes(kernel: Map, value: Tensor, event: Shape, result: Shape) -> Tensor:
    leading = value.shape[: value.ndim - len(event)]
    count = math.prod(leading)
    if count == 0:  # Fourier transforms refuse an empty batch
        return value.new_zeros(*leading, *result)
    return kernel(value.reshape(count, *event)).reshape(*leading, *result)


def per_item(value: float | Tensor, like: Tensor, event_dims: int) -> Tensor:
    """A number, or one number per item `(...)`, made broadcastable to `(..., *event)`."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return tensor.reshape(tensor.shape + (1,) * event_dims)
