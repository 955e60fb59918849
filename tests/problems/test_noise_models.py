"""Noise models against their own density: samples, normalisation, moments, score, information."""

import numpy as np
import pytest
import torch
from scipy import stats

from latens.distributions import draw
from latens.errors import ConfigError, DataError, ShapeError
from latens.problems import GaussianNoise, NoiseModel, PoissonGaussianNoise, RicianNoise
from latens.problems.smooth_table import SmoothTable
from problems.operator_cases import NOISES, normal

CLEAN = torch.tensor([0.0, 0.1, 0.6, 3.0], dtype=torch.float64)
SIGNED = ("gaussian", "gaussian-wide", "rician")
"""Models for which a clean value may be negative."""


@pytest.fixture(params=list(NOISES))
def noise(request):
    return NOISES[request.param]()


def quadrature(noise, clean: torch.Tensor):
    """Trapezoid nodes, weights and density of y for each clean value: `(nodes, *clean)`."""
    distribution = noise.elementwise(clean)
    spread = distribution.stddev
    lower, upper = distribution.mean - 14 * spread, distribution.mean + 14 * spread
    if isinstance(noise, RicianNoise):
        lower = lower.clamp_min(0)
    y = lower + torch.linspace(0, 1, 8001, dtype=torch.float64)[:, None] * (upper - lower)
    return y, y[1] - y[0], distribution.log_prob(y).exp()


def score_by_autograd(noise, y: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    clean = clean.expand_as(y).clone().requires_grad_()
    return torch.autograd.grad(noise.elementwise(clean).log_prob(y).sum(), clean)[0]


def measured(noise, clean: torch.Tensor, count: int) -> torch.Tensor:
    shape = (*clean.shape, noise.components) if noise.components > 1 else clean.shape
    return draw(noise(clean, 1), normal(count, *shape))


def test_density_integrates_to_one(noise):
    _, weight, density = quadrature(noise, CLEAN)
    torch.testing.assert_close(
        (weight * density).sum(0), torch.ones_like(CLEAN), rtol=0, atol=2e-7
    )


def test_moments_are_those_of_the_density(noise):
    y, weight, density = quadrature(noise, CLEAN)
    distribution = noise.elementwise(CLEAN)
    mean = (weight * density * y).sum(0)
    variance = (weight * density * (y - mean).square()).sum(0)
    torch.testing.assert_close(distribution.mean, mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(distribution.variance, variance, rtol=1e-6, atol=1e-7)


def test_samples_follow_the_density(noise):
    y, weight, density = quadrature(noise, CLEAN)
    samples = measured(noise, CLEAN, 4000)
    assert samples.shape == (4000, len(CLEAN))
    cumulative = (weight * density).cumsum(0)
    for k in range(len(CLEAN)):
        grid, cdf = y[:, k].numpy(), cumulative[:, k].numpy()
        p = stats.kstest(samples[:, k].numpy(), lambda s, g=grid, c=cdf: np.interp(s, g, c))
        assert p.pvalue > 0.001


def test_score_is_the_derivative(noise):
    y = measured(noise, CLEAN[1:], 50)
    score = noise.score(y, CLEAN[1:])
    torch.testing.assert_close(score, score_by_autograd(noise, y, CLEAN[1:]), rtol=1e-8, atol=1e-8)
    step = 1e-5
    above, below = (noise.elementwise(CLEAN[1:] + s).log_prob(y) for s in (step, -step))
    torch.testing.assert_close(score, (above - below) / (2 * step), rtol=1e-5, atol=1e-4)


def test_second_derivative(noise):
    y = measured(noise, CLEAN[1:], 20)
    clean = CLEAN[1:].expand_as(y).clone().requires_grad_()
    (score,) = torch.autograd.grad(
        noise.elementwise(clean).log_prob(y).sum(), clean, create_graph=True
    )
    (curvature,) = torch.autograd.grad(score.sum(), clean)
    (again,) = torch.autograd.grad(noise.score(y, clean).sum(), clean)
    step = 1e-5
    above, below = (noise.score(y, CLEAN[1:] + s) for s in (step, -step))
    torch.testing.assert_close(curvature, again, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(curvature, (above - below) / (2 * step), rtol=1e-5, atol=1e-4)


def test_fisher_is_the_mean_square_score(noise):
    y, weight, density = quadrature(noise, CLEAN)
    score = noise.score(y, CLEAN)
    information = (weight * density * score.square()).sum(0)
    torch.testing.assert_close(information, noise.fisher(CLEAN), rtol=1e-5, atol=1e-8)
    squares = noise.score(measured(noise, CLEAN[1:], 8000), CLEAN[1:]).square()
    error = squares.std(0) / 8000**0.5
    assert ((squares.mean(0) - information[1:]).abs() < 4.5 * error).all()  # size 7e-6 per value


def test_fisher_is_differentiable(noise):
    clean, step = CLEAN[1:], 1e-4
    slope = torch.func.jvp(noise.fisher, (clean,), (torch.ones_like(clean),))[1]
    difference = (noise.fisher(clean + step) - noise.fisher(clean - step)) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-3, atol=1e-6)
    assert isinstance(noise, GaussianNoise) or (slope.abs() > 1e-6).any()


def test_standardised_residual_has_unit_variance(noise):
    y, weight, density = quadrature(noise, CLEAN)
    white = noise.standardise(y, CLEAN)
    one = (weight * density * white.square()).sum(0)
    torch.testing.assert_close(one, torch.ones_like(CLEAN), rtol=0, atol=2e-6)


def test_information_is_no_less_than_the_moments_give(noise):
    clean = torch.linspace(0.05, 20, 60, dtype=torch.float64)
    slope = torch.func.jvp(
        lambda c: noise.elementwise(c).mean, (clean,), (torch.ones_like(clean),)
    )[1]
    bound = slope.square() / noise.elementwise(clean).variance
    assert (noise.fisher(clean) >= bound * (1 - 1e-5)).all()
    torch.testing.assert_close(
        noise.whiten(clean, clean).square(), noise.fisher(clean) * clean.square()
    )


def test_shapes_and_dtype(noise):
    clean = normal(3, 2, 4, 5, dtype=torch.float32).abs()
    distribution = noise(clean, 2)
    assert distribution.batch_shape == (3, 2)
    assert distribution.event_shape == (4, 5)
    y = distribution.mean + 0.1
    log_prob = distribution.log_prob(y)
    assert log_prob.shape == (3, 2)
    assert log_prob.dtype == torch.float32
    wide = noise(clean.double(), 2).log_prob(y.double())
    torch.testing.assert_close(log_prob.double(), wide, rtol=1e-5, atol=1e-4)
    for value in (noise.fisher(clean), noise.score(y, clean), noise.standardise(y, clean)):
        assert value.shape == (3, 2, 4, 5)
        assert value.dtype == torch.float32
    extra = (noise.components,) if noise.components > 1 else ()
    drawn = draw(distribution, normal(7, 3, 2, 4, 5, *extra, dtype=torch.float32))
    assert drawn.shape == (7, 3, 2, 4, 5)
    assert drawn.dtype == torch.float32
    with pytest.raises(ShapeError, match="`noise`: expected trailing axes"):
        draw(distribution, normal(7, 3, 2, 5, 5, *extra))


def test_leading_axes_broadcast(noise):
    clean = normal(4, 3, 6).abs() + 0.1
    y = normal(3, 6, seed=2).abs() + 0.1
    for function in (noise.score, noise.standardise, lambda y, c: noise(c, 1).log_prob(y)):
        together = function(y, clean)
        torch.testing.assert_close(together[2, 1], function(y[1], clean[2, 1]))


def test_transforms(noise, compile_whole):
    clean, y = CLEAN[1:], measured(noise, CLEAN[1:], 6)

    def log_prob(value, at):
        return noise.elementwise(at).log_prob(value)

    expected = log_prob(y, clean)
    torch.testing.assert_close(torch.func.vmap(log_prob, (0, None))(y, clean), expected)
    tangent = torch.func.jvp(
        lambda c: log_prob(y, c), (clean.expand_as(y).clone(),), (torch.ones_like(y),)
    )[1]
    torch.testing.assert_close(tangent, noise.score(y, clean))
    mapped = torch.func.vmap(torch.func.grad(lambda v, c: log_prob(v, c).sum(), 1), (0, None))
    torch.testing.assert_close(mapped(y, clean), noise.score(y, clean))
    torch.testing.assert_close(compile_whole(log_prob)(y, clean), expected)


def test_estimated_from_pairs(noise):
    unknown = type(noise)()
    assert noise.is_known
    assert noise.estimate(CLEAN, CLEAN) is noise
    assert not unknown.is_known
    clean = 3 * torch.linspace(0, 1, 4000, dtype=torch.float64)
    found = unknown.estimate(measured(noise, clean, 1).squeeze(0), clean)
    assert found.is_known
    # 4 standard errors: 1/√(2n) for a scale; more where gain and scale are told apart.
    tolerance = {GaussianNoise: 0.045, RicianNoise: 0.05, PoissonGaussianNoise: 0.15}
    for level in ("scale", "gain"):
        if hasattr(noise, level):
            wanted = getattr(noise, level)
            assert getattr(found, level) == pytest.approx(wanted, rel=tolerance[type(noise)])


def test_unknown_level(noise):
    unknown = type(noise)()
    for use in (unknown.elementwise, unknown.fisher, lambda c: unknown.score(c, c)):
        with pytest.raises(ConfigError, match=r"a known noise level.*noise\.estimate\(y, clean\)"):
            use(CLEAN)
    assert "None" in repr(unknown)


def test_pairs_that_cannot_be_used(noise):
    unknown = type(noise)()
    with pytest.raises(ShapeError, match="`clean`"):
        unknown.estimate(CLEAN, CLEAN[1:])
    with pytest.raises(DataError, match="finite"):
        unknown.estimate(CLEAN / 0, CLEAN)
    with pytest.raises(DataError, match="finite values, at least one"):
        unknown.estimate(CLEAN[:0], CLEAN[:0])
    with pytest.raises(DataError, match="measurements with noise"):
        unknown.estimate(CLEAN, CLEAN)


@pytest.mark.parametrize("name", SIGNED)
def test_negative_clean_values(name):
    noise = NOISES[name]()
    y = measured(noise, CLEAN[1:], 20)
    score = noise.score(y, -CLEAN[1:])
    torch.testing.assert_close(score, score_by_autograd(noise, y, -CLEAN[1:]))
    assert (noise.fisher(-CLEAN[1:]) == noise.fisher(CLEAN[1:])).all()


def test_a_model_of_its_own_gets_a_score():
    class LaplaceNoise(NoiseModel):
        def elementwise(self, clean):
            return torch.distributions.Laplace(clean, 0.5, validate_args=False)

        def fisher(self, clean):
            return torch.full_like(clean, 4.0)

    y = normal(6, 3)
    score = LaplaceNoise().score(y, CLEAN[:3])
    torch.testing.assert_close(score, 2 * (y - CLEAN[:3]).sign())
    assert LaplaceNoise().is_known


def test_gaussian_score_is_closed_form():
    y = normal(5)
    clean = normal(5, seed=1).requires_grad_()
    (score,) = torch.autograd.grad(GaussianNoise(0.3)(clean, 1).log_prob(y), clean)
    torch.testing.assert_close(score, (y - clean.detach()) / 0.09)


def test_log_prob_keeps_its_constants():
    clean = normal(6)
    expected = stats.norm.logpdf([0.5] * 6, clean.numpy(), 0.3).sum()
    y = torch.full((6,), 0.5, dtype=torch.float64)
    assert GaussianNoise(0.3)(clean, 1).log_prob(y).item() == pytest.approx(expected, rel=1e-12)


def test_gaussian_estimate_from_one_pair():
    y, clean = torch.tensor([1.5]), torch.tensor([1.0])
    assert GaussianNoise().estimate(y, clean).scale == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [GaussianNoise, RicianNoise, PoissonGaussianNoise])
def test_bad_scale(kind, scale):
    with pytest.raises(ConfigError, match="`scale`: expected a positive standard deviation"):
        kind(scale=scale)


def test_a_smooth_table():
    table = SmoothTable(np.sin, -1.0, 4.0, 101)
    x = torch.linspace(-1, 4, 333, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(table(x), x.sin(), rtol=0, atol=2e-7)
    (slope,) = torch.autograd.grad(table(x).sum(), x)
    torch.testing.assert_close(slope[1:-1], x.cos()[1:-1], rtol=0, atol=1e-4)
    ends = table(torch.tensor([-9.0, 9.0]))
    torch.testing.assert_close(ends, torch.tensor([-1.0, 4.0]).sin())
