"""Learning curves of a run, as errors: what a plan is made from. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latens.errors import DataError
from latens.scaling import ErrorScale, ImageError, error_scale, seed_table
from latens.store import (
    METRIC_DEFINITIONS,
    METRICS,
    SHIFTS,
    USABLE,
    RunFolder,
    read_csv,
    read_table,
)
from latens.store.schemas import ANY

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

AWARENESS = "auroc_least"
"""AUROC of the shift that is noticed least; it comes from the table SHIFTS."""

AWARENESS_DEFINITION = {
    "metric": AWARENESS,
    "label": "AUROC, least noticed shift",
    "unit": "",
    "better": "higher",
    "target": 1.0,
    "definition": "Smallest area under the ROC curve, over the shifts that were tried, of the "
    "rule by which measurements are flagged, as a score of test images against shifted ones.",
    "section": "Awareness",
}


@dataclass(frozen=True)
class Curve:
    """Cells of one solver and metric.

    Attributes:
        solver, metric: Names.
        scale: How the metric becomes an error.
        sizes: Sample sizes, `(J,)`, ascending; 0 alone if the solver uses no training data.
        table: Errors, mean over initialisations for each data seed and size, `(k, J)`.
        values: The same as metric values.
        images: Error from the test images, relative to or in units of the error.
        section: Section of the report that shows the metric.
    """

    solver: str
    metric: str
    scale: ErrorScale
    sizes: Array
    table: Array
    values: Array
    images: ImageError | None
    section: str

    @property
    def followed(self) -> bool:
        """Whether there are sizes and data seeds enough for a forecast."""
        return self.sizes[0] > 0 and len(self.sizes) >= 3 and len(self.table) >= 2


def read_metrics(run: RunFolder) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Tables METRICS and METRIC_DEFINITIONS of a run.

    Raises:
        DataError: If the run has no finished evaluation.
    """
    if not any((run.tables / f"metrics.{kind}").is_file() for kind in ("parquet", "csv")):
        raise DataError(
            str(run.path),
            "a run with tables",
            "no tables/metrics.csv",
            "Let the study finish: repeat its `latens run` command with this folder as --out.",
        )
    definitions = read_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS)
    return read_table(run.tables, METRICS), definitions


def awareness_rows(shifts: "pd.DataFrame") -> "pd.DataFrame":
    """AUROC of the shift that each cell notices least, by the gate's rule, as rows of METRICS.

    Args:
        shifts: Table SHIFTS.
    """
    mine: Any = shifts[(shifts["number"] == "auroc") & (shifts["score"] == ANY)]
    mine = mine[np.isfinite(mine["value"])]
    least = mine.loc[mine.groupby("evaluation", sort=True)["value"].idxmin()]
    return least.assign(metric=AWARENESS).loc[:, list(METRICS.columns)].reset_index(drop=True)


def with_awareness(
    run: RunFolder, metrics: "pd.DataFrame", definitions: "pd.DataFrame"
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Both tables of `read_metrics` with `auroc_least`, where shifts were tried."""
    import pandas as pd

    if not any((run.tables / f"shifts.{kind}").is_file() for kind in ("parquet", "csv")):
        return metrics, definitions
    rows = awareness_rows(read_table(run.tables, SHIFTS))
    if rows.empty:
        return metrics, definitions
    said = pd.DataFrame([AWARENESS_DEFINITION])
    return (
        pd.concat([metrics, rows], ignore_index=True),
        pd.concat([definitions, said], ignore_index=True),
    )


def learning_curves(
    metrics: "pd.DataFrame", definitions: "pd.DataFrame", names: Sequence[str]
) -> Iterator[Curve]:
    """Learning curves of some metrics, from the usable cells.

    Args:
        metrics: Table METRICS.
        definitions: Table METRIC_DEFINITIONS.
        names: Which metrics.
    """
    rows: Any = definitions.to_dict("records")
    known = {str(row["metric"]): row for row in rows}
    usable = metrics.loc[np.isfinite(metrics["value"]) & metrics["status"].isin(USABLE)]
    for name in names:
        mine: Any = usable.loc[usable["metric"] == name]
        if mine.empty or name not in known:
            continue
        said = known[name]
        scale = error_scale(said["better"], float(said["target"]), said["unit"], mine["value"])
        for solver, cells in mine.groupby("solver", sort=True):
            trained = cells.loc[cells["n"] > 0]
            kept = trained if len(trained) else cells
            yield _curve(str(solver), name, scale, kept, str(said["section"]))


def _curve(solver: str, metric: str, scale: ErrorScale, cells: Any, section: str) -> Curve:
    init = cells["init_seed"].fillna(-1).to_numpy(dtype=int)
    data = cells["data_seed"].to_numpy()
    n = cells["n"].to_numpy(dtype=float)
    shifted = n + (n == 0)  # the table wants positive sizes; a solver without data has one
    sizes, values = seed_table(shifted, cells["value"], data, init)
    sizes = sizes * (n.max() > 0)
    return Curve(
        solver,
        metric,
        scale,
        sizes,
        scale.error(values),
        values,
        _image_error(cells, scale, float(np.nanmean(values[:, -1]))),
        section,
    )


def _image_error(cells: Any, scale: ErrorScale, at: float) -> ImageError | None:
    """From the bootstrap intervals of the cells at the largest size; None if they have none.

    The images are the same in every cell, so the mean over cells has nearly the error of one.
    """
    last = cells.loc[cells["n"] == cells["n"].max()]
    quantile = stats.norm.ppf((1 + last["level"].to_numpy(dtype=float)) / 2)
    half = (last["upper"] - last["lower"]).to_numpy(dtype=float) / 2 / quantile
    half = half[np.isfinite(half)]
    if not len(half):
        return None
    error = scale.spread(float(np.sqrt(np.mean(half**2))), at)
    degrees = float(last["groups"].min() - 1)
    if scale.floor_minimum == -inf:
        return ImageError(error, degrees, proportional=False)
    size = float(scale.error(at))
    return ImageError(error / size, degrees, proportional=True) if size > 0 else None
