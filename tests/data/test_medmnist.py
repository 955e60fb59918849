import numpy as np
import pytest
import torch

from latens.data import MedMnist
from latens.errors import ConfigError, DataError, LatensError, ShapeError

COUNTS = {"train": 4, "val": 2, "test": 3}


def arrays(shape=(6, 5), seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    content = {}
    for split, count in COUNTS.items():
        content[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        content[f"{split}_labels"] = rng.integers(0, 3, (count, 1), dtype=np.uint8)
    return content


def write(path, content) -> str:
    np.savez(path, **content)
    return str(path)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (4, 6, 5)])
def test_splits_are_pooled_with_the_channel_axis_first(tmp_path, shape):
    content = arrays(shape)
    images = MedMnist(write(tmp_path / "set.npz", content)).load()
    pool = np.concatenate([content[f"{split}_images"] for split in COUNTS])
    coloured = len(shape) == 3 and shape[-1] == 3
    pool = pool.transpose(0, 3, 1, 2) if coloured else pool[:, None]
    torch.testing.assert_close(images.x, torch.from_numpy(np.ascontiguousarray(pool)) / 255)
    labels = np.concatenate([content[f"{split}_labels"] for split in COUNTS])
    assert images.labels == tuple(labels[:, 0].tolist())
    assert images.name == "set"
    assert "MedMNIST" in images.citation


@pytest.mark.parametrize("limit", [1, 4, 5, 8, 9, 50])
def test_limit_takes_the_first_images_of_the_pool(tmp_path, limit):
    path = write(tmp_path / "set.npz", arrays())
    whole, part = MedMnist(path).load(), MedMnist(path, limit=limit).load()
    torch.testing.assert_close(part.x, whole.x[:limit])
    assert whole.labels is not None
    assert part.labels == whole.labels[:limit]


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (4, 6, 8)])
def test_blocks_are_averaged(tmp_path, shape):
    path = write(tmp_path / "set.npz", arrays(shape))
    fine, coarse = MedMnist(path).load().x, MedMnist(path, block=2).load().x
    spatial = fine.shape[2:]
    split = fine.reshape(*fine.shape[:2], *[n for size in spatial for n in (size // 2, 2)])
    expected = split.mean(dim=tuple(range(3, 3 + 2 * len(spatial), 2)))
    torch.testing.assert_close(coarse, expected)
    torch.testing.assert_close(MedMnist(path, limit=5, block=2).load().x, expected[:5])


def test_blocks_must_divide_the_images(tmp_path):
    path = write(tmp_path / "set.npz", arrays((6, 5)))
    with pytest.raises(ShapeError, match=r"set\.npz.*multiples of `block`"):
        MedMnist(path, block=2).load()
    with pytest.raises(ConfigError, match="block"):
        MedMnist(path, block=0)


def test_several_labels_per_image_stay_together(tmp_path):
    content = arrays()
    for split, count in COUNTS.items():
        content[f"{split}_labels"] = np.arange(count * 2).reshape(count, 2)
    images = MedMnist(write(tmp_path / "set.npz", content)).load()
    assert images.labels is not None
    assert images.labels[:2] == ((0, 1), (2, 3))


def without(name):
    content = arrays()
    del content[name]
    return content


BAD = {
    "missing array": (without("val_images"), DataError),
    "floats": ({**arrays(), "train_images": np.ones((4, 6, 5))}, DataError),
    "objects": ({**arrays(), "val_labels": np.array([{}, []], dtype=object)}, DataError),
    "rank": ({**arrays(), "train_images": np.ones((4, 6), dtype=np.uint8)}, ShapeError),
    "shapes": ({**arrays(), "test_images": np.ones((3, 6, 6), dtype=np.uint8)}, ShapeError),
    "labels": ({**arrays(), "test_labels": np.ones((2, 1), dtype=np.uint8)}, ShapeError),
    "text": ({**arrays(), "test_labels": np.array(["a", "b", "c"])}, ShapeError),
    "empty": ({**arrays(), "test_images": np.ones((0, 6, 5), dtype=np.uint8)}, DataError),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_refused_by_name(tmp_path, case):
    content, error = BAD[case]
    path = write(tmp_path / "set.npz", content)
    with pytest.raises(error, match=r"set\.npz"):
        MedMnist(path).load()


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_truncated_files_are_refused(tmp_path, keep):
    path = tmp_path / "set.npz"
    write(path, arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"set\.npz"):
        MedMnist(str(path)).load()


def test_constructor_checks_settings_but_touches_no_file():
    source = MedMnist("nowhere.npz")
    with pytest.raises(LatensError, match=r"nowhere\.npz"):
        source.load()
    with pytest.raises(ConfigError, match="limit"):
        MedMnist("nowhere.npz", limit=-1)


def test_breast_ultrasound(shared_data):
    images = MedMnist(str(shared_data / "medmnist" / "BreastMNIST.npz")).load()
    assert images.x.shape == (780, 1, 28, 28)
    assert set(images.labels or ()) == {0, 1}
    assert 0.2 < images.x.mean() < 0.5


def test_adrenal_volumes(shared_data):
    path = shared_data / "medmnist" / "adrenalmnist3d_64.npz"
    images = MedMnist(str(path), limit=3, block=4).load()
    assert images.x.shape == (3, 1, 16, 16, 16)
    shares = 64 * images.x  # of voxels that are 0 or 1
    torch.testing.assert_close(shares, shares.round())
    assert len(shares.unique()) > 10
