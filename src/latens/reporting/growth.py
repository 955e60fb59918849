"""The report of `growth`: which forecaster to believe, in one table and one figure."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from latens.errors import DataError
from latens.reporting.page import security_policy, style_sheet, templates
from latens.reporting.palette import HUES, INK, MUTED, RULE
from latens.reporting.rendering import drawing_style, figure_pdf, figure_svg, inline_svg
from latens.reporting.tables import format_interval, format_value
from latens.store import METRIC_DEFINITIONS, RunFolder, read_csv, write_bytes, write_text
from latens.store.schemas import FORECAST_METRICS, FORECAST_SCORES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = ("forecast_mae", "forecast_crps", "forecast_coverage")
"""Metrics that the figure shows."""
WIDEST = 0.2
"""Width of an interval of the coverage from which on it confirms nothing."""
REFERENCE = "last_value"
"""What the others are compared with."""
CHOSEN = "chosen"
"""Row of the forecaster that was chosen for every fold on the patients of the others."""
_BLUE, _GREY = HUES["blue"][0], HUES["grey"][0]


@dataclass(frozen=True)
class GrowthResults:
    """What a run of growth left in its folder.

    Attributes:
        run: `run.json`.
        metrics: Table FORECAST_METRICS.
        scores: Table FORECAST_SCORES.
        definitions: Table METRIC_DEFINITIONS.
    """

    run: dict[str, Any]
    metrics: pd.DataFrame
    scores: pd.DataFrame
    definitions: pd.DataFrame

    @property
    def forecasters(self) -> list[str]:
        """Names, the smallest CRPS first; those that failed are not among them."""
        mine = self.metrics[self.metrics["metric"] == "forecast_crps"]
        values = dict(zip(mine["forecaster"], mine["value"], strict=True))
        names = [name for name in values if name not in self.failed]
        return sorted(names, key=lambda name: float(values[name]))

    @property
    def failed(self) -> list[str]:
        """Names of the forecasters without numbers."""
        mine = self.metrics[self.metrics["patients"] == 0]
        return list(dict.fromkeys(mine["forecaster"]))

    @property
    def choices(self) -> dict[str, int]:
        """How many folds each forecaster was chosen for, the most frequent first."""
        own = self.scores[self.scores["forecaster"] == CHOSEN]
        folds = Counter(dict(zip(own["fold"], own["made_by"], strict=True)).values())
        return dict(folds.most_common())

    @property
    def doubts(self) -> dict[str, str]:
        """Why the bands of a forecaster should not be relied on, by its name."""
        mine = self.metrics[self.metrics["doubts"] != ""]
        return dict(zip(mine["forecaster"], mine["doubts"], strict=True))

    def row(self, forecaster: str, metric: str) -> dict[str, Any]:
        """One row of the table of metrics."""
        mine = self.metrics
        mine = mine[(mine["forecaster"] == forecaster) & (mine["metric"] == metric)]
        if mine.empty:
            raise DataError(
                "forecast_metrics",
                f"a row of {metric} for {forecaster}",
                "none",
                "Finish the run with the command it began with.",
            )
        return dict(mine.iloc[0])


def read_growth(run: RunFolder) -> GrowthResults:
    """Tables of a run of growth.

    Raises:
        DataError: If a table is missing or damaged.
    """
    return GrowthResults(
        run.description,
        read_csv(run.tables / "forecast_metrics.csv", FORECAST_METRICS),
        read_csv(run.tables / "forecast_scores.csv", FORECAST_SCORES),
        read_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS),
    )


def write_growth_report(run: RunFolder) -> Path:
    """Write `report.html` of a run of growth; returns its path.

    Raises:
        DataError: If a table is missing or damaged, or the report cannot be written.
    """
    return write_text(run.report_file, render_growth(read_growth(run)))


def write_growth_figures(run: RunFolder) -> list[Path]:
    """Write the figure as PDF and SVG into `figures/`; returns the paths."""
    figure = comparison(read_growth(run))
    run.figures.mkdir(exist_ok=True)
    return [
        write_bytes(run.figures / "forecasts.pdf", figure_pdf(figure)),
        write_bytes(run.figures / "forecasts.svg", figure_svg(figure)),
    ]


def comparison(results: GrowthResults) -> "Figure":
    """Error, CRPS and coverage of every forecaster with their intervals."""
    from matplotlib.figure import Figure

    names = results.forecasters
    definitions = results.definitions.set_index("metric")
    with drawing_style():
        figure = Figure(figsize=(9.0, 0.8 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for ax, metric in zip(axes, PANELS, strict=True):
            target = float(definitions.loc[metric, "target"])
            if math.isfinite(target):
                ax.axvline(target, color=MUTED, linewidth=1.0, dashes=(4, 3))
            for k, name in enumerate(names):
                row = results.row(name, metric)
                colour = _GREY if not row["reference"] else _BLUE
                ax.plot([row["lower"], row["upper"]], [k, k], color=colour, linewidth=1.4)
                ax.plot([row["value"]], [k], "o", color=colour, markersize=4.5)
            ax.set_yticks(range(len(names)), [_words(name) for name in names])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.grid(axis="x", color=RULE, linewidth=0.6)
            ax.set_title(str(definitions.loc[metric, "label"]), color=INK)
            ax.set_xlabel(str(definitions.loc[metric, "unit"]))
    return figure


def answers(results: GrowthResults) -> list[str]:
    """What the numbers say, in sentences."""
    found = [f"{_words(name)} failed in a fold: it has no numbers." for name in results.failed]
    found += [f"{_words(name)}: {why}." for name, why in results.doubts.items() if name != CHOSEN]
    if set(results.choices) <= {REFERENCE}:
        found.append("No forecaster has a smaller CRPS than the last value.")
        return [*found, *_coverage(results, REFERENCE)]
    return [*found, *_gains(results), *_coverage(results, CHOSEN)]


def _gains(results: GrowthResults) -> list[str]:
    """The chosen forecaster against the last value."""
    choices = results.choices
    names = ", ".join(f"{_words(name)} in {folds}" for name, folds in choices.items())
    found = [
        f"Chosen for every fold by the CRPS in the others: {names} of {sum(choices.values())}."
    ]
    for metric, word in (("forecast_crps", "CRPS"), ("forecast_mae", "Mean absolute error")):
        row = results.row(CHOSEN, metric)
        low, high = row["difference_lower"], row["difference_upper"]
        verdict = "smaller than" if high < 0 else "larger than" if low > 0 else "not told from"
        found.append(
            f"{word} of the chosen {format_value(row['value'])}, {verdict} that of the last "
            f"value (difference {row['difference']:+.3f}, {row['level']:.0%} interval "
            f"{low:+.3f} to {high:+.3f})."
        )
    return found


def _coverage(results: GrowthResults, name: str) -> list[str]:
    """Whether the band of a forecaster can be believed, as it is and calibrated."""
    row = results.row(name, "forecast_coverage")
    found = [
        f"The 95 % band of the {_words(name)} covers {row['value']:.1%} of {row['patients']} "
        f"patients ({row['lower']:.1%} to {row['upper']:.1%}): "
        + _verdict(row["lower"], row["upper"])
    ]
    calibrated = f"{name} conformal"
    if calibrated in results.forecasters:
        after, width = (results.row(calibrated, f"forecast_{m}") for m in ("coverage", "width"))
        before = results.row(name, "forecast_width")
        found.append(
            f"Calibrated on the patients of the other folds, it covers {after['value']:.1%} "
            f"({after['lower']:.1%} to {after['upper']:.1%}) with "
            f"{width['value'] / before['value']:.2f} times the width."
        )
    return found


def _verdict(lower: float, upper: float) -> str:
    """What an interval of the coverage says of a band of 95 %."""
    if not upper < 0.95 and not lower > 0.95 and not upper - lower <= WIDEST:
        return "too few patients to say whether it should."
    return "as it should." if lower <= 0.95 <= upper else "not what it says."


def render_growth(results: GrowthResults) -> str:
    """The report as text, in one HTML page."""
    from markupsafe import Markup

    style, environment = style_sheet(), templates()
    definitions = results.definitions.to_dict("records")
    rows = [
        (
            _words(name),
            [_cell(results.row(name, d["metric"])) for d in definitions],
        )
        for name in (*results.forecasters, *results.failed)
    ]
    words = "Error, CRPS and coverage of every forecaster with 95 % intervals"
    page = environment.get_template("growth.html.j2").render(
        run=results.run,
        answers=answers(results),
        definitions=definitions,
        rows=rows,
        figure=Markup(inline_svg(comparison(results), "forecasts", words)),
        style=Markup(style),
        policy=security_policy(style, ""),
    )
    return page.replace("\r\n", "\n")


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": format_value(row["value"], row["lower"], row["upper"]),
        "interval": format_interval(row["value"], row["lower"], row["upper"]),
        "sort": row["value"],
    }


def _words(name: str) -> str:
    return name.replace("_", " ")
