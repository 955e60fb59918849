"""Forward operators: maps from a signal to a noiseless measurement, with their derivatives."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.types import Shape


def require_event(argument: str, value: Tensor, shape: Shape) -> None:
    """Check that a tensor is real and ends with the axes of one event.

    Raises:
        ShapeError: If the trailing axes differ from `shape`.
        UnsupportedError: If the tensor is neither float32 nor float64.
    """
    if value.ndim < len(shape) or tuple(value.shape[value.ndim - len(shape) :]) != shape:
        raise ShapeError(
            argument,
            f"trailing axes {shape}",
            f"shape {tuple(value.shape)}",
            "Reshape it to (..., channels, *spatial), or build the operator for this size.",
        )
    if value.dtype not in (torch.float32, torch.float64):
        raise UnsupportedError(
            argument,
            "float32 or float64",
            value.dtype,
            "Convert it with `.float()` before the operator is applied.",
        )


def event_shape(argument: str, shape: Shape) -> Shape:
    """Return a shape as a tuple of positive integers, or raise `ConfigError`."""
    sizes = tuple(int(size) for size in shape)
    if not sizes or min(sizes) < 1:
        raise ConfigError(
            argument,
            "positive sizes (channels, *spatial)",
            tuple(shape),
            "Give the shape of one item without its batch axis.",
        )
    return sizes


class Operator(nn.Module, ABC):
    """Differentiable map from a signal to a noiseless measurement.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        measurement_shape: Shape of one measurement.

    Raises:
        ConfigError: If a shape is empty or holds a size below 1.
    """

    def __init__(self, signal_shape: Shape, measurement_shape: Shape) -> None:
        super().__init__()
        self.signal_shape = event_shape("signal_shape", signal_shape)
        self.measurement_shape = event_shape("measurement_shape", measurement_shape)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., *signal_shape)` to `(..., *measurement_shape)`."""

    @property
    def view_shape(self) -> Shape:
        """Shape of `view`, `(C, *spatial)`."""
        return self.measurement_shape

    def view(self, y: Tensor) -> Tensor:
        """Image-like form of a measurement, which networks see; here the measurement itself.

        A fixed map that keeps all that the likelihood uses.

        Args:
            y: Measurement, `(..., *measurement_shape)`.

        Returns:
            `(..., *view_shape)`.
        """
        return y

    @property
    def grid_shape(self) -> Shape | None:
        """Shape of a measurement laid out on its full grid, or None if it has no other layout.

        An operator that measures part of a grid (pixels, frequencies) keeps what it measured
        alone, so that every element of a measurement carries information.
        """
        return None

    def from_grid(self, full: Tensor) -> Tensor:
        """Measured elements of `(..., *grid_shape)`, `(..., *measurement_shape)`.

        Raises:
            UnsupportedError: If the operator's measurements have no full grid.
        """
        raise UnsupportedError(
            "full",
            f"a measurement {self.measurement_shape}",
            f"shape {tuple(full.shape)}",
            f"{type(self).__name__} has no other layout of a measurement.",
        )

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Derivative at `x` in the direction `v`: J(x) v.

        Args:
            x: Signal, `(..., *signal_shape)`.
            v: Tangent, shape of `x`.

        Returns:
            Tangent of the measurement, `(..., *measurement_shape)`.
        """
        return torch.func.jvp(self, (x,), (v,))[1]

    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        """Adjoint derivative at `x` applied to `w`: J(x)ᵀ w.

        Args:
            x: Signal, `(..., *signal_shape)`.
            w: Cotangent, `(..., *measurement_shape)`.

        Returns:
            Cotangent of the signal, shape of `x`.
        """
        pulled_back = torch.func.vjp(self, x)[1]
        return pulled_back(w)[0]

    def extra_repr(self) -> str:
        return f"{self.signal_shape} -> {self.measurement_shape}"
