"""MultiONet: derivatives by forward-mode Taylor against autograd, and what they cost."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.nets.boundary import BoundaryCondition, Free, WaveBoundary, ZeroBoundary
from latens.nets.decoded import DecodedField, affine_basis
from latens.nets.jets import Jet, coordinates
from latens.nets.multionet import MultiONet
from latens.problems.pde.eit import boundary_values
from latens.problems.pde.grid import Grid

CASES = {
    "plane": {"axes": 2},
    "no-waves": {"axes": 2, "waves": 0},
    "line": {"axes": 1, "levels": 1},
    "ring-time": {"axes": 2, "periodic": True, "waves": 3},
}
CONDITIONS: dict[str, BoundaryCondition] = {
    "free": Free(),
    "zero": ZeroBoundary(),
    "waves": WaveBoundary((3, 8, 20)),
}


def net(code: int = 3, **settings) -> MultiONet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MultiONet(code, width=7, depth=4, **{"levels": 3, "modes": 2, **settings}).double()
    with torch.no_grad():
        made.level_weights.copy_(torch.tensor([0.7, -1.3, 2.0][: made.levels]))
        made.bias.fill_(0.3)
        made.set_mixing(made.mixing + 0.3 * uniform(*made.mixing.shape, seed=5))
    return made


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return NoiseStream(seed, len(shape)).uniform(shape, torch.float64)


def by_autograd(function, points: Tensor) -> Jet:
    """Values `(J, P)` of a function of points with derivatives by nested differentiation."""
    points = points.clone().requires_grad_()
    value = function(points)
    first, second = [], []
    for row in value:
        (slope,) = torch.autograd.grad(row.sum(), points, create_graph=True)
        first.append(slope.mT)
        curvature = [
            torch.autograd.grad(slope[:, i].sum(), points, retain_graph=True)[0][:, i]
            for i in range(points.shape[1])
        ]
        second.append(torch.stack(curvature))
    return Jet(value.detach(), torch.stack(first).detach(), torch.stack(second).detach())


def assert_same(found: Jet, expected: Jet) -> None:
    for name in ("value", "first", "second"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_autograd(case):
    made, points = net(**CASES[case]), uniform(11, CASES[case]["axes"])
    code = 2 * uniform(5, 3, seed=1) - 1
    k = made.coefficients(code).detach()
    expected = by_autograd(lambda p: k @ made.basis(p), points)
    assert expected.second.abs().min(-1).values.max() > 1e-4
    assert_same(made.jet(points).combined(k), expected)
    assert_same(Jet(made.basis(points), *_derivatives(made.jet(points))), made.jet(points))


def _derivatives(jet: Jet) -> tuple[Tensor, Tensor]:
    return jet.first, jet.second


@pytest.mark.parametrize("condition", CONDITIONS)
def test_derivatives_under_a_boundary_condition(condition):
    given, made, points = CONDITIONS[condition], net(), uniform(9, 2)
    k = made.coefficients(2 * uniform(given.patterns, 3, seed=1) - 1).detach()
    k = k if given.patterns > 1 else k[0]
    field = DecodedField(made, k, given, 1.7, 0.4)
    expected = by_autograd(lambda p: field.value(p).reshape(given.patterns, -1), points)
    found = field.jet(points)
    parts = (found.value, found.first, found.second)
    if given.patterns == 1:
        parts = tuple(part[None] for part in parts)
    assert_same(Jet(*parts), expected)
    torch.testing.assert_close(found.laplacian, found.second.sum(-2))


@pytest.mark.parametrize(("condition", "value"), [("zero", 0.0), ("waves", None)])
def test_conditions_hold_on_the_boundary(condition, value):
    given, made = CONDITIONS[condition], net()
    grid = Grid(6, 5)
    rim = grid.points()[grid.boundary()]
    k = made.coefficients(2 * uniform(given.patterns, 3, seed=1) - 1)
    found = DecodedField(made, k, given).value(rim)
    wanted = boundary_values((3, 8, 20), rim) if value is None else torch.full_like(found, value)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    inside = DecodedField(made, k, given).value(uniform(4, 2)) - given.lift(uniform(4, 2)).value
    assert inside.abs().min() > 1e-3


def test_the_field_is_affine_in_its_coefficients():
    made, points = net(), uniform(8, 2)
    given = ZeroBoundary()
    offset, basis = affine_basis(made, given, 2.0, 0.5, points)
    code = 2 * uniform(4, 6, 3, seed=2) - 1
    k = made.coefficients(code)
    assert basis.shape == (made.size, 8)
    torch.testing.assert_close(
        offset + k @ basis, given.multiplier(points).value * (2 * made(code, points) + 0.5)
    )


def test_a_ring_is_closed():
    made = net(periodic=True, waves=2)
    code = uniform(2, 3)
    left, right = (torch.tensor([[x, 0.3]], dtype=torch.float64) for x in (0.0, 1.0))
    torch.testing.assert_close(made(code, left), made(code, right))
    assert (made(code, left) - made(code, left + 0.1)).abs().min() > 1e-3


def test_derivatives_cost_five_passes_for_all_codes():
    """1 + 2c products per layer, and per code one product more; no pass per code or point."""
    made, points = net(), uniform(40, 2)

    def cost(function) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function()
        return counter.get_total_flops()

    inputs = 2 * (4 * 2 + 2 * 3) * 5 * 40  # waves and modes, made with derivatives in both
    trunk = cost(lambda: made.basis(points)) - inputs
    assert cost(lambda: made.jet(points)) == 5 * trunk + inputs
    jet = made.jet(points)
    few, many = (made.coefficients(uniform(n, 3)).detach() for n in (1, 50))
    assert cost(lambda: jet.combined(many)) == 50 * cost(lambda: jet.combined(few))
    assert cost(lambda: jet.combined(few)) == 2 * made.size * 5 * 40


def test_mixing_is_solved_in_closed_form():
    """Fields in the span of the features are met exactly, and others as numpy says."""
    made, points = net(), uniform(60, 2)
    basis, code = made.basis(points), 2 * uniform(200, 3, seed=1) - 1
    k = made.features(code).detach()
    wanted = torch.linalg.qr(uniform(*made.mixing.shape, seed=8).mT)[0].mT
    exact, other = k @ wanted @ basis, k @ wanted @ basis + uniform(200, 60, seed=4)
    made.solve_mixing(k.mT @ k, k.mT @ exact, basis, 0.0)
    assert (made(code, points) - exact).abs().max() < 1e-4 * exact.abs().max()
    made.solve_mixing(k.mT @ k, k.mT @ other, basis, 1e-3)
    left = k.mT @ k + 1e-3 * (k.mT @ k).diagonal().mean() * torch.eye(len(k[0]), dtype=k.dtype)
    free = torch.linalg.lstsq(left, k.mT @ other).solution
    in_span = torch.linalg.lstsq(basis.mT, free.mT, driver="gelsd").solution.mT @ basis
    torch.testing.assert_close(made(code, points), k @ in_span, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight():
    made, points = net(), uniform(5, 2)
    jet = made.jet(points).combined(made.coefficients(uniform(2, 3)))
    (jet.laplacian.square().sum() + jet.value.sum()).backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in made.parameters())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"levels": 5}, "levels"),
        ({"code": 0}, "code"),
        ({"periodic": True, "waves": 0}, "waves"),
    ],
)
def test_settings_that_make_no_sense(settings, name):
    with pytest.raises(ConfigError, match=name):
        MultiONet(**{"code": 2, "depth": 4, **settings})


def test_points_of_another_dimension():
    with pytest.raises(ShapeError, match=r"points.*\(P, 2\)"):
        net().basis(torch.zeros(3, 1, dtype=torch.float64))


def test_products_and_compositions_of_jets():
    points = uniform(6, 2)
    x = coordinates(points)
    product = x.function(0) * x.function(1) * x.function(1)
    expected = by_autograd(lambda p: (p[:, 0] * p[:, 1] ** 2)[None], points)
    assert_same(product, expected.function(0))
