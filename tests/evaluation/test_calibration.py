"""Calibration tests of solvers whose calibration is known, end to end."""

import numpy as np
import pytest
import torch

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError, NumericalError, UnsupportedError
from latens.evaluation import (
    Cell,
    calibration_tests,
    data_calibration,
    declares_model,
    local_calibration,
    model_calibration,
    simulate_declared,
)
from latens.evaluation.calibration import posterior_blocks
from latens.evaluation.quantities import fit_quantities
from latens.evaluation.sight import alterations
from latens.inference import (
    Amortised,
    LatentChains,
    Posterior,
    Predictive,
    Solver,
    WienerSolver,
    as_solver,
)
from latens.inference.estimates import Draws
from latens.metrics import ecdf_test, holm
from latens.problems import GaussianNoise, Identity, InverseProblem
from latens.store import POWER, RANK_CURVES, TESTS, conform
from models.model_cases import make_model, make_pairs, make_problem
from oracles.masked_field import SHAPE, WRONG, MaskedField

FIELD = MaskedField()
SIZE = FIELD.problem.measurement_shape[0]


def pairs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    stream = NoiseStream(seed)
    return FIELD.pairs(stream.normal((n, 64)), stream.normal((n, SIZE)))


class Known(Solver):
    """Draws of the exact posterior of the field, or of a wrong one, keyed by image."""

    def __init__(self, kind: str, trusted: torch.Tensor | None = None) -> None:
        self.kind, self.trusted = kind, trusted

    def solve(self, y, keys, seed):
        return KnownPosterior(self, y, keys, seed)


class KnownPosterior(Posterior):
    def __init__(self, solver, y, keys, seed):
        super().__init__(keys, seed, includes_decoder_spread=True)
        self.solver, self.y = solver, y
        if solver.trusted is not None:
            self.trusted = solver.trusted[list(keys)]

    def make_draws(self, count):
        noise = torch.stack(
            [NoiseStream(self.seed, 77, key).normal((count, 64)) for key in self.keys], dim=1
        )
        values = FIELD.draws(self.y, noise, self.solver.kind)
        return Draws(values, values, torch.zeros(()))


@pytest.fixture(scope="module")
def outcomes():
    x, y = pairs(400)
    return {kind: data_calibration(Known(kind), FIELD.problem, x, y) for kind in ("exact", *WRONG)}


def test_an_exact_posterior_passes(outcomes):
    found = outcomes["exact"]
    assert not found.rejected
    assert found.verdict.startswith("no miscalibration found on 400 held-out pairs")
    assert {test.quantity for test in found.tests} == {
        *("pixels (8)", "norm", "regions (16)", "TARP independent", "data fit (2)"),
        *("TARP near A⁺y", "null space (4)", "null space given y (3)", "local (4)"),
    }
    for area in found.areas.values():
        assert abs(area) < 4 * 0.15 / np.sqrt(400)


@pytest.mark.parametrize("kind", WRONG)
def test_each_wrong_posterior_is_rejected(outcomes, kind: str):
    found = outcomes[kind]
    assert found.rejected
    assert found.verdict.startswith("not calibrated on 400 held-out pairs")
    words = {"narrow": "too close together", "wide": "too far apart"}
    if kind in words:
        assert words[kind] in found.verdict


def test_the_local_test_has_no_more_coefficients_than_images():
    for images, told in ((29, 3), (30, 4)):
        found = data_calibration(Known("exact"), FIELD.problem, *pairs(images))
        assert f"local ({told})" in {test.quantity for test in found.tests}


def test_what_the_tests_could_have_seen_is_said(outcomes):
    found = outcomes["exact"]
    assert set(found.power) == set(alterations())
    assert min(found.power.values()) > 0.9  # 400 images
    few = data_calibration(Known("exact"), FIELD.problem, *pairs(24), draws=8)
    assert few.power["independent pixels"] < 0.5
    share = 100 * few.power["independent pixels"]
    assert f"independent pixels {share:.0f} %" in str(few).splitlines()[1]


def test_a_table_of_what_the_tests_could_have_seen(outcomes):
    table = outcomes["exact"].seen(Cell("exact", 64, 1, None, "abc"))
    conform(table, POWER)
    assert dict(zip(table["posterior"], table["power"], strict=True)) == outcomes["exact"].power
    assert (table["source"] == "data").all()
    assert (table["images"] == 400).all()


def test_the_prior_is_caught_by_what_depends_on_the_data_alone(outcomes):
    caught = {test.quantity.split(" (")[0] for test in outcomes["prior"].rejected}
    assert {"data fit", "TARP near A⁺y", "null space given y"} <= caught
    assert not caught & {"pixels", "regions", "norm", "TARP independent", "null space"}


def test_a_table_of_tests(outcomes):
    table = outcomes["narrow"].table(Cell("narrow", 64, 1, None, "abc"))
    conform(table, TESTS)
    assert set(table["test"]) == {
        *("data: ecdf", "data: chi-square", "data: max ecdf", "data: max chi-square"),
        "data: classifier",
    }
    assert (table["p_adjusted"] >= table["p_value"] - 0.02).all()  # relabelled against exact
    assert (table["p_adjusted"] <= holm(table["p_value"].to_numpy()) + 0.02).all()
    assert (table["images"] == 400).all()
    assert (table["draws"] == 39).all()
    text = str(outcomes["narrow"])
    assert text.count("\n") == len(table) + 1
    assert " * pixels (8)" in text


@pytest.mark.parametrize("kind", ["exact", "narrow"])
def test_curves_of_ranks_leave_their_band_where_the_exact_test_rejects(outcomes, kind: str):
    found = outcomes[kind]
    table = found.curves(Cell(kind, 64, 1, None, "abc"))
    conform(table, RANK_CURVES)
    assert set(table["quantity"]) == set(found.ranks)
    for quantity, rows in table.groupby("quantity"):
        rows = rows.sort_values("below")
        ranks = found.ranks[quantity]
        assert (rows["members"] == ranks.shape[1]).all()
        below = (ranks[..., None] < np.arange(1, 40)).mean(0) - np.arange(1, 40) / 40
        np.testing.assert_allclose(rows["lowest"], below.min(0), atol=1e-12)
        np.testing.assert_allclose(rows["highest"], below.max(0), atol=1e-12)
        leaves = (rows["lowest"] < rows["band_lower"] - 1e-9).any()
        leaves |= (rows["highest"] > rows["band_upper"] + 1e-9).any()
        p_values = [float(ecdf_test(ranks[:, j], 39)[1]) for j in range(ranks.shape[1])]
        assert leaves == (min(p_values) <= 0.05 / len(p_values)), quantity


def test_results_do_not_depend_on_blocks(monkeypatch):
    """Where pixels and references are fitted on the same images, blocks are only memory."""
    x, y = pairs(60)
    whole = data_calibration(Known("exact"), FIELD.problem, x, y, seed=3)
    members = next(posterior_blocks(Known("exact"), x, y, list(range(60)), 39, 3))[2]
    fitted = fit_quantities(members, y, FIELD.problem, None, 3)
    module = "latens.evaluation.calibration"
    monkeypatch.setattr(f"{module}.BLOCK_BYTES", 4 * 40 * 64 * 7)
    monkeypatch.setattr(f"{module}.fit_quantities", lambda *arguments: fitted)
    blocks = data_calibration(Known("exact"), FIELD.problem, x, y, seed=3)
    for name, ranks in whole.ranks.items():
        np.testing.assert_allclose(ranks, blocks.ranks[name], atol=1)  # rounding near ties
    assert whole.images == blocks.images


def test_one_image_of_each_subject():
    x, y = pairs(60)
    groups = [f"subject {i // 2}" for i in range(60)]
    found = data_calibration(Known("exact"), FIELD.problem, x, y, groups=groups)
    assert found.images == tuple(range(0, 60, 2))


def test_untrusted_images_are_left_out():
    x, y = pairs(60)
    trusted = torch.arange(60) % 3 > 0
    found = data_calibration(Known("exact", trusted), FIELD.problem, x, y)
    assert found.images == tuple(i for i in range(60) if i % 3)
    assert found.untrusted == 20
    assert all(test.images == 40 for test in found.tests)


def test_without_a_problem_and_without_a_model():
    x, y = pairs(40)
    (found,) = calibration_tests(Known("exact"), None, x, y, draws=8)
    assert {test.quantity for test in found.tests} == {
        *("pixels (8)", "norm", "regions (16)", "TARP independent")
    }
    assert "declares no model" in str(found)
    assert found.tests[0].draws == 8


def test_a_solver_is_calibrated_on_its_own_model_and_not_on_other_data():
    x, y = make_pairs(300)
    solver = WienerSolver.fit(make_problem(), x, y)
    data, model = calibration_tests(solver, make_problem(), *make_pairs(300, 1), simulated=300)
    assert data.rejected  # three degrees of freedom are no stationary field
    assert not model.rejected
    assert model.source == "model"


def test_pairs_of_the_wiener_model_have_its_moments():
    solver = WienerSolver.fit(make_problem(), *make_pairs(300))
    solver.gain = 2.0
    found = simulate_declared(solver, 4000, seed=0)
    variance = solver.wiener.prior.variance.item()
    assert found.x.var(dim=0).mean().item() == pytest.approx(variance, rel=0.05)
    torch.testing.assert_close(found.y, 2 * (found.seen + solver.wiener.offset))
    residual = found.seen - solver.wiener.operator.A(found.x)
    assert residual.var().item() == pytest.approx(solver.wiener.noise_variance, rel=0.02)


def test_latents_and_their_density_are_tested_on_the_model():
    model = make_model("latent-linear")
    solver = Amortised(model, make_problem())
    found = model_calibration(solver, 60)
    assert {"latents", "log q(z | y)"} <= set(found.ranks)
    assert found.rejected  # the network is not trained
    again = model_calibration(solver, 60)
    assert all((found.ranks[k] == again.ranks[k]).all() for k in found.ranks)
    chains = LatentChains(model, make_problem(), draws=200, warmup=100)
    assert declares_model(chains)
    pairs = simulate_declared(solver, 200, seed=1)
    assert pairs.z is not None
    expected = model.decode(pairs.z, pairs.y)
    standardised = (pairs.x - expected.mean) / expected.stddev
    assert standardised.std().item() == pytest.approx(1, abs=0.03)


def test_an_exact_latent_posterior_passes_on_its_model():
    """The closed form of p(z | y) of an affine model in place of the network."""
    model = make_model("latent-linear").double()
    problem = make_problem()

    class Exact(Amortised):
        def solve(self, y, keys, seed):
            posterior = super().solve(y, keys, seed)
            posterior.latent = law = _exact_latent(model, problem, y)
            noise = posterior.noise(Purpose.LATENT, 39, (model.dim,), y)
            posterior.latent_draws = lambda count: law.mean + noise @ law.scale_tril[0].T
            return posterior

    found = model_calibration(Exact(model, problem), 300)
    assert not found.rejected, str(found)


def _exact_latent(model, problem, y):
    """p(z | y) ∝ N(z; 0, I) N(y; A D(z), S) of an affine decoder, in closed form."""
    zero = torch.zeros(1, model.dim, dtype=torch.float64)
    law = model.decode(zero, y[:1])
    offset = law.mean[0]
    eye = torch.eye(model.dim, dtype=torch.float64)
    columns = model.decode(eye, y[:1].expand(model.dim, *y.shape[1:])).mean - offset
    a = problem.operator
    w = a(columns).flatten(1)  # (dim, m)
    variance = law.variance.flatten()[0]
    matrix = a.matrix()
    noise = problem.noise.scale**2 * torch.eye(len(matrix), dtype=torch.float64)
    s = variance * matrix @ matrix.T + noise
    solved = torch.linalg.solve(s, w.T)  # (m, dim)
    covariance = torch.linalg.inv(eye + w @ solved)
    mean = (y - a(offset)).flatten(1) @ solved @ covariance
    return torch.distributions.MultivariateNormal(mean, covariance[None])


def test_densities_are_used_where_they_are_known():
    problem = InverseProblem(Identity((1, 4, 4)), GaussianNoise(1.0))
    x = NoiseStream(0).normal((200, 1, 4, 4))
    y = problem.simulate(x, NoiseStream(1).normal(x.shape))

    def solver(y, width=1.0):
        scale = width * torch.full_like(y, 0.5**0.5)
        return torch.distributions.Independent(torch.distributions.Normal(y / 2, scale), 3)

    right = data_calibration(as_solver(solver), problem, x, y)
    assert not right.rejected
    assert "log q(x | y)" in right.ranks
    narrow = data_calibration(as_solver(lambda y: solver(y, 0.8)), problem, x, y)
    assert "log q(x | y)" in {test.quantity for test in narrow.rejected}
    assert narrow.areas["log q(x | y)"] < -0.05  # too sure
    net = Predictive(make_model("unet"))
    assert "log q(x | y)" in data_calibration(net, None, *make_pairs(20)).ranks


def test_what_cannot_be_tested_is_refused():
    x, y = pairs(40)
    with pytest.raises(UnsupportedError, match="Posterior"):
        data_calibration(
            as_solver(lambda y: (y @ FIELD.gain.T.float()).reshape(-1, *SHAPE)),
            FIELD.problem,
            x,
            y,
        )
    with pytest.raises(UnsupportedError, match="data_calibration"):
        model_calibration(Known("exact"), 40)
    with pytest.raises(ConfigError, match="20 independent images"):
        data_calibration(Known("exact"), FIELD.problem, x[:10], y[:10])
    broken = as_solver(lambda y, n: torch.full((n, len(y), *SHAPE), torch.nan))
    with pytest.raises(NumericalError, match="finite"):
        data_calibration(broken, FIELD.problem, x, y)


def test_local_calibration_of_exact_and_prior():
    x, y = pairs(200)
    prior = local_calibration(Known("prior"), FIELD.problem, x, y, relabellings=39)
    assert prior.p_value == pytest.approx(1 / 40)
    exact = local_calibration(Known("exact"), FIELD.problem, x, y, relabellings=39)
    assert exact.p_value > 1 / 40
    assert len(exact.images) == 100
