"""`latens.evaluate` on solvers whose calibration is known."""

import math
import time

import numpy as np
import pytest
import torch

from latens.data import ImageSet
from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError, DataError, LatensError
from latens.evaluation import Cell, Context, Evaluation, evaluate, evaluate_cell
from latens.evaluation import measure as measure_module
from latens.inference import Amortised, PointEstimate, Solver, as_solver
from latens.metrics import CATALOGUE
from latens.metrics.catalogue import SECTIONS
from latens.problems import (
    GaussianBlur,
    GaussianNoise,
    Identity,
    InverseProblem,
    PoissonGaussianNoise,
)
from latens.store import METRICS, PER_IMAGE, Outcome, Status, conform
from models.model_cases import SHAPE, make_model, make_pairs, make_problem
from oracles.stationary_gaussian import StationaryGaussian, gaussian_power, impulse_transfer

NOISE = 0.2
PROBLEM = InverseProblem(GaussianBlur(SHAPE, 0.8), GaussianNoise(NOISE))


def oracle() -> StationaryGaussian:
    transfer = impulse_transfer(PROBLEM.operator, SHAPE[1:])
    return StationaryGaussian(gaussian_power(SHAPE[1:], 1.5, 1.0), transfer, NOISE, 0.5)


def exact_sampler(width: float = 1.0):
    """Draws of the exact posterior, or of one that is too narrow or too wide."""
    field, stream = oracle(), NoiseStream(7)

    def solver(y, n):
        y = y.double()
        mean = field.posterior_mean(y)
        draws = field.sample_posterior(y, stream.normal((n, *y.shape), torch.float64))
        return (mean + width * (draws - mean)).float()

    return solver


def signals(n: int, seed: int = 0) -> torch.Tensor:
    return oracle().sample_prior(NoiseStream(seed).normal((n, *SHAPE), torch.float64)).float()


def exact_evaluation(width: float = 1.0, n: int = 120) -> Evaluation:
    reference = signals(60, seed=5)
    return evaluate(exact_sampler(width), PROBLEM, signals(n), reference=reference, name="exact")


@pytest.fixture(scope="module")
def exact() -> Evaluation:
    return exact_evaluation()


def row(evaluation: Evaluation, metric: str):
    table = evaluation.metrics.set_index("metric")
    return table.loc[metric]


CALIBRATED = {
    "coverage_pixel": 0.95,
    "coverage_region": 0.95,
    "coverage_principal": 0.95,
    "ce_pixel": 0.0,
    "ce_region": 0.0,
    "ce_principal": 0.0,
    "spread_skill": 1.0,
    "z_variance": 1.0,
    "mahalanobis_principal": 1.0,
    "mse_draw_ratio": 2.0,
}


@pytest.mark.parametrize("metric", list(CALIBRATED))
def test_an_exact_posterior_is_calibrated(exact, metric):
    found, target = row(exact, metric), CALIBRATED[metric]
    slack = 0.5 * (found.upper - found.lower)  # twice the 95 % interval: a fixed seed
    assert found.lower - slack <= target <= found.upper + slack
    assert found.upper - found.lower < (0.3 if metric == "mahalanobis_principal" else 0.15)
    assert found.images == found.groups == 120


def test_an_exact_posterior_has_the_least_error(exact):
    expected = oracle().mmse * (1 + 1 / 39)  # the mean of 39 draws
    found = row(exact, "mse")
    assert found.value == pytest.approx(expected, rel=0.03)
    assert exact.outcome.status is Status.CONVERGED
    assert exact.kind == "posterior"
    assert row(exact, "data_chi2").value < 1  # some noise is fitted
    assert row(exact, "ace_pixel").value < 0.02


@pytest.mark.parametrize("width", [0.6, 1.6])
def test_a_wrong_width_is_seen(width):
    evaluation = exact_evaluation(width, n=60)
    ratio = row(evaluation, "spread_skill")
    expected = width * math.sqrt(40 / (39 + width**2))  # the mean of 39 draws is wider, too
    assert ratio.value == pytest.approx(expected, rel=0.06)
    for metric in ("ce_pixel", "ce_region", "ce_principal"):
        found = row(evaluation, metric)
        assert (found.upper < 0) if width < 1 else (found.lower > 0)
    assert row(evaluation, "ace_pixel").lower > 0.05


@pytest.mark.parametrize("name", ["cvae", "latent"])
def test_results_do_not_depend_on_the_blocks(name, monkeypatch):
    x, y = make_pairs(7, seed=1)
    solver = Amortised(make_model(name), make_problem())
    whole = evaluate(solver, make_problem(), x, y=y)
    monkeypatch.setattr(measure_module, "BLOCK_BYTES", 2 * 4 * 39 * 144)
    assert measure_module.block_size(SHAPE) == 2
    parts = evaluate(solver, make_problem(), x, y=y)
    assert whole.rows.keys() == parts.rows.keys()
    for metric, rows in whole.rows.items():
        np.testing.assert_allclose(parts.rows[metric], rows, rtol=2e-3, atol=2e-3, err_msg=metric)
    for array, values in whole.examples.arrays.items():
        np.testing.assert_allclose(parts.examples.arrays[array], values, rtol=1e-3, atol=1e-3)


def test_groups_are_the_unit_of_the_interval():
    base = signals(24)
    y = PROBLEM.simulate(base, NoiseStream(1).normal(base.shape))
    x, y = base.repeat_interleave(5, 0), y.repeat_interleave(5, 0)
    groups = [f"subject {i // 5}" for i in range(120)]
    known = evaluate(lambda y: y, PROBLEM, x, y=y, groups=groups)
    blind = evaluate(lambda y: y, PROBLEM, x, y=y)
    for metric in ("mse", "psnr", "data_chi2"):
        a, b = row(known, metric), row(blind, metric)
        assert a.value == pytest.approx(b.value)
        assert a.upper - a.lower > 1.7 * (b.upper - b.lower)  # √5 without the t quantile
        assert (a.groups, b.groups) == (24, 120)


def test_point_estimates_have_no_calibration():
    evaluation = evaluate(lambda y: y, PROBLEM, signals(10))
    assert evaluation.kind == "point"
    assert set(evaluation.rows) == {"psnr", "ssim", "nmse", "rre", "mse", "data_chi2"}
    assert set(evaluation.examples.arrays) == {"truth", "measurement", "mean"}
    # y − A y is the residual: not white noise, but its definition is known
    x, y = (torch.from_numpy(evaluation.examples.arrays[k]) for k in ("truth", "measurement"))
    chosen = list(evaluation.examples.images)
    chi2 = PROBLEM.chi2(y, y)
    np.testing.assert_allclose(evaluation.rows["data_chi2"][chosen, 0], chi2, rtol=1e-5)
    mse = (x - y).square().mean((1, 2, 3))
    np.testing.assert_allclose(evaluation.rows["mse"][chosen, 0], mse, rtol=1e-5)


def test_photon_noise_has_a_deviance_too():
    """At the truth, 50 photons a pixel and read-out noise of 2: both residuals are about 1."""
    problem = InverseProblem(Identity(SHAPE), PoissonGaussianNoise(gain=0.02, scale=0.04))
    x = torch.full((40, *SHAPE), 1.0) + 0.1 * signals(40)
    evaluation = evaluate(lambda y: x, problem, x)
    error = 4 * math.sqrt(2 / x.numel())
    for metric in ("data_chi2", "data_deviance"):
        assert row(evaluation, metric).value == pytest.approx(1.0, abs=0.01 + error)
    dim = evaluate(lambda y: 0.7 * x, problem, x)  # 15 photons of 50 are missing
    assert row(dim, "data_deviance").value > 4


def test_measurements_of_ones_own():
    x = signals(6)
    evaluation = evaluate(lambda y: y[:, :1], None, x, y=torch.cat([x, x], 1) + 0.1)
    assert "data_chi2" not in evaluation.rows
    np.testing.assert_allclose(evaluation.rows["mse"], 0.01, rtol=1e-3)
    wide = evaluate(lambda y: y, None, x, y=x + 0.1, data_range=(-10, 10))
    assert row(wide, "psnr").value == pytest.approx(10 * math.log10(400 / 0.01), abs=0.01)
    assert wide.data_range == (-10, 10)


def test_simulated_noise_is_keyed_by_image():
    seen = []

    def spy(y):
        seen.append(y)
        return y

    x = signals(6)
    for images, seed in ((x, 0), (x[:3], 0), (x, 1)):
        evaluate(spy, InverseProblem(Identity(SHAPE), GaussianNoise(0.5)), images, seed=seed)
    first, part, other = seen
    assert torch.equal(part, first[:3])
    assert not torch.equal(other, first)
    assert (first - x).std() == pytest.approx(0.5, rel=0.1)


class Broken(Solver):
    """NaN, or another status, for one image."""

    def __init__(self, status: Status = Status.CONVERGED, value: float = 1.0) -> None:
        self.status, self.value = status, value

    def solve(self, y, keys, seed):
        factor = torch.tensor([self.value if k == 1 else 1.0 for k in keys])
        status = self.status if 1 in list(keys) else Status.CONVERGED
        return PointEstimate(y * factor[:, None, None, None], status)


BROKEN = {
    "point": lambda y: torch.where(torch.arange(len(y)).reshape(-1, 1, 1, 1) == 1, math.nan, y),
    "draws": lambda y, n: (y * math.nan).expand(n, *y.shape),
    "distribution": lambda y: diagonal_normal(y * math.nan, torch.ones_like(y), 3),
    "infinite": lambda y: y * math.inf,
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_values_that_are_not_finite(name):
    evaluation = evaluate(BROKEN[name], PROBLEM, signals(5), name="theirs")
    assert evaluation.outcome.status is Status.NAN
    assert "mse" in evaluation.outcome.message
    assert set(evaluation.metrics["status"]) == {"nan"}
    assert "nan: values that are not finite" in str(evaluation)


def test_one_bad_block_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(measure_module, "BLOCK_BYTES", 2 * 4 * 39 * 144)
    evaluation = evaluate(Broken(Status.DIVERGENT), PROBLEM, signals(6))
    assert evaluation.outcome.status is Status.DIVERGENT
    evaluation = evaluate(Broken(value=math.nan), PROBLEM, signals(6))
    assert evaluation.outcome.status is Status.NAN


def test_the_status_of_the_fits_comes_first():
    x, y = make_pairs(4)
    images = ImageSet(x, y=y, data_range=(-20.0, 20.0))
    context = Context(40.0, None, None)
    outcome = Outcome(Status.COLLAPSED, "KL 0.1 nats")
    cell = Cell("broken", 12, 3, None, "abc")
    evaluation = evaluate_cell(cell, Broken(value=math.nan), images, context, outcome)
    assert evaluation.outcome is outcome
    table = evaluation.metrics
    assert set(table["status"]) == {"collapsed"}
    assert table["init_seed"].isna().all()
    assert set(table["n"]) == {12}
    assert set(table["evaluation"]) == {"abc"}


class Doubtful(Solver):
    """Does not trust its estimates of some images; 0 is where they are."""

    def __init__(self, doubted, status: Status = Status.UNMIXED) -> None:
        self.doubted, self.status = set(doubted), status

    def solve(self, y, keys, seed):
        doubt = torch.tensor([key in self.doubted for key in keys])
        status = self.status if doubt.any() else Status.CONVERGED
        estimate = PointEstimate(y * ~doubt[:, None, None, None], status)
        estimate.trusted = ~doubt
        return estimate


def doubtful_evaluation(doubted, outcome=None):
    x = signals(8)
    images = ImageSet(x, y=x, data_range=(-20.0, 20.0), groups=tuple("aabbccdd"))
    context = Context(40.0, None, None)
    keys = range(10, 90, 10)
    return evaluate_cell(Cell("theirs"), Doubtful(doubted), images, context, outcome, keys=keys)


def test_images_that_are_not_trusted_are_left_out(monkeypatch):
    monkeypatch.setattr(measure_module, "BLOCK_BYTES", 3 * 4 * 39 * 144)
    evaluation = doubtful_evaluation([20, 60, 70])
    assert evaluation.images == (10, 30, 40, 50, 80)
    assert evaluation.groups == ("a", "b", "b", "c", "d")
    assert (evaluation.rows["mse"] == 0).all()
    assert len(evaluation.rows["mse"]) == 5
    assert evaluation.outcome.status is Status.STOPPED
    assert evaluation.outcome.message == "3 of 8 images left out: not to be trusted"
    assert set(evaluation.per_image["image"]) == {10, 30, 40, 50, 80}


def test_nothing_is_left_out_where_half_is_not_trusted():
    evaluation = doubtful_evaluation([20, 40, 60, 70])
    assert evaluation.images == tuple(range(10, 90, 10))
    assert (evaluation.rows["mse"] > 0).sum() == 4
    assert evaluation.outcome.status is Status.UNMIXED
    assert "4 of 8" in evaluation.outcome.message
    assert not evaluation.outcome.usable


def test_what_is_left_out_is_added_to_what_the_fit_says():
    fits = Outcome(Status.CONVERGED, "early", 7, {"kl": 1.0})
    outcome = doubtful_evaluation([20], fits).outcome
    assert outcome == Outcome(
        Status.CONVERGED, "early; 1 of 8 images left out: not to be trusted", 7, {"kl": 1.0}
    )
    collapsed = Outcome(Status.COLLAPSED, "KL 0.1 nats")
    assert doubtful_evaluation([20], collapsed).outcome is collapsed


WRONG = {
    "no measurement": lambda: evaluate(double, None, signals(3)),
    "measurement of another size": lambda: evaluate(
        double, PROBLEM, signals(3), y=torch.rand(3, 1, 6, 6)
    ),
    "fewer measurements": lambda: evaluate(double, PROBLEM, signals(3), y=signals(2)),
    "fewer groups": lambda: evaluate(double, PROBLEM, signals(3), groups=["a"]),
    "no channel": lambda: evaluate(double, None, signals(3)[:, 0, 0], y=signals(3)),
    "signal of another size": lambda: evaluate(double, PROBLEM, torch.rand(3, 1, 6, 6)),
    "reconstruction of another size": lambda: evaluate(lambda y: y[..., :6], PROBLEM, signals(3)),
    "draws of another size": lambda: evaluate(
        lambda y, n: y[..., :6].expand(n, 3, 1, 12, 6), PROBLEM, signals(3)
    ),
    "reference of another size": lambda: evaluate(
        exact_sampler(), PROBLEM, signals(3), reference=torch.rand(5, 1, 6, 6)
    ),
    "NaN in the truth": lambda: evaluate(double, PROBLEM, signals(3) * math.nan),
    "constant truth": lambda: evaluate(double, PROBLEM, torch.ones(3, *SHAPE)),
    "range too small": lambda: evaluate(double, PROBLEM, signals(3), data_range=(0, 0.1)),
}


def double(y):
    return 2 * y


@pytest.mark.parametrize("name", list(WRONG))
def test_what_does_not_fit(name):
    with pytest.raises(LatensError) as caught:
        WRONG[name]()
    assert "\n" not in str(caught.value)


def test_errors_name_what_is_missing():
    with pytest.raises(ConfigError, match="`y`"):
        evaluate(double, None, signals(3))
    with pytest.raises(DataError, match="finite"):
        evaluate(double, None, signals(3), y=signals(3) * math.nan)


def test_print_is_readable(exact):
    lines = str(exact).splitlines()
    assert lines[0] == "exact: 120 images, posterior"
    assert lines.index("trust card:") == 2 + len(exact.rows)
    assert "s per posterior draw of an image, where 39 are drawn" in lines[1 + len(exact.rows)]
    pixel = next(line for line in lines if "coverage at 95%, pixels" in line)
    found = row(exact, "coverage_pixel")
    assert f"{found.value:.4g}" in pixel
    assert f"[{found.lower:.4g}, {found.upper:.4g}]" in pixel
    assert "target 0.95" in pixel
    assert any("PSNR" in line and "dB" in line for line in lines)
    assert max(map(len, lines)) < 100


def test_metrics_are_printed_in_the_order_of_the_report(exact):
    known = sorted((metric.label for metric in CATALOGUE), key=len, reverse=True)
    printed = [
        next(label for label in known if line[2:].startswith(label)) for line in exact.lines
    ]
    quality = ["PSNR", "SSIM", "NMSE", "relative error", "MSE", "data residual χ²/m"]
    assert printed[:6] == quality
    assert printed.index("coverage at 95%, pixels") < printed.index("spread-skill ratio")
    assert printed.index("spread-skill ratio") < printed.index("CRPS")
    shown = [m.label for section in SECTIONS.values() for m in section if m.label in printed]
    assert printed == shown


def test_tables_conform_to_their_schemas(exact):
    metrics, per_image = exact.metrics, exact.per_image
    assert list(metrics.columns) == list(METRICS.columns)
    assert list(per_image.columns) == list(PER_IMAGE.columns)
    conform(per_image, PER_IMAGE)
    known = {m.name: m for m in CATALOGUE}
    for name, table in per_image.groupby("metric"):
        assert len(table) == 120 * len(known[name].components)
        wide = table.pivot(index="image", columns="component", values="value").to_numpy()
        assert known[name].value(wide) == pytest.approx(row(exact, name).value)


def test_examples_are_whole_images_spread_over_the_set(exact):
    arrays, images = exact.examples.arrays, exact.examples.images
    assert images == (0, 17, 34, 51, 68, 85, 102, 119)
    np.testing.assert_array_equal(arrays["truth"], signals(120)[list(images)].numpy())
    assert arrays["draws"].shape == (3, 8, *SHAPE)
    for name in ("mean", "std", "lower", "upper", "measurement"):
        assert arrays[name].shape == (8, *SHAPE)
    assert (arrays["lower"] < arrays["upper"]).all()
    assert arrays["std"].mean() == pytest.approx(math.sqrt(oracle().posterior_variance), rel=0.05)


@pytest.mark.parametrize("shape", [(1, 20), (2, 9, 7), (1, 12, 11, 13)])
def test_other_dimensions(shape):
    x = NoiseStream(0).normal((6, *shape))
    scale = 0.5**0.5
    solver = as_solver(lambda y: diagonal_normal(y / 2, torch.full_like(y, scale), len(shape)))
    problem = InverseProblem(Identity(shape), GaussianNoise(1.0))
    evaluation = evaluate(solver, problem, x, reference=NoiseStream(1).normal((9, *shape)))
    assert evaluation.outcome.status is Status.CONVERGED
    assert ("ssim" in evaluation.rows) == (shape == (1, 12, 11, 13))
    assert row(evaluation, "spread_skill").value == pytest.approx(1, abs=0.35)


def test_seconds_of_a_draw_are_those_of_the_solver_alone():
    """A solver that sleeps for its draws, and one that sleeps for its only answer."""
    exact = exact_sampler()

    def slow(y, n):
        time.sleep(0.2)
        return exact(y, n)

    found = evaluate(slow, PROBLEM, signals(4))
    assert 0.2 / (4 * 39) < found.seconds_per_draw < 3 * 0.2 / (4 * 39)

    def point(y):
        time.sleep(0.2)
        return y

    found = evaluate(point, PROBLEM, signals(4))
    assert 0.2 / 4 < found.seconds_per_draw < 3 * 0.2 / 4
    assert "s per image" in str(found)
