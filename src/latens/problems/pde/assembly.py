"""What scikit-fem assembles once: how stiffness matrices and loads depend on their coefficients.

The stiffness matrix of bilinear elements is linear in the coefficient,

    K_ij(a) = Σ_k a_k ∫ ψ_k ∇φ_i · ∇φ_j dx,

so one sparse matrix maps every coefficient to the entries of its K; see
`latens.problems.pde.stencil` for their order.
"""

from typing import Literal

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array, kron
from skfem import (
    Basis,
    BilinearForm,
    Element,
    ElementQuad0,
    ElementQuad1,
    MeshQuad,
    TrilinearForm,
)

from latens.errors import ConfigError
from latens.problems.pde.grid import Grid
from latens.problems.pde.stencil import OFFSETS

Coefficient = Literal["nodal", "element"]
"""Where the values of a coefficient stand: on nodes (bilinear between), or one per element."""


def coefficient_grid(shape: tuple[int, ...], coefficient: Coefficient) -> Grid:
    """Grid of nodes that belongs to a coefficient of some shape `(height, width)`.

    Raises:
        ConfigError: If the kind of coefficient is unknown, or there are too few nodes.
    """
    if coefficient not in ("nodal", "element"):
        raise ConfigError("coefficient", "'nodal' or 'element'", repr(coefficient), "Choose one.")
    extra = int(coefficient == "element")
    return Grid(shape[0] + extra, shape[1] + extra)


def stiffness_map(grid: Grid, coefficient: Coefficient, refine: int) -> csr_array:
    """Matrix from a coefficient to the entries of K on the refined grid.

    Args:
        grid: Nodes of the coefficient's grid.
        coefficient: Where its values stand.
        refine: Elements of the mesh per element of the grid, along each axis.

    Returns:
        `(5 · fine nodes, values of the coefficient)`.
    """
    fine = grid.refined(refine)
    solution = _basis(fine, ElementQuad1())
    nodal = coefficient == "nodal"
    parameter = solution if nodal else solution.with_element(ElementQuad0())
    form = TrilinearForm(_energy)
    data = form.coo_data(solution, solution, parameter)
    nodes = _positions(solution, fine.width)
    owners = nodes if nodal else _positions(parameter, fine.width - 1)
    column, row, neighbour = (
        owners[data.indices[0]],
        nodes[data.indices[1]],
        nodes[data.indices[2]],
    )
    slots = []
    for s, (dy, dx) in enumerate(OFFSETS):
        taken = neighbour - row == dy * fine.width + dx
        entry = s * fine.nodes + row[taken]
        slots.append((data.data[taken], entry, column[taken]))
    values, entry, column = (np.concatenate(parts) for parts in zip(*slots, strict=True))
    shape = (len(OFFSETS) * fine.nodes, owners.size)
    local = csr_array(coo_array((values, (entry, column)), shape))
    spread = grid.prolongation(refine) if nodal else _repetition(grid, refine)
    return csr_array(local @ spread)


def product_map(field: np.ndarray, grid: Grid) -> csr_array:
    """Matrix from the entries of any K to K u for a fixed u, `(nodes, 5 · nodes)`.

    Args:
        field: u, `(nodes,)`.
    """
    columns = np.arange(grid.nodes) % grid.width
    parts = []
    for s, (dy, dx) in enumerate(OFFSETS):
        shift = dy * grid.width + dx
        inside = (columns + dx >= 0) & (columns + dx < grid.width)
        here = np.flatnonzero(inside & (np.arange(grid.nodes) + shift < grid.nodes))
        there = here + shift
        entry = s * grid.nodes + here
        parts.append((field[there], here, entry))
        if s:
            parts.append((field[here], there, entry))
    values, rows, entries = (np.concatenate(part) for part in zip(*parts, strict=True))
    matrix = csr_array((values, (rows, entries)), (grid.nodes, len(OFFSETS) * grid.nodes))
    matrix.eliminate_zeros()
    return matrix


def mass_map(grid: Grid, refine: int) -> csr_array:
    """Matrix from a source on the nodes of a grid to its load ∫ f φ_i dx on the refined grid.

    Returns:
        `(fine nodes, nodes)`.
    """
    fine = grid.refined(refine)
    basis = _basis(fine, ElementQuad1())
    mass = BilinearForm(lambda u, v, w: u * v).assemble(basis).tocoo()
    nodes = _positions(basis, fine.width)
    ordered = coo_array((mass.data, (nodes[mass.row], nodes[mass.col])), mass.shape)
    return csr_array(csr_array(ordered) @ grid.prolongation(refine))


def _energy(u, v, a, _):
    """a ∇u · ∇v, as scikit-fem calls a form."""
    return a * np.einsum("i...,i...", u.grad, v.grad)


def _basis(grid: Grid, element: Element) -> Basis:
    x, y = (np.arange(count) / (count - 1) for count in (grid.width, grid.height))
    # Exact for the cubic integrands along each axis of a bilinear coefficient.
    return Basis(MeshQuad.init_tensor(x, y), element, intorder=4)


def _positions(basis: Basis, width: int) -> np.ndarray:
    """Flat index in an array with `width` columns of every degree of freedom."""
    x, y = basis.doflocs
    columns, rows = (np.unique(np.round(t, 12), return_inverse=True)[1] for t in (x, y))
    flat = rows * width + columns
    return flat


def _repetition(grid: Grid, refine: int) -> csr_array:
    """Matrix that gives every element of the refined grid the value of the one around it."""
    ones = np.ones((refine, 1))
    vertical, horizontal = (
        kron(eye_array(count - 1), ones) for count in (grid.height, grid.width)
    )
    return csr_array(kron(vertical, horizontal))
