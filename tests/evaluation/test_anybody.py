"""Deep checks through `latens.evaluate`, on solvers whose answers are known."""

import numpy as np
import pytest
import torch

from evaluation.test_evaluate import PROBLEM, exact_sampler, signals
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, ShapeError, UnsupportedError
from latens.evaluation import StabilitySettings, checks, evaluate, save_evaluation
from latens.inference import Amortised, LatentMAP, load_calibration
from latens.problems import GaussianNoise, Identity, InverseProblem
from models.model_cases import SHAPE, make_model, make_pairs, make_problem

CUT_SHORT = StabilitySettings(steps=2, image_steps=2, level_steps=1, lipschitz_steps=1)


def value(evaluation, check, metric):
    table = evaluation.checks[check].evaluation.metrics.set_index("metric")
    return table.loc[metric, "value"]


def test_a_linear_solver_has_its_norm_as_lipschitz_constant():
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(0.2))
    x = signals(6)
    found = evaluate(lambda y: 0.7 * y, problem, x, reference=signals(30, 5), checks=["stability"])
    assert value(found, "stability", "lipschitz") == pytest.approx(0.7, rel=1e-3)
    assert value(found, "stability", "worst_over_baseline") > 0
    assert "stability:" in str(found).splitlines()
    assert "local Lipschitz constant" in str(found)
    assert value(found, "stability", "worst_over_wiener") > 0
    assert value(found, "stability", "worst_over_tv") > 0
    assert found.checks["stability"].facts["lipschitz_unsettled"] == 0
    assert "relative residual at most" in str(found)
    assert "above it for" not in str(found)
    alone = evaluate(lambda y: 0.7 * y, problem, x, checks=["stability"])
    assert "worst_over_wiener" not in alone.checks["stability"].evaluation.rows
    assert "worst_over_tv" not in alone.checks["stability"].evaluation.rows
    assert "worst_over_baseline" not in alone.checks["stability"].evaluation.rows


def test_a_search_that_was_cut_short_is_said(monkeypatch):
    monkeypatch.setattr(checks, "StabilitySettings", lambda: CUT_SHORT)
    problem, x = InverseProblem(Identity(SHAPE), GaussianNoise(0.2)), signals(6)
    weights = torch.linspace(0.1, 1, 144).reshape(SHAPE)
    found = evaluate(lambda y: weights * y, problem, x, checks=["stability"])
    facts = found.checks["stability"].facts
    assert facts["lipschitz_residual"] > facts["lipschitz_tolerance"] == 1e-2
    assert facts["lipschitz_unsettled"] == 6
    assert "tolerance 0.01; above it for 6 images" in str(found)


def test_an_exact_posterior_passes_its_calibration():
    found = evaluate(
        exact_sampler(),
        PROBLEM,
        signals(40),
        checks=["calibration", "null_space", "reliability"],
        checked_images=30,
    )
    tests = found.checks["calibration"].tables["tests"]
    assert (tests["p_adjusted"] > 0.05).all()
    assert set(tests["images"]) == {30}
    assert len(found.checks["null_space"].evaluation.images) == 30
    # the exact posterior has no variance that the error does not have
    share = [value(found, "null_space", name) for name in ("null_error", "null_variance")]
    assert share[0] == pytest.approx(share[1], abs=0.1)
    shifts = found.checks["reliability"].tables["shifts"]
    assert {"none", "noise level"} <= set(shifts["shift"])
    assert "no miscalibration found on 30 held-out pairs" in str(found)
    assert "AUROC of noise level (2)" in str(found)


def test_too_narrow_a_posterior_does_not():
    found = evaluate(exact_sampler(0.4), PROBLEM, signals(60), checks=["calibration"])
    assert "not calibrated on 50 held-out pairs" in str(found)


def test_what_does_not_apply_says_so():
    def opaque(y):
        return torch.from_numpy(y.numpy() * np.float32(0.5))  # torch refuses where y has a graph

    found = evaluate(
        opaque, PROBLEM, signals(20), checks=["calibration", "stability", "ambiguity"]
    )
    for name in found.checks:
        assert found.checks[name].evaluation is None
        assert "not_applicable" in found.checks[name].facts
    assert str(found).count("not applicable") == 3
    unknown = evaluate(lambda y: y, None, signals(5), y=signals(5), checks=["null_space"])
    assert "not applicable" in str(unknown)


def test_a_solver_that_leaves_torch_faces_the_worst_case_of_tikhonov():
    def opaque(y):
        return torch.from_numpy(0.7 * y.numpy())

    problem = InverseProblem(Identity(SHAPE), GaussianNoise(0.2))
    found = evaluate(
        opaque, problem, signals(6), reference=signals(30, 5), checks=["stability"]
    ).checks["stability"]
    assert set(found.evaluation.rows) == {"transferred_error", "transferred_over_baseline"}
    assert found.facts["worst_case_of"] == "tikhonov"
    # 0.7 y of the same x, y and e, by hand
    truth, y, e = (found.arrays[name] for name in ("truth", "measurement", "disturbance"))
    radius = np.sqrt((e**2).sum((1, 2, 3))) / 0.2
    assert ((radius > 11.5) & (radius < 12 * (1 + 1e-5))).all()  # √144
    error = np.sqrt(((0.7 * (y + e) - truth) ** 2).sum((1, 2, 3)))
    expected = error / np.sqrt((truth**2).sum((1, 2, 3)))
    rows = found.evaluation.rows["transferred_error"][[0, 1, 3, 5], 0]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    own, baseline = found.evaluation.rows["transferred_over_baseline"].T
    np.testing.assert_array_equal(own, found.evaluation.rows["transferred_error"][:, 0])
    assert baseline.mean() == pytest.approx(found.facts["its_error"])
    assert "at the worst case of tikhonov" in found.lines[0]


def test_the_ambiguity_of_a_latent_model():
    x, y = make_pairs(3)
    solver = Amortised(make_model("latent-linear"), make_problem())
    found = evaluate(solver, make_problem(), x, y=y, checks=["ambiguity"])
    bound, own = (value(found, "ambiguity", name) for name in ("ambiguity", "ambiguity_error"))
    assert 0 < bound <= own
    assert value(found, "ambiguity", "ambiguity_slope") >= 0


def test_samplers_are_not_run_on_pairs():
    x, y = make_pairs(2)
    solver = LatentMAP(make_model("latent-linear"), make_problem(), climbs=1, max_iterations=5)
    found = evaluate(solver, make_problem(), x, y=y, checks=["ambiguity"]).checks["ambiguity"]
    assert set(found.evaluation.rows) == {"ambiguity"}


def test_a_check_that_is_none():
    with pytest.raises(ConfigError, match="calibration"):
        evaluate(lambda y: y, PROBLEM, signals(3), checks=["lipschitz"])


def test_what_is_not_measured_is_said():
    assert evaluate(exact_sampler(), PROBLEM, signals(3), reference=signals(30, 5)).left_out == []
    point = evaluate(lambda y: y, None, signals(3), y=signals(3))
    assert [text.split(";")[0] for text in point.left_out] == [
        "data residual",
        "calibration and spread",
    ]
    assert f"not measured: {point.left_out[0]}" in str(point)


def draws_of_the_model(images, seed):
    """Pairs of the field that `exact_sampler` is the posterior of."""
    x = signals(images, 300 + seed)
    return x, PROBLEM.simulate(x, NoiseStream(400, seed).normal(x.shape))


def of_the_model(found):
    tests = found.checks["calibration"].tables["tests"]
    return tests[tests["test"].str.startswith("model:")]


def test_ranks_on_a_simulator_of_the_users_own():
    """The same solver is right about its own model and wrong about another one."""
    right = evaluate(
        exact_sampler(), PROBLEM, signals(30), checks=["calibration"], simulate=draws_of_the_model
    )
    assert set(of_the_model(right)["images"]) == {200}
    assert (of_the_model(right)["p_adjusted"] > 0.05).all()
    assert "pairs of its own model" in str(right)

    def another(images, seed):
        x = 1.3 * signals(images, 300 + seed)
        return x, PROBLEM.simulate(x, NoiseStream(400, seed).normal(x.shape))

    wrong = evaluate(
        exact_sampler(), PROBLEM, signals(30), checks=["calibration"], simulate=another
    )
    assert (of_the_model(wrong)["p_adjusted"] <= 0.05).any()
    without = evaluate(exact_sampler(), PROBLEM, signals(30), checks=["calibration"])
    assert of_the_model(without).empty


def test_a_simulator_that_does_not_fit():
    check = {"checks": ["calibration"]}
    for simulate in (lambda n, seed: signals(n), lambda n, seed: (signals(n), signals(n - 1))):
        with pytest.raises(ShapeError, match="simulate"):
            evaluate(exact_sampler(), PROBLEM, signals(20), simulate=simulate, **check)
    with pytest.raises(DataError, match="finite"):
        evaluate(
            exact_sampler(),
            PROBLEM,
            signals(20),
            simulate=lambda n, seed: (signals(n) / 0, signals(n)),
            **check,
        )
    with pytest.raises(ConfigError, match="calibration"):
        evaluate(exact_sampler(), PROBLEM, signals(20), simulate=draws_of_the_model)


@pytest.mark.parametrize(("width", "low", "high"), [(0.5, 1.9, 2.2), (2.0, 0.45, 0.6)])
def test_intervals_of_any_solver_keep_a_promise(width, low, high, tmp_path):
    """A posterior of half (twice) the right width needs twice (half) its intervals."""
    held = signals(100, 9)
    found = evaluate(exact_sampler(width), PROBLEM, signals(100), calibration=held)
    own = evaluate(exact_sampler(width), PROBLEM, signals(100))
    table = found.metrics.set_index("metric")["value"]
    assert abs(own.metrics.set_index("metric")["value"]["coverage_pixel"] - 0.95) > 0.04
    assert table["conformal_coverage"] == pytest.approx(0.95, abs=0.015)
    assert low < table["conformal_gain"] < high
    assert found.calibration.images == 100
    assert "intervals calibrated on 100 held-out images (crc, factor" in str(found)
    assert "0.95 of the elements of new images inside, on average" in str(found)
    # draws, and whatever is computed from them, are as before
    assert table["coverage_pixel"] < 0.9 or table["coverage_pixel"] > 0.99
    save_evaluation(found, tmp_path, {})
    assert load_calibration(tmp_path) == found.calibration
    pairs = held, PROBLEM.simulate(held, NoiseStream(11).normal(held.shape))
    patients = [str(i // 4) for i in range(100)]
    grouped = evaluate(
        exact_sampler(width),
        PROBLEM,
        signals(20),
        calibration=pairs,
        calibration_groups=patients,
    )
    assert grouped.calibration.units == 25
    assert "100 held-out images of 25 groups" in str(grouped)


def test_a_calibration_that_cannot_be_made():
    with pytest.raises(ConfigError, match="19"):
        evaluate(exact_sampler(), PROBLEM, signals(5), calibration=signals(10, 9))
    with pytest.raises(UnsupportedError, match="point estimate"):
        evaluate(lambda y: y, PROBLEM, signals(5), calibration=signals(30, 9))
    with pytest.raises(ConfigError, match="calibration_groups"):
        evaluate(exact_sampler(), PROBLEM, signals(5), calibration_groups=["a"] * 5)


def verdicts_of(evaluation):
    return evaluation.trust.set_index("question")["verdict"].to_dict()


def test_the_trust_card_of_any_solver():
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(0.2))
    narrow = evaluate(exact_sampler(0.4), PROBLEM, signals(60), checks=["calibration"])
    assert set(verdicts_of(narrow)) == {"accurate", "stable", "calibrated", "consistent", "aware"}
    assert verdicts_of(narrow)["calibrated"] == "no"
    assert verdicts_of(narrow)["consistent"] == "yes"
    assert verdicts_of(narrow)["stable"] == "not measured"
    point = evaluate(
        lambda y: 3 * y, problem, signals(6), reference=signals(30, 5), checks=["stability"]
    )
    found = verdicts_of(point)
    assert (found["calibrated"], found["stable"]) == ("not measured", "no")
    assert found["consistent"] == "no"  # χ² is that of 2y
    text = str(point)
    assert "trust card:" in text
    assert "stable       no     worst_over_wiener" in text  # the stricter of the two
    assert "nothing measured says: calibrated, aware" in text
    # ranks that were not tested leave coverage within the bar open
    exact = evaluate(exact_sampler(), PROBLEM, signals(400))
    assert verdicts_of(exact)["calibrated"] == "open"
    assert "ranks were not tested" in str(exact)


def test_a_solver_that_fails_is_not_to_be_trusted():
    broken = evaluate(lambda y: y / 0, PROBLEM, signals(6))
    assert verdicts_of(broken)["accurate"] == "no"
    assert verdicts_of(broken)["consistent"] == "no"
