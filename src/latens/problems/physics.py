"""Operators of other libraries, used through their methods: deepinv's `A` and `A_adjoint`."""

import copy
import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from latens.distributions import NoiseStream
from latens.errors import ConfigError, LatensError, NumericalError, ShapeError, UnsupportedError
from latens.problems.linear_operator import LinearOperator
from latens.problems.operator import Operator, event_shape, require_event
from latens.types import Shape

ADJOINT_TOLERANCE = 1e-4
"""Largest ⟨A x, y⟩ − ⟨x, Aᵀy⟩ for random x and y, relative to the size of these numbers."""


class Physics(Protocol):
    """What `from_physics` needs: a noiseless map of batches, as deepinv's operators have."""

    def A(self, x: Tensor, /) -> Tensor:
        """Map `(B, *signal_shape)` to `(B, *measurement_shape)`."""
        ...


def from_physics(physics: Physics, signal_shape: Shape) -> Operator:
    """Operator around an object with deepinv's methods.

    Only `A` is called, which adds no noise, and `A_adjoint` where there is one. A module is
    copied once per precision, so that float64 signals are computed in float64 and later changes
    of the object have no effect. One that cannot compute in float64 computes in float32.

    If the object has a `mask` with zeros (deepinv's Inpainting, MRI), the elements of a
    measurement that it sets to zero are not part of ours: `measurement_shape` is then `(m,)`,
    and `from_grid` reads the layout of the object.

    Args:
        physics: Object with `A`, and with `A_adjoint` if it is linear.
        signal_shape: Shape of one signal, `(C, *spatial)`.

    Returns:
        A `LinearOperator` if there is an `A_adjoint`; otherwise an `Operator` whose derivatives
        are those of `torch.func`.

    Raises:
        ConfigError: If there is no method `A`.
        UnsupportedError: If `A` cannot be applied to a batch of such signals, or returns
            anything but one real tensor.
        ShapeError: If a result has another shape than it should.
        NumericalError: If `A` gives two results for one signal, or `A_adjoint` is not its
            adjoint.

    References:
        Tachella et al. (2025), DeepInverse, https://deepinv.github.io.
    """
    shape = event_shape("signal_shape", signal_shape)
    if not callable(getattr(physics, "A", None)):
        raise ConfigError(
            "physics", "an object with a method `A`", type(physics).__name__, "Give it one."
        )
    linear = callable(getattr(physics, "A_adjoint", None))
    calls = _Calls(physics)
    x = NoiseStream(0).normal((2, *shape), torch.float64)
    y = _probe(calls, x, linear)
    if not linear:
        return _NonlinearPhysics(shape, tuple(y.shape[1:]), calls)
    return _LinearPhysics(shape, tuple(y.shape[1:]), calls, _measured(physics, y))


class _Calls:
    """Methods of an object, in the precision and on the device of the tensor they are given."""

    def __init__(self, physics: Physics) -> None:
        self._is_module = isinstance(physics, nn.Module)
        self._physics: Any = copy.deepcopy(physics) if self._is_module else physics
        self._copies: dict[tuple[torch.dtype, torch.device], Any] = {}
        self.narrow = False

    def __call__(self, method: str, value: Tensor) -> Tensor:
        work = torch.float32 if self.narrow else value.dtype
        result = getattr(self._copy(work, value.device), method)(value.to(work))
        if not isinstance(result, Tensor) or result.is_complex():
            kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
            raise UnsupportedError(
                "physics",
                f"one real tensor from `{method}`",
                kind,
                "Give complex numbers as two channels; make a `Stack` of several operators.",
            )
        return result.to(value.dtype)

    def _copy(self, dtype: torch.dtype, device: torch.device) -> Any:
        if not self._is_module:
            return self._physics

        def converted(value: Tensor) -> Tensor:
            if value.is_complex():
                return value.detach().to(device, dtype.to_complex())
            return value.detach().to(device, dtype if value.is_floating_point() else value.dtype)

        if (dtype, device) not in self._copies:  # `Module.to` would drop imaginary parts
            made = copy.deepcopy(self._physics)._apply(converted).requires_grad_(False)
            self._copies[dtype, device] = made
        return self._copies[dtype, device]


class _LinearPhysics(LinearOperator):
    """A linear object; of its measurement, the elements in `measured` where that is given."""

    measured: Tensor | None

    def __init__(
        self, signal_shape: Shape, grid: Shape, calls: _Calls, measured: Tensor | None
    ) -> None:
        super().__init__(signal_shape, grid if measured is None else (measured.numel(),))
        self._calls = calls
        self._grid = grid
        self.register_buffer("measured", measured, persistent=False)

    @property
    def grid_shape(self) -> Shape | None:
        return None if self.measured is None else self._grid

    def from_grid(self, full: Tensor) -> Tensor:
        """Measured elements of the object's own layout.

        Raises:
            UnsupportedError: If the object has no mask.
            ShapeError: If the trailing axes are not those of the object's measurements.
        """
        if self.measured is None:
            return super().from_grid(full)
        require_event("full", full, self._grid)
        return _pick(full.flatten(-len(self._grid)), self.measured)

    def _map(self, x: Tensor) -> Tensor:
        y = self._calls("A", x)
        return y if self.measured is None else _pick(y.flatten(1), self.measured)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        if self.measured is not None:
            flat = y.new_zeros(y.shape[0], math.prod(self._grid))
            flat = flat.index_copy(-1, self.measured.to(y.device), y)
            y = flat.reshape(y.shape[0], *self._grid)
        return self._calls("A_adjoint", y)


class _NonlinearPhysics(Operator):
    """An object without adjoint."""

    def __init__(self, signal_shape: Shape, measurement_shape: Shape, calls: _Calls) -> None:
        super().__init__(signal_shape, measurement_shape)
        self._calls = calls

    def forward(self, x: Tensor) -> Tensor:
        require_event("x", x, self.signal_shape)
        leading = x.shape[: x.ndim - len(self.signal_shape)]
        y = self._calls("A", x.reshape(math.prod(leading), *self.signal_shape))
        return y.reshape(*leading, *self.measurement_shape)


def _pick(flat: Tensor, positions: Tensor) -> Tensor:
    return flat.index_select(-1, positions.to(flat.device))


def _probe(calls: _Calls, x: Tensor, linear: bool) -> Tensor:
    """A x for the random signals x, after checks of what the object returns."""
    try:
        return _checked(calls, x, linear)
    except LatensError:
        raise
    except Exception:  # float32 constants that are neither parameters nor buffers
        calls.narrow = True
    try:
        return _checked(calls, x, linear)
    except LatensError:
        raise
    except Exception as error:  # whatever a stranger's code raises for a signal it cannot take
        text = " ".join(str(error).split())
        raise UnsupportedError(
            "physics",
            f"an operator of batches (B, {', '.join(map(str, x.shape[1:]))}) on the CPU",
            f"{type(error).__name__}: {text[:200]}",
            "Build it for this signal_shape.",
        ) from error


def _checked(calls: _Calls, x: Tensor, linear: bool) -> Tensor:
    y = calls("A", x)
    if y.ndim < 2 or len(y) != len(x):
        raise ShapeError(
            "physics",
            f"{len(x)} measurements of {len(x)} signals from `A`",
            f"shape {tuple(y.shape)}",
            "`A` takes and returns a batch axis first.",
        )
    calls("A", x.float())
    if (calls("A", x) - y).norm() > ADJOINT_TOLERANCE * y.norm():
        raise NumericalError(
            "physics", "one result per signal from `A`", "two", "Take the noise out of `A`."
        )
    if linear:
        _check_adjoint(calls, x, y)
    return y


def _check_adjoint(calls: _Calls, x: Tensor, y: Tensor) -> None:
    w = NoiseStream(1).normal(y.shape, torch.float64)
    pulled_back = calls("A_adjoint", w)
    if pulled_back.shape != x.shape:
        raise ShapeError(
            "physics",
            f"shape {tuple(x.shape)} from `A_adjoint`",
            f"shape {tuple(pulled_back.shape)}",
            "It returns a batch of signals.",
        )
    axes = tuple(range(1, y.ndim))
    forward = (y * w).sum(axes)
    backward = (x * pulled_back).flatten(1).sum(-1)
    # For random w the products have the size |A x|, whatever the number of elements.
    tolerance = ADJOINT_TOLERANCE * y.flatten(1).norm(dim=-1)
    if not ((forward - backward).abs() <= tolerance).all():
        raise NumericalError(
            "physics",
            f"⟨A x, y⟩ = ⟨x, A_adjoint y⟩ to {ADJOINT_TOLERANCE:g} of its size",
            f"{forward[0].item():.6g} and {backward[0].item():.6g}",
            "Use an exact adjoint, or leave `A_adjoint` away if `A` is not linear.",
        )


def _measured(physics: Physics, y: Tensor) -> Tensor | None:
    """Positions that random measurements y reach, if a mask of the object leaves some out."""
    mask = getattr(physics, "mask", None)
    if not isinstance(mask, Tensor) or not (mask == 0).any():
        return None
    reached = (y != 0).any(0).flatten()
    return None if reached.all() else reached.nonzero()[:, 0]
