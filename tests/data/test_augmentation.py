"""Augmented scans: keys, and targets that agree with what the moved masks show."""

import math

import numpy as np
import pytest
import torch

from latens.data import Augmentation, PhantomSubjects, Scans
from latens.data.head_painting import HALF_FIELD
from latens.data.lesion_shape import lesion_targets
from latens.data.subjects import TARGETS
from latens.errors import ConfigError

SIZE = (52, 52, 52)
SPACING = np.full(3, 2 * HALF_FIELD / 52)
GEOMETRY = {"contrast": 0.0, "brightness": 0.0, "noise": 0.0}


@pytest.fixture(scope="module")
def batch():
    subjects = PhantomSubjects(SIZE, count=8, seed=2).load()
    return subjects[:], subjects.targets


def measured(scans, spacing=SPACING):
    return np.stack([lesion_targets(mask[0].numpy(), spacing) for mask in scans.lesion])


def change(augmentation, batch, passes=0, rows=None, seed=1):
    scans, targets = batch
    passes = [passes] * len(scans)
    return augmentation(
        scans, targets, SPACING, seed=seed, passes=passes, rows=rows or range(len(scans))
    )


def test_changes_are_keyed_by_seed_pass_and_row(batch):
    scans, targets = batch
    augmentation = Augmentation()
    first, moved = change(augmentation, batch)
    again, _ = change(augmentation, batch)
    torch.testing.assert_close(first.images, again.images, rtol=0, atol=0)
    part = scans[[5, 3]]
    alone, alone_targets = augmentation(
        part, targets[[5, 3]], SPACING, seed=1, passes=[0, 0], rows=[5, 3]
    )
    torch.testing.assert_close(alone.images, first.images[[5, 3]], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone_targets, moved[[5, 3]])
    for other in (change(augmentation, batch, passes=1), change(augmentation, batch, seed=2)):
        assert (other[0].images - first.images).abs().amax(dim=(1, 2, 3, 4)).min() > 0.5


def test_a_scan_that_a_batch_takes_twice_is_changed_twice(batch):
    """As the only scan of a small study would be."""
    scans, targets = batch
    twice, moved = Augmentation()(
        scans[[4, 4]], targets[[4, 4]], SPACING, seed=1, passes=[0, 1], rows=[4, 4]
    )
    assert (twice.images[0] - twice.images[1]).abs().amax() > 0.5
    assert (moved[0] - moved[1]).abs().amax() > 0.01


def test_every_scan_has_its_own_spacing(batch):
    scans, targets = batch
    own = np.stack([SPACING, 2 * SPACING, SPACING])
    rows = [0, 1, 2]
    mixed, moved = Augmentation(**GEOMETRY)(
        scans[rows], targets[rows], own, seed=1, passes=[0] * 3, rows=rows
    )
    for k in rows:
        alone, target = Augmentation(**GEOMETRY)(
            scans[[k]], targets[[k]], own[k], seed=1, passes=[0], rows=[k]
        )
        torch.testing.assert_close(mixed.images[[k]], alone.images, rtol=0, atol=1e-5)
        torch.testing.assert_close(moved[[k]], target)


@pytest.mark.parametrize(
    "settings",
    [
        {"mirror": 1.0, "turn": 0.0, "scale": 0.0, "shift": 0.0},
        {"mirror": 0.0, "turn": 30.0, "scale": 0.0, "shift": 0.0},
        {"mirror": 0.0, "turn": 0.0, "scale": 0.2, "shift": 0.0},
        {"mirror": 0.0, "turn": 0.0, "scale": 0.0, "shift": 15.0},
        {"mirror": 0.5, "turn": 20.0, "scale": 0.15, "shift": 10.0},
    ],
    ids=["mirror", "turn", "scale", "shift", "all"],
)
def test_targets_are_those_of_the_moved_mask(batch, settings):
    """Measured anew on the moved mask, they agree nearly as well as before the move."""
    scans, targets = batch
    moved, changed = change(Augmentation(**settings, **GEOMETRY), batch)
    before = np.abs(measured(scans) - targets.numpy()).max(axis=0)
    after = np.abs(measured(moved) - changed.numpy()).max(axis=0)
    # Masks that are interpolated lose some of their rim, a sixth of a square voxel per radius, and
    # land on whole voxels: half a voxel from where they should.
    slack = np.asarray([0.1, *[1 / 52] * 3, 0.05, 0.04, 0.04, 0.03])
    for name, error, bound in zip(TARGETS, after, before + slack, strict=True):
        assert error < bound, name
    stale = np.abs(measured(moved) - targets.numpy()).max(axis=0)
    assert (stale / (before + slack)).max() > 3, "it would fail if the targets had stayed"
    for name in ("sphericity", "elongation", "flatness"):
        k = TARGETS.index(name)
        torch.testing.assert_close(changed[:, k], targets[:, k], rtol=0, atol=0)


def test_mirroring_is_exact(batch):
    scans, targets = batch
    mirrored, changed = change(
        Augmentation(mirror=1.0, turn=0.0, scale=0.0, shift=0.0, **GEOMETRY), batch
    )
    torch.testing.assert_close(mirrored.images, scans.images.flip(4), rtol=0, atol=1e-3)
    assert (mirrored.lesion == scans.lesion.flip(4)).float().mean() > 0.9999
    sign = torch.tensor([1, 1, 1, -1, 1, 1, 1, 1.0])
    torch.testing.assert_close(changed, targets * sign)


def test_voxels_that_are_no_cubes_keep_angles(batch):
    """A turn is one in millimetres, also where the grid is finer along one axis."""
    size = (44, 30, 36)
    subjects = PhantomSubjects(size, count=6, seed=2).load()
    spacing = 2 * HALF_FIELD / np.asarray(size)
    moved, changed = Augmentation(mirror=0.0, turn=40.0, scale=0.0, shift=0.0, **GEOMETRY)(
        subjects[:], subjects.targets, spacing, seed=4, passes=[0] * 6, rows=range(6)
    )
    error = np.abs(measured(moved, spacing) - changed.numpy())
    assert error[:, 1:4].max() < 0.03
    assert error[:, 0].max() < 0.2


def test_intensities_stay_within_the_brain_and_move_no_target(batch):
    scans, targets = batch
    changed, same = change(
        Augmentation(mirror=0.0, turn=0.0, scale=0.0, shift=0.0, contrast=0.3), batch
    )
    torch.testing.assert_close(same, targets, rtol=1e-6, atol=1e-6)
    assert (changed.brain == scans.brain).float().mean() > 0.9999
    assert (changed.images[:, :, 0, 0, 0] == 0).all()
    spread = torch.stack(
        [
            image[:, brain[0]].std(1)
            for image, brain in zip(changed.images, changed.brain, strict=True)
        ]
    )
    assert 0.15 < spread.log().std() < 0.5, "log a has the standard deviation 0.3"


def test_a_lesion_at_the_border_is_not_cut():
    lesion = torch.zeros(2, 1, 20, 20, 20, dtype=torch.bool)
    lesion[0, :, :4, 8:12, 8:12] = True
    lesion[1, :, 8:12, 8:12, 8:12] = True
    scans = Scans(torch.randn(2, 1, 20, 20, 20), torch.ones_like(lesion), lesion)
    targets = torch.from_numpy(
        np.stack([lesion_targets(mask[0].numpy(), np.ones(3)) for mask in lesion])
    )
    # Several passes, since half of all shifts lead away from the border.
    kept = []
    for number in range(8):
        moved, changed = Augmentation(mirror=0.0, turn=0.0, scale=0.0, shift=6.0, **GEOMETRY)(
            scans, targets, np.ones(3), seed=0, passes=[number, number], rows=[0, 1]
        )
        volumes = moved.lesion.sum(dim=(1, 2, 3, 4)).double().log()
        assert (volumes - changed[:, 0]).abs().max() < 0.35, "smoothed, not cut"
        kept.append(torch.allclose(changed[0], targets[0], rtol=0, atol=1e-9))
    assert any(kept)
    assert not all(kept)


def test_unknown_targets_stay_unknown(batch):
    scans, targets = batch
    unknown = targets.clone()
    unknown[0] = math.nan
    unknown[1, 0] = -math.inf
    _, changed = change(Augmentation(), (scans, unknown))
    assert changed[0].isnan().all()
    assert changed[1, 0] == -math.inf


@pytest.mark.parametrize(
    "wrong", [{"mirror": 1.5}, {"turn": 120.0}, {"shift": -1.0}, {"scale": 2.0}]
)
def test_changes_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match="augmentation"):
        Augmentation(**wrong)
