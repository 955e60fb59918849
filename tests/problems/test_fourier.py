"""Fourier sampling against explicit sums, NumPy and, where installed, deepinv."""

import itertools
import math

import numpy as np
import pytest
import torch

from latens.errors import ConfigError, DataError, ShapeError
from latens.problems import FourierSampling
from problems.operator_cases import normal

SIZES = [(4, 5), (6, 4), (5, 3), (3, 4, 2), (4, 3, 5)]


def transform(image: np.ndarray) -> np.ndarray:
    """Orthonormal Fourier transform by its definition, k and n counted from N // 2."""
    result = image.astype(complex)
    for axis, n in enumerate(image.shape):
        count = np.arange(n) - n // 2
        factor = np.exp(-2j * np.pi * np.outer(count, count) / n) / math.sqrt(n)
        result = np.moveaxis(np.tensordot(factor, result, (1, axis)), 0, axis)
    return result


@pytest.mark.parametrize(("spatial", "channels"), list(itertools.product(SIZES, [1, 2])))
def test_is_the_sum_that_defines_it(spatial, channels):
    operator = FourierSampling((channels, *spatial), 1.7, pattern="points", seed=2)
    x = normal(channels, *spatial)
    image = x[0].numpy() + (1j * x[1].numpy() if channels == 2 else 0)
    expected = transform(image)[operator.mask.numpy()]
    measured = operator(x).numpy()
    np.testing.assert_allclose(measured[0] + 1j * measured[1], expected, atol=1e-12)


@pytest.mark.parametrize("spatial", SIZES)
def test_is_numpys_centred_transform(spatial):
    operator = FourierSampling((2, *spatial), 2)
    x = normal(2, *spatial)
    shifted = np.fft.ifftshift(x[0].numpy() + 1j * x[1].numpy())
    expected = np.fft.fftshift(np.fft.fftn(shifted, norm="ortho"))
    grid = torch.from_numpy(np.stack([expected.real, expected.imag]))
    torch.testing.assert_close(operator(x), operator.from_grid(grid))


@pytest.mark.parametrize("channels", [1, 2])
def test_coils_weigh_the_image(channels):
    spatial, maps = (4, 5), torch.complex(normal(3, 4, 5), normal(3, 4, 5, seed=1))
    operator = FourierSampling((channels, *spatial), 2, coils=maps)
    x = normal(channels, *spatial, seed=2)
    image = x[0].numpy() + (1j * x[1].numpy() if channels == 2 else 0)
    measured = operator(x).numpy()
    assert measured.shape == (3, 2, int(operator.mask.sum()))
    for coil in range(3):
        expected = transform(maps[coil].numpy() * image)[operator.mask.numpy()]
        np.testing.assert_allclose(
            measured[coil, 0] + 1j * measured[coil, 1], expected, atol=1e-12
        )


@pytest.mark.parametrize("spatial", [(9, 12), (5, 6, 7)])
def test_simulated_coils(spatial):
    full = FourierSampling((2, *spatial), 1, coils=4)
    x = normal(2, *spatial)
    torch.testing.assert_close(full.A_adjoint(full(x)), x)  # Σ|s|² = 1
    alone = FourierSampling((2, *spatial), 1)
    images = alone.A_adjoint(full(torch.ones_like(x)))  # (coils, 2, *spatial)
    strength = (images.square().sum(1) / 2).sqrt()
    assert strength.min() > 0
    assert strength.std(0).min() > 0.01  # every pixel sees the coils differently
    for axis in range(1, strength.ndim):
        steps = images.diff(dim=axis + 1).abs().amax()
        assert steps < 0.8 * images.abs().max()  # smooth


def test_view_is_zero_filled():
    operator = FourierSampling((2, 6, 5), 2)
    x = normal(3, 2, 6, 5)
    frequencies = transform(x[1, 0].numpy() + 1j * x[1, 1].numpy()) * operator.mask.numpy()
    shifted = np.fft.ifftn(np.fft.ifftshift(frequencies), norm="ortho")
    expected = np.fft.fftshift(shifted)
    view = operator.view(operator(x))
    assert tuple(view.shape[1:]) == operator.view_shape == (2, 6, 5)
    np.testing.assert_allclose(view[1].numpy(), np.stack([expected.real, expected.imag]))
    coils = FourierSampling((1, 4, 4), 2, coils=2)  # a measurement with as many axes as the signal
    assert coils.view(coils(normal(1, 4, 4))).shape == coils.view_shape == (1, 4, 4)


@pytest.mark.parametrize("coils", [None, 3])
def test_from_grid_reads_what_was_sampled(coils):
    operator = FourierSampling((2, 4, 6), 2, coils=coils)
    assert operator.grid_shape == ((2, 4, 6) if coils is None else (3, 2, 4, 6))
    full = FourierSampling((2, 4, 6), 1, coils=coils)
    x = normal(5, 2, 4, 6)
    grid = full(x).unflatten(-1, (4, 6))
    grid = torch.where(operator.mask, grid, torch.nan)
    torch.testing.assert_close(operator.from_grid(grid), operator(x))
    with pytest.raises(ShapeError, match="`full`: expected trailing axes"):
        operator.from_grid(operator(x))


def test_lines():
    mask = FourierSampling((1, 40, 64), 4, 0.125, seed=5).mask
    lines = mask[0]
    assert (mask == lines).all()
    assert lines.sum() == 16
    assert lines[28:36].all()  # 8 lines about frequency 0 at 32
    across = FourierSampling((1, 40, 64), 4, axis=0).mask
    assert (across == across[:, :1]).all()
    assert across.sum() == 10 * 64
    volume = FourierSampling((1, 8, 16, 12), 2, axis=1).mask
    assert (volume == volume[:1, :, :1]).all()
    assert volume[0, :, 0].sum() == 8


@pytest.mark.parametrize("pattern", ["lines", "points"])
def test_seeds_draw_different_frequencies(pattern):
    def mask(seed):
        return FourierSampling((1, 32, 32), 3, pattern=pattern, seed=seed).mask

    assert torch.equal(mask(None), mask(0))
    assert not torch.equal(mask(1), mask(0))


def test_density_falls_from_the_centre():
    masks = [FourierSampling((1, 33, 33), 4, 0.1, "points", seed=i).mask for i in range(60)]
    assert all(mask.sum() == round(33 * 33 / 4) for mask in masks)
    rate = torch.stack(masks).double().mean(0)
    assert rate[15:18, 15:18].min() == 1  # 3 of 33 frequencies along each axis
    radius = ((torch.arange(33) - 16) ** 2 + (torch.arange(33)[:, None] - 16) ** 2).sqrt()
    rings = [rate[(radius >= a) & (radius < a + 4)].mean() for a in (2, 6, 10, 14)]
    assert rings[0] > rings[1] + 0.1 > rings[2] + 0.2 > rings[3] + 0.25
    even = [FourierSampling((1, 33, 33), 4, 0.1, "points", None, 0, i).mask for i in range(60)]
    rate = torch.stack(even).double().mean(0)
    inner, outer = rate[(radius > 3) & (radius < 8)].mean(), rate[radius > 14].mean()
    assert abs(inner - outer) < 5 * math.sqrt(0.25 * 0.75 / 60 / 150)


def test_mask_file(tmp_path):
    mask = normal(6, 5) > 0
    np.save(tmp_path / "mask.npy", mask.numpy())
    operator = FourierSampling((2, 6, 5), mask=str(tmp_path / "mask.npy"))
    assert torch.equal(operator.mask, mask)
    assert torch.equal(FourierSampling((2, 6, 5), mask=mask).mask, mask)
    maps = torch.complex(normal(2, 6, 5), normal(2, 6, 5, seed=1))
    np.save(tmp_path / "maps.npy", maps.numpy())
    x = normal(2, 6, 5)
    torch.testing.assert_close(
        FourierSampling((2, 6, 5), mask=mask, coils=str(tmp_path / "maps.npy"))(x),
        FourierSampling((2, 6, 5), mask=mask, coils=maps)(x),
    )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ConfigError, "`acceleration`: expected a number of at least 1, got None"),
        ({"acceleration": 0.5}, ConfigError, "`acceleration`"),
        ({"acceleration": float("nan")}, ConfigError, "`acceleration`"),
        (
            {"acceleration": 4, "centre_fraction": 0.5},
            ConfigError,
            "`centre_fraction`: .* at most 2",
        ),
        ({"acceleration": 4, "centre_fraction": -1}, ConfigError, "`centre_fraction`"),
        ({"acceleration": 4, "pattern": "spiral"}, ConfigError, "`pattern`"),
        ({"acceleration": 4, "pattern": "points", "axis": 0}, ConfigError, "`axis`"),
        ({"acceleration": 4, "axis": 2}, ConfigError, "`axis`"),
        ({"acceleration": 4, "decay": -1}, ConfigError, "`decay`"),
        ({"acceleration": 4, "coils": 0}, ConfigError, "`coils`"),
        ({"acceleration": 4, "coils": 2.5}, ConfigError, "`coils`"),
        ({"acceleration": 4, "coils": torch.ones(2, 8, 7)}, ShapeError, "`coils`"),
        ({"acceleration": 4, "coils": torch.zeros(2, 8, 8)}, DataError, "`coils`"),
        ({"acceleration": 4, "coils": "none.npy"}, DataError, "`none.npy`"),
        ({"acceleration": 4, "mask": torch.ones(8, 8)}, ConfigError, "no value beside `mask`"),
        ({"seed": 4, "mask": torch.ones(8, 8)}, ConfigError, "no value beside `mask`"),
        ({"mask": torch.ones(8, 7)}, ShapeError, "`mask`"),
        ({"mask": torch.zeros(8, 8)}, DataError, "`mask`"),
        ({"mask": torch.full((8, 8), 0.5)}, DataError, "`mask`"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        FourierSampling((1, 8, 8), **settings)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8), (2, 4, 4, 4, 4)])
def test_bad_signals(shape):
    with pytest.raises(ShapeError, match="`signal_shape`: expected 1 channel"):
        FourierSampling(shape, 2)


def test_large_images_have_closed_solves():
    operator = FourierSampling((1, 200, 301), 3)
    w = operator(normal(1, 200, 301))
    solution = operator.gram_solve(w, 1e-3)
    back = operator.A(operator.A_adjoint(solution)) + 1e-3 * solution
    torch.testing.assert_close(back, w)
    torch.testing.assert_close(operator.A(operator.A_dagger(w)), w)
    assert operator.norm() == 1


def test_agrees_with_deepinv():
    physics = pytest.importorskip("deepinv.physics")
    x = normal(2, 2, 8, 10, dtype=torch.float32)
    maps = torch.complex(normal(3, 8, 10), normal(3, 8, 10, seed=1))
    for coils in (None, maps):
        ours = FourierSampling((2, 8, 10), 2, coils=coils)
        mask = ours.mask.float()
        if coils is None:
            theirs = physics.MRI(mask=mask, img_size=(8, 10))
            grid = theirs.A(x)
        else:
            theirs = physics.MultiCoilMRI(mask=mask, coil_maps=maps[None].to(torch.complex64))
            grid = theirs.A(x).transpose(1, 2)  # deepinv: (B, 2, coils, *spatial)
        torch.testing.assert_close(ours.from_grid(grid), ours(x), atol=1e-5, rtol=1e-4)
        y = theirs.A(x)
        torch.testing.assert_close(theirs.A_adjoint(y), ours.view(ours(x)), atol=1e-5, rtol=1e-4)
