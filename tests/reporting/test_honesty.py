"""Ranks, p-values, coverage by level, promises and gaps: drawn as tabled."""

from dataclasses import replace

import numpy as np
import pytest

from latens.metrics import CALIBRATION_LEVELS
from latens.reporting import Results
from latens.reporting.calibration import (
    LEVELS,
    coverage_curves,
    coverage_drawing,
    p_value_tables,
)
from latens.reporting.checks import power_table
from latens.reporting.panels import panel_figure
from latens.reporting.promises import gap_drawing, gaps, promise_drawing, promises
from latens.reporting.ranks import rank_curves, rank_drawing
from reporting.synthetic_checks import AT, PROMISED, SAMPLER, covered
from reporting.synthetic_run import SIZES


def test_levels_are_those_of_the_metrics() -> None:
    assert LEVELS == CALIBRATION_LEVELS


def test_ranks_are_closed_curves_that_know_whether_they_leave(checked: Results) -> None:
    found = rank_curves(checked, "data")
    assert list(found) == ["pixels", "norm", "TARP near A⁺y"]
    assert [c.solver for c in found["norm"]] == ["cvae", "latent", "direct"]
    for curves in found.values():
        for curve in curves:
            assert (curve.place[0], curve.place[-1]) == (0.0, 1.0)
            assert len(curve.place) == 41
            assert curve.leaves == (curve.solver == "direct")
    assert [c.solver for c in rank_curves(checked, "model")["norm"]] == ["latent"]


def test_rank_panels_draw_band_and_curves(checked: Results) -> None:
    drawing = rank_drawing(checked, "data")
    found = rank_curves(checked, "data")
    for panel, (quantity, curves) in zip(drawing.panels, found.items(), strict=True):
        assert panel.title.lower() == quantity.lower()
        assert "Outside the band: direct; inside the band: cvae, latent" in panel.description
        ax = panel_figure(panel).axes[0]
        drawn = [tuple(line.get_ydata()) for line in ax.lines]
        for curve in curves:
            assert tuple(curve.highest) in drawn
            assert (tuple(curve.lowest) in drawn) == (
                curve.members > 1 or quantity == "norm" or quantity.startswith("TARP")
            )


def test_p_values_are_the_smallest_of_a_quantity(checked: Results) -> None:
    data, model = p_value_tables(checked)
    assert data.n == max(AT)
    assert (data.source, model.source) == ("held-out pairs", "pairs of the solver's own model")
    assert list(data.rows) == ["pixels (8)", "norm"]
    assert data.solvers == ["cvae", "latent", "direct"]
    assert model.solvers == ["latent"]
    bad, good = data.rows["pixels (8)"]["direct"], data.rows["pixels (8)"]["cvae"]
    assert (bad.text, bad.rejects) == ("0.0004", True)
    assert (good.text, good.rejects) == ("1", False)
    assert "chi-square: p 0.0002, adjusted 0.0006" in bad.tests


def test_power_is_that_of_the_largest_n(checked: Results) -> None:
    table = power_table(checked)
    assert table.n == max(AT)
    assert table.kinds == ["independent pixels", "std × 0.8"]
    assert [row.solver for row in table.rows] == ["cvae", "latent", "direct"]
    for row in table.rows:
        assert row.found["independent pixels"] == pytest.approx(0.1 + 0.001 * max(AT))


def test_coverage_by_level_adds_the_level(checked: Results) -> None:
    found = coverage_curves(checked)
    assert set(found) == {"pixel", "region", "principal"}
    for by_solver in found.values():
        assert set(by_solver) == {"cvae", "cvae_ensemble", "latent", "direct"}
        for solver, points in by_solver.items():
            expected = [covered(solver, SIZES[-1], level) for level in CALIBRATION_LEVELS]
            np.testing.assert_allclose([p.value for p in points], expected)
            assert all(p.lower < p.value < p.upper for p in points)
    axes = [panel_figure(panel).axes[0] for panel in coverage_drawing(checked).panels]
    assert all(ax.get_xlim() == ax.get_ylim() == (0.0, 1.0) for ax in axes)


def test_promises_are_margins_plus_their_level(checked: Results) -> None:
    (promise,) = promises(checked)
    assert (promise.method, promise.level) == ("crc", PROMISED)
    assert set(promise.kept) == {"cvae", "latent"}
    for points in promise.kept.values():
        expected = [PROMISED + 0.01 - 1.0 / n for n in SIZES]
        np.testing.assert_allclose([p.value for p in points], expected)
        assert [p.x for p in points] == list(SIZES)
    own = {p.x: p.value for p in promise.own["cvae"]}
    row = checked.cell("cvae", SIZES[-1], "coverage_pixel")
    assert row is not None
    assert own[SIZES[-1]] == row["mean"]
    (panel,) = promise_drawing(checked).panels
    dashed = [line for line in panel_figure(panel).axes[0].lines if line.get_gid() is None]
    assert {float(np.ravel(line.get_ydata())[0]) for line in dashed} == {PROMISED}


def test_methods_that_promise_images_are_not_compared_with_pixels(checked: Results) -> None:
    moved = {
        name: replace(unit, folder=unit.folder.parent / "none")
        for name, unit in checked.evaluations.items()
    }
    assert promises(replace(checked, evaluations=moved)) == []


def test_gap_is_between_coverages_on_the_same_images(checked: Results) -> None:
    (gap,) = gaps(checked)
    assert gap.solver == SAMPLER
    differences = [a.value - s.value for a, s in zip(gap.amortised, gap.sampled, strict=True)]
    assert differences == pytest.approx([-0.1 + 1.0 / n for n in SIZES])
    titles = [panel.title for panel in gap_drawing(checked).panels]
    assert titles == ["Coverage of region means", "Gap_w2", "Gap_spread"]
