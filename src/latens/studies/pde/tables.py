"""Tables of the study, and what their numbers mean.

| table | a row is |
|---|---|
| `pde_fields` | a number of a field, for a solver, a population, a number of sensors and an SNR |
| `pde` | its average over fields, with its interval |
| `pde_seconds` | the time of a solver for a block of fields |
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from latens.evaluation.intervals import bootstrap_interval
from latens.reporting.pde import DEFINITIONS
from latens.store import Schema

FIELDS = Schema(
    "pde_fields",
    {
        "solver": "str",
        "population": "str",
        "sensors": "int64",
        "snr": "float64",
        "field": "int64",
        "metric": "str",
        "value": "float64",
    },
    ("population", "sensors", "snr", "metric", "field"),
)
SUMMARY = Schema(
    "pde",
    {
        "solver": "str",
        "population": "str",
        "sensors": "int64",
        "snr": "float64",
        "metric": "str",
        "mean": "float64",
        "lower": "float64",
        "upper": "float64",
        "median": "float64",
        "largest": "float64",
        "fields": "int64",
    },
)
SECONDS = Schema(
    "pde_seconds",
    {
        "solver": "str",
        "population": "str",
        "sensors": "int64",
        "snr": "float64",
        "fields": "int64",
        "seconds": "float64",
    },
)


def summary(fields: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Averages over fields with 95 % bootstrap intervals, solvers in a given order."""
    rows = []
    groups: Any = fields.groupby(["population", "sensors", "snr", "solver", "metric"], sort=False)
    for (population, sensors, snr, solver, metric), part in groups:
        values = part["value"].to_numpy(float)
        lower = upper = float("nan")
        if len(values) > 1 and np.isfinite(values).all():
            interval = bootstrap_interval(values[:, None], np.arange(len(values)), _first)
            lower, upper = interval.lower, interval.upper
        rows.append(
            {
                "solver": solver,
                "population": population,
                "sensors": sensors,
                "snr": snr,
                "metric": metric,
                "mean": values.mean(),
                "lower": lower,
                "upper": upper,
                "median": float(np.median(values)),
                "largest": values.max(),
                "fields": len(values),
            }
        )
    place = {name: index for index, name in enumerate(order)}
    metric = {name: index for index, name in enumerate(DEFINITIONS)}
    rows.sort(
        key=lambda r: (
            r["population"],
            -r["sensors"],
            -r["snr"],
            place.get(r["solver"], len(place)),
            metric.get(r["metric"], len(metric)),
        )
    )
    return pd.DataFrame(rows, columns=list(SUMMARY.columns))


def _first(means: np.ndarray) -> np.ndarray:
    return means[:, 0]


def expected_calibration_error(probability: np.ndarray, chi: np.ndarray, bins: int = 20) -> float:
    """Mean |frequency − probability| over equal bins, weighted by their size.

    Args:
        probability: Of the upper class, any shape.
        chi: 1 where the upper class is true, same shape.
        bins: Number of bins on [0, 1].

    Returns:
        NaN of no probabilities at all.
    """
    p, c = probability.ravel(), chi.ravel()
    if not len(p):
        return float("nan")
    place = np.minimum((p * bins).astype(int), bins - 1)
    sizes = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, c, bins) - np.bincount(place, p, bins)
    return float(np.abs(gaps).sum() / sizes.sum())
