"""Tiles of large images: what is cut, scaled, dropped and grouped."""

from collections import Counter

import numpy as np
import pytest
import torch

from latens.data import Tiles
from latens.errors import ConfigError, DataError, LatensError, ShapeError


def slice_(seed: int, shape=(96, 80)) -> np.ndarray:
    """A disc of texture on a dark background, in arbitrary units."""
    rng = np.random.default_rng(seed)
    h, w = shape
    y, x = np.mgrid[:h, :w]
    disc = ((y - h / 2) / (0.45 * h)) ** 2 + ((x - w / 2) / (0.45 * w)) ** 2 < 1
    return 100.0 * (seed + 1) * disc * rng.uniform(0.3, 1, shape)


@pytest.fixture
def folder(tmp_path):
    for seed, shape in enumerate([(96, 80), (64, 64), (130, 90)]):
        np.save(tmp_path / f"s{seed}.npy", slice_(seed, shape))
    np.save(tmp_path / "mask.npy", np.ones((8, 8)))
    return tmp_path


FILES = ["s0.npy", "s1.npy", "s2.npy"]


def test_tiles_are_parts_of_the_scaled_images_and_grouped_by_file(folder):
    images = Tiles(str(folder), files=FILES, size=(32, 16), content=0).load()
    assert images.x.shape == (3 * 5 + 2 * 4 + 4 * 5, 1, 32, 16)
    assert Counter(images.groups) == {"s0.npy": 15, "s1.npy": 8, "s2.npy": 20}
    assert images.data_range == (0, 1)
    whole = np.load(folder / "s0.npy")
    low, high = np.percentile(whole, (0.1, 99.9))
    scaled = torch.from_numpy(np.clip((whole - low) / (high - low), 0, 1)).float()
    tiles = images.x[:15, 0].reshape(3, 5, 32, 16).permute(0, 2, 1, 3).reshape(96, 80)
    torch.testing.assert_close(tiles, scaled)
    assert images.x[-20:].max() == 1, "every file has its own range"


def test_a_stated_window_is_used_for_all_files(folder):
    images = Tiles(str(folder), files=FILES, size=(32, 16), window=(50, 250), content=0).load()
    whole = np.load(folder / "s0.npy")
    expected = np.clip((whole[:32, :16] - 50) / 200, 0, 1)
    np.testing.assert_allclose(images.x[0, 0].numpy(), expected, atol=1e-6)


def test_what_is_left_over_is_shared_between_the_ends(folder):
    images = Tiles(str(folder), files=["s2.npy"], size=(60, 40), content=0).load()
    whole = Tiles(str(folder), files=["s2.npy"], size=(130, 90), content=0).load().x[0]
    torch.testing.assert_close(images.x[0], whole[:, 5:65, 5:45])
    torch.testing.assert_close(images.x[3], whole[:, 65:125, 45:85])


def test_stride_makes_tiles_overlap(folder):
    images = Tiles(str(folder), files=["s1.npy"], size=(32, 32), stride=16, content=0).load()
    assert len(images) == 9
    torch.testing.assert_close(images.x[0, :, 16:], images.x[3, :, :16])
    assert set(images.groups) == {"s1.npy"}


def test_blank_tiles_are_dropped_by_their_share(folder):
    everything = Tiles(str(folder), files=FILES, size=(16, 16), content=0).load()
    kept = Tiles(str(folder), files=FILES, size=(16, 16), content=0.5).load()
    share = (everything.x > 0.1).float().mean(dim=(1, 2, 3))
    assert 0 < len(kept) < len(everything)
    torch.testing.assert_close(kept.x, everything.x[share >= 0.5])
    with pytest.raises(DataError, match="content"):
        Tiles(str(folder), files=FILES, size=(64, 64), window=(1e6, 1e7)).load()


@pytest.mark.parametrize("block", [1, 2])
def test_regions_share_no_pixel(tmp_path, block):
    """Every pixel is numbered, so that what two tiles share can be seen."""
    shape = (96, 88)
    numbers = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    np.save(tmp_path / "a.npy", np.kron(numbers, np.ones((block, block))))
    source = Tiles(
        str(tmp_path),
        size=(16, 16),
        stride=4,
        region=32,
        block=block,
        window=(0, float(numbers.max())),
        content=0,
    )
    images = source.load()
    seen: dict[int, set[str]] = {}
    for tile, group in zip(images.x, images.groups, strict=True):
        for number in (tile * numbers.max()).round().flatten().long().tolist():
            seen.setdefault(number, set()).add(group)
    assert max(len(groups) for groups in seen.values()) == 1
    counts = Counter(images.groups)
    assert set(counts.values()) == {25}
    assert len(counts) == 6
    assert len(seen) == 6 * 32 * 32


def test_region_of_one_tile_makes_every_tile_a_group(folder):
    images = Tiles(str(folder), files=FILES, size=(16, 16), region=16, content=0).load()
    assert len(set(images.groups)) == len(images)


def test_limit_spreads_over_the_files(folder):
    whole = Tiles(str(folder), files=FILES, size=(16, 16)).load()
    part = Tiles(str(folder), files=FILES, size=(16, 16), limit=9).load()
    assert len(part) == 9
    assert len(set(part.groups)) == 3
    same = (part.x[:, None] == whole.x[None]).all(dim=(2, 3, 4))
    assert same.any(dim=1).all()


def test_channels_are_kept_and_must_agree(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([slice_(0), slice_(1)]))
    assert Tiles(str(tmp_path), size=(32, 32)).load().x.shape[1] == 2
    np.save(tmp_path / "b.npy", slice_(2))
    with pytest.raises(ShapeError, match=r"b\.npy.*2 channels"):
        Tiles(str(tmp_path), size=(32, 32)).load()


BAD_FILES = {
    "too small": (np.ones((10, 40)), "one tile"),
    "volume": (np.ones((1, 40, 40, 40)), "one slice per file"),
    "NaN": (np.full((40, 40), np.nan), "finite"),
    "complex": (np.ones((40, 40), complex), "real numbers"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_do_not_fit_are_named(tmp_path, case):
    array, fragment = BAD_FILES[case]
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(LatensError, match=rf"bad\.npy.*{fragment}"):
        Tiles(str(tmp_path), size=(32, 32)).load()


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("size", {"size": (0, 8)}),
        ("stride", {"stride": 0}),
        ("block", {"block": 0}),
        ("region", {"region": 63}),
        ("window", {"window": (1.0, 1.0)}),
        ("content", {"content": 1.5}),
        ("limit", {"limit": 0}),
    ],
)
def test_bad_settings_are_refused(argument, changes):
    with pytest.raises(ConfigError) as caught:
        Tiles("nowhere", **changes)
    assert caught.value.argument == argument


def test_unknown_files_are_named(folder):
    with pytest.raises(ConfigError, match=r"s9\.npy.*s0\.npy"):
        Tiles(str(folder), files=["s0.npy", "s9.npy"]).load()
    with pytest.raises(DataError, match="no such folder"):
        Tiles("nowhere").load()


def test_real_slices(shared_data):
    names = ["CT0.npy", "CT1.npy", "MR2.npy", "example_mri_ref_image_2d.npy"]
    folder = str(shared_data / "slices")
    images = Tiles(folder, files=names, stride=32, region=128).load()
    assert len(images) > 150
    assert {group.split()[0] for group in images.groups} == set(names)
    assert len(set(images.groups)) > 30
    assert max(Counter(images.groups).values()) <= 9
    assert (images.x.std(dim=(1, 2, 3)) > 0.01).float().mean() > 0.95
