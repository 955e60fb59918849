"""Reader of idx files, the format of MNIST and of the sets that took its place.

A file is a header in big-endian order, then the values row by row:

    0 | 0 | type | rank | size₀ (4 bytes) | … | size_{rank−1} | values
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from latens.data.images import ImageSet, Source, check_limit
from latens.errors import DataError, ShapeError

UNSIGNED_BYTE = 0x08
HIGHEST_GZIP_RATIO = 1032
"""Deflate cannot compress further; a header that promises more than this is wrong."""


class IdxImages(Source):
    """Grey images in idx or idx.gz files, divided by 255, so that the range is (0, 1).

    Args:
        images: File of images, or a folder whose `*images*idx3-ubyte*` files are read as one
            pool: training files first, then the others in the order of their names.
        labels: File of labels, or a folder of them. By default the label files that lie beside
            the image files under the matching names, if all of them are there.
        limit: Read only the first `limit` images of the pool.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        images: str,
        labels: str | None = None,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        self.images = images
        self.labels = labels
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read the files."""
        path = Path(self.images)
        files = image_files(path)
        blocks, left = [], self.limit
        for file in files:
            if left is None or left > 0:
                blocks.append(read_idx(file, rank=3, limit=left))
                left = None if left is None else left - len(blocks[-1])
        shapes = sorted({block.shape[1:] for block in blocks})
        if len(shapes) > 1:
            raise ShapeError(
                str(path),
                "images of one shape",
                f"shapes {', '.join(str(shape) for shape in shapes)}",
                "Name one of the files instead of the folder.",
            )
        x = torch.from_numpy(np.concatenate(blocks)).to(torch.float32).div_(255)[:, None]
        return ImageSet(
            x,  # (n, 1, H, W)
            data_range=(0.0, 1.0),
            labels=self._read_labels(files, len(x)),
            name=path.resolve().name.partition("-images")[0],
            citation=self.citation,
        )

    def _read_labels(self, files: list[Path], count: int) -> tuple[int, ...] | None:
        label_files = find_label_files(files, self.labels)
        if label_files is None:
            return None
        values = np.concatenate([read_idx(file, rank=1) for file in label_files])
        if len(values) < count or (self.limit is None and len(values) > count):
            raise ShapeError(
                self.labels or str(label_files[0].parent),
                f"one label per image ({count})",
                len(values),
                "Give the label files that belong to the image files.",
            )
        return tuple(int(value) for value in values[:count])


def image_files(path: Path) -> list[Path]:
    """Image files that `path` stands for: itself, or those in the folder, training first.

    Raises:
        DataError: If there is none.
    """
    if not path.is_dir():
        return [path]
    found: dict[str, Path] = {}
    for file in sorted(path.glob("*images*idx3-ubyte*")):
        plain = file.name.removesuffix(".gz")
        if plain.endswith("idx3-ubyte") and not plain.startswith("."):
            # Where a file lies there both packed and unpacked, the unpacked one sorts first.
            found.setdefault(plain, file)
    if not found:
        raise DataError(
            str(path),
            "a folder with files named like train-images-idx3-ubyte.gz",
            "none of them",
            "Check the folder, or name an image file itself.",
        )
    return [found[name] for name in sorted(found, key=lambda name: ("train" not in name, name))]


def find_label_files(files: list[Path], labels: str | None) -> list[Path] | None:
    """Label files for `files`, or None where none were asked for and some are missing.

    Args:
        files: Image files.
        labels: File or folder of labels; None looks beside the images.

    Raises:
        DataError: If `labels` is a folder that lacks one of the files.
    """
    if labels is not None and not Path(labels).is_dir():
        return [Path(labels)]
    chosen = []
    for file in files:
        folder = Path(labels) if labels is not None else file.parent
        plain = file.name.removesuffix(".gz")
        plain = plain.replace("images", "labels").replace("idx3", "idx1")
        matches = [folder / plain, folder / f"{plain}.gz"]
        match = next((path for path in matches if path.is_file() and path != file), None)
        if match is not None:
            chosen.append(match)
        elif labels is None:
            return None
        else:
            raise DataError(
                str(folder), f"a file {plain} or {plain}.gz", "neither", "Name the label file."
            )
    return chosen


def read_idx(path: Path, rank: int, limit: int | None = None) -> np.ndarray:
    """Read one idx or idx.gz file of unsigned bytes.

    Args:
        path: The file; `.gz` at the end means gzip.
        rank: Number of axes that it must have: 3 for grey images, 1 for labels.
        limit: Read only the first `limit` entries along the first axis.

    Returns:
        uint8, `(n, ...)`.

    Raises:
        DataError: If the file is missing, truncated, or not an idx file of that kind.
    """
    if not path.is_file():
        raise DataError(str(path), "an idx file", "no such file", "Check the path.")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            header = stream.read(4 + 4 * rank)
            sizes = _parse_header(path, header, rank)
            per_entry = math.prod(sizes[1:])
            _check_promise(path, len(header) + sizes[0] * per_entry)
            wanted = sizes[0] if limit is None else min(limit, sizes[0])
            values = stream.read(wanted * per_entry)
            trailing = stream.read(1) if wanted == sizes[0] else b""
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if len(values) != wanted * per_entry or trailing:
        got = "more bytes" if trailing else f"{len(values)} bytes"
        raise _damaged(path, f"{got} where the header promises {wanted * per_entry}")
    return np.frombuffer(values, dtype=np.uint8).reshape(wanted, *sizes[1:])


def _parse_header(path: Path, header: bytes, rank: int) -> list[int]:
    if len(header) < 4 or header[:2] != b"\0\0":
        raise DataError(
            str(path),
            "an idx file, which begins with two zero bytes",
            header[:4].hex(" ") or "an empty file",
            "Check the file; a page saved instead of a download looks like this.",
        )
    if header[2] != UNSIGNED_BYTE or header[3] != rank:
        raise DataError(
            str(path),
            f"unsigned bytes (type 08) in {rank} axes",
            f"type {header[2]:02x} in {header[3]} axes",
            "Images have 3 axes and labels 1: check that the two were not exchanged.",
        )
    if len(header) < 4 + 4 * rank:
        raise _damaged(path, f"{len(header)} bytes in all")
    sizes = [int.from_bytes(header[4 + 4 * k : 8 + 4 * k], "big") for k in range(rank)]
    if 0 in sizes:
        raise DataError(str(path), "at least one image", f"sizes {sizes}", "Check the file.")
    return sizes


def _check_promise(path: Path, promised: int) -> None:
    """Compare the bytes that the header promises with the file before making room for them."""
    packed = path.stat().st_size
    most = packed * HIGHEST_GZIP_RATIO if path.suffix == ".gz" else packed
    if promised > most:
        raise _damaged(path, f"{packed} bytes where the header promises {promised} unpacked")


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        str(path), "a complete idx file", got, "The file is truncated or damaged: fetch it again."
    )
