"""The report of growth from tables alone."""

import math
from pathlib import Path
from typing import Any

import pytest

from latens.errors import DataError
from latens.reporting import write_figures, write_report
from latens.reporting.growth import answers, read_growth
from latens.store import METRIC_DEFINITIONS, RunFolder, from_rows, write_csv
from latens.store.schemas import FORECAST_METRICS, FORECAST_SCORES

NAMES = {"last_value": 0.4, "latent_ode": 0.3, "<b>odd</b>": 0.5, "chosen": 0.32}
METRICS = ("forecast_mae", "forecast_crps", "forecast_coverage")


def metric_row(name: str, metric: str, centre: float) -> dict[str, Any]:
    own = name == "last_value"
    covers = metric == "forecast_coverage"
    value = 0.94 if covers else centre
    return {
        "forecaster": name,
        "metric": metric,
        "value": value,
        "lower": value - 0.02,
        "upper": value + 0.02,
        "level": 0.95,
        "reference": "" if own else "last_value",
        "difference": math.nan if own else centre - 0.4,
        "difference_lower": math.nan if own else centre - 0.43,
        "difference_upper": math.nan if own else centre - 0.37,
        "patients": 77,
        "doubts": "two patients" if name == "latent_ode" else "",
    }


def chosen_row(k: int) -> dict[str, Any]:
    """A patient of fold k, for nine folds of ten by one forecaster."""
    numbers = [name for name, kind in FORECAST_SCORES.columns.items() if kind != "str"]
    by = "last_value" if k % 10 == 4 else "latent_ode"
    words = {"forecaster": "chosen", "patient": f"p{k}", "made_by": by}
    return {**dict.fromkeys(numbers, 0.0), **words, "fold": k % 10}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    data = {
        "patients": 90,
        "visits": 500,
        "tested": 77,
        "limit": 4.0,
        "limit_stated": False,
        "volume_unit": "mm³",
        "time_unit": "days",
    }
    folder = RunFolder.create(
        tmp_path / "run",
        {"study": "growth", "name": "a & b", "config": {}, "data": data, "result_version": 1},
    )
    rows = [metric_row(name, metric, c) for name, c in NAMES.items() for metric in METRICS]
    definitions = [
        {
            "metric": metric,
            "label": f"label of {metric}",
            "unit": "",
            "better": "lower",
            "target": 0.95 if metric == "forecast_coverage" else math.nan,
            "definition": "Words.",
            "section": "Forecasts",
        }
        for metric in METRICS
    ]
    for schema, content in (
        (FORECAST_METRICS, rows),
        (FORECAST_SCORES, [chosen_row(k) for k in range(20)]),
        (METRIC_DEFINITIONS, definitions),
    ):
        write_csv(folder.tables / f"{schema.name}.csv", schema, from_rows(content, schema))
    return folder


def test_the_page_holds_every_number_and_escapes_names(run: RunFolder) -> None:
    page = write_report(run).read_text("utf-8")
    for name, value in NAMES.items():
        assert f"{value:.3f}" in page
        assert name == "<b>odd</b>" or name.replace("_", " ") in page
    assert "<b>odd" not in page
    assert "a &amp; b" in page
    assert "default-src &#39;none&#39;" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page == write_report(run).read_text("utf-8")


def test_answers_are_of_the_choice_and_follow_its_intervals(run: RunFolder) -> None:
    """The smallest CRPS of the table is named by nobody: its patients chose it."""
    results = read_growth(run)
    assert results.forecasters[0] == "latent_ode"
    found = answers(results)
    assert found[0] == "latent ode: two patients."
    assert found[1].endswith("by the CRPS in the others: latent ode in 9, last value in 1 of 10.")
    assert "CRPS of the chosen 0.32, smaller than that of the last value" in found[2]
    assert "difference -0.080" in found[2]
    assert "94.0%" in found[4]
    assert found[4].endswith("as it should.")
    chosen = results.metrics["forecaster"] == "chosen"
    results.metrics.loc[chosen, "difference_upper"] = 0.01
    assert "not told from" in answers(results)[2]
    narrow = results.metrics["metric"] == "forecast_coverage"
    results.metrics.loc[narrow, "upper"] = 0.945
    assert answers(results)[4].endswith("not what it says.")
    for lower, upper in ((0.5, 1.0), (math.nan, math.nan)):
        results.metrics.loc[narrow, ["lower", "upper"]] = lower, upper
        assert "too few patients to say" in answers(results)[4]
    results.scores["made_by"] = "last_value"
    assert "No forecaster has a smaller CRPS" in answers(results)[1]


def test_figures(run: RunFolder) -> None:
    written = write_figures(run)
    assert [path.suffix for path in written] == [".pdf", ".svg"]
    assert "latent ode" in written[1].read_text("utf-8")


def test_missing_tables_are_named(run: RunFolder) -> None:
    (run.tables / "forecast_metrics.csv").unlink()
    with pytest.raises(DataError, match="forecast_metrics"):
        write_report(run)
