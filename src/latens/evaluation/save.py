"""Write an evaluation as the folder that reports are made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latens.evaluation.evaluate import Evaluation
from latens.inference import save_calibration
from latens.metrics import LEVEL
from latens.store import (
    METRICS,
    PER_IMAGE,
    write_array,
    write_csv,
    write_json,
    write_parquet,
)
from latens.store.schemas import IMAGE_SCORES
from latens.store.tables import from_rows
from latens.types import PathLike

if TYPE_CHECKING:
    import pandas as pd


def save_evaluation(
    evaluation: Evaluation, folder: PathLike, description: Mapping[str, Any]
) -> None:
    """Write metrics, rows and scores of every image, examples and outcome into an existing folder.

    What `latens reconstruct` compares a new measurement with is `scores.parquet`; it is there, and
    empty, where nothing can be scored. A calibration of the intervals is `calibration.json`.

    Args:
        evaluation: What to write.
        folder: An empty folder, best one that `store.new_folder` publishes.
        description: Content of `evaluation.json` besides the kind.

    Raises:
        DataError: If the folder cannot be written.
    """
    target = Path(folder)
    write_json(target / "evaluation.json", {**description, "kind": evaluation.kind})
    evaluation.outcome.write(target)
    write_csv(target / "metrics.csv", METRICS, evaluation.metrics)
    write_parquet(target / "per_image.parquet", PER_IMAGE, evaluation.per_image)
    write_parquet(target / "scores.parquet", IMAGE_SCORES, _score_table(evaluation))
    if evaluation.calibration is not None:
        save_calibration(evaluation.calibration, target)
    examples = target / "examples"
    examples.mkdir()
    for name, array in evaluation.examples.arrays.items():
        write_array(examples / f"{name}.npy", array)
    write_json(
        examples / "examples.json",
        {
            "images": list(evaluation.examples.images),
            "data_range": list(evaluation.data_range),
            "level": LEVEL,
        },
    )


def _score_table(evaluation: Evaluation) -> "pd.DataFrame":
    cell = evaluation.cell
    rows = [
        {
            **cell.place,
            "image": image,
            "group": group,
            "score": score,
            "value": float(value),
        }
        for score, values in evaluation.scores.items()
        for image, group, value in zip(
            evaluation.images, evaluation.groups, values[list(evaluation.used)], strict=True
        )
    ]
    return from_rows(rows, IMAGE_SCORES)
