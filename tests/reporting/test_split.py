"""Errors split into range and null space, and hallucination maps, as the checks left them."""

import numpy as np
import pytest

from latens.reporting import Results
from latens.reporting.null_space import hallucination_pictures, split_drawing, splits
from latens.reporting.panels import panel_figure
from reporting.synthetic_checks import AT, CHECKED, IMAGES, split, variance
from reporting.synthetic_run import POINTS


def test_splits_are_means_over_images(checked: Results) -> None:
    found = {(s.solver, s.n): s for s in splits(checked)}
    assert set(found) == {(s, n) for s in CHECKED for n in AT}
    for (solver, n), mine in found.items():
        for i, part in enumerate(("null", "range")):
            expected = np.mean([split(solver, n, image)[i] for image in IMAGES])
            assert mine.error[part].value == pytest.approx(expected)
            assert mine.error[part].x == n
        hidden = np.mean([split(solver, n, image)[0] for image in IMAGES])
        assert mine.hallucinated.value == pytest.approx(hidden)
        if solver in POINTS:
            assert mine.variance == {}
            assert np.isnan(mine.unflagged.value)
        else:
            own = np.mean([variance(solver, n, image)[0] for image in IMAGES])
            assert mine.variance["null"].value == pytest.approx(own)
            assert mine.unflagged.value == pytest.approx(0.2 * hidden)


def test_both_parts_are_drawn_on_one_scale(checked: Results) -> None:
    null, seen, hidden = (panel_figure(p).axes[0] for p in split_drawing(checked).panels)
    assert null.get_ylim() == seen.get_ylim()
    assert null.get_yscale() == seen.get_yscale() == "log"
    assert hidden.get_ylim()[0] == 0
    for solver in CHECKED:
        points = [
            line
            for line in null.lines
            if line.get_gid() == f"series:{solver}" and line.get_linestyle() == "None"
        ]
        expected = [np.mean([split(solver, n, i)[0] for i in IMAGES]) for n in AT]
        np.testing.assert_allclose(points[0].get_ydata(), expected)


def test_maps_name_the_share_of_flagged_pixels(checked: Results) -> None:
    pictures = hallucination_pictures(checked)
    assert pictures is not None
    assert "0.1 in units of the signal" in pictures.caption
    for row in pictures.rows:
        flags, caption = row.pictures[-1].values, row.pictures[-1].caption
        if row.solver in POINTS:
            assert flags is None
            assert row.pictures[-2].values is None
            continue
        assert flags is not None
        shares = [100 * np.mean(flags == code) for code in (1, 2)]
        assert caption == f"{shares[0]:.1f} % flagged, {shares[1]:.1f} % not"
    errors, spreads = ([row.pictures[i] for row in pictures.rows] for i in (2, 3))
    assert {p.high for p in errors} == {p.high for p in spreads}
