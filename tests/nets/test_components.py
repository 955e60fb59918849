"""Decoders of a mixture, in every combination, and jitter of images."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.nets import ScaleHead
from latens.nets.components import Decoder
from latens.nets.jitter import Jitter

TRUNKS = ("dense", "conv")
COMPONENTS = ("plain", "embedding", "film")
LIKELIHOODS = ("bernoulli", "fixed", "shared", "per_image", "per_pixel")
ALL = list(itertools.product(TRUNKS, COMPONENTS, LIKELIHOODS))
SHAPE, K, B, DIM = (1, 9, 10), 4, 3, 2


def make(trunk, component, likelihood, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chosen = Decoder(trunk, component, likelihood, width=8, **settings)
        network = chosen.build(DIM, K, SHAPE).double()
        for name, parameter in network.named_parameters():
            if "scale" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return network


def latents(*leading):
    return NoiseStream(0, len(leading)).normal((*leading, DIM), torch.float64)


EYE = torch.eye(K, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("case", ALL, ids="-".join)
def test_a_sum_over_components_is_every_component_alone(case):
    """One pass over all components gives what K passes give, shared or separate latents."""
    decoder = make(*case)
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for z in (latents(1, B), latents(K, B)):
        together = decoder(z, EYE)
        shared = len(z) == 1 and case[1] == "plain"
        assert together.batch_shape == (1 if shared else K, B)
        assert together.event_shape == SHAPE
        log_prob = together.log_prob(x).expand(K, B)
        for c in range(K):
            for b in range(B):
                row = z[c if len(z) > 1 else 0, b : b + 1]
                alone = decoder(row, EYE[c])
                assert alone.batch_shape == (1,)
                torch.testing.assert_close(alone.log_prob(x[b])[0], log_prob[c, b])


@pytest.mark.parametrize("case", ALL, ids="-".join)
def test_the_density_is_the_one_that_was_asked_for(case):
    decoder = make(*case)
    found = decoder(latents(1, B), EYE)
    assert ((found.mean > 0) & (found.mean < 1)).all()
    if case[2] == "bernoulli":
        assert isinstance(found.base_dist, Bernoulli)
        return
    assert isinstance(found.base_dist, Normal)
    sigma = found.stddev
    assert ((sigma >= 0.05) & (sigma <= 0.5)).all()
    components = 1 if case[1] == "plain" else K
    distinct = {"fixed": 1, "shared": 1, "per_image": components * B}
    wanted = distinct.get(case[2], components * B * math.prod(SHAPE))
    assert len(sigma.unique()) == wanted
    assert case[2] != "fixed" or float(sigma.flatten()[0]) == pytest.approx(0.2)


@pytest.mark.parametrize("case", ALL, ids="-".join)
def test_components_matter_where_they_should(case):
    decoder = make(*case)
    z = latents(1, 1).expand(K, 1, DIM)
    mean = decoder(z, EYE).mean
    differences = (mean[1:] - mean[:1]).abs().flatten(1).amax(1)
    assert bool((differences == 0).all()) == (case[1] == "plain")


@pytest.mark.parametrize("case", [c for c in ALL if c[2] in ("per_image", "per_pixel")])
def test_a_separate_scale_is_the_same_but_teaches_its_head_alone(case):
    decoder = make(*case)
    z = latents(K, B).requires_grad_()
    full, separate = decoder(z, EYE), decoder.with_separate_scale(z, EYE)
    assert torch.equal(full.stddev, separate.stddev)
    assert torch.equal(full.mean, separate.mean)
    separate.stddev.log().sum().backward()
    assert z.grad is None
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None) == name.startswith("scale."), name


def test_settings_that_do_not_exist():
    with pytest.raises(ConfigError, match=r"decoder\.width"):
        Decoder("conv", width=6)
    with pytest.raises(ConfigError, match=r"decoder\.patch"):
        Decoder(patch=0)


@pytest.mark.parametrize("free", [-30.0, -2.0, 0.0, 0.3, 5.0])
def test_the_clamp_is_the_published_map(free):
    head = ScaleHead(0.05, 0.5, 0.2, "clamp")
    number = torch.tensor(free, dtype=torch.float64, requires_grad=True)
    sigma = head.bounded(number)
    start = math.log(math.expm1(0.2 - 0.05))
    expected = min(0.05 + math.log1p(math.exp(free + start)), 0.5)
    assert float(sigma.detach()) == pytest.approx(expected)
    sigma.backward()
    assert (float(number.grad) == 0) == (expected == 0.5)
    if 0.06 < expected < 0.49:
        assert float(head.unbounded(sigma.detach())) == pytest.approx(free)


def middle(amounts: dict[int, float]) -> torch.Tensor:
    """Uniform numbers of no change, but for some."""
    uniform = torch.full((1, 6), 0.5)
    for place, value in amounts.items():
        uniform[0, place] = value
    return uniform


def test_no_amount_changes_nothing():
    x = torch.rand(1, 2, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Jitter()(x, middle({})), x)
    torch.testing.assert_close(Jitter(0, 0, 0, 0)(x, torch.zeros(1, 6)), x)


def test_a_shift_by_whole_pixels():
    x = torch.rand(1, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    moved = Jitter(0, 0, 0, 0.2)(x, middle({4: 1.0}))  # reads two pixels further right
    torch.testing.assert_close(moved[..., :8], x[..., 2:])
    torch.testing.assert_close(moved[..., 8:], x[..., -1:].expand(1, 1, 10, 2))


def test_a_quarter_turn():
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    turned = Jitter(angle=90, shear=0, scale=0, shift=0)(x, middle({0: 1.0}))
    assert any(torch.allclose(turned, torch.rot90(x, k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_scale_and_shear_by_coordinates():
    """A grown image reads a smaller neighbourhood: coordinates shrink by 1 + scale."""
    jitter = Jitter(0, 20, 0.25, 0)
    grown = jitter.matrices(middle({2: 1.0}))[0]
    torch.testing.assert_close(grown, torch.tensor([[0.8, 0, 0], [0, 1.0, 0]]))
    sheared = jitter.matrices(middle({1: 1.0}))[0]
    tangent = math.tan(math.radians(20))
    torch.testing.assert_close(sheared, torch.tensor([[1.0, tangent, 0], [0, 1.0, 0]]))


def test_jitter_is_for_two_axes():
    with pytest.raises(ShapeError, match="two spatial axes"):
        Jitter()(torch.rand(2, 1, 4, 4, 4), torch.rand(2, 6))
    with pytest.raises(ConfigError, match="shift"):
        Jitter(shift=0.7)
