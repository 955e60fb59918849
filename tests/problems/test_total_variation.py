"""Total variation against direct solvers, weak duality and known properties of minimisers."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, minimize
from torch import Tensor

from latens.errors import ConfigError, ShapeError, SolverError, UnsupportedError
from latens.problems import (
    Convolution,
    Downsampling,
    GaussianBlur,
    Identity,
    Inpainting,
    choose_tv_weight,
    total_variation,
)
from latens.problems.duality import Certificate, Point
from problems.operator_cases import OPERATORS, Matrix, normal, random_kernel

GRIDDED = [name for name, make in OPERATORS.items() if len(make().signal_shape) > 1]


def variation(x: Tensor, dims: int) -> Tensor:
    """TV of `(..., C, *spatial)` by `torch.diff`, per item."""
    squares = torch.zeros_like(x)
    for axis in range(-dims, 0):
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        squares = squares + torch.diff(x, dim=axis, append=last).square()
    return squares.sqrt().sum(tuple(range(-dims - 1, 0)))


def objective(operator, x: Tensor, y: Tensor, weight: float) -> Tensor:
    """½ ‖A x − y‖² + weight · TV(x), per item."""
    misfit = (operator(x) - y).square().flatten(-len(operator.measurement_shape)).sum(-1)
    return 0.5 * misfit + weight * variation(x, len(operator.signal_shape) - 1)


def steps(*shape: int, seed: int = 0) -> Tensor:
    """Images that are piecewise constant: signs of smooth fields."""
    smooth = GaussianBlur(shape[1:], 2.0 if min(shape[2:]) > 16 else 0.9)(
        normal(*shape, seed=seed)
    )
    return (smooth > 0).double() + 0.5 * (smooth > 0.3).double()


@pytest.mark.parametrize("name", GRIDDED)
def test_every_operator_reaches_a_small_gap(name):
    operator = OPERATORS[name]()
    y = operator(normal(2, *operator.signal_shape, seed=1))
    y = y + 0.1 * normal(*y.shape, seed=2)
    weight = 0.05 * operator.norm()
    found = total_variation(operator, y, weight, tolerance=1e-3, max_iterations=2000)
    assert found.converged.all()
    assert (found.gap <= 1e-3).all()
    value = objective(operator, found.x, y, weight)
    for seed in range(10):  # nothing nearby is better by more than the gap allows
        other = found.x + 10.0 ** -(seed % 5) * normal(*found.x.shape, seed=10 + seed)
        assert (objective(operator, other, y, weight) >= value * (1 - 1e-3)).all()
    for factor in (0.97, 1.03):
        assert (objective(operator, factor * found.x, y, weight) >= value * (1 - 1e-3)).all()


@pytest.mark.parametrize("weight", [0.02, 0.3, 2.0])
def test_denoising_in_one_dimension_is_a_quadratic_programme(weight):
    # x = y − ∇ᵀp, with p the solution of min ‖y − ∇ᵀp‖² over |p| ≤ weight
    y = steps(1, 1, 40)[0] + 0.3 * normal(1, 40)
    difference = np.diff(np.eye(40), axis=0)
    dual = lsq_linear(difference.T, y[0].numpy(), (-weight, weight), method="bvls", tol=1e-14)
    expected = y[0].numpy() - difference.T @ dual.x
    found = total_variation(Identity((1, 40)), y, weight, tolerance=1e-10, max_iterations=30_000)
    assert found.converged
    np.testing.assert_allclose(found.x[0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(
    "operator",
    [
        Identity((1, 5, 6)),
        GaussianBlur((1, 7, 7), 0.7),
        Convolution((1, 5, 5), random_kernel(3, 3), "zero"),
        Inpainting((1, 5, 6), 0.5),
        Downsampling((1, 6, 6), 2),
        Matrix(),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_the_objective_is_that_of_a_smooth_solver(operator):
    # quasi-Newton on √(|∇x|² + ε²) with falling ε: never below the true minimum
    y = operator(normal(*operator.signal_shape, seed=3))
    y = y + 0.2 * normal(*y.shape, seed=4)
    weight = 0.1
    dims = len(operator.signal_shape) - 1

    def smoothed(flat: np.ndarray, epsilon: float) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(flat).reshape(operator.signal_shape).requires_grad_()
        squares = torch.zeros_like(x) + epsilon**2
        for axis in range(-dims, 0):
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            squares = squares + torch.diff(x, dim=axis, append=last).square()
        value = 0.5 * (operator(x) - y).square().sum() + weight * squares.sqrt().sum()
        (slope,) = torch.autograd.grad(value, x)
        return value.item(), slope.flatten().numpy()

    best = np.zeros(math.prod(operator.signal_shape))
    for epsilon in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        options = {"maxiter": 3000, "gtol": 1e-9}
        best = minimize(smoothed, best, (epsilon,), jac=True, method="BFGS", options=options).x
    reference = torch.from_numpy(best).reshape(operator.signal_shape)
    bound = objective(operator, reference, y, weight).item()
    found = total_variation(operator, y, weight, tolerance=1e-6, max_iterations=30_000)
    value = objective(operator, found.x, y, weight).item()
    assert found.converged
    assert value * (1 - found.gap.item()) <= bound  # the claimed bound holds
    assert value <= bound * (1 + 1e-6)
    assert value >= bound * (1 - 1e-3)  # the smooth solver is near


BOUNDS = [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.4), (0.0, 0.4)]


@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
@pytest.mark.parametrize("name", ["blur-2d", "inpainting-3d-lines", "radon-channels", "matrix"])
def test_weak_duality_at_arbitrary_points(name, lower, upper):
    operator = OPERATORS[name]()
    dims = len(operator.signal_shape) - 1
    y = 0.3 + normal(8, *operator.measurement_shape)
    weight = 0.2
    certificate = Certificate(operator, weight, lower, upper)
    scale = 10.0 ** normal(8, *[1] * len(operator.signal_shape), seed=1)
    p = scale[:, None] * normal(8, dims, *operator.signal_shape, seed=2)
    q = -y + 0.3 * normal(*y.shape, seed=3)
    x = certificate.constant_fit(y)
    primal = objective(operator, x, y, weight)
    dual = primal * (1 - certificate.gap(Point(x, p, q), y))
    assert dual.isfinite().all()
    found = total_variation(operator, y, weight, lower, upper, tolerance=1e-4)
    assert found.converged.all()
    assert (dual <= objective(operator, found.x, y, weight)).all()
    assert dual.max() > 0


@pytest.mark.parametrize(("lower", "upper"), BOUNDS[1:])
def test_bounded_denoising_is_clipped_denoising(lower, upper):
    # in one dimension the level sets of a denoised signal are independent of each other
    y = steps(2, 1, 40) - 0.3 + 0.3 * normal(2, 1, 40)
    operator = Identity((1, 40))
    free = total_variation(operator, y, 0.2, tolerance=1e-8)
    bounded = total_variation(operator, y, 0.2, lower, upper, tolerance=1e-8)
    assert free.converged.all()
    assert bounded.converged.all()
    clipped = free.x.clamp(lower, upper)
    assert (clipped - free.x).abs().max() > 0.1
    torch.testing.assert_close(bounded.x, clipped, rtol=0, atol=1e-3)
    assert bounded.x.min() >= lower
    assert bounded.x.max() <= upper


@pytest.mark.parametrize(("lower", "upper"), BOUNDS[1:])
@pytest.mark.parametrize("name", ["blur-2d", "inpainting-2d", "radon-wide", "mri-3d-complex"])
def test_bounds_with_every_kind_of_operator(name, lower, upper):
    operator = OPERATORS[name]()
    y = operator(0.2 + 0.5 * normal(2, *operator.signal_shape))
    weight = 0.02 * operator.norm()
    found = total_variation(operator, y, weight, lower, upper)
    assert found.converged.all()
    assert found.x.min() >= lower
    assert found.x.max() <= upper
    free = total_variation(operator, y, weight)
    clipped = objective(operator, free.x.clamp(lower, upper), y, weight)
    assert (objective(operator, found.x, y, weight) < clipped).all()


def test_a_sum_of_channels_with_one_bound():
    # A maps (1, −1) to zero: the certificate must not promise what no dual can reach
    operator = Downsampling((2, 8), 2)
    mixed = type(
        "Mixed",
        (Downsampling,),
        {
            "_map": lambda self, x: (
                Downsampling._map(self, x).sum(1, keepdim=True).expand(-1, 2, -1)
            ),
            "_map_adjoint": lambda self, y: Downsampling._map_adjoint(
                self, y.sum(1, keepdim=True).expand(-1, 2, -1)
            ),
        },
    )((2, 8), 2)
    y = mixed(operator.A_adjoint(1 + normal(3, 2, 4)))
    found = total_variation(mixed, y, 0.01, 0.0, math.inf, max_iterations=2000)
    value = objective(mixed, found.x, y, 0.01)
    assert found.gap.isfinite().all()
    for seed in range(10):
        other = (found.x + 0.01 * normal(*found.x.shape, seed=seed)).clamp_min(0)
        assert (objective(mixed, other, y, 0.01) >= value * (1 - found.gap)).all()


@pytest.mark.parametrize("name", ["circular-2d", "inpainting-3d-lines", "mri-2d-complex"])
def test_a_large_weight_gives_the_best_constant(name):
    operator = OPERATORS[name]()
    y = operator(1 + normal(4, *operator.signal_shape))
    weight = Certificate(operator, 1.0, -math.inf, math.inf).constant_weight(y)
    found = total_variation(operator, y, 1.001 * weight)
    constant = found.x.flatten(2)[..., :1]
    torch.testing.assert_close(found.x.flatten(2), constant.expand_as(found.x.flatten(2)))
    channels = torch.eye(operator.signal_shape[0], dtype=torch.float64)
    ones = channels.reshape(*channels.shape, *[1] * (found.x.ndim - 2)).expand(
        -1, *operator.signal_shape
    )
    images = operator(ones).flatten(1)
    levels = torch.linalg.lstsq(images.mT, y.flatten(1).mT).solution.mT
    torch.testing.assert_close(constant[..., 0], levels)
    assert (found.iterations == 0).all()
    smaller = total_variation(operator, y, 0.05 * weight)
    assert smaller.x.flatten(2).std(-1).max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_does_not_depend_on_its_batch(dtype):
    operator = GaussianBlur((1, 12, 13), 0.8)
    y = (operator(steps(6, 1, 12, 13)) + 0.05 * normal(6, 1, 12, 13)).to(dtype)
    y = y * torch.tensor([1.0, 1, 0.1, 1, 3, 1], dtype=dtype).reshape(6, 1, 1, 1)
    together = total_variation(operator, y, 0.02)
    assert together.x.dtype == dtype
    assert together.converged.all()
    assert len(together.iterations.unique()) > 1
    for index in (0, 2, 4):
        alone = total_variation(operator, y[index], 0.02)
        assert alone.x.shape == (1, 12, 13)
        assert alone.iterations == together.iterations[index]
        torch.testing.assert_close(alone.x, together.x[index], rtol=1e-4, atol=1e-5)
    leading = total_variation(operator, y.reshape(2, 3, 1, 12, 13), 0.02)
    assert leading.gap.shape == (2, 3)
    torch.testing.assert_close(leading.x.reshape(6, 1, 12, 13), together.x, rtol=1e-4, atol=1e-5)


def test_the_unit_of_the_image_does_not_matter():
    operator = GaussianBlur((1, 9, 9), 0.8)
    y = operator(steps(2, 1, 9, 9)) + 0.05 * normal(2, 1, 9, 9)
    small = total_variation(operator, y, 0.02)
    large = total_variation(operator, 1e6 * y, 1e6 * 0.02)
    assert torch.equal(small.iterations, large.iterations)
    torch.testing.assert_close(large.x, 1e6 * small.x)


def test_what_did_not_converge_says_so():
    operator = GaussianBlur((1, 9, 9), 0.8)
    y = operator(steps(2, 1, 9, 9)) + 0.05 * normal(2, 1, 9, 9)
    found = total_variation(operator, y, 0.02, max_iterations=3)
    assert not found.converged.any()
    assert (found.iterations == 3).all()
    assert (found.gap > 1e-4).all()
    better = total_variation(operator, y, 0.02)
    assert better.converged.all()
    assert (better.iterations < 1000).all()


def test_an_image_that_is_no_number_spoils_no_other():
    operator = GaussianBlur((1, 9, 9), 0.8)
    y = operator(steps(3, 1, 9, 9)) + 0.05 * normal(3, 1, 9, 9)
    expected = total_variation(operator, y, 0.02).x
    y[1, 0, 4, 4] = math.nan
    found = total_variation(operator, y, 0.02)
    assert found.converged.tolist() == [True, False, True]
    assert found.gap[1].isnan()
    torch.testing.assert_close(found.x[[0, 2]], expected[[0, 2]])


def test_no_signal_at_all():
    found = total_variation(Identity((1, 6, 5)), torch.zeros(2, 1, 6, 5), 0.1)
    assert found.converged.all()
    assert (found.x == 0).all()
    constant = total_variation(GaussianBlur((1, 9, 9), 0.8), torch.full((1, 1, 9, 9), 0.7), 0.1)
    assert constant.converged.all()
    torch.testing.assert_close(constant.x, torch.full((1, 1, 9, 9), 0.7))
    assert total_variation(Identity((1, 6, 5)), torch.zeros(0, 1, 6, 5), 0.1).x.shape[0] == 0


def test_noise_goes_and_edges_stay():
    operator = Identity((1, 32, 32))
    x = steps(4, 1, 32, 32)
    y = x + 0.2 * normal(4, 1, 32, 32)
    found = total_variation(operator, y, 0.2)
    assert (found.x - x).square().mean() < 0.5 * (y - x).square().mean()


def test_the_chosen_weight_is_the_best_of_a_scan():
    operator = GaussianBlur((1, 12, 12), 0.8)
    x = steps(4, 1, 12, 12)
    y = operator(x) + 0.1 * normal(4, 1, 12, 12)

    def error(weight: float) -> float:
        return (total_variation(operator, y, weight).x - x).square().mean().item()

    weight = choose_tv_weight(operator, x, y)
    scan = [weight * 10.0**k for k in (-0.5, 0.5)]
    errors = [error(w) for w in scan]
    assert error(weight) < min(errors)
    assert max(errors) > 1.1 * error(weight)
    narrow = choose_tv_weight(operator, x, y, [weight / 5, weight, weight * 5], 0.02)
    assert narrow == pytest.approx(weight, rel=0.1)


def test_the_choice_looks_at_few_pairs():
    operator = Identity((1, 64))
    x = steps(200, 1, 64)
    y = x + 0.2 * normal(200, 1, 64)
    grid = [0.01, 0.1, 1.0]
    chosen = torch.linspace(0, 199, 16).long()
    whole = choose_tv_weight(operator, x, y, grid)
    assert whole == choose_tv_weight(operator, x[chosen], y[chosen], grid)
    other = [i for i in range(200) if i not in chosen.tolist()]
    x[other], y[other] = math.nan, math.nan
    assert whole == choose_tv_weight(operator, x, y, grid)


def test_the_smallest_weight_where_none_is_too_small():
    operator = Inpainting((1, 24), 0.7)
    x = steps(8, 1, 24)
    candidates = [1e-3, 1e-2, 0.1, 1.0]
    assert choose_tv_weight(operator, x, operator(x), candidates) == 1e-3
    with pytest.raises(SolverError, match="the best at the border"):  # noise alone
        choose_tv_weight(
            operator, 0 * x, 10 * normal(8, 1, operator.measurement_shape[-1]), candidates
        )


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_bad_weight(weight):
    with pytest.raises(ConfigError, match="`weight`: expected a positive number"):
        total_variation(Identity((1, 4)), normal(1, 4), weight)


def test_bad_input():
    with pytest.raises(ConfigError, match="`lower`: expected a number below `upper`"):
        total_variation(Identity((1, 4)), normal(1, 4), 1.0, 2.0, 1.0)
    with pytest.raises(ShapeError, match="`y`"):
        total_variation(Identity((1, 4)), normal(1, 5), 1.0)
    with pytest.raises(UnsupportedError, match="needs a grid"):
        total_variation(Identity((4,)), normal(4), 1.0)
