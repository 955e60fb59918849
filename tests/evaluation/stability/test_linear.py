"""Linear reconstructions, for which every search has an exact answer."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from latens.distributions import NoiseStream
from latens.evaluation.stability import (
    Jacobian,
    Reconstruction,
    StabilitySettings,
    Target,
    WorstCase,
    ascend,
    largest_singular_value,
    measure_stability,
    measure_transfer,
    noise_scale,
    steepest,
    worst_case,
)
from latens.evaluation.stability.image_attack import attack_image
from latens.evaluation.stability.lipschitz import (
    condition_number,
    expected_chi2,
    mean_square_gain,
)
from latens.evaluation.stability.worst_case import (
    noise_to_error,
    random_disturbances,
    relative_noise_to_error,
)
from latens.inference import TikhonovSolver, WienerSolver, as_solver
from latens.metrics import NOISE_LEVELS, RELATIVE_LEVELS, data_chi2, metric
from latens.problems import (
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    PoissonGaussianNoise,
    RicianNoise,
)
from oracles.secular import farthest

SHAPE, IMAGES, KEYS = (1, 6, 7), 4, (3, 8, 1, 0)
SIZE = 42


def normal(*shape, seed=0):
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


MAP = normal(SIZE, SIZE, seed=5) / SIZE**0.5


def linear(y):
    return (y.flatten(1) @ MAP.mT).reshape(y.shape)


def exact(search_draws=1, **settings):
    """Budgets with which a search arrives."""
    return StabilitySettings(
        search_draws=search_draws,
        lipschitz_tolerance=1e-8,
        lipschitz_steps=300,
        steps=600,
        polish_steps=50,
        **settings,
    )


def reconstruction(function=linear):
    return Reconstruction(as_solver(function), KEYS, 0)


def target():
    x, y = normal(IMAGES, *SHAPE, seed=1), normal(IMAGES, *SHAPE, seed=2)
    scale = 0.1 + normal(IMAGES, *SHAPE, seed=3).square()
    return Target(reconstruction(), x, y, scale)


def test_products_with_the_jacobian():
    jacobian = Jacobian(reconstruction(), normal(IMAGES, *SHAPE))
    v = normal(IMAGES, *SHAPE, seed=8)
    torch.testing.assert_close(jacobian.push(v), linear(v))
    torch.testing.assert_close(jacobian.pull(v).flatten(1), v.flatten(1) @ MAP)
    torch.testing.assert_close(jacobian.x, linear(normal(IMAGES, *SHAPE)))


def test_singular_values_to_eight_digits():
    scale = 0.1 + normal(IMAGES, *SHAPE, seed=3).square()
    start = normal(IMAGES, 2, *SHAPE, seed=4)
    found = steepest(reconstruction(), normal(IMAGES, *SHAPE), scale, start, 1e-8, 300)
    for b in range(IMAGES):
        own = MAP * scale[b].flatten()
        left = torch.linalg.svd(own)
        assert found.value[b].item() == pytest.approx(left.S[0].item(), rel=1e-8)
        assert abs(found.direction[b].flatten() @ left.Vh[0]) == pytest.approx(1, abs=1e-6)
    assert (found.residual <= 1e-8).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_residual_bounds_the_distance_to_a_singular_value(seed):
    """Whenever it stops, some squared singular value lies within the residual, and ρ is below."""
    gram = MAP.mT @ MAP
    start = normal(3, SIZE, seed=seed)
    values = torch.linalg.eigvalsh(gram)
    for steps in (1, 2, 4, 8):
        found = largest_singular_value(lambda v: v @ gram, start, 1e-12, steps)
        square = found.value.square()
        distance = (values[None] - square[:, None]).abs().amin(1)
        assert (distance <= found.residual * square * (1 + 1e-9)).all()
        assert (square <= values[-1] * (1 + 1e-12)).all()


def test_it_stops_on_the_residual_and_not_before():
    gram = torch.diag(torch.linspace(1, 100, SIZE, dtype=torch.float64))
    count = []

    def product(v):
        count.append(1)
        return v @ gram

    found = largest_singular_value(product, normal(1, SIZE), 1e-5, 500)
    assert found.residual <= 1e-5
    assert len(count) < 60
    rough = largest_singular_value(product, normal(1, SIZE), 1e-5, 2)
    assert rough.residual > 1e-5


def test_degenerate_and_zero_maps():
    identity = largest_singular_value(lambda v: 4 * v, normal(3, SIZE), 1e-10, 50)
    torch.testing.assert_close(identity.value, torch.full((3,), 2.0, dtype=torch.float64))
    zero = largest_singular_value(lambda v: 0 * v, normal(3, SIZE), 1e-10, 50)
    assert zero.value.tolist() == [0, 0, 0]
    rank_one = normal(SIZE, 1) @ normal(1, SIZE)
    square = rank_one.mT @ rank_one
    found = largest_singular_value(lambda v: v @ square, normal(2, SIZE), 1e-9, 9)
    norm = torch.linalg.matrix_norm(rank_one, 2)
    torch.testing.assert_close(found.value, norm.expand(2))


def test_worst_case_is_the_root_of_the_secular_equation():
    attacked = target()
    radius = torch.tensor([0.3, 1.0, 3.0, 6.5], dtype=torch.float64)
    starts = random_disturbances(KEYS, 0, 5, attacked.y, radius).transpose(0, 1)
    found = worst_case(attacked, radius, starts, exact())
    for b in range(IMAGES):
        x, y, scale = (v[b].flatten().numpy() for v in (attacked.x, attacked.y, attacked.scale))
        weighted = MAP.numpy() * scale
        value, u = farthest(weighted, MAP.numpy() @ y - x, float(radius[b]))
        size = np.linalg.norm(x)
        assert found.error[b].item() == pytest.approx(value / size, rel=1e-6)
        assert found.error[b].item() <= value / size * (1 + 1e-12)
        np.testing.assert_allclose(found.whitened[b].flatten(), u, atol=2e-3 * float(radius[b]))
        assert found.whitened[b].norm() <= radius[b] * (1 + 1e-12)


def test_the_oracle_against_a_general_optimiser():
    matrix, offset = normal(5, 4, seed=1).numpy(), normal(5, seed=2).numpy()

    def objective(v):
        u = 1.7 * v / np.linalg.norm(v)
        return -np.linalg.norm(matrix @ u + offset)

    starts = normal(20, 4, seed=3).numpy()
    best = min(minimize(objective, start, tol=1e-14).fun for start in starts)
    assert farthest(matrix, offset, 1.7)[0] == pytest.approx(-best, rel=1e-8)


def test_errors_rise_with_the_radius_and_end_at_the_exact_ones():
    attacked = target()
    radius = torch.full((IMAGES,), SIZE**0.5, dtype=torch.float64)
    starts = random_disturbances(KEYS, 0, 3, attacked.y, radius).transpose(0, 1)
    settings = exact(level_steps=400)
    main = worst_case(attacked, radius, starts, settings)
    curve = noise_to_error(attacked, main, radius, NOISE_LEVELS, settings)
    for b in range(IMAGES):
        x, y, scale = (v[b].flatten().numpy() for v in (attacked.x, attacked.y, attacked.scale))
        errors = [float(case.error[b]) for case in curve]
        assert errors == sorted(errors)
        for level, error in zip(NOISE_LEVELS, errors, strict=True):
            value, _ = farthest(MAP.numpy() * scale, MAP.numpy() @ y - x, level * SIZE**0.5)
            assert error == pytest.approx(value / np.linalg.norm(x), rel=1e-5)


@pytest.mark.parametrize("steps", [0, 400])
def test_errors_at_shares_of_the_measurement_are_the_exact_ones(steps):
    """Warm starts alone are lower bounds that rise; climbs from them arrive."""
    attacked = target()
    radius = torch.full((IMAGES,), SIZE**0.5, dtype=torch.float64)
    starts = random_disturbances(KEYS, 0, 3, attacked.y, radius).transpose(0, 1)
    settings = exact(level_steps=steps)
    main = worst_case(attacked, radius, starts, settings)
    known = noise_to_error(attacked, main, radius, NOISE_LEVELS, settings)
    curve = relative_noise_to_error(attacked, known, RELATIVE_LEVELS, settings)
    for b in range(IMAGES):
        x, y = (v[b].flatten().numpy() for v in (attacked.x, attacked.y))
        errors = [float(case.error[b]) for case in curve]
        assert errors == sorted(errors)
        for share, case in zip(RELATIVE_LEVELS, curve, strict=True):
            ball = share * np.linalg.norm(y)
            value, _ = farthest(MAP.numpy(), MAP.numpy() @ y - x, ball)
            assert case.whitened[b].norm() <= ball * (1 + 1e-12)
            assert case.error[b] <= value / np.linalg.norm(x) * (1 + 1e-12)
            if steps:
                assert case.error[b].item() == pytest.approx(value / np.linalg.norm(x), rel=1e-5)


def test_what_is_known_of_a_ball_inside_counts():
    attacked = target()
    e = 0.05 * normal(IMAGES, *SHAPE, seed=9)
    length = e.flatten(1).norm(dim=1) / attacked.y.flatten(1).norm(dim=1)
    known = [WorstCase(e / attacked.scale, torch.full((IMAGES,), 99.0, dtype=torch.float64))]
    curve = relative_noise_to_error(attacked, known, (0.01, 1.0), exact(level_steps=0))
    assert (length > 0.01).all()
    assert (curve[0].error < 99).all()
    assert (curve[1].error == 99).all()
    torch.testing.assert_close(curve[1].whitened, e)


def test_searches_start_from_the_known_disturbance_of_the_nearest_length():
    attacked = target()
    near, far = (v / norm_of(v) * norm_of(attacked.y) for v in normal(2, IMAGES, *SHAPE, seed=7))
    worst = torch.full((IMAGES,), -torch.inf, dtype=torch.float64)
    known = [WorstCase(0.9 * far / attacked.scale, worst)]
    known += [WorstCase(0.04 * near / attacked.scale, worst)]
    (found,) = relative_noise_to_error(attacked, known, (0.05,), exact(level_steps=0))
    torch.testing.assert_close(found.whitened, 0.05 * near)
    there = (linear(attacked.y + 0.05 * near) - attacked.x).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.error, there / attacked.x.flatten(1).norm(dim=1))


def test_too_few_steps_are_a_lower_bound_from_inside_the_ball():
    attacked = target()
    radius = torch.full((IMAGES,), 2.0, dtype=torch.float64)
    starts = random_disturbances(KEYS, 0, 1, attacked.y, radius).transpose(0, 1)
    settings = StabilitySettings(search_draws=1, steps=2, polish_steps=0)
    found = worst_case(attacked, radius, starts, settings)
    for b in range(IMAGES):
        x, y, scale = (v[b].flatten().numpy() for v in (attacked.x, attacked.y, attacked.scale))
        value, _ = farthest(MAP.numpy() * scale, MAP.numpy() @ y - x, 2.0)
        assert 0.5 * value < found.error[b].item() * np.linalg.norm(x) < value


def test_mean_square_gain_is_the_frobenius_norm():
    y = normal(IMAGES, *SHAPE)
    probes = normal(4000, IMAGES, *SHAPE)
    found = mean_square_gain(reconstruction(), y, probes)
    exact_gain = MAP.square().sum() / SIZE
    deviation = (2 * (MAP.mT @ MAP).square().sum() / 4000).sqrt() / SIZE  # of vᵀJᵀJv
    assert ((found - exact_gain).abs() < 4 * deviation).all()  # 4 of them: chance .0003


def test_expected_residual_is_a_frobenius_norm():
    """With √m e_k as probes, all k, the mean over probes is the norm itself."""
    operator = GaussianBlur(SHAPE, 0.6)
    scale = 0.1 + normal(IMAGES, *SHAPE, seed=3).square()
    blur = operator(basis()).flatten(1).mT
    probes = (SIZE**0.5 * basis())[:, None].expand(SIZE, IMAGES, *SHAPE)
    found = expected_chi2(reconstruction(), operator, normal(IMAGES, *SHAPE), scale, probes)
    for b in range(IMAGES):
        own = scale[b].flatten()
        left = torch.eye(SIZE, dtype=torch.float64) - blur @ MAP * own / own[:, None]
        torch.testing.assert_close(found[b], left.square().sum() / SIZE)


def test_the_residual_of_tikhonov_is_as_expected():
    """χ²/m over new noise: what passes the noise by, and the bias, each to 4 standard errors."""
    problem = InverseProblem(GaussianBlur(SHAPE, 0.6), GaussianNoise(0.2))
    solver = TikhonovSolver(problem, torch.zeros(SHAPE, dtype=torch.float64), 0.05)
    x, draws = normal(1, *SHAPE, seed=1), 4000
    y = problem.simulate(x.expand(draws, *SHAPE), normal(draws, *SHAPE, seed=2))
    residual = data_chi2(problem.residual(y, solver(y).mean))
    clean = problem.operator(x)
    bias = data_chi2(problem.residual(clean, solver(clean).mean))
    probes = normal(draws, 1, *SHAPE, seed=3)
    one = Reconstruction(solver, (0,), 0)
    scale = torch.full_like(clean, 0.2)
    expected = expected_chi2(one, problem.operator, y[:1], scale, probes)
    apart = residual.mean() - bias - expected
    assert expected > 0.1
    assert bias > 0.05
    assert abs(apart) < 4 * (2 * residual.var() / draws).sqrt()


def test_no_residual_is_expected_where_the_noise_has_a_mean():
    problem = InverseProblem(GaussianBlur(SHAPE, 0.6), RicianNoise(0.2))
    solver = TikhonovSolver(problem, torch.zeros(SHAPE, dtype=torch.float64), 0.1)
    x = normal(IMAGES, *SHAPE, seed=1).abs()
    y = problem.simulate(x, normal(IMAGES, *problem.noise_shape, seed=2))
    settings = StabilitySettings(search_draws=1, steps=2)
    assert "expected_chi2" not in measure_stability(solver, problem, x, y, KEYS, 0, settings).rows


def test_condition_number_of_a_multiple_is_one():
    y = normal(IMAGES, *SHAPE)
    value = condition_number(torch.full((IMAGES,), 3.0, dtype=torch.float64), y, 3 * y)
    torch.testing.assert_close(value, torch.ones(IMAGES, dtype=torch.float64))


def test_image_attack_is_the_largest_eigenvector():
    """R A linear: the functional is ½ rᵀ(BᵀB − λ) r, at its best on the sphere."""
    problem = InverseProblem(GaussianBlur(SHAPE, 0.5), GaussianNoise(0.1))
    x, starts = normal(IMAGES, *SHAPE, seed=1), normal(3, IMAGES, *SHAPE, seed=6)
    settings = StabilitySettings(search_draws=1, image_steps=400, image_radius=0.2)
    found = attack_image(reconstruction(), problem.operator, x, starts, settings)
    both = MAP @ problem.operator.matrix()
    gain = torch.linalg.matrix_norm(both, 2)
    torch.testing.assert_close(found.perturbation, torch.full_like(found.perturbation, 0.2))
    torch.testing.assert_close(found.response / 0.2, gain.expand(IMAGES), rtol=1e-6, atol=0)
    attacked = x + found.change
    error = (linear(problem.operator(attacked)) - attacked).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.error, error / x.flatten(1).norm(dim=1))


def test_image_attack_stays_small_where_the_penalty_outweighs_the_gain():
    problem = InverseProblem(GaussianBlur(SHAPE, 0.5), GaussianNoise(0.1))
    settings = StabilitySettings(search_draws=1, image_penalty=1e3)
    starts = normal(2, IMAGES, *SHAPE, seed=6)
    x = normal(IMAGES, *SHAPE, seed=1)
    found = attack_image(reconstruction(), problem.operator, x, starts, settings)
    assert (found.perturbation < 1e-3 * settings.image_radius).all()


def test_ascent_refuses_what_is_not_finite_and_never_leaves_the_ball():
    """A cliff at ‖v‖ > 0.9: the search climbs to it and stays on this side."""

    def cliff(v):
        length = v.norm(dim=1)
        value = torch.where(length < 0.9, v[:, 0], torch.nan)
        return value, torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand_as(v)

    found = ascend(cliff, torch.zeros(2, 2, dtype=torch.float64), torch.ones(2).double(), 40)
    assert ((found.value > 0.89) & (found.value < 0.9)).all()


SOLVERS = {"tikhonov": TikhonovSolver, "wiener": WienerSolver}


@pytest.mark.parametrize("name", list(SOLVERS))
def test_all_metrics_of_a_linear_solver(name):
    """Names, shapes, and the values that have a closed form."""
    problem = InverseProblem(GaussianBlur(SHAPE, 0.6), GaussianNoise(0.2))
    x = 1 + normal(24, *SHAPE, seed=1)
    y = problem.simulate(x, normal(24, *SHAPE, seed=2))
    solver = SOLVERS[name].fit(problem, x[IMAGES:], y[IMAGES:])
    baseline = TikhonovSolver.fit(problem, x[IMAGES:], y[IMAGES:])
    x_pairs, y_pairs = x[IMAGES:], y[IMAGES:]
    x, y = x[:IMAGES], y[:IMAGES]
    wiener = WienerSolver.fit(problem, x_pairs, y_pairs)
    found = measure_stability(
        solver, problem, x, y, KEYS, 0, exact(), baseline, wiener, examples=3
    )
    affine = torch.stack([solver(e[None]).mean[0] for e in basis()]).flatten(1)
    affine = affine - solver(torch.zeros(1, *SHAPE, dtype=torch.float64)).mean.flatten(1)
    norm = torch.linalg.matrix_norm(affine, 2).item()
    assert found.rows["lipschitz"].ravel() == pytest.approx([norm] * IMAGES, rel=1e-6)
    assert found.rows["lipschitz_whitened"].ravel() == pytest.approx([0.2 * norm] * IMAGES)
    offset = (solver(y).mean - x).flatten(1).numpy()
    for b in range(IMAGES):
        value, _ = farthest(0.2 * affine.mT.numpy(), offset[b], SIZE**0.5)
        assert found.rows["worst_error"][b, 0] == pytest.approx(
            value / x[b].norm().item(), rel=1e-6
        )
        of_y, _ = farthest(affine.mT.numpy(), offset[b], 0.05 * float(y[b].norm()))
        assert found.rows["relative_worst_error_5"][b, 0] == pytest.approx(
            of_y / x[b].norm().item(), rel=1e-3
        )
    expected = wiener_errors(wiener, x, y)
    assert found.rows["worst_over_wiener"][:, 1] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(
        found.rows["worst_over_wiener"][:, :1], found.rows["worst_error"]
    )
    ball = found.rows["lipschitz_ball"].ravel()
    assert ball == pytest.approx([0.2 * norm] * IMAGES, rel=1e-6)
    mean, share, largest = (
        found.rows[f"noise_amplification{end}"] for end in ("", "_q95", "_max")
    )
    assert (mean < share).all()
    assert (share < largest).all()
    assert (
        largest[:, 0]
        <= norm
        * y.flatten(1).norm(dim=1).numpy()
        / np.linalg.norm(solver(y).mean.flatten(1).numpy(), axis=1)
    ).all()
    np.testing.assert_array_equal(
        found.rows["image_attack"],
        np.hstack([found.rows[f"image_attack_{k}"] for k in ("change", "perturbation")]),
    )
    assert (found.rows["worst_excess"][:, 0] > found.rows["worst_excess"][:, 1]).all()
    if name == "tikhonov":
        assert metric("worst_over_baseline").value(found.rows["worst_over_baseline"]) == 1
        assert "worst_width" not in found.rows
    else:
        assert metric("worst_width").value(found.rows["worst_width"]) == pytest.approx(1)
    for entry, rows in found.rows.items():
        assert rows.shape == (IMAGES, len(metric(entry).components)), entry
        assert np.isfinite(rows).all(), entry
    assert found.diagnostics["lipschitz_residual"] <= 1e-8
    assert found.diagnostics["lipschitz_unsettled"] == 0
    assert found.examples.images == (3, 8, 0)
    assert found.examples.arrays["worst_mean"].shape == (3, *SHAPE)
    shares = [found.rows[f"contrast_recovery_{v}"] for v in (2, 5, 10)]
    np.testing.assert_allclose(shares[0], shares[1])  # linear: the same at every height
    np.testing.assert_allclose(shares[1], shares[2])
    floor = torch.from_numpy(found.rows["worst_over_baseline"][:, 1])
    moved = measure_transfer(solver, x, y, found.disturbance, KEYS, 0, floor)
    np.testing.assert_allclose(moved.rows["transferred_error"], found.rows["worst_error"])
    np.testing.assert_allclose(
        moved.rows["transferred_over_baseline"], found.rows["worst_over_baseline"]
    )


def test_noise_that_depends_on_the_signal_is_whitened_with_its_own_scale():
    problem = InverseProblem(GaussianBlur(SHAPE, 0.6), PoissonGaussianNoise(0.1, 0.05))
    x = 1 + 0.2 * normal(IMAGES, *SHAPE, seed=1)
    variance = 0.1 * problem.operator(x) + 0.05**2
    torch.testing.assert_close(noise_scale(problem, x), variance.sqrt(), rtol=1e-6, atol=0)
    solver = TikhonovSolver(problem, torch.zeros(SHAPE, dtype=torch.float64), 0.1)
    found = measure_stability(solver, problem, x, problem.operator(x), KEYS, 0, exact())
    matrix = torch.stack([solver(e[None]).mean[0] for e in basis()]).flatten(1).mT
    for b in range(IMAGES):
        own = torch.linalg.matrix_norm(matrix * variance[b].sqrt().flatten(), 2).item()
        assert found.rows["lipschitz_whitened"][b, 0] == pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("draws", [1, 3])
def test_results_do_not_depend_on_blocks(draws, monkeypatch):
    problem = InverseProblem(Inpainting(SHAPE, 0.7), GaussianNoise(0.2))
    x = normal(IMAGES, *SHAPE, seed=1)
    y = problem.simulate(x, normal(IMAGES, *problem.measurement_shape, seed=2))
    solver = TikhonovSolver(problem, torch.zeros(SHAPE, dtype=torch.float64), 0.1)
    settings = StabilitySettings(search_draws=draws, steps=5)
    whole = measure_stability(solver, problem, x, y, KEYS, 0, settings)
    monkeypatch.setattr("latens.evaluation.stability.reconstruction.BLOCK_ELEMENTS", 39 * SIZE * 3)
    parts = measure_stability(solver, problem, x, y, KEYS, 0, settings)
    for name, rows in whole.rows.items():
        if not name.startswith(("lipschitz", "condition")):  # stops when a whole block arrived
            np.testing.assert_allclose(parts.rows[name], rows, rtol=1e-9, err_msg=name)


def norm_of(v):
    return v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def wiener_errors(solver, x, y):
    """Its worst relative errors in the ball of the noise of 0.2, by the secular equation."""
    zero = torch.zeros(1, *SHAPE, dtype=torch.float64)
    affine = (solver(basis()).mean - solver(zero).mean).flatten(1).mT.numpy()
    offset = (solver(y).mean - x).flatten(1).numpy()
    values = [farthest(0.2 * affine, row, SIZE**0.5)[0] for row in offset]
    return np.array(values) / x.flatten(1).norm(dim=1).numpy()


def basis():
    return torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)
