import dataclasses
import math
import time

import numpy as np
import pytest
import scipy.ndimage
import torch

from latens.data import Phantoms
from latens.data.anatomy import LIVER, NAMES, ORGANS, draw_anatomy, factors
from latens.data.phantoms import paint
from latens.errors import ConfigError


def grid(size):
    centres = [(2 * np.arange(pixels) + 1) / pixels - 1 for pixels in size]
    return np.stack(np.meshgrid(*centres, indexing="ij"))  # (d, *size)


def without(anatomy, **changes):
    return dataclasses.replace(anatomy, **changes)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (16, 20, 24), (16, 16, 16, 16)])
def test_images_lie_in_the_unit_range_and_show_a_body_on_air(size):
    images = Phantoms(size, count=3).load()
    assert images.x.shape == (3, 1, *size)
    assert images.x.dtype == torch.float32
    assert images.data_range == (0.0, 1.0)
    assert 0 <= images.x.min() < 0.01
    assert 0.8 < images.x.max() <= 1
    assert images.citation


def test_image_depends_on_seed_and_number_alone():
    few, many = Phantoms(count=5, seed=3).load(), Phantoms(count=9, seed=3).load()
    torch.testing.assert_close(few.x, many.x[:5], rtol=0, atol=0)
    for name, values in few.factors.items():
        np.testing.assert_array_equal(values, many.factors[name][:5])
    other = Phantoms(count=5, seed=4).load()
    assert (few.x - other.x).abs().amax(dim=(1, 2, 3)).min() > 0.1


def test_painting_does_not_depend_on_the_blocks(monkeypatch):
    anatomy = draw_anatomy(0, 7, 2)
    whole = paint(anatomy, (32, 32))
    monkeypatch.setattr("latens.data.phantoms.PIXELS_PER_BLOCK", 3 * 32 * 32)
    np.testing.assert_array_equal(paint(anatomy, (32, 32)), whole)


def test_images_vary():
    x = Phantoms(count=200).load().x.flatten(1)
    share = torch.linalg.svdvals(x - x.mean(0)) ** 2
    effective = torch.exp(torch.special.entr(share / share.sum()).sum())
    assert effective > 15, "variation spreads over many directions"


def test_twelve_hundred_slices_are_quick():
    start = time.process_time()
    Phantoms().load()
    assert time.process_time() - start < 4  # 1.0 s where it was measured


class TestFactors:
    """Every factor is measured again in the painted image."""

    @pytest.mark.parametrize("size", [(96, 96), (96, 128), (48, 48, 48)])
    def test_lesion_number_and_area(self, size):
        anatomy = draw_anatomy(1, 24, len(size))
        known = factors(anatomy)
        lesions = paint(anatomy, size) - paint(without(anatomy, lesions=0 * anatomy.lesions), size)
        lesions = lesions / anatomy.lesion_contrast.reshape(-1, *[1] * len(size))
        found = [scipy.ndimage.label(lesion > 0.5)[1] for lesion in lesions]
        assert found == known["lesions"].tolist()
        assert set(found) == {0, 1, 2, 3}
        area = lesions.reshape(24, -1).mean(axis=1)
        np.testing.assert_allclose(area, known["lesion_area"], rtol=0.03, atol=1e-7)

    def test_lesion_area_is_right_on_average_at_the_default_size(self):
        anatomy = draw_anatomy(2, 200, 2)
        size = (32, 32)
        lesions = paint(anatomy, size) - paint(without(anatomy, lesions=0 * anatomy.lesions), size)
        area = (lesions / anatomy.lesion_contrast[:, None, None]).mean(axis=(1, 2))
        assert area.sum() == pytest.approx(factors(anatomy)["lesion_area"].sum(), rel=0.02)

    def test_liver_centre_axes_angle_and_contrast(self):
        # Only the liver is left on the fat around it, so that its moments can be taken.
        size = (128, 128)
        drawn = draw_anatomy(5, 16, 2)
        known = factors(drawn)
        level = np.where(
            np.arange(len(ORGANS)) == LIVER,
            drawn.level,
            drawn.level[:, [NAMES.index("viscera")]],
        )
        axes = drawn.axes.copy()
        later = np.arange(len(ORGANS)) > LIVER
        axes[:, later] = 1e-3
        plain = without(
            drawn, level=level, axes=axes, lesions=0 * drawn.lesions, texture=0 * drawn.texture
        )
        axes = plain.axes.copy()
        axes[:, LIVER] = 1e-3
        liver = paint(plain, size) - paint(without(plain, axes=axes), size)
        points = grid(size)
        for i, image in enumerate(liver):
            contrast = image.max()
            assert contrast == pytest.approx(known["liver_contrast"][i], abs=1e-5)
            weight = image / image.sum()
            centre = (points * weight).sum(axis=(1, 2))
            np.testing.assert_allclose(centre, known["liver_centre"][i], atol=0.01)
            offset = points - centre[:, None, None]
            moments = np.einsum("ihw,jhw,hw->ij", offset, offset, weight)
            a, b = known["liver_axes"][i]
            cosine, sine = math.cos(known["liver_angle"][i]), math.sin(known["liver_angle"][i])
            turn = np.array([[cosine, -sine], [sine, cosine]])
            # An ellipse of uniform weight has the second moment a²/4 along each of its axes.
            expected = turn @ np.diag([a**2 / 4, b**2 / 4]) @ turn.T
            np.testing.assert_allclose(moments, expected, rtol=0.02, atol=2e-4)

    def test_body_axes(self):
        size = (128, 128)
        anatomy = draw_anatomy(7, 16, 2)
        flat = without(
            anatomy,
            level=np.full_like(anatomy.level, 0.5),
            lesions=0 * anatomy.lesions,
            texture=0 * anatomy.texture,
        )
        # Bodies may reach over the edge of the field by their shift: compare the vertical extent.
        tall = paint(flat, size)[:, :, 56:72].max(axis=2).sum(axis=1) / 0.5 * (2 / 128)
        np.testing.assert_allclose(tall, 2 * factors(anatomy)["body_axes"][:, 0], atol=0.05)

    def test_texture_has_its_standard_deviation_and_its_band(self):
        size = (64, 64)
        anatomy = draw_anatomy(9, 64, 2)
        smooth = without(anatomy, texture=0 * anatomy.texture)
        texture = paint(anatomy, size) - paint(smooth, size)
        inside = texture[:, 24:32, 26:38]  # clear of air and bone
        ratio = (inside**2).mean(axis=(1, 2)) / factors(anatomy)["texture"] ** 2
        assert ratio.mean() == pytest.approx(1, abs=0.15)
        # Waves of at most 5 cycles over 64 pixels: neighbours hardly differ.
        step = np.diff(inside, axis=2)
        bound = 2 - 2 * math.cos(2 * math.pi * 5 / 64)
        assert 0 < (step**2).mean() / (inside**2).mean() < bound


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("size", {"size": (32,)}),
        ("size", {"size": (32, 8)}),
        ("count", {"count": 0}),
        ("seed", {"seed": -1}),
    ],
)
def test_bad_settings_are_refused(argument, changes):
    with pytest.raises(ConfigError) as caught:
        Phantoms(**changes)
    assert caught.value.argument == argument
