"""Dropout of feature maps: masks are a function of the noise, whole maps at a time."""

import pytest
import torch
from monai.networks.blocks.convolutions import ResidualUnit

from latens.distributions import NoiseStream
from latens.errors import ShapeError
from latens.nets.dropout import MapDropout, dropout_maps, dropped, key_dropout


def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unit = ResidualUnit(2, 3, 8, subunits=2, norm="batch", dropout=0.5)
    key_dropout(unit)
    return unit.eval()


def test_the_dropout_of_a_block_is_replaced():
    unit = network()
    assert dropout_maps(unit) == 16
    assert not any(isinstance(module, torch.nn.Dropout) for module in unit.modules())
    x = torch.ones(2, 3, 5, 5)
    before = torch.get_rng_state()
    assert torch.equal(unit(x), unit.train()(x)) is False  # batch statistics, and no dropout
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_maps_are_dropped_at_the_rate_and_rescaled(rate):
    layer = torch.nn.Sequential(MapDropout(50))
    noise = NoiseStream(0).normal((400, 50))
    u = 3 * torch.ones(400, 50, 4, 2)
    with dropped(layer, noise, rate):
        out = layer(u)
    assert torch.equal(layer(u), u)  # outside, everything is as it was
    maps = out.flatten(2)
    assert torch.equal(maps.amin(2), maps.amax(2))  # a map as a whole
    share = (maps[..., 0] == 0).double().mean()
    assert abs(share - rate) < 4.5 * (rate * (1 - rate) / 20_000) ** 0.5
    kept = maps[maps != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3 / (1 - rate)))


def test_every_row_and_layer_has_masks_of_its_own():
    unit = network()
    noise = NoiseStream(1).normal((4, 16))
    x = NoiseStream(2).normal((1, 3, 6, 6)).expand(4, -1, -1, -1)
    with dropped(unit, noise, 0.5), torch.no_grad():
        whole = unit(x)
        first, second = (m.factors for m in unit.modules() if isinstance(m, MapDropout))
    assert not torch.equal(first, second)
    assert len(whole.flatten(1).unique(dim=0)) == 4
    with dropped(unit, noise[2:3], 0.5), torch.no_grad():
        torch.testing.assert_close(unit(x[2:3]), whole[2:3])


def test_an_error_inside_leaves_no_masks():
    layer = MapDropout(3)
    with pytest.raises(RuntimeError, match="inside"), dropped(layer, torch.zeros(2, 3), 0.5):
        raise RuntimeError("inside")
    assert layer.factors is None


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 3)])
def test_noise_of_another_shape(shape):
    layer = MapDropout(3)
    with pytest.raises(ShapeError, match="noise"), dropped(layer, torch.zeros(shape), 0.5):
        pass
