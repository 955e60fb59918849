"""Report and figures of a `pde` run: accuracy, calibration and cost over fields, and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.reporting import facts
from latens.reporting.page import security_policy, style_sheet, templates
from latens.reporting.pde_figures import closer_figure, field_figure, rank_figure
from latens.reporting.ranks import rank_curve
from latens.reporting.rendering import figure_pdf, figure_uri
from latens.reporting.results import select
from latens.store import RunFolder, read_csv, read_json, write_bytes, write_text
from latens.store.schemas import RANK_CURVES, REJECTS, TESTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINES = (
    "relative_l2",
    "i_corr",
    "dice",
    "coverage_95",
    "coverage_mean_95",
    "width_95",
    "interval_score",
    "brier",
    "ece",
    "ece_unsure",
    "trusted",
    "consistent",
)
PICTURES = "pictures.safetensors"
TESTS_FILE = "tests.csv"
CURVES_FILE = "rank_curves.csv"
PLACE = ["population", "sensors", "snr"]
"""Columns that name a cell."""
SOURCES = {
    "data": "test fields, solved by finite elements (model and way together)",
    "model": "fields simulated from the model's own prior (the way alone)",
}

DEFINITIONS: dict[str, str] = {
    "operator_error": "‖û − u‖/‖u‖ of the decoded solution, from the encoded coefficient",
    "representation_error": "‖â − a‖/‖a‖ of the decoded coefficient, from the encoded one",
    "relative_l2": "‖â − a‖/‖a‖ over the nodes",
    "relative_rmse": "root mean square of (â − a)/a over the nodes",
    "coverage_95": "share of nodes inside the central 95 % interval of 39 draws",
    "coverage_mean_95": "share of fields whose mean lies inside its 95 % interval",
    "width_95": "mean width of that interval",
    "interval_score": "width and penalty of that interval; lower is better",
    "crps": "continuous ranked probability score, mean over the nodes",
    "std": "root mean square posterior standard deviation",
    "rmse": "root mean square error of the posterior mean",
    "rank_mean": "rank of the field's mean among 39 draws; uniform if calibrated",
    "i_corr": "⟨χ, χ̂⟩/(‖χ‖ ‖χ̂‖) of the indicator of the upper class, probability over one half",
    "dice": "2|A ∩ B|/(|A| + |B|) of the same",
    "brier": "mean square of class probability less class",
    "ece": "|frequency − probability| of the upper class over 20 bins, all fields together",
    "ece_unsure": "the same over nodes with a probability between .05 and .95",
    "trusted": "share of fields whose own diagnosis passed",
    "consistent": "share of fields whose readings fit as those do that the posterior foretells "
    "(posterior predictive p-value of .01 or more)",
    "weights_k": "Pareto k̂ of the weights; believed below min(.7, 1 − 1/log₁₀ draws)",
    "weights_size": "effective number of weighted draws",
}


@dataclass(frozen=True)
class CellTable:
    """Numbers of one cell: solvers down, metrics across.

    Args:
        title: Sensors and noise.
        metrics: Columns.
        rows: Solver, number of its fields, and its texts, one per column.
        seconds: Seconds per field of each solver.
        once: Seconds of what is done once for all fields.
    """

    title: str
    metrics: list[str]
    rows: list[tuple[str, int, list[str]]]
    seconds: Mapping[str, str]
    once: Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI with what it shows."""

    source: str
    words: str


def write_pde_report(run: RunFolder) -> Path:
    """Write `report.html` and the figures of a `pde` run.

    Args:
        run: The run folder, its tables written.

    Returns:
        Path of the report.

    Raises:
        DataError: If a file of the run cannot be read or written.
    """
    table = pd.read_csv(run.tables / "pde.csv")
    seconds = pd.read_csv(run.tables / "pde_seconds.csv")
    units = read_json(run.units_file)["evaluations"]
    pictures, calibration = [], []
    for number, hash in enumerate(units):
        folder = run.evaluation(hash)
        first = pd.read_csv(folder / "pde_seconds.csv", nrows=1).iloc[0]
        cell = place_title(*(first[name] for name in PLACE))
        calibration += calibration_tables(read_csv(folder / TESTS_FILE, TESTS), cell)
        for name, figure in cell_figures(folder).items():
            file = f"cell{number}_{name.replace(' ', '_')}.pdf"
            write_bytes(run.figures / file, figure_pdf(figure))
            pictures.append(Picture(figure_uri(figure), f"{name}, {cell}"))
    description = run.description
    style = style_sheet()
    page = (
        templates()
        .get_template("pde.html.j2")
        .render(
            title=description["name"],
            created=description["created"],
            style=_markup(style),
            policy=security_policy(style, ""),
            operator=_operator(table),
            cells=cell_tables(table, seconds),
            calibration=calibration,
            pictures=[p for p in pictures if not p.words.startswith("ranks")],
            ranks=[p for p in pictures if p.words.startswith("ranks")],
            definitions={m: text for m, text in DEFINITIONS.items() if m in set(table["metric"])},
            problem=list(facts.flat(description["config"])),
            provenance=list(facts.flat(description["provenance"])),
        )
    )
    return write_text(run.report_file, page.replace("\r\n", "\n"))


def cell_tables(table: Any, seconds: Any) -> list[CellTable]:
    """One table per population, number of sensors and SNR, in the order of the summary."""
    made = []
    for (population, sensors, snr), part in table.groupby(PLACE, sort=False):
        inner = part[part["solver"] != "igno"]
        metrics = [m for m in HEADLINES if m in set(inner["metric"])]
        rows = [
            (
                str(solver),
                int(of_solver["fields"].max()),
                [_text(of_solver, metric) for metric in metrics],
            )
            for solver, of_solver in inner.groupby("solver", sort=False)
        ]
        same = (seconds["sensors"] == sensors) & (seconds["snr"] == snr)
        mine = seconds[same & (seconds["population"] == population)]
        times = {
            solver: f"{group['seconds'].sum() / group['fields'].sum():.3g}"
            for solver, group in mine.groupby("solver", sort=False)
        }
        ways = {solver for solver, _, _ in rows}
        once = {
            name: f"{part['seconds'].sum():.0f}"
            for name, part in mine.groupby("solver", sort=False)
            if name not in ways
        }
        made.append(CellTable(place_title(population, sensors, snr), metrics, rows, times, once))
    return made


def place_title(population: str, sensors: int, snr: float) -> str:
    """Words for a cell."""
    strange = ", fields of a strange family" if population == "strange" else ""
    return f"{sensors} readings, {snr:g} dB{strange}"


def pde_summary_text(table: Any) -> str:
    """The tables of a run for a terminal."""
    lines = [f"operator: {_operator(table)}"]
    for place, part in table.groupby(PLACE, sort=False):
        lines.append(place_title(*place))
        for solver, of_solver in part[part["solver"] != "igno"].groupby("solver", sort=False):
            found = [
                f"{metric} {_text(of_solver, metric)}"
                for metric in HEADLINES
                if metric in set(of_solver["metric"])
            ]
            count = f"{of_solver['fields'].max():>4} fields"
            lines.append(f"  {solver:<10} {count}  {'  '.join(found)}")
    return "\n".join(lines)


def _operator(table: Any) -> str:
    """Errors of the decoders in words."""
    names = (("operator_error", "solution"), ("representation_error", "coefficient"))
    said = []
    for metric, word in names:
        found = table[table["metric"] == metric]
        if len(found):
            said.append(
                f"{word} {found['mean'].iloc[0]:.4f}, median {found['median'].iloc[0]:.4f}"
            )
    return "relative L2 error of the decoded " + "; of the ".join(said)


def _text(of_solver: pd.DataFrame, metric: str) -> str:
    found = of_solver[of_solver["metric"] == metric]
    if not len(found):
        return "n/a"
    row = found.iloc[0]
    band = f" [{row['lower']:.3g}, {row['upper']:.3g}]" if np.isfinite(row["lower"]) else ""
    return f"{row['mean']:.4g}{band}"


def cell_figures(folder: Path) -> dict[str, "Figure"]:
    """Pictures of the first fields of a cell, two for each posterior, and ranks."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / PICTURES)
    truth = arrays.pop("truth")
    by_solver: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        solver, _, name = key.partition("/")
        if name:
            by_solver.setdefault(solver, {})[name] = array
    highest = by_solver.get("map", {}).get("mean")
    figures: dict[str, Figure] = {}
    for solver, found in by_solver.items():
        if "std" in found:
            shown = found if highest is None else found | {"map": highest}
            figures[solver] = field_figure(truth[: len(found["mean"])], shown, solver)
            figures[f"{solver} closer"] = closer_figure(truth, found, solver)
    return figures | rank_figures(read_csv(folder / CURVES_FILE, RANK_CURVES))


def rank_figures(curves: pd.DataFrame) -> dict[str, "Figure"]:
    """Ranks on held-out fields and on simulated ones, where there are any."""
    figures: dict[str, Figure] = {}
    for source, words in SOURCES.items():
        mine = select(curves, "source", source)
        if not len(mine):
            continue
        panels = {
            str(quantity): [
                rank_curve(str(solver), rows)
                for solver, rows in of_quantity.groupby("solver", sort=False)
            ]
            for quantity, of_quantity in mine.groupby("quantity", sort=False)
        }
        figures[f"ranks {source}"] = rank_figure(panels, f"Ranks: {words}")
    return figures


@dataclass(frozen=True)
class CalibrationTable:
    """Smallest p-values of a source of pairs.

    Args:
        title: What the pairs are.
        quantities: Columns.
        rows: Way, number of fields, and its texts, one per column.
    """

    title: str
    quantities: list[str]
    rows: list[tuple[str, int, list[str]]]


def calibration_tables(tests: pd.DataFrame, cell: str) -> list[CalibrationTable]:
    """The smaller p-value of both tests of every quantity, adjusted for all of a way.

    Args:
        tests: Table of the cell.
        cell: Words for it.
    """
    made = []
    for source, words in SOURCES.items():
        mine = tests[tests["test"].str.startswith(f"{source}: ")]
        quantities = list(dict.fromkeys(mine["quantity"]))
        rows = []
        for way, group in mine.groupby("solver", sort=False):
            of_way: Any = group
            smallest = of_way.groupby("quantity")["p_adjusted"].min()
            texts = [
                f"{smallest[q]:.2g}{' ✗' if smallest[q] <= REJECTS else ''}"
                if q in smallest
                else "–"
                for q in quantities
            ]
            rows.append((str(way), int(of_way["images"].iloc[0]), texts))
        if rows:
            made.append(CalibrationTable(f"{words}; {cell}", quantities, rows))
    return made


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)
