"""Weak and strong residuals: zero for solutions, in the limit for FEM ones, not for wrong ones."""

import math

import pytest
import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.nets.jets import Jet
from latens.objectives.equations import (
    BurgersEquation,
    DarcyEquation,
    EITEquation,
    NodalField,
)
from latens.objectives.residuals import burgers_residual, diffusion_residual, laplace_residual
from latens.objectives.weak_form import WeakForm, lattice
from latens.problems.pde import EIT, Burgers, Darcy, Grid
from nets.test_multionet import by_autograd, uniform


class Known:
    """Fields given by a function of points `(P, axes)` to `(patterns, P)`."""

    def __init__(self, function) -> None:
        self.function = function

    def value(self, points: Tensor) -> Tensor:
        return self.function(points)[None]

    def jet(self, points: Tensor) -> Jet:
        jet = by_autograd(self.function, points)
        return Jet(jet.value[None], jet.first[None], jet.second[None])


class Coefficient(Known):
    """The same for a coefficient, which has no axis of patterns."""

    def value(self, points: Tensor) -> Tensor:
        return self.function(points)

    def jet(self, points: Tensor) -> Jet:
        return by_autograd(self.function, points)


def permeability(p: Tensor) -> Tensor:
    return (2 + p[:, 0] * p[:, 1] + torch.sin(3 * p[:, 0]))[None]


def bump(p: Tensor) -> Tensor:
    return (torch.sin(math.pi * p) / math.pi).prod(1)[None]


def source(points: Tensor) -> Tensor:
    """−∇·(a ∇u) of the two fields above, by autograd alone, `(P,)`."""
    points = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(bump(points).sum(), points, create_graph=True)
    flux = permeability(points)[0][:, None] * slope
    parts = [
        torch.autograd.grad(flux[:, i].sum(), points, retain_graph=True)[0][:, i] for i in (0, 1)
    ]
    return -(parts[0] + parts[1]).detach()


class FEM:
    """A solution on nodes and its elementwise gradient."""

    def __init__(self, nodes: Tensor) -> None:
        self.fields = [NodalField(nodes[:, k : k + 1]) for k in range(nodes.shape[1])]

    def value(self, points: Tensor) -> Tensor:
        return torch.stack([field.value(points) for field in self.fields], 1)

    def jet(self, points: Tensor) -> Jet:
        points = points.clone().requires_grad_()
        value = self.value(points)
        first = torch.stack(
            [torch.autograd.grad(u.sum(), points, retain_graph=True)[0].mT for u in value[0]]
        )
        return Jet(value.detach(), first[None], torch.full_like(first, math.nan)[None])


def test_quadrature_of_test_functions():
    form = WeakForm(torch.tensor([[0.4, 0.6]], dtype=torch.float64), 0.3)
    x, y = form.points.mT
    ones = torch.ones(1, 1, len(x), dtype=torch.float64)
    zero = torch.zeros(1, 1, 2, len(x), dtype=torch.float64)
    assert form.residual(ones, zero, 1.0).item() == pytest.approx(-1, abs=1e-12)
    # moments of φ: the mean of x² − x_c² is R² ∫ s³ φ ds / (2 ∫ s φ ds) = R² · 5/72
    moment = form.residual(ones, zero, x.square()[None, None]).item() + 0.4**2
    assert moment == pytest.approx(-(0.3**2) * 5 / 72, abs=1e-12)
    # by parts: ∫ ∇u · ∇v = −∫ v Δu for polynomials
    gradient = torch.stack([3 * x.square(), 2 * y])[None, None]
    expected = -(6 * 0.4 + 2)
    assert form.residual(ones, gradient).item() == pytest.approx(expected, rel=1e-10)


def test_weak_residual_of_an_exact_solution():
    errors = []
    for radii, angles in ((4, 6), (6, 12), (9, 20)):
        form = WeakForm(lattice(4, 0.15), 0.15, radii, angles)
        a, u = permeability(form.points), by_autograd(bump, form.points)
        residual = form.residual(a[:, None], u.first[None], source(form.points)[None, None])
        errors.append(residual.abs().max().item())
    assert errors[0] < 2e-2
    assert errors[1] < 1e-4
    assert errors[2] < 1e-8


def test_strong_residual_of_an_exact_solution():
    points = uniform(30, 2)
    a, u = by_autograd(permeability, points), by_autograd(bump, points)
    f = source(points)
    assert diffusion_residual(a, u, f).abs().max() < 1e-12
    wrong = Jet(1.1 * u.value, 1.1 * u.first, 1.1 * u.second)
    torch.testing.assert_close(diffusion_residual(a, wrong, f)[0], 0.1 * f)
    torch.testing.assert_close(laplace_residual(a, u)[0], f / a.value[0])


def coefficient_nodes(n: int) -> Tensor:
    return permeability(Grid(n, n).points()).reshape(1, 1, n, n)


def residuals(equation, operator, n: int, shift: Tensor | None = None) -> float:
    """Root mean square residual of the FEM solution on n × n nodes, of a + shift where given."""
    a = coefficient_nodes(n)
    solve = operator.field if isinstance(operator, Darcy) else operator.potential
    u = solve(a if shift is None else a + shift)
    rows = torch.arange(equation.discs)
    return equation.residual(NodalField(a), FEM(u), rows).square().mean().sqrt().item()


@pytest.mark.parametrize("name", ["darcy", "eit"])
def test_residual_of_fem_solutions_falls_with_the_mesh(name):
    """Of a solution it falls; of one that belongs to another coefficient it does not."""
    if name == "darcy":
        equation = DarcyEquation(count=5, radius=0.11)
        made = {n: Darcy((1, n, n)) for n in (17, 65, 129)}
    else:
        equation = EITEquation((3, 10), count=5, radius=0.11)
        made = {n: EIT((1, n, n), [3, 10]) for n in (17, 65, 129)}
    found = [residuals(equation, operator, n) for n, operator in made.items()]
    assert found[0] < 0.1
    assert found[1] < 0.3 * found[0]
    assert found[2] < 0.15 * found[0]
    other = [
        residuals(equation, operator, n, Grid(n, n).points()[:, 0].reshape(1, 1, n, n))
        for n, operator in made.items()
    ]
    assert other[2] > 3 * found[2]
    assert other[2] > 0.9 * other[1]


def test_strong_form_needs_a_decoded_coefficient():
    equation = DarcyEquation(form="strong", count=5, radius=0.11)
    rows = torch.arange(4)
    found = equation.residual(Coefficient(permeability), Known(bump), rows)
    centres = equation.weak.centres[:4]
    torch.testing.assert_close(found[0], source(centres) / 10 - 1)
    with pytest.raises(UnsupportedError, match="weak"):
        equation.residual(NodalField(coefficient_nodes(5)), Known(bump), rows)
    potential = EITEquation((2,), form="strong", count=5, radius=0.11)
    found = potential.residual(Coefficient(permeability), Known(bump), rows)
    expected = source(centres) / permeability(centres)[0] / (2 * math.pi) ** 2
    torch.testing.assert_close(found[0], expected)


def travelling(p: Tensor) -> Tensor:
    """Exact solution of Burgers' equation with ν = .2."""
    return (0.7 - 0.5 * torch.tanh(0.5 * (p[:, 0] - 0.7 * p[:, 1]) / 0.4))[None]


def test_burgers_residual():
    jet = by_autograd(travelling, uniform(20, 2))
    assert burgers_residual(jet, 0.2).abs().max() < 1e-12
    assert burgers_residual(jet, 0.25).abs().max() > 1e-3
    equation = BurgersEquation(viscosity=0.2, time=0.5, count=8)
    rows = torch.tensor([0, 9, 63])

    # In the moving frame the initial state is a less its mean over the ring.
    def wave(x: Tensor) -> Tensor:
        return 0.1 * torch.cos(2 * math.pi * x[:, 0])

    def at_start(x: Tensor) -> Tensor:
        return travelling(torch.cat([x, 0 * x], 1))

    initial = Coefficient(lambda x: at_start(x) + wave(x) + 3.0)
    found = equation.residual(initial, Known(travelling), rows)
    ring = torch.arange(8, dtype=torch.float64)[:, None] / 8
    off = at_start(ring).mean() - wave(ring[rows % 8])
    expected = torch.cat([torch.zeros(3, dtype=torch.float64), off])[None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["darcy", "eit", "burgers"])
def test_positions_are_those_of_the_operators(name):
    if name == "burgers":
        equation, operator = BurgersEquation(time=0.1), Burgers((1, 16), time=0.1, steps=4)
        nodes = equation.solution_points((1, 16))
        sensors = Burgers((1, 16), nodes[:, 0], time=0.1, steps=4)
        x = 0.1 * uniform(1, 1, 16)
        torch.testing.assert_close(sensors(x)[0], operator(x)[0, 0])
        assert bool((nodes[:, 1] == 0.1).all())
        return
    points = DarcyEquation().solution_points((1, 5, 4))
    a = 1 + uniform(1, 1, 5, 4)
    inside = points[(points * (1 - points)).min(1).values > 0]
    field = Darcy((1, 5, 4)).field(a).flatten()
    at = Darcy((1, 5, 4), inside)(a)[0]
    torch.testing.assert_close(at, field[(points * (1 - points)).min(1).values > 0])


def test_nodal_fields_are_bilinear():
    nodes = uniform(2, 1, 5, 4)
    points = uniform(7, 2)
    matrix = torch.from_numpy(Grid(5, 4).interpolation(points).toarray())
    torch.testing.assert_close(NodalField(nodes).value(points), nodes.flatten(1) @ matrix.mT)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: WeakForm(torch.tensor([[0.1, 0.5]]), 0.2), "radius"),
        (lambda: WeakForm(torch.tensor([[0.5, 0.5]]), 0.2, radii=2), "radii"),
        (lambda: lattice(3, 0.1), "count"),
        (lambda: DarcyEquation(form="mixed"), "form"),
        (lambda: DarcyEquation(source=0.0), "source"),
        (lambda: BurgersEquation(viscosity=0.0), "viscosity"),
    ],
)
def test_settings_that_make_no_sense(make, name):
    with pytest.raises(ConfigError, match=name):
        make()


def test_shapes_that_make_no_sense():
    with pytest.raises(ShapeError, match="centres"):
        WeakForm(torch.zeros(3), 0.1)
    with pytest.raises(ShapeError, match="shape"):
        DarcyEquation().coefficient_points((1, 5))
    with pytest.raises(ShapeError, match="shape"):
        BurgersEquation().coefficient_points((1, 5, 5))
