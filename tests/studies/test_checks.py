"""A study with deep checks and conformal calibration, end to end."""

import pandas as pd
import pytest

from latens.cli import main
from latens.inference import load_calibration
from latens.metrics.catalogue import SECTIONS
from latens.store import (
    RANK_CURVES,
    RISK_COVERAGE,
    Outcome,
    RunFolder,
    read_array,
    read_json,
    read_parquet,
)

SMALL = [
    *("--data.size", "[16,16]", "--data.count", "200", "--sizes", "[20,130]"),
    *("--test_images", "24", "--checked_images", "20"),
    *("--data_seeds", "1", "--init_seeds", "1", "--baselines", "[tikhonov]", "--ensembles", "[]"),
    *("--training.max_steps", "12", "--training.kl_warmup_steps", "4"),
    *("--training.warmup_steps", "2", "--training.validate_every", "6"),
    *("--checks", "[calibration,stability,null_space,reliability]", "--jobs", "1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    config = folder / "models.yaml"
    config.write_text(
        "models:\n"
        "  latent:\n"
        "    class_path: latens.models.Latent\n"
        "    init_args: {dim: 1, architecture: {class_path: latens.nets.ConvMap, "
        "init_args: {width: 4}}}\n"
    )
    assert (
        main(["run", "scarcity", "--config", str(config), *SMALL, "--out", str(folder / "r")]) == 0
    )
    return RunFolder.open(folder / "r")


def entries(run):
    return [
        read_json(run.evaluation(h) / "evaluation.json") | {"hash": h}
        for h in run.finished_evaluations()
    ]


def test_every_check_is_made_where_it_applies(run):
    made = {(e["solver"], e["n"], e["check"]) for e in entries(run) if e["check"]}
    checks = ("calibration", "stability", "null_space", "reliability")
    wanted = {("latent", n, check) for n in (20, 130) for check in checks}
    wanted |= {("tikhonov", n, check) for n in (20, 130) for check in checks[1:]}
    assert made == wanted
    for entry in entries(run):
        outcome = Outcome.read(run.evaluation(entry["hash"]))
        assert outcome.usable, outcome
        assert "not applicable" not in outcome.message


def test_their_metrics_join_the_curves(run):
    curves = pd.read_csv(run.tables / "curves.csv")
    assert not curves.duplicated(["solver", "n", "metric"]).any()
    found = set(curves.loc[curves["solver"] == "latent", "metric"])
    assert {"psnr", "lipschitz", "worst_error", "null_error", "unflagged"} <= found
    mine = curves[(curves["solver"] == "latent") & (curves["n"] == 130)]
    assert (mine["excluded"] == 0).all()
    shares = mine.set_index("metric")["mean"]
    assert shares["worst_error_200"] > shares["worst_error"] > 0
    point = set(curves.loc[curves["solver"] == "tikhonov", "metric"])
    assert "worst_error" in point
    assert "unflagged" not in point


def test_tests_and_shifts_are_tabled(run):
    tests = pd.read_csv(run.tables / "tests.csv")
    assert set(tests["solver"]) == {"latent"}
    assert {text.split(":")[0] for text in tests["test"]} == {"data", "model"}
    assert tests["p_adjusted"].between(0, 1).all()
    shifts = pd.read_csv(run.tables / "shifts.csv")
    assert {"none", "noise level", "images: inverted contrast"} <= set(shifts["shift"])
    assert "kernel width" not in set(shifts["shift"])  # wider than the image
    assert {"latent", "tikhonov"} == set(shifts["solver"])


def test_pictures_of_the_checks_are_kept(run):
    for entry in entries(run):
        folder = run.evaluation(entry["hash"])
        if entry["check"] == "calibration":
            curves = read_parquet(folder / "rank_curves.parquet", RANK_CURVES)
            assert set(curves["source"]) == {"data", "model"}
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
