"""Blurs against scipy, integrals along the path and known kernels."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from latens.errors import ConfigError, ShapeError
from latens.problems import GaussianBlur, MotionBlur
from problems.operator_cases import normal


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("zero", "constant")])
@pytest.mark.parametrize("size", [(31,), (23, 30), (17, 18, 19)])
def test_gaussian_blur_is_scipys(size, boundary, mode):
    x = normal(1, *size)
    y = GaussianBlur((1, *size), 1.3, boundary)(x)
    expected = ndimage.gaussian_filter(x[0].numpy(), 1.3, mode=mode, truncate=4.0)
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-12)


def test_gaussian_blur_passes_constants():
    operator = GaussianBlur((1, 20, 21), 2.0)
    ones = torch.ones(1, 20, 21, dtype=torch.float64)
    torch.testing.assert_close(operator(ones), ones)
    assert operator.norm() == pytest.approx(1.0, abs=1e-14)


def along_the_path(x: np.ndarray, displacement: list[float], mode: str) -> np.ndarray:
    """Mean of linearly interpolated values at many times, by scipy."""
    count = 4000
    total = np.zeros_like(x)
    for time in (np.arange(count) + 0.5) / count - 0.5:
        total += ndimage.shift(x, -time * np.array(displacement), order=1, mode=mode)
    return total / count


@pytest.mark.parametrize(
    ("size", "displacement"),
    [
        ((11,), [4.0]),
        ((12,), [-2.7]),
        ((9, 8), [0.0, 3.3]),
        ((9, 8), [3.0, 3.0]),
        ((8, 9), [2.6, -4.1]),
        ((8, 9), [0.3, 0.1]),
        ((5, 6, 7), [1.4, -2.2, 3.1]),
    ],
)
def test_motion_blur_is_the_mean_along_the_path(size, displacement):
    x = normal(1, *size)
    y = MotionBlur((1, *size), displacement)(x)
    expected = along_the_path(x[0].numpy(), displacement, "grid-wrap")
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-6)


def test_motion_beyond_a_zero_boundary():
    x = normal(1, 8, 9)
    y = MotionBlur((1, 8, 9), [2.6, -4.1], "zero")(x)
    padded = np.pad(x[0].numpy(), 4)
    expected = along_the_path(padded, [2.6, -4.1], "grid-wrap")[4:-4, 4:-4]
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-6)


def test_known_kernels():
    kernel = MotionBlur((1, 5, 5), [0.0, 2.0]).kernel
    torch.testing.assert_close(kernel, torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64))
    # Along the diagonal: ∫ (1 − u)² = 1/3 in the middle, ∫ u(1 − u) = 1/6 beside it, twice.
    diagonal = MotionBlur((1, 5, 5), [2.0, 2.0]).kernel
    expected = torch.tensor([[2, 1, 0], [1, 4, 1], [0, 1, 2]], dtype=torch.float64) / 12
    torch.testing.assert_close(diagonal, expected)


@pytest.mark.parametrize("displacement", [[5.3, -2.1], [0.01, 0.0], [1.0, 6.999], [math.pi, 0.2]])
def test_motion_kernel_sums_to_one_and_is_centred(displacement):
    kernel = MotionBlur((1, 12, 12), displacement).kernel
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-14)
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel, kernel.flip(0, 1))
    opposite = MotionBlur((1, 12, 12), [-extent for extent in displacement]).kernel
    torch.testing.assert_close(kernel, opposite)


def test_bad_blurs():
    with pytest.raises(ShapeError, match="narrower kernel or a larger signal"):
        GaussianBlur((1, 8, 8), 1.0)
    with pytest.raises(ConfigError, match="`width`: expected a positive number of pixels, got 0"):
        GaussianBlur((1, 4), 0.0)
    with pytest.raises(ShapeError, match="narrower kernel or a larger signal"):
        MotionBlur((1, 8, 8), [1.0, 8.5])
    with pytest.raises(ShapeError, match="`displacement`: expected one number per spatial axis"):
        MotionBlur((1, 8, 8), [3.0])
    with pytest.raises(ConfigError, match="`displacement`: expected a finite motion"):
        MotionBlur((1, 8, 8), [0.0, 0.0])
    with pytest.raises(ConfigError, match="`displacement`: expected a finite motion"):
        MotionBlur((1, 8, 8), [math.inf, 0.0])
    with pytest.raises(ConfigError, match="`boundary`: expected 'circular' or 'zero'"):
        MotionBlur((1, 8, 8), [1.0, 0.0], "reflect")
