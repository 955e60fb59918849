"""Reading files from strangers: content is data, nothing in it is ever executed."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from latens.errors import DataError
from latens.types import PathLike

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_JSON_BYTES = 2**26
_YAML_BYTES = 2**18
_NPZ_BYTES = 2**35  # uncompressed, all members asked for
_NODES = 100_000  # values in a YAML file after its aliases are written out
_DEPTH = 100
_KINDS = "biufcUS"  # truth values, integers, floats, complex numbers, text
_AGAIN = "Write the file again, or choose another one."


def read_json(path: PathLike) -> Any:
    """Content of a JSON file of at most 64 MiB.

    Raises:
        DataError: If the file is missing, too large, not JSON, or has a key twice.
    """
    with _readable(path):
        return json.loads(
            _text(path, _JSON_BYTES),
            object_pairs_hook=_distinct_keys,
            parse_constant=_no_constant,
        )


def read_yaml(path: PathLike) -> Any:
    """Content of a YAML file of at most 256 KiB: mappings, lists, text, numbers, truth values.

    Numbers such as `1e-3` are floats, dates stay text, tags are refused.

    Raises:
        DataError: If the file is missing, too large, not YAML, has a key twice, or grows beyond
            100 000 values through its aliases.
    """
    with _readable(path):
        return parse_yaml(_text(path, _YAML_BYTES))


def parse_yaml(text: str) -> Any:
    """Content of a YAML text, with the rules of `read_yaml`.

    Raises:
        ValueError: If the text breaks a rule; the message is one line.
    """
    import yaml

    from latens.store._yaml import PlainLoader

    try:
        tree = yaml.load(text, Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{error.problem or 'not YAML'}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("too many nested levels") from error
    _check_size(tree)
    return tree


def read_array(path: PathLike) -> "npt.NDArray[Any]":
    """The array of a `.npy` file, in the byte order of this machine.

    Raises:
        DataError: If the file is missing, empty, truncated or longer than its array, is not
            `.npy`, or holds anything but numbers, truth values or text (pickled objects).
    """
    with _readable(path), open(path, "rb") as stream:
        return _array(stream, os.fstat(stream.fileno()).st_size)


def read_npz(path: PathLike, names: Sequence[str]) -> "dict[str, npt.NDArray[Any]]":
    """The named arrays of a `.npz` file; other members are not touched.

    Args:
        path: File to read.
        names: Members, without `.npy`.

    Raises:
        DataError: If the file is no intact zip archive, a member is missing or doubled, a member
            breaks a rule of `read_array`, or the arrays exceed 32 GiB.
    """
    import zipfile

    with _readable(path), zipfile.ZipFile(path) as archive:
        stored = archive.namelist()
        for name in names:
            if stored.count(f"{name}.npy") != 1:
                found = ", ".join(sorted(set(stored))[:10]) or "nothing"
                raise ValueError(f"no single member '{name}.npy' among: {found}")
        members = {name: archive.getinfo(f"{name}.npy") for name in names}
        if sum(member.file_size for member in members.values()) > _NPZ_BYTES:
            raise ValueError("arrays of more than 32 GiB")
        arrays = {}
        for name, member in members.items():
            with archive.open(member) as stream:
                arrays[name] = _array(stream, member.file_size)
        return arrays


def npz_members(path: PathLike) -> list[str]:
    """Names of the arrays of a `.npz` file, in its order.

    Raises:
        DataError: If the file is missing or no intact zip archive.
    """
    import zipfile

    with _readable(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name[-4:] == ".npy"]


@contextmanager
def _readable(path: PathLike) -> Iterator[None]:
    """Turn everything that a damaged or hostile file can raise into one `DataError`."""
    name = os.fspath(path)
    if not Path(path).is_file():  # also keeps away from pipes and devices, which may never end
        got = "a folder" if Path(path).is_dir() else "nothing" if not os.path.exists(path) else ""
        raise DataError(name, "a file", got or "a special file", "Correct the path.")
    try:
        yield
    except OSError as error:
        got = (error.strerror or str(error)).lower()
        raise DataError(name, "a readable file", f"'{got}'", "Check its permissions.") from error
    except MemoryError as error:
        raise DataError(name, "arrays that fit into memory", "more", _AGAIN) from error
    except RecursionError as error:
        raise DataError(name, "few nested levels", "too many", _AGAIN) from error
    except Exception as error:
        # Parsers of json, zip, zlib and npy headers raise a dozen kinds of errors.
        if _is_dicom(path):
            raise DataError(name, "npy or NIfTI", "DICOM", "Convert it with dcm2niix.") from error
        got = " ".join(str(error).split()) or type(error).__name__
        raise DataError(name, "an intact, plain file of its kind", got, _AGAIN) from error


def _is_dicom(path: PathLike) -> bool:
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _text(path: PathLike, limit: int) -> str:
    with open(path, "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    if not content.strip():
        raise ValueError("an empty file")
    return content.decode("utf-8-sig")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' twice")
    return tree


def _no_constant(name: str) -> float:
    raise ValueError(f"the number {name}, which JSON does not have")


def _check_size(tree: Any) -> None:
    """Refuse trees that aliases blow up or close to a circle."""
    nodes = 0
    pending = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        nodes += 1
        if nodes > _NODES or depth > _DEPTH:
            raise ValueError(f"more than {_NODES} values or {_DEPTH} nested levels")
        if isinstance(node, dict):
            pending.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            pending.extend((value, depth + 1) for value in node)


def _array(stream: IO[bytes], size: int) -> "npt.NDArray[Any]":
    """Read one `.npy` array of `size` bytes, header included, without NumPy's unpickler."""
    import numpy as np

    if size == 0:
        raise ValueError("an empty file")
    shape, fortran_order, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError("pickled Python objects, which could execute code")
    if dtype.kind not in _KINDS:
        raise ValueError(f"dtype {dtype}")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    count = math.prod(shape)
    if count == 0 or dtype.itemsize == 0:
        raise ValueError(f"an empty array of shape {shape}")
    body = size - stream.tell()
    if body != count * dtype.itemsize:
        raise ValueError(f"{body} bytes for an array of {count * dtype.itemsize} bytes")
    content = np.empty(body, dtype=np.uint8)
    _fill(stream, content)
    array = content.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(stream: IO[bytes]) -> "tuple[tuple[int, ...], bool, np.dtype[Any]]":
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the npy format, which only records use")


def _fill(stream: IO[bytes], content: "npt.NDArray[np.uint8]") -> None:
    import numpy as np

    position = 0
    while position < content.size:
        block = stream.read(min(content.size - position, 2**24))
        if not block:
            raise ValueError(f"an array that ends after {position} of {content.size} bytes")
        content[position : position + len(block)] = np.frombuffer(block, dtype=np.uint8)
        position += len(block)
