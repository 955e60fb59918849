"""Operators made of operators: one after another, or side by side."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems.circulant import CirculantSpectrum, commutes_with_shifts
from latens.problems.linear_operator import LinearOperator
from latens.problems.operator import Operator, event_shape, require_event
from latens.problems.spectrum import Spectrum
from latens.types import Shape

Factory = Callable[[Shape], Operator]
"""Makes an operator for signals of a given shape."""


class Composition(LinearOperator):
    """Linear operators one after another, A = A_k … A_2 A_1.

    Blur with downsampling, for example, is

        Composition(shape, [lambda s: GaussianBlur(s, 1.5), lambda s: Downsampling(s, 2)])

    The measurement is the last operator's, and so are its view and its full grid. Circular
    blurs with downsampling have spectrum, `gram_solve` and pseudo-inverse in closed form.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        steps: Operators in the order of application; each is made for the measurements of the
            one before.

    Raises:
        ConfigError: If there are no steps.
        ShapeError: If a step is made for another shape.
        UnsupportedError: If a step is not linear; `Chain` takes any.
    """

    def __init__(self, signal_shape: Shape, steps: list[Factory]) -> None:
        made = _linear("steps", _in_sequence(signal_shape, steps))
        super().__init__(signal_shape, made[-1].measurement_shape)
        self.steps: Sequence[LinearOperator] = _modules(made)
        self._shifts = all(map(commutes_with_shifts, made))
        self._circulants: dict[torch.device, CirculantSpectrum] = {}

    @property
    def view_shape(self) -> Shape:
        last = self.steps[-1].view_shape
        return last if len(last) == len(self.signal_shape) else self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """The last operator's view; Aᵀy where that has other axes than a signal."""
        last = self.steps[-1]
        same_axes = len(last.view_shape) == len(self.signal_shape)
        return last.view(y) if same_axes else self.A_adjoint(y)

    @property
    def grid_shape(self) -> Shape | None:
        return self.steps[-1].grid_shape

    def from_grid(self, full: Tensor) -> Tensor:
        return self.steps[-1].from_grid(full)

    def spectrum(self) -> Spectrum | None:
        return self._circulant() or super().spectrum()

    def precondition(self, w: Tensor, shift: Tensor) -> Tensor:
        if self._circulant() is None:
            return super().precondition(w, shift)
        return self._gram_solve(w, shift)

    def entrywise_square(self) -> "Composition | None":
        # Every entry of a product of operators with disjoint rows is a single term.
        squares: list[Factory] = []
        for step in self.steps:
            square = step.entrywise_square()
            if square is None:
                return None
            squares.append(lambda _, made=square: made)
        return Composition(self.signal_shape, squares)

    def _map(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step._map(x)
        return x

    def _map_adjoint(self, y: Tensor) -> Tensor:
        for step in reversed(self.steps):
            y = step._map_adjoint(y)
        return y

    def _dagger(self, y: Tensor) -> Tensor:
        circulant = self._circulant()
        if circulant is None:
            return super()._dagger(y)
        return self._adjoint_any(circulant.gram(y, circulant.inverse))

    def _dagger_adjoint(self, x: Tensor) -> Tensor:
        circulant = self._circulant()
        if circulant is None:
            return super()._dagger_adjoint(x)
        return circulant.gram(self._forward_any(x), circulant.inverse)

    def _circulant(self) -> CirculantSpectrum | None:
        device = self._device()
        if self._shifts and device not in self._circulants:
            with torch.inference_mode(False), torch.no_grad():
                self._circulants[device] = CirculantSpectrum(self, device)
        return self._circulants.get(device)


class Chain(Operator):
    """Operators one after another, not all of them linear.

    Derivatives go step by step, through the derivatives that each operator has.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        steps: Operators in the order of application; each is made for the measurements of the
            one before.

    Raises:
        ConfigError: If there are no steps.
        ShapeError: If a step is made for another shape.
    """

    def __init__(self, signal_shape: Shape, steps: list[Factory]) -> None:
        made = _in_sequence(signal_shape, steps)
        super().__init__(signal_shape, made[-1].measurement_shape)
        self.steps: Sequence[Operator] = _modules(made)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    @property
    def view_shape(self) -> Shape:
        return self.steps[-1].view_shape

    def view(self, y: Tensor) -> Tensor:
        """The last operator's view."""
        return self.steps[-1].view(y)

    @property
    def grid_shape(self) -> Shape | None:
        return self.steps[-1].grid_shape

    def from_grid(self, full: Tensor) -> Tensor:
        return self.steps[-1].from_grid(full)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        for step in self.steps:
            x, v = step(x), step.jvp(x, v)
        return v

    def vjp(self, x: Tensor, w: Tensor) -> Tensor:
        inputs = []
        for step in self.steps:
            inputs.append(x)
            x = step(x)
        for step, value in zip(reversed(self.steps), reversed(inputs), strict=True):
            w = step.vjp(value, w)
        return w


class Stack(LinearOperator):
    """Several linear measurements of one signal, y = (A_1 x, …, A_k x) as one flat vector.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        operators: Operators of the single measurements.

    Raises:
        ConfigError: If there are no operators.
        ShapeError: If one is made for another shape.
        UnsupportedError: If one is not linear.
    """

    def __init__(self, signal_shape: Shape, operators: list[Factory]) -> None:
        shape = event_shape("signal_shape", signal_shape)
        _require_any("operators", operators)
        made = [
            _make(f"operators[{index}]", factory, shape) for index, factory in enumerate(operators)
        ]
        sizes = [math.prod(operator.measurement_shape) for operator in made]
        super().__init__(shape, (sum(sizes),))
        self._sizes = sizes
        self.operators: Sequence[LinearOperator] = _modules(_linear("operators", made))

    @property
    def view_shape(self) -> Shape:
        return self.signal_shape

    def view(self, y: Tensor) -> Tensor:
        """Aᵀy, the sum of the adjoints."""
        return self.A_adjoint(y)

    def split(self, y: Tensor) -> list[Tensor]:
        """The single measurements of `(..., m)`, each `(..., *its measurement_shape)`.

        Raises:
            ShapeError: If the last axis is not the measurement's.
        """
        require_event("y", y, self.measurement_shape)
        return [
            part.unflatten(-1, operator.measurement_shape)
            for part, operator in zip(y.split(self._sizes, -1), self.operators, strict=True)
        ]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """One flat measurement `(..., m)` of single ones, the inverse of `split`.

        Raises:
            ShapeError: If a part is missing or does not fit its operator.
        """
        if len(parts) != len(self.operators):
            raise ShapeError(
                "parts",
                f"{len(self.operators)} measurements",
                len(parts),
                "Give one per operator, in their order.",
            )
        for index, (part, operator) in enumerate(zip(parts, self.operators, strict=True)):
            require_event(f"parts[{index}]", part, operator.measurement_shape)
        flat = [
            part.flatten(-len(operator.measurement_shape))
            for part, operator in zip(parts, self.operators, strict=True)
        ]
        return torch.cat(flat, -1)

    def _map(self, x: Tensor) -> Tensor:
        return torch.cat([operator._map(x).flatten(1) for operator in self.operators], -1)

    def _map_adjoint(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, self.split(y), strict=True)
        return torch.stack([operator._map_adjoint(part) for operator, part in parts]).sum(0)


def _in_sequence(signal_shape: Shape, steps: Sequence[Factory]) -> list[Operator]:
    shape = event_shape("signal_shape", signal_shape)
    _require_any("steps", steps)
    made = []
    for index, factory in enumerate(steps):
        made.append(_make(f"steps[{index}]", factory, shape))
        shape = made[-1].measurement_shape
    return made


def _make(argument: str, factory: Factory, shape: Shape) -> Operator:
    operator = factory(shape)
    if operator.signal_shape != shape:
        raise ShapeError(
            argument,
            f"an operator of signals {shape}",
            f"{type(operator).__name__} of signals {operator.signal_shape}",
            "Give a function of the shape, such as `lambda shape: Identity(shape)`.",
        )
    return operator


def _require_any(argument: str, factories: Sequence[Factory]) -> None:
    if not factories:
        raise ConfigError(argument, "at least one operator", "none", "Use `Identity` for none.")


def _linear(argument: str, operators: Sequence[Operator]) -> list[LinearOperator]:
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    if len(linear) != len(operators):
        other = next(op for op in operators if not isinstance(op, LinearOperator))
        raise UnsupportedError(
            argument,
            "linear operators",
            type(other).__name__,
            "Put operators that are not linear into a `Chain`.",
        )
    return linear


def _modules(operators: Sequence[Operator]) -> Any:  # a list of modules forgets their type
    return nn.ModuleList(operators)
