"""Properties that every linear operator has, in float64 against dense linear algebra."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from latens.errors import ConfigError, NumericalError, ShapeError, UnsupportedError
from latens.problems import Convolution, GaussianBlur, Identity, LinearOperator, Operator
from problems.operator_cases import OPERATORS, normal

ITERATIVE = ["zero-1d-odd", "zero-3d", "blur-2d-zero", "matrix", "block-sum", "mri-2d-coils"]

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


@pytest.fixture(params=list(OPERATORS))
def operator(request) -> LinearOperator:
    return OPERATORS[request.param]()


def dense(operator: LinearOperator) -> torch.Tensor:
    """A as (m, d), column by column from forward applications."""
    d = math.prod(operator.signal_shape)
    columns = operator(torch.eye(d, dtype=torch.float64).reshape(d, *operator.signal_shape))
    return columns.reshape(d, -1).mT


def flat_solve(matrix: torch.Tensor, value: torch.Tensor, event_dims: int) -> torch.Tensor:
    return (matrix @ value.flatten(-event_dims).mT).mT


def test_adjoint(operator):
    x = normal(3, *operator.signal_shape)
    y = normal(3, *operator.measurement_shape, seed=1)
    image = operator.A(x)
    assert image.norm() > 0.1
    difference = (image * y).sum() - (x * operator.A_adjoint(y)).sum()
    assert difference.abs() <= 1e-12 * image.norm() * y.norm()


def test_matrix_is_the_map(operator):
    torch.testing.assert_close(operator.matrix(), dense(operator), atol=1e-14, rtol=0)
    assert operator.matrix(torch.float32).dtype == torch.float32


def test_norm(operator):
    expected = torch.linalg.svdvals(dense(operator))[0].item()
    assert operator.norm() == pytest.approx(expected, rel=1e-6)


def test_lanczos_norm(operator, monkeypatch):
    monkeypatch.setattr(operator, "spectrum", lambda: None)
    expected = torch.linalg.svdvals(dense(operator))[0].item()
    assert LinearOperator.norm(operator) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ITERATIVE)
def test_iterative_solves_of_large_operators(name, monkeypatch):
    monkeypatch.setattr("latens.problems.linear_operator.SPECTRUM_LIMIT", 0)
    operator = OPERATORS[name]()
    assert operator.spectrum() is None
    matrix = dense(operator)
    x, y = normal(2, *operator.signal_shape), normal(2, *operator.measurement_shape, seed=1)
    eye = torch.eye(len(matrix), dtype=torch.float64)
    inverses = {
        "gram_solve": (lambda w: operator.gram_solve(w, 0.1), y, matrix @ matrix.mT + 0.1 * eye),
        "A_dagger": (operator.A_dagger, y, None),
        "adjoint": (operator._dagger_adjoint, x, None),
    }
    pinv = torch.linalg.pinv(matrix, rtol=1e-10)
    for label, (solve, value, system) in inverses.items():
        inverse = torch.linalg.inv(system) if system is not None else pinv
        expected = flat_solve(inverse.mT if label == "adjoint" else inverse, value, value.ndim - 1)
        torch.testing.assert_close(solve(value).flatten(1), expected, atol=1e-7, rtol=1e-7)


def test_gram_solve(operator):
    matrix = dense(operator)
    w = normal(2, *operator.measurement_shape)
    shift = torch.tensor([0.01, 0.7], dtype=torch.float64)
    for row, value in zip(w, shift, strict=True):
        gram = matrix @ matrix.mT + value * torch.eye(matrix.shape[0], dtype=torch.float64)
        expected = torch.linalg.solve(gram, row.flatten()).reshape(row.shape)
        single = operator.gram_solve(row, value.item())
        torch.testing.assert_close(single, expected, atol=1e-7, rtol=1e-7)
    batched = operator.gram_solve(w, shift)
    torch.testing.assert_close(batched[1], operator.gram_solve(w[1], 0.7), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(batched[0], operator.gram_solve(w[0], 0.01), atol=1e-7, rtol=1e-7)


def test_pseudo_inverse(operator):
    cutoff = getattr(operator, "relative_cutoff", 1e-10)
    pinv = torch.linalg.pinv(dense(operator), rtol=cutoff)
    y = normal(3, *operator.measurement_shape)
    expected = flat_solve(pinv, y, len(operator.measurement_shape)).reshape(
        3, *operator.signal_shape
    )
    torch.testing.assert_close(operator.A_dagger(y), expected, atol=1e-7, rtol=1e-7)


def test_projections(operator):
    x = normal(2, *operator.signal_shape)
    seen, missed = operator.range_projection(x), operator.null_projection(x)
    torch.testing.assert_close(seen + missed, x)
    torch.testing.assert_close(operator.range_projection(seen), seen, atol=1e-7, rtol=1e-7)
    assert (seen * missed).sum().abs() < 1e-6
    cutoff = getattr(operator, "relative_cutoff", 0.0)
    assert operator.A(missed).norm() <= (cutoff * operator.norm() + 1e-8) * x.norm()


@pytest.mark.parametrize("method", ["A", "A_adjoint", "A_dagger", "gram_solve"])
def test_derivatives(operator, method):
    shape = operator.signal_shape if method == "A" else operator.measurement_shape
    value = normal(2, *shape).requires_grad_()

    def function(v):
        if method == "gram_solve":
            return operator.gram_solve(v, 0.5)
        return getattr(operator, method)(v)

    assert gradcheck(
        function,
        (value,),
        eps=1e-4,  # the map is linear, and iterative solves stop at 1e-10
        atol=1e-5,
        check_forward_ad=True,
        fast_mode=True,
    )
    assert gradgradcheck(
        lambda v: function(v).square(),
        (value,),
        eps=1e-4,
        atol=1e-4,
        check_fwd_over_rev=True,
        fast_mode=True,
    )


def test_jacobians_are_the_matrix(operator):
    x = normal(*operator.signal_shape)
    shape = (*operator.measurement_shape, *operator.signal_shape)
    expected = operator.matrix().reshape(shape)
    torch.testing.assert_close(torch.func.jacrev(operator)(x), expected)
    torch.testing.assert_close(torch.func.jacfwd(operator)(x), expected)


def test_jacobians_of_the_solves(operator):
    y = normal(*operator.measurement_shape)
    for solve in (operator.A_dagger, lambda w: operator.gram_solve(w, 0.5)):
        backward, forward = torch.func.jacrev(solve)(y), torch.func.jacfwd(solve)(y)
        torch.testing.assert_close(backward, forward, atol=1e-7, rtol=1e-7)
        image = torch.tensordot(forward, y, y.ndim)
        torch.testing.assert_close(image, solve(y), atol=1e-7, rtol=1e-7)


def test_jvp_and_vjp_are_forward_and_adjoint(operator):
    x, v = normal(2, *operator.signal_shape), normal(2, *operator.signal_shape, seed=1)
    w = normal(2, *operator.measurement_shape, seed=2)
    torch.testing.assert_close(operator.jvp(x, v), Operator.jvp(operator, x, v))
    torch.testing.assert_close(operator.vjp(x, w), Operator.vjp(operator, x, w))


def test_vmap_along_any_axis(operator):
    x = normal(3, 4, *operator.signal_shape)
    expected = operator(x)
    torch.testing.assert_close(torch.func.vmap(operator, 1, 1)(x), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(operator))(x), expected)


def test_vmap_of_grad(operator):
    x, y = normal(3, *operator.signal_shape), normal(*operator.measurement_shape, seed=1)
    grad = torch.func.grad(lambda v: 0.5 * (operator(v) - y).square().sum())
    expected = operator.A_adjoint(operator.A(x) - y)
    torch.testing.assert_close(torch.func.vmap(grad)(x), expected)


@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (0,)])
def test_leading_axes(operator, leading):
    x = normal(*leading, *operator.signal_shape)
    y = operator(x)
    assert y.shape == (*leading, *operator.measurement_shape)
    assert operator.A_adjoint(y).shape == x.shape
    if leading == (2, 3):
        torch.testing.assert_close(y[1, 2], operator(x[1, 2]))


def test_float32_is_kept(operator):
    x = normal(2, *operator.signal_shape)
    y = operator(x)
    for method, value in (("A", x), ("A_adjoint", y), ("A_dagger", y), ("range_projection", x)):
        wide = getattr(operator, method)(value)
        narrow = getattr(operator, method)(value.float())
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, atol=2e-3, rtol=2e-3)
    assert operator.gram_solve(y.float(), 0.1).dtype == torch.float32


def test_moving_a_module_changes_no_value(operator):
    x = normal(*operator.signal_shape)
    expected = operator(x)
    torch.testing.assert_close(operator.float()(x), expected, atol=0, rtol=0)
    assert operator.state_dict() == {}


def test_wrong_shapes_and_dtypes(operator):
    with pytest.raises(ShapeError, match=r"`x`: expected trailing axes"):
        operator(normal(2, *operator.signal_shape, 3))
    with pytest.raises(ShapeError, match=r"`y`: expected trailing axes"):
        operator.A_adjoint(normal(11))
    with pytest.raises(UnsupportedError, match=r"`x`: expected float32 or float64, got torch\.b"):
        operator(normal(*operator.signal_shape).bfloat16())
    with pytest.raises(ConfigError, match="`shift`: expected a positive number, got 0"):
        operator.gram_solve(normal(*operator.measurement_shape), 0)


def test_nonlinear_operator_gets_derivatives_from_autograd():
    class Square(Operator):
        def __init__(self):
            super().__init__((1, 5), (1, 5))

        def forward(self, x):
            return x.square()

    x, v, w = normal(1, 5), normal(1, 5, seed=1), normal(1, 5, seed=2)
    torch.testing.assert_close(Square().jvp(x, v), 2 * x * v)
    torch.testing.assert_close(Square().vjp(x, w), 2 * x * w)


def test_singular_least_squares_that_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr("latens.problems.linear_operator.SPECTRUM_LIMIT", 64)
    operator = GaussianBlur((1, 65), 3.0, "zero")
    with pytest.raises(NumericalError, match="ill-conditioned"):
        operator.A_dagger(normal(1, 65))


def test_large_matrix_is_refused():
    with pytest.raises(UnsupportedError, match="dense matrix"):
        Identity((1, 65, 65)).matrix()


@pytest.mark.parametrize("shape", [(), (0, 3), (1, -2)])
def test_bad_signal_shape(shape):
    with pytest.raises(ConfigError, match="`signal_shape`: expected positive sizes"):
        Identity(shape)


def test_compiled_gradient_has_no_graph_break(compile_whole):
    operator = Convolution((1, 8, 8), normal(3, 3))
    y = normal(2, 1, 8, 8)

    def misfit(x):
        return (operator(x) - y).square().sum()

    x = normal(2, 1, 8, 8, seed=1).requires_grad_()
    compiled = compile_whole(misfit)
    (expected,) = torch.autograd.grad(misfit(x), x)
    (gradient,) = torch.autograd.grad(compiled(x), x)
    torch.testing.assert_close(gradient, expected)
