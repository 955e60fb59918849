"""Checks of values that also run under `torch.func`, where tensors hide theirs."""

from collections.abc import Callable

import torch
from torch import Tensor

from latens.errors import DataError


class _Inspection(torch.autograd.Function):
    """Hand the plain values of a tensor to a callable that raises or does nothing."""

    @staticmethod
    def forward(value, check):
        check(value)
        return value.new_zeros(())

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, value, check):
        return _Inspection.apply(value, check), None


def inspect(value: Tensor, check: Callable[[Tensor], None]) -> None:
    """Run a check on the values of a tensor, inside `vmap`, `grad` and `jvp` as outside.

    Args:
        value: Any tensor; its derivatives are not touched.
        check: Called with the values, with further leading axes under `vmap`; raises or returns.
    """
    _Inspection.apply(value.detach(), check)


def require_finite(value: Tensor) -> None:
    """Check an input of a solver.

    Raises:
        DataError: If a value is NaN or infinite.
    """
    broken = int((~torch.isfinite(value)).sum())
    if broken:
        raise DataError(
            "x",
            "finite values",
            f"{broken} NaN or infinite values",
            "Check what made the field.",
        )


def require_positive(value: Tensor) -> None:
    """Check a coefficient a of −∇·(a ∇u).

    Raises:
        DataError: If a value is NaN, infinite, zero or negative.
    """
    require_finite(value)
    smallest = value.min().item() if value.numel() else 1.0
    if smallest <= 0:
        raise DataError(
            "x",
            "a positive coefficient, else the equation has no unique solution",
            f"a smallest value of {smallest:g}",
            "Give the field itself, not its logarithm; exponentiate it, or clamp it from below.",
        )
