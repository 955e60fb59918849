"""Tables of a `semisup` run, from the folders of its evaluations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latens.evaluation import seed_interval
from latens.metrics.catalogue.mixture import MIXTURE_SECTIONS
from latens.store import (
    CURVES,
    METRIC_DEFINITIONS,
    RunFolder,
    from_rows,
    write_csv,
    write_table,
)
from latens.studies.curve_rows import curve_rows
from latens.studies.gather import definitions_of, metrics_of, write_members
from latens.studies.units import EvaluationUnit

if TYPE_CHECKING:
    import pandas as pd


def gather(run: RunFolder, units: Sequence[EvaluationUnit]) -> None:
    """Write `tables/` of a run from its finished evaluations, and `units.json`, their list.

    Args:
        run: The run.
        units: Evaluations of the present configuration; others in the folder are left out.
    """
    finished = [unit for unit in units if run.has_evaluation(unit.hash)]
    metrics = metrics_of(run, finished)
    write_table(run.tables, "metrics", metrics)
    curves = curve_rows(run, finished, metrics, lambda usable: _summary)
    write_table(run.tables, "curves", from_rows(curves, CURVES))
    definitions = definitions_of(metrics["metric"], MIXTURE_SECTIONS)
    write_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS, definitions)
    write_members(run, finished)


def _summary(name: str, n: int, table: "pd.DataFrame") -> dict[str, float]:
    """Mean over cells with a t interval over draws of the labels.

    The test images are the same in every cell; their share of the uncertainty stands in
    `metrics`, cell by cell, and is not added here.
    """
    if table.empty:
        return dict.fromkeys(("mean", "lower", "upper"), float("nan"))
    interval = seed_interval(
        table["value"], table["data_seed"].to_numpy(), table["init_seed"].to_numpy(dtype=int)
    )
    low, high = SUPPORT[name]
    lower, upper = np.clip([interval.lower, interval.upper], low, high)
    return {"mean": interval.value, "lower": float(lower), "upper": float(upper)}


SUPPORT = {m.name: m.support for section in MIXTURE_SECTIONS.values() for m in section}
"""Range of each metric, to which intervals are cut."""
