"""Darcy and EIT against manufactured solutions, scikit-fem, and laws of the continuous problem."""

import itertools
import math

import numpy as np
import pytest
import skfem
import torch
from skfem.helpers import dot, grad

from latens.problems.pde import EIT, Darcy, Grid
from latens.problems.pde.diffusion import Diffusion
from problems.operator_cases import normal
from problems.pde.pde_cases import SENSORS, signal


def fem(a, source, boundary, coefficient="nodal", refine=1):
    """Solution by scikit-fem, assembled for one coefficient, `(height, width)` of its mesh.

    Coefficient, source and boundary are functions of (x, y), `coefficient` on the coarse grid.
    """
    height, width = (n + (coefficient == "element") for n in a.shape)
    axes = [np.linspace(0, 1, n) for n in (width, height)]
    coarse = skfem.Basis(
        skfem.MeshQuad.init_tensor(*axes),
        skfem.ElementQuad1() if coefficient == "nodal" else skfem.ElementQuad0(),
    )
    x, y = coarse.doflocs
    shift = 0 if coefficient == "nodal" else 0.5
    values = a.numpy()[
        np.round(y * (height - 1) - shift).astype(int),
        np.round(x * (width - 1) - shift).astype(int),
    ]
    fine_axes = [np.linspace(0, 1, refine * (n - 1) + 1) for n in (width, height)]
    mesh = skfem.MeshQuad.init_tensor(*fine_axes)
    basis = skfem.Basis(mesh, skfem.ElementQuad1(), intorder=5)
    points = basis.global_coordinates()
    at_points = coarse.probes(np.asarray(points).reshape(2, -1)) @ values
    at_points = at_points.reshape(points.shape[1:])
    stiffness = skfem.BilinearForm(lambda u, v, w: w.a * dot(grad(u), grad(v))).assemble(
        basis, a=at_points
    )
    load = skfem.LinearForm(lambda v, w: source(*w.x) * v).assemble(basis)
    start = boundary(*mesh.p)
    u = skfem.solve(*skfem.condense(stiffness, load, x=start, D=mesh.boundary_nodes()))
    order = np.lexsort(mesh.p)
    shape = (len(fine_axes[1]), len(fine_axes[0]))
    residual = (stiffness @ u)[order].reshape(shape)
    return torch.from_numpy(u[order].reshape(shape)), torch.from_numpy(residual)


@pytest.mark.parametrize(
    ("shape", "coefficient", "refine"),
    [((7, 6), "nodal", 1), ((4, 5), "nodal", 3), ((5, 4), "element", 1), ((4, 3), "element", 2)],
)
def test_solutions_are_those_of_scikit_fem(shape, coefficient, refine):
    darcy = Darcy((1, *shape), source=3.0, coefficient=coefficient, refine=refine)
    eit = EIT((1, *shape), [3, 8, 9, 16], coefficient=coefficient, refine=refine)
    a = signal(darcy, 2)
    pressures, potentials, fluxes = darcy(a), eit.potential(a), eit(a)
    for k in range(2):
        u, _ = fem(a[k, 0], lambda x, y: 3 + 0 * x, lambda x, y: 0 * x, coefficient, refine)
        torch.testing.assert_close(pressures[k, 0], u[::refine, ::refine], atol=1e-13, rtol=1e-11)
        for i, number in enumerate(eit.patterns):
            angle = math.pi * number / 20

            def pattern(x, y, angle=angle):
                return np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)))

            u, residual = fem(a[k, 0], lambda x, y: 0 * x, pattern, coefficient, refine)
            torch.testing.assert_close(potentials[k, i], u[::refine, ::refine])
            if refine == 1:
                rim = residual.flatten()[eit.diffusion.grid.boundary()]
                ones = boundary_lengths(eit.diffusion.grid)
                torch.testing.assert_close(fluxes[k, i], rim / ones, atol=1e-11, rtol=1e-10)


def boundary_lengths(grid: Grid) -> torch.Tensor:
    """∫ ψ_i ds of every boundary node: half of both edges that meet there."""
    points = grid.points()[grid.boundary()]
    edges = (points.roll(-1, 0) - points).norm(dim=1)
    return (edges + edges.roll(1)) / 2


def test_sensors_read_the_interpolant_of_scikit_fem():
    operator = Darcy((1, 6, 7), SENSORS, refine=2)
    a = signal(operator)
    u, _ = fem(a[0], lambda x, y: 10 + 0 * x, lambda x, y: 0 * x, refine=2)
    axes = [np.linspace(0, 1, n) for n in (13, 11)]
    basis = skfem.Basis(skfem.MeshQuad.init_tensor(*axes), skfem.ElementQuad1())
    place = np.lexsort(basis.doflocs)
    values = np.empty(place.size)
    values[place] = u.numpy().ravel()
    expected = basis.probes(np.array(SENSORS).T) @ values
    np.testing.assert_allclose(operator(a).numpy(), expected, rtol=1e-10)


def test_sensors_on_nodes_and_corners_read_the_nodes():
    grid = Grid(5, 7)
    eit = EIT((1, 5, 7), [1, 2, 3], sensors=grid.points())
    a = signal(eit, 2)
    torch.testing.assert_close(eit(a), eit.potential(a).flatten(-2), atol=0, rtol=0)


def harmonic(solver: Diffusion, a: torch.Tensor, values: torch.Tensor):
    """Stiffness and solution without source for given boundary values `(k, perimeter)`."""
    boundary = solver.scatter_boundary(values)
    entries = solver.entries(a)
    inner = (len(values), solver.fine.height - 2, solver.fine.width - 2)
    load = solver.boundary_load(boundary)(a).unflatten(-1, inner)
    return entries, solver.solve(entries, load) + boundary


def rates(errors: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def test_darcy_converges_with_second_order():
    # a = 1 + x/2 + y², u = sin(πx) sin(2πy), f = −∇·(a ∇u)
    errors = []
    for n in (9, 17, 33):
        x, y = Grid(n, n).points().mT.reshape(2, n, n)
        a = 1 + x / 2 + y.square()
        u = (math.pi * x).sin() * (2 * math.pi * y).sin()
        u_x = math.pi * (math.pi * x).cos() * (2 * math.pi * y).sin()
        u_y = 2 * math.pi * (math.pi * x).sin() * (2 * math.pi * y).cos()
        source = 5 * math.pi**2 * a * u - u_x / 2 - 2 * y * u_y
        found = Darcy((1, n, n), source=source)(a[None])[0]
        errors.append((found - u).norm().item() / u.norm().item())
    assert errors[-1] < 4e-3
    assert all(1.9 < rate < 2.1 for rate in rates(errors))


def flux_errors(refines: bool) -> tuple[list[float], list[float]]:
    """Errors of fluxes and potentials for a = exp(x), u = exp(κx − x/2) cos(ωy), κ² = ω² + ¼.

    Fluxes are compared with means of the exact one over the hats of the boundary nodes, on all
    nodes, corners included, where the flux jumps.
    """
    omega = 2.0
    exponent = math.sqrt(omega**2 + 0.25) - 0.5
    fluxes, potentials = [], []
    for level in (1, 2, 4):
        n, refine = (9, level) if refines else (8 * level + 1, 1)
        solver = Diffusion((n, n), "nodal", refine)
        fine = solver.fine
        x, y = fine.points().mT
        u = (exponent * x).exp() * (omega * y).cos()
        rim = fine.boundary()
        grid_x = solver.grid.points()[:, 0]
        entries, field = harmonic(solver, grid_x.exp()[None], u[rim][None])
        potentials.append((field.flatten() - u).norm().item() / u.norm().item())
        found = solver.boundary_flux(entries, field)[0, 0]
        exact = hat_means(solver.grid, exponent, omega)
        fluxes.append(((found - exact).norm() / exact.norm()).item())
    return fluxes, potentials


def hat_means(grid: Grid, exponent: float, omega: float) -> torch.Tensor:
    """Means of a ∂u/∂n over the hats of the boundary nodes, by Gauss quadrature of each edge."""
    points = grid.points()[grid.boundary()].numpy()
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total, length = np.zeros(len(points)), np.zeros(len(points))
    for i in range(len(points)):
        j = (i + 1) % len(points)
        edge = points[j] - points[i]
        size = np.linalg.norm(edge)
        normal_vector = np.array([edge[1], -edge[0]]) / size  # outward: counter-clockwise
        for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            x, y = points[i] + t * edge
            common = np.exp(x) * np.exp(exponent * x)
            gradient = (
                exponent * np.cos(omega * y) * common,
                -omega * np.sin(omega * y) * common,
            )
            flux = np.dot(gradient, normal_vector) * weight * size
            total[i] += (1 - t) * flux
            total[j] += t * flux
        length[i] += size / 2
        length[j] += size / 2
    return torch.from_numpy(total / length)


def test_fluxes_converge_with_second_order():
    fluxes, potentials = flux_errors(refines=False)
    assert fluxes[-1] < 2e-3
    assert all(1.8 < rate < 2.3 for rate in rates(fluxes))
    assert all(1.85 < rate < 2.1 for rate in rates(potentials))


def test_refinement_converges_to_the_solution_of_the_given_coefficient():
    # the coefficient is its own interpolant on every mesh, so only discretisation error falls
    operator = Darcy((1, 5, 5), refine=16)
    a = signal(operator)
    reference = operator(a)
    errors = [(Darcy((1, 5, 5), refine=r)(a) - reference).norm().item() for r in (1, 2, 4)]
    assert all(1.6 < rate < 2.4 for rate in rates(errors))


def test_affine_solutions_are_exact():
    # a harmonic function that the elements contain: potential and fluxes have no error
    solver = Diffusion((5, 7), "nodal", 2)
    x, y = solver.fine.points().mT
    u = 1 + 2 * x - 3 * y
    a = torch.full((1, 35), 4.0, dtype=torch.float64)
    entries, field = harmonic(solver, a, u[solver.fine.boundary()][None])
    torch.testing.assert_close(field.flatten(), u)
    flux = solver.boundary_flux(entries, field)[0, 0]
    sides = [12.0] * 7 + [8.0] * 5 + [-12.0] * 7 + [-8.0] * 5  # lower, right, upper, left
    starts = [0, 6, 10, 16]
    for start, count, value in zip(starts, (7, 5, 7, 5), (12.0, 8.0, -12.0, -8.0), strict=True):
        inner = flux[start + 1 : start + count - 1]
        torch.testing.assert_close(inner, torch.full_like(inner, value))
    assert len(sides) == len(flux) + 4
    edges = 1 / 6, 1 / 4
    corner = (12 * edges[0] + 8 * edges[1]) / sum(edges)  # where lower and right meet
    assert flux[6].item() == pytest.approx(corner)


@pytest.mark.parametrize("contrast", [10.0, 100.0, 1000.0])
def test_pressures_are_positive_symmetric_in_scale_and_stable_at_high_contrast(contrast):
    operator = Darcy((1, 15, 15), refine=2)
    a = torch.where(normal(4, 1, 15, 15) > 0, contrast, 5.0).double()
    u = operator(a)
    assert (u[..., 1:-1, 1:-1] > 0).all()  # maximum principle: f > 0
    assert (u[..., [0, -1], :] == 0).all()
    torch.testing.assert_close(operator(3 * a), u / 3, rtol=1e-10, atol=0)
    constant = operator(torch.full((1, 15, 15), 5.0, dtype=torch.float64))
    assert (u <= constant * (1 + 1e-9)).all()  # more permeable, less pressure


def test_potentials_lie_between_their_boundary_values():
    operator = EIT((1, 12, 12))
    a = signal(operator, 5)
    u = operator.potential(a)
    rim = u.flatten(-2)[..., operator.diffusion.grid.boundary()]
    inner = u[..., 1:-1, 1:-1]
    assert (inner.amax((-2, -1)) <= rim.amax(-1)).all()
    assert (inner.amin((-2, -1)) >= rim.amin(-1)).all()


@pytest.mark.parametrize("refine", [1, 3])
def test_laws_of_the_dirichlet_to_neumann_map(refine):
    """Symmetry, Green's identity with the energy, conservation of current."""
    operator = EIT((1, 6, 7), refine=1)
    solver = Diffusion((6, 7), "nodal", refine)
    a = signal(operator, 2)
    perimeter = len(solver.grid.boundary())
    # piecewise linear boundary values of the coarse grid, so that its hats span them
    hats = solver._boundary_mean._constants._master["matrix"].to_dense()
    hats = hats * boundary_lengths(solver.grid)[:, None]  # (perimeter, fine)
    entries, field = harmonic(solver, a.flatten(1), hats)
    currents = solver.boundary_flux(entries, field) * boundary_lengths(solver.grid)
    assert currents.abs().amax() > 0.1
    torch.testing.assert_close(currents, currents.mT, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        currents.sum(-1), torch.zeros(2, perimeter).double(), atol=1e-12, rtol=0
    )
    assert torch.linalg.eigvalsh(currents)[:, 1:].min() > 0  # constants alone carry no current
    for k in range(2):
        energy = dirichlet_energy(a[k, 0], field[k, 3], refine)
        assert currents[k, 3, 3].item() == pytest.approx(energy, rel=1e-11)


def dirichlet_energy(a: torch.Tensor, u: torch.Tensor, refine: int) -> float:
    """∫ a |∇u|² by scikit-fem's quadrature."""
    height, width = a.shape
    mesh = skfem.MeshQuad.init_tensor(
        np.linspace(0, 1, refine * (width - 1) + 1), np.linspace(0, 1, refine * (height - 1) + 1)
    )
    basis = skfem.Basis(mesh, skfem.ElementQuad1(), intorder=6)
    place = np.lexsort(basis.doflocs)
    values, fine = np.empty(place.size), np.empty(place.size)
    values[place] = u.numpy().ravel()
    prolonged = Grid(height, width).prolongation(refine) @ a.numpy().ravel()
    fine[place] = prolonged
    form = skfem.Functional(lambda w: w.a * dot(grad(w.u), grad(w.u)))
    return float(form.assemble(basis, u=basis.interpolate(values), a=basis.interpolate(fine)))


def test_one_and_many_right_hand_sides_agree():
    one, many = (EIT((1, 8, 6), patterns) for patterns in ([4], [1, 4, 9, 12, 17]))
    a = signal(one, 3)
    torch.testing.assert_close(one(a)[:, 0], many(a)[:, 1], atol=1e-12, rtol=1e-11)
