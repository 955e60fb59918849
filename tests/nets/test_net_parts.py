"""Patches, scale heads and units."""

import math

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError
from latens.nets import PerImageScale, PerPixelScale, ScaleHead, SharedScale, Units, scale_head
from latens.nets.patches import Patches


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, dtype)


@pytest.mark.parametrize("patch", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(2, 7), (1, 13, 17), (3, 12, 12), (1, 9, 10, 11)])
def test_join_inverts_split(shape, patch):
    patches = Patches(shape, patch)
    x = normal(2, *shape)
    folded = patches.split(x)
    assert folded.shape == (2, patches.channels, *patches.grid)
    assert torch.equal(patches.join(folded), x)


def test_a_patch_holds_neighbours():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    folded = Patches((1, 4, 4), 2).split(x)
    assert folded[0, :, 0, 1].tolist() == [2, 3, 6, 7]


def test_another_grid_is_resized():
    patches = Patches((1, 6, 6), 2)
    small = normal(2, 1, 3, 3)
    expected = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(patches.join(patches.split(small)), expected)


HEADS = {
    "shared": lambda *bounds: SharedScale(*bounds),
    "per_image": lambda *bounds: PerImageScale(4, *bounds),
    "per_pixel": lambda *bounds: PerPixelScale(4, 2, *bounds),
}
SIZES = {"shared": (3, 1, 1, 1), "per_image": (3, 1, 1, 1), "per_pixel": (3, 2, 5, 6)}


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("bounds", [(), (0.05, 0.5, 0.1), (1e-4, 10.0, 9.0)])
def test_a_scale_starts_where_it_is_told(name, bounds):
    head = HEADS[name](*bounds)
    sigma = head(normal(3, 4, 5, 6))
    assert sigma.shape == SIZES[name]
    torch.testing.assert_close(sigma, torch.full_like(sigma, head.start))


@pytest.mark.parametrize("free", [-12.0, -3.0, 0.0, 3.0, 12.0])
@pytest.mark.parametrize("bounds", [(), (0.05, 0.5, 0.1)])
def test_bounds_hold_and_the_gradient_never_vanishes(free, bounds):
    head = ScaleHead(*bounds)
    for value, dtype in ((free, torch.float32), (2.5 * free, torch.float64)):
        number = torch.tensor(value, dtype=dtype, requires_grad=True)
        sigma = head.bounded(number)
        sigma.log().backward()
        assert head.lower * (1 - 1e-6) <= sigma.detach() <= head.upper * (1 + 1e-6)
        assert number.grad > 0


@pytest.mark.parametrize("bounds", [(), (0.05, 0.5, 0.1)])
def test_free_numbers_of_a_scale(bounds):
    head = ScaleHead(*bounds)
    sigma = torch.tensor([0.06, head.start, 0.3, 0.45], dtype=torch.float64)
    torch.testing.assert_close(head.bounded(head.unbounded(sigma)), sigma)
    outside = head.bounded(head.unbounded(torch.tensor([1e-9, 1e9], dtype=torch.float64)))
    ends = torch.tensor([head.lower, head.upper], dtype=torch.float64)
    torch.testing.assert_close(outside, ends, rtol=0.01, atol=0)


def test_bounds_are_reached_in_the_limit():
    head = ScaleHead(0.05, 0.5, 0.1)
    ends = head.bounded(torch.tensor([-50.0, 50.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.05, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("name", ["per_image", "per_pixel"])
def test_a_scale_follows_its_features(name):
    head = HEADS[name]()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(normal(*parameter.shape))
    features = normal(3, 4, 5, 6)
    sigma = head(features)
    torch.testing.assert_close(head(features[1:2]), sigma[1:2])
    assert len(sigma.flatten(1).mean(1).unique()) == 3
    if name == "per_pixel":
        assert len(sigma[0].unique()) == 60


def test_scale_by_name():
    kinds = {"shared": SharedScale, "per_image": PerImageScale, "per_pixel": PerPixelScale}
    for name, kind in kinds.items():
        assert type(scale_head(name, 4, 2)) is kind


@pytest.mark.parametrize("bounds", [(0.0, 1.0, 0.5), (0.1, 1.0, 2.0), (0.5, 0.1, 0.2)])
def test_bounds_out_of_order(bounds):
    with pytest.raises(ConfigError, match="lower"):
        ScaleHead(*bounds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_units_round_trip(dtype):
    x = 300 + 20 * normal(50, 1, 8, 8, dtype=dtype)
    units = Units().to(dtype)
    units.fit(x)
    u = units(x)
    assert u.dtype == dtype
    assert abs(u.mean()) < 1e-4
    assert u.std() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(units.inverse(u), x)
    saved = Units().to(dtype)
    saved.load_state_dict(units.state_dict())
    assert torch.equal(saved(x), u)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_constant_data(value):
    with pytest.raises(DataError, match="constant"):
        Units().fit(torch.full((1000, 1), value))  # 0.1: rounding gives a std of 7e-9


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_data_that_are_not_finite(bad):
    x = normal(20, 1)
    x[3] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        Units().fit(x)
