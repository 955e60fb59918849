"""Conditioned Gaussians against dense linear algebra, for every representation."""

import copy
import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import MultivariateNormal

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems import (
    Convolution,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Identity,
    InverseProblem,
    NoiseModel,
    Operator,
    Radon,
    condition,
)
from problems.operator_cases import BlockSum, Matrix, normal, random_kernel

pytestmark = pytest.mark.filterwarnings(  # raised inside torch by the first use of forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)

SCALE = 0.3
BATCH = 3

CASES = {  # operator, event shape of the variance
    "circular-constant": (lambda: GaussianBlur((1, 6, 7), 0.6), (1, 1, 1)),
    "circular-even": (lambda: Convolution((1, 5, 6), random_kernel(2, 3)), (1, 1, 1)),
    "circular-channel": (lambda: Convolution((2, 9), random_kernel(3)), (2, 1)),
    "circular-3d": (lambda: Convolution((1, 3, 4, 3), random_kernel(3, 3, 2)), (1, 1, 1, 1)),
    "circular-pixel": (lambda: GaussianBlur((1, 6, 7), 0.6), (1, 6, 7)),
    "zero-constant": (lambda: GaussianBlur((1, 6, 7), 0.6, "zero"), (1, 1, 1)),
    "zero-pixel": (lambda: Convolution((2, 9), random_kernel(4), "zero"), (2, 9)),
    "identity-pixel": (lambda: Identity((1, 4, 5)), (1, 4, 5)),
    "identity-constant": (lambda: Identity((1, 4, 5)), (1, 1, 1)),
    "block-pixel": (BlockSum, (2, 8)),
    "matrix-pixel": (Matrix, (1, 4, 3)),
    "matrix-constant": (Matrix, (1, 1, 1)),
    "mri-complex-constant": (lambda: FourierSampling((2, 4, 5), 2), (1, 1, 1)),
    "mri-complex-channel": (lambda: FourierSampling((2, 4, 5), 2), (2, 1, 1)),
    "mri-real-constant": (lambda: FourierSampling((1, 6, 5), 2, pattern="points"), (1, 1, 1)),
    "mri-coils-constant": (lambda: FourierSampling((2, 4, 3), 2, coils=2), (1, 1, 1)),
    "radon-constant": (lambda: Radon((1, 5, 6), 5), (1, 1, 1)),
    "radon-narrow-constant": (lambda: Radon((1, 6, 6), 3, 5), (1, 1, 1)),
    "radon-pixel": (lambda: Radon((1, 5, 6), 4), (1, 5, 6)),
}


@pytest.fixture(params=list(CASES))
def case(request):
    """Problem, loc, variance and measurement of a batch."""
    make, event = CASES[request.param]
    operator = make()
    variance = (0.8 * normal(BATCH, *event, seed=1)).exp()
    loc = normal(BATCH, *operator.signal_shape, seed=2)
    y = normal(BATCH, *operator.measurement_shape, seed=3)
    return InverseProblem(operator, GaussianNoise(SCALE)), loc, variance, y


def dense_condition(problem, loc, variance, y):
    """Mean, covariance and marginal log-density of one item by dense algebra."""
    a = problem.operator.matrix()
    v = variance.expand(problem.operator.signal_shape).flatten()
    noise = SCALE**2 * torch.eye(a.shape[0], dtype=a.dtype)
    covariance = torch.linalg.inv(torch.diag(1 / v) + a.mT @ a / SCALE**2)
    residual = y.flatten() - a @ loc.flatten()
    mean = loc.flatten() + covariance @ a.mT @ residual / SCALE**2
    marginal = MultivariateNormal(a @ loc.flatten(), a @ torch.diag(v) @ a.mT + noise)
    return mean.reshape(loc.shape), covariance, marginal.log_prob(y.flatten())


def test_moments_and_marginal(case):
    problem, loc, variance, y = case
    conditioned = condition(loc, variance, y, problem)
    assert conditioned.mean.shape == loc.shape
    assert conditioned.variance.shape == loc.shape
    assert conditioned.marginal_log_prob.shape == (BATCH,)
    for b in range(BATCH):
        mean, covariance, log_prob = dense_condition(problem, loc[b], variance[b], y[b])
        pixel = covariance.diagonal().reshape(loc[b].shape)
        torch.testing.assert_close(conditioned.mean[b], mean, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(conditioned.variance[b], pixel, atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(conditioned.marginal_log_prob[b], log_prob, rtol=1e-10, atol=0)


def test_draws_are_exact(case):
    # a draw is affine in its noise, so its covariance is J Jᵀ without any Monte Carlo
    problem, loc, variance, y = case
    d = math.prod(problem.signal_shape)
    m = math.prod(problem.measurement_shape)
    b = 1
    conditioned = condition(loc[b], variance[b], y[b], problem)
    basis = torch.eye(d + m, dtype=torch.float64)
    offset = conditioned.draw(
        torch.zeros(problem.signal_shape, dtype=torch.float64),
        torch.zeros(problem.measurement_shape, dtype=torch.float64),
    )
    draws = conditioned.draw(
        basis[:, :d].reshape(-1, *problem.signal_shape),
        basis[:, d:].reshape(-1, *problem.measurement_shape),
    )
    jacobian = (draws - offset).flatten(1).mT  # (d, d + m)
    mean, covariance, _ = dense_condition(problem, loc[b], variance[b], y[b])
    torch.testing.assert_close(offset, mean, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(jacobian @ jacobian.mT, covariance, atol=1e-8, rtol=1e-7)


def test_empirical_moments_of_draws():
    problem = InverseProblem(GaussianBlur((1, 5, 6), 0.5, "zero"), GaussianNoise(SCALE))
    loc, y = normal(1, 5, 6), normal(1, 5, 6, seed=1)
    variance = (0.8 * normal(1, 5, 6, seed=2)).exp()
    conditioned = condition(loc, variance, y, problem)
    n = 8_000
    draws = conditioned.draw(normal(n, 1, 5, 6, seed=3), normal(n, 1, 5, 6, seed=4))
    mean, covariance, _ = dense_condition(problem, loc, variance, y)
    std = covariance.diagonal().sqrt()
    z = (draws.mean(0) - mean).flatten() / std * math.sqrt(n)
    assert z.abs().max() < 4.5  # 30 pixels: exceeded with probability 2e-4
    empirical = torch.cov(draws.flatten(1).mT)
    scatter = (covariance.square() + torch.outer(std, std).square()).sqrt() / math.sqrt(n)
    assert ((empirical - covariance) / scatter).abs().max() < 5  # 465 entries: 3e-4


def test_bayes_rule(case):
    # log p(y) = log p(x) + log p(y|x) − log p(x|y) at any x
    problem, loc, variance, y = case
    x = normal(*loc.shape, seed=7)
    conditioned = condition(loc, variance, y, problem)
    scale = variance.expand_as(loc).sqrt()
    prior = torch.distributions.Normal(loc, scale).log_prob(x).flatten(1).sum(1)
    for b in range(BATCH):
        mean, covariance, _ = dense_condition(problem, loc[b], variance[b], y[b])
        posterior = MultivariateNormal(mean.flatten(), covariance).log_prob(x[b].flatten())
        expected = prior[b] + problem.log_likelihood(y[b], x[b]) - posterior
        torch.testing.assert_close(conditioned.marginal_log_prob[b], expected)


@pytest.mark.parametrize("quantity", ["mean", "variance", "marginal_log_prob", "draw"])
def test_derivatives(case, quantity):
    problem, loc, variance, y = case
    noise_x, noise_n = normal(*loc.shape, seed=5), normal(*y.shape, seed=6)

    def function(loc, log_variance, y):
        conditioned = condition(loc, log_variance.exp(), y, problem)
        if quantity == "draw":
            return conditioned.draw(noise_x, noise_n)
        return getattr(conditioned, quantity)

    inputs = tuple(v.clone().requires_grad_() for v in (loc, variance.log(), y))
    # steps of 1e-4, since iterative solves stop at 1e-10
    assert gradcheck(function, inputs, eps=1e-4, atol=1e-5, check_forward_ad=True, fast_mode=True)
    if quantity in ("mean", "marginal_log_prob"):
        assert gradgradcheck(function, inputs, eps=1e-4, atol=1e-4, fast_mode=True)


def test_vmap_and_grad_agree_with_batching(case):
    problem, loc, variance, y = case

    def density(loc, variance, y):
        return condition(loc, variance, y, problem).marginal_log_prob

    def mean(loc, variance, y):
        return condition(loc, variance, y, problem).mean

    expected = condition(loc, variance, y, problem)
    torch.testing.assert_close(
        torch.func.vmap(density)(loc, variance, y), expected.marginal_log_prob
    )
    torch.testing.assert_close(
        torch.func.vmap(mean)(loc, variance, y), expected.mean, atol=1e-8, rtol=1e-8
    )
    shared = torch.func.vmap(mean, (0, None, None))(loc, variance[0], y[0])
    torch.testing.assert_close(shared[0], expected.mean[0], atol=1e-8, rtol=1e-8)
    score = torch.func.vmap(torch.func.grad(density))(loc, variance, y)
    gain = problem.operator.A_adjoint(expected.innovation.solve(y - problem.operator(loc)))
    torch.testing.assert_close(score, gain, atol=1e-7, rtol=1e-7)


def test_first_use_inside_a_transform_leaves_a_usable_operator():
    def make():
        return InverseProblem(GaussianBlur((1, 6, 7), 0.6, "zero"), GaussianNoise(SCALE))

    problem, loc, y = make(), normal(2, 1, 6, 7), normal(2, 1, 6, 7, seed=1)

    def density(loc, y):
        return condition(loc, 0.5, y, problem).marginal_log_prob

    torch.func.vmap(torch.func.grad(density))(loc, y)  # fills what the operator keeps
    expected = condition(loc, 0.5, y, make()).marginal_log_prob
    torch.testing.assert_close(density(loc, y), expected)
    kept = problem.operator.matrix()
    assert torch.func.debug_unwrap(kept) is kept
    copied = condition(loc, 0.5, y, copy.deepcopy(problem)).marginal_log_prob
    torch.testing.assert_close(copied, expected)


def test_leading_axes_broadcast(case):
    problem, loc, variance, y = case
    latents = torch.stack([loc, loc + 1, loc - 1, loc * 2])  # (4, B, ...)
    conditioned = condition(latents, variance, y, problem)
    assert conditioned.mean.shape == (4, *loc.shape)
    assert conditioned.variance.shape == (4, *loc.shape)
    assert conditioned.marginal_log_prob.shape == (4, BATCH)
    torch.testing.assert_close(
        conditioned.mean[2, 1],
        condition(loc[1] - 1, variance[1], y[1], problem).mean,
        atol=1e-8,
        rtol=1e-8,
    )
    noise_x = normal(5, *latents.shape)
    noise_n = normal(5, 4, *y.shape, seed=1)
    draws = conditioned.draw(noise_x, noise_n)
    single = condition(loc[0], variance[0], y[0], problem)
    torch.testing.assert_close(
        draws[3, 0, 0], single.draw(noise_x[3, 0, 0], noise_n[3, 0, 0]), atol=1e-7, rtol=1e-7
    )


def test_float32(case):
    problem, loc, variance, y = case
    wide = condition(loc, variance, y, problem)
    narrow = condition(loc.float(), variance.float(), y.float(), problem)
    for name, tolerance in (("mean", 1e-4), ("variance", 1e-4), ("marginal_log_prob", 1e-4)):
        value = getattr(narrow, name)
        assert value.dtype == torch.float32
        torch.testing.assert_close(
            value.double(), getattr(wide, name), atol=tolerance, rtol=tolerance
        )


def test_number_as_variance():
    problem = InverseProblem(GaussianBlur((1, 8, 8), 0.6), GaussianNoise(SCALE))
    loc, y = normal(2, 1, 8, 8), normal(2, 1, 8, 8, seed=1)
    tensor = torch.full((1, 8, 8), 0.7, dtype=torch.float64)
    closed, general = (condition(loc, v, y, problem) for v in (0.7, tensor))
    assert type(closed.innovation) is not type(general.innovation)
    for name in ("mean", "variance", "marginal_log_prob"):
        torch.testing.assert_close(
            getattr(closed, name), getattr(general, name), atol=1e-8, rtol=1e-8
        )


def test_zero_variance_leaves_the_prior_mean():
    problem = InverseProblem(GaussianBlur((1, 8, 8), 0.6), GaussianNoise(SCALE))
    loc, y = normal(1, 8, 8), normal(1, 8, 8, seed=1)
    for variance in (0.0, torch.zeros(1, 8, 8, dtype=torch.float64)):
        conditioned = condition(loc, variance, y, problem)
        torch.testing.assert_close(conditioned.mean, loc)
        torch.testing.assert_close(conditioned.marginal_log_prob, problem.log_likelihood(y, loc))


def test_large_heteroscedastic_problem_draws_but_has_no_dense_quantities():
    problem = InverseProblem(GaussianBlur((1, 72, 72), 1.0), GaussianNoise(0.05))
    variance = (1.5 * normal(2, 1, 72, 72)).exp()
    loc, y = normal(2, 1, 72, 72, seed=1), normal(2, 1, 72, 72, seed=2)
    conditioned = condition(loc, variance, y, problem)
    mean = conditioned.mean
    # normal equations of the posterior mean
    gradient = problem.operator.A_adjoint(y - problem.operator(mean)) / 0.05**2
    torch.testing.assert_close(gradient, (mean - loc) / variance, atol=1e-5, rtol=1e-5)
    for name in ("variance", "marginal_log_prob"):
        with pytest.raises(UnsupportedError, match="at most 4096 measurements"):
            getattr(conditioned, name)


def test_closed_form_has_no_size_limit():
    problem = InverseProblem(GaussianBlur((1, 80, 90), 1.0), GaussianNoise(0.05))
    conditioned = condition(normal(1, 80, 90), 0.5, normal(1, 80, 90, seed=1), problem)
    assert conditioned.marginal_log_prob.isfinite()
    assert 0 < conditioned.variance.min() < conditioned.variance.max() + 1e-15 < 0.5


def test_unsupported_problems():
    class Square(Operator):
        def forward(self, x):
            return x.square()

    class Other(NoiseModel):
        def elementwise(self, clean):
            return torch.distributions.Laplace(clean, 1.0)

        def fisher(self, clean):
            return torch.ones_like(clean)

    x = normal(1, 4)
    with pytest.raises(UnsupportedError, match="`problem`: expected a LinearOperator"):
        condition(x, 1.0, x, InverseProblem(Square((1, 4), (1, 4)), GaussianNoise(1.0)))
    with pytest.raises(UnsupportedError, match="`problem`: expected GaussianNoise"):
        condition(x, 1.0, x, InverseProblem(Identity((1, 4)), Other()))


def test_bad_arguments():
    problem = InverseProblem(Identity((1, 4)), GaussianNoise(1.0))
    x = normal(1, 4)
    with pytest.raises(ConfigError, match="`variance`: expected a non-negative number, got -1"):
        condition(x, -1.0, x, problem)
    with pytest.raises(ShapeError, match=r"`variance`: expected a shape that broadcasts"):
        condition(x, torch.ones(3), x, problem)
    with pytest.raises(ShapeError, match="`loc`: expected trailing axes"):
        condition(normal(5), 1.0, x, problem)
    with pytest.raises(ShapeError, match="`y`: expected trailing axes"):
        condition(x, 1.0, normal(5), problem)
    with pytest.raises(ShapeError, match="`noise`"):
        condition(x, 1.0, x, problem).draw(normal(2, 4), x)


def test_compiled_density_has_no_graph_break(compile_whole):
    problem = InverseProblem(GaussianBlur((1, 8, 8), 0.6), GaussianNoise(SCALE))
    y = normal(2, 1, 8, 8)

    def density(loc, log_scale):
        variance = (2 * log_scale).exp()[:, None, None, None]
        return condition(loc, variance, y, problem).marginal_log_prob.sum()

    loc, log_scale = normal(2, 1, 8, 8, seed=1).requires_grad_(), normal(2).requires_grad_()
    compiled = compile_whole(density)
    expected = torch.autograd.grad(density(loc, log_scale), (loc, log_scale))
    gradients = torch.autograd.grad(compiled(loc, log_scale), (loc, log_scale))
    torch.testing.assert_close(gradients, expected)
