"""Batched direct solves with nine-point matrices, by banded Cholesky factorisation.

The interior nodes, numbered row by row, make K_II a band matrix of half-width W − 1. LAPACK
factorises and solves one matrix at a time; on grids of a few thousand nodes that beats sparse
factorisations, dense ones, and block elimination batched over the coefficients (measured in
`benchmarks/pde_solvers.py`). A factor is computed once and serves the solution, its tangents and
its adjoints.

LAPACK solves one right-hand side after the other. From a few on, sweeps over rows of nodes are
faster: seen in blocks of one row, the factor is block bidiagonal, with triangular blocks L_i on
its diagonal and M_i below,

    L_i x_i = b_i − M_{i−1} x_{i−1},    then    L_iᵀ x_i = x_i − M_iᵀ x_{i+1},

and every step is one product for all coefficients and right-hand sides.

Everything runs in float64 on the CPU: high contrasts cost half of the digits. Tensors of another
device are moved there and back.
"""

import numpy as np
import torch
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from latens.errors import NumericalError
from latens.problems.pde.stencil import apply, couple, flatten_batch

_factorise, _substitute = get_lapack_funcs(("pbtrf", "pbtrs"), dtype=np.float64)

SWEEP_FROM = 4
"""Number of right-hand sides from which sweeps are faster than LAPACK's band solver."""


def solve_interior(entries: Tensor, right: Tensor) -> Tensor:
    """Solution of K_II x = b, differentiable to any order in K and b.

    Args:
        entries: K on the whole grid, `(B, 5, H, W)`, float64, positive definite on the interior.
        right: b, `(B, k, H − 2, W − 2)`, float64.

    Returns:
        x, shape of `right`.

    Raises:
        NumericalError: If K_II is not positive definite to rounding.
    """
    return _Solve.apply(entries, _Factor.apply(entries.detach()), right)


def padded(interior: Tensor) -> Tensor:
    """A field with zeros on the boundary, `(B, k, H − 2, W − 2)` → `(B, k, H, W)`."""
    return torch.nn.functional.pad(interior, (1, 1, 1, 1))


def _band(entries: Tensor) -> Tensor:
    """Lower bands of K_II, one column of LAPACK's storage per node, `(B, nodes, W)`."""
    count, _, height, width = entries.shape
    centre, right, above, above_right, above_left = entries[:, :, 1:-1, 1:-1].cpu().unbind(1)
    band = entries.new_zeros(count, height - 2, width - 2, width, device="cpu")
    band[..., 0] = centre
    # Sums, since diagonals coincide where a row has one or two nodes.
    band[..., :-1, 1] += right[..., :-1]
    band[..., :-1, :, width - 2] += above[..., :-1, :]
    band[..., :-1, :-1, width - 1] += above_right[..., :-1, :-1]
    band[..., :-1, 1:, width - 3] += above_left[..., :-1, 1:]
    return band.flatten(1, 2)


def _solve_each(factors: Tensor, right: Tensor) -> Tensor:
    solution = right.clone(memory_format=torch.contiguous_format)
    for factor, rows in zip(factors.numpy(), solution.flatten(2).numpy(), strict=True):
        _substitute(factor.T, rows.T, lower=1, overwrite_b=1)  # in place: `rows` is C order
    return solution


def _sweep(factors: Tensor, right: Tensor) -> Tensor:
    factors = factors.contiguous()
    count, _, rows, width = right.shape
    # Entry (r, c) of a block stands r − c places behind the diagonal of its column c.
    shape = (rows, count, width, width)
    strides = (width * (width + 2), factors.stride(0), 1, width + 1)
    diagonal = factors.as_strided(shape, strides)  # its upper triangle is never read
    below = factors.as_strided((rows - 1, *shape[1:]), strides, width).triu(-1)
    x = right.permute(2, 0, 3, 1).contiguous()  # (rows, B, width, k)
    for i in range(rows):
        if i:
            x[i].baddbmm_(below[i - 1], x[i - 1], alpha=-1)
        torch.linalg.solve_triangular(diagonal[i], x[i], upper=False, out=x[i])
    for i in reversed(range(rows)):
        if i + 1 < rows:
            x[i].baddbmm_(below[i].mT, x[i + 1], alpha=-1)
        torch.linalg.solve_triangular(diagonal[i].mT, x[i], upper=True, out=x[i])
    return x.permute(1, 3, 0, 2)


class _Factor(torch.autograd.Function):
    """Cholesky factors `(B, nodes, W)` on the CPU; they carry no derivative of their own."""

    @staticmethod
    def forward(entries):
        factors = _band(entries)
        for row in factors.numpy():
            _, info = _factorise(row.T, lower=1, overwrite_ab=1)  # in place: `row` is C order
            if info:
                raise NumericalError(
                    "x",
                    "a coefficient whose system of equations is positive definite in float64",
                    f"a pivot that is not positive, number {info}",
                    "Check the field for values that span more than ten orders of magnitude.",
                )
        return factors

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, *values):
        out = _Factor.apply(*flatten_batch(info, in_dims, *values))
        return out.unflatten(0, (info.batch_size, -1)), 0


class _Solve(torch.autograd.Function):
    """x = K_II⁻¹ b; tangent and adjoint solves use the same factor."""

    @staticmethod
    def forward(entries, factors, right):
        solve = _solve_each if right.shape[1] < SWEEP_FROM else _sweep
        return solve(factors, right.cpu()).to(right.device)

    @staticmethod
    def setup_context(ctx, inputs, output):
        entries, factors, _ = inputs
        ctx.save_for_backward(entries, factors, output)
        ctx.save_for_forward(entries, factors, output)

    @staticmethod
    def backward(ctx, *grad_outputs):
        entries, factors, solution = ctx.saved_tensors
        adjoint = _Solve.apply(entries, factors, grad_outputs[0])
        grad_entries = None
        if ctx.needs_input_grad[0]:
            grad_entries = -couple(padded(adjoint), padded(solution))
        return grad_entries, None, adjoint

    @staticmethod
    def jvp(ctx, *tangents):
        entries, factors, solution = ctx.saved_tensors
        right = tangents[2]
        if tangents[0] is not None:
            change = apply(tangents[0], padded(solution))[..., 1:-1, 1:-1]
            right = -change if right is None else right - change
        return _Solve.apply(entries, factors, right)

    @staticmethod
    def vmap(info, in_dims, *values):
        out = _Solve.apply(*flatten_batch(info, in_dims, *values))
        return out.unflatten(0, (info.batch_size, -1)), 0
