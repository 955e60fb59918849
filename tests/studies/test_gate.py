"""Flags of new measurements against simulations, and what speaks against a whole solver."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch

from latens.inference import PointEstimate, as_solver
from latens.problems import GaussianNoise, Identity, InverseProblem
from latens.store import TRUST, Outcome, Status, from_rows, write_parquet, write_table
from latens.store.schemas import IMAGE_SCORES
from latens.studies import gate
from latens.studies.load import Loaded

SHAPE = (1, 4, 4)


def loaded(tmp_path: Path, usual: dict[str, np.ndarray], stated: bool = True) -> Loaded:
    """A solver whose test images have these scores."""
    folder = tmp_path / "evaluations" / "x"
    folder.mkdir(parents=True)
    cell = {"solver": "s", "n": 8, "data_seed": 0, "init_seed": None}
    rows = [
        {**cell, "image": i, "group": str(i), "score": name, "value": float(value)}
        for name, values in usual.items()
        for i, value in enumerate(values)
    ]
    write_parquet(folder / "scores.parquet", IMAGE_SCORES, from_rows(rows, IMAGE_SCORES))
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(1.0)) if stated else None
    outcome = Outcome(Status.CONVERGED)
    solver = as_solver(lambda y: y)
    return Loaded(solver, problem, "s", 8, 0, None, outcome, "", folder, SHAPE, SHAPE)


def flags_of(
    made: Loaded, scores: dict[str, np.ndarray], patch: pytest.MonkeyPatch, trusted=None
) -> list[gate.Flag]:
    """Flags of measurements with these scores."""
    patch.setattr(gate, "image_scores", lambda *_: scores)
    count = len(next(iter(scores.values())))
    estimate = PointEstimate(torch.zeros(count, *SHAPE))
    estimate.trusted = None if trusted is None else torch.tensor(trusted)
    return gate.measurement_flags(made, torch.zeros(count, *SHAPE), estimate)


def test_a_residual_is_flagged_on_either_side(tmp_path, monkeypatch):
    """y = 0 left χ²/m = .163 where the test images had .80 to 1.13, with a p-value of 1."""
    made = loaded(tmp_path, {"residual": np.linspace(0.8, 1.13, 200)})
    new = {"residual": np.array([0.163, 0.97, 3.0, np.inf, 1e-30])}
    flags = flags_of(made, new, monkeypatch)
    assert [row["suspicious"] for row in flags] == [True, False, True, True, True]
    assert flags[0]["p_value"] == pytest.approx(2 / 201)
    assert flags[1]["p_value"] > 0.9
    assert flags[3]["scores"][0]["value"] is None
    assert gate.refusals(flags)[0] == [0, 2, 3, 4]
    assert gate.by_chance(made, flags) == pytest.approx(2 / 201)


@pytest.mark.parametrize("score", ["latent_mean", "spread"])
def test_less_structure_and_less_doubt_than_usual_are_flagged(score, tmp_path, monkeypatch):
    """A wider kernel left the mean latent shorter than that of all test images, p-value 1."""
    made = loaded(tmp_path, {score: np.exp(np.linspace(-0.5, 0.5, 500))})
    flags = flags_of(made, {score: np.array([0.2, 1.0, 5.0])}, monkeypatch)
    assert [row["suspicious"] for row in flags] == [True, False, True]
    assert flags[0]["p_value"] == flags[2]["p_value"] == pytest.approx(2 / 501)


def test_every_score_can_flag_and_is_named(tmp_path, monkeypatch):
    """A wider kernel: the residual is that of usual images, the representation is not."""
    rng = np.random.default_rng(0)
    usual = {"residual": rng.normal(1, 0.1, 999), "representation": rng.normal(1, 0.1, 999)}
    made = loaded(tmp_path, usual)
    new = {"residual": np.array([1.0, 1.0]), "representation": np.array([2.0, 0.1])}
    flags = flags_of(made, new, monkeypatch)
    strange, smooth = flags
    assert (strange["suspicious"], strange["score"]) == (True, "representation")
    marks = {entry["score"]: entry["suspicious"] for entry in strange["scores"]}
    assert marks == {"residual": False, "representation": True}
    by_name = {entry["score"]: entry for entry in strange["scores"]}
    assert by_name["representation"]["p_value"] == pytest.approx(1 / 1000)
    assert by_name["representation"]["p_adjusted"] == pytest.approx(2 / 1000)
    assert not smooth["suspicious"]  # against larger values alone
    (_, text, _, last) = ["", *gate.flag_lines(made, flags)]
    assert "representation unlike the test set" in text
    assert "1 of 2; of 2 usual ones at most 0.018 would be" in last


@pytest.mark.parametrize("images", [20, 150, 600])
def test_usual_measurements_are_flagged_as_often_as_is_said(images, tmp_path, monkeypatch):
    """Three independent scores, each measurement with test images of its own."""
    rng, runs, count = np.random.default_rng(1), 1500, 0
    names = ("residual", "latent_tail", "spread")
    made = loaded(tmp_path, {name: np.zeros(images) for name in names})
    for _ in range(runs):
        drawn = {name: rng.standard_normal(images + 1) for name in names}
        usual = {name: values[1:] for name, values in drawn.items()}
        monkeypatch.setattr(gate, "known_scores", lambda _, usual=usual: usual)
        flags = flags_of(made, {name: v[:1] for name, v in drawn.items()}, monkeypatch)
        count += flags[0]["suspicious"]
    bound = gate.by_chance(made, flags)
    smallest = np.array([2, 1, 2]) / (images + 1)
    assert bound == pytest.approx(sum(s * max(1, int(0.01 / 3 / s + 1e-9)) for s in smallest))
    slack = 4 * np.sqrt(bound * (1 - bound) / runs)
    assert count / runs < bound + slack
    assert count / runs > 0.8 * bound - slack


def test_what_is_compared_is_what_was_stored(tmp_path):
    """The solver's own estimate, scored as in the evaluation."""
    made = loaded(tmp_path, {"residual": np.linspace(0.5, 1.5, 300)})
    y = torch.ones(2, *SHAPE)
    y[1] *= 10
    flags = gate.measurement_flags(made, y, PointEstimate(torch.zeros(2, *SHAPE)))
    assert [row["scores"][0]["value"] for row in flags] == pytest.approx([1.0, 100.0])
    assert [row["suspicious"] for row in flags] == [False, True]


def test_nothing_to_compare_by_is_said_and_doubted(tmp_path):
    made = loaded(tmp_path, {}, stated=False)
    flags = gate.measurement_flags(made, torch.ones(1, *SHAPE), PointEstimate(torch.ones(SHAPE)))
    assert flags == []
    (line,) = gate.flag_lines(made, flags)
    assert "no operator and noise are stated" in line
    (reason,) = gate.doubts(made, flags, promised=False)
    assert "no operator and noise are stated" in reason


def test_an_estimate_that_does_not_trust_itself(tmp_path, monkeypatch):
    made = loaded(tmp_path, {"residual": np.linspace(0.5, 1.5, 300)})
    flags = flags_of(made, {"residual": np.ones(3)}, monkeypatch, trusted=[True, False, True])
    places, (reason,) = gate.refusals(flags)
    assert places == [1]
    assert reason == "measurement 1 without a trusted estimate"


@pytest.mark.parametrize("verdict", ["yes", "no", "open", "not measured"])
@pytest.mark.parametrize("question", ["accurate", "stable", "calibrated", "consistent", "aware"])
@pytest.mark.parametrize("promised", [True, False])
def test_the_card_refuses_what_is_known_to_be_wrong(
    question, verdict, promised, tmp_path, monkeypatch
):
    made = loaded(tmp_path, {"residual": np.linspace(0.5, 1.5, 300)})
    row = {
        **{"solver": "s", "n": 8, "question": question, "verdict": verdict, "metric": "m"},
        **{"value": 0.5, "lower": nan, "upper": nan, "bar_lower": 0.0, "bar_upper": 1.0},
        "reason": "above the bar",
    }
    others = [{**row, "n": 16, "verdict": "no"}, {**row, "solver": "t", "verdict": "no"}]
    (tmp_path / "tables").mkdir()
    write_table(tmp_path / "tables", TRUST, from_rows([row, *others], TRUST))
    flags = flags_of(made, {"residual": np.ones(1)}, monkeypatch)
    reasons = gate.doubts(made, flags, promised)
    refuses = question == "consistent" or (question == "calibrated" and not promised)
    if verdict == "no" and refuses:
        assert reasons == [f"the solver is not {question}: m 0.5 (above the bar)"]
    else:
        assert reasons == []
