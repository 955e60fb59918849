"""Linear maps of tensors, with derivatives of every order in every mode."""

import torch
from torch import Tensor

from latens.problems.linear_solve import Map


class LinearMap(torch.autograd.Function):
    """Differentiable application of a linear map that is given by two callables.

    Both callables take and return tensors with any leading axes; each is the other's adjoint.
    """

    @staticmethod
    def forward(value, apply, adjoint):
        return apply(value)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.map, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx, *grad_outputs):
        return LinearMap.apply(grad_outputs[0], ctx.adjoint, ctx.map), None, None

    @staticmethod
    def jvp(ctx, *grad_inputs):
        return LinearMap.apply(grad_inputs[0], ctx.map, ctx.adjoint)

    @staticmethod
    def vmap(info, in_dims, value, apply, adjoint):
        return LinearMap.apply(value.movedim(in_dims[0], 0), apply, adjoint), 0


def linear_map(value: Tensor, apply: Map, adjoint: Map) -> Tensor:
    """Apply a linear map; `LinearMap` gives its derivatives, save where a compiler traces.

    A compiler traces the kernels themselves but no function with a jvp; what it loses is
    forward mode inside compiled code.
    """
    if torch.compiler.is_compiling():
        return apply(value)
    return LinearMap.apply(value, apply, adjoint)
