"""Properties that every differential equation's operator has, in float64."""

import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from latens.errors import ConfigError, DataError, ShapeError, UnsupportedError
from latens.problems import GaussianNoise, InverseProblem
from latens.problems.pde import EIT, Burgers, Darcy
from problems.operator_cases import normal
from problems.pde.pde_cases import OPERATORS, SENSORS, signal

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


@pytest.fixture(params=list(OPERATORS))
def operator(request):
    return OPERATORS[request.param]()


def test_tangent_and_adjoint_agree(operator):
    x, v = signal(operator, 3), normal(3, *operator.signal_shape, seed=1)
    w = normal(3, *operator.measurement_shape, seed=2)
    tangent, cotangent = operator.jvp(x, v), operator.vjp(x, w)
    assert tangent.norm() > 1e-4
    difference = (tangent * w).sum() - (v * cotangent).sum()
    assert difference.abs() <= 1e-12 * tangent.norm() * w.norm()


def test_tangent_against_finite_differences(operator):
    x, v = signal(operator, 2), normal(2, *operator.signal_shape, seed=1)
    if not isinstance(operator, Burgers):
        v = v * x  # relative changes, so that no coefficient turns negative
    step = 1e-4
    ends = [operator(x + s * step * v) for s in (-2, -1, 1, 2)]
    expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step)
    found = operator.jvp(x, v)
    assert (found - expected).norm() <= 1e-9 * found.norm()


def test_derivatives_of_both_orders(operator):
    x = signal(operator, 1).requires_grad_()
    assert gradcheck(operator, (x,), check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(operator, (x,), check_fwd_over_rev=True, fast_mode=True)


def test_jacobians_agree(operator):
    x = signal(operator)
    torch.testing.assert_close(
        torch.func.jacrev(operator)(x), torch.func.jacfwd(operator)(x), atol=1e-12, rtol=1e-10
    )


def test_hessian_is_symmetric():
    operator = OPERATORS["eit-few"]()
    size = 35

    def energy(flat):
        return operator(flat.reshape(operator.signal_shape)).square().sum()

    hessian = torch.func.hessian(energy)(signal(operator).reshape(size))
    torch.testing.assert_close(hessian, hessian.mT, atol=1e-9, rtol=1e-9)


def test_vmap_of_values_and_gradients(operator):
    x = signal(operator, 3, 2)
    expected = operator(x)
    torch.testing.assert_close(torch.func.vmap(operator, 1, 1)(x), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(operator))(x), expected)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(operator(leaf).square().sum(), leaf)
    each = torch.func.vmap(torch.func.grad(lambda v: operator(v).square().sum()))(x)
    torch.testing.assert_close(each, gradient)


@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (0,)])
def test_leading_axes(operator, leading):
    x = signal(operator, *leading)
    y = operator(x)
    assert y.shape == (*leading, *operator.measurement_shape)
    if leading == (2, 3):
        torch.testing.assert_close(y[1, 2], operator(x[1, 2]))


def test_float32_is_solved_in_float64(operator):
    x = signal(operator, 2, dtype=torch.float32)
    y = operator(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, operator(x.double()).float(), atol=0, rtol=0)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(operator(leaf).sum(), leaf)
    assert gradient.dtype == torch.float32
    assert operator.float().state_dict() == {}


def test_copies_compute_the_same(operator):
    x = signal(operator, 2)
    torch.testing.assert_close(copy.deepcopy(operator)(x), operator(x), atol=0, rtol=0)


def test_an_inverse_problem_simulates_and_scores():
    operator = Darcy((1, 6, 6), SENSORS)
    problem = InverseProblem(operator, GaussianNoise(1e-3))
    x = signal(operator, 4)
    y = problem.simulate(x, normal(4, 5, seed=3))
    torch.testing.assert_close(y, operator(x) + 1e-3 * normal(4, 5, seed=3))
    leaf = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(problem.log_likelihood(y, leaf).sum(), leaf)
    torch.testing.assert_close(score, operator.vjp(x, (y - operator(x)) / 1e-6))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["darcy-sensors", "eit"])
def test_coefficients_must_be_positive_and_finite(name, value):
    operator = OPERATORS[name]()
    x = signal(operator, 3)
    x[1, 0, 2, 3] = value
    with pytest.raises(DataError, match=r"`x`: expected (a positive coefficient|finite values)"):
        operator(x)
    with pytest.raises(DataError, match="`x`"):
        torch.func.vmap(torch.func.grad(lambda v: operator(v).sum()))(x)


def test_velocities_must_be_finite_and_slow_enough():
    operator = Burgers((1, 16), steps=10)
    slow = torch.zeros(1, 16, dtype=torch.float64)
    slow[0, 3] = 0.7
    assert operator(slow).isfinite().all()
    with pytest.raises(DataError, match=r"velocities up to 0\.796 .* Set `steps` to 126 or more"):
        operator(slow * 10 / 0.7)
    with pytest.raises(DataError, match="finite values"):
        operator(slow / 0)


def test_wrong_shapes_and_dtypes(operator):
    with pytest.raises(ShapeError, match=r"`x`: expected trailing axes"):
        operator(normal(2, *operator.signal_shape, 3))
    with pytest.raises(UnsupportedError, match=r"`x`: expected float32 or float64, got torch\.b"):
        operator(signal(operator).bfloat16())


@pytest.mark.parametrize("shape", [(5, 5), (2, 5, 5), (1, 1, 5, 5)])
@pytest.mark.parametrize("kind", [Darcy, EIT])
def test_signals_must_be_single_fields(kind, shape):
    with pytest.raises(ShapeError, match="`signal_shape`: expected"):
        kind(shape)


@pytest.mark.parametrize(
    ("sensors", "error", "message"),
    [
        ([[0.5, 1.01]], ConfigError, "in the unit square, got 1 outside"),
        ([[-1e-6, 0.5], [0.2, 0.2]], ConfigError, "in the unit square"),
        ([[0.5, float("nan")]], ConfigError, "finite positions"),
        ([[0.1, 0.2], [0.3, 0.4], [0.1, 0.2]], ConfigError, r"distinct .* 2 that coincide"),
        ([0.5, 0.2], ShapeError, r"shape \(m, 2\)"),
        ([], ShapeError, r"shape \(m, 2\)"),
        ("north", ShapeError, "pairs"),
    ],
)
@pytest.mark.parametrize("kind", [Darcy, EIT])
def test_bad_sensors(kind, sensors, error, message):
    with pytest.raises(error, match=f"`sensors`: expected .*{message}"):
        kind((1, 5, 5), sensors=sensors)


@pytest.mark.parametrize("patterns", [[], [0], [21], [3, 3], [1.0], ["one"]])
def test_unknown_patterns(patterns):
    with pytest.raises(ConfigError, match="`patterns`: expected distinct numbers from 1 to 20"):
        EIT((1, 5, 5), patterns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Darcy((1, 2, 9)), "at least 3 nodes"),
        (lambda: Darcy((1, 5, 5), refine=0), "`refine`"),
        (lambda: Darcy((1, 5, 5), coefficient="face"), "`coefficient`: expected 'nodal'"),
        (lambda: Darcy((1, 5, 5), source=float("nan")), "`source`"),
        (lambda: Burgers((1, 16), [0.2, 1.0]), r"`sensors`: expected finite positions in \[0, 1"),
        (lambda: Burgers((1, 16), [0.2, 0.2]), "`sensors`: expected distinct"),
        (lambda: Burgers((1, 16), viscosity=0.0), "`viscosity`"),
        (lambda: Burgers((1, 16), steps=0), "`steps`"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_sources_must_fit_the_grid():
    with pytest.raises(ShapeError, match=r"`source`: expected a number, or values on the nodes"):
        Darcy((1, 5, 5), source=torch.ones(4, 5))
