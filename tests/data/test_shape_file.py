"""Volumes of an npz file as scans, and AdrenalMNIST3D where it is at hand."""

import numpy as np
import pytest
import torch

from latens.data import ShapeFile
from latens.data.lesion_shape import lesion_targets
from latens.errors import ConfigError, ShapeError


def balls(path, counts=(3, 1, 2), size=16):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        centre = rng.uniform(6, 9, (count, 1, 1, 1, 3))
        radius = rng.uniform(2.5, 5, (count, 1, 1, 1))
        inside = np.linalg.norm(grid - centre, axis=-1) < radius
        arrays[f"{split}_images"] = (255 * inside).astype(np.uint8)
        arrays[f"{split}_labels"] = np.zeros((count, 1), dtype=np.uint8)
    np.savez_compressed(path, **arrays)
    return np.concatenate([arrays[f"{s}_images"] for s in ("train", "val", "test")]) > 0


def test_shapes_are_scans_of_one_channel(tmp_path):
    masks = balls(tmp_path / "balls.npz")
    shapes = ShapeFile(str(tmp_path / "balls.npz"), spacing=2.0).load()
    assert shapes.names == (
        "train0000",
        "train0001",
        "train0002",
        "val0000",
        "test0000",
        "test0001",
    )
    assert shapes.splits == ("train",) * 3 + ("val",) + ("test",) * 2
    assert shapes.select([4, 1]).splits == ("test", "train")
    scans = shapes[[4, 1]]
    np.testing.assert_array_equal(scans.images[:, 0].numpy(), masks[[4, 1]].astype(np.float32))
    np.testing.assert_array_equal(scans.lesion[:, 0].numpy(), masks[[4, 1]])
    assert scans.brain.all()
    expected = [lesion_targets(mask, np.full(3, 2.0)) for mask in masks]
    np.testing.assert_allclose(shapes.targets, np.stack(expected), rtol=1e-6)
    assert shapes.identity == ShapeFile(str(tmp_path / "balls.npz"), spacing=2.0).load().identity
    assert shapes.identity != ShapeFile(str(tmp_path / "balls.npz")).load().identity


def test_blocks_keep_place_and_targets(tmp_path):
    masks = balls(tmp_path / "balls.npz")
    fine = ShapeFile(str(tmp_path / "balls.npz")).load()
    coarse = ShapeFile(str(tmp_path / "balls.npz"), block=4, limit=4).load()
    assert coarse.shape == (1, 4, 4, 4)
    torch.testing.assert_close(coarse.targets, fine.targets[:4])
    averaged = masks[0].reshape(4, 4, 4, 4, 4, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse[[0]].images[0, 0], averaged, atol=1e-6)
    corner = coarse.affines[0] @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner, fine.affines[0] @ [1.5, 1.5, 1.5, 1])


def test_files_and_settings_that_cannot_be(tmp_path):
    path = tmp_path / "flat.npz"
    flat = np.zeros((2, 8, 8), dtype=np.uint8)
    np.savez(
        path,
        **{
            f"{s}_{k}": flat if k == "images" else np.zeros((2, 1), dtype=np.uint8)
            for s in ("train", "val", "test")
            for k in ("images", "labels")
        },
    )
    with pytest.raises(ShapeError, match="volumes"):
        ShapeFile(str(path)).load()
    with pytest.raises(ConfigError, match="spacing"):
        ShapeFile(str(path), spacing=0.0)


def test_adrenal_glands(shared_data):
    path = shared_data / "medmnist" / "adrenalmnist3d_64.npz"
    if not path.is_file():
        pytest.skip(f"real data absent: no {path}")
    shapes = ShapeFile(str(path), block=2, limit=24).load()
    assert shapes.shape == (1, 32, 32, 32)
    images = shapes[:].images
    torch.testing.assert_close(
        8 * images, (8 * images).round(), msg="means of eight zeros and ones"
    )
    assert shapes.targets.isfinite().all()
    assert shapes.target("sphericity").max() < 0.8, "glands are no balls"
    assert shapes.target("volume").std() > 0.1
