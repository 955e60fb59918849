"""Forecasts of real lesion volumes: the last visit from the earlier ones, 10 grouped folds.

    python benchmarks/growth_forecast.py [--only NAME ...] [--data FOLDER] [--limit MM3]

1,461 patients under treatment (Laleh et al. 2022, https://doi.org/10.1371/journal.pcbi.1009822),
641 of them with six visits or more are tested. Two visits of a patient on one day become one, of
their mean volume. Every forecaster sees the same folds and learns nothing from tested patients.
Rows go to `benchmarks/data/growth_forecast.json`; a row that is there is not measured again.
"""

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from latens.data import VolumeSeries, series_from_visits
from latens.evaluation.forecasts import ForecastScores, cross_validate
from latens.inference.forecasting import Target
from latens.metrics.catalogue.forecast import FORECAST
from latens.studies.growth import Growth

ROWS = Path(__file__).resolve().parent / "data" / "growth_forecast.json"
MIN_VISITS = 6

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


def lesions(folder: Path, limit: float | None = None) -> VolumeSeries:
    """The lesion series; two readings of one day become their mean."""
    days: dict[tuple[str, float], list[float]] = {}
    with (folder / "tumour_growth" / "flat_patient_data.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            key = (row["Pt_hashID"], float(row["T_days"]))
            days.setdefault(key, []).append(float(row["Lesion_vol"]))
    patients, times = zip(*days, strict=True)
    volumes = [float(np.mean(values)) for values in days.values()]
    return series_from_visits(patients, times, volumes, limit=limit, source="lesions")


def row_of(name: str, scores: ForecastScores, reference: ForecastScores | None) -> dict:
    """What is kept of a forecaster."""
    row: dict = {"forecaster": name, "patients": len(scores.patients)}
    for metric in FORECAST:
        found = scores.value(metric)
        row[metric.name] = [round(v, 4) for v in (found.value, found.lower, found.upper)]
        if reference is not None and metric.name in ("forecast_mae", "forecast_crps"):
            gap = scores.difference(reference, metric)
            row[f"{metric.name}_less_last_value"] = [
                round(v, 4) for v in (gap.value, gap.lower, gap.upper)
            ]
    row["seconds"] = [round(s, 1) for s in scores.seconds]
    row["diagnostics"] = {k: [round(x, 4) for x in v] for k, v in scores.diagnostics.items()}
    return row


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(FORECASTERS), default=list(FORECASTERS))
    default = Path(os.environ.get("LATENS_DATA", "data"))
    parser.add_argument("--data", type=Path, default=default, help="holds tumour_growth/")
    parser.add_argument("--limit", type=float, help="of detection; default: the smallest volume")
    parser.add_argument("--rows", type=Path, default=ROWS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    series = lesions(options.data, options.limit)
    kept = json.loads(options.rows.read_text()) if options.rows.is_file() else []
    done = {row["forecaster"] for row in kept if row.get("limit") == options.limit}
    reference = None
    for name in options.only:
        if name in done:
            continue
        reference = reference or cross_validate(
            STUDY.maker(*FORECASTERS["last value"]), series, min_visits=MIN_VISITS
        )
        begin, study = time.perf_counter(), OTHERS.get(name, STUDY)
        scores = (
            reference
            if name == "last value"
            else cross_validate(study.maker(*FORECASTERS[name]), series, min_visits=MIN_VISITS)
        )
        row = row_of(name, scores, None if name == "last value" else reference)
        if options.limit is not None:
            row["limit"] = options.limit
        kept.append(row)
        options.rows.parent.mkdir(exist_ok=True)
        options.rows.write_text("[\n" + ",\n".join(json.dumps(r) for r in kept) + "\n]\n")
        print(json.dumps(row), f"{time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
