"""Tables for people: values with intervals, n/a where a number cannot exist, marks where
cells failed. The same cells are set in HTML by the template and in the terminal here."""

import io
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latens.reporting.facts import stopped_words
from latens.reporting.palette import ordered
from latens.reporting.results import Definition, Results, fit_cells, read_results, records, select
from latens.store import USABLE, RunFolder, Status


@dataclass(frozen=True)
class Cell:
    """One number of a table as it is printed.

    Args:
        text: The value; `n/a` where a point estimate has none, `–` where it was not
            measured, a status word where every fit behind it was left out.
        interval: The interval in brackets, empty where there is none.
        kind: `value`, `na`, `missing` or `status`.
        mark: What the reader must know about it, for example "1 of 6 cells excluded".
        meets: Whether the interval meets the target of the metric.
        sort: Number to sort by, empty text where there is none.
    """

    text: str
    interval: str = ""
    kind: str = "value"
    mark: str = ""
    meets: bool = False
    sort: float | str = ""


@dataclass(frozen=True)
class SummaryRow:
    """One solver at one N: a cell per measured metric."""

    solver: str
    n: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ScalingRow:
    """Fitted law of one metric and solver: floor, amplitude, exponent, slope on log axes."""

    metric: Definition
    solver: str
    parameters: list[Cell]
    sizes: int
    status: str


@dataclass(frozen=True)
class Failure:
    """A unit that did not end well."""

    unit: str
    name: str
    cell: dict[str, Any] = field(default_factory=dict)
    status: str = ""
    message: str = ""


@dataclass(frozen=True)
class CostRow:
    """What the units of one solver cost: seconds and peak memory in MiB."""

    unit: str
    solver: str
    count: int
    median: float
    longest: float
    total: float
    memory: float


def format_value(value: float, lower: float = math.nan, upper: float = math.nan) -> str:
    """A number with as many digits as its interval supports: two of the half width.

    Args:
        value: The number.
        lower, upper: Ends of its interval, NaN where there is none.

    Returns:
        Text with a true minus sign; four significant digits without an interval.
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    half = (upper - lower) / 2
    size = abs(value) if value else 1.0
    if not math.isfinite(half) or half <= 0 or not 1e-4 <= size < 1e5:
        text = f"{value:.4g}" if not math.isfinite(half) or half <= 0 else f"{value:.3g}"
    else:
        text = f"{value:.{min(max(0, 1 - math.floor(math.log10(half))), 6)}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def format_interval(value: float, lower: float, upper: float) -> str:
    """`[lower, upper]` with the digits of `format_value`; empty where it is not finite."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return ""
    ends = (format_value(end, lower, upper) for end in (lower, upper))
    return "[" + ", ".join(ends) + "]"


def meets_target(definition: Definition, lower: float, upper: float) -> bool:
    """Whether an interval contains the value that the metric aims at; no without such a value."""
    return lower <= definition.aim <= upper


def summary(results: Results, n: int) -> list[SummaryRow]:
    """One row per solver that was evaluated at N, one cell per metric."""
    at_n = set(results.curves.loc[results.curves["n"] == n, "solver"])
    return [
        SummaryRow(s, n, {m: summary_cell(results, s, n, m) for m in results.measured})
        for s in results.solvers
        if s in at_n
    ]


def summary_cell(results: Results, solver: str, n: int, metric: str) -> Cell:
    """The cell of one solver, size and metric."""
    row = results.cell(solver, n, metric)
    excluded, used = (0, 0) if row is None else (int(row["excluded"]), int(row["fits"]))
    if row is None or not math.isfinite(row["mean"]):
        if excluded and not used:
            status = str(row["status"]) if row is not None else ""
            good = {Status.CONVERGED, Status.STOPPED, ""}
            word = "excluded" if status in good else status
            return Cell(word, kind="status", mark=f"all {excluded} cells excluded")
        if results.kind(solver) == "point":
            return Cell("n/a", kind="na", mark="a point estimate has no uncertainty")
        return Cell("–", kind="missing", mark="not measured")
    value, lower, upper = (float(row[k]) for k in ("mean", "lower", "upper"))
    status = str(row["status"])
    mark = "" if status in {"ok", *USABLE, ""} else status  # of cells that are among the mean
    if excluded:
        mark = f"{excluded} of {excluded + used} cells excluded"
    return Cell(
        format_value(value, lower, upper),
        format_interval(value, lower, upper),
        mark=mark,
        meets=meets_target(results.definitions[metric], lower, upper),
        sort=value,
    )


def scaling_rows(results: Results) -> list[ScalingRow]:
    """Fitted laws, by metric in the order of the definitions, then by solver."""
    rows = []
    names = {m for m in results.scaling["metric"] if m not in results.definitions}
    every = [*results.definitions.values(), *(Definition(m, m) for m in sorted(names))]
    for definition in every:
        of_metric = select(results.scaling, "metric", definition.metric)
        for solver in results.solvers:
            mine = records(select(of_metric, "solver", solver))
            if not mine:
                continue
            by_name = {row["parameter"]: row for row in mine}
            names_of = ("floor", "amplitude", "exponent", "log_slope")
            cells = [_parameter(by_name.get(p)) for p in names_of]
            troubles = dict.fromkeys(row["status"] for row in mine if row["status"] != "ok")
            status = "; ".join(troubles) or "ok"
            rows.append(ScalingRow(definition, solver, cells, int(mine[0]["sizes"]), status))
    return rows


def failures(results: Results) -> list[Failure]:
    """Every fit and evaluation whose outcome is not usable, with its reason."""
    cells = fit_cells(results)
    found = [
        Failure("fit", name, cells.get(name, {}), unit.status, unit.outcome.message)
        for name, unit in results.fits.items()
        if not unit.usable
    ]
    found += [
        Failure("evaluation", name, dict(unit.identity), unit.status, unit.outcome.message)
        for name, unit in results.evaluations.items()
        if not unit.usable
    ]
    return sorted(found, key=lambda f: (f.unit, str(f.cell.get("solver", "")), _n(f), f.name))


def left_out(results: Results) -> list[Failure]:
    """Fits that no mean includes: those that failed, and collapsed ones where means have none."""
    kept = {"semisup": (Status.COLLAPSED,)}.get(str(results.run.get("study")), ())
    return [f for f in failures(results) if f.unit == "fit" and f.status not in kept]


def cost_rows(results: Results) -> list[CostRow]:
    """Seconds and memory by unit and solver."""
    rows = []
    cost = results.cost
    first = ("fit", "evaluation")
    others = sorted(set(cost["unit"]) - set(first))
    for unit in (*first, *others):
        of_unit = select(cost, "unit", unit)
        for solver in ordered(of_unit["solver"]):
            mine = select(of_unit, "solver", solver)
            seconds = np.asarray(mine["seconds"], dtype=float)
            memory = np.asarray(mine["peak_memory_mib"], dtype=float)
            finite = memory[np.isfinite(memory)]
            rows.append(
                CostRow(
                    unit,
                    solver,
                    count=len(mine),
                    median=float(np.median(seconds)),
                    longest=float(seconds.max()),
                    total=float(seconds.sum()),
                    memory=float(finite.max()) if len(finite) else math.nan,
                )
            )
    return rows


FIRST = (
    "psnr",
    "data_chi2",
    "coverage_pixel",
    "coverage_region",
    "coverage_principal",
    "spread_skill",
    "accuracy",
    "k_eff",
    "label_coverage",
    "neg_elbo",
    "sigma_error",
    "ood_combined",
)
"""Metrics that the terminal shows."""
CELL_WIDTH = 13
"""Characters of an interval such as `0.0123…0.0456`."""


def summary_text(run: RunFolder, width: int = 110) -> str:
    """The summary at the largest N for a terminal, without colour.

    Args:
        run: The run folder.
        width: Columns of the terminal, characters.

    Returns:
        A table with one row per solver and a column for each of the metrics that one reads
        first, as many as the terminal has room for, and what it leaves out. The report has
        them all.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    results = read_results(run)
    if not results.sizes:
        return "No results yet: the run holds no learning curves.\n"
    n, buffer = results.sizes[-1], io.StringIO()
    rows = summary(results, n)
    box_style, title = box.SIMPLE_HEAD, f"N = {n}"
    table = Table(box=box_style, title=title, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("solver", no_wrap=True)
    shown = [metric for metric in FIRST if metric in results.measured] or results.measured
    room = width - 2 - max(len(row.solver) for row in rows)
    for metric in (shown := shown[: max(1, room // (CELL_WIDTH + 1))]):
        definition = results.definitions[metric]
        aim = f"→ {definition.aim:g}" if math.isfinite(definition.aim) else definition.better
        heading = Text(f"{definition.label}\n").append(aim, style="dim")
        table.add_column(heading, justify="right", min_width=CELL_WIDTH)
    for row in rows:
        table.add_row(Text(row.solver), *(Text(_lines(row.cells[metric])) for metric in shown))
    console = Console(file=buffer, width=width, color_system=None)
    console.print(table)
    level = f"{100 * results.level:g} % " if math.isfinite(results.level) else ""
    if any(cell.interval for row in rows for cell in row.cells.values()):
        text = f"Below each value its {level}interval.  * contains the target."
    else:
        text = "One data seed: there is no interval over seeds."
    console.print(text, markup=False)
    if stopped := stopped_words(results):
        console.print(stopped, markup=False)
    for solver in results.solvers:
        if results.note(solver):
            console.print(Text(f"{solver}: {results.note(solver)}"))
    bad = left_out(results)
    if bad:
        words = ", ".join(f"{count} {status}" for status, count in _tally(bad))
        console.print(f"{len(bad)} of {len(results.fits)} fits are excluded: {words}.")
    return buffer.getvalue()


def _lines(cell: Cell) -> str:
    """A cell on two lines."""
    star = " *" if cell.meets else ""
    note = cell.mark if cell.kind in {"value", "status"} else ""
    interval = cell.interval.strip("[]").replace(", ", "…")
    return "\n".join(part for part in (cell.text + star, interval, note) if part)


def _tally(found: list[Failure]) -> list[tuple[str, int]]:
    return sorted(Counter(f.status for f in found).items())


def _parameter(row: dict[str, Any] | None) -> Cell:
    """One parameter of a law."""
    if row is None or not math.isfinite(row["value"]):
        return Cell("–", kind="missing", mark="not identified")
    value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
    text = format_value(value, lower, upper)
    return Cell(text, format_interval(value, lower, upper), sort=value)


def _n(failure: Failure) -> int:
    return int(failure.cell.get("n") or 0)
