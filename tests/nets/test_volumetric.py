"""Networks for volumes: grids, folding, coordinates, recomputed activations, scale per channel."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError
from latens.nets import PerChannelScale, Volumetric
from latens.nets.volumetric import Broadcast, ResidualBlock, coordinates

SHAPE = (2, 12, 10, 16)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, 3).normal(shape)


@pytest.fixture(autouse=True)
def fixed_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_residual_blocks_start_as_the_identity():
    block = ResidualBlock(3, 8)
    u = normal(2, 8, 3, 4, 5)
    assert torch.equal(block(u), u)
    block.body[-1].weight.data.fill_(0.1)
    assert not torch.allclose(block(u), u)


def test_coordinates_run_from_minus_one_to_one():
    found = coordinates((3, 1, 5))
    assert found.shape == (3, 3, 1, 5)
    assert found[0, :, 0, 0].tolist() == [-1, 0, 1]
    assert found[1].abs().max() == 0
    assert found[2, 1, 0].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_broadcast_is_a_convolution_of_tiled_latents_and_coordinates():
    """Places differ by their coordinates alone: silu(W z + V p + b), the same W, V, b everywhere."""  # noqa: E501
    start = Broadcast(5, 8, (3, 4, 2))
    z = normal(2, 5)
    tiled = z[:, :, None, None, None].expand(2, 5, 3, 4, 2)
    places = coordinates((3, 4, 2)).expand(2, 3, 3, 4, 2)
    weight = torch.cat([start.latent.weight, start.place.weight.flatten(1)], 1)
    bias = start.latent.bias + start.place.bias
    joined = torch.cat([tiled, places], 1)
    whole = torch.nn.functional.conv3d(joined, weight[:, :, None, None, None], bias)
    torch.testing.assert_close(start(z), torch.nn.functional.silu(whole))


@pytest.mark.parametrize("kind", ["standard", "sbd"])
@pytest.mark.parametrize("upsampling", ["resize", "transposed"])
def test_recomputed_activations_change_no_number(kind, upsampling):
    """Outputs and gradients are the same whether activations are kept or not."""
    results = []
    for recompute in (False, True):
        torch.manual_seed(1)
        nets = Volumetric(
            8, features=6, coarse=4, kind=kind, upsampling=upsampling, recompute=recompute
        )
        posterior, decoder = nets.posterior([SHAPE], 3, SHAPE), nets.decoder(3, SHAPE, "shared")
        x = normal(2, *SHAPE)
        q = posterior(x)
        loss = -decoder(q.mean + q.stddev).log_prob(x).sum()
        parameters = [*posterior.parameters(), *decoder.parameters()]
        results.append((loss.detach(), torch.autograd.grad(loss, parameters)))
    torch.testing.assert_close(results[0][0], results[1][0])
    for kept, again in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(kept, again)


def test_one_scale_for_every_channel():
    head = PerChannelScale(3)
    head.free.data[:] = torch.tensor([-0.1, 0.0, 0.2])
    scale = head(torch.zeros(2, 7, 4, 4, 4))
    assert scale.shape == (2, 3, 1, 1, 1)
    assert scale[0, 0, 0, 0, 0] < head.start < scale[1, 2, 0, 0, 0]
    p = Volumetric(4, features=6, coarse=4).decoder(3, SHAPE, "shared")
    p.scale.free.data[:] = torch.tensor([-0.1, 0.2])
    decoded = p(normal(2, 3))
    x = normal(2, *SHAPE, seed=1)
    by_hand = torch.distributions.Normal(decoded.mean, decoded.stddev).log_prob(x)
    torch.testing.assert_close(decoded.log_prob(x), by_hand.flatten(1).sum(1))
    assert (decoded.stddev[:, 0].unique().numel(), decoded.stddev[:, 1].unique().numel()) == (1, 1)
    assert decoded.stddev[0, 0, 0, 0, 0] < decoded.stddev[0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "settings",
    [{"width": 6}, {"features": 0}, {"patch": 0}, {"blocks": -1}, {"posterior_logvar_min": -4}],
)
def test_bad_sizes(settings):
    with pytest.raises(ConfigError):
        Volumetric(**settings)


@pytest.mark.parametrize("scale", ["shared", "per_image", "per_pixel"])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_direct_likelihood_is_that_of_the_distribution(scale, patch):
    decoder = Volumetric(4, features=6, patch=patch, coarse=4).decoder(3, SHAPE, scale).double()
    for parameter in decoder.scale.parameters():
        parameter.data.add_(0.1 * torch.arange(parameter.numel()).reshape(parameter.shape))
    z, x = normal(3, 3).double(), normal(3, *SHAPE, seed=1).double()
    torch.testing.assert_close(decoder.log_prob(z, x), decoder(z).log_prob(x))
    found = torch.autograd.grad(decoder.log_prob(z, x).sum(), list(decoder.parameters()))
    expected = torch.autograd.grad(decoder(z).log_prob(x).sum(), list(decoder.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_posterior_begins_loud_and_stays_above_its_floor():
    nets = Volumetric(8, features=32, coarse=4, posterior_logvar_min=-5.0)
    posterior = nets.posterior([SHAPE], 40, SHAPE)
    q = posterior(normal(16, *SHAPE))
    assert 0.1 < q.stddev.median() < 0.18  # e⁻²
    assert 0.1 < q.mean.std() < 3
    posterior.head.bias.data[40:] = -100.0
    scale = posterior(normal(2, *SHAPE)).stddev
    torch.testing.assert_close(scale, torch.full_like(scale, 0.0820850))  # e^(−5/2)
