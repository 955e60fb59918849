"""Properties of every family of networks, in one, two and three dimensions."""

import pytest
import torch

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.nets import Architecture, Conv, ConvMap, Dense, Linear, Volumetric

ARCHITECTURES: dict[str, Architecture] = {
    "conv": Conv(4, features=6),
    "conv-patch1": Conv(4, features=6, patch=1),
    "map": ConvMap(4),
    "map-patch3": ConvMap(4, patch=3, levels=1),
    "linear": Linear(),
    "dense": Dense(6),
    "volumetric": Volumetric(4, features=6, coarse=4),
    "broadcast": Volumetric(4, features=6, patch=1, kind="sbd", upsampling="transposed"),
}
SHAPES = [(1, 15), (2, 13, 17), (1, 28, 28), (1, 9, 10, 11), (2, 8, 9, 5)]
SCALES = {"conv": ("shared", "per_image", "per_pixel"), "linear": ("shared",)}
CASES = [(name, shape) for name in ARCHITECTURES for shape in SHAPES]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, dtype)


def scales(name: str) -> tuple[str, ...]:
    return SCALES["linear" if name in ("linear", "dense") else "conv"]


@pytest.fixture(autouse=True)
def fixed_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_posterior(name, shape):
    nets = ARCHITECTURES[name]
    dim = nets.latents(2, shape)
    coarse = (3, *(max(s // 2, 1) for s in shape[1:]))  # a measurement on another grid
    posterior = nets.posterior([shape, coarse], dim, shape)
    x, y = normal(3, *shape), normal(3, *coarse)
    q = posterior(x, y)
    assert q.batch_shape == (3,)
    assert q.event_shape == (dim,)
    assert (q.stddev >= torch.exp(torch.tensor(-6.0))).all()
    # a row depends on its own inputs, and on each of them
    torch.testing.assert_close(posterior(x[1:2], y[1:2]).mean, q.mean[1:2], rtol=1e-4, atol=1e-5)
    other = torch.cat([x[:2], normal(1, *shape, seed=9)])
    changed = posterior(other, y).mean
    torch.testing.assert_close(changed[:2], q.mean[:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(changed[2], q.mean[2], atol=1e-4)
    assert not torch.allclose(posterior(x, y + normal(*y.shape, seed=8)).mean, q.mean, atol=1e-4)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_decoder(name, shape):
    nets = ARCHITECTURES[name]
    dim = nets.latents(2, shape)
    for scale in scales(name):
        decoder = nets.decoder(dim, shape, scale)
        z = normal(4, 3, dim)
        p = decoder(z)
        assert p.batch_shape == (4, 3)
        assert p.event_shape == shape
        assert p.mean.shape == p.stddev.shape == (4, 3, *shape)
        torch.testing.assert_close(p.stddev, torch.full_like(p.mean, 0.5))  # the start value
        alone = decoder(z[2, 1][None])
        assert alone.batch_shape == (1,)
        torch.testing.assert_close(alone.mean[0], p.mean[2, 1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(p.mean[2, 1], p.mean[1, 2], atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_pixel_has_a_neighbourhood_of_latents(name, shape):
    # no element of the signal is constant: the padding of odd sizes is cropped, nothing else
    nets = ARCHITECTURES[name]
    dim = nets.latents(2, shape)
    mean = nets.decoder(dim, shape, "shared")(normal(6, dim)).mean
    assert (mean.std(0) > 1e-6).all()


@pytest.mark.parametrize("shape", [(1, 15), (2, 13, 17), (1, 9, 10, 11)])
def test_context_is_shared_by_the_draws(shape):
    coarse = (3, *(s // 2 for s in shape[1:]))
    decoder = Conv(4, features=6).decoder(2, shape, "per_image", coarse)
    z, context = normal(4, 3, 2), normal(3, *coarse)
    p = decoder(z, context)
    for b in range(3):
        own = decoder(z[:, b : b + 1], context[b : b + 1])
        torch.testing.assert_close(own.mean[:, 0], p.mean[:, b], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(decoder(z, context.flip(0)).mean, p.mean, atol=1e-4)


@pytest.mark.parametrize("name", ["map", "linear"])
def test_context_reaches_the_signal_through_the_latents_alone(name):
    nets, shape = ARCHITECTURES[name], (1, 13, 17)
    dim = nets.latents(2, shape)
    decoder = nets.decoder(dim, shape, "shared", shape)
    z = normal(3, dim)
    assert torch.equal(decoder(z, normal(3, *shape)).mean, decoder(z).mean)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_double_precision(name):
    nets, shape = ARCHITECTURES[name], (1, 9, 10)
    dim = nets.latents(2, shape)
    posterior = nets.posterior([shape], dim, shape).double()
    decoder = nets.decoder(dim, shape, scales(name)[-1]).double()
    q = posterior(normal(2, *shape, dtype=torch.float64))
    p = decoder(q.mean)
    assert {q.mean.dtype, q.stddev.dtype, p.mean.dtype, p.stddev.dtype} == {torch.float64}


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_gradients_reach_every_weight(name):
    nets, shape = ARCHITECTURES[name], (1, 13, 17)
    dim = nets.latents(2, shape)
    for scale in scales(name):
        posterior = nets.posterior([shape], dim, shape)
        decoder = nets.decoder(dim, shape, scale)
        q = posterior(normal(3, *shape))
        z = q.mean + q.stddev * normal(3, dim, seed=1)
        decoder(z).log_prob(normal(3, *shape, seed=2)).sum().backward()
        for module in (posterior, decoder):
            missing = [n for n, p in module.named_parameters() if p.grad is None]
            assert not missing


def test_latents_of_a_map():
    assert ConvMap(4).latents(2, (1, 13, 17)) == 2 * 4 * 5  # ⌈⌈13/2⌉/2⌉ × ⌈⌈17/2⌉/2⌉
    assert Conv(4).latents(2, (1, 13, 17)) == 2


def test_a_map_sees_a_neighbourhood():
    shape = (1, 64, 64)
    posterior = ConvMap(4).posterior([shape], ConvMap(4).latents(1, shape), shape)
    decoder = ConvMap(4).decoder(ConvMap(4).latents(1, shape), shape, "shared")
    z = torch.zeros(1, 256, requires_grad=True)
    seen = torch.autograd.grad(decoder(z).mean[0, 0, 0, 0], z)[0].reshape(16, 16)
    # GroupNorm couples all places weakly; the direct dependence is far stronger
    assert seen[:4, :4].abs().sum() > 3 * seen[8:, 8:].abs().sum()
    x = normal(1, *shape).requires_grad_()
    seen = torch.autograd.grad(posterior(x).mean.reshape(16, 16)[0, 0], x)[0][0, 0]
    assert seen[:16, :16].abs().mean() > 3 * seen[32:, 32:].abs().mean()


def test_settings_out_of_range():
    for make in (
        lambda: Conv(6),
        lambda: Dense(0),
        lambda: Conv(8, patch=0),
        lambda: ConvMap(0),
        lambda: ConvMap(8, levels=0),
        lambda: ConvMap(8, levels=9).latents(1, (1, 12, 12)),
        lambda: Linear().decoder(2, (1, 12), "per_pixel"),
    ):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ShapeError, match="spatial"):
        Conv(8).posterior([(1, 4, 4, 4, 4)], 2, (1, 4, 4, 4, 4))


def test_a_dense_encoder_starts_at_principal_scores():
    scores = normal(300, 3) * torch.tensor([3.0, 1.0, 0.2])
    x = (scores @ normal(3, 20, seed=4)).unflatten(1, (1, 20)) + 0.7
    encoder = Dense(8).posterior([(1, 20)], 5, (1, 20))
    encoder.start_at_principal_scores(x)
    loc = encoder.affine(x.flatten(1))
    torch.testing.assert_close(torch.cov(loc[:, :3].mT), torch.eye(3), atol=1e-3, rtol=0)
    assert loc[:, :3].mean(0).abs().max() < 1e-3
    known = torch.cat([loc[:, :3], torch.ones(300, 1)], 1)
    back = known @ torch.linalg.lstsq(known, x.flatten(1)).solution
    torch.testing.assert_close(back, x.flatten(1), atol=1e-3, rtol=0)  # they hold the fields
    assert (encoder(x).stddev < 0.4).all()
