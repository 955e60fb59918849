"""Inserted details, denser masks, beliefs at a worst case, and what it all costs."""

import dataclasses

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.stability import (
    Reconstruction,
    StabilitySettings,
    denser,
    measure_stability,
    measure_transfer,
    stability_cost,
    worst_disturbance,
)
from latens.evaluation.stability.belief import belief_rows
from latens.evaluation.stability.details import (
    Detail,
    detail_recovery,
    gaussian_details,
    visible_detail,
)
from latens.evaluation.stability.more_samples import extended_measurement
from latens.inference import (
    Amortised,
    LatentMAP,
    MonteCarloDropout,
    PointEstimate,
    Solver,
    TikhonovSolver,
    as_solver,
)
from latens.metrics import metric
from latens.problems import (
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Inpainting,
    InverseProblem,
)
from models.model_cases import make_model, make_pairs, make_problem

SHAPE, KEYS = (1, 9, 10), (4, 0, 7)
QUICK = StabilitySettings(
    restarts=2,
    steps=3,
    polish_steps=1,
    level_steps=1,
    search_draws=2,
    random=19,
    lipschitz_starts=1,
    lipschitz_steps=2,
    probes=1,
    image_restarts=1,
    image_steps=2,
)


def normal(*shape, seed=0):
    return NoiseStream(seed, len(shape)).normal(shape, torch.float64)


def test_details_are_gaussians_inside_the_image_keyed_by_the_image():
    x = normal(3, 2, 9, 10)
    details = gaussian_details(x, 1.0, KEYS, 0, places=6)
    assert details.shape == (6, 3, 2, 9, 10)
    assert (details.amax((2, 3, 4)) == 1).all()
    rows, columns = (details[:, :, 0].amax(axis) for axis in (3, 2))
    assert (rows[..., [0, 1, -2, -1]] < 1).all()
    assert (columns[..., [0, 1, -2, -1]] < 1).all()
    alone = gaussian_details(x[1:2], 1.0, KEYS[1:2], 0, places=6)
    assert torch.equal(alone[:, 0], details[:, 1])
    # Sum of squares of a Gaussian of width 1: π.
    energy = details[:, :, 0].square().sum((-2, -1))
    assert energy.amax().item() == pytest.approx(np.pi, rel=1e-2)


def half_blind(width):
    """Pixels left of a column are measured, the others not at all."""
    mask = torch.zeros(9, 30)
    mask[:, :width] = 1
    problem = InverseProblem(Inpainting((1, 9, 30), mask=mask), GaussianNoise(0.3))
    return problem, torch.full((200, *problem.measurement_shape), 0.3).double()


def test_details_have_the_stated_visibility_at_a_random_place_that_is_seen():
    problem, scale = half_blind(15)
    x = normal(200, 1, 9, 30)
    places = gaussian_details(x, 1.0, range(200), 0, places=8)
    detail = visible_detail(places, x, problem.operator, scale)
    assert detail.seen.all()
    length = (problem.operator(detail.shape) / 0.3).flatten(1).norm(dim=1)
    torch.testing.assert_close(length, torch.ones(200, dtype=torch.float64))
    seen = torch.stack([problem.operator(p).flatten(1).norm(dim=1) / 0.3 for p in places])
    height = detail.shape.amax((1, 2, 3))
    assert (height <= 10 / seen.amax(0) * (1 + 1e-12)).all()
    # Not the best one: its place is the first of those seen, wherever that is.
    own = (detail.shape / height[:, None, None, None]).unsqueeze(0)
    index = (places - own).abs().flatten(2).amax(2).argmin(0)
    assert index.tolist() == (seen >= 0.1 * seen.amax(0)).long().argmax(0).tolist()
    assert (index != seen.argmax(0)).double().mean() > 0.5


def test_an_invisible_detail_leaves_out_its_image_alone():
    problem, scale = half_blind(6)
    x = 1 + normal(200, 1, 9, 30).abs()
    places = gaussian_details(x, 1.0, range(200), 0, places=1)
    detail = visible_detail(places, x, problem.operator, scale)
    hidden = places[0].amax((1, 2))[:, 8:].amax(1) == 1  # two widths or more beyond the border
    blind = places[0][:, 0, :, :6].amax((1, 2)) < 1e-4
    assert hidden[blind].all()
    assert int(blind.sum()) > 20
    assert not detail.seen[blind].any()
    assert detail.seen.sum() > 20
    y = problem.operator(x)
    own = Reconstruction(as_solver(problem.operator.A_adjoint), tuple(range(200)), 0)
    share = detail_recovery(own, problem.operator, x, y, own.at(y), detail, (1, 5))
    assert (share[~detail.seen] == 0).all()
    assert (share[detail.seen] > 0).all()
    assert share.isfinite().all()


def test_the_mean_is_over_images_that_see_a_detail():
    rows = np.array([[0.5, 0.0, 1, 0], [0.7, 0.9, 1, 1], [0.0, 0.0, 0, 0]])
    assert metric("contrast_recovery_2").value(rows) == pytest.approx((0.6 + 0.9) / 2)
    rows[:, [1, 3]] = 0
    assert metric("contrast_recovery_2").value(rows) == pytest.approx(0.6)
    assert np.isnan(metric("contrast_recovery_2").value(0 * rows))


def test_rows_of_images_that_see_no_detail():
    """A solver that returns what was measured keeps all of a detail's measured part."""
    problem, _ = half_blind(8)
    x = 1 + normal(12, 1, 9, 30).abs()
    y = problem.simulate(x, normal(12, *problem.noise_shape, seed=1))
    solver, quick = as_solver(problem.operator.A_adjoint), dataclasses.replace(QUICK, places=1)
    rows = measure_stability(solver, problem, x, y, range(12), 0, quick).rows
    kept, seen = np.split(rows["contrast_recovery_5"], 2, axis=1)
    assert 0 < seen.sum() < seen.size
    assert (kept[seen == 0] == 0).all()
    assert 0 < metric("contrast_recovery_5").value(rows["contrast_recovery_5"]) <= 1 + 1e-12
    dark = int((seen.sum(1) == 0).argmax())
    found = measure_stability(
        solver, problem, x[dark : dark + 1], y[dark : dark + 1], (dark,), 0, quick
    )
    assert "contrast_recovery_5" not in found.rows


@pytest.mark.parametrize("kept", [1.0, 0.4, 0.0])
def test_recovered_share_of_a_solver_that_keeps_a_share(kept):
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(0.1))
    x = normal(3, *SHAPE)
    y = problem.simulate(x, normal(3, *SHAPE, seed=1))
    own = Reconstruction(as_solver(lambda v: kept * v + 2), KEYS, 0)
    shape = gaussian_details(x, 2.0, KEYS, 0, places=1)[0].contiguous()
    detail = Detail(shape, torch.ones(3, dtype=torch.bool))
    found = detail_recovery(own, problem.operator, x, y, own.at(y), detail, (1, 10))
    torch.testing.assert_close(found, torch.full((3, 2), kept, dtype=torch.float64))


MASKED = {
    "random": lambda: Inpainting((2, 9, 10), 0.3),
    "lines": lambda: Inpainting((1, 9, 10), 0.3, "lines"),
    "mri-lines": lambda: FourierSampling((1, 8, 12), 3),
    "mri-points": lambda: FourierSampling((2, 8, 7), 3, pattern="points"),
    "mri-coils": lambda: FourierSampling((2, 8, 6), 3, coils=2),
}


@pytest.mark.parametrize("name", list(MASKED))
def test_denser_masks_hold_the_old_samples_and_half_of_the_missing_ones(name):
    problem = InverseProblem(MASKED[name](), GaussianNoise(0.1))
    more = denser(problem)
    assert more is not None
    old, new = problem.operator.mask, more.operator.mask
    assert (new >= old).all()
    missing = int((~old).sum())
    lines = missing // int((~old).any(-2 if name == "mri-lines" else -1).sum())
    unit = lines if "lines" in name else 1
    assert abs(int((new & ~old).sum()) - missing / 2) <= unit / 2
    if name == "lines":
        assert (new == new[:, :1]).all()
    if name == "mri-lines":
        assert (new == new[:1]).all()
    x = normal(3, *problem.signal_shape)
    y = problem.simulate(x, normal(3, *problem.noise_shape, seed=1))
    extended = extended_measurement(problem, more, x, y, KEYS, 0)
    clean_old, clean_new = problem.operator(x), more.operator(x)
    noise = (extended - clean_new).flatten(1)
    # The old noise values are all there, in their places; the new ones are of the same size.
    for row, known in zip(noise, (y - clean_old).flatten(1), strict=True):
        nearest = (known[:, None] - row[None]).abs().amin(1)
        assert nearest.max() < 1e-12
    assert 0.05 < noise.std() < 0.15


def test_more_samples_are_not_offered_where_they_have_no_meaning():
    assert denser(InverseProblem(GaussianBlur(SHAPE, 0.6), GaussianNoise(0.1))) is None
    full = Inpainting(SHAPE, mask=torch.ones(9, 10))
    assert denser(InverseProblem(full, GaussianNoise(0.1))) is None


def test_more_samples_help_a_solver_that_knows_of_them():
    problem = InverseProblem(Inpainting(SHAPE, 0.4), GaussianNoise(0.05))
    x = 1 + normal(30, *SHAPE)
    y = problem.simulate(x, normal(30, *problem.measurement_shape, seed=1))
    solver = TikhonovSolver.fit(problem, x, y)
    found = measure_stability(solver, problem, x[:9], y[:9], range(9), 0, QUICK)
    expected = (0.3 / 0.6) ** 0.5  # 60 % missing, then 30 %, each an error of 1
    assert metric("more_samples").value(found.rows["more_samples"]) == pytest.approx(
        expected, rel=0.1
    )


def test_functions_of_one_mask_are_evaluated_without_the_test():
    problem = InverseProblem(Inpainting(SHAPE, 0.4), GaussianNoise(0.05))
    x = 1 + normal(2, *SHAPE)
    y = problem.simulate(x, normal(2, *problem.measurement_shape, seed=1))
    found = measure_stability(
        as_solver(problem.operator.A_adjoint), problem, x, y, (0, 1), 0, QUICK
    )
    assert "more_samples" not in found.rows
    assert "worst_error" in found.rows


def test_images_that_are_not_to_be_trusted_are_left_out_of_a_transfer():
    class Doubtful(Solver):
        def solve(self, y, keys, seed):
            estimate = PointEstimate(y)
            estimate.trusted = torch.tensor([key != 0 for key in keys])
            return estimate

    x = normal(3, *SHAPE)
    moved = measure_transfer(Doubtful(), x, x, torch.ones_like(x), KEYS, 0)
    assert moved.used == (0, 2)
    expected = 90**0.5 / x[[0, 2]].flatten(1).norm(dim=1)
    np.testing.assert_allclose(moved.rows["transferred_error"][:, 0], expected)
    assert moved.diagnostics == {"untrusted": 1.0}


def test_belief_at_a_disturbed_measurement():
    """y ↦ N(y, 0.1²) of x = y: shifted by 0.3, nothing is covered, and W2 = ‖e‖."""
    x = normal(3, *SHAPE)
    sure = as_solver(lambda v: diagonal_normal(v, torch.full_like(v, 0.1), 3))
    for shift, low, high in ((1e-6, 0.9, 1.0), (0.9, 0.0, 0.0)):
        rows = belief_rows(sure, x, x, torch.full_like(x, shift), KEYS, 0)
        assert low <= rows["worst_coverage_pixel"].mean() <= high
        assert low <= rows["worst_coverage_region"].mean() <= high
        np.testing.assert_allclose(rows["posterior_lipschitz"], 1, rtol=1e-6)
        np.testing.assert_allclose(rows["worst_width"][:, 0], rows["worst_width"][:, 1])
        # A lower bound of W2; of hardly any use where the posteriors overlap.
        assert (rows["posterior_energy"] < rows["posterior_lipschitz"]).all()
        assert rows["posterior_energy"].min() > (0.85 if shift == 0.9 else -1e-6)
    wider = as_solver(lambda v: diagonal_normal(v, 0.1 + v.abs(), 3))
    rows = belief_rows(wider, x, 0 * x, torch.full_like(x, 0.1), KEYS, 0)
    assert metric("worst_width").value(rows["worst_width"]) == pytest.approx(2)


def test_trained_kinds_of_solvers_and_transfer():
    """Every metric of a posterior, then the same measurements for one without derivative."""
    problem, (x, y) = make_problem(), make_pairs(3, seed=1)
    for solver in (
        Amortised(make_model("latent"), problem),
        MonteCarloDropout(make_model("unet-dropout")),
    ):
        found = measure_stability(solver, problem, x, y, KEYS, 0, QUICK)
        assert "worst_coverage_region" in found.rows
        for name, rows in found.rows.items():
            assert rows.shape == (3, len(metric(name).components))
            assert np.isfinite(rows).all()
        curve = [found.rows[n] for n in ("worst_error_25", "worst_error_50", "worst_error")]
        assert (np.diff(np.concatenate(curve, 1), axis=1) >= 0).all()
        _, again = worst_disturbance(solver, problem, x[1:], y[1:], KEYS[1:], 0, QUICK)
        np.testing.assert_allclose(again, found.rows["worst_error"][1:, 0], 1e-3)
    other = LatentMAP(make_model("latent"), problem, climbs=1, max_iterations=5)
    with pytest.raises(UnsupportedError):
        measure_stability(other, problem, x, y, KEYS, 0, QUICK)
    moved = measure_transfer(other, x, y, found.disturbance, KEYS, 0)
    assert set(moved.rows) == {"transferred_error"}
    assert len(moved.rows["transferred_error"]) == len(moved.used)


def test_cost_bounds_the_work_of_a_search():
    """Reconstructions counted while a solver of one draw per call is attacked."""
    count = {"forward": 0}

    def solver(v):
        count["forward"] += len(v)
        return 2 * v

    problem = InverseProblem(GaussianBlur(SHAPE, 0.6), GaussianNoise(0.1))
    x = normal(2, *SHAPE)
    measure_stability(as_solver(solver), problem, x, x, (0, 1), 0, QUICK)
    cost = stability_cost(QUICK)
    assert min(cost.values()) > 0
    assert count["forward"] / 2 < sum(cost.values())
    doubled = dataclasses.replace(QUICK, steps=2 * QUICK.steps)
    assert stability_cost(doubled)["worst case"] > cost["worst case"]


@pytest.mark.parametrize(
    "setting",
    [
        {"restarts": 0},
        {"random": 18},
        {"steps": 1.5},
        {"image_radius": 0.0},
        {"lipschitz_tolerance": -1.0},
    ],
)
def test_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        StabilitySettings(**setting)
