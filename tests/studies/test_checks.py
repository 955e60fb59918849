"""A study with deep checks and conformal calibration, end to end."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from latens.data import ImageSet
from latens.distributions import NoiseStream
from latens.evaluation import Cell, Context, Donor, Subject, checks, run_check
from latens.evaluation.stability import StabilitySettings, can_be_attacked
from latens.inference import CLASSICAL, SAMPLERS, Amortised, Ensemble, Solver, load_calibration
from latens.metrics.catalogue import SECTIONS
from latens.reporting import read_results
from latens.reporting.checks import slope_rows, transfer_rows
from latens.store import (
    RANK_CURVES,
    RISK_COVERAGE,
    Outcome,
    RunFolder,
    Status,
    read_array,
    read_json,
    read_parquet,
)
from latens.studies.configure import construct
from latens.studies.enumeration import UNATTACKED, units_of
from latens.studies.expected import expected_seconds, seconds_per_check, untrained_solver
from latens.studies.load import solver_of
from latens.studies.plan import CHECKED
from latens.studies.scarcity import Scarcity
from latens.studies.work import work
from models.model_cases import make_model, make_pairs, make_problem
from stand_ins import tiny_study

SIZES = (20, 130)
SMALL = [
    *tiny_study.FEW_STEPS,
    *("--data.count", "200", "--sizes", "[20,130]", "--test_images", "24"),
    *("--checked_images", "20", "--baselines", "[tikhonov]"),
    *("--init_seeds", "2", "--ensembles", "[latent]"),
    *("--other_images", "latens.data.Phantoms", "--other_images.size", "[16,16]"),
    *("--other_images.count", "30", "--other_images.seed", "9"),
    *("--samplers", "[laplace]", "--sampled_images", "4"),
    *("--checks", "[calibration,stability,null_space,ambiguity,reliability]"),
]


QUICK = StabilitySettings(
    restarts=2,
    steps=8,
    polish_steps=1,
    level_steps=2,
    search_draws=4,
    random=19,
    lipschitz_starts=1,
    lipschitz_steps=6,
    probes=2,
    image_restarts=1,
    image_steps=4,
)
"""Short searches: what they find is judged elsewhere, here it is followed to the report."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    config = tiny_study.write_config(folder / "models.yaml", tiny_study.ONE_LATENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "StabilitySettings", lambda: QUICK)
        assert tiny_study.run(config, folder / "r", 1, SMALL) == 0
    return RunFolder.open(folder / "r")


def entries(run):
    return [
        read_json(run.evaluation(h) / "evaluation.json") | {"hash": h}
        for h in run.finished_evaluations()
    ]


def means(run):
    curves = pd.read_csv(run.tables / "curves.csv")
    return curves.set_index(["solver", "n", "metric"])["mean"].sort_index()


def test_every_check_is_made_where_it_applies(run):
    made = {(e["solver"], e["n"], e["check"]) for e in entries(run) if e["check"]}
    shared = ("stability", "null_space", "reliability")
    checks = {
        "latent": (*shared, "calibration", "ambiguity"),
        "latent_ensemble": (*shared, "calibration"),
        "tikhonov": shared,
        "latent_laplace": ("stability",),
    }
    assert made == {(s, n, check) for s, each in checks.items() for check in each for n in SIZES}
    for entry in entries(run):
        outcome = Outcome.read(run.evaluation(entry["hash"]))
        assert outcome.usable, outcome
        assert "not applicable" not in outcome.message


def test_their_metrics_join_the_curves(run):
    curves = pd.read_csv(run.tables / "curves.csv")
    assert not curves.duplicated(["solver", "n", "metric"]).any()
    found = set(curves.loc[curves["solver"] == "latent", "metric"])
    assert {"psnr", "lipschitz", "worst_error", "null_error", "unflagged"} <= found
    assert {
        "lipschitz_ball",
        "relative_worst_error_5",
        "worst_over_wiener",
        "worst_over_tv",
    } <= found
    mine = curves[(curves["solver"] == "latent") & (curves["n"] == 130)]
    assert (mine["excluded"] == 0).all()
    shares = mine.set_index("metric")["mean"]
    assert shares["worst_error_200"] > shares["worst_error"] > 0
    point = set(curves.loc[curves["solver"] == "tikhonov", "metric"])
    assert "worst_error" in point
    assert "unflagged" not in point


def test_tests_and_shifts_are_tabled(run):
    tests = pd.read_csv(run.tables / "tests.csv")
    assert set(tests["solver"]) == {"latent", "latent_ensemble"}
    assert {text.split(":")[0] for text in tests["test"]} == {"data", "model"}
    assert tests["p_adjusted"].between(0, 1).all()
    shifts = pd.read_csv(run.tables / "shifts.csv")
    assert {"none", "noise level", "images: inverted contrast"} <= set(shifts["shift"])
    assert "kernel width" not in set(shifts["shift"])  # wider than the image
    assert {"latent", "latent_ensemble", "tikhonov"} == set(shifts["solver"])
    others = shifts[(shifts["shift"] == "images: phantoms 16×16") & (shifts["number"] == "mse")]
    assert set(others["images"]) == {20}
    assert len(others) == 3 * len(SIZES)


def test_an_ensemble_is_checked_as_what_it_is(run):
    """Its own score of strangeness, its own worst case, and a stated verdict."""
    shifts = pd.read_csv(run.tables / "shifts.csv").query("number == 'auroc'")
    mine = shifts[shifts["score"] == "disagreement"]
    assert set(mine["solver"]) == {"latent_ensemble"}
    assert mine["value"].between(0, 1).all()
    curves = means(run)
    for n in SIZES:
        assert curves["latent_ensemble", n, "worst_error"] > 0
        assert curves["latent_ensemble", n, "worst_over_baseline"] > 0
        assert curves["latent_ensemble", n, "null_error"] > 0
    card = pd.read_csv(run.tables / "trust.csv").query("solver == 'latent_ensemble'")
    assert "not measured" not in set(card["verdict"])
    assert "ranks were not tested" not in " ".join(card["reason"].fillna(""))


def test_metrics_of_the_checks_are_known_to_the_plan(run):
    """What `checked_data_seeds` counts, by the section that shows it."""
    checks = {e["hash"] for e in entries(run) if e["check"]}
    metrics = pd.read_csv(run.tables / "metrics.csv")
    found = set(metrics.loc[metrics["evaluation"].isin(checks), "metric"])
    assert found
    assert found <= {metric.name for name in CHECKED for metric in SECTIONS[name]}
    core = set(metrics.loc[~metrics["evaluation"].isin(checks), "metric"])
    assert not core & {metric.name for name in CHECKED for metric in SECTIONS[name]}


def test_pictures_of_the_checks_are_kept(run):
    for entry in entries(run):
        folder = run.evaluation(entry["hash"])
        if entry["check"] == "calibration":
            curves = read_parquet(folder / "rank_curves.parquet", RANK_CURVES)
            declared = {"model"} if entry["solver"] == "latent" else set()
            assert set(curves["source"]) == {"data", *declared}
            assert (curves["lowest"] <= curves["highest"]).all()
        if entry["check"] == "reliability":
            curves = read_parquet(folder / "risk_coverage.parquet", RISK_COVERAGE)
            assert {"residual", "oracle"} <= set(curves["score"])
        if entry["check"] == "null_space":
            count = 4 if entry["solver"] == "tikhonov" else 6
            assert len(list((folder / "arrays").iterdir())) == count
            assert entry["facts"]["threshold"] > 0
        if entry["check"] in ("stability", "null_space"):
            truth = read_array(folder / "arrays" / "truth.npy")
            assert len(entry["facts"]["images"]) == len(truth) == 4


def test_every_section_of_the_report_has_its_figures(run):
    page = run.report_file.read_text("utf-8")
    assert "asks for it" not in page
    names = {file.stem for file in run.figures.glob("*.svg")}
    assert {
        *("noise_to_error", "worst_cases", "null_space", "hallucinations", "ranks_data"),
        *("ranks_model", "coverage_by_level", "conformal_promise", "auroc", "coverage_by_shift"),
        "risk_coverage",
    } <= names


def test_intervals_are_calibrated_where_pairs_are_enough(run):
    found = {
        e["n"]: load_calibration(run.evaluation(e["hash"]))
        for e in entries(run)
        if e["solver"] == "latent" and not e["check"]
    }
    assert found[20] is None  # 3 calibration pairs
    assert found[130] is not None
    assert found[130].units >= 19
    curves = pd.read_csv(run.tables / "curves.csv")
    names = {metric.name for metric in SECTIONS["Conformal intervals"]}
    calibrated = curves[curves["metric"].isin(names)]
    assert set(calibrated["n"]) == {130}


def test_the_cost_of_every_check_is_recorded(run):
    cost = pd.read_csv(run.cost_file)
    assert {"check: calibration", "check: stability"} <= set(cost["unit"])
    assert "check: stability" in run.report_file.read_text("utf-8")


def test_the_report_shows_tests_and_shifts(run):
    page = run.report_file.read_text("utf-8")
    assert "held-out pairs" in page
    assert "pairs of its own model" in page
    assert "What the tests could have seen" in page
    assert "local (3)" in page
    assert "images: inverted contrast (1)" in page
    assert "Range and null space" in page
    assert "Conformal intervals" in page


def test_every_solver_has_a_trust_card(run):
    card = pd.read_csv(run.tables / "trust.csv")
    questions = ["accurate", "stable", "calibrated", "consistent", "aware"]
    for (_, n), rows in card.groupby(["solver", "n"]):
        assert list(rows["question"]) == questions, n
    measured = card[(card["solver"] == "latent") & (card["n"] == 130)].set_index("question")
    assert set(measured["verdict"]) <= {"yes", "no", "open"}
    point = card[(card["solver"] == "tikhonov") & (card["question"] == "calibrated")]
    assert set(point["verdict"]) == {"not measured"}
    assert "least noticed" in measured.loc["aware", "reason"]
    assert "Trust card" in run.report_file.read_text("utf-8")


def test_a_sampler_faces_the_worst_case_of_its_amortised_posterior(run):
    curves = means(run)
    found = {(e["solver"], e["n"]): e for e in entries(run) if e["check"] == "stability"}
    for n in SIZES:
        mine, donor = found["latent_laplace", n], found["latent", n]
        assert not {"worst_error", "lipschitz"} & set(curves["latent_laplace", n].index)
        assert curves["latent_laplace", n, "transferred_error"] > 0
        assert mine["fits"] == donor["fits"] == [mine["identity"]["donor"]]
        assert "donor" not in donor["identity"]
        assert mine["facts"]["worst_case_of"] == "latent"
        assert mine["identity"]["images"] == 4


def test_the_report_says_whose_worst_case_it_was(run):
    rows = transfer_rows(read_results(run))
    assert [(row.solver, row.n, row.donor) for row in rows] == [
        ("latent_laplace", n, "latent") for n in SIZES
    ]
    facts = [e["facts"] for e in entries(run) if e["check"] and "its_error" in e["facts"]]
    assert {row.donor_error for row in rows} == {f"{f['its_error']:.4g}" for f in facts}
    metrics = pd.read_csv(run.tables / "metrics.csv").query("metric == 'transferred_error'")
    assert sorted(row.error.sort for row in rows) == sorted(metrics["value"])
    page = run.report_file.read_text("utf-8")
    assert "Worst case of" in page
    assert rows[0].error.text in page


def test_tv_faces_the_worst_case_of_a_model():
    """At e of the model's own search: the model's error there, and that of TV, by hand."""
    problem, (x, y) = make_problem(), make_pairs(9, seed=1)
    images = ImageSet(x[:3], y=y[:3], data_range=(-20.0, 20.0))
    model, tv = (
        Amortised(make_model("latent"), problem),
        CLASSICAL["tv"].fit(problem, x[3:], y[3:]),
    )
    cell, context, keys = Cell("tv", 8), Context(40.0, None, problem), (4, 7, 9)
    subject = Subject(cell, tv, problem, images, context, keys, None, Donor("latent", model))
    found, outcome = run_check("stability", subject)
    assert outcome.usable
    e = torch.from_numpy(found.arrays["disturbance"])
    assert ((e / 0.1).flatten(1).norm(dim=1) <= 12 * (1 + 1e-5)).all()
    size = x[:3].flatten(1).norm(dim=1)
    there = (tv(y[:3] + e).mean - x[:3]).flatten(1).norm(dim=1) / size
    np.testing.assert_allclose(found.evaluation.rows["transferred_error"][:, 0], there, rtol=1e-5)
    own = (model(y[:3] + e, keys=keys).mean - x[:3]).flatten(1).norm(dim=1) / size
    assert found.facts["its_error"] == pytest.approx(float(own.mean()), rel=1e-4)
    random = NoiseStream(3).normal(e.shape)
    random *= (e.flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1))[:, None, None, None]
    usual = (model(y[:3] + random, keys=keys).mean - x[:3]).flatten(1).norm(dim=1) / size
    assert (own > usual).all()
    alone, _ = run_check("stability", replace(subject, donor=None))
    assert "donor of worst cases" in alone.facts["not_applicable"]


def test_the_prior_bounds_every_solver(run):
    curves = means(run)
    for n in SIZES:
        assert 0 < curves["latent", n, "ambiguity"] <= curves["latent", n, "ambiguity_error"]
    folder = next(run.evaluation(e["hash"]) for e in entries(run) if e["check"] == "ambiguity")
    assert {f.stem for f in (folder / "arrays").iterdir()} == {"truth", "anchor", "other"}


def test_the_report_says_whether_lipschitz_searches_arrived(run):
    found = {(e["solver"], e["n"]): e["facts"] for e in entries(run) if e["check"] == "stability"}
    rows = slope_rows(read_results(run))
    assert {(row.solver, row.n) for row in rows} == {
        (s, n) for s in ("latent", "latent_ensemble", "tikhonov") for n in SIZES
    }
    for row in rows:
        facts = found[row.solver, row.n]
        assert row.unsettled == facts["lipschitz_unsettled"]
        assert (row.unsettled > 0) == (facts["lipschitz_residual"] > QUICK.lipschitz_tolerance)
        assert row.ball.sort >= row.local.sort
        assert f">{row.residual}</td>" in run.report_file.read_text("utf-8")


def test_what_a_transfer_depends_on_is_in_its_name(run):
    config = {**run.description["config"], "baselines": ["tikhonov", "tv"]}

    def found(tree):
        _, evaluations = units_of(construct(Scarcity, tree), tree)
        first = [u for u in evaluations if u.init_seed in (0, None)]
        return {(u.solver, u.n, u.check): u for u in first}

    latent = config["models"]["latent"]
    wider = {**latent, "init_args": {**latent["init_args"], "dim": 2}}
    before, after = found(config), found({**config, "models": {"latent": wider}})
    for n in SIZES:
        transferred = before["tv", n, "stability"]
        assert transferred.donor == before["latent", n, ""].fits[0]
        assert transferred.donor.hash in transferred.needs
        assert after["tv", n, "stability"].hash != transferred.hash
        for solver, check in (("tv", "null_space"), ("tikhonov", "stability")):
            assert after[solver, n, check].hash == before[solver, n, check].hash
            assert not before[solver, n, check].needs


def test_a_collapsed_donor_is_named(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    study = construct(Scarcity, run.description["config"])
    _, evaluations = units_of(study, run.description["config"])
    (unit,) = (u for u in evaluations if u.donor and u.n == 20)
    Outcome(Status.COLLAPSED, "KL 0.1 nats").write(copy.fit(unit.donor.hash))
    shutil.rmtree(copy.evaluation(unit.hash))
    tv = replace(unit, solver="tv", algorithm="tv", fits=())  # whose own fits are none
    assert work(study, copy, tv) == "converged"
    outcome = Outcome.read(copy.evaluation(tv.hash))
    assert outcome.message.endswith("whose worst cases are tried, latent, is collapsed")
    assert not (copy.evaluation(tv.hash) / "metrics.csv").exists()


def test_the_cost_of_every_check_is_foreseen(run):
    config = {**run.description["config"], "baselines": ["tv"]}
    study = construct(Scarcity, config)
    _, evaluations = units_of(study, config)
    for unit in evaluations:
        if unit.check:
            assert seconds_per_check(study, unit) > 0, (unit.solver, unit.check)


def test_the_cost_of_an_ensemble_is_that_of_its_members(run):
    """Announced for three members: three reconstructions, and numbers once."""
    config = {**run.description["config"], "init_seeds": 3, "baselines": []}
    study = construct(Scarcity, config)
    _, evaluations = units_of(study, config)
    at = {(u.solver, u.check): u for u in evaluations if u.n == 20 and u.init_seed in (0, None)}
    ensemble = at["latent_ensemble", "stability"]
    solver = untrained_solver(
        study, ensemble.algorithm, ensemble.fits, *study.corpus.pairs([0, 1])
    )
    assert len(solver.members) == 3  # what is timed
    one, three = (
        seconds_per_check(study, at[name, "null_space"]) for name in ("latent", "latent_ensemble")
    )
    assert three == pytest.approx(1.8 * one)
    alone = [at["latent_ensemble", "null_space"]]
    assert expected_seconds(study, alone, 1) > three


def test_the_cost_of_more_images_is_foreseen(run):
    """Of `reliability`, one set of images more."""

    def foreseen(**changes):
        config = {**run.description["config"], **changes}
        study = construct(Scarcity, config)
        _, evaluations = units_of(study, config)
        unit = next(u for u in evaluations if u.check == "reliability" and u.fits)
        return seconds_per_check(study, unit)

    # as it is, noise, photons, magnitudes, contrast, other images
    assert foreseen() / foreseen(other_images=None) == pytest.approx(6 / 5)


@pytest.mark.parametrize("name", ["latent", "unet"])
def test_an_ensemble_can_be_attacked(name):
    """The gradient of its mean is the mean of the gradients of its members."""
    members = [
        solver_of(make_model(name, seed), make_problem(), Status.CONVERGED, "ensemble")
        for seed in (0, 1)
    ]
    y = make_pairs(2)[1]
    ensemble = Ensemble(members)
    assert can_be_attacked(ensemble, y, range(2))

    def gradient(solver, seed):
        v = y.clone().requires_grad_()
        return torch.autograd.grad(solver.mean_of(v, range(2), seed).square().sum(), v)[0]

    v = y.clone().requires_grad_()
    means = [m.mean_of(v, range(2), 2 * 3 + i) for i, m in enumerate(members)]
    by_hand = torch.autograd.grad(torch.stack(means).mean(0).square().sum(), v)[0]
    torch.testing.assert_close(gradient(ensemble, 3), by_hand)
    assert by_hand.abs().sum() > 0


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_algorithms_that_cannot_be_attacked_are_listed(name):
    problem, (x, y) = make_problem(), make_pairs(6)
    solver = CLASSICAL[name].fit(problem, x, y)
    assert can_be_attacked(solver, y, range(6)) is (name not in UNATTACKED)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_cannot_be_attacked(name):
    solver = SAMPLERS[name](make_model("latent"), make_problem(), Status.CONVERGED)
    assert type(solver).mean_of is Solver.mean_of
    assert not can_be_attacked(solver, make_pairs(1)[1], [0])
