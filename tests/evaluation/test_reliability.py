"""Scores, p-values and detection where the posterior is exact, and numbers inside shifts."""

import math
from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from latens.data import ImageSet
from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import ConfigError
from latens.evaluation import (
    Cell,
    Context,
    KernelWidth,
    NoiseLevel,
    OtherImages,
    evaluate_cell,
    fit_calibration,
    reliability,
    simulate,
    strangeness,
)
from latens.evaluation import measure as measure_module
from latens.evaluation.check_lines import shift_lines
from latens.evaluation.detection_intervals import (
    auroc_interval,
    detection_interval,
    selection_interval,
)
from latens.evaluation.flags import among_usual, by_chance
from latens.evaluation.reliability import DETECTION, SELECTION
from latens.evaluation.strangeness import P_VALUES, SCORES
from latens.inference import Amortised, Calibrated, Ensemble, PointEstimate, as_solver
from latens.metrics import augrc, auroc
from latens.metrics.detection import two_sided
from latens.problems import GaussianNoise, Identity, InverseProblem
from latens.store import RISK_COVERAGE, SHIFTS, conform
from latens.store.schemas import ANY
from models.model_cases import SHAPE, make_model, make_pairs, make_problem

NOISE = 1.0
PROBLEM = InverseProblem(Identity(SHAPE), GaussianNoise(NOISE))


def exact(spread: float = 1.0):
    """x ~ N(0, 1), y ~ N(x, 1): x | y ~ N(y/2, 1/2)."""
    scale = spread * sqrt(0.5)
    return as_solver(lambda y: diagonal_normal(y / 2, torch.full_like(y, scale), 3))


def signals(n: int, seed: int = 0) -> torch.Tensor:
    return NoiseStream(seed).normal((n, *SHAPE))


def found(solver, n: int = 600, noise: float = 1.0) -> dict[str, np.ndarray]:
    x = signals(n)
    y = simulate(InverseProblem(Identity(SHAPE), GaussianNoise(noise)), x, 1)
    return strangeness(solver(y, seed=1), y, PROBLEM)


def test_the_p_value_of_one_draw_is_uniform_for_an_exact_posterior():
    p = found(exact())["p_draw"]
    ranks = np.round(40 * p).astype(int)
    assert set(ranks) <= set(range(1, 41))
    counts = np.bincount((ranks - 1) // 4, minlength=10)
    assert stats.chisquare(counts).pvalue > 0.001
    for size in (0.05, 0.25, 0.5):
        assert np.mean(p <= size) == pytest.approx(size, abs=3 * sqrt(size * (1 - size) / 600))


def test_other_p_values_are_not_uniform_and_say_so():
    columns = found(exact())
    assert np.mean(columns["p_plug_in"] <= 0.5) < 0.01  # x̂ was fitted to y
    assert np.mean(columns["p_predictive"] <= 0.05) <= 0.1
    assert columns["p_predictive"].std() < 0.9 * sqrt(1 / 12)


def test_p_values_see_another_noise_level():
    """E χ²/m of a draw is (1 + noise²)/4 + ½: 1.75 and 0.79, with standard deviation 0.12."""
    assert np.mean(found(exact(), 200, 2.0)["p_draw"] <= 0.05) > 0.95
    less = found(exact(), 200, 0.4)["p_draw"]
    assert np.mean(less <= 0.05) < 0.02  # one-sided: too small a residual is not strange
    assert less.mean() > 0.8


def test_scores_by_their_definitions():
    _, y = make_pairs(5, seed=3)
    problem, solver = make_problem(), Amortised(make_model("latent"), make_problem())
    posterior = solver(y, seed=2)
    columns = strangeness(posterior, y, problem)
    assert set(columns) == {*SCORES, *P_VALUES} - {"disagreement", "code"}
    with torch.no_grad():
        z = posterior.latent_draws(39)
        k = posterior.model.dim
        np.testing.assert_allclose(columns["latent_mean"], (z.mean(0) ** 2).sum(-1) / k, rtol=1e-5)
        cdf = stats.chi2.cdf((z.double() ** 2).sum(-1).numpy(), k)
        tail = -np.log(np.minimum(cdf, 1 - cdf)).mean(0)
        np.testing.assert_allclose(columns["latent_tail"], tail, rtol=1e-4)
        code = posterior.model.encoder(posterior.mean).mean
        again = posterior.model.decode(code, y).mean
        rms = (posterior.mean - again).square().mean((1, 2, 3)).sqrt()
        np.testing.assert_allclose(columns["representation"], rms, rtol=1e-5)
        spread = posterior.variance.mean((1, 2, 3)).sqrt()
        np.testing.assert_allclose(columns["spread"], spread, rtol=1e-5)
        np.testing.assert_allclose(columns["residual"], problem.chi2(y, posterior.mean), rtol=1e-5)


def test_scores_of_ensembles_and_others():
    _, y = make_pairs(4)
    members = [Amortised(make_model("latent", s), make_problem()) for s in (0, 1)]
    posterior = Ensemble(members)(y)
    columns = strangeness(posterior, y, make_problem())
    means = torch.stack([m.mean for m in posterior.members]).detach()
    between = ((means[0] - means[1]) ** 2 / 4).mean((1, 2, 3))
    share = between / posterior.variance.detach().mean((1, 2, 3))
    np.testing.assert_allclose(columns["disagreement"], share, rtol=1e-4)
    single = [strangeness(m, y, make_problem())["representation"] for m in posterior.members]
    np.testing.assert_allclose(columns["representation"], np.mean(single, axis=0), rtol=1e-5)
    names = {
        "cvae": {"code", "representation", "spread", "residual", "replicates", *P_VALUES},
        "direct": {"latent_mean", "latent_tail", "spread", "residual", "replicates", *P_VALUES},
    }
    for name, expected in names.items():
        solver = Amortised(make_model(name), make_problem())
        assert set(strangeness(solver(y), y, make_problem())) == expected
    assert set(strangeness(PointEstimate(y), y, PROBLEM)) == {"residual", "p_plug_in"}
    assert set(strangeness(PointEstimate(y), y, None)) == set()
    broken = strangeness(PointEstimate(y * math.nan), y, PROBLEM)
    assert (broken["residual"] == math.inf).all()
    assert (broken["p_plug_in"] == 0).all()


def test_a_calibrated_solver_scores_as_the_one_inside():
    x = signals(60)
    y = simulate(PROBLEM, x, 0)
    made = Calibrated(exact(), fit_calibration(exact(), x, y, level=0.9))
    plain, calibrated = (strangeness(s(y), y, PROBLEM) for s in (exact(), made))
    for name, values in plain.items():
        np.testing.assert_array_equal(calibrated[name], values)


def study(solver, shifts, n: int = 60, **changes):
    x = signals(n)
    shown = ImageSet(x, y=simulate(PROBLEM, x, 9), data_range=(-9, 9), **changes)
    context = Context(18.0, None, PROBLEM)
    return shown, context, reliability(Cell("exact", 7), solver, shown, context, shifts, seed=1)


OTHER = ImageSet(2 * signals(50, seed=4), data_range=(-20, 20), name="bright")


def test_detection_and_calibration_inside_shifts():
    shown, context, result = study(exact(), [NoiseLevel(1.3), NoiseLevel(1.0), OtherImages(OTHER)])
    table = result.table
    assert list(table.columns) == list(SHIFTS.columns)
    conform(table, SHIFTS)
    assert set(table["n"]) == {7}

    def value(shift, strength, score, number):
        keep = (table["shift"] == shift) & (table["strength"] == strength)
        keep &= (table["score"] == score) & (table["number"] == number)
        assert keep.sum() == 1
        return table[keep].iloc[0]

    seen, unseen = (value("noise level", s, "residual", "auroc") for s in (1.3, 1.0))
    # Residuals of the mean are y/2 with Var y = 2 and 1 + 1.3², 144 of them: χ² variables, whose
    # logarithms are compared by their distance from the median of the usual ones.
    usual_log = np.log(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, 144))
    middle = np.median(usual_log)
    usual_distance = np.abs(usual_log - middle)
    distance = np.abs(usual_log + np.log((1 + 1.3**2) / 2) - middle)
    exact_auroc = np.mean(distance[:, None] > usual_distance)
    exact_rate = np.mean(usual_distance >= np.quantile(distance, 0.05))
    slack = 0.5 * (seen.upper - seen.lower)
    assert seen.lower - slack <= exact_auroc <= seen.upper + slack
    assert seen.upper - seen.lower < 0.1
    assert unseen.lower < 0.5 < unseen.upper
    rate = value("noise level", 1.3, "residual", "fpr95")
    assert rate.lower <= exact_rate <= rate.upper
    assert rate.upper < 0.8
    assert value("images: bright", 1.0, "residual", "auroc").value > 0.9
    assert (seen.images, seen.groups) == (120, 60)
    assert value("images: bright", 1.0, "residual", "auroc").groups == 110
    # Inside: exact where nothing shifts, too sure where there is more noise.
    usual = value("none", 0.0, "", "coverage_pixel")
    assert usual.lower < 0.95 < usual.upper
    inside = value("noise level", 1.3, "", "coverage_pixel")
    assert inside.upper < 0.95
    assert value("noise level", 1.3, "", "spread_skill").upper < 1
    alone = evaluate_cell(Cell("exact", 7), exact(), shown, context, seed=1)
    expected = alone.metrics.set_index("metric")
    for name in expected.index:
        row = value("none", 0.0, "", name)
        assert (row.value, row.lower) == pytest.approx(
            (expected.loc[name].value, expected.loc[name].lower), nan_ok=True
        )
    assert value("none", 0.0, "p_draw", "rejected").value < 0.15
    assert value("noise level", 1.3, "p_draw", "rejected").lower > 0.1
    selected = table[table["number"] == "augrc_over_random"]
    assert set(selected["shift"]) == {"none"}
    assert set(selected["score"]) == {"residual", "replicates", "spread"}


def test_too_small_a_residual_is_noticed():
    """Noise of .4 in place of 1: all residuals lie below all usual ones, and AUROC is no 0."""
    table = study(exact(), [NoiseLevel(0.4)])[2].table
    rows = table[(table["shift"] == "noise level") & (table["number"] == "auroc")]
    found = rows.set_index("score")
    for score in ("residual", "replicates"):
        assert found.loc[score, "value"] == 1
        assert found.loc[score, "lower"] == pytest.approx(0.05 ** (1 / 60))
        assert found.loc[score, "upper"] == 1
    assert found.loc["spread", "value"] == 0.5  # the same for every image: of no side


def told(y):
    """N(y/2, s²) with s half the root mean square of the measurement."""
    scale = y.square().mean((1, 2, 3), keepdim=True).sqrt() / 2
    return diagonal_normal(y / 2, scale.expand_as(y), 3)


@pytest.mark.parametrize("size", [0.1, 2.0])
def test_too_small_a_spread_is_noticed_as_one_that_is_too_large(size):
    """Faint images and bright ones: no usual measurement has as small, or large, a spread."""
    other = ImageSet(size * signals(60, 4), data_range=(-20, 20), name="others")
    table = study(as_solver(told), [OtherImages(other)])[2].table
    found = table[(table["score"] == "spread") & (table["number"] == "auroc")]
    assert found["value"].tolist() == [1.0]


def test_the_rule_of_the_gate_is_a_score_of_its_own():
    """Faint images: residual and spread see them; a usual noise level is seen by nothing."""
    faint = ImageSet(0.1 * signals(55, 4), data_range=(-20, 20), name="faint")
    shown, _, result = study(as_solver(told), [NoiseLevel(1.0), OtherImages(faint)])
    of_any = result.table[result.table["score"] == ANY].set_index(["shift", "number"])
    assert set(of_any.index) == {
        ("none", "flagged"),
        *product(("noise level", "images: faint"), ("flagged", *DETECTION)),
    }
    missed, seen = (of_any.loc[(name, "auroc")] for name in ("noise level", "images: faint"))
    assert missed.value == pytest.approx(0.5, abs=0.15)  # three standard deviations
    assert missed.upper - missed.lower < 0.3
    assert seen.value > 0.97
    assert 0.05 ** (1 / 55) >= seen.lower > 0.9
    assert (seen.images, seen.groups) == (115, 115)
    assert of_any.loc[("images: faint", "flagged")].value == 1
    lines = [line.split() for line in shift_lines(result.table)]
    assert ["flagged", "of", "images:", "faint", "(1)", "1"] in [line[:6] for line in lines]
    share = f"{of_any.loc[('none', 'flagged')].value:.3g}"
    assert ["flagged", "of", "usual", "images", share] in [line[:5] for line in lines]
    # By hand: an image is flagged beyond all the others, on either side of both scores.
    usual = result.usual.columns
    names = ["residual", "spread"]
    extreme = {f(usual[name]) for name in names for f in (np.argmin, np.argmax)}
    mine = of_any.loc[("none", "flagged")]
    assert mine.value == pytest.approx(len(extreme) / 60)
    assert mine.value <= by_chance(names, {name: values[1:] for name, values in usual.items()})
    np.testing.assert_array_equal(
        np.flatnonzero(among_usual(usual, usual, shown.groups)), sorted(extreme)
    )


def test_images_of_one_subject_are_not_compared_with_each_other():
    """Two slices beyond all others, next to each other: both are flagged, and alone neither."""
    usual = {"residual": np.exp(np.linspace(0, 1, 40))}
    usual["residual"][-2:] = 9.0, 9.1
    single = [str(i) for i in range(40)]
    pairs = [str(i // 2) for i in range(40)]
    assert not among_usual(usual, usual, single)[-2]
    assert among_usual(usual, usual, pairs)[-2:].all()


def test_one_subject_alone_has_no_gate():
    table = study(exact(), [NoiseLevel(2.0)], n=6, groups=("a",) * 6)[2].table
    assert ANY not in set(table["score"])


def test_every_estimate_is_computed_once_and_in_blocks(monkeypatch):
    calls = []

    def solver(y):
        calls.append(len(y))
        return diagonal_normal(y / 2, torch.full_like(y, sqrt(0.5)), 3)

    _, _, whole = study(as_solver(solver), [NoiseLevel(1.5)], n=10)
    assert calls == [10, 10]
    monkeypatch.setattr(measure_module, "BLOCK_BYTES", 3 * 4 * 39 * 144)
    calls.clear()
    _, _, parts = study(as_solver(solver), [NoiseLevel(1.5)], n=10)
    assert calls == [3, 3, 3, 1, 3, 3, 3, 1]
    for a, b in zip((whole.usual, *whole.shifted), (parts.usual, *parts.shifted), strict=True):
        for name in a.columns:
            np.testing.assert_allclose(a.columns[name], b.columns[name], rtol=1e-5, atol=1e-6)


def test_risk_coverage_of_a_spread_that_knows():
    """Half the images are 3 times harder, and the posterior knows which."""
    n = 80
    hard = torch.arange(n) % 2 == 0
    scale = torch.where(hard, 3.0, 1.0)[:, None, None, None]
    x = signals(n) * scale
    y = torch.cat([torch.zeros_like(x), scale.expand_as(x)], 1)
    solver = as_solver(lambda y: diagonal_normal(y[:, :1], y[:, 1:], 3))
    shown = ImageSet(x, y=y, data_range=(-20, 20))
    result = reliability(Cell("knows"), solver, shown, Context(40.0, None, None), [])
    assert set(result.usual.columns) == {"spread"}
    curve = result.curve("spread")
    risk = x.square().mean((1, 2, 3)).double().numpy()
    np.testing.assert_allclose(curve[:, 0], [0.5, 1.0])
    np.testing.assert_allclose(curve[:, 1], [risk[1::2].mean(), risk.mean()], rtol=1e-4)
    table = result.table.set_index(["score", "number"])
    ratio = table.loc[("spread", "augrc_over_random")]
    # Generalised risk 0, ½·1, ½·1 + ½·9 at coverage 0, ½, 1, by trapezoids; random: 5/2.
    ideal = (0.5 * (0 + 0.5) / 2 + 0.5 * (0.5 + 5.0) / 2) / 2.5
    assert ratio.lower < ideal < ratio.upper
    assert ratio.upper < 1
    with pytest.raises(ConfigError, match="spread"):
        result.curve("residual")
    curves = result.curves
    conform(curves, RISK_COVERAGE)
    mine = curves[curves["score"] == "spread"]
    np.testing.assert_allclose(mine[["kept", "risk"]], curve[:, :2])
    oracle = curves[curves["score"] == "oracle"]
    ascending = np.sort(risk).cumsum() / np.arange(1, len(risk) + 1)
    np.testing.assert_allclose(oracle["risk"], ascending, rtol=1e-6)
    assert set(curves["score"]) == {"spread", "oracle"}


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_detection_cover(paired):
    """95 % intervals over 200 runs with 40 groups of two images; three binomial errors."""
    truth = stats.norm.cdf(1 / sqrt(2))
    hits = 0
    for run in range(200):
        rng = np.random.default_rng([run, paired])
        groups = [str(i // 2) for i in range(80)]
        shared = rng.standard_normal(40).repeat(2)
        other = shared if paired else rng.standard_normal(40).repeat(2)
        usual = sqrt(0.5) * shared + sqrt(0.5) * rng.standard_normal(80)
        strange = sqrt(0.5) * other + sqrt(0.5) * rng.standard_normal(80) + 1
        interval = detection_interval(auroc, (usual, groups), (strange, groups), paired, run)
        hits += interval.lower <= truth <= interval.upper
        assert interval.groups == (40 if paired else 80)
    assert hits / 200 > 0.95 - 3 * sqrt(0.95 * 0.05 / 200)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)])
def test_intervals_of_two_sided_detection_cover(mean, scale):
    """At least 95 % over 150 runs with 24 images of each kind, less three binomial errors."""
    grid = np.linspace(-12, 12, 4001)
    density = stats.norm.pdf(grid, mean, scale)
    truth = np.trapezoid((2 * stats.norm.cdf(np.abs(grid)) - 1) * density, grid)
    labels, hits = [str(i) for i in range(24)], 0
    for run in range(150):
        rng = np.random.default_rng([run, 3])
        usual, strange = rng.standard_normal(24), rng.normal(mean, scale, 24)
        found = auroc_interval(two_sided(auroc), (usual, labels), (strange, labels), False, run)
        hits += found.lower <= truth <= found.upper
    assert hits / 150 > 0.95 - 3 * sqrt(0.95 * 0.05 / 150)


def test_the_bound_of_perfect_separation_is_exact():
    """The hardest case: shifted scores lie above all usual ones but for a share of 1 − AUROC.

    At an AUROC of .05^(1/12), twelve pairs are all in order in 5 % of the runs; the interval then
    ends there, and misses any smaller AUROC in at most as many.
    """
    k, runs = 12, 4000
    truth = 0.05 ** (1 / k)
    labels = [str(i) for i in range(k)]
    perfect = auroc_interval(auroc, (np.zeros(k), labels), (np.ones(k), labels), True)
    assert perfect.lower == pytest.approx(truth)
    assert (perfect.value, perfect.upper) == (1, 1)
    turned = auroc_interval(auroc, (np.ones(k), labels), (np.zeros(k), labels), False)
    assert (turned.value, turned.lower) == (0, 0)
    assert turned.upper == pytest.approx(1 - truth)
    rng = np.random.default_rng(8)
    separated = (rng.random((runs, k)) < truth).all(axis=1).mean()
    assert separated == pytest.approx(0.05, abs=4 * sqrt(0.05 * 0.95 / runs))


@pytest.mark.parametrize("groups", range(20, 61, 5))
def test_no_end_lies_beyond_that_of_perfect_separation(groups):
    """Whatever the rounding of sums, and where one pair of many is out of order."""
    labels = [str(i) for i in range(groups)]
    usual = np.arange(groups) / 7
    shifted = usual + groups
    nearest = 0.05 ** (1 / groups)
    clean = auroc_interval(auroc, (usual, labels), (shifted, labels), True)
    assert clean.lower == pytest.approx(nearest)
    shifted[0] = usual[-1] - 0.01
    close = auroc_interval(auroc, (usual, labels), (shifted, labels), True)
    assert close.value > 0.99 or groups < 30
    assert close.lower <= clean.lower


def test_intervals_where_nothing_varies():
    groups = list("abcd")
    interval = detection_interval(auroc, ([0, 1, 2, 3], groups), ([4, 5, 6, 7], groups), True)
    assert interval.value == 1
    assert math.isnan(interval.lower)
    one = detection_interval(auroc, ([0.0, 1], ["a", "a"]), ([1.0, 0], ["a", "a"]), True)
    assert math.isnan(one.upper)
    alone = auroc_interval(auroc, ([0.0, 1], ["a", "a"]), ([2.0, 3], ["a", "a"]), True)
    assert (alone.value, math.isnan(alone.lower)) == (1, True)
    flat = selection_interval(augrc, [1, 2, 3], [1.0, 1, 1], ["a", "b", "c"])
    assert flat.value == pytest.approx(0.5)


def test_what_does_not_fit():
    x = signals(5)
    shown = ImageSet(x, y=x + 0.1, data_range=(-9, 9))
    with pytest.raises(ConfigError, match="problem"):
        reliability(Cell("a"), exact(), shown, Context(1.0, None, None), [NoiseLevel(2.0)])
    with pytest.raises(ConfigError, match="once"):
        reliability(Cell("a"), exact(), shown, Context(1.0, None, PROBLEM), [NoiseLevel(2.0)] * 2)
    with pytest.raises(NotImplementedError):
        reliability(Cell("a"), exact(), shown, Context(1.0, None, PROBLEM), [KernelWidth(2.0)])
    assert set(DETECTION) | set(SELECTION) == {
        *("auroc", "average_precision", "fpr95"), *("aurc", "augrc", "augrc_over_random"),
    }  # fmt: skip
