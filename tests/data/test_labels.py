"""Draws of labelled images, the digits of scikit-learn, and sprites."""

import numpy as np
import pytest
import torch
from matplotlib.image import imsave

from latens.data import Digits, Sprite, labelled_rows
from latens.errors import ConfigError, DataError, ShapeError

LABELS = np.repeat([2, 0, 1], [50, 30, 20])


@pytest.mark.parametrize("count", [3, 12, 31])
def test_balanced_draws(count):
    rows = labelled_rows(LABELS, count, "balanced", 0)
    assert len(set(rows.tolist())) == count
    counts = [int((LABELS[rows] == k).sum()) for k in range(3)]
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("draw", ["balanced", "random"])
def test_fewer_labels_are_among_more(draw):
    few, many = (set(labelled_rows(LABELS, n, draw, 3).tolist()) for n in (12, 30))
    assert few < many
    assert few != set(labelled_rows(LABELS, 12, draw, 4).tolist())


def test_random_draws_have_the_classes_of_the_set():
    counts = np.zeros(3)
    for seed in range(400):
        counts += np.bincount(LABELS[labelled_rows(LABELS, 10, "random", seed)], minlength=3)
    expected = 4000 * np.array([0.3, 0.2, 0.5])
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("count", "draw"), [(0, "random"), (101, "random"), (63, "balanced")])
def test_too_many_labels(count, draw):
    with pytest.raises(ConfigError, match="labels"):
        labelled_rows(LABELS, count, draw, 0)


def test_digits():
    images = Digits().load()
    assert images.x.shape == (1797, 1, 8, 8)
    assert set(images.labels) == set(range(10))
    assert float(images.x.min()) == 0
    assert float(images.x.max()) == 1
    # class means are far apart: the labels belong to the images
    labels = np.array(images.labels)
    means = torch.stack([images.x[labels == k].mean(0) for k in range(10)])
    nearest = torch.cdist(images.x.flatten(1), means.flatten(1)).argmin(1).numpy()
    assert (nearest == labels).mean() > 0.85
    assert len(Digits(limit=5).load()) == 5


def test_a_sprite_is_cut_row_by_row(tmp_path):
    tiles = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    picture = np.kron(tiles, np.ones((4, 4), np.uint8))
    imsave(tmp_path / "s.png", np.stack([picture] * 3, -1))
    images = Sprite(str(tmp_path / "s.png"), edge=4).load()
    assert images.x.shape == (6, 1, 4, 4)
    expected = torch.arange(6.0)[:, None, None, None] * 40 / 255
    torch.testing.assert_close(images.x, expected.expand(6, 1, 4, 4), atol=1e-6, rtol=0)
    assert len(Sprite(str(tmp_path / "s.png"), edge=4, limit=2).load()) == 2
    with pytest.raises(ShapeError, match="multiples of 5"):
        Sprite(str(tmp_path / "s.png"), edge=5).load()


def test_what_is_no_sprite(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Sprite(str(tmp_path / "none.png")).load()
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match="a PNG file"):
        Sprite(str(tmp_path / "bad.png")).load()
    with pytest.raises(ConfigError, match="edge"):
        Sprite("x.png", edge=0)


def test_fashion_as_images_of_another_kind(shared_data):
    images = Sprite(str(shared_data / "fashion_mnist" / "fashion-mnist-sprite.png")).load()
    assert images.x.shape == (900, 1, 28, 28)
    assert 0.1 < float(images.x.mean()) < 0.6
