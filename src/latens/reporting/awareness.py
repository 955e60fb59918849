"""Does a solver notice a shift, and is it calibrated inside it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.reporting.figures import TITLE, canvas, plain
from latens.reporting.palette import INK, MUTED, RULE, ordered, solver_style
from latens.reporting.panels import Drawing, Panel, Point, apart
from latens.reporting.rendering import SERIES_ID, drawing_style
from latens.reporting.results import Results, records
from latens.reporting.tables import format_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNSHIFTED = "none"

SCORES = {
    "any": "any score: the rule of the gate",
    "residual": "data residual",
    "replicates": "residual beyond replicates",
    "latent_mean": "length of the mean latent",
    "latent_tail": "typicality of the latents",
    "evidence": "evidence of the measurement",
    "code": "typicality of the reconstruction's latent",
    "representation": "representation error",
    "disagreement": "disagreement of the ensemble",
    "spread": "spread of the draws",
}
"""Words for each score."""

INSIDE = {"coverage_pixel": "pixels", "coverage_region": "region means"}
LEVEL = 0.95
"""Level of the intervals whose coverage is shown."""

STEPS = 5
"""Shades of the heat table on each side of one half."""


@dataclass(frozen=True)
class Heat:
    """One AUROC.

    Args:
        value: In [0, 1], NaN where it was not measured.
        lower, upper: Ends of its interval over images, NaN where there is none.
    """

    value: float
    lower: float
    upper: float

    @property
    def text(self) -> str:
        """Two digits, or a dash."""
        return f"{self.value:.2f}" if math.isfinite(self.value) else "–"

    @property
    def interval(self) -> str:
        """The interval in brackets, or that there is none."""
        if not math.isfinite(self.value):
            return "not measured"
        found = format_interval(self.value, self.lower, self.upper)
        return f"95 % interval {found}" if found else "no interval: the resamples do not vary"

    @property
    def step(self) -> int:
        """Shade: 0 where the score is blind, up to `STEPS` where it sees all, negative below."""
        if not math.isfinite(self.value):
            return 0
        return round(STEPS * (2 * self.value - 1))


@dataclass(frozen=True)
class HeatTable:
    """AUROC of every score under every shift, of one solver.

    Args:
        solver: Name of the solver.
        n: Training size.
        shifts: Columns.
        rows: By score, one entry for each shift.
    """

    solver: str
    n: int
    shifts: list[str]
    rows: dict[str, list[Heat]]


def heat_tables(results: Results) -> list[HeatTable]:
    """One table per solver, at the largest N that was checked."""
    rows = _at_largest_n(results)
    found = []
    for solver in results.solvers:
        mine = [r for r in rows if r["solver"] == solver and r["number"] == "auroc"]
        if not mine:
            continue
        shifts = _shifts(mine)
        scores = [s for s in SCORES if any(r["score"] == s for r in mine)]
        scores += sorted({str(r["score"]) for r in mine} - set(scores))
        cells = {(r["score"], shift_name(r)): _heat(r) for r in mine}
        missing = Heat(math.nan, math.nan, math.nan)
        table = {score: [cells.get((score, s), missing) for s in shifts] for score in scores}
        found.append(HeatTable(solver, int(mine[0]["n"]), shifts, table))
    return found


def _at_largest_n(results: Results) -> list[dict[str, Any]]:
    rows = records(results.shifts)
    largest = max((int(row["n"]) for row in rows), default=0)
    return [row for row in rows if int(row["n"]) == largest]


def shift_name(row: dict[str, Any]) -> str:
    name = str(row["shift"])
    return "as it is" if name == UNSHIFTED else f"{name} ({float(row['strength']):g})"


def _shifts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Shifts of some rows, the test set as it is first."""
    places = {(r["shift"] != UNSHIFTED, str(r["shift"]), float(r["strength"])): r for r in rows}
    return [shift_name(places[place]) for place in sorted(places)]


def _heat(row: dict[str, Any]) -> Heat:
    return Heat(*(float(row[k]) for k in ("value", "lower", "upper")))


def heat_figure(tables: Sequence[HeatTable]) -> "Figure":
    """The heat tables for a paper, one below the other."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("auroc", ["#e8a07c", "#ffffff", "#7fb2dd"])
    figure, axes = canvas(len(tables), 1)
    columns = max(len(table.shifts) for table in tables)
    figure.set_size_inches(
        2.6 + 1.15 * columns, sum(0.75 + 0.24 * len(table.rows) for table in tables)
    )
    with drawing_style():
        for ax, table in zip(axes, tables, strict=True):
            values = np.array([[heat.value for heat in row] for row in table.rows.values()])
            ax.imshow(values, cmap=colours, vmin=0.0, vmax=1.0, aspect="auto")
            for y, row in enumerate(table.rows.values()):
                for x, heat in enumerate(row):
                    ax.text(x, y, heat.text, ha="center", va="center", fontsize=7.5, color=INK)
            ax.set_xticks(range(len(table.shifts)), [_broken(s) for s in table.shifts])
            ax.set_yticks(range(len(table.rows)), [SCORES.get(s, s) for s in table.rows])
            ax.tick_params(length=0, labelsize=7, labelcolor=INK)
            ax.spines[:].set_visible(False)
            title = f"{table.solver}, N = {table.n}: AUROC"
            ax.set_title(plain(title), loc="left", **TITLE)
    return figure


def _broken(shift: str) -> str:
    """A name on two lines where it is long."""
    words, middle = plain(shift).split(" "), len(shift) / 2
    if len(shift) < 14 or len(words) < 2:
        return " ".join(words)
    cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - middle))
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def shift_drawing(results: Results) -> Drawing:
    """Coverage inside every shift, one panel per functional."""
    rows = _at_largest_n(results)
    inside = [r for r in rows if not r["score"] and r["number"] in INSIDE]
    inside = [r for r in inside if math.isfinite(float(r["value"]))]
    solvers = ordered(str(row["solver"]) for row in inside)
    n = int(inside[0]["n"]) if inside else 0
    caption = (
        f"Coverage of 95 % intervals on the shifted images, N = {n}; the dashed line is what they "
        "claim. The solver is told nothing of the shift. Bars are 95 % intervals over images."
    )
    panels = []
    for metric, words in INSIDE.items():
        mine = [row for row in inside if row["number"] == metric]
        if mine:
            panels.append(
                Panel(
                    f"{words[:1].upper()}{words[1:]} inside each shift",
                    f"Coverage of {words} at 95 %: "
                    + "; ".join(f"{r['solver']}, {shift_name(r)}: {r['value']:.2f}" for r in mine),
                    partial(_draw_shifts, rows=mine, solvers=solvers),
                )
            )
    return Drawing("coverage_by_shift", caption, solvers, panels)


def _draw_shifts(ax: "Axes", rows: Sequence[dict[str, Any]], solvers: Sequence[str]) -> None:
    shifts = _shifts(rows)
    for solver in solvers:
        style, name = solver_style(solver), SERIES_ID + solver
        offset = apart(solvers, solver, 0.5 / max(len(solvers), 1))
        for row in rows:
            if row["solver"] != solver:
                continue
            y = shifts.index(shift_name(row)) + 0.2 + offset
            value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
            point = Point(y, value, lower, upper)
            ax.hlines(y, *point.ends, color=style.colour, linewidth=1.2, zorder=3, gid=name)
            ax.plot(
                [value],
                [y],
                linestyle="none",
                marker=style.marker,
                markersize=4.2,
                markerfacecolor="#ffffff" if style.hollow else style.colour,
                markeredgecolor=style.colour,
                zorder=4,
                gid=name,
            )
    ax.axvline(LEVEL, color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
    for place, shift in enumerate(shifts):
        label = {"xy": (0.0, place - 0.36), "xycoords": ax.get_yaxis_transform()}
        ax.annotate(plain(shift), **label, va="center", fontsize=7, color=MUTED)
        ax.axhline(place - 0.5, color=RULE, linewidth=0.6)
    ax.set_ylim(len(shifts) - 0.4, -0.6)
    ax.set_yticks([])
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=RULE, linewidth=0.6)
    ax.set_xlim(0.0 if _low(rows) < 0.5 else 0.5, 1.01)
    ax.set_xlabel("share inside the interval", color=MUTED, fontsize=7.5)


def _low(rows: Sequence[dict[str, Any]]) -> float:
    ends = [float(row[k]) for row in rows for k in ("value", "lower")]
    return min((end for end in ends if math.isfinite(end)), default=0.0)
