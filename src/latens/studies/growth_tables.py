"""Tables of `growth`: forecasters, the one that other folds choose, and their calibrated bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from latens.evaluation.forecast_choice import chosen_by_others
from latens.evaluation.forecast_conformal import conformalised
from latens.evaluation.forecasts import COMPONENTS, ForecastScores
from latens.evaluation.intervals import Interval
from latens.inference.forecasting.support import (
    BAND_PATIENTS,
    FEW_DRAWS,
    FEWEST_DRAWS,
    few_patients,
)
from latens.metrics.catalogue.forecast import FORECAST
from latens.metrics.metric import Metric
from latens.reporting.growth import CHOSEN, REFERENCE
from latens.store import METRIC_DEFINITIONS, RunFolder, from_rows, read_csv, write_csv
from latens.store.schemas import FORECAST_METRICS, FORECAST_SCORES
from latens.studies.growth import Growth

CONFORMAL = " conformal"
"""What follows the name of a forecaster whose bands were calibrated."""
_FEW = f"fewer than {FEWEST_DRAWS} effective draws of their state"
SHOWN = ("fold", "truth", "median", "lower", "upper")
"""Columns of a patient beside its scores."""


@dataclass(frozen=True)
class Row:
    """A forecaster of the tables.

    Attributes:
        scores: Its scores.
        made_by: Forecaster behind each patient's forecast.
        doubts: Why it should not be relied on; empty if nothing is known.
    """

    scores: ForecastScores
    made_by: list[str]
    doubts: str


def compared(found: Mapping[str, ForecastScores], study: Growth) -> dict[str, Row]:
    """All that stands in the tables: forecasters, their choice, and their calibrated bands."""
    doubts = {name: _doubts(scores) for name, scores in found.items()}
    rows = {
        name: Row(scores, [name] * len(scores.patients), doubts[name])
        for name, scores in found.items()
    }
    if len(found) > 1:
        scores, made_by = chosen_by_others(found)
        said = dict.fromkeys(doubts[name] for name in made_by if doubts[name])
        rows[CHOSEN] = Row(scores, made_by, "; ".join(said))
    if study.conformal:
        for name, row in list(rows.items()):
            calibrated = conformalised(row.scores, study.series.log_limit)
            rows[name + CONFORMAL] = Row(calibrated, row.made_by, "")
    return rows


def _doubts(scores: ForecastScores) -> str:
    """What speaks against a forecaster: its bands in the fold where they are worst, and patients
    whose forecasts rest on few draws.
    """
    counts = scores.diagnostics.get(BAND_PATIENTS)
    bands = few_patients(int(min(counts))) if counts else ""
    few = round(sum(scores.diagnostics.get(FEW_DRAWS, [])))
    draws = f"{few} of {len(scores.patients)} patients have {_FEW}" if few else ""
    return "; ".join(part for part in (bands, draws) if part)


def write_tables(run: RunFolder, found: Mapping[str, Row], failed: Sequence[str]) -> None:
    """Tables of all forecasters; of those that failed, rows without numbers."""
    nothing = Interval(nan, nan, nan, nan, 0, 0)
    patients, metrics = (
        [],
        [
            _metric_row(name, metric, nothing, nothing, "")
            for name in failed
            for metric in FORECAST
        ],
    )
    reference = found[REFERENCE].scores
    for name, entry in found.items():
        scores = entry.scores
        for k, patient in enumerate(scores.patients):
            row: dict[str, Any] = {"forecaster": name, "patient": patient}
            row |= {column: float(getattr(scores, column)[k]) for column in SHOWN[1:]}
            row |= {column: float(scores.components[column][k]) for column in COMPONENTS}
            patients.append({**row, "fold": int(scores.fold[k]), "made_by": entry.made_by[k]})
        for metric in FORECAST:
            gap = scores.difference(reference, metric)
            value = scores.value(metric)
            metrics.append(_metric_row(name, metric, value, gap, entry.doubts))
    definitions = [
        {
            "metric": metric.name,
            "label": metric.label,
            "unit": metric.unit,
            "better": metric.better,
            "target": metric.target,
            "definition": metric.definition,
            "section": "Forecasts",
        }
        for metric in FORECAST
    ]
    write_csv(
        run.tables / "metric_definitions.csv",
        METRIC_DEFINITIONS,
        from_rows(definitions, METRIC_DEFINITIONS),
    )
    write_csv(
        run.tables / "forecast_scores.csv", FORECAST_SCORES, from_rows(patients, FORECAST_SCORES)
    )
    write_csv(
        run.tables / "forecast_metrics.csv",
        FORECAST_METRICS,
        from_rows(metrics, FORECAST_METRICS),
    )


def _metric_row(
    name: str, metric: Metric, value: Interval, gap: Interval, doubts: str
) -> dict[str, Any]:
    """A row of FORECAST_METRICS; the reference has no difference from itself."""
    own = name == REFERENCE
    return {
        "forecaster": name,
        "metric": metric.name,
        "value": value.value,
        "lower": value.lower,
        "upper": value.upper,
        "level": value.level,
        "reference": "" if own else REFERENCE,
        "difference": nan if own else gap.value,
        "difference_lower": nan if own else gap.lower,
        "difference_upper": nan if own else gap.upper,
        "patients": value.images,
        "doubts": doubts,
    }


def table_text(run: RunFolder) -> str:
    """The table of metrics for a terminal, a line per forecaster."""
    table = read_csv(run.tables / "forecast_metrics.csv", FORECAST_METRICS)
    shown = ("forecast_mae", "forecast_crps", "forecast_coverage", "forecast_width")
    heads = ("MAE", "CRPS", "coverage", "width")
    lines = [f"{'':<24}" + "".join(f"{head:>24}" for head in heads)]
    for name in dict.fromkeys(table["forecaster"]):
        cells = []
        for metric in shown:
            row = table[(table["forecaster"] == name) & (table["metric"] == metric)].iloc[0]
            found = f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"
            cells.append(found if row["patients"] else "failed")
        lines.append(f"{name:<24}" + "".join(f"{cell:>24}" for cell in cells))
    doubts = table[table["doubts"] != ""].groupby("doubts", sort=False)["forecaster"].unique()
    lines += [f"warning: {', '.join(names)}: {why}" for why, names in doubts.items()]
    return "\n".join(lines)
