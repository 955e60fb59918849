"""Report and figures of a `pde` run: accuracy, calibration and cost over fields, and pictures."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.reporting import facts
from latens.reporting.page import security_policy, style_sheet, templates
from latens.reporting.palette import INK, MUTED, solver_style
from latens.reporting.rendering import drawing_style, figure_pdf
from latens.store import RunFolder, read_json, write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINES = (
    "relative_l2",
    "i_corr",
    "dice",
    "coverage_95",
    "coverage_mean_95",
    "width_95",
    "brier",
    "trusted",
)
PICTURES = "pictures.safetensors"

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
    "trusted": "share of fields whose own diagnosis passed",
    "weights_k": "Pareto k̂ of the weights; below .7 they can be believed",
    "weights_size": "effective number of weighted draws",
}


@dataclass(frozen=True)
class CellTable:
    """Numbers of one cell: solvers down, metrics across.

    Args:
        title: Sensors and noise.
        metrics: Columns.
        rows: Solver and its texts, one per column.
        seconds: Seconds per field of each solver.
    """

    title: str
    metrics: list[str]
    rows: list[tuple[str, list[str]]]
    seconds: Mapping[str, str]


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
    pictures = []
    for number, hash in enumerate(units):
        for name, figure in cell_figures(run.evaluation(hash)).items():
            write_bytes(run.figures / f"cell{number}_{name}.pdf", figure_pdf(figure))
            pictures.append(Picture(_uri(figure), f"{name}, cell {number + 1}"))
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
            pictures=pictures,
            definitions={m: text for m, text in DEFINITIONS.items() if m in set(table["metric"])},
            problem=list(facts.flat(description["config"])),
            provenance=list(facts.flat(description["provenance"])),
        )
    )
    return write_text(run.report_file, page.replace("\r\n", "\n"))


def cell_tables(table: Any, seconds: Any) -> list[CellTable]:
    """One table per number of sensors and SNR, in the order of the summary."""
    made = []
    for (sensors, snr), part in table.groupby(["sensors", "snr"], sort=False):
        inner = part[part["solver"] != "igno"]
        metrics = [m for m in HEADLINES if m in set(inner["metric"])]
        rows = [
            (solver, [_text(of_solver, metric) for metric in metrics])
            for solver, of_solver in inner.groupby("solver", sort=False)
        ]
        mine = seconds[(seconds["sensors"] == sensors) & (seconds["snr"] == snr)]
        times = {
            solver: f"{group['seconds'].sum() / group['fields'].sum():.3g}"
            for solver, group in mine.groupby("solver", sort=False)
        }
        made.append(CellTable(f"{sensors} readings, {snr:g} dB", metrics, rows, times))
    return made


def pde_summary_text(table: Any) -> str:
    """The tables of a run for a terminal."""
    lines = [f"operator: {_operator(table)}"]
    for (sensors, snr), part in table.groupby(["sensors", "snr"], sort=False):
        lines.append(f"{sensors} readings, {snr:g} dB")
        for solver, of_solver in part[part["solver"] != "igno"].groupby("solver", sort=False):
            found = [
                f"{metric} {_text(of_solver, metric)}"
                for metric in HEADLINES
                if metric in set(of_solver["metric"])
            ]
            lines.append(f"  {solver:<10} {'  '.join(found)}")
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
    """Pictures of the first fields of a cell, by solver."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / PICTURES)
    truth = arrays.pop("truth")
    by_solver: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        solver, _, name = key.partition("/")
        by_solver.setdefault(solver, {})[name] = array
    draw = _lines if truth.ndim == 3 else _images
    return {
        solver: draw(truth, found, solver) for solver, found in by_solver.items() if "std" in found
    }


def _images(truth: np.ndarray, found: Mapping[str, np.ndarray], solver: str) -> "Figure":
    """Truth, mean, error, standard deviation and two draws of every field."""
    from matplotlib.figure import Figure

    columns = ["truth", "mean", "|error|", "std", "draw 1", "draw 2"]
    with drawing_style():
        figure = Figure(figsize=(1.5 * len(columns), 1.6 * len(truth)), layout="constrained")
        axes = figure.subplots(len(truth), len(columns), squeeze=False)
        for row, field in zip(axes, range(len(truth)), strict=True):
            true, mean, std = truth[field, 0], found["mean"][field, 0], found["std"][field, 0]
            error = np.abs(mean - true)
            top = max(error.max(), std.max(), 1e-12)
            shown = [true, mean, error, std, *found["draws"][:2, field, 0]]
            for ax, name, picture in zip(row, columns, shown, strict=True):
                spread = name in ("|error|", "std")
                low, high = (0, top) if spread else (true.min(), true.max())
                colours = "magma" if spread else "viridis"
                ax.imshow(picture, origin="lower", cmap=colours, vmin=low, vmax=high)
                ax.set_xticks([])
                ax.set_yticks([])
                if field == 0:
                    ax.set_title(name, fontsize=8, color=INK)
            row[0].set_ylabel(f"{true.min():.3g} … {true.max():.3g}", fontsize=7, color=MUTED)
            row[3].set_xlabel(f"0 … {top:.2g}", fontsize=7, color=MUTED)
        figure.suptitle(solver, fontsize=9, fontweight="bold", color=INK)
    return figure


def _lines(truth: np.ndarray, found: Mapping[str, np.ndarray], solver: str) -> "Figure":
    """Truth, mean, band and two draws of every field on a line."""
    from matplotlib.figure import Figure

    colour = solver_style(solver).colour
    with drawing_style():
        figure = Figure(figsize=(9, 2.2 * ((len(truth) + 1) // 2)), layout="constrained")
        axes = figure.subplots((len(truth) + 1) // 2, 2, squeeze=False).ravel()
        for ax in axes[len(truth) :]:
            ax.set_axis_off()
        for field, ax in zip(range(len(truth)), axes, strict=False):
            x = np.arange(truth.shape[-1]) / truth.shape[-1]
            ax.fill_between(
                x,
                found["lower"][field, 0],
                found["upper"][field, 0],
                color=colour,
                alpha=0.25,
                lw=0,
            )
            for draw in found["draws"][:2, field, 0]:
                ax.plot(x, draw, color=colour, lw=0.5, alpha=0.6)
            ax.plot(x, found["mean"][field, 0], color=colour, lw=1.2)
            ax.plot(x, truth[field, 0], color=INK, lw=0.9, ls="--")
        figure.suptitle(f"{solver}: mean, 95 % band, two draws; truth dashed", fontsize=9)
    return figure


def _uri(figure: "Figure") -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with drawing_style():
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)
