"""Total variation as a baseline: the solver it stands for, and its worst case."""

import pytest
import torch

from latens.data import Phantoms
from latens.distributions import NoiseStream
from latens.evaluation.stability import StabilitySettings, measure_stability
from latens.evaluation.stability.baselines import (
    UnrolledVariationSolver,
    fitted_variation,
    variation_cost,
)
from latens.inference import DEFAULT_DRAWS, TikhonovSolver, TotalVariationSolver, as_solver
from latens.metrics import metric, relative_error
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem, LinearOperator

SHAPE, IMAGES = (1, 16, 16), 3
PROBLEM = InverseProblem(GaussianBlur(SHAPE, 0.8), GaussianNoise(0.05))


@pytest.fixture(scope="module")
def pairs():
    x = Phantoms(size=SHAPE[1:], count=20, seed=3).load().x.double()
    return x, PROBLEM.simulate(x, NoiseStream(4).normal(x.shape, torch.float64))


@pytest.fixture(scope="module")
def solver(pairs) -> UnrolledVariationSolver:
    found = fitted_variation(PROBLEM, pairs)
    assert found is not None
    return found


def test_its_images_are_those_of_total_variation(pairs, solver):
    x, y = pairs
    exact = TotalVariationSolver.fit(PROBLEM, x, y)
    given = exact(y).mean
    whole = solver(y).mean
    assert relative_error(whole, given).max() < 0.02
    coarse = solver.mean_of(y, range(len(y)), 0, draws=1)
    assert relative_error(coarse, given).mean() > relative_error(whole, given).mean()
    torch.testing.assert_close(solver.mean_of(y, range(len(y)), 0, DEFAULT_DRAWS), whole)
    start = TikhonovSolver.fit(PROBLEM, x, y)(y).mean
    assert relative_error(start, given).mean() > 5 * relative_error(whole, given).mean()


def test_its_worst_case_is_worse_than_random_and_the_ratio_that_of_both(pairs, solver):
    x, y = (value[:IMAGES] for value in pairs)
    settings = StabilitySettings(
        restarts=2,
        steps=10,
        level_steps=0,
        ball_steps=0,
        search_draws=1,
        random=19,
        lipschitz_starts=1,
        lipschitz_steps=1,
        probes=1,
        image_restarts=1,
        image_steps=1,
    )
    found = measure_stability(
        as_solver(lambda v: 0.9 * v), PROBLEM, x, y, range(IMAGES), 0, settings, None, None, solver
    )
    rows = found.rows["worst_over_tv"]
    assert rows[:, 0] == pytest.approx(found.rows["worst_error"][:, 0])
    noise = NoiseStream(8).normal((30, *y.shape), torch.float64)
    length = noise.flatten(2).norm(dim=2)[..., None, None, None]
    moved = y + 0.05 * noise * 16 / length  # of the norm of the noise
    random = torch.stack([relative_error(solver(v).mean, x) for v in moved])
    undisturbed = relative_error(solver(y).mean, x).numpy()
    assert (rows[:, 1] > 1.1 * random.amax(0).numpy()).all()
    assert (rows[:, 1] > 1.2 * undisturbed).all()
    expected = rows[:, 0].mean() / rows[:, 1].mean()
    assert metric("worst_over_tv").value(rows) == pytest.approx(expected)


def test_where_there_is_none():
    class Rows(LinearOperator):
        def __init__(self):
            super().__init__((6,), (6,))

        def _map(self, x):
            return x

        def _map_adjoint(self, y):
            return y

    flat = InverseProblem(Rows(), GaussianNoise(0.1))
    assert fitted_variation(PROBLEM, None) is None
    noise = NoiseStream(0).normal((2, 40, 6), torch.float64)
    assert fitted_variation(flat, (noise[0], noise.sum(0))) is None


def test_cost_counts_the_gradients():
    """With one restart: steps + 1 searching; polishing and judging take 4 times as many steps."""
    settings = StabilitySettings(restarts=1, steps=9, polish_steps=2)
    assert variation_cost(settings) == pytest.approx(10 + 4 * (3 + 2 / 3))
