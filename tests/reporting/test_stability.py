"""Noise-to-error curves and pictures show what the tables and arrays say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from latens import store
from latens.reporting import Results, read_results
from latens.reporting.checks import slope_rows
from latens.reporting.html import render
from latens.reporting.panels import panel_figure
from latens.reporting.stability import (
    beliefs,
    detail_curves,
    noise_curves,
    stability_drawing,
)
from latens.reporting.worst_cases import worst_pictures
from reporting.synthetic_checks import (
    AT,
    CHECKED,
    IMAGES,
    LEVELS,
    SHARES,
    TOLERANCE,
    UNSETTLED,
    VISIBILITIES,
    covered,
    kept,
    random,
    residual,
    slope,
    undisturbed,
    worst,
)
from reporting.synthetic_run import POINTS


def test_curves_are_the_numbers_of_the_run(checked: Results) -> None:
    curves = {(c.solver, c.n): c for c in noise_curves(checked)}
    assert set(curves) == {(s, n) for s in CHECKED for n in AT}
    for (solver, n), curve in curves.items():
        assert [p.x for p in curve.worst] == [0.0, *LEVELS]
        means = [np.mean([worst(solver, n, level, i) for i in IMAGES]) for level in LEVELS]
        given, *found = curve.worst
        np.testing.assert_allclose([p.value for p in found], means)
        np.testing.assert_allclose([p.upper for p in found], np.multiply(means, 1.12))
        if (solver, n) != ("latent", AT[0]):  # whose fit with the lowest seeds is left out
            expected = np.mean([undisturbed(solver, n, i) for i in IMAGES])
            assert given.value == pytest.approx(expected)
        beside = curve.random[-1]
        assert beside.x == 1.0
        assert beside.value == pytest.approx(np.mean([random(solver, n, i) for i in IMAGES]))
        assert beside.lower < beside.value < beside.upper


def test_panels_draw_the_curves(checked: Results) -> None:
    drawing = stability_drawing(checked)
    by_radius, by_size = (panel_figure(panel).axes[0] for panel in drawing.panels[:2])
    last = [c for c in noise_curves(checked) if c.n == max(AT)]
    for curve in last:
        mine = [line for line in by_radius.lines if line.get_gid() == f"series:{curve.solver}"]
        drawn = [tuple(line.get_ydata()) for line in mine]
        assert tuple(p.value for p in curve.worst) in drawn
        assert tuple(p.value for p in curve.random) in drawn
    assert [int(t.get_text()) for t in by_size.get_xticklabels()] == list(AT)
    assert all(str(max(AT)) in drawing.panels[0].description for _ in last)


def test_errors_against_the_share_of_the_measurement(checked: Results) -> None:
    curves = {(c.solver, c.n): c for c in noise_curves(checked)}
    for (solver, n), curve in curves.items():
        assert [p.x for p in curve.shares] == [0.0, *SHARES]
        assert curve.shares[0] == curve.worst[0]
        means = [np.mean([worst(solver, n, share / 10, i) for i in IMAGES]) for share in SHARES]
        np.testing.assert_allclose([p.value for p in curve.shares[1:]], means)
    panel = stability_drawing(checked).panels[3]
    assert "percent of the norm of the measurement" in panel.description
    ax = panel_figure(panel).axes[0]
    drawn = [tuple(line.get_ydata()) for line in ax.lines]
    for curve in (c for c in curves.values() if c.n == max(AT)):
        assert tuple(p.value for p in curve.shares) in drawn
    older = checked.metrics[~checked.metrics["metric"].isin(SHARES.values())]
    panels = stability_drawing(replace(checked, metrics=older)).panels
    assert all("percent" not in panel.description for panel in panels)


def test_kept_details_against_their_visibility(checked: Results) -> None:
    curves = {(c.solver, c.n): c for c in detail_curves(checked)}
    assert set(curves) == {(s, n) for s in CHECKED for n in AT}
    for (solver, _), curve in curves.items():
        assert [p.x for p in curve.kept] == list(VISIBILITIES)
        means = [
            np.mean([np.mean(kept(solver, v, image)[:2]) for image in IMAGES])
            for v in VISIBILITIES
        ]
        np.testing.assert_allclose([p.value for p in curve.kept], means)
    panel = stability_drawing(checked).panels[4]
    ax = panel_figure(panel).axes[0]
    drawn = [tuple(line.get_ydata()) for line in ax.lines]
    for solver in CHECKED:
        points = curves[solver, max(AT)].kept
        assert tuple(p.value for p in points) in drawn
        assert f"{solver}: {points[0].value:.2f} at 2" in panel.description
    assert (1.0, 1.0) in drawn
    older = checked.metrics[~checked.metrics["metric"].isin(VISIBILITIES.values())]
    assert len(stability_drawing(replace(checked, metrics=older)).panels) == 4


def test_the_residual_of_every_lipschitz_constant_is_shown(checked: Results) -> None:
    rows = slope_rows(checked)
    assert [(row.solver, row.n) for row in rows] == [
        (s, n) for s in checked.solvers for n in AT if s in CHECKED
    ]
    for row in rows:
        expected = np.mean([slope(row.solver, i) for i in IMAGES])
        assert row.local.sort == pytest.approx(expected)
        assert row.ball.sort == pytest.approx(1.5 * expected)
        assert float(row.residual) == pytest.approx(residual(row.solver))
        assert float(row.tolerance) == TOLERANCE
        assert row.unsettled == (3 if row.solver == UNSETTLED else 0)
    page = render(checked)
    assert page.count('<td class="num bad">0.37</td>') == len(AT)
    assert page.count('<td class="num bad">3</td>') >= len(AT)
    assert '<td class="num">0.0061</td>' in page


def test_coverage_at_the_worst_case_stands_beside_that_at_hand(checked: Results) -> None:
    found = {(b.solver, int(b.worst.x)): b for b in beliefs(checked)}
    assert set(found) == {(s, n) for s in CHECKED if s not in POINTS for n in AT}
    for (solver, n), belief in found.items():
        assert belief.worst.value == pytest.approx(0.7 * covered(solver, n, 0.95))
        if (solver, n) != ("latent", AT[0]):
            assert belief.given.value == pytest.approx(covered(solver, n, 0.95))
    ax = panel_figure(stability_drawing(checked).panels[2]).axes[0]
    drawn = [list(line.get_ydata()) for line in ax.lines if line.get_gid() == "series:direct"]
    assert [found["direct", n].worst.value for n in AT] in drawn


def test_pictures_share_their_scales(checked: Results) -> None:
    pictures = worst_pictures(checked)
    assert pictures is not None
    assert pictures.n == max(AT)
    assert pictures.images == list(IMAGES[:3])
    assert {row.solver for row in pictures.rows} == set(CHECKED)
    for place, heading in enumerate(p.heading for p in pictures.rows[0].pictures):
        ends = {(row.pictures[place].low, row.pictures[place].high) for row in pictures.rows}
        assert len(ends) == 1, heading
    for row in pictures.rows:
        _, mean, disturbance, there, difference = (p.values for p in row.pictures)
        np.testing.assert_allclose(difference, there - mean, atol=1e-12)
        np.testing.assert_allclose(difference, 0.8 * disturbance, atol=1e-12)
        moved = float(np.sqrt(np.mean(difference**2)))
        assert float(row.pictures[-1].caption.split()[-1]) == pytest.approx(moved, rel=0.06)


def test_worst_cases_of_another_solver_are_no_curve(empty_run: store.RunFolder) -> None:
    said = {"solver": "tv", "n": 8, "data_seed": 0, "init_seed": 0, "check": "stability"}
    with store.new_folder(empty_run.evaluation("0" * 16)) as folder:
        store.write_json(folder / "evaluation.json", said)
        store.Outcome(store.Status.CONVERGED).write(folder)
    results = read_results(empty_run)
    assert noise_curves(results) == []
    assert stability_drawing(results).panels == []
    assert worst_pictures(results) is None


def test_numbers_that_are_missing_are_not_drawn(checked: Results) -> None:
    curve = noise_curves(checked)[0]
    assert math.isfinite(curve.worst[1].value)
    gone = checked.metrics[checked.metrics["metric"] != "worst_error_50"]
    fewer = noise_curves(replace(checked, metrics=gone))[0]
    assert [p.x for p in fewer.worst] == [0.0, 0.25, 1.0, 2.0]
