"""Tables of a `semisup` run, from the folders of its evaluations."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from latens.evaluation import seed_interval
from latens.metrics import Metric
from latens.metrics.catalogue.mixture import MIXTURE_SECTIONS
from latens.store import (
    ACTIVE,
    CURVES,
    METRIC_DEFINITIONS,
    USABLE,
    RunFolder,
    Status,
    from_rows,
    write_csv,
    write_table,
)
from latens.studies.curve_rows import Summary, Unit, curve_rows
from latens.studies.gather import definitions_of, metrics_of, write_members
from latens.studies.semisup.overview import active_rows, write_overview
from latens.studies.units import EvaluationUnit

if TYPE_CHECKING:
    import pandas as pd

ROWS = "per_image.safetensors"
"""Components per image of every metric, `(images, p)`, in the folder of an evaluation."""

KEPT = (*USABLE, Status.COLLAPSED)
"""Statuses that enter the means: what a collapsed mixture says of an image is measured like what
any other says, and means without it would be those of the draws that went well."""

METRIC = {m.name: m for section in MIXTURE_SECTIONS.values() for m in section}

STEP = 1e-4
"""Relative step of the derivatives of a statistic."""


def gather(run: RunFolder, units: Sequence[EvaluationUnit]) -> None:
    """Write `tables/` of a run from its finished evaluations, and `units.json`, their list.

    Args:
        run: The run.
        units: Evaluations of the present configuration; others in the folder are left out.
    """
    finished = [unit for unit in units if run.has_evaluation(unit.hash)]
    metrics = metrics_of(run, finished)
    write_table(run.tables, "metrics", metrics)
    curves = curve_rows(run, finished, metrics, partial(_summary_of, run), KEPT)
    table = from_rows(curves, CURVES)
    write_table(run.tables, "curves", table)
    write_overview(run, finished, table)
    if len(active := active_rows(metrics)):
        write_table(run.tables, ACTIVE, active)
    else:  # one of an earlier configuration
        for kind in ("csv", "parquet"):
            (run.tables / f"{ACTIVE.name}.{kind}").unlink(missing_ok=True)
    definitions = definitions_of(metrics["metric"], MIXTURE_SECTIONS)
    write_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS, definitions)
    write_members(run, finished)


def _summary_of(run: RunFolder, units: Sequence[Unit]) -> Summary:
    """Interval for draws of the labels and test images together."""
    return partial(_summary, rows_of(run, units))


def rows_of(run: RunFolder, units: Sequence[Unit]) -> dict[str, NDArray[np.float64]]:
    """Components per image of each metric, `(images, p)`, averaged over those that have it."""
    files = [run.evaluation(unit.hash) / ROWS for unit in units]
    found = [load_file(file) for file in files if file.is_file()]
    names = {name for rows in found for name in rows}
    return {
        name: np.mean([rows[name] for rows in found if name in rows], axis=0) for name in names
    }


def _summary(
    rows: Mapping[str, NDArray[np.float64]], name: str, n: int, table: "pd.DataFrame"
) -> dict[str, float]:
    """Mean over cells with a t interval over draws of the labels and over test images.

    The test images are the same in every cell, so that their variance is added and not divided.
    A number of the whole set, such as K_eff, has none here.
    """
    if table.empty:
        return dict.fromkeys(("mean", "lower", "upper"), float("nan"))
    images = rows.get(name, np.empty((0, 1)))
    interval = seed_interval(
        table["value"],
        table["data_seed"].to_numpy(),
        table["init_seed"].to_numpy(dtype=int),
        image_variance=image_variance(METRIC[name], images) if len(images) > 1 else 0.0,
        image_degrees=max(len(images) - 1, 1),
    )
    lower, upper = np.clip([interval.lower, interval.upper], *METRIC[name].support)
    return {"mean": interval.value, "lower": float(lower), "upper": float(upper)}


def image_variance(metric: Metric, rows: NDArray[np.float64]) -> float:
    """Variance of a metric over test images by the delta method, ∇g' Cov(rows) ∇g / n.

    Args:
        metric: A statistic g of means over images.
        rows: Components per image, `(n, p)`, n ≥ 2.
    """
    means = rows.mean(0)
    steps = np.diag(STEP * np.maximum(np.abs(means), STEP))
    ahead, behind = metric.statistic(means + steps), metric.statistic(means - steps)
    gradient = (ahead - behind) / (2 * np.diag(steps))
    return float(((rows - means) @ gradient).var(ddof=1) / len(rows))
