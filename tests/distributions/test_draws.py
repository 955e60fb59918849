"""Draws from noise, their moments, and noise as a function of its key."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical as Choice
from torch.distributions import Independent, MixtureSameFamily, Normal, StudentT

from latens.distributions import (
    IsotropicNormal,
    NoiseStream,
    diagonal_normal,
    draw,
    draw_foreign,
    mixture_moments,
    row_noise,
)
from latens.errors import ShapeError, UnsupportedError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


LOC, SCALE = normal(3, 2, 4), normal(3, 2, 4, seed=1).exp()
FAMILIES = {
    "normal": Normal(LOC, SCALE),
    "independent": Independent(Normal(LOC, SCALE), 2),
    "nested": Independent(Independent(Normal(LOC, SCALE), 1), 1),
    "diagonal_normal": diagonal_normal(LOC, SCALE, 2),
}


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("sample", [(), (5,), (2, 5)])
def test_draw_is_loc_plus_scale_times_noise(name, sample):
    noise = normal(*sample, 3, 2, 4, seed=2)
    torch.testing.assert_close(draw(FAMILIES[name], noise), LOC + SCALE * noise)


def test_gradients_flow_to_loc_and_scale():
    loc, scale = LOC.clone().requires_grad_(), SCALE.clone().requires_grad_()
    noise = normal(5, 3, 2, 4, seed=2)
    draw(diagonal_normal(loc, scale, 2), noise).sum().backward()
    torch.testing.assert_close(loc.grad, torch.full_like(loc, 5.0))
    torch.testing.assert_close(scale.grad, noise.sum(0))


def test_draws_can_be_mapped():
    noise = normal(7, 3, 2, 4, seed=2)
    mapped = torch.func.vmap(
        lambda loc, scale, eps: draw(diagonal_normal(loc, scale, 2), eps), in_dims=(0, 0, 1)
    )(LOC, SCALE, noise)
    torch.testing.assert_close(mapped, (LOC + SCALE * noise).movedim(1, 0))


@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 4), (3, 2, 4, 1), ()])
def test_noise_of_another_shape(shape):
    with pytest.raises(ShapeError, match="noise"):
        draw(FAMILIES["diagonal_normal"], torch.zeros(shape, dtype=torch.float64))


def test_family_without_a_rule():
    with pytest.raises(UnsupportedError, match="StudentT"):
        draw(Independent(StudentT(3.0, LOC, SCALE), 2), LOC)


def test_log_prob_is_summed_over_the_event():
    x = normal(3, 2, 4, seed=5)
    event = diagonal_normal(LOC, SCALE, 2)
    assert event.batch_shape == (3,)
    elementwise = stats.norm.logpdf(x.numpy(), LOC.numpy(), SCALE.numpy())
    np.testing.assert_allclose(event.log_prob(x), elementwise.sum((1, 2)), rtol=1e-12)


def test_moments_of_a_mixture():
    loc, variance = normal(4, 3, 2), normal(4, 3, 2, seed=1).exp()
    mean, total = mixture_moments(loc, variance)
    components = Normal(loc.movedim(0, -1), variance.sqrt().movedim(0, -1))
    mixture = MixtureSameFamily(Choice(torch.ones(3, 2, 4, dtype=torch.float64)), components)
    torch.testing.assert_close(mean, mixture.mean)
    torch.testing.assert_close(total, mixture.variance)
    members = torch.arange(80_000) % 4  # brute force: equally many draws of each component
    draws = loc[members] + variance.sqrt()[members] * normal(80_000, 3, 2, seed=3)
    torch.testing.assert_close(draws.var(0), total, rtol=0.05, atol=0)
    assert not torch.allclose(total, variance.mean(0))


def test_foreign_draws_leave_the_generator_alone():
    family = Independent(StudentT(5.0, LOC, SCALE), 2)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = draw_foreign(family, 4000, seed=1)
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)
    assert first.shape == (4000, 3, 2, 4)
    assert torch.equal(first, draw_foreign(family, 4000, seed=1))
    assert not torch.equal(first, draw_foreign(family, 4000, seed=2))
    standard = ((first - LOC) / SCALE)[:, 0, 0, 0]
    assert stats.kstest(standard.numpy(), stats.t(5).cdf).pvalue > 0.01


MAKERS = {
    "normal": lambda *key: NoiseStream(*key).normal((3, 4)),
    "uniform": lambda *key: NoiseStream(*key).uniform((3, 4)),
    "permutation": lambda *key: NoiseStream(*key).permutation(20),
    "rows": lambda *key: row_noise(key, [4, 7], (3, 2)),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_noise_is_a_function_of_its_key(name):
    make = MAKERS[name]
    first = make(1, 2)
    torch.rand(3)  # whatever happens in between
    assert torch.equal(first, make(1, 2))
    assert torch.equal(first, make(np.int64(1), torch.tensor(2)))
    for other in ((2, 1), (1, 3), (12,), (1, 2, 0)):
        assert not torch.equal(first, make(*other))


def test_keys_are_integers():
    with pytest.raises(TypeError):
        NoiseStream(0.5)


def test_a_stream_goes_on():
    stream, again = NoiseStream(5, 1), NoiseStream(5, 1)
    first, second = stream.normal((4,)), stream.normal((4,))
    assert not torch.equal(first, second)
    assert torch.equal(first, again.normal((4,)))
    assert torch.equal(second, again.normal((4,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["stream", "rows"])
def test_noise_is_standard_normal(name, dtype):
    if name == "stream":
        noise = NoiseStream(1).normal((40, 250), dtype)
    else:
        noise = row_noise((1,), range(40), (250,), dtype)
    assert noise.dtype == dtype
    assert stats.kstest(noise.flatten().double().numpy(), "norm").pvalue > 0.01


def test_uniform_noise_and_permutations():
    uniform = NoiseStream(1).uniform((10_000,))
    assert stats.kstest(uniform.double().numpy(), "uniform").pvalue > 0.01
    assert sorted(NoiseStream(1).permutation(50).tolist()) == list(range(50))


def test_rows_do_not_depend_on_the_batch():
    together = row_noise((3, 1), range(10), (4, 2, 5))
    assert together.shape == (4, 10, 2, 5)
    parts = [row_noise((3, 1), rows, (4, 2, 5)) for rows in ([0, 1, 2], [3], range(4, 10))]
    assert torch.equal(together, torch.cat(parts, dim=1))
    shuffled = [7, 0, 3]
    assert torch.equal(row_noise((3, 1), shuffled, (4, 2, 5)), together[:, shuffled])


@pytest.mark.parametrize("leading", [(), (5,)])
def test_one_scale_per_event_is_a_diagonal_normal(leading):
    """The same density and gradients; images may lack axes that the mean has."""
    loc, value = normal(*leading, 3, 2, 4).requires_grad_(), normal(3, 2, 4, seed=2)
    scale = normal(*leading, 3, 1, 1, seed=1).exp().requires_grad_()
    values = [kind(loc, scale, 2).log_prob(value) for kind in (IsotropicNormal, diagonal_normal)]
    torch.testing.assert_close(*values)
    assert values[0].shape == (*leading, 3)
    gradients = [torch.autograd.grad(v.square().sum(), (loc, scale)) for v in values]
    for own, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(own, expected)
    fast, slow = (kind(loc, scale, 2) for kind in (IsotropicNormal, diagonal_normal))
    torch.testing.assert_close(fast.mean, slow.mean)
    torch.testing.assert_close(fast.stddev, slow.stddev)
