"""Compositions, chains and stacks against products and rows of dense matrices."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems import (
    Chain,
    Composition,
    Convolution,
    Downsampling,
    GaussianBlur,
    Identity,
    Inpainting,
    Operator,
    Stack,
)
from latens.studies.configure import construct_object
from latens.types import Shape
from problems.operator_cases import Matrix, normal, random_kernel

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


class Square(Operator):
    """Nonlinear step."""

    def __init__(self, signal_shape: Shape) -> None:
        super().__init__(signal_shape, signal_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square()


def test_blur_with_downsampling_is_scipys():
    x = normal(1, 24, 20)
    operator = Composition(
        (1, 24, 20), [lambda s: GaussianBlur(s, 1.1), lambda s: Downsampling(s, 4, "decimate")]
    )
    expected = ndimage.gaussian_filter(x[0].numpy(), 1.1, mode="wrap", truncate=4.0)[::4, ::4]
    np.testing.assert_allclose(operator(x)[0].numpy(), expected, atol=1e-12)
    assert operator.measurement_shape == (1, 6, 5)


def test_first_to_last():
    first = Convolution((2, 6, 8), random_kernel(3, 3), "zero")
    middle = Downsampling((2, 6, 8), [3, 2])
    last = Inpainting((2, 2, 4), 0.5)
    operator = Composition(
        (2, 6, 8), [lambda _, made=made: made for made in (first, middle, last)]
    )
    expected = last.matrix() @ middle.matrix() @ first.matrix()
    torch.testing.assert_close(operator.matrix(), expected)
    assert operator.norm() == pytest.approx(torch.linalg.svdvals(expected)[0].item(), rel=1e-6)


def test_view_and_grid_are_the_last_steps():
    blurred_holes = Composition((1, 8, 8), [Identity, lambda s: Inpainting(s, 0.5, seed=3)])
    x = normal(1, 8, 8)
    y = blurred_holes(x)
    mask = blurred_holes.steps[-1].mask
    torch.testing.assert_close(blurred_holes.view(y), torch.where(mask, x, 0))
    assert blurred_holes.grid_shape == (1, 8, 8)
    torch.testing.assert_close(blurred_holes.from_grid(x), y)
    coarse = Composition((1, 8, 8), [lambda s: Downsampling(s, 2), lambda s: Inpainting(s, 0.5)])
    assert coarse.view_shape == coarse.grid_shape == (1, 4, 4)
    assert coarse.view(coarse(x)).shape == (1, 4, 4)
    flat = Composition((1, 4, 3), [lambda _: Matrix(), Identity])
    z = normal(7)
    assert flat.view_shape == (1, 4, 3)
    torch.testing.assert_close(flat.view(z), flat.A_adjoint(z))
    assert flat.grid_shape is None


def test_closed_form_drops_tiny_singular_values():
    blur = GaussianBlur((1, 48), 3.0)
    operator = Composition((1, 48), [lambda _: blur, lambda s: Downsampling(s, 2, "decimate")])
    values = torch.linalg.svdvals(operator.matrix())
    assert values[-1] < 1e-4 * values[0]
    y = normal(2, 1, 24)
    pseudo_inverse = torch.linalg.pinv(operator.matrix(), rtol=1e-4)
    expected = (y.flatten(1) @ pseudo_inverse.mT).reshape(2, 1, 48)
    torch.testing.assert_close(operator.A_dagger(y), expected, atol=1e-7, rtol=1e-7)


def test_vectors_have_no_shifts():
    w = normal(7)
    torch.testing.assert_close(Composition((7,), [Identity, Identity]).gram_solve(w, 0.5), w / 1.5)


def test_squares_need_every_step():
    disjoint = [lambda s: Downsampling(s, 2), lambda s: Inpainting(s, 0.5)]
    assert Composition((1, 8, 8), disjoint).entrywise_square() is not None
    assert (
        Composition((1, 8, 8), [lambda s: GaussianBlur(s, 0.5), *disjoint]).entrywise_square()
        is None
    )


def test_composition_refuses():
    with pytest.raises(ConfigError, match="`steps`: expected at least one operator"):
        Composition((1, 8, 8), [])
    with pytest.raises(ShapeError, match=r"`steps\[1\]`: .* of signals \(1, 4, 4\)"):
        Composition((1, 8, 8), [lambda s: Downsampling(s, 2), lambda _: Identity((1, 8, 8))])
    with pytest.raises(UnsupportedError, match="`steps`: expected linear operators, got Square"):
        Composition((1, 8, 8), [Identity, Square])


@pytest.fixture
def chain() -> Chain:
    return Chain(
        (1, 6, 4), [lambda s: GaussianBlur(s, 0.3), Square, lambda s: Inpainting(s, 0.5), Square]
    )


def test_chain_is_its_formula(chain):
    x = normal(2, 1, 6, 4)
    blur, _, holes, _ = chain.steps
    torch.testing.assert_close(chain(x), holes(blur(x).square()).square())
    assert chain.view_shape == chain.measurement_shape == (1, 12)
    assert chain.view(chain(x)).shape == (2, 1, 12)
    assert chain.grid_shape is None


def test_chain_derivatives(chain):
    x, v, w = normal(2, 1, 6, 4), normal(2, 1, 6, 4, seed=1), normal(2, 1, 12, seed=2)
    torch.testing.assert_close(chain.jvp(x, v), Operator.jvp(chain, x, v))
    torch.testing.assert_close(chain.vjp(x, w), Operator.vjp(chain, x, w))
    step = 1e-6
    numerical = (chain(x + step * v) - chain(x - step * v)) / (2 * step)
    torch.testing.assert_close(chain.jvp(x, v), numerical, atol=1e-7, rtol=1e-7)
    together = torch.func.vmap(torch.func.grad(lambda u: chain(u).sum()))(x)
    torch.testing.assert_close(together, chain.vjp(x, torch.ones_like(w)))


def test_chain_refuses():
    with pytest.raises(ConfigError, match="`steps`: expected at least one operator"):
        Chain((1, 8, 8), [])
    with pytest.raises(ShapeError, match=r"`steps\[0\]`: expected an operator of signals"):
        Chain((1, 8, 8), [lambda _: Square((1, 4, 4))])


@pytest.fixture
def stack() -> Stack:
    return Stack((1, 4, 6), [lambda s: Downsampling(s, 2), Identity, lambda s: Inpainting(s, 0.4)])


def test_stack_is_rows_below_rows(stack):
    expected = torch.cat([operator.matrix() for operator in stack.operators])
    torch.testing.assert_close(stack.matrix(), expected)
    assert stack.measurement_shape == (6 + 24 + 10,)
    assert stack.norm() == pytest.approx(torch.linalg.svdvals(expected)[0].item(), rel=1e-6)
    y = normal(3, 40)
    torch.testing.assert_close(stack.view(y), (y @ expected).reshape(3, 1, 4, 6))
    assert stack.view_shape == (1, 4, 6)


def test_split_and_join(stack):
    x = normal(2, 3, 1, 4, 6)
    parts = stack.split(stack(x))
    assert [tuple(part.shape) for part in parts] == [
        (2, 3, 1, 2, 3),
        (2, 3, 1, 4, 6),
        (2, 3, 1, 10),
    ]
    for part, operator in zip(parts, stack.operators, strict=True):
        torch.testing.assert_close(part, operator(x))
    assert torch.equal(stack.join(parts), stack(x))


def test_stack_refuses(stack):
    with pytest.raises(ConfigError, match="`operators`: expected at least one operator"):
        Stack((1, 8, 8), [])
    with pytest.raises(ShapeError, match=r"`operators\[1\]`: expected an operator of signals"):
        Stack((1, 8, 8), [Identity, lambda _: Identity((1, 4))])
    with pytest.raises(UnsupportedError, match=r"`operators`: .* linear operators, got Square"):
        Stack((1, 8, 8), [Identity, Square])
    with pytest.raises(ShapeError, match="`y`: expected trailing axes"):
        stack.split(normal(39))
    parts = stack.split(normal(40))
    with pytest.raises(ShapeError, match="`parts`: expected 3 measurements, got 2"):
        stack.join(parts[:2])
    with pytest.raises(ShapeError, match=r"`parts\[0\]`: expected trailing axes"):
        stack.join(parts[::-1])


def test_nested_in_a_configuration():
    blur = {"class_path": "latens.problems.GaussianBlur", "init_args": {"width": 0.5}}
    coarse = {"class_path": "latens.problems.Downsampling", "init_args": {"factor": 2}}
    both = {"class_path": "latens.problems.Composition", "init_args": {"steps": [blur, coarse]}}
    spec = {"class_path": "latens.problems.Stack", "init_args": {"operators": [both, coarse]}}
    operator = construct_object(Callable[[Shape], Operator], spec)((1, 8, 6))
    expected = [Downsampling((1, 8, 6), 2).matrix() @ GaussianBlur((1, 8, 6), 0.5).matrix()]
    expected.append(Downsampling((1, 8, 6), 2).matrix())
    torch.testing.assert_close(operator.matrix(), torch.cat(expected))
