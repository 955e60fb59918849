"""Tables of a whole run, from the folders of its evaluations."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.evaluation import fit_scaling, metric_interval, seed_interval
from latens.evaluation.trust import ERROR, trust_card
from latens.metrics import LEVEL, Metric, metric
from latens.metrics.catalogue import SECTIONS
from latens.scaling import log_slope
from latens.store import (
    CURVES,
    METRIC_DEFINITIONS,
    METRICS,
    PER_IMAGE,
    POWER,
    SCALING,
    SCALING_BAND,
    SHIFTS,
    TESTS,
    USABLE,
    Outcome,
    RunFolder,
    Schema,
    from_rows,
    read_csv,
    read_parquet,
    write_csv,
    write_json,
    write_table,
)
from latens.studies.curve_rows import Summary, Unit, curve_rows
from latens.studies.curves import AWARENESS, awareness_rows

if TYPE_CHECKING:
    import pandas as pd

SCALED = (
    "mse",
    "nmse",
    "ace_pixel",
    "ace_region",
    "ace_principal",
    "crps",
    "spread_skill",
    "worst_error",
    "condition_number",
    AWARENESS,
)
"""Numbers that are never negative, to which E(N) = E_∞ + a N^(−α) is fitted; a is negative where
one rises. Those of deep checks have three sizes, and intervals where several seeds are checked."""

SLOPED = "spread_skill"
"""Ratio whose slope d log E/d log N is given: the over-confidence slope."""

BAND_POINTS = 60
ONE_SIGMA = 0.6827


def gather(run: RunFolder, units: Sequence[Unit]) -> dict[str, "pd.DataFrame"]:
    """Write `tables/` of a run from its finished evaluations, and `units.json`, their list.

    Args:
        run: The run.
        units: Evaluations of the present configuration; others in the folder are left out.

    Returns:
        The tables by name.
    """
    finished = [unit for unit in units if run.has_evaluation(unit.hash)]
    metrics = metrics_of(run, finished)
    curves = curve_rows(run, finished, metrics, partial(_summary_of, run))
    shifts = _collected(run, finished, SHIFTS)
    scaling, band = _scaling(metrics, awareness_rows(shifts))
    tables = {
        "metrics": metrics,
        "tests": _collected(run, finished, TESTS),
        "power": _collected(run, finished, POWER),
        "shifts": shifts,
        "curves": from_rows(curves, CURVES),
        "scaling": from_rows(scaling, SCALING),
        "scaling_band": from_rows(band, SCALING_BAND),
    }
    tables["trust"] = trust_card(
        tables["curves"],
        metrics,
        tables["shifts"],
        tables["tests"],
        tables["power"],
        _errors(run, finished),
    )
    for name, frame in tables.items():
        write_table(run.tables, name, frame)
    definitions = definitions_of(metrics["metric"])
    write_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS, definitions)
    write_members(run, finished)
    return tables


def metrics_of(run: RunFolder, units: Sequence[Unit]) -> "pd.DataFrame":
    """Table METRICS of finished evaluations, those without numbers left out."""
    import pandas as pd

    numbered = [u for u in units if (run.evaluation(u.hash) / "metrics.csv").is_file()]
    # A unit does not change when its solver is renamed: the name of today counts.
    frames = [
        read_csv(run.evaluation(u.hash) / "metrics.csv", METRICS).assign(solver=u.solver)
        for u in numbered
    ]
    return pd.concat(frames, ignore_index=True) if frames else from_rows([], METRICS)


def write_members(run: RunFolder, units: Sequence[Unit]) -> None:
    """Write `units.json`, the units that the tables are made of."""
    members = {
        "fits": sorted({hash for unit in units for hash in unit.needs}),
        "evaluations": {unit.hash: unit.solver for unit in units},
    }
    write_json(run.units_file, members)


def _collected(run: RunFolder, units: Sequence[Unit], schema: Schema) -> "pd.DataFrame":
    """Rows of one table of all checks."""
    import pandas as pd

    frames = []
    for unit in units:
        file = run.evaluation(unit.hash) / f"{schema.name}.csv"
        if file.is_file():
            frames.append(read_csv(file, schema).assign(solver=unit.solver))
    return pd.concat(frames, ignore_index=True) if frames else from_rows([], schema)


def _errors(run: RunFolder, units: Sequence[Unit]) -> "pd.DataFrame":
    """Rows per image of the error that solvers are compared by, of usable cells."""
    import pandas as pd

    frames = []
    for unit in units:
        folder = run.evaluation(unit.hash)
        file = folder / "per_image.parquet"
        if unit.check == "" and file.is_file() and Outcome.read(folder).status in USABLE:
            rows = read_parquet(file, PER_IMAGE, {"metric": [ERROR]})
            frames.append(rows.assign(solver=unit.solver))
    return pd.concat(frames, ignore_index=True) if frames else from_rows([], PER_IMAGE)


def definitions_of(
    names: Iterable[str], sections: Mapping[str, Sequence[Metric]] = SECTIONS
) -> "pd.DataFrame":
    """Table METRIC_DEFINITIONS of some metrics, in the order in which they are shown."""
    present = set(names)
    rows = [
        {
            "metric": m.name,
            "label": m.label,
            "unit": m.unit,
            "better": m.better,
            "target": m.target,
            "definition": m.definition,
            "section": section,
        }
        for section, metrics_of in sections.items()
        for m in metrics_of
        if m.name in present
    ]
    return from_rows(rows, METRIC_DEFINITIONS)


def _summary_of(run: RunFolder, usable: Sequence[Unit]) -> Summary:
    """Interval for seeds and test images together."""
    return partial(_summary, _image_rows(run, usable))


def _summary(
    rows: Mapping[str, "pd.DataFrame"], name: str, n: int, cells: "pd.DataFrame"
) -> dict[str, float]:
    """Mean over cells with its interval; NaN without cells, or where image error is not known.

    A solver without training data, N = 0, has no seeds: its interval is that over images.
    """
    if cells.empty:
        return dict.fromkeys(("mean", "lower", "upper"), float("nan"))
    if n == 0 and len(cells) == 1:
        (row,) = cells[["value", "lower", "upper"]].to_numpy(dtype=float).tolist()
        return dict(zip(("mean", "lower", "upper"), row, strict=True))
    own = rows[name].loc[rows[name]["evaluation"].isin(cells["evaluation"])]
    variance, degrees = _image_variance(metric(name), *_averaged(own))
    known = np.isfinite(variance)
    interval = seed_interval(
        cells["value"],
        cells["data_seed"].to_numpy(),
        _labels(cells),
        image_variance=variance if known else 0.0,
        image_degrees=degrees,
        level=LEVEL,
    )
    if not known:
        return {"mean": interval.value, "lower": float("nan"), "upper": float("nan")}
    low, high = metric(name).support
    lower, upper = np.clip([interval.lower, interval.upper], low, high)
    return {"mean": interval.value, "lower": float(lower), "upper": float(upper)}


def _labels(cells: "pd.DataFrame") -> np.ndarray:
    """Initialisation of each cell; ensembles, which have none, share a label."""
    return cells["init_seed"].fillna(-1).to_numpy(dtype=int)


def _image_rows(run: RunFolder, members: Sequence[Unit]) -> dict[str, "pd.DataFrame"]:
    """Rows of every image in every cell, by metric, with the cell's evaluation."""
    import pandas as pd

    if not members:
        return {}
    frames = [
        read_parquet(run.evaluation(u.hash) / "per_image.parquet", PER_IMAGE).assign(
            evaluation=u.hash
        )
        for u in members
    ]
    table = pd.concat(frames, ignore_index=True)
    return {str(name): rows for name, rows in table.groupby("metric", sort=True)}


def _averaged(rows: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray]:
    """Components per image averaged over cells, `(n, p)`, and the groups."""
    mean: Any = rows.groupby(["image", "group", "component"], sort=True)["value"].mean()
    wide = mean.unstack("component").dropna(axis=1, how="all")
    return wide.to_numpy(dtype=float), wide.index.get_level_values("group").to_numpy()


def _image_variance(metric: Metric, rows: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Squared standard error over test images of the average cell, and its degrees of freedom.

    0 where images do not differ in the metric; NaN where the rows cannot say: fewer than two
    groups, or rows that are not finite.
    """
    interval = metric_interval(metric, rows, groups, level=ONE_SIGMA)
    degrees = float(max(interval.groups - 1, 1))
    width = (interval.upper - interval.lower) / 2
    if np.isfinite(width):
        return float(width**2), degrees
    if interval.groups > 1 and np.isfinite(rows).all() and _constant(metric, rows):
        return 0.0, np.inf
    return float("nan"), degrees


def _constant(metric: Metric, rows: np.ndarray) -> bool:
    """True if the metric is the same whichever image is left out."""
    without = (rows.sum(axis=0) - rows) / (len(rows) - 1)
    values = metric.statistic(without)
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _scaling(
    metrics: "pd.DataFrame", awareness: "pd.DataFrame"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    band: list[dict[str, Any]] = []
    parts = [part for part in (metrics, awareness) if len(part)]
    every = pd.concat(parts, ignore_index=True) if parts else metrics
    by_curve: Any = every.groupby(["solver", "metric"], sort=True)
    for (solver, name), table in by_curve:
        cells = table.loc[np.isfinite(table["value"]) & table["status"].isin(USABLE)]
        cells = cells.loc[cells["n"] > 0]
        if name not in SCALED or cells["n"].nunique() < 2:
            continue
        fit = fit_scaling(
            cells["n"],
            cells["value"],
            cells["data_seed"].to_numpy(),
            _labels(cells),
            level=LEVEL,
        )
        common = {"solver": str(solver), "metric": str(name), "level": LEVEL}
        for parameter in ("floor", "amplitude", "exponent"):
            estimate = getattr(fit, parameter)
            rows.append(
                {
                    **common,
                    "parameter": parameter,
                    "value": estimate.value,
                    "lower": estimate.lower,
                    "upper": estimate.upper,
                    "sizes": fit.sizes,
                    "status": fit.status,
                }
            )
        if name == SLOPED:
            slope = log_slope(
                cells["n"],
                cells["value"],
                cells["data_seed"].to_numpy(),
                _labels(cells),
                level=LEVEL,
            )
            rows.append(
                {
                    **common,
                    "parameter": "log_slope",
                    "value": slope.value,
                    "lower": slope.lower,
                    "upper": slope.upper,
                    "sizes": fit.sizes,
                    "status": fit.status,
                }
            )
        if not fit.checked:
            continue
        grid = np.geomspace(cells["n"].min(), cells["n"].max(), BAND_POINTS)
        value, lower, upper = fit.predict(grid, LEVEL)
        band += [
            {**common, "n": float(n), "value": float(v), "lower": float(lo), "upper": float(up)}
            for n, v, lo, up in zip(grid, value, lower, upper, strict=True)
        ]
    return rows, band
