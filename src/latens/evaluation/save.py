"""Write an evaluation as the folder that reports are made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latens.evaluation.evaluate import Evaluation
from latens.metrics import LEVEL
from latens.store import (
    METRICS,
    PER_IMAGE,
    write_array,
    write_csv,
    write_json,
    write_parquet,
)
from latens.types import PathLike


def save_evaluation(
    evaluation: Evaluation, folder: PathLike, description: Mapping[str, Any]
) -> None:
    """Write metrics, per-image rows, examples and outcome into an existing folder.

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
