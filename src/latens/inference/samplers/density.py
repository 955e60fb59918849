"""A log-density with its gradient, for all chains of all problems in one call."""

from collections.abc import Callable

import torch
from torch import Tensor

from latens.errors import ShapeError

LogDensity = Callable[[Tensor], Tensor]
"""`(C, d)` → `(C,)`, nats up to a constant; the value of a row depends on that row alone."""


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


def finite_or_lowest(value: Tensor) -> Tensor:
    """The value, or −∞ where it is NaN or +∞."""
    return torch.where(value.isnan() | value.isposinf(), -torch.inf, value)
