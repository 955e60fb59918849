"""Energy of diffusion: solutions are its minimum.

    J(u) = ∫ ½ a |∇u|² − f u dx,   over all u with the given boundary values

J(v) − J(u) = ½ ∫ a |∇(v − u)|² dx for the solution u of −∇·(a ∇u) = f (Dirichlet's principle), so
that the energies of two approximations tell which is nearer without any solution being known.
Unlike residuals against a finite number of test functions, it leaves no error unseen.

References:
    E, Yu (2018), The deep Ritz method, https://doi.org/10.1007/s40304-018-0127-z.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Energy:
    """J of a batch of coefficients as weighted sums over points, each divided by its mean of a.

    Args:
        points: Quadrature points, `(P, 2)`.
        stiffness: Weight × a / mean of a, `(B, P)`.
        load: Weight × f / mean of a, `(B, P)`.
    """

    points: Tensor
    stiffness: Tensor
    load: Tensor

    def value(self, u: Tensor, gradient: Tensor) -> Tensor:
        """J, `(B, patterns)`, of u `(B, patterns, P)` with gradients `(B, patterns, 2, P)`."""
        dense = 0.5 * self.stiffness[:, None] * gradient.square().sum(-2)
        return (dense - self.load[:, None] * u).sum(-1)


def cell_quadrature(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two by two Gauss points in every cell between the nodes of a grid on the unit square.

    Exact where a function is bilinear times linear in each cell: a bilinear interpolant of nodes
    has its kinks between cells only.

    Returns:
        Points (x, y), `(4 (height − 1)(width − 1), 2)`, float64, and their equal weights.
    """
    shift = 0.5 / math.sqrt(3)
    gauss = torch.tensor([0.5 - shift, 0.5 + shift], dtype=torch.float64)
    y, x = (
        ((torch.arange(nodes - 1)[:, None] + gauss) / (nodes - 1)).flatten()
        for nodes in (height, width)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    points = torch.stack([x, y], -1).reshape(-1, 2)
    return points, torch.full((len(points),), 1 / len(points), dtype=torch.float64)
