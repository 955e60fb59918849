"""A log-density with its gradient, for all chains of all problems in one call.

Trajectories of different problems end at different steps. A density whose rows have data of their
own tells them apart (`RowsOfProblems`), so that problems which have arrived leave the batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latens.errors import ShapeError

LogDensity = Callable[[Tensor], Tensor]
"""`(C, d)` → `(C,)`, nats up to a constant; the value of a row depends on that row alone."""


class RowsOfProblems:
    """A log-density of rows with data of their own; the chains of a problem stand together.

    Args:
        function: Density of positions `(C, d)` given the data of their rows, `(C,)`.
        data: Tensors with one row per problem, `(P, …)` each.
        chains: Chains per problem.

    Attributes:
        problems: Their number P.
    """

    def __init__(
        self, function: Callable[..., Tensor], data: Sequence[Tensor], chains: int
    ) -> None:
        self._function, self._data, self._chains = function, tuple(data), chains
        self._rows = tuple(value.repeat_interleave(chains, 0) for value in self._data)
        self.problems = len(self._data[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Log-density of all rows, `(P K, d)` → `(P K,)`."""
        return self._function(x, *self._rows)

    def of(self, problems: Tensor) -> "RowsOfProblems":
        """The density of some of the problems, by their numbers `(Q,)`."""
        data = [value[problems] for value in self._data]
        return RowsOfProblems(self._function, data, self._chains)

    def of_rows(self, rows: Tensor) -> "RowsOfProblems":
        """The density of some of the rows, by their numbers `(Q,)`, each a problem of its own."""
        return RowsOfProblems(self._function, [value[rows] for value in self._rows], 1)


def value_and_gradient(log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and its gradient at every row.

    Args:
        log_density: Density of the rows.
        x: Positions, `(C, d)`.

    Returns:
        `(C,)` and `(C, d)`. A value that is NaN or +∞ is returned as −∞: such a point is never
        accepted.

    Raises:
        ShapeError: If the log-density does not return one number per row.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = log_density(x)
        if value.shape != x.shape[:1]:
            raise ShapeError(
                "log_density",
                f"one number per row, ({len(x)},)",
                tuple(value.shape),
                "Sum over the last axis and keep the first.",
            )
        # Rows do not depend on each other, so the gradient of the sum is that of each row.
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return finite_or_lowest(value.detach()), gradient


def value_and_gradient_of(
    log_density: LogDensity, x: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-density and its gradient of some rows; −∞ and 0 of others where that spares work.

    Args:
        log_density: Density of all rows.
        x: Positions, `(C, d)`.
        rows: Rows that are needed, `(C,)`.
    """
    if not isinstance(log_density, RowsOfProblems) or bool(rows.all()):
        return value_and_gradient(log_density, x)
    numbers = rows.nonzero()[:, 0]
    value, gradient = x.new_full(rows.shape, -torch.inf), torch.zeros_like(x)
    value[rows], gradient[rows] = value_and_gradient(log_density.of_rows(numbers), x[numbers])
    return value, gradient


def finite_or_lowest(value: Tensor) -> Tensor:
    """The value, or −∞ where it is NaN or +∞."""
    return torch.where(value.isnan() | value.isposinf(), -torch.inf, value)
