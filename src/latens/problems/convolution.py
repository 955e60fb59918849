"""Identity and convolutions in any number of dimensions, by fast Fourier transform."""

import math
from typing import Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.problems.linear_operator import LinearOperator, constant
from latens.types import Shape


class Identity(LinearOperator):
    """A = I: denoising.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
    """

    def __init__(self, signal_shape: Shape) -> None:
        super().__init__(signal_shape, signal_shape)

    def _map(self, x: Tensor) -> Tensor:
        return x.clone()

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def norm(self, tolerance: float = 1e-6) -> float:
        """1, exactly."""
        return 1.0

    def entrywise_square(self) -> "Identity":
        return self

    def _gram_solve(self, w: Tensor, shift: Tensor) -> Tensor:
        return w / (1 + shift)

    def _dagger(self, y: Tensor) -> Tensor:
        return y.clone()

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        return x.clone()


class Convolution(LinearOperator):
    """Convolution of every channel with one kernel; the measurement keeps the signal's size.

        y[i] = Σ_j k[j] x[i + c − j],   c = size // 2 along every axis

    With boundary `circular` the signal repeats and A is diagonal in Fourier space: norm,
    `gram_solve` and pseudo-inverse are closed forms. With boundary `zero` it is zero outside,
    and these come from a singular value decomposition of small signals, or from iteration.
    Transfer functions are computed once, in float64.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`, any number of spatial axes and sizes.
        kernel: Point-spread function, one axis per spatial axis, at most the signal's size.
        boundary: What lies outside the signal.
        relative_cutoff: For boundary `circular`: frequencies whose transfer function is below
            this fraction of its largest magnitude count as null space in `A_dagger` and in the
            projections. 1e-4 where None.

    Raises:
        ShapeError: If the kernel has another rank than the signal or is larger.
        ConfigError: If `boundary` is unknown or `relative_cutoff` does not apply.
    """

    kernel: Tensor

    def __init__(
        self,
        signal_shape: Shape,
        kernel: Tensor,
        boundary: Literal["circular", "zero"] = "circular",
        relative_cutoff: float | None = None,
    ) -> None:
        super().__init__(signal_shape, signal_shape)
        spatial = self.signal_shape[1:]
        _require_kernel(kernel, spatial)
        _require_boundary(boundary, relative_cutoff)
        self.boundary = boundary
        self.relative_cutoff = 1e-4 if relative_cutoff is None else relative_cutoff
        kernel = kernel.detach().to(torch.float64)
        self.register_buffer("kernel", kernel, persistent=False)
        if boundary == "circular":
            self._grid = spatial
        else:  # far enough that what wraps around falls outside the crop
            self._grid = tuple(
                _fast_size(n + k - 1) for n, k in zip(spatial, kernel.shape, strict=True)
            )
        wrapped = _transfer(kernel.cpu(), spatial)
        self._master = {
            "transfer": _transfer(kernel.cpu(), self._grid),
            "power": wrapped.abs().square(),
            "dagger": _truncated_inverse(wrapped, self.relative_cutoff),
        }
        self._cached: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def norm(self, tolerance: float = 1e-6) -> float:
        """Largest singular value: exact where circular, see `LinearOperator.norm` otherwise."""
        if self.boundary == "circular":
            return math.sqrt(self._master["power"].max().item())
        return super().norm(tolerance)

    def power_spectrum(self, like: Tensor) -> Tensor:
        """Eigenvalues |H|² of A Aᵀ for boundary `circular`, on the grid of `rfftn`.

        For boundary `zero` they belong to the circular neighbour of A, its preconditioner.

        Args:
            like: Tensor whose dtype and device the result gets.

        Returns:
            `(*spatial[:-1], spatial[-1] // 2 + 1)`.
        """
        return self._on("power", like)

    def precondition(self, w: Tensor, shift: Tensor) -> Tensor:
        """(A Aᵀ + shift·I)⁻¹ w as if the boundary were circular."""
        spatial = self.signal_shape[1:]
        return _filter(w, 1 / (self.power_spectrum(w) + shift), spatial)

    def _map(self, x: Tensor) -> Tensor:
        return self._crop(_filter(x, self._on("transfer", x), self._grid))

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return self._crop(_filter(y, self._on("transfer", y).conj(), self._grid))

    def _gram_solve(self, w: Tensor, shift: Tensor) -> Tensor:
        if self.boundary == "circular":
            return self.precondition(w, shift)
        return super()._gram_solve(w, shift)

    def _dagger(self, y: Tensor) -> Tensor:
        if self.boundary == "circular":
            return _filter(y, self._on("dagger", y), self._grid)
        return super()._dagger(y)

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        if self.boundary == "circular":
            return _filter(x, self._on("dagger", x).conj(), self._grid)
        return super()._dagger_adjoint(x)

    def _crop(self, value: Tensor) -> Tensor:
        return value[(..., *(slice(n) for n in self.signal_shape[1:]))]

    def _on(self, name: str, like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._cached:
            master = self._master[name]
            dtype = like.dtype.to_complex() if master.is_complex() else like.dtype
            self._cached[key] = constant(master.to(like.device, dtype))
        return self._cached[key]

    def extra_repr(self) -> str:
        size = "x".join(str(n) for n in self.kernel.shape)
        return f"{super().extra_repr()}, kernel={size}, boundary={self.boundary}"


def _filter(value: Tensor, response: Tensor, grid: Shape) -> Tensor:
    axes = tuple(range(-len(grid), 0))
    spectrum = torch.fft.rfftn(value, s=grid, dim=axes)
    return torch.fft.irfftn(spectrum * response, s=grid, dim=axes)


def _fast_size(size: int) -> int:
    fast = next_fast_len(size, real=True)
    return size if fast is None else int(fast)


def _transfer(kernel: Tensor, grid: Shape) -> Tensor:
    padded = kernel.new_zeros(grid)
    padded[tuple(slice(n) for n in kernel.shape)] = kernel
    centred = padded.roll([-(n // 2) for n in kernel.shape], tuple(range(kernel.ndim)))
    return torch.fft.rfftn(centred)


def _truncated_inverse(transfer: Tensor, relative_cutoff: float) -> Tensor:
    magnitude = transfer.abs()
    kept = (magnitude > relative_cutoff * magnitude.max()) & (magnitude > 0)
    return torch.where(kept, 1 / torch.where(kept, transfer, 1), 0)


def _require_kernel(kernel: Tensor, spatial: Shape) -> None:
    if not spatial or kernel.ndim != len(spatial):
        raise ShapeError(
            "kernel",
            f"one axis per spatial axis of the signal, at least one ({len(spatial)} given)",
            f"shape {tuple(kernel.shape)}",
            "Give signal_shape as (channels, *spatial) and a kernel of the same spatial rank.",
        )
    if any(k > n for k, n in zip(kernel.shape, spatial, strict=True)):
        raise ShapeError(
            "kernel",
            f"at most the size of the signal, {spatial}",
            tuple(kernel.shape),
            "Use a narrower kernel or a larger signal.",
        )
    if kernel.is_complex() or not torch.isfinite(kernel).all() or kernel.numel() == 0:
        raise ConfigError(
            "kernel",
            "finite real values",
            f"{kernel.dtype} of shape {tuple(kernel.shape)}",
            "Remove what is empty, complex, infinite or not a number.",
        )


def _require_boundary(boundary: str, relative_cutoff: float | None) -> None:
    if boundary not in ("circular", "zero"):
        raise ConfigError("boundary", "'circular' or 'zero'", repr(boundary), "Choose one.")
    if relative_cutoff is None:
        return
    if boundary != "circular":
        raise ConfigError(
            "relative_cutoff",
            "no value with boundary 'zero', where the pseudo-inverse chooses its own",
            relative_cutoff,
            "Leave it out, or use boundary 'circular'.",
        )
    if not 0 <= relative_cutoff < 1:
        raise ConfigError(
            "relative_cutoff", "a fraction in [0, 1)", relative_cutoff, "Use for example 1e-4."
        )
