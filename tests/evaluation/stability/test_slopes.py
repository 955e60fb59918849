"""Slopes over a ball and the residuals of their searches, where the answer is known."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream
from latens.evaluation.stability import Reconstruction, StabilitySettings, Target
from latens.evaluation.stability.baselines import fitted_tikhonov, fitted_wiener
from latens.evaluation.stability.slopes import ball_slope, local_slopes
from latens.inference import TikhonovSolver, WienerSolver, as_solver
from latens.problems import (
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
)
from latens.problems.wiener import IterativeWiener

KEYS = (3, 8)


def normal(*shape, seed=0):
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


def attacked(function, y, scale):
    return Target(Reconstruction(as_solver(function), KEYS, 0), y, y, scale)


def found_in_ball(target, settings, radius, worst):
    own = target.reconstruction
    local = local_slopes(own, target.y, target.scale, settings).whitened
    return local, ball_slope(target, own.at(target.y), local, worst, radius, settings)


def bent(v):
    """Flat near y, with a cliff at |v| = 1.2 that the Jacobian at y does not see."""
    return 0.1 * v + torch.sigmoid(12 * (v.square().sum((1, 2, 3), keepdim=True) - 1.44)) * v


def test_the_steepest_secant_of_a_bent_map_is_found():
    """Brute force over a polar grid of the disc."""
    y = torch.tensor([[0.3, 0.1], [-0.2, 0.4]], dtype=torch.float64).reshape(2, 1, 1, 2)
    scale = torch.tensor([0.9, 0.9], dtype=torch.float64).expand(2, 2).reshape(2, 1, 1, 2)
    radius = torch.full((2,), 2.0, dtype=torch.float64)
    settings = StabilitySettings(search_draws=1, ball_steps=300, lipschitz_tolerance=1e-8)
    worst = 1.5 * y / y.flatten(1).norm(dim=1).reshape(2, 1, 1, 1)
    local, found = found_in_ball(attacked(bent, y, scale), settings, radius, worst)
    angle = torch.linspace(0, 2 * np.pi, 721, dtype=torch.float64)[:-1]
    length = torch.linspace(0.005, 2, 400, dtype=torch.float64)
    u = length[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)  # (400, 720, 2)
    for b in range(2):
        disturbed = (y[b].flatten() + 0.9 * u).reshape(-1, 1, 1, 2)
        change = (bent(disturbed) - bent(y[b : b + 1])).flatten(1).norm(dim=1)
        brute = (change / u.reshape(-1, 2).norm(dim=1)).max().item()
        assert found[b].item() == pytest.approx(brute, rel=1e-3)
        assert local.value[b].item() < 0.7 * brute


def test_a_search_without_steps_is_no_less_than_the_local_constant():
    matrix = normal(6, 6, seed=5)
    y, scale = normal(2, 1, 2, 3), 0.5 + normal(2, 1, 2, 3, seed=1).square()
    target = attacked(lambda v: (v.flatten(1) @ matrix.mT).reshape(v.shape), y, scale)
    settings = StabilitySettings(search_draws=1, ball_steps=0, lipschitz_tolerance=1e-10)
    radius = torch.full((2,), 6**0.5, dtype=torch.float64)
    local, found = found_in_ball(target, settings, radius, normal(2, 1, 2, 3, seed=2))
    exact = [torch.linalg.matrix_norm(matrix * s.flatten(), 2).item() for s in scale]
    assert found.tolist() == pytest.approx(exact, rel=1e-9)
    assert (found >= local.value).all()


@pytest.mark.parametrize(("steps", "unsettled"), [(1, 2), (60, 0)])
def test_searches_that_were_cut_short_are_counted(steps, unsettled):
    matrix = torch.diag(torch.linspace(1, 2, 42, dtype=torch.float64))
    y = normal(2, 1, 6, 7)
    own = Reconstruction(as_solver(lambda v: (v.flatten(1) @ matrix).reshape(v.shape)), KEYS, 0)
    settings = StabilitySettings(search_draws=1, lipschitz_steps=steps, lipschitz_tolerance=1e-3)
    found = local_slopes(own, y, 0.1 * torch.ones_like(y), settings)
    said = found.diagnostics(1e-3)
    assert said["lipschitz_unsettled"] == unsettled
    assert said["lipschitz_tolerance"] == 1e-3
    # The residual of the plain one, from its own vector.
    v = found.plain.direction.flatten(1)
    square = (v @ matrix).square().sum(1)
    residual = (v @ matrix @ matrix - square[:, None] * v).norm(dim=1) / square
    assert said["lipschitz_residual"] == pytest.approx(residual.max().item(), abs=1e-9)
    # One image above the tolerance, the other not.
    middle = residual.mean().item()
    if unsettled:
        assert found.diagnostics(middle)["lipschitz_unsettled"] == 1


def test_an_image_without_a_derivative_is_counted_and_spares_the_others():
    factor = torch.tensor([torch.nan, 3.0], dtype=torch.float64)
    settings = StabilitySettings(search_draws=1, lipschitz_steps=5)
    y = normal(2, 1, 2, 3)
    y[0] = -y[0].abs()
    y[1] = y[1].abs()
    own = Reconstruction(as_solver(lambda v: v * factor[(v > 0).long()]), KEYS, 0)
    found = local_slopes(own, y, torch.ones_like(y), settings)
    assert found.plain.value[1].item() == pytest.approx(3)
    assert found.diagnostics(1e-2)["lipschitz_unsettled"] == 1


def test_what_worst_cases_are_compared_with():
    shape = (1, 6, 7)
    problem = InverseProblem(Inpainting(shape, 0.7), GaussianNoise(0.2))
    x = normal(5, *shape)
    y = problem.simulate(x, normal(5, *problem.noise_shape, seed=1))
    assert isinstance(fitted_tikhonov(problem, (x, y)), TikhonovSolver)
    assert isinstance(fitted_wiener(problem, (x, y)), WienerSolver)
    assert fitted_tikhonov(problem, None) is None
    assert fitted_wiener(problem, None) is None
    assert fitted_wiener(problem, (x[:1], y[:1])) is None


def test_wiener_by_conjugate_gradients_is_not_attacked():
    problem = InverseProblem(GaussianBlur((1, 72, 72), 1.0, boundary="zero"), GaussianNoise(0.2))
    x = normal(3, 1, 72, 72)
    y = problem.simulate(x, normal(3, *problem.noise_shape, seed=1))
    wiener = WienerSolver.fit(problem, x, y)
    assert isinstance(wiener.wiener, IterativeWiener)  # 5184 measurements
    assert fitted_wiener(problem, (x, y)) is None
