import os
import re

import numpy as np
import pytest
import torch

from latens.data import NpyFolder, PairedFolder
from latens.data.arrays import read_stored
from latens.data.folder import natural_key
from latens.errors import DataError, LatensError, ShapeError


def image(seed: int, shape=(6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        np.save(tmp_path / f"img{i}.npy", image(i))
    return tmp_path


@pytest.fixture
def paired(tmp_path):
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
    for i in range(4):
        np.save(tmp_path / "x" / f"{i}.npy", image(i))
        np.save(tmp_path / "y" / f"{i}.npy", image(100 + i, (2, 3)))
    return tmp_path


def write_groups(folder, rows, header="file,group") -> str:
    path = folder / "groups.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_files_are_read_in_natural_order(folder):
    images = NpyFolder(str(folder)).load()
    assert images.x.shape == (12, 1, 6, 5)
    for i in (2, 10, 11):
        expected = torch.from_numpy(image(i)).float()
        torch.testing.assert_close(images.x[i, 0], expected)


def test_natural_order():
    names = ["b", "img10", "img2", "img2b", "10", "9", "img02"]
    expected = ["9", "10", "b", "img02", "img2", "img2b", "img10"]
    assert sorted(names, key=natural_key) == expected


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 4, 6, 5)])
def test_further_axes_start_with_the_channel(tmp_path, shape):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", image(i, shape))
    assert NpyFolder(str(tmp_path)).load().signal_shape == shape


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float16", "float64", ">f4", ">i2"])
def test_real_types_are_read_as_float32(tmp_path, dtype):
    arrays = [np.rint(np.abs(image(i))).astype(dtype) for i in range(3)]
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", np.asfortranarray(array))
    images = NpyFolder(str(tmp_path)).load()
    np.testing.assert_array_equal(images.x[:, 0].numpy(), np.stack(arrays).astype(np.float32))


def test_range_is_that_of_the_pool_unless_given(folder):
    images = NpyFolder(str(folder)).load()
    assert images.data_range == (float(images.x.min()), float(images.x.max()))
    assert images.select([3]).data_range == images.data_range
    assert NpyFolder(str(folder), data_range=(-9, 9)).load().data_range == (-9.0, 9.0)
    with pytest.raises(DataError, match="data_range"):
        NpyFolder(str(folder), data_range=(0, 1)).load()


def test_limit_takes_the_first_files_and_their_groups(folder):
    write_groups(folder, [f"img{i}.npy,p{i // 3}" for i in range(12)])
    images = NpyFolder(str(folder), limit=4).load()
    assert len(images) == 4
    assert images.groups == ("p0", "p0", "p0", "p1")


def test_groups_may_lie_elsewhere_in_any_order(folder, tmp_path_factory):
    rows = [f" img{i}.npy , p{i % 2} ,ignored" for i in reversed(range(12))]
    table = write_groups(tmp_path_factory.mktemp("table"), rows, "\ufefffile,group,age")
    assert NpyFolder(str(folder), groups=table).load().groups == ("p0", "p1") * 6


def test_hidden_and_other_files_are_passed_over(folder):
    (folder / "._img0.npy").write_bytes(b"resource fork")
    (folder / "notes.txt").write_text("hello")
    assert len(NpyFolder(str(folder)).load()) == 12


def test_pairs_belong_together(paired):
    write_groups(paired, [f"{i}.npy,p{i}" for i in range(4)])
    images = PairedFolder(str(paired)).load()
    assert images.x.shape == (4, 1, 6, 5)
    assert images.y is not None
    assert images.y.shape == (4, 1, 2, 3)
    torch.testing.assert_close(images.y[3, 0], torch.from_numpy(image(103, (2, 3))).float())
    assert images.groups == ("p0", "p1", "p2", "p3")
    assert PairedFolder(str(paired), limit=2).load().y is not None
    assert images.data_range == (float(images.x.min()), float(images.x.max()))


@pytest.mark.parametrize(("extra", "other"), [("x", "y"), ("y", "x")])
def test_unmatched_names_are_named(paired, extra, other):
    np.save(paired / extra / "lonely.npy", image(1))
    with pytest.raises(DataError, match=r"lonely\.npy") as caught:
        PairedFolder(str(paired)).load()
    assert f"`{other}`" in str(caught.value)


def as_advised(error, z):
    """A complex array saved as the error says."""
    axis = re.search(r"np\.stack\(\[z\.real, z\.imag\], axis=(-\d)\)", str(error))
    return np.stack([z.real, z.imag], axis=int(axis[1]))


def test_complex_images_are_read_when_saved_as_the_error_says(tmp_path):
    z = image(0) + 1j * image(1)
    np.save(tmp_path / "z.npy", z)
    with pytest.raises(DataError) as caught:
        NpyFolder(str(tmp_path)).load()
    np.save(tmp_path / "z.npy", as_advised(caught.value, z))
    x = NpyFolder(str(tmp_path)).load().x
    assert x.shape == (1, 2, *z.shape)
    np.testing.assert_allclose(x[0].numpy(), [z.real, z.imag])


def test_a_file_of_many_complex_images_likewise(tmp_path):
    z = np.stack([image(k) + 1j * image(k + 9) for k in range(3)])
    file = tmp_path / "z.npy"
    np.save(file, z)
    with pytest.raises(DataError) as caught:
        read_stored(str(file))
    np.save(file, as_advised(caught.value, z))
    values = read_stored(str(file)).values
    assert values.shape == (3, 2, *z.shape[1:])
    np.testing.assert_allclose(values[2, 1], z[2].imag)


BAD_FILES = {
    "nan": (lambda p: np.save(p, np.full((6, 5), np.nan)), DataError),
    "infinite": (lambda p: np.save(p, np.full((6, 5), -np.inf)), DataError),
    "beyond float32": (lambda p: np.save(p, np.full((6, 5), 1e300)), DataError),
    "complex": (lambda p: np.save(p, np.ones((6, 5), dtype=complex)), DataError),
    "text": (lambda p: np.save(p, np.full((6, 5), "a")), DataError),
    "pickle": (lambda p: np.save(p, np.full((6, 5), None), allow_pickle=True), DataError),
    "record": (lambda p: np.save(p, np.ones((6, 5), dtype=[("a", "f4")])), DataError),
    "empty file": (lambda p: p.write_bytes(b""), DataError),
    "not npy": (lambda p: p.write_bytes(b"\x89PNG" * 9), DataError),
    "truncated": (lambda p: (np.save(p, image(0)), p.write_bytes(p.read_bytes()[:-9])), DataError),
    "folder": (lambda p: p.mkdir(), DataError),
    "pipe": (lambda p: os.mkfifo(p), DataError),
    "broken link": (lambda p: p.symlink_to("nowhere"), DataError),
    "rank 1": (lambda p: np.save(p, np.ones(30)), ShapeError),
    "rank 0": (lambda p: np.save(p, np.float64(3)), ShapeError),
    "no pixels": (lambda p: np.save(p, np.ones((0, 5))), LatensError),
    "other shape": (lambda p: np.save(p, image(0, (5, 6))), ShapeError),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_by_name(folder, case):
    write, error = BAD_FILES[case]
    write(folder / "img5_bad.npy")
    with pytest.raises(error, match="img5_bad") as caught:
        NpyFolder(str(folder)).load()
    assert "\n" not in str(caught.value)


ALL = [f"img{i}.npy,p" for i in range(12)]
BAD_TABLES = {
    "missing row": ("file,group", ALL[1:], r"img0\.npy"),
    "unknown file": ("file,group", [*ALL, "ghost.npy,p"], r"ghost\.npy"),
    "file twice": ("file,group", [*ALL, ALL[0]], "line 14"),
    "empty group": ("file,group", [*ALL[1:], "img0.npy,"], "line 13"),
    "short row": ("file,group", [*ALL[1:], "img0.npy"], "line 13"),
    "columns": ("name,patient", ALL, "patient"),
    "no rows": ("file,group", [], "no row"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_of_groups_are_refused(folder, case):
    header, rows, pattern = BAD_TABLES[case]
    write_groups(folder, rows, header)
    with pytest.raises(DataError, match=pattern) as caught:
        NpyFolder(str(folder)).load()
    assert "groups.csv" in str(caught.value)


@pytest.mark.parametrize("content", [b"file,group\nimg0.npy,\xff\xfe\n", b"\0\0\0", b""])
def test_tables_that_are_no_text_are_refused(folder, content):
    (folder / "groups.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"groups\.csv"):
        NpyFolder(str(folder)).load()


def test_a_table_that_was_asked_for_must_exist(folder):
    with pytest.raises(DataError, match=r"absent\.csv"):
        NpyFolder(str(folder), groups=str(folder / "absent.csv")).load()


@pytest.mark.parametrize("source", [NpyFolder, PairedFolder])
def test_missing_and_empty_folders_are_refused(tmp_path, source):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match=path.name):
            source(str(path)).load()


def test_constant_images_are_refused_together_but_not_alone(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.zeros((6, 5)))
    with pytest.raises(DataError, match="constant"):
        NpyFolder(str(tmp_path)).load()
    np.save(tmp_path / "3.npy", image(3))
    assert len(NpyFolder(str(tmp_path)).load()) == 4


def test_abdominal_slices(shared_data, tmp_path):
    for name in ("CT0.npy", "CT1.npy"):
        (tmp_path / name).symlink_to(shared_data / "slices" / name)
    images = NpyFolder(str(tmp_path)).load()
    assert images.signal_shape == (1, 512, 512)
    assert images.data_range == (0.0, 2196.0)
