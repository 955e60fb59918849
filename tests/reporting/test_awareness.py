"""Heat tables, coverage inside shifts and risk-coverage curves repeat their tables."""

import math
from dataclasses import replace

import numpy as np
import pytest

from latens.reporting import Results
from latens.reporting.awareness import (
    Heat,
    heat_figure,
    heat_tables,
    shift_drawing,
    shift_name,
)
from latens.reporting.checks import detection_table, selection_table, shift_table
from latens.reporting.panels import panel_figure
from latens.reporting.refusal import risk_curves, risk_drawing
from reporting.synthetic_checks import AT, CHECKED, SCORES, SHIFTS, auroc, flagged, relative
from reporting.synthetic_run import POINTS


def test_heat_tables_hold_the_areas(checked: Results) -> None:
    tables = {table.solver: table for table in heat_tables(checked)}
    assert set(tables) == set(CHECKED)
    for solver, table in tables.items():
        assert table.n == max(AT)
        assert table.shifts == ["images: inverted (1)", "kernel width (1.5)", "noise level (2)"]
        assert list(table.rows) == ["any", *(SCORES[:1] if solver in POINTS else SCORES)]
        for score, cells in table.rows.items():
            shifts = [name.partition(" (")[0] for name in table.shifts]
            expected = [auroc(solver, shift, score) for shift in shifts]
            assert [c.value for c in cells] == pytest.approx(expected)
            assert all(c.interval.startswith("95 % interval [") for c in cells)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.5, 0, "0.50"),
        (1.0, 5, "1.00"),
        (0.31, -2, "0.31"),
        (math.nan, 0, "–"),
        (0.86, 4, "0.86"),
    ],
)
def test_shade_tells_how_far_from_blind(value: float, step: int, text: str) -> None:
    heat = Heat(value, math.nan, math.nan)
    assert (heat.step, heat.text) == (step, text)
    missing = "not measured" if math.isnan(value) else "no interval"
    assert heat.interval.startswith(missing)


def test_heat_figure_shows_every_number(checked: Results) -> None:
    tables = heat_tables(checked)
    figure = heat_figure(tables)
    for ax, table in zip(figure.axes, tables, strict=True):
        words = [text.get_text() for text in ax.texts]
        assert words == [heat.text for row in table.rows.values() for heat in row]


def test_coverage_inside_shifts_is_at_its_place(checked: Results) -> None:
    drawing = shift_drawing(checked)
    assert drawing.solvers == ["cvae", "latent", "direct"]
    assert [p.title for p in drawing.panels] == [
        "Pixels inside each shift",
        "Region means inside each shift",
    ]
    assert "cvae, as it is: 0.94" in drawing.panels[0].description
    ax = panel_figure(drawing.panels[0]).axes[0]
    labels = [text.get_text() for text in ax.texts]
    assert labels == ["as it is", "images: inverted (1)", "kernel width (1.5)", "noise level (2)"]
    points = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in ax.lines
        if line.get_gid() == "series:latent"
    ]
    values = dict(zip(labels, [0.94, 0.58, 0.82, 0.7], strict=True))
    by_height = [x for x, _ in sorted(points, key=lambda point: point[1])]
    assert by_height == pytest.approx(list(values.values()))


def test_risk_is_relative_and_the_oracle_lies_below(checked: Results) -> None:
    found = risk_curves(checked)
    assert list(found) == ["residual", "spread", "oracle"]
    assert {c.solver for c in found["spread"]} == set(CHECKED) - set(POINTS)
    oracle = {c.solver: c for c in found["oracle"]}
    for score in ("residual", "spread"):
        for curve in found[score]:
            assert curve.risk[-1] == 1.0
            assert curve.kept[-1] == 1.0
            assert (curve.risk >= oracle[curve.solver].risk - 1e-12).all()
    titles = [panel.title for panel in risk_drawing(checked).panels]
    assert titles == ["Refusing by data residual", "Refusing by spread of the draws"]


def test_risk_panels_draw_score_oracle_and_random(checked: Results) -> None:
    found = risk_curves(checked)
    panel = risk_drawing(checked).panels[1]
    ax = panel_figure(panel).axes[0]
    drawn = [tuple(np.asarray(line.get_ydata(), float)) for line in ax.lines]
    assert (1.0, 1.0) in drawn
    for curve in found["spread"]:
        oracle = next(c for c in found["oracle"] if c.solver == curve.solver)
        assert tuple(curve.risk) in drawn
        assert tuple(oracle.risk) in drawn


def test_the_tables_hold_every_number_of_a_shift(checked: Results) -> None:
    shifts, detection = shift_table(checked), detection_table(checked)
    selection = selection_table(checked)
    assert shifts is not None
    assert detection is not None
    assert selection is not None
    assert shifts.rates == ["flagged by the gate", "p_draw ≤ .05"]
    for row in shifts.rows:
        place = [shift_name({"shift": s, "strength": k}) for s, k in SHIFTS].index(row.shift)
        assert row.rates[0].sort == pytest.approx(flagged(row.solver, place))
        found = row.rates[1]
        assert found.text == "–" if row.solver in POINTS else found.sort == 0.05 + 0.2 * place
    assert detection.columns == ["AUROC", "average precision", "false alarms at 95 %"]
    known = {(r.solver, r.shift, r.score): r.cells for r in detection.rows}
    assert (
        len(known)
        == len(detection.rows)
        == 3 * (4 * (len(CHECKED) - len(POINTS)) + 2 * len(POINTS))
    )
    for (solver, shift, score), cells in known.items():
        area = auroc(solver, shift.partition(" (")[0], score)
        assert [c.sort for c in cells] == pytest.approx([area, area**2, 1 - area])
        assert all(c.interval for c in cells)
    first = [row.score for row in detection.rows if row.solver == "cvae"][:4]
    assert first == ["any", *SCORES]
    assert selection.columns == ["AURC", "AUGRC", "AUGRC / random"]
    for row in selection.rows:
        assert [c.text for c in row.cells[:2]] == ["–", "–"]
        assert row.cells[2].sort == pytest.approx(relative(row.solver, row.score))


def test_without_shifts_there_is_nothing(checked: Results) -> None:
    none = replace(checked, shifts=checked.shifts.iloc[:0], evaluations={})
    assert heat_tables(none) == []
    assert shift_drawing(none).panels == []
    assert risk_drawing(none).panels == []
    assert shift_table(none) is detection_table(none) is selection_table(none) is None
