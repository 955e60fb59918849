"""Forecasts of real lesion volumes: the last visit from the earlier ones, patients kept whole.

    python benchmarks/growth_forecast.py --folder FOLDER [--only NAME ...] [--seed 1]
    python benchmarks/growth_forecast.py --folder FOLDER --data koziol [--only NAME ...]

`lesions`: 1,461 patients under treatment (Laleh et al. 2022,
https://doi.org/10.1371/journal.pcbi.1009822), 641 of them with six visits or more are tested, in
ten folds. Two visits of a patient on one day become one, of their mean volume. `koziol`: 30 mice
of three groups, days 7 to 21 (Koziol et al. 1981), each left out in turn; days without a size are
no visits.

The limit of detection is the smallest positive volume of the visits that are not forecast. Every
forecaster sees the same folds and learns nothing from tested patients. `conformal` in a row holds
the scores of its bands when they are calibrated on the patients of the other folds, by
conformalised quantile regression as `latens run growth --conformal true` does; the rest does not
change. Rows go to `benchmarks/data/growth_forecast.json`: one that is there, of the same data,
seed and limit, is not measured again; one of another limit is replaced.
"""

import argparse
import csv
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from latens.data import VolumeSeries, default_folds, series_from_visits
from latens.evaluation.forecast_conformal import conformalised
from latens.evaluation.forecasts import ForecastScores, cross_validate
from latens.evaluation.intervals import Interval
from latens.inference.forecasting import Target
from latens.metrics.catalogue.forecast import FORECAST
from latens.studies.growth import Growth

ROWS = Path(__file__).resolve().parent / "data" / "growth_forecast.json"
MIN_VISITS = 6
REFERENCE = "last value"

FORECASTERS: dict[str, tuple[str, Target]] = {
    "last value": ("last_value", "last"),
    "exponential": ("exponential", "last"),
    "logistic": ("logistic", "last"),
    "Gompertz": ("gompertz", "last"),
    "mixed effects": ("mixed_effects", "last"),
    "Gaussian process": ("gaussian_process", "last"),
    "hierarchical Gompertz": ("hierarchical_gompertz", "last"),
    "latent ODE": ("latent_ode", "last"),
    "latent ODE, one member": ("latent_ode", "last"),
    "hierarchical Gompertz, next": ("hierarchical_gompertz", "next"),
    "latent ODE, next": ("latent_ode", "next"),
}
"""Forecaster of the study and the visit that it forecasts, by the name of its row."""

STUDY = Growth(min_visits=MIN_VISITS)
OTHERS = {"latent ODE, one member": Growth(min_visits=MIN_VISITS, members=1)}
"""Studies of the rows that are not of the first one."""


DATA = ("lesions", "koziol")
BANDS = ("forecast_interval_score", "forecast_coverage", "forecast_width")
"""What calibration changes."""


def limited(series: VolumeSeries, limit: float | None) -> VolumeSeries:
    """The series with the stated limit of detection, or that of the visits not forecast."""
    if limit is None:
        return series.limited_by_history(MIN_VISITS)
    return replace(series, limit=limit)


def lesions(folder: Path) -> VolumeSeries:
    """The lesion series; two readings of one day become their mean."""
    days: dict[tuple[str, float], list[float]] = {}
    with (folder / "tumour_growth" / "flat_patient_data.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            key = (row["Pt_hashID"], float(row["T_days"]))
            days.setdefault(key, []).append(float(row["Lesion_vol"]))
    patients, times = zip(*days, strict=True)
    volumes = [float(np.mean(values)) for values in days.values()]
    return series_from_visits(patients, times, volumes, source="lesions")


def mice(folder: Path) -> VolumeSeries:
    """The mice; a size of NA is no visit, one of 0 too small to be seen. Units are the file's."""
    with (folder / "tumour_growth" / "koziol_tumor.txt").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["size"] != "NA"]
    return series_from_visits(
        [f"{row['group']} {row['mouse']}" for row in rows],
        [float(row["day"]) for row in rows],
        [float(row["size"]) for row in rows],
        volume_unit="units of the file",
        source="mice",
    )


def rounded(found: Interval) -> list[float | None]:
    """A value and its interval; null for a bound that is not known."""
    values = (found.value, found.lower, found.upper)
    return [round(v, 4) if math.isfinite(v) else None for v in values]


def row_of(
    name: str, scores: ForecastScores, reference: ForecastScores | None, log_limit: float
) -> dict:
    """What is kept of a forecaster."""
    row: dict = {"forecaster": name, "patients": len(scores.patients)}
    moved = conformalised(scores, log_limit)
    row["conformal"] = {}
    for metric in FORECAST:
        found = scores.value(metric)
        row[metric.name] = rounded(found)
        if metric.name in BANDS:
            row["conformal"][metric.name] = rounded(moved.value(metric))
        if reference is not None and metric.name in ("forecast_mae", "forecast_crps"):
            row[f"{metric.name}_less_last_value"] = rounded(scores.difference(reference, metric))
    row["seconds"] = [round(s, 1) for s in scores.seconds]
    row["diagnostics"] = {k: [round(x, 4) for x in v] for k, v in scores.diagnostics.items()}
    return row


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(FORECASTERS), default=list(FORECASTERS))
    default = Path(os.environ.get("LATENS_DATA", "data"))
    parser.add_argument("--data", choices=DATA, default=DATA[0])
    parser.add_argument("--folder", type=Path, default=default, help="holds tumour_growth/")
    parser.add_argument("--limit", type=float, help="of detection; default: see above")
    parser.add_argument("--seed", type=int, default=0, help="of folds, fits and draws")
    parser.add_argument("--rows", type=Path, default=ROWS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    read = lesions if options.data == "lesions" else mice
    series = limited(read(options.folder), options.limit)
    told = {"data": options.data, "seed": options.seed, "limit": series.limit}
    kept = json.loads(options.rows.read_text()) if options.rows.is_file() else []

    def scores_of(name: str) -> ForecastScores:
        return cross_validate(
            OTHERS.get(name, STUDY).maker(*FORECASTERS[name]),
            series,
            folds=default_folds(len(series)),
            min_visits=MIN_VISITS,
            seed=options.seed,
        )

    done = {row["forecaster"] for row in kept if told.items() <= row.items()}
    reference = None
    for name in options.only:
        if name in done:
            continue
        reference = reference or scores_of(REFERENCE)
        begin = time.perf_counter()
        same = name == REFERENCE
        scores = reference if same else scores_of(name)
        row = {**told, **row_of(name, scores, None if same else reference, series.log_limit)}
        kept = [other for other in kept if _key(other) != _key(row)] + [row]
        options.rows.parent.mkdir(exist_ok=True)
        options.rows.write_text("[\n" + ",\n".join(json.dumps(r) for r in kept) + "\n]\n")
        print(json.dumps(row), f"{time.perf_counter() - begin:.0f} s", flush=True)


def _key(row: dict) -> tuple:
    """What a row is of, whatever its limit; one that does not say is of lesions and seed 0."""
    return row["forecaster"], row.get("data", DATA[0]), row.get("seed", 0)


if __name__ == "__main__":
    sys.exit(main())
