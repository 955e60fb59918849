"""Reading of HDF5 files: numbers pass, everything else is refused."""

import h5py
import numpy as np
import pytest

from latens.errors import DataError
from latens.store.hdf5 import read_hdf5, write_hdf5


def test_numbers_pass_as_they_are(tmp_path):
    path = tmp_path / "a.mat"
    arrays = {
        "bits": np.array([True, False]),
        "whole": np.arange(6, dtype=">i4").reshape(2, 3),
        "real": np.linspace(0, 1, 1000),
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", shuffle=True)
        file["broken"] = h5py.ExternalLink("elsewhere.h5", "/x")  # not asked for
    found = read_hdf5(path, ["real", "whole", "bits"])
    assert list(found) == ["real", "whole", "bits"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype.isnative


def hostile(file: h5py.File, kind: str) -> None:
    """Put a member `x` of some kind into a file."""
    if kind == "group":
        file.create_group("x")
    elif kind == "text":
        file["x"] = np.array([b"abc"])
    elif kind == "strings":
        file.create_dataset("x", data=["abc"], dtype=h5py.string_dtype())
    elif kind == "references":
        file["y"] = np.arange(3)
        file.create_dataset("x", data=np.array([file["y"].ref]), dtype=h5py.ref_dtype)
    elif kind == "records":
        file["x"] = np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])
    elif kind == "external link":
        file["x"] = h5py.ExternalLink("other.h5", "/y")
    elif kind == "soft link":
        file["y"] = np.arange(3)
        file["x"] = h5py.SoftLink("/y")
    elif kind == "external storage":
        file.create_dataset("x", (3,), "u1", external=[("/etc/hostname", 0, 3)])
    elif kind == "virtual":
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "y", (3,))
        file.create_virtual_dataset("x", layout)
    elif kind == "filter":
        file.create_dataset("x", data=np.arange(1000), compression="lzf")
    elif kind == "empty":
        file["x"] = np.empty((0, 2))
    elif kind == "huge":
        file.create_dataset("x", (2**20, 2**20), "f8", chunks=(2**10, 2**10), compression="gzip")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("group", "no array"),
        ("text", "not numbers"),
        ("strings", "not numbers"),
        ("references", "not numbers"),
        ("records", "not numbers"),
        ("external link", "no member|link to elsewhere"),
        ("soft link", "link to elsewhere"),
        ("external storage", "outside the file"),
        ("virtual", "outside the file"),
        ("filter", "other filters"),
        ("empty", "empty array"),
        ("huge", "8 GiB"),
        ("nothing", "no member 'x'"),
    ],
)
def test_everything_else_is_refused(tmp_path, kind, message):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        hostile(file, kind)
    with pytest.raises(DataError, match=message):
        read_hdf5(path, ["x"])


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5"):
        read_hdf5(path, ["x"])


def test_truncated_and_missing_files(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10000.0)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"a\.h5"):
        read_hdf5(path, ["x"])
    with pytest.raises(DataError, match="expected a file"):
        read_hdf5(tmp_path / "none.h5", ["x"])


def test_written_arrays_come_back_and_bytes_are_stable(tmp_path):
    arrays = {
        "truth": np.linspace(0, 1, 600).reshape(20, 30).astype(np.float32),
        "way/mean": np.arange(7),
        "way/level": np.asarray(0.95),
    }
    for name in ("a.h5", "b.h5"):
        write_hdf5(tmp_path / name, arrays)
    found = read_hdf5(tmp_path / "a.h5", list(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with pytest.raises(DataError):
        write_hdf5(tmp_path / "missing" / "c.h5", arrays)
