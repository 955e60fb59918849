"""Content hashes: equal content, equal name, on every machine."""

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latens.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK = 2**24  # bytes hashed at a time, so that memory-mapped volumes stay on disk
_DEPTH = 200
_FLOAT = "$float"  # key that stands for an infinite number in canonical JSON


def plain(tree: Any, place: str = "tree") -> Any:
    """Copy of a configuration tree in plain Python types.

    Tuples become lists and NumPy scalars become Python numbers; the order of keys is kept.

    Args:
        tree: Nested mappings, lists, tuples and scalars.
        place: Name of the tree in error messages.

    Raises:
        ConfigError: If a key is not text, or a value is neither text, number, truth value nor
            None (paths, arrays and sets among them).
    """
    return _plain(tree, place, _DEPTH)


def _plain(tree: Any, place: str, depth: int) -> Any:
    if depth == 0:
        raise ConfigError(
            place.split(".")[0],
            f"at most {_DEPTH} nested levels",
            "more",
            "Flatten the tree, or break the cycle in it.",
        )
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(tree, numpy.generic):
        tree = tree.item()
    match tree:
        case None | bool():
            return tree
        case int():
            return int(tree)
        case float():
            return float(tree)
        case str():
            return str(tree)
        case list() | tuple():
            return [
                _plain(value, f"{place}[{index}]", depth - 1) for index, value in enumerate(tree)
            ]
        case Mapping():
            for key in tree:
                if not isinstance(key, str):
                    raise ConfigError(
                        place, "keys that are text", repr(key), "Put the key in quotes."
                    )
            return {
                str(key): _plain(value, f"{place}.{key}", depth - 1) for key, value in tree.items()
            }
    raise ConfigError(
        place,
        "text, a number, a truth value, None, a list or a mapping",
        f"{type(tree).__module__}.{type(tree).__qualname__}",
        "Give the content instead: `str(path)` where the place itself matters, "
        "`array_fingerprint(array)` for data.",
    )


def canonical_json(tree: Any) -> bytes:
    """The one JSON text of a configuration tree, as ASCII bytes.

    Keys are sorted, white space is absent, floats are written by `repr` (shortest text that
    gives the same float64), tuples equal lists. `1`, `1.0` and `True` are three different
    values: a resolved configuration has passed the type hints, which turn `1` into `1.0` where a
    float is meant, and a repeated fit costs less than a wrong one. Infinities become
    `{"$float": "inf"}`.

    Raises:
        ConfigError: If the tree holds NaN, which equals nothing, or a value without a canonical
            text (see `plain`).
    """
    encoded = _encode_infinities(plain(tree), "tree")
    text = json.dumps(
        encoded, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def _encode_infinities(tree: Any, place: str) -> Any:
    if isinstance(tree, float) and math.isnan(tree):
        raise ConfigError(place, "a number", "NaN", "Use None for a value that is not set.")
    if isinstance(tree, float) and math.isinf(tree):
        return {_FLOAT: repr(tree)}
    if isinstance(tree, list):
        return [_encode_infinities(value, f"{place}[{i}]") for i, value in enumerate(tree)]
    if isinstance(tree, dict):
        if _FLOAT in tree:
            raise ConfigError(place, "ordinary keys", f"'{_FLOAT}'", "Choose another key.")
        return {key: _encode_infinities(value, f"{place}.{key}") for key, value in tree.items()}
    return tree


def content_hash(tree: Any, length: int = 16) -> str:
    """First `length` hexadecimal digits of the SHA-256 of `canonical_json(tree)`.

    Raises:
        ConfigError: If the tree has no canonical text, or `length` is not in 8–64.
    """
    return _digits(hashlib.sha256(canonical_json(tree)).hexdigest(), length)


def array_fingerprint(*arrays: "npt.ArrayLike", length: int = 16) -> str:
    """Hash of dtype, shape and content of arrays, in their order.

    The byte order and the memory layout do not matter; the dtype does. Content is compared bit
    by bit: −0.0 differs from 0.0, and NaN equals a NaN of the same bits.

    Args:
        arrays: Arrays of numbers, truth values or text, any shape.
        length: Hexadecimal digits to return, 8–64.

    Raises:
        DataError: If an array holds Python objects.
    """
    import numpy as np

    digest = hashlib.sha256()
    for index, candidate in enumerate(arrays):
        array = np.asarray(candidate)
        if array.dtype.hasobject:
            raise DataError(
                f"arrays[{index}]",
                "numbers, truth values or text",
                f"dtype {array.dtype}",
                "Convert it to a numeric dtype first.",
            )
        dtype = array.dtype.newbyteorder("<")
        digest.update(f"{dtype.descr!r}{array.shape!r};".encode())
        rows = array.reshape(1) if array.ndim == 0 else array
        step = max(1, _BLOCK // max(1, rows[:1].nbytes))
        for start in range(0, len(rows), step):
            block = rows[start : start + step].astype(dtype, order="C", copy=False)
            digest.update(block.tobytes())
    return _digits(digest.hexdigest(), length)


def _digits(hexadecimal: str, length: int) -> str:
    if not 8 <= length <= len(hexadecimal):
        raise ConfigError(
            "length", "between 8 and 64 digits", length, "Leave it at 16 unless names collide."
        )
    return hexadecimal[:length]
