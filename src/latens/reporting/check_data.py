"""What the deep checks of a run found, read from the folders of their evaluations."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from latens import store
from latens.reporting.palette import ordered
from latens.reporting.panels import Point
from latens.reporting.results import Results, Unit, records, select

LEVEL = 0.95
"""Level of intervals over images."""


def check_units(results: Results, check: str) -> list[Unit]:
    """For each N and solver the usable unit of a check with the lowest seeds.

    Args:
        results: The run.
        check: Name of the check; empty for the evaluation on the whole test set.

    Returns:
        By N, then in the order of the legend.
    """
    found: dict[tuple[int, str], Unit] = {}
    for unit in results.evaluations.values():
        identity = unit.identity
        if not unit.usable or "solver" not in identity or identity.get("n") is None:
            continue
        if (identity.get("check") or "") != check:
            continue
        key = int(identity["n"]), str(identity["solver"])
        if key not in found or _seeds(unit) < _seeds(found[key]):
            found[key] = unit
    sizes = sorted({n for n, _ in found})
    return [found[n, s] for n in sizes for s in ordered(s for m, s in found if m == n)]


def at_largest(units: Sequence[Unit]) -> list[Unit]:
    """Those at the largest N among them."""
    largest = max((size_of(unit) for unit in units), default=0)
    return [unit for unit in units if size_of(unit) == largest]


def size_of(unit: Unit) -> int:
    """Training size N."""
    return int(unit.identity["n"])


def solver_of(unit: Unit) -> str:
    """Name of the solver."""
    return str(unit.identity["solver"])


def read_curves(units: Sequence[Unit], schema: store.Schema) -> pd.DataFrame:
    """A table that checks keep for pictures, of several units under today's names."""
    frames = []
    for unit in units:
        file = unit.folder / f"{schema.name}.parquet"
        if file.is_file():
            frames.append(store.read_parquet(file, schema).assign(solver=solver_of(unit)))
    return pd.concat(frames, ignore_index=True) if frames else store.from_rows([], schema)


def read_picture(unit: Unit, name: str) -> np.ndarray | None:
    """An array of a check, image axis first; None where it was not kept."""
    file = unit.folder / "arrays" / f"{name}.npy"
    return store.read_array(file) if file.is_file() else None


def image_rows(unit: Unit, *metrics: str) -> dict[str, pd.DataFrame]:
    """Components per image of some metrics of a unit.

    Returns:
        By metric: one row per image, indexed by (image, group), one column per component.
        Metrics that the unit does not keep are left out.
    """
    file = unit.folder / "per_image.parquet"
    if not file.is_file():
        return {}
    table = store.read_parquet(file, store.PER_IMAGE, {"metric": metrics})
    return {
        str(metric): rows.pivot(index=["image", "group"], columns="component", values="value")
        for metric, rows in table.groupby("metric", sort=False)
    }


def component(rows: pd.DataFrame, place: int) -> pd.Series:
    """One component of the rows of a metric."""
    return cast(pd.Series, rows[place])


def mean_point(x: float, values: pd.Series) -> Point:
    """Mean over images with its t interval over groups of images.

    Images of one group depend on each other, so that their deviations from the mean are
    summed before they are squared.

    Args:
        x: Place of the point.
        values: One number per image, indexed by (image, group).

    Returns:
        The point; without an interval for fewer than two groups.
    """
    if values.empty:
        return Point(x, math.nan)
    mean = float(values.mean())
    by_group: Any = (values - mean).groupby(level="group")
    sums = np.asarray(by_group.sum(), dtype=float)
    groups = len(sums)
    if groups < 2 or not np.isfinite(sums).all():
        return Point(x, mean)
    error = math.sqrt(groups / (groups - 1) * float((sums**2).sum())) / len(values)
    half = float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * error
    return Point(x, mean, mean - half, mean + half)


def table_point(results: Results, unit: Unit, metric: str, x: float) -> Point:
    """A number of a unit with its interval over images, from the table of metrics."""
    rows = records(select(select(results.metrics, "evaluation", unit.name), "metric", metric))
    if not rows:
        return Point(x, math.nan)
    return Point(x, *(float(rows[0][k]) for k in ("value", "lower", "upper")))


def _seeds(unit: Unit) -> tuple[int, int]:
    """Order of units of one cell: data seed, then initialisation seed."""
    identity = unit.identity
    return int(identity.get("data_seed") or 0), int(identity.get("init_seed") or 0)
