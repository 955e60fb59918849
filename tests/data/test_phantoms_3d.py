"""Phantoms in three axes: looks, factors, lesions, and painting inside windows."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from latens.data import Phantoms, phantoms
from latens.data.anatomy import LIVER, NAMES, ORGANS, draw_anatomy, factors
from latens.data.phantoms import paint

SIZE = (24, 28, 32)


@pytest.fixture(scope="module")
def volumes():
    return Phantoms(SIZE, count=24, seed=2).load()


def test_volumes_show_a_body_on_air_all_along(volumes):
    x = volumes.x[:, 0]
    assert volumes.x.shape == (24, 1, *SIZE)
    assert 0 <= x.min() < 0.01
    assert 0.8 < x.max() <= 1
    corners = x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 0.01, "air around the body"
    inside = x[:, :, 10:18, 10:22]
    assert inside.amin(dim=(2, 3)).min() > 0.05, "no gap along the body"


def test_the_spine_runs_inside_the_body():
    """What is drawn beside muscle and viscera lies within the body in every slice."""
    anatomy = draw_anatomy(0, 32, 3)
    flat = np.full_like(anatomy.level, 0.5)
    plain = dataclasses.replace(
        anatomy, level=flat, lesions=0 * anatomy.lesions, texture=0 * anatomy.texture
    )
    everything = paint(plain, SIZE)
    axes = plain.axes.copy()
    axes[:, 1:] = 1e-3
    body = paint(dataclasses.replace(plain, axes=axes), SIZE)
    assert (everything - body).max() < 0.15, "at most a share of a pixel at the skin"
    assert body.max() == pytest.approx(0.5)


def test_volumes_depend_on_seed_and_number_alone(volumes):
    few = Phantoms(SIZE, count=3, seed=2).load()
    torch.testing.assert_close(few.x, volumes.x[:3], rtol=0, atol=0)
    for name, values in few.factors.items():
        np.testing.assert_array_equal(values, volumes.factors[name][:3])
    other = Phantoms(SIZE, count=3, seed=3).load()
    assert (few.x - other.x).abs().amax(dim=(1, 2, 3, 4)).min() > 0.1


def test_windows_leave_nothing_out(monkeypatch):
    """Painting only near an organ gives the bits of painting everywhere."""
    for size in (SIZE, (20, 36), (16, 16, 17)):
        anatomy = draw_anatomy(5, 12, len(size))
        near = paint(anatomy, size)
        everywhere = tuple(slice(0, n) for n in size)
        with monkeypatch.context() as patch:
            patch.setattr(phantoms, "_window", lambda *_, whole=everywhere: whole)
            np.testing.assert_array_equal(paint(anatomy, size), near)
        assert near.std() > 0.1


def test_factors_have_three_coordinates(volumes):
    known = volumes.factors
    for name in ("liver_centre", "liver_axes", "body_axes"):
        assert known[name].shape == (24, 3)
        assert (known[name].std(axis=0) > 0).all()
    assert set(known["lesions"].tolist()) == {0, 1, 2, 3}


def test_liver_centre_and_axes_are_found_in_the_volume():
    size = (64, 64, 64)
    drawn = draw_anatomy(5, 6, 3)
    known = factors(drawn)
    axes = drawn.axes.copy()
    axes[:, [e for e in range(len(ORGANS)) if e != LIVER]] = 1e-3
    level = np.zeros_like(drawn.level)
    level[:, LIVER] = 0.5
    liver = paint(
        dataclasses.replace(
            drawn, axes=axes, level=level, lesions=0 * drawn.lesions, texture=0 * drawn.texture
        ),
        size,
    )
    places = [(2 * np.arange(n) + 1) / n - 1 for n in size]
    points = np.stack(np.meshgrid(*places, indexing="ij"))
    for i, image in enumerate(liver):
        weight = image / image.sum()
        centre = (points * weight).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(centre, known["liver_centre"][i], atol=0.01)
        depth = ((points[0] - centre[0]) ** 2 * weight).sum()
        # A filled ellipsoid has the second moment a²/5 along each of its axes.
        assert depth == pytest.approx(known["liver_axes"][i, 0] ** 2 / 5, rel=0.02)


def test_lesions_lie_inside_the_liver_at_different_depths():
    anatomy = draw_anatomy(0, 400, 3)
    liver, axes = anatomy.centre[:, None, LIVER], anatomy.axes[:, None, LIVER]
    depth = (anatomy.lesion_centre - liver)[..., 0] / axes[..., 0]
    assert 0.15 < depth.std() < 0.25
    cosine, sine = np.cos(anatomy.angle[:, LIVER, None]), np.sin(anatomy.angle[:, LIVER, None])
    down, across = (anatomy.lesion_centre - liver)[..., 1], (anatomy.lesion_centre - liver)[..., 2]
    local = np.stack([cosine * down + sine * across, cosine * across - sine * down], axis=-1)
    distance = np.sqrt((local**2 / axes[..., 1:] ** 2).sum(-1) + depth**2)
    size = (anatomy.lesion_axes / axes.min(axis=-1, keepdims=True)).max(axis=-1)
    assert (distance + size).max() < 1


def test_names_of_the_parts_that_run_through():
    through = {organ.name for organ in ORGANS if organ.length == 3}
    assert through == {"body", "muscle", "aorta", "vertebra", "process", "canal"}
    assert through < set(NAMES)


def test_a_study_of_volumes_is_drawn_quickly():
    start = time.process_time()
    Phantoms((32, 32, 32), count=60).load()
    assert time.process_time() - start < 4  # 0.3 s where it was measured
