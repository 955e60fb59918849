"""HDF5: files from strangers, MATLAB 7.3 among them, and our own; plain numeric arrays alone."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latens.store.atomic import explained
from latens.store.safe import _readable
from latens.types import PathLike

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import numpy.typing as npt

_BYTES = 2**33  # of all arrays asked for, unpacked
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # others are loaded as plug-ins


def read_hdf5(path: PathLike, names: Sequence[str]) -> "dict[str, npt.NDArray[Any]]":
    """The named arrays at the top level of an HDF5 file; other members are not touched.

    MATLAB stores its arrays with the axes in reverse order, and they are returned as stored.

    Args:
        path: File to read.
        names: Members.

    Returns:
        Arrays of truth values, integers or floats, in the byte order of this machine.

    Raises:
        DataError: If the file is missing or damaged, a member is missing, no array, empty, a
            link to elsewhere, stored outside the file, packed by a plug-in or not numeric, or
            the arrays exceed 8 GiB.
    """
    import h5py

    with _readable(path), h5py.File(path, "r") as file:
        members = {name: _member(file, name) for name in names}
        sizes = (math.prod(m.shape) * m.dtype.itemsize for m in members.values())
        if sum(sizes) > _BYTES:
            raise ValueError("arrays of more than 8 GiB")
        return {name: _native(member[()]) for name, member in members.items()}


def _member(file: "h5py.File", name: str) -> "h5py.Dataset":
    import h5py

    if name not in file:
        raise ValueError(f"no member '{name}' among: {', '.join(sorted(file)[:10]) or 'nothing'}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"'{name}', a link to elsewhere")
    member = file[name]
    if not isinstance(member, h5py.Dataset) or member.shape is None:
        raise ValueError(f"'{name}', which is no array")
    if member.external or member.is_virtual:
        raise ValueError(f"'{name}', stored outside the file")
    plan = member.id.get_create_plist()
    if any(plan.get_filter(i)[0] not in _FILTERS for i in range(plan.get_nfilters())):
        raise ValueError(f"'{name}', packed by other filters than {', '.join(_FILTERS.values())}")
    if member.dtype.kind not in "biuf" or member.dtype.metadata:
        raise ValueError(f"'{name}' of dtype {member.dtype}, not numbers")
    if 0 in member.shape:
        raise ValueError(f"'{name}', an empty array of shape {member.shape}")
    return member


def _native(array: "npt.NDArray[Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    plain = np.asarray(array)
    return plain.astype(plain.dtype.newbyteorder("="), copy=False)


def write_hdf5(path: PathLike, arrays: "Mapping[str, npt.NDArray[Any]]") -> None:
    """Write arrays, `GROUP/NAME`, packed; the same arrays make the same bytes.

    Args:
        path: New file.
        arrays: By name.

    Raises:
        DataError: If the file cannot be written.
    """
    import h5py

    with explained(path), h5py.File(path, "w") as file:
        for name, array in arrays.items():
            packing = {"compression": "gzip", "shuffle": True} if array.ndim else {}
            file.create_dataset(name, data=array, track_times=False, **packing)
