"""Tables of the deep checks: calibration tests, and what a solver does on shifted images."""

import math
from dataclasses import dataclass
from typing import Any

from latens.reporting.awareness import SCORES, shift_name
from latens.reporting.check_data import check_units, size_of, solver_of
from latens.reporting.results import Results, records, select
from latens.reporting.tables import Cell, format_interval, format_value
from latens.store.schemas import REJECTS

SOURCES = {"data": "held-out pairs", "model": "pairs of its own model"}

INSIDE = ("psnr", "coverage_pixel", "coverage_region", "spread_skill", "data_chi2")
"""Metrics shown for each shift."""

DETECTION = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "fpr95": "false alarms at 95 %",
}
"""Numbers of detection, in words."""

SELECTION = {"aurc": "AURC", "augrc": "AUGRC", "augrc_over_random": "AUGRC / random"}
"""Numbers of risk-coverage curves, in words."""

RATES = {
    ("any", "flagged"): "flagged by the gate",
    ("p_plug_in", "rejected"): "p_plug_in ≤ .05",
    ("p_predictive", "rejected"): "p_predictive ≤ .05",
    ("p_draw", "rejected"): "p_draw ≤ .05",
}
"""Shares of images, by score and number, in words."""


@dataclass(frozen=True)
class TestsRow:
    """All calibration tests of one solver at one N on one kind of pairs.

    Args:
        solver: Name of the solver.
        n: Training size.
        source: What the pairs are, in words.
        images: Number of pairs.
        tests: Number of tests.
        rejected: Those that reject after adjustment.
        smallest: Smallest adjusted p-value.
        clearest: Quantity and test that it belongs to.
    """

    solver: str
    n: int
    source: str
    images: int
    tests: int
    rejected: int
    smallest: float
    clearest: str


@dataclass(frozen=True)
class PowerRow:
    """What the tests on held-out pairs of one solver could have seen.

    Args:
        solver: Name of the solver.
        images: Number of pairs.
        found: Kind of wrong posterior → share of times in which they find it, the mean over
            data seeds and initialisations that were checked.
    """

    solver: str
    images: int
    found: dict[str, float]


@dataclass(frozen=True)
class PowerTable:
    """Power of the tests on held-out pairs, at the largest N that was checked."""

    n: int
    kinds: list[str]
    rows: list[PowerRow]


@dataclass(frozen=True)
class TransferRow:
    """A solver that cannot be attacked itself, at the worst case of another one.

    Args:
        solver: Name of the solver.
        n: Training size.
        donor: Whose worst case it is.
        error: Relative error of the solver there.
        donor_error: That of the donor.
    """

    solver: str
    n: int
    donor: str
    error: Cell
    donor_error: str


@dataclass(frozen=True)
class SlopeRow:
    """Lipschitz constants of one solver, and whether their search arrived.

    Args:
        solver: Name of the solver.
        n: Training size.
        local: Constant at the measurements, whitened.
        ball: Steepest secant in the ball of the noise, whitened.
        residual: Largest residual of the local one, relative to its square.
        tolerance: Residual at which the search was to stop.
        unsettled: Images whose residual is above that.
    """

    solver: str
    n: int
    local: Cell
    ball: Cell
    residual: str
    tolerance: str
    unsettled: int


@dataclass(frozen=True)
class ShiftRow:
    """One solver under one shift.

    Args:
        solver: Name of the solver.
        n: Training size.
        shift: Name and strength.
        rates: Shares of images, in the order of `ShiftTable.rates`.
        inside: Metrics of the shifted images, in the order of `ShiftTable.metrics`.
    """

    solver: str
    n: int
    shift: str
    rates: list[Cell]
    inside: list[Cell]


@dataclass(frozen=True)
class ShiftTable:
    """Rejections and calibration under every shift, at the largest N that was checked."""

    n: int
    rates: list[str]
    metrics: list[str]
    rows: list[ShiftRow]


@dataclass(frozen=True)
class ScoreRow:
    """What one score of one solver tells.

    Args:
        solver: Name of the solver.
        shift: Name and strength of the shift that it tells from usual images; empty where it
            tells large errors from small ones.
        score: Name of the score.
        cells: Its numbers, in the order of the columns.
    """

    solver: str
    shift: str
    score: str
    cells: list[Cell]


@dataclass(frozen=True)
class ScoreTable:
    """Numbers of all scores, at the largest N that was checked."""

    n: int
    columns: list[str]
    rows: list[ScoreRow]


def calibration_rows(results: Results) -> list[TestsRow]:
    """One row per solver, N and kind of pairs, in the order of the legend."""
    rows = []
    for solver in results.solvers:
        mine = records(select(results.tests, "solver", solver))
        for n in sorted({int(row["n"]) for row in mine}):
            for source, words in SOURCES.items():
                found = [
                    row
                    for row in mine
                    if row["n"] == n and str(row["test"]).startswith(f"{source}: ")
                ]
                if found:
                    rows.append(_tests_row(solver, n, words, found, source))
    return rows


def _tests_row(
    solver: str, n: int, words: str, found: list[dict[str, Any]], source: str
) -> TestsRow:
    worst = min(found, key=lambda row: float(row["p_adjusted"]))
    test = str(worst["test"]).removeprefix(f"{source}: ")
    return TestsRow(
        solver,
        n,
        words,
        max(int(row["images"]) for row in found),
        len(found),
        sum(float(row["p_adjusted"]) <= REJECTS for row in found),
        float(worst["p_adjusted"]),
        f"{worst['quantity']}, {test}",
    )


def power_table(results: Results) -> PowerTable:
    """Power by kind of wrong posterior, one row per solver in the order of the legend."""
    power: Any = select(results.power, "source", "data")
    n = int(power["n"].max()) if len(power) else 0
    rows = []
    for solver in results.solvers:
        mine = power[(power["solver"] == solver) & (power["n"] == n)]
        if len(mine):
            found = mine.groupby("posterior", sort=False)["power"].mean().to_dict()
            rows.append(PowerRow(solver, int(mine["images"].max()), found))
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.found))
    return PowerTable(n, kinds, rows)


def transfer_rows(results: Results) -> list[TransferRow]:
    """One row per solver and N that was evaluated at another's worst case."""
    rows = []
    for unit in results.evaluations.values():
        facts = unit.identity.get("facts") or {}
        if "worst_case_of" not in facts or not unit.usable:
            continue
        mine = records(select(results.metrics, "evaluation", unit.name))
        found = next((row for row in mine if row["metric"] == "transferred_error"), None)
        rows.append(
            TransferRow(
                str(unit.identity["solver"]),
                int(unit.identity["n"]),
                str(facts["worst_case_of"]),
                _cell(found),
                format_value(float(facts["its_error"])),
            )
        )
    order = {solver: place for place, solver in enumerate(results.solvers)}
    return sorted(rows, key=lambda row: (order[row.solver], row.n))


def slope_rows(results: Results) -> list[SlopeRow]:
    """One row per solver and N that was attacked itself."""
    rows = []
    for unit in check_units(results, "stability"):
        facts = unit.identity.get("facts") or {}
        if "lipschitz_unsettled" not in facts:
            continue
        mine = records(select(results.metrics, "evaluation", unit.name))
        found = {str(row["metric"]): row for row in mine}
        rows.append(
            SlopeRow(
                solver_of(unit),
                size_of(unit),
                _cell(found.get("lipschitz_whitened")),
                _cell(found.get("lipschitz_ball")),
                f"{float(facts['lipschitz_residual']):.2g}",
                f"{float(facts['lipschitz_tolerance']):g}",
                int(facts["lipschitz_unsettled"]),
            )
        )
    order = {solver: place for place, solver in enumerate(results.solvers)}
    return sorted(rows, key=lambda row: (order[row.solver], row.n))


def shift_table(results: Results) -> ShiftTable | None:
    """What every solver does under every shift; None where none was checked."""
    rows = records(results.shifts)
    if not rows:
        return None
    n = max(int(row["n"]) for row in rows)
    rows = [row for row in rows if row["n"] == n]
    measured = {str(r["number"]) for r in rows if not r["score"]}
    metrics = [name for name in INSIDE if name in measured]
    shown = {(str(r["score"]), str(r["number"])) for r in rows}
    rates = [key for key in RATES if key in shown]
    keys = ("solver", "shift", "strength", "score", "number")
    cells = {tuple(row[key] for key in keys): row for row in rows}
    table = []
    for solver in results.solvers:
        places = sorted(
            {(str(r["shift"]), float(r["strength"])) for r in rows if r["solver"] == solver},
            key=lambda place: (place[0] != "none", place),
        )
        for shift, strength in places:
            table.append(
                ShiftRow(
                    solver,
                    n,
                    shift_name({"shift": shift, "strength": strength}),
                    [_cell(cells.get((solver, shift, strength, *key))) for key in rates],
                    [_cell(cells.get((solver, shift, strength, "", m))) for m in metrics],
                )
            )
    return ShiftTable(n, [RATES[key] for key in rates], metrics, table)


def detection_table(results: Results) -> ScoreTable | None:
    """How well every score tells every shift from usual images; None where none was checked."""
    return _score_table(results, DETECTION)


def selection_table(results: Results) -> ScoreTable | None:
    """How well every score tells large errors from small ones; None where none was checked."""
    return _score_table(results, SELECTION)


def _score_table(results: Results, columns: dict[str, str]) -> ScoreTable | None:
    rows = [row for row in records(results.shifts) if row["number"] in columns]
    if not rows:
        return None
    n = max(int(row["n"]) for row in rows)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        if row["n"] == n:
            place = str(row["solver"]), shift_name(row), str(row["score"])
            found.setdefault(place, {})[str(row["number"])] = row
    solver_order = {solver: place for place, solver in enumerate(results.solvers)}
    score_order = [*SCORES, *sorted({score for *_, score in found} - set(SCORES))]
    table = [
        ScoreRow(solver, shift, score, [_cell(numbers.get(name)) for name in columns])
        for (solver, shift, score), numbers in sorted(
            found.items(),
            key=lambda item: (solver_order[item[0][0]], item[0][1], score_order.index(item[0][2])),
        )
    ]
    return ScoreTable(n, list(columns.values()), table)


def _cell(row: dict[str, Any] | None) -> Cell:
    if row is None or not math.isfinite(float(row["value"])):
        return Cell("–", kind="missing", mark="not measured")
    value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
    return Cell(
        format_value(value, lower, upper), format_interval(value, lower, upper), sort=value
    )
