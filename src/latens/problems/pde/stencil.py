"""Symmetric nine-point matrices on a grid, as five numbers per node.

Bilinear elements couple a node with its eight neighbours. A symmetric matrix K is stored as
`entries`, `(B, 5, H, W)`: entry s of node n is K[n, n + OFFSETS[s]], zero where that neighbour
lies outside the grid. Fields are `(B, k, H, W)`, k right-hand sides at a time.

Two bilinear maps do all the work, and each is the other's derivative:

    apply(K, u) = K u,    couple(v, u) = ∂⟨v, K u⟩ / ∂K,    ⟨v, apply(K, u)⟩ = ⟨K, couple(v, u)⟩
"""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor, Tensor], Tensor]

OFFSETS = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours (rows, columns) whose couplings are stored; the others follow by symmetry."""


def apply(entries: Tensor, field: Tensor) -> Tensor:
    """Product K u, differentiable to any order in both arguments.

    Args:
        entries: K, `(B, 5, H, W)`.
        field: u, `(B, k, H, W)`.

    Returns:
        `(B, k, H, W)`.
    """
    return _Apply.apply(entries, field)


def couple(first: Tensor, second: Tensor) -> Tensor:
    """Derivative of ⟨v, K u⟩ with respect to the entries of K, symmetric in v and u.

    Args:
        first: v, `(B, k, H, W)`.
        second: u, `(B, k, H, W)`.

    Returns:
        `(B, 5, H, W)`, summed over k.
    """
    return _Couple.apply(first, second)


def flatten_batch(info, in_dims, *values: Tensor) -> list[Tensor]:
    """Arguments of a batched function, the axis of `vmap` merged into their batch axis."""
    flat = []
    for value, axis in zip(values, in_dims, strict=True):
        moved = (
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
        )
        flat.append(moved.flatten(0, 1))
    return flat


def _overlap(offset: tuple[int, int], shape: torch.Size) -> tuple[tuple, tuple]:
    """Slices of the nodes that have a neighbour at `offset`, and of these neighbours."""
    dy, dx = offset
    height, width = shape
    here = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
    there = slice(dy, height), slice(max(0, dx), width - max(0, -dx))
    return here, there


def _product(entries: Tensor, field: Tensor) -> Tensor:
    out = entries[:, :1] * field
    for s, offset in enumerate(OFFSETS[1:], 1):
        here, there = _overlap(offset, field.shape[2:])
        weight = entries[:, s : s + 1, *here]
        out[:, :, *here].addcmul_(weight, field[:, :, *there])
        out[:, :, *there].addcmul_(weight, field[:, :, *here])
    return out


def _coupled(first: Tensor, second: Tensor) -> Tensor:
    out = first.new_zeros(len(first), len(OFFSETS), *first.shape[2:])
    out[:, 0] = (first * second).sum(1)
    for s, offset in enumerate(OFFSETS[1:], 1):
        here, there = _overlap(offset, first.shape[2:])
        products = first[:, :, *here] * second[:, :, *there]
        products.addcmul_(first[:, :, *there], second[:, :, *here])
        torch.sum(products, 1, out=out[:, s, *here])
    return out


def _bilinear(
    value: Map, function: Map, to_first: Map, to_second: Map
) -> type[torch.autograd.Function]:
    """A bilinear map with its derivatives.

    Args:
        value: The map of plain tensors.
        function: The map as a differentiable function.
        to_first: Gradient of its first argument, of the outer gradient and the second.
        to_second: Gradient of its second argument, of the outer gradient and the first.
    """

    class Bilinear(torch.autograd.Function):
        @staticmethod
        def forward(first, second):
            return value(first, second)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, *grad_outputs):
            first, second = ctx.saved_tensors
            (grad,) = grad_outputs
            return (
                to_first(grad, second) if ctx.needs_input_grad[0] else None,
                to_second(grad, first) if ctx.needs_input_grad[1] else None,
            )

        @staticmethod
        def jvp(ctx, *tangents):
            first, second = ctx.saved_tensors
            return _sum(
                [
                    None if tangents[0] is None else function(tangents[0], second),
                    None if tangents[1] is None else function(first, tangents[1]),
                ]
            )

        @staticmethod
        def vmap(info, in_dims, *values):
            out = function(*flatten_batch(info, in_dims, *values))
            return out.unflatten(0, (info.batch_size, -1)), 0

    return Bilinear


def _sum(parts: list[Tensor | None]) -> Tensor:
    present = [part for part in parts if part is not None]
    return present[0] if len(present) == 1 else present[0] + present[1]


_Apply = _bilinear(_product, apply, couple, lambda grad, entries: apply(entries, grad))
_Couple = _bilinear(_coupled, couple, apply, apply)
