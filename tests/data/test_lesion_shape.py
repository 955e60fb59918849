"""Shape of masks against closed forms of ellipsoids."""

import math

import numpy as np
import pytest
from scipy.special import elliprg

from latens.data.lesion_shape import lesion_targets, surface_area
from latens.errors import ShapeError


def ellipsoid(axes, spacing, size, centre=(0.0, 0.0, 0.0), turn=None):
    """Voxels whose centres lie inside an ellipsoid, millimetres from the middle of the grid."""
    grid = np.stack(
        np.meshgrid(
            *[(np.arange(n) - (n - 1) / 2) * h for n, h in zip(size, spacing, strict=True)],
            indexing="ij",
        ),
        axis=-1,
    )
    local = (grid - centre) @ (np.eye(3) if turn is None else turn)
    return ((local / axes) ** 2).sum(-1) <= 1


def area(a, b, c):
    """Exact, by Carlson's integral."""
    return 4 * math.pi * elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2)


def turned(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.5, 0.8)])
@pytest.mark.parametrize("axes", [(14.0, 14.0, 14.0), (20.0, 13.0, 10.0), (22.0, 20.0, 9.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_ellipsoids_have_their_closed_forms(axes, spacing, seed):
    size = tuple(round(52 / h) for h in spacing)
    centre = np.random.default_rng((seed, 9)).uniform(-2, 2, 3)
    mask = ellipsoid(np.asarray(axes), spacing, size, centre, turned(seed))
    found = lesion_targets(mask, np.asarray(spacing))
    volume = 4 / 3 * math.pi * math.prod(axes)
    exact = area(*axes)
    assert found[0] == pytest.approx(math.log(volume), abs=0.01)
    extent = np.asarray(size) * spacing / 2
    np.testing.assert_allclose(found[1:4] * extent, centre, atol=0.06)
    assert found[4] == pytest.approx(
        math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / exact, rel=0.03
    )
    assert found[5] == pytest.approx(axes[1] / axes[0], abs=0.015)
    assert found[6] == pytest.approx(axes[2] / axes[0], abs=0.015)
    assert found[7] == pytest.approx(exact / volume, rel=0.03)


def test_faces_would_overrate_the_area_by_half():
    """The reason for the formula, and the sign of what is left of the error."""
    mask = ellipsoid(np.full(3, 16.0), (1.0, 1.0, 1.0), (40, 40, 40))
    faces = sum(np.count_nonzero(np.diff(mask.astype(np.int8), axis=k)) for k in range(3))
    exact = 4 * math.pi * 16**2
    assert faces / exact == pytest.approx(1.5, abs=0.03)
    assert surface_area(mask, np.ones(3)) == pytest.approx(exact, rel=0.015)


def test_size_changes_volume_and_ratio_but_no_shape():
    mask = ellipsoid(np.asarray([9.0, 7.0, 5.0]), (1.0,) * 3, (24, 24, 24), turn=turned(3))
    one, three = (lesion_targets(mask, np.full(3, h)) for h in (1.0, 3.0))
    assert three[0] - one[0] == pytest.approx(3 * math.log(3))
    np.testing.assert_allclose(three[1:7], one[1:7], rtol=1e-12)
    assert three[7] == pytest.approx(one[7] / 3)


def test_masks_that_fill_the_grid_end_at_its_border():
    full = np.ones((6, 6, 6), dtype=bool)
    inside = np.pad(full, 4)
    assert surface_area(full, np.ones(3)) == pytest.approx(surface_area(inside, np.ones(3)))


def test_what_has_no_extent():
    mask = np.zeros((5, 6, 7), dtype=bool)
    empty = lesion_targets(mask, np.ones(3))
    assert empty[0] == -math.inf
    assert np.isnan(empty[1:]).all()
    mask[4, 0, 3] = True
    found = lesion_targets(mask, np.ones(3))
    np.testing.assert_allclose(found[:4], [0.0, 0.8, 1 / 6 - 1, 0.0], atol=1e-12)
    assert np.isfinite(found).all()


def test_one_mask_at_a_time():
    with pytest.raises(ShapeError, match="one mask at a time"):
        lesion_targets(np.ones((1, 4, 4, 4), dtype=bool), np.ones(3))
