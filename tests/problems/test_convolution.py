"""Convolutions against direct sums, scipy and their definitions."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from latens.errors import ConfigError, ShapeError
from latens.problems import Convolution, GaussianBlur
from problems.operator_cases import normal


def direct(x: np.ndarray, kernel: np.ndarray, circular: bool) -> np.ndarray:
    """y[i] = Σ_j k[j] x[i + c − j], by loops."""
    y = np.zeros_like(x)
    for i in product(*map(range, x.shape)):
        for j in product(*map(range, kernel.shape)):
            source = np.array(i) + np.array(kernel.shape) // 2 - np.array(j)
            if circular:
                source %= x.shape
            elif (source < 0).any() or (source >= x.shape).any():
                continue
            y[i] += kernel[j] * x[tuple(source)]
    return y


@pytest.mark.parametrize("boundary", ["circular", "zero"])
@pytest.mark.parametrize(
    ("size", "kernel_size"),
    [((11,), (4,)), ((7,), (7,)), ((6, 5), (3, 4)), ((4, 3, 5), (2, 3, 3)), ((5, 4), (5, 4))],
)
def test_direct_sum(size, kernel_size, boundary):
    x, kernel = normal(2, 3, *size), normal(*kernel_size, seed=1)
    y = Convolution((3, *size), kernel, boundary)(x)
    for b, c in product(range(2), range(3)):
        expected = direct(x[b, c].numpy(), kernel.numpy(), boundary == "circular")
        np.testing.assert_allclose(y[b, c].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("zero", "constant")])
def test_scipy_odd_kernel(boundary, mode):
    x, kernel = normal(1, 12, 17), normal(5, 7, seed=1)
    y = Convolution((1, 12, 17), kernel, boundary)(x)
    expected = ndimage.convolve(x[0].numpy(), kernel.numpy(), mode=mode)
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-12)


def test_float32_signals_use_float64_transfer_functions():
    kernel = normal(5, 5)
    narrow = Convolution((1, 9, 9), kernel).float()
    x = normal(1, 9, 9)
    torch.testing.assert_close(narrow(x), Convolution((1, 9, 9), kernel)(x), atol=0, rtol=0)


def test_cutoff_defines_the_null_space():
    operator = GaussianBlur((1, 32), 2.0, relative_cutoff=0.1)
    frequencies = torch.arange(32, dtype=torch.float64)
    slow = torch.cos(2 * torch.pi * 2 * frequencies / 32)[None]  # transfer 0.73
    fast = torch.cos(2 * torch.pi * 9 * frequencies / 32)[None]  # transfer 0.002
    torch.testing.assert_close(operator.range_projection(slow + fast), slow)
    torch.testing.assert_close(operator.null_projection(slow + fast), fast)


def test_bad_kernels():
    with pytest.raises(ShapeError, match="`kernel`: expected at most the size of the signal"):
        Convolution((1, 4, 4), torch.ones(5, 3))
    with pytest.raises(ShapeError, match="`kernel`: expected one axis per spatial axis"):
        Convolution((1, 4, 4), torch.ones(3))
    with pytest.raises(ShapeError, match="`kernel`: expected one axis per spatial axis"):
        Convolution((4,), torch.ones(()))
    with pytest.raises(ConfigError, match="`kernel`: expected finite real values"):
        Convolution((1, 4), torch.tensor([1.0, torch.nan]))


def test_bad_settings():
    with pytest.raises(ConfigError, match="`boundary`: expected 'circular' or 'zero'"):
        Convolution((1, 4), torch.ones(3), "reflect")
    with pytest.raises(ConfigError, match="`relative_cutoff`: expected no value with boundary"):
        Convolution((1, 4), torch.ones(3), "zero", relative_cutoff=1e-3)
    with pytest.raises(ConfigError, match="`relative_cutoff`: expected a fraction"):
        Convolution((1, 4), torch.ones(3), relative_cutoff=1.5)
