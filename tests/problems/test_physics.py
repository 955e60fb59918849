"""Operators with deepinv's interface: stand-ins always, deepinv itself where it is installed."""

import warnings

import pytest
import torch
from torch import nn

from latens.errors import ConfigError, NumericalError, ShapeError, UnsupportedError
from latens.problems import (
    Composition,
    Convolution,
    Downsampling,
    Inpainting,
    LinearOperator,
    MotionBlur,
    from_physics,
)
from problems.operator_cases import normal, random_kernel
from stand_ins import physics

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


def test_blur():
    kernel = random_kernel(3, 5).float()
    operator = from_physics(physics.Blur(kernel), (2, 7, 9))
    expected = Convolution((2, 7, 9), kernel)
    assert isinstance(operator, LinearOperator)
    torch.testing.assert_close(operator.matrix(), expected.matrix())
    assert operator.norm() == pytest.approx(expected.norm(), rel=1e-6)
    assert operator.view_shape == operator.measurement_shape == (2, 7, 9)
    assert operator.grid_shape is None
    with pytest.raises(UnsupportedError, match="has no other layout of a measurement"):
        operator.from_grid(normal(2, 7, 9))


def test_masked_elements_are_no_measurement():
    keep = normal(6, 5) > 0
    operator = from_physics(physics.Inpainting(keep.expand(2, 6, 5)), (2, 6, 5))
    own = Inpainting((2, 6, 5), mask=keep)
    x = normal(3, 2, 6, 5)
    assert operator.measurement_shape == (2 * int(keep.sum()),)
    torch.testing.assert_close(operator(x), own(x).flatten(1))
    torch.testing.assert_close(operator.view(operator(x)), own.view(own(x)))
    assert operator.grid_shape == (2, 6, 5)
    torch.testing.assert_close(operator.from_grid(torch.where(keep, x, torch.nan)), operator(x))
    with pytest.raises(ShapeError, match="`full`: expected trailing axes"):
        operator.from_grid(x[..., 1:])


def test_a_full_mask_changes_no_layout():
    operator = from_physics(physics.Inpainting(torch.ones(1, 4, 3)), (1, 4, 3))
    assert operator.measurement_shape == (1, 4, 3)
    assert operator.grid_shape is None


def test_zeros_without_a_mask_are_measured():
    class Border(physics.LinearPhysics):
        def A(self, x, **kwargs):
            return nn.functional.pad(x, (1, 1))

        def A_adjoint(self, y, **kwargs):
            return y[..., 1:-1]

    assert from_physics(Border(), (1, 4, 3)).measurement_shape == (1, 4, 5)


def test_what_float32_buffers_and_complex_maps_give_in_float64():
    maps = torch.complex(normal(3, 4, 5), normal(3, 4, 5, seed=1)).to(torch.complex64)
    operator = from_physics(physics.CoilMaps(maps), (2, 4, 5))
    x = normal(2, 4, 5)
    expected = torch.complex(*x) * maps.to(torch.complex128)
    torch.testing.assert_close(operator(x), torch.stack([expected.real, expected.imag]))
    assert operator(x.float()).dtype == torch.float32


def test_later_changes_of_the_object_have_no_effect():
    blur = physics.Blur(random_kernel(3, 3))
    operator = from_physics(blur, (1, 6, 6))
    x = normal(1, 6, 6)
    expected = operator(x)
    blur.filter.zero_()
    torch.testing.assert_close(operator(x), expected)
    assert blur.filter.dtype == torch.float32
    assert operator.state_dict() == {}
    assert list(operator.parameters()) == []


def test_no_module_and_float32_alone():
    matrix = normal(5, 12)
    operator = from_physics(physics.Matrix(matrix, (1, 4, 3)), (1, 4, 3))
    x = normal(2, 1, 4, 3)
    assert operator(x).dtype == torch.float64
    torch.testing.assert_close(operator(x), x.flatten(1) @ matrix.mT, atol=1e-5, rtol=1e-5)
    y = normal(2, 5)
    torch.testing.assert_close(operator.A_adjoint(y).flatten(1), y @ matrix, atol=1e-5, rtol=1e-5)


def test_nonlinear():
    weight = normal(5, 4).float()
    operator = from_physics(physics.Intensity(weight), (2, 3, 5))
    assert not isinstance(operator, LinearOperator)
    assert operator.measurement_shape == (2, 3, 4)
    x, v, w = normal(2, 2, 3, 5), normal(2, 2, 3, 5, seed=1), normal(2, 2, 3, 4, seed=2)
    m = weight.double()
    torch.testing.assert_close(operator(x), (x @ m).square())
    torch.testing.assert_close(operator.jvp(x, v), 2 * (x @ m) * (v @ m))
    torch.testing.assert_close(operator.vjp(x, w), (2 * (x @ m) * w) @ m.mT)
    torch.testing.assert_close(operator(x[0, None, None])[0, 0], operator(x[0]))
    torch.testing.assert_close(torch.func.vmap(operator)(x), operator(x))
    assert operator(x.float()).dtype == torch.float32
    with pytest.raises(ShapeError, match="`x`: expected trailing axes"):
        operator(x[..., 1:])


class Wrong(physics.Blur):
    """A blur whose methods are spoiled one by one."""

    def __init__(self, **methods) -> None:
        super().__init__(random_kernel(3, 3))
        for name, method in methods.items():
            setattr(self, name, method)


BLUR = physics.Blur(random_kernel(3, 3))


@pytest.mark.parametrize(
    "adjoint",
    [BLUR.A, lambda y: 1.01 * BLUR.A_adjoint(y), torch.zeros_like, lambda y: y * torch.nan],
    ids=["not transposed", "scaled", "zero", "nan"],
)
def test_wrong_adjoints(adjoint):
    with pytest.raises(NumericalError, match="`physics`: expected ⟨A x, y⟩ = ⟨x, A_adjoint y⟩"):
        from_physics(Wrong(A_adjoint=adjoint), (1, 8, 8))


@pytest.mark.parametrize("map", [torch.square, lambda x: x + 1], ids=["square", "affine"])
def test_what_is_not_linear_has_no_adjoint(map):
    with pytest.raises(NumericalError, match="leave `A_adjoint` away if `A` is not linear"):
        from_physics(Wrong(A=map, A_adjoint=lambda y: y), (1, 8, 8))


def test_bad_objects():
    with pytest.raises(ConfigError, match="`physics`: expected an object with a method `A`"):
        from_physics(nn.Identity(), (1, 8, 8))
    with pytest.raises(NumericalError, match="Take the noise out of `A`"):
        from_physics(Wrong(A=lambda x: x + torch.randn_like(x)), (1, 8, 8))
    with pytest.raises(UnsupportedError, match="one real tensor from `A`, got list"):
        from_physics(Wrong(A=lambda x: [x, x]), (1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"one real tensor from `A`, got torch\.complex128"):
        from_physics(Wrong(A=torch.fft.fft2), (1, 8, 8))
    with pytest.raises(ShapeError, match="2 measurements of 2 signals from `A`"):
        from_physics(Wrong(A=lambda x: x.sum(0, keepdim=True)), (1, 8, 8))
    with pytest.raises(ShapeError, match="from `A_adjoint`, got shape"):
        from_physics(Wrong(A_adjoint=lambda y: y[..., 1:]), (1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"expected an operator of batches .* RuntimeError"):
        from_physics(physics.Inpainting(torch.ones(1, 5, 5)), (1, 8, 8))


@pytest.fixture(scope="module")
def deepinv():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("deepinv")


def agree(theirs, ours: LinearOperator) -> None:
    """Same map and same adjoint, to what deepinv's float32 constants allow."""
    operator = from_physics(theirs, ours.signal_shape)
    assert isinstance(operator, LinearOperator)
    expected = ours.matrix()
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(operator.matrix(), expected, atol=1e-5, rtol=1e-5)
    x = normal(2, *ours.signal_shape)
    torch.testing.assert_close(operator(x).flatten(1), ours(x).flatten(1), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
class TestDeepinv:
    """Operator by operator agreement."""

    def test_blur_by_fourier_transform(self, deepinv):
        kernel = random_kernel(3, 5)
        theirs = deepinv.physics.BlurFFT((2, 8, 10), kernel.float()[None, None])
        agree(theirs, Convolution((2, 8, 10), kernel))

    def test_blur(self, deepinv):
        ours = MotionBlur((1, 9, 8), [2.5, -3.7])  # symmetric: a kernel or its mirror image
        theirs = deepinv.physics.Blur(ours.kernel.float()[None, None], padding="circular")
        agree(theirs, ours)

    def test_downsampling(self, deepinv):
        theirs = deepinv.physics.Downsampling(img_size=(2, 8, 6), filter=None, factor=2)
        agree(theirs, Downsampling((2, 8, 6), 2, "decimate"))

    def test_blur_with_downsampling(self, deepinv):
        blur = MotionBlur((1, 8, 12), [2.5, -3.7])
        theirs = deepinv.physics.Downsampling(
            img_size=(1, 8, 12),
            filter=blur.kernel.float()[None, None],
            factor=2,
            padding="circular",
        )
        ours = Composition((1, 8, 12), [lambda _: blur, lambda s: Downsampling(s, 2, "decimate")])
        agree(theirs, ours)

    def test_inpainting(self, deepinv):
        keep = normal(7, 6) > 0
        theirs = deepinv.physics.Inpainting((2, 7, 6), mask=keep.float().expand(2, 7, 6))
        agree(theirs, Inpainting((2, 7, 6), mask=keep))
