"""Batched solutions of −∇·(a ∇u) = f on the unit square, for many coefficients at once.

Bilinear elements; u is given on the boundary. With K(a) the stiffness matrix and I, B the
interior and boundary nodes,

    K_II(a) u_I = f_I − K_IB(a) u_B.

Its sparsity and dependence on a are assembled once. A tangent in a solves
K_II du_I = −(K(da) u)_I, an adjoint solves K_II λ = w and gives −λᵀ ∂K(a) u: both reuse what was
eliminated for u, so derivatives are those of the discrete problem, to rounding.
"""

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, vstack
from torch import Tensor

from latens.problems.pde.assembly import (
    Coefficient,
    coefficient_grid,
    mass_map,
    product_map,
    stiffness_map,
)
from latens.problems.pde.band_solve import padded, solve_interior
from latens.problems.pde.grid import Grid
from latens.problems.pde.inspection import inspect, require_positive
from latens.problems.pde.sparse_map import SparseMap
from latens.problems.pde.stencil import OFFSETS, apply


class Diffusion:
    """Discrete operator −∇·(a ∇·) and its solutions.

    Fields are `(B, k, H, W)`, k solutions per coefficient, on the refined grid `fine`; everything
    is float64. Coefficients are flat, `(B, values)`.

    Args:
        shape: Height and width of the array that holds a coefficient.
        coefficient: `nodal`: values on nodes, bilinear between them; `element`: one value per
            element, constant on it.
        refine: Elements of the mesh per element of the coefficient's grid, along each axis. The
            coefficient is the same function on every mesh, so that refinement shows the
            discretisation error alone.

    Attributes:
        grid: Nodes of the coefficient's grid.
        fine: Nodes of the mesh.

    Raises:
        ConfigError: If a setting is unknown or the grid has no interior node.
    """

    def __init__(self, shape: tuple[int, int], coefficient: Coefficient, refine: int) -> None:
        self.grid = coefficient_grid(shape, coefficient)
        self.fine = self.grid.refined(refine)
        self.coefficient: Coefficient = coefficient
        self.refine = refine
        self._stiffness = SparseMap(stiffness_map(self.grid, coefficient, refine))
        self._boundary_mean = SparseMap(_boundary_mean(self.grid, refine))

    def entries(self, a: Tensor) -> Tensor:
        """Stiffness matrix of each coefficient, `(B, values)` → `(B, 5, H, W)`.

        Raises:
            DataError: If a coefficient is not finite and positive.
        """
        inspect(a, require_positive)
        return self._stiffness(a).unflatten(-1, (len(OFFSETS), self.fine.height, self.fine.width))

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """Solutions of K_II(a) u_I = b, zero on the boundary, `(B, k, H, W)`.

        Args:
            entries: K, `(B, 5, H, W)`.
            right: b, `(B, k, H − 2, W − 2)`.
        """
        return padded(solve_interior(entries, right))

    def boundary_load(self, boundary: Tensor) -> SparseMap:
        """Map from flat coefficients to −K_IB(a) u_B, `(B, values)` → `(B, k·(H − 2)·(W − 2))`.

        Args:
            boundary: Values of u on the boundary, zero inside, `(k, H, W)`.
        """
        stiffness = stiffness_map(self.grid, self.coefficient, self.refine)
        inner = np.arange(self.fine.nodes).reshape(self.fine.height, self.fine.width)[1:-1, 1:-1]
        rows = [
            -product_map(values.numpy().ravel(), self.fine)[inner.ravel()] @ stiffness
            for values in boundary
        ]
        return SparseMap(csr_array(vstack(rows)))

    def load(self, source: Tensor) -> Tensor:
        """∫ f φ_i dx of a source that is bilinear on the coefficient's grid, `(H, W)`.

        Args:
            source: f on the nodes of `grid`, `(height, width)`, float64.
        """
        mass = SparseMap(mass_map(self.grid, self.refine))
        return mass(source.flatten()).reshape(self.fine.height, self.fine.width)

    def scatter_boundary(self, values: Tensor) -> Tensor:
        """Field with given values on the boundary of the mesh and zero inside.

        Args:
            values: `(k, perimeter of fine)`, in the order of `Grid.boundary`.

        Returns:
            `(k, H, W)`.
        """
        field = values.new_zeros(len(values), self.fine.nodes)
        field[:, self.fine.boundary()] = values
        return field.unflatten(1, (self.fine.height, self.fine.width))

    def boundary_flux(self, entries: Tensor, field: Tensor) -> Tensor:
        """Mean of a ∂u/∂n around each boundary node of the coefficient's grid.

            y_i = ∫_∂Ω a ∂u/∂n ψ_i ds / ∫_∂Ω ψ_i ds

        ψ_i is the hat function of the boundary node, so that the weak form of the equation
        without source gives the numerator, (K u)_i on the mesh: the recovery is consistent,
        second-order accurate, conserves current (the numerators sum to zero), and as a map from
        boundary values symmetric. At a corner, where the flux jumps, it is the mean over both
        sides.

        Args:
            entries: K, `(B, 5, H, W)`.
            field: u, a solution without source, `(B, k, H, W)`.

        Returns:
            `(B, k, perimeter)`, in the order of `Grid.boundary`, outward positive, in units of
            a · u per length.
        """
        # The residual is needed on the rim alone, and two rows of nodes determine one.
        below = apply(entries[:, :, :2], field[:, :, :2])[:, :, 0]  # (B, k, W)
        above = apply(entries[:, :, -2:], field[:, :, -2:])[:, :, -1]
        left = apply(entries[..., :2], field[..., :2])[..., 0]  # (B, k, H)
        right = apply(entries[..., -2:], field[..., -2:])[..., -1]
        sides = [below[..., :-1], right[..., :-1], above[..., 1:].flip(-1), left[..., 1:].flip(-1)]
        return self._boundary_mean(torch.cat(sides, -1))

    def coarse(self, field: Tensor) -> Tensor:
        """Values on the nodes of the coefficient's grid, `(B, k, height, width)`."""
        return field[..., :: self.refine, :: self.refine]


def _boundary_mean(grid: Grid, refine: int) -> csr_array:
    """Sums over hats of the grid's boundary, divided by their integrals; `(perimeter, fine's)`."""
    edges = [1 / (grid.width - 1), 1 / (grid.height - 1)] * 2  # lower, right, upper, left
    counts = [grid.width - 1, grid.height - 1] * 2
    lengths = np.repeat(edges, counts)
    coarse = len(lengths)
    hats = _closed_hats(coarse, refine)
    return csr_array(diags_array(2 / (lengths + np.roll(lengths, 1))) @ hats)


def _closed_hats(count: int, refine: int) -> csr_array:
    """Values of the hats of `count` nodes on a closed curve at its refined nodes."""
    fine = np.arange(count * refine)
    left, share = fine // refine, fine % refine / refine
    rows = np.concatenate([left, (left + 1) % count])
    weights = np.concatenate([1 - share, share])
    hats = csr_array((weights, (rows, np.tile(fine, 2))), (count, count * refine))
    hats.eliminate_zeros()
    return hats
