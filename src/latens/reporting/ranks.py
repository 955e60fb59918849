"""Ranks of the truth among posterior draws, drawn against the band that uniform ranks keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latens import store
from latens.reporting.calibration import SOURCES, in_order
from latens.reporting.check_data import at_largest, check_units, read_curves
from latens.reporting.palette import MUTED, RULE, ordered, solver_style
from latens.reporting.panels import Drawing, Panel, draw_line, say
from latens.reporting.rendering import SERIES_ID
from latens.reporting.results import Results, records, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RankCurve:
    """ECDF of the ranks of one family less its expectation, with its simultaneous band.

    Args:
        solver: Name of the solver.
        place: k/(M + 1) from 0 to 1, where the curve is 0 at both ends.
        lowest, highest: Over the members of the family.
        band: Lower and upper end of the band.
        members: Numbers in the family.
        images: Images ranked.
    """

    solver: str
    place: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    band: tuple[np.ndarray, np.ndarray]
    members: int
    images: int

    @property
    def leaves(self) -> bool:
        """Whether some curve leaves the band."""
        lower, upper = self.band
        tiny = 1e-9
        return bool(((self.lowest < lower - tiny) | (self.highest > upper + tiny)).any())


def rank_curves(results: Results, source: str) -> dict[str, list[RankCurve]]:
    """Curves at the largest N that was checked.

    Args:
        results: The run.
        source: `data` or `model`.

    Returns:
        By quantity, in the order of the page: one curve for each solver that has it.
    """
    table = read_curves(at_largest(check_units(results, "calibration")), store.RANK_CURVES)
    table = select(table, "source", source)
    found: dict[str, list[RankCurve]] = {}
    for quantity in in_order(table["quantity"]):
        of_quantity = select(table, "quantity", quantity)
        found[quantity] = [
            rank_curve(solver, select(of_quantity, "solver", solver))
            for solver in ordered(of_quantity["solver"])
        ]
    return found


def rank_curve(solver: str, rows: pd.DataFrame) -> RankCurve:
    """Curve of a solver from its rows of `RANK_CURVES`."""
    rows = rows.sort_values("below")
    first = records(rows)[0]

    def closed(column: str) -> np.ndarray:
        return np.concatenate([[0.0], rows[column].to_numpy(float), [0.0]])

    return RankCurve(
        solver,
        np.concatenate([[0.0], rows["below"].to_numpy(float) / (int(first["draws"]) + 1), [1.0]]),
        closed("lowest"),
        closed("highest"),
        (closed("band_lower"), closed("band_upper")),
        int(first["members"]),
        int(first["images"]),
    )


def rank_drawing(results: Results, source: str) -> Drawing:
    """One panel per quantity: ECDF of ranks less its expectation, and the band.

    Args:
        results: The run.
        source: `data` or `model`.
    """
    found = rank_curves(results, source)
    solvers = ordered(c.solver for curves in found.values() for c in curves)
    caption = (
        f"Ranks of the truth among the draws, on {SOURCES[source]}: share of images with a rank "
        "below k, less k/(M + 1), which is 0 on average where the posterior is calibrated. The "
        "grey band holds the whole curve with 95 % probability; of a quantity with several "
        "numbers the lowest and the highest curve are drawn, and the band is widened (Bonferroni) "
        "to hold all of them. Of pixels and means: a hill to the left with a valley to the right "
        "says that draws lie too close together, a hill alone that they lie too high, a valley "
        "alone too low."
    )
    panels = [
        Panel(
            f"{quantity[:1].upper()}{quantity[1:]}" if quantity[:3] != "log" else quantity,
            f"Difference of the ECDF of ranks of {quantity} from uniform on {SOURCES[source]}. "
            + _outside(curves),
            partial(draw_ranks, curves=curves),
        )
        for quantity, curves in found.items()
    ]
    return Drawing(f"ranks_{source}", caption, solvers, panels)


def _outside(curves: Sequence[RankCurve]) -> str:
    out = [curve.solver for curve in curves if curve.leaves]
    inside = [curve.solver for curve in curves if not curve.leaves]
    said = []
    if out:
        said.append(f"outside the band: {', '.join(out)}")
    if inside:
        said.append(f"inside the band: {', '.join(inside)}")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}"


def draw_ranks(ax: "Axes", curves: Sequence[RankCurve]) -> None:
    """Draw the curves of one quantity with their band."""
    bands = {(c.images, c.members, len(c.place)): c for c in curves}
    for curve in bands.values():
        area = ax.fill_between(curve.place, *curve.band, color=RULE, alpha=0.75, zorder=1)
        area.set_linewidth(0)
    ax.axhline(0.0, color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
    for curve in curves:
        if curve.members > 1:
            colour = solver_style(curve.solver).colour
            area = ax.fill_between(curve.place, curve.lowest, curve.highest, color=colour)
            area.set(alpha=0.15, linewidth=0, gid=SERIES_ID + curve.solver)
            draw_line(ax, curve.solver, curve.place, curve.lowest)
        draw_line(ax, curve.solver, curve.place, curve.highest)
    ax.set_xlim(0.0, 1.0)
    ax.set_xticks([0.0, 0.5, 1.0], ["0", "½", "1"])
    ax.set_xlabel("rank, as a share of the draws", color=MUTED, fontsize=7.5)
    members = max(curve.members for curve in curves)
    images = sorted({curve.images for curve in curves})
    counted = " and ".join(str(i) for i in images)
    say(ax, f"{counted} images" + (f", {members} numbers each" if members > 1 else ""))
