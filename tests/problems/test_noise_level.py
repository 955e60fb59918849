"""Blind estimates of the noise level against the level that was added."""

import math

import pytest
import torch

from latens.data import Phantoms
from latens.errors import ConfigError, DataError, ShapeError
from latens.problems import GaussianBlur, estimate_scale
from problems.operator_cases import normal


@pytest.mark.parametrize("shape", [(4000,), (64, 64), (16, 17, 18)])
def test_noise_alone(shape):
    y = 0.3 * normal(40, *shape)
    found = estimate_scale(y, len(shape)) / 0.3
    assert found.shape == (40,)
    slack = {1: 2.2, 2: 1.9, 3: 2.6}[len(shape)]  # relative standard error times √m
    error = slack / math.sqrt(math.prod(shape))
    assert abs(found.mean().item() - 1) < 4 * error / math.sqrt(40) + 0.001
    assert 0.6 * error < found.std().item() < 1.5 * error


@pytest.mark.parametrize(
    ("size", "scale", "bias"),
    [
        *(((64, 64), 0.1, 0.0), ((64, 64), 0.05, 0.04), ((64, 64), 0.02, 0.16)),
        *(((64, 64), 0.01, 0.29), ((24, 24, 24), 0.05, 0.02), ((24, 24, 24), 0.01, 0.08)),
    ],
)
def test_sharp_phantoms_bias_it_as_documented(size, scale, bias):
    x = Phantoms(size=size, count=12).load().x[:, 0].double()
    found = estimate_scale(x + scale * normal(*x.shape), len(size)) / scale
    assert found.median().item() - 1 == pytest.approx(bias, abs=0.02)


@pytest.mark.parametrize("scale", [0.05, 0.02, 0.01])
def test_blurred_phantoms_hardly_bias_it(scale):
    x = Phantoms(size=(64, 64), count=12).load().x.double()
    clean = GaussianBlur((1, 64, 64), 1.5)(x)
    found = estimate_scale(clean + scale * normal(*x.shape), 2) / scale
    assert found.shape == (12, 1)
    assert abs(found.median().item() - 1) < 0.02


def test_polynomials_and_units_do_not_matter():
    noise = 0.1 * normal(3, 20, 30)
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    trend = (5 + 3 * row + row**2 + column * row + 2 * column**2).double()
    torch.testing.assert_close(estimate_scale(noise + trend, 2), estimate_scale(noise, 2))
    torch.testing.assert_close(estimate_scale(7 * noise, 2), 7 * estimate_scale(noise, 2))


def test_a_masked_background_does_not_count():
    y = 0.2 * normal(80, 80)
    alone = estimate_scale(y, 2)
    y[:, :60] = 0
    assert estimate_scale(y, 2).item() == pytest.approx(alone.item(), rel=0.15)


def test_bad_input():
    with pytest.raises(ConfigError, match="`spatial_axes`"):
        estimate_scale(normal(5, 5), 0)
    for y in (normal(5), normal(5, 2)):
        with pytest.raises(ShapeError, match="`y`: expected 2 image axes"):
            estimate_scale(y, 2)
    with pytest.raises(DataError, match="finite"):
        estimate_scale(normal(5, 5) / 0, 2)
    with pytest.raises(DataError, match="a measurement with noise"):
        estimate_scale(torch.ones(5, 5), 2)
