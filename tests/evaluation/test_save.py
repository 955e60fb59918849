"""What an evaluation writes can be read again."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from latens.distributions import NoiseStream, diagonal_normal
from latens.evaluation import Evaluation, evaluate, save_evaluation
from latens.problems import GaussianNoise, Identity, InverseProblem
from latens.store import (
    METRICS,
    PER_IMAGE,
    Outcome,
    Status,
    new_folder,
    read_array,
    read_csv,
    read_json,
    read_parquet,
)
from latens.store.schemas import IMAGE_SCORES

SHAPE = (1, 12, 12)
SOLVERS = {
    "posterior": lambda y: diagonal_normal(y, torch.ones_like(y), 3),
    "point": lambda y: y,
    "nan": lambda y: y * math.nan,
}


def evaluation(name: str) -> Evaluation:
    x = NoiseStream(0).normal((10, *SHAPE))
    problem = InverseProblem(Identity(SHAPE), GaussianNoise(0.5))
    return evaluate(SOLVERS[name], problem, x, groups=[f"g{i // 2}" for i in range(10)], name=name)


@pytest.mark.parametrize("name", list(SOLVERS))
def test_what_is_written_is_read(tmp_path, name):
    made = evaluation(name)
    with new_folder(tmp_path / "abc") as folder:
        save_evaluation(made, folder, {"solver": name, "n": 12})
    target = tmp_path / "abc"
    kind = "posterior" if name == "posterior" else "point"
    assert read_json(target / "evaluation.json") == {"solver": name, "n": 12, "kind": kind}
    outcome = Outcome.read(target)
    assert outcome == made.outcome
    assert outcome.status is (Status.NAN if name == "nan" else Status.CONVERGED)
    pd.testing.assert_frame_equal(read_csv(target / "metrics.csv", METRICS), made.metrics)
    rows = read_parquet(target / "per_image.parquet", PER_IMAGE)
    keys = ["metric", "image", "component"]
    pd.testing.assert_frame_equal(
        rows.sort_values(keys, ignore_index=True),
        made.per_image.sort_values(keys, ignore_index=True),
        check_dtype=False,
    )
    scores = read_parquet(target / "scores.parquet", IMAGE_SCORES)
    assert set(scores["score"]) == {"residual", "spread"} - (
        {"spread"} if kind == "point" else set()
    )
    for score, of_score in scores.groupby("score"):
        assert list(of_score["image"]) == list(made.images)
        np.testing.assert_array_equal(of_score["value"], made.scores[score])
    residual = scores[scores["score"] == "residual"]["value"].to_numpy()
    chi2 = made.rows["data_chi2"][:, 0]
    np.testing.assert_allclose(residual, np.where(np.isnan(chi2), np.inf, chi2), rtol=1e-6)
    assert set(rows["group"]) == {f"g{i}" for i in range(5)}
    examples = read_json(target / "examples" / "examples.json")
    assert examples["images"] == list(made.examples.images)
    assert examples["data_range"] == pytest.approx(made.data_range)
    assert examples["level"] == 0.95
    names = {path.stem for path in (target / "examples").glob("*.npy")}
    assert names == set(made.examples.arrays)
    for array in names:
        read = read_array(target / "examples" / f"{array}.npy")
        np.testing.assert_array_equal(read, made.examples.arrays[array])


def test_pictures_of_a_posterior(tmp_path):
    folder = tmp_path / "abc"
    folder.mkdir()
    save_evaluation(evaluation("posterior"), folder, {})
    names = {path.name for path in (folder / "examples").iterdir()}
    arrays = ("truth", "measurement", "mean", "std", "lower", "upper", "draws")
    assert names == {"examples.json", *(f"{array}.npy" for array in arrays)}
