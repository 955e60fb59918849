"""Radon transform against exact areas, analytic transforms and, where installed, deepinv."""

import math

import numpy as np
import pytest
import torch

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems import Radon
from problems.operator_cases import normal

ANGLES = [0.0, 17.3, 45.0, 60.0, 90.0, 90.0 + 1e-7, 123.4, 135.0, 179.9, -20.0]


def clip(polygon: list[tuple[float, float]], normal_vector: tuple[float, float], limit: float):
    """Part of a convex polygon with ⟨p, normal⟩ ≤ limit (Sutherland and Hodgman)."""
    kept = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        da, db = (np.dot(p, normal_vector) - limit for p in (a, b))
        if da <= 0:
            kept.append(a)
        if da * db < 0:
            t = da / (da - db)
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return kept


def area(polygon: list[tuple[float, float]]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2


@pytest.mark.parametrize("spacing", [1.0, 0.6, 2.3])
def test_entries_are_areas(spacing):
    height, width = 3, 4
    operator = Radon((1, height, width), ANGLES, spacing=spacing)
    detectors = operator.measurement_shape[-1]
    expected = torch.zeros(len(ANGLES), detectors, height, width, dtype=torch.float64)
    for i, angle in enumerate(ANGLES):
        direction = (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        for row in range(height):
            for column in range(width):
                x, y = column - (width - 1) / 2, (height - 1) / 2 - row
                corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
                pixel = [(x + a, y + b) for a, b in corners]
                for j in range(detectors):
                    upper = (j + 1 - detectors / 2) * spacing
                    part = clip(pixel, direction, upper)
                    part = clip(part, (-direction[0], -direction[1]), spacing - upper)
                    expected[i, j, row, column] = area(part) / spacing if part else 0
    torch.testing.assert_close(
        operator.matrix().reshape(expected.shape), expected, atol=1e-9, rtol=0
    )


def test_rectangle():
    # all ones: the trapezoid of the whole rectangle, averaged over each strip
    height, width = 9, 14
    operator = Radon((1, height, width), ANGLES)
    y = operator(torch.ones(1, height, width, dtype=torch.float64))[0]
    detectors = y.shape[-1]
    fine = (np.arange(detectors * 4000) + 0.5) / 4000 - detectors / 2
    for i, angle in enumerate(ANGLES):
        a, b = (
            width * abs(math.cos(math.radians(angle))),
            height * abs(math.sin(math.radians(angle))),
        )
        high = height * width / max(a, b)
        line = high * np.clip(((a + b) / 2 - np.abs(fine)) / max(min(a, b), 1e-12), 0, 1)
        expected = line.reshape(detectors, -1).mean(1)
        np.testing.assert_allclose(y[i].numpy(), expected, atol=2e-3 * high)


def disk(size: int, radius: float, centre: tuple[float, float] = (0, 0)) -> torch.Tensor:
    """Disk of value 1 with its centre (right, up) in pixels, covered shares of pixels."""
    fine = (torch.arange(16 * size, dtype=torch.float64) + 0.5) / 16 - size / 2
    right, up = fine - centre[0], -fine[:, None] - centre[1]
    inside = (right**2 + up**2 < radius**2).double()
    return inside.reshape(size, 16, size, 16).mean((1, 3))[None]


def test_disk():
    size, radius, centre = 48, 11.0, (6.0, 9.0)
    operator = Radon((1, size, size), ANGLES)
    y = operator(disk(size, radius, centre))[0].numpy()
    fine = (np.arange(y.shape[-1] * 100) + 0.5) / 100 - y.shape[-1] / 2
    for i, angle in enumerate(ANGLES):
        offset = centre[0] * math.cos(math.radians(angle)) + centre[1] * math.sin(
            math.radians(angle)
        )
        chord = 2 * np.sqrt(np.clip(radius**2 - (fine - offset) ** 2, 0, None))
        expected = chord.reshape(-1, 100).mean(1)
        error = np.abs(y[i] - expected)  # of a chord of 22 pixels
        strips = np.arange(len(expected)) - (len(expected) - 1) / 2
        edge = np.abs(np.abs(strips - offset) - radius) < 3  # which pixels blur
        assert error[~edge].max() < 0.25
        assert error.mean() < 0.08


def test_sums_along_rows_and_columns():
    x = normal(2, 5, 5)
    y = Radon((2, 5, 5), [0.0, 90.0], 5)(x)
    torch.testing.assert_close(y[:, 0], x.sum(-2))
    torch.testing.assert_close(y[:, 1], x.sum(-1).flip(-1))  # detectors count upwards


@pytest.mark.parametrize("spacing", [1.0, 0.7])
def test_every_angle_sees_the_whole_image(spacing):
    operator = Radon((3, 6, 9), 7, spacing=spacing)
    x = normal(4, 3, 6, 9)
    mass = operator(x).sum(-1) * spacing  # (4, 3, 7)
    torch.testing.assert_close(mass, x.sum((-2, -1))[..., None].expand_as(mass))
    assert operator.measurement_shape == (3, 7, math.ceil(math.hypot(6, 9) / spacing))


def test_fewer_detectors_see_the_middle():
    wide, narrow = Radon((1, 8, 8), 5), Radon((1, 8, 8), 5, 6)
    x = normal(1, 8, 8)
    missing = (wide.measurement_shape[-1] - 6) // 2
    torch.testing.assert_close(narrow(x), wide(x)[..., missing:-missing])


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (48, {"angles": 90}),
        (49, {"angles": 90, "spacing": 0.5}),
        (48, {"angles": np.linspace(0, 178, 90).tolist()[::-1]}),
        (48, {"angles": np.cumsum([1.0, 3.0] * 45).tolist()}),
    ],
)
def test_filtered_back_projection_of_a_disk(size, settings):
    operator = Radon((1, size, size), **settings)
    radius, centre = 14.0, (3.0, -4.0)
    view = operator.view(operator(disk(size, radius, centre)))
    assert view.shape[-3:] == operator.view_shape == (1, size, size)
    inner, outer = disk(size, radius - 3, centre) == 1, disk(size, radius + 3, centre) == 0
    assert view[inner].mean() == pytest.approx(1, abs=0.005)
    assert (view[inner] - 1).abs().max() < 0.05
    assert view[outer].abs().mean() < 0.02


def test_filtered_back_projection_is_linear_and_differentiable():
    operator = Radon((2, 7, 6), 5)
    y = normal(*operator.measurement_shape)
    jacobian = torch.func.jacrev(operator.view)(y)
    torch.testing.assert_close(jacobian, torch.func.jacfwd(operator.view)(y))
    torch.testing.assert_close(torch.tensordot(jacobian, y, y.ndim), operator.view(y))
    batch = normal(3, *operator.measurement_shape, seed=1)
    torch.testing.assert_close(torch.func.vmap(operator.view)(batch), operator.view(batch))
    assert operator.view(batch.float()).dtype == torch.float32


def test_a_missing_wedge_is_not_filled():
    full, limited = Radon((1, 20, 20), 60), Radon((1, 20, 20), list(range(0, 120, 3)))
    x = disk(20, 6)
    share = limited.view(limited(x)).sum() / full.view(full(x)).sum()
    assert 0.6 < share < 0.75  # two thirds of the half turn


def test_few_angles_lose_nothing_in_the_view():
    operator = Radon((1, 12, 12), 5)
    visible = torch.linalg.matrix_rank(operator.matrix())
    basis = torch.eye(math.prod(operator.measurement_shape), dtype=torch.float64)
    views = operator.view(basis.reshape(-1, *operator.measurement_shape)).flatten(1)
    assert torch.linalg.matrix_rank(views) == visible


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"angles": 0}, "`angles`: expected at least one angle, got 0"),
        ({"angles": []}, "`angles`"),
        ({"angles": [0.0, math.nan]}, "`angles`"),
        ({"angles": ["a"]}, "`angles`"),
        ({"angles": 3, "detectors": 0}, "`detectors`"),
        ({"angles": 3, "spacing": 0.0}, "`spacing`"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        Radon((1, 8, 8), **settings)


@pytest.mark.parametrize("shape", [(1, 8), (1, 4, 4, 4)])
def test_bad_signals(shape):
    with pytest.raises(ShapeError, match="`signal_shape`: expected"):
        Radon(shape, 4)


def test_size_limit_is_seen_before_the_work():
    with pytest.raises(UnsupportedError, match="`angles`: expected a matrix of at most"):
        Radon((1, 2000, 2000), 1000)


def test_agrees_with_deepinv():
    physics = pytest.importorskip("deepinv.physics")
    size, angles = 32, torch.arange(0, 180, 15.0)
    theirs = physics.Tomography(angles=angles, img_width=size, circle=False, normalize=False)
    ours = Radon((1, size, size), angles.tolist())
    axis = torch.linspace(-1, 1, size)
    x = torch.exp(-8 * ((axis - 0.2) ** 2 + (axis[:, None] + 0.3) ** 2))[None, None]
    y = theirs.A(x).transpose(-2, -1)  # deepinv: (B, C, detectors, angles)
    assert y.shape[1:] == ours.measurement_shape
    assert (ours(x) - y).norm() < 0.02 * y.norm()  # they rotate with bilinear interpolation


def test_repeated_angles_are_seen():
    once, thrice = (Radon((1, 8, 8), [0.0, 60.0, 120.0] * k) for k in (1, 3))
    x = normal(2, 1, 8, 8)
    torch.testing.assert_close(thrice.view(thrice(x)), once.view(once(x)))


def test_fine_detectors():
    operator = Radon((1, 6, 6), 4, spacing=0.1)
    area = operator(torch.ones(1, 1, 6, 6, dtype=torch.float64)).sum(-1) * 0.1
    torch.testing.assert_close(area, torch.full_like(area, 36.0))
