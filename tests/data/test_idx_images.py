import gzip
import struct

import numpy as np
import pytest
import torch

from latens.data import IdxImages
from latens.errors import ConfigError, DataError, LatensError, ShapeError


def packed(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 4, 5), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    """Five training and two test images, one file packed and one not, with labels."""
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(packed(pixels[5:]))
    train = gzip.compress(packed(pixels[:5]))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(train)
    labels = np.arange(7, dtype=np.uint8)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(packed(labels[5:])))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(packed(labels[:5]))
    return tmp_path


def test_folder_is_one_pool_with_training_images_first(folder, pixels):
    images = IdxImages(str(folder), citation="me").load()
    torch.testing.assert_close(images.x, torch.from_numpy(pixels)[:, None] / 255)
    assert images.data_range == (0.0, 1.0)
    assert images.labels == tuple(range(7))
    assert images.name == folder.name
    assert images.citation == "me"


@pytest.mark.parametrize("limit", [1, 5, 6, 7, 100])
def test_limit_takes_the_first_images_of_the_pool(folder, pixels, limit):
    images = IdxImages(str(folder), limit=limit).load()
    assert len(images) == min(limit, 7)
    torch.testing.assert_close(images.x[:, 0] * 255, torch.from_numpy(pixels[:limit]).float())
    assert images.labels == tuple(range(7))[:limit]


def test_one_file_with_its_labels(folder, pixels):
    file = str(folder / "t10k-images-idx3-ubyte")
    for labels in (None, str(folder), str(folder / "t10k-labels-idx1-ubyte.gz")):
        images = IdxImages(file, labels=labels).load()
        assert images.labels == (5, 6)
        assert images.name == "t10k"
        torch.testing.assert_close(images.x[:, 0] * 255, torch.from_numpy(pixels[5:]).float())


def test_a_file_that_lies_there_twice_is_read_once(folder, pixels):
    (folder / "train-images-idx3-ubyte").write_bytes(packed(pixels[:5]))
    assert len(IdxImages(str(folder)).load()) == 7


def test_no_labels_where_one_file_of_them_is_missing(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    assert IdxImages(str(folder)).load().labels is None
    with pytest.raises(DataError, match="train-labels"):
        IdxImages(str(folder), labels=str(folder)).load()


WHOLE = packed(np.arange(40, dtype=np.uint8).reshape(2, 4, 5))
BAD = {
    "empty": ("a-images", b""),
    "short header": ("a-images", WHOLE[:9]),
    "a web page": ("a-images", b"<!DOCTYPE html>"),
    "floats": ("a-images", packed(np.zeros((2, 4, 5), dtype=">f4"), kind=0x0D)),
    "labels": ("a-images", packed(np.zeros(9, dtype=np.uint8))),
    "truncated": ("a-images", WHOLE[:-1]),
    "too long": ("a-images", WHOLE + b"\0"),
    "no images": ("a-images", packed(np.zeros((0, 4, 5), dtype=np.uint8))),
    "truncated gzip": ("a-images.gz", gzip.compress(WHOLE)[:-12]),
    "gzip without its end": ("a-images.gz", gzip.compress(WHOLE)[:-1]),
    "damaged gzip": ("a-images.gz", gzip.compress(WHOLE)[:20] + b"\xff" * 30),
    "wrong check sum": ("a-images.gz", gzip.compress(WHOLE)[:-8] + b"\1" * 8),
    "not gzip": ("a-images.gz", WHOLE),
    "gzip of half a file": ("a-images.gz", gzip.compress(WHOLE[:-7])),
    "gzip of too much": ("a-images.gz", gzip.compress(WHOLE + b"\0")),
    "absurd sizes": ("a-images", b"\0\0\x08\x03" + b"\xff" * 12 + b"\1" * 50),
    "absurd sizes in gzip": ("a-images.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_refused_by_name(tmp_path, case):
    name, content = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        IdxImages(str(tmp_path / name)).load()
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_without_images_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match=path.name):
            IdxImages(str(path)).load()


def test_shapes_and_labels_must_fit(folder, pixels):
    with pytest.raises(ShapeError, match="label"):
        IdxImages(
            str(folder / "t10k-images-idx3-ubyte"), str(folder / "train-labels-idx1-ubyte")
        ).load()
    (folder / "t10k-images-idx3-ubyte").write_bytes(packed(pixels[5:, :3]))
    with pytest.raises(ShapeError, match="one shape"):
        IdxImages(str(folder)).load()


def test_constructor_checks_settings_but_touches_no_file():
    assert IdxImages("nowhere", limit=3).images == "nowhere"
    with pytest.raises(ConfigError, match="limit"):
        IdxImages("nowhere", limit=0)
    with pytest.raises(LatensError):
        IdxImages("nowhere").load()


def test_mnist(shared_data):
    images = IdxImages(str(shared_data / "mnist"), limit=60_010).load()
    assert images.x.shape == (60_010, 1, 28, 28)
    assert images.labels is not None
    assert images.labels[:5] == (5, 0, 4, 1, 9)
    assert images.labels[60_000:] == (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)
    assert float(images.x[:60_000].mean()) == pytest.approx(0.1307, abs=1e-4)
