"""Operators that measure part of a signal: downsampling and inpainting."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.problems.linear_operator import LinearOperator
from latens.problems.masks import Pattern, kept_pixels
from latens.problems.operator import event_shape, require_event
from latens.problems.spectrum import Function, Spectrum
from latens.types import Shape


class DisjointRows(LinearOperator):
    """Rows of disjoint support and equal length, A Aᵀ = gain·I: every solve is a closed form.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        measurement_shape: Shape of one measurement.
        gain: Squared length of every row.
    """

    def __init__(self, signal_shape: Shape, measurement_shape: Shape, gain: float) -> None:
        super().__init__(signal_shape, measurement_shape)
        self.gain = gain

    @abstractmethod
    def entrywise_square(self) -> LinearOperator:
        """Operator of the squared entries."""

    def spectrum(self) -> Spectrum:
        return _OneEigenvalue(self)

    def _dagger(self, y: Tensor) -> Tensor:
        return self._adjoint_any(y) / self.gain

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        return self._forward_any(x) / self.gain


class _OneEigenvalue(Spectrum):
    """A Aᵀ = gain·I."""

    def __init__(self, operator: DisjointRows) -> None:
        eigenvalue = torch.tensor([operator.gain], dtype=torch.float64)
        super().__init__(
            eigenvalue, eigenvalue.new_tensor([math.prod(operator.measurement_shape)])
        )
        self.operator = operator

    def gram(self, w: Tensor, function: Function) -> Tensor:
        response = function(self.eigenvalues.to(w.device))  # (..., 1)
        axes = len(self.operator.measurement_shape)
        return response.reshape(*response.shape[:-1], *(1,) * axes).to(w.dtype) * w

    def diagonal(self, function: Function) -> Tensor:
        ones = torch.ones(self.operator.measurement_shape, dtype=torch.float64)
        lengths = self.operator.entrywise_square().A_adjoint(ones)  # squared columns
        response = function(self.eigenvalues)  # (..., 1)
        return response.reshape(*response.shape[:-1], *(1,) * lengths.ndim) * lengths


class Downsampling(DisjointRows):
    """One value for every block of pixels, all channels alike.

    | method | y[i] | of block i |
    |---|---|---|
    | average | (1/p) Σ_j x[f·i + j], 0 ≤ j < f | mean of its p = Πf pixels |
    | decimate | x[f·i] | first pixel along every axis |

    Decimation aliases: put a blur before it with `Composition`.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        factor: Block size f along every spatial axis, or one per axis; it divides the size.
        method: What represents a block.

    Raises:
        ConfigError: If a factor is below 1 or the method is unknown.
        ShapeError: If there are fewer or more factors than axes, or one does not divide its
            size.
    """

    def __init__(
        self,
        signal_shape: Shape,
        factor: int | list[int],
        method: Literal["average", "decimate"] = "average",
    ) -> None:
        spatial = event_shape("signal_shape", signal_shape)[1:]
        if method not in ("average", "decimate"):
            raise ConfigError("method", "'average' or 'decimate'", repr(method), "Choose one.")
        factors = _factors(factor, spatial)
        coarse = tuple(n // f for n, f in zip(spatial, factors, strict=True))
        pixels = math.prod(factors)
        gain = 1 / pixels if method == "average" else 1.0
        super().__init__(signal_shape, (signal_shape[0], *coarse), gain)
        self.factor = factors
        self.method = method
        self._split = tuple(size for pair in zip(coarse, factors, strict=True) for size in pair)
        self._within = tuple(range(3, 3 + 2 * len(factors), 2))
        self._firsts = (..., *(slice(None, None, f) for f in factors))

    def entrywise_square(self) -> LinearOperator:
        if self.method == "decimate":
            return self
        return _Scaled(self, self.gain)  # (1/p)² = 1/p · 1/p

    def _map(self, x: Tensor) -> Tensor:
        if self.method == "decimate":
            return x[self._firsts].clone()
        return x.reshape(*x.shape[:2], *self._split).mean(self._within)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        if self.method == "decimate":
            x = y.new_zeros(y.shape[0], *self.signal_shape)
            x[self._firsts] = y
            return x
        for axis, repeats in enumerate(self.factor, 2):
            y = y.repeat_interleave(repeats, axis)
        return y * self.gain

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.method}"


class Inpainting(DisjointRows):
    """The pixels that a mask keeps, the same in every channel.

        y[c, k] = x[c, p_k],   p_1 < … < p_m the kept pixels, row by row

    A missing pixel is no element of the measurement. Networks see Aᵀy, zero where nothing was
    measured.

    | pattern | kept |
    |---|---|
    | random | pixels drawn without replacement |
    | lines | whole lines along the last axis, drawn without replacement |
    | block | all but a centred block with the proportions of the signal |

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        kept: Fraction of the pixels (or lines) to keep, rounded to whole ones.
        pattern: Which ones; `random` where None.
        seed: Of the drawn patterns; 0 where None.
        mask: Instead of the three above: 1 or true where a pixel is kept, `(*spatial)`, as a
            tensor or the path of a `.npy` file.

    Raises:
        ConfigError: If neither or both of `kept` and `mask` are given, or a setting does not
            apply or keeps or misses nothing.
        ShapeError: If the mask has another shape than `(*spatial)`.
        DataError: If the mask cannot be read, holds other values than 0 and 1, or keeps nothing.
    """

    index: Tensor

    def __init__(
        self,
        signal_shape: Shape,
        kept: float | None = None,
        pattern: Pattern | None = None,
        seed: int | None = None,
        mask: Tensor | str | None = None,
    ) -> None:
        channels, *spatial = event_shape("signal_shape", signal_shape)
        keep = kept_pixels(tuple(spatial), kept, pattern, seed, mask)
        super().__init__(signal_shape, (channels, int(keep.sum())), 1.0)
        self.register_buffer("index", keep.flatten().nonzero()[:, 0], persistent=False)

    @property
    def mask(self) -> Tensor:
        """True where a pixel is kept, `(*spatial)`."""
        spatial = self.signal_shape[1:]
        mask = torch.zeros(math.prod(spatial), dtype=torch.bool, device=self.index.device)
        mask[self.index] = True
        return mask.reshape(spatial)

    @property
    def view_shape(self) -> Shape:
        return self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """Aᵀy: the measured pixels in their places, zero elsewhere."""
        return self.A_adjoint(y)

    @property
    def grid_shape(self) -> Shape:
        return self.signal_shape

    def from_grid(self, full: Tensor) -> Tensor:
        """Kept pixels of an image; what stands in the missing ones (zero, NaN) is not read.

        Raises:
            ShapeError: If the trailing axes are not the signal's.
        """
        require_event("full", full, self.grid_shape)
        return self._forward_any(full)

    def with_mask(self, mask: Tensor) -> "Inpainting":
        """The same with other kept pixels, `(*spatial)`."""
        return Inpainting(self.signal_shape, mask=mask)

    def entrywise_square(self) -> "Inpainting":
        return self

    def _map(self, x: Tensor) -> Tensor:
        return x.flatten(2).index_select(-1, self.index.to(x.device))

    def _map_adjoint(self, y: Tensor) -> Tensor:
        flat = y.new_zeros(*y.shape[:2], math.prod(self.signal_shape[1:]))
        full = flat.index_copy(-1, self.index.to(y.device), y)
        return full.reshape(y.shape[0], *self.signal_shape)


class _Scaled(LinearOperator):
    """A times a number."""

    def __init__(self, operator: LinearOperator, scale: float) -> None:
        super().__init__(operator.signal_shape, operator.measurement_shape)
        self.operator = operator
        self.scale = scale

    def _map(self, x: Tensor) -> Tensor:
        return self.scale * self.operator._map(x)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        return self.scale * self.operator._map_adjoint(y)


def _factors(factor: int | list[int], spatial: Shape) -> Shape:
    listed = [factor] * len(spatial) if isinstance(factor, int | float) else list(factor)
    if any(f != int(f) for f in listed):
        raise ConfigError("factor", "whole numbers of at least 1", factor, "Use for example 2.")
    factors = tuple(int(f) for f in listed)
    if not factors or len(factors) != len(spatial):
        raise ShapeError(
            "factor",
            f"one factor per spatial axis, {len(spatial)}, and at least one axis",
            factor,
            "Give a single number for all axes, or as many as the signal has.",
        )
    if min(factors) < 1:
        raise ConfigError("factor", "whole numbers of at least 1", factor, "Use for example 2.")
    if any(n % f for n, f in zip(spatial, factors, strict=True)):
        fitting = tuple(n - n % f for n, f in zip(spatial, factors, strict=True))
        raise ShapeError(
            "factor",
            f"divisors of the signal's size {spatial}",
            factor,
            f"Crop the signal to {fitting}, or pad it to multiples of the factor."
            if min(fitting) > 0
            else "Use a smaller factor.",
        )
    return factors
