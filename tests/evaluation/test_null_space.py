"""Range and null space of operators by dense singular values, and of a known posterior."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.null_space import RangeProjection, measure_null_space, range_above_noise
from latens.inference import WienerSolver, as_solver
from latens.metrics import metric
from latens.problems import (
    Composition,
    Downsampling,
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
    Operator,
    PoissonGaussianNoise,
    Radon,
)

OPERATORS = {
    "blur": lambda: GaussianBlur((1, 8, 9), 0.8),
    "blur-zero": lambda: GaussianBlur((1, 7, 8), 0.8, "zero"),
    "inpainting": lambda: Inpainting((2, 7, 6), 0.5),
    "average": lambda: Downsampling((1, 8, 6), 2),
    "blur-average": lambda: Composition(
        (1, 12, 12), [lambda s: GaussianBlur(s, 0.9), lambda s: Downsampling(s, 2)]
    ),
    "mri": lambda: FourierSampling((1, 6, 8), 2),
    "mri-coils": lambda: FourierSampling((2, 6, 5), 2, coils=3),
    "radon": lambda: Radon((1, 7, 7), 6),
}


def normal(*shape, seed=0):
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


@pytest.mark.parametrize("cutoff", [0.0, 0.3])
@pytest.mark.parametrize("name", list(OPERATORS))
def test_projection_against_dense_singular_values(name, cutoff):
    operator = OPERATORS[name]()
    project = RangeProjection(operator, cutoff)
    values, right = torch.linalg.svd(operator.matrix(), full_matrices=False)[1:]
    kept = right[values > project.cutoff]
    x = normal(3, *operator.signal_shape)
    expected = (x.flatten(1) @ kept.mT @ kept).reshape(x.shape)
    torch.testing.assert_close(project(x), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(project(project(x)), project(x))
    assert project.rank == len(kept)
    assert len(kept) <= x[0].numel()
    if cutoff == 0:
        torch.testing.assert_close(project(x), operator.range_projection(x), rtol=0, atol=1e-6)


def test_large_convolutions_need_no_singular_values():
    project = RangeProjection(GaussianBlur((1, 128, 128), 2.0), 0.5)
    x = normal(1, 1, 128, 128)
    torch.testing.assert_close(project(project(x)), project(x))
    assert 0 < project.rank < 128**2


@pytest.mark.parametrize("signal", [0.2, 1.0, 5.0])
def test_white_signals_end_at_noise_over_signal(signal):
    """Every direction has energy τ²: the range ends at s = σ/τ, to the width of a band."""
    problem = InverseProblem(GaussianBlur((1, 16, 16), 1.5), GaussianNoise(0.1))
    x = 3 + signal * normal(400, 1, 16, 16)
    project = range_above_noise(problem, x)
    values = torch.linalg.svdvals(problem.operator.matrix())
    exact = int((values > 0.1 / signal).sum())
    assert 0 < exact < 256
    assert abs(project.rank - exact) <= 256 / 24 + 8


def test_directions_with_more_energy_count_although_their_singular_values_are_small():
    """Where s is 0.5, signals have 100 times the energy of those where s is 1."""
    operator = Diagonal()
    problem = InverseProblem(operator, GaussianNoise(0.8))
    weight = torch.where(operator.weight == 0.5, 10.0, torch.where(operator.weight == 1, 1, 0.1))
    project = range_above_noise(problem, normal(300, 1, 30) * weight)
    assert project.rank == 20
    assert 0.25 < project.cutoff < 0.5
    small = range_above_noise(problem, 0.5 * normal(300, 1, 30))
    assert small.rank == 0
    assert (small(normal(2, 1, 30)) == 0).all()


def test_noise_that_depends_on_the_signal_and_masks():
    problem = InverseProblem(Inpainting((1, 16, 16), 0.4), PoissonGaussianNoise(0.02, 0.1))
    x = 5 + 0.5 * normal(50, 1, 16, 16)  # σ² = .02 · 5 + .01 = .11, below .25
    assert range_above_noise(problem, x).rank == problem.measurement_shape[-1]
    assert range_above_noise(problem, 5 + 0.5 * (x - 5)).rank == 0
    with pytest.raises(ConfigError, match="Give `cutoff`"):
        range_above_noise(problem, x[:1])


class Diagonal(LinearOperator):
    """Singular values 1, 0.5 and 0.25, ten each."""

    def __init__(self):
        super().__init__((1, 30), (1, 30))
        self.weight = torch.tensor([1, 0.5, 0.25], dtype=torch.float64).repeat(10)

    def _map(self, x):
        return x * self.weight.to(x.dtype)

    def _map_adjoint(self, y):
        return y * self.weight.to(y.dtype)


def exact_solver():
    """A Gaussian field, its problem, and its exact posterior."""
    shape = (1, 16, 16)
    problem = InverseProblem(GaussianBlur(shape, 1.5), GaussianNoise(0.1))
    x = normal(300, *shape)
    solver = WienerSolver.fit(problem, x[100:], x[100:])  # the spectrum; the noise is known
    solver.wiener.noise_variance = 0.01
    solver = WienerSolver(problem, solver.wiener.prior, 0.01, 0.0)
    x = x[:100]
    return solver, problem, x, problem.simulate(x, normal(100, *shape, seed=1))


def test_an_exact_posterior_is_calibrated_in_both_parts():
    solver, problem, x, y = exact_solver()
    found = measure_null_space(solver, problem, x, y, range(100), 0, threshold=1.0)
    values = {name: metric(name).value(rows) for name, rows in found.rows.items()}
    singular = torch.linalg.svdvals(problem.operator.matrix())
    assert found.rank == int((singular > found.cutoff).sum())
    assert abs(found.rank - int((singular > 0.1).sum())) <= 20  # white: s = σ/τ
    assert values["spread_skill_null"] == pytest.approx(1, abs=0.03)
    assert values["spread_skill_range"] == pytest.approx(1, abs=0.03)
    assert values["null_error"] == pytest.approx(values["null_variance"], abs=0.01)
    # White signals: what the noise hides is half of the content or more.
    assert values["null_error"] > 0.5
    assert values["injected_content"] < 1
    # P_N(x̂ − x) above one standard deviation; 5 % of all truths lie outside, more of these.
    assert 0.02 < values["unflagged"] < 0.4
    unflagged = found.rows["unflagged"].sum(1)
    np.testing.assert_allclose(unflagged, found.rows["hallucinated"][:, 0], atol=1e-6)


def test_an_overconfident_posterior_does_not_flag():
    solver, problem, x, y = exact_solver()
    narrow = as_solver(lambda v: diagonal_normal(solver(v).mean, 0.2 * solver(v).std, 3))
    rows = [
        measure_null_space(s, problem, x, y, range(100), 0, threshold=1.0).rows
        for s in (solver, narrow)
    ]
    calibrated, sure = (metric("unflagged").value(r["unflagged"]) for r in rows)
    assert sure > 0.95 > 0.4 > calibrated
    spread = metric("spread_skill_null").value(rows[1]["spread_skill_null"])
    assert spread == pytest.approx(0.2, abs=0.02)


def test_points_have_errors_alone_and_maps_add_up():
    solver, problem, x, y = exact_solver()
    point = as_solver(lambda v: solver(v).mean)
    found = measure_null_space(point, problem, x, y, range(100), 0, threshold=1.0, examples=5)
    assert set(found.rows) == {"null_error", "range_mse", "injected_content", "hallucinated"}
    pictures = found.examples.arrays
    np.testing.assert_allclose(
        pictures["null_map"] + pictures["range_map"], pictures["mean"] - pictures["truth"]
    )
    energy = np.square(pictures["null_map"]).mean((1, 2, 3))
    chosen = list(found.examples.images)
    np.testing.assert_allclose(energy, found.rows["null_error"][chosen, 0])


def test_maps_of_a_posterior_agree_with_its_numbers():
    solver, problem, x, y = exact_solver()
    found = measure_null_space(solver, problem, x, y, range(100), 0, threshold=1.0, examples=5)
    pictures, chosen = found.examples.arrays, list(found.examples.images)
    variance = np.square(pictures["null_std"]).mean((1, 2, 3))
    np.testing.assert_allclose(variance, found.rows["null_variance"][chosen, 0])
    flags = pictures["flags"]
    assert set(np.unique(flags)) == {0, 1, 2}
    shares = np.stack([(flags == code).mean((1, 2, 3)) for code in (2, 1)], 1)
    np.testing.assert_allclose(shares, found.rows["unflagged"][chosen])
    hidden = np.abs(pictures["null_map"]) > 1.0
    np.testing.assert_array_equal(flags > 0, hidden)


def test_maps_do_not_depend_on_blocks(monkeypatch):
    solver, problem, x, y = exact_solver()

    def maps():
        found = measure_null_space(solver, problem, x, y, range(100), 0, threshold=1.0)
        return found.examples.arrays

    whole = maps()
    monkeypatch.setattr("latens.evaluation.null_space.block_size", lambda shape: 7)
    for name, array in maps().items():
        np.testing.assert_allclose(array, whole[name], rtol=1e-9, atol=1e-12)


def test_no_maps_where_none_are_asked_for():
    solver, problem, x, y = exact_solver()
    found = measure_null_space(solver, problem, x[:4], y[:4], range(4), 0, 1.0, examples=0)
    assert found.examples.arrays == {}
    assert len(found.rows["null_error"]) == 4


def test_blocks_do_not_matter(monkeypatch):
    solver, problem, x, y = exact_solver()
    whole = measure_null_space(solver, problem, x, y, range(100), 0, threshold=1.0).rows
    monkeypatch.setattr("latens.evaluation.null_space.block_size", lambda shape: 7)
    parts = measure_null_space(solver, problem, x, y, range(100), 0, threshold=1.0).rows
    for name, rows in whole.items():
        np.testing.assert_allclose(parts[name], rows, rtol=1e-9, atol=1e-12)


class Squares(Operator):
    def __init__(self):
        super().__init__((1, 4, 4), (1, 4, 4))

    def forward(self, x):
        return x.square()


class Large(GaussianBlur):
    """Too large for singular values, and without a closed form."""

    def __init__(self):
        super().__init__((1, 96, 96), 1.0, "zero")


def test_operators_without_a_range_say_so():
    x = normal(2, 1, 4, 4)
    problem = InverseProblem(Squares(), GaussianNoise(0.1))
    with pytest.raises(UnsupportedError, match="range and a null space"):
        measure_null_space(as_solver(lambda y: y), problem, x, x, range(2), 0, threshold=0.1)
    with pytest.raises(UnsupportedError, match="smaller images"):
        RangeProjection(Large(), 0.1)
    with pytest.raises(ConfigError):
        RangeProjection(GaussianBlur((1, 8, 8), 0.5), -1.0)
    assert isinstance(Large(), LinearOperator)
