"""Tiles cut from large images, so that a few slices make a set of images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from latens.data.folder import list_images, read_image
from latens.data.grids import average_blocks, check_block
from latens.data.images import ImageSet, Source, check_limit
from latens.data.intensity import robust_range, to_unit
from latens.errors import ConfigError, DataError, ShapeError

DARK = 0.1
"""Pixels up to this value, after scaling to [0, 1], count as background."""


class Tiles(Source):
    """Tiles of the images `(H, W)` or `(C, H, W)` in a folder of npy files of any sizes.

    Each image is scaled to [0, 1], from its own percentiles 0.1 and 99.9 or a stated window, and
    clipped there. Tiles with too little in them are dropped.

    Images of one group are never split between roles. By default a group is a file: all tiles of
    a slice show one subject. Where there are too few files for that, `region` divides each image
    into squares that share no pixel; tiles stay inside them, and each is a group. Training and
    test tiles then come from the same subjects, and results say nothing about a new one.

    Args:
        path: The folder.
        files: Names of the files to use; by default all npy files of the folder.
        size: Height and width of a tile, in pixels after averaging.
        stride: Pixels between the corners of neighbouring tiles; by default the height and the
            width of a tile, so that none overlap.
        block: Pixels are averaged over blocks of this edge before tiles are cut.
        region: Edge of the squares that form groups, in pixels after averaging.
        window: Values mapped to 0 and 1, the same for all files; by default each file's own.
        content: Smallest share of a tile that must be brighter than 0.1, from 0 to 1.
        limit: Keep only this many tiles, evenly spread over all of them.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        files: list[str] | None = None,
        size: tuple[int, int] = (64, 64),
        stride: int | None = None,
        block: int = 1,
        region: int | None = None,
        window: tuple[float, float] | None = None,
        content: float = 0.5,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        self.path = path
        self.files = files
        self.size = size
        self.stride = stride
        self.block = check_block(block)
        self.region = region
        self.window = window
        self.content = content
        self.limit = check_limit(limit)
        self.citation = citation
        self._check()

    def _check(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError("size", "two positive numbers", tuple(self.size), "Use (64, 64).")
        if self.stride is not None and self.stride < 1:
            raise ConfigError("stride", "at least 1, or nothing", self.stride, "Leave it out.")
        if self.region is not None and self.region < max(self.size):
            raise ConfigError(
                "region",
                f"at least the edge of a tile ({max(self.size)})",
                self.region,
                "Enlarge it, or leave it out: then each file is a group.",
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ConfigError(
                "window", "two numbers, the smaller first", self.window, "Exchange them."
            )
        if not 0 <= self.content <= 1:
            raise ConfigError("content", "a share from 0 to 1", self.content, "Use 0 to keep all.")

    def load(self) -> ImageSet:
        """Read the files and cut the tiles."""
        folder = Path(self.path)
        tiles: list[_Tile] = []
        for file in self._list(folder):
            cut = self._cut(file)
            if tiles and cut and cut[0].image.shape != tiles[0].image.shape:
                raise ShapeError(
                    str(file),
                    f"{len(tiles[0].image)} channels, as in the files before",
                    len(cut[0].image),
                    "Leave it out with `files`.",
                )
            tiles.extend(cut)
        if not tiles:
            raise DataError(
                str(folder),
                f"tiles of which a share of {self.content:g} (`content`) is not background",
                "none",
                "Lower `content`, or check the window.",
            )
        if self.limit is not None and self.limit < len(tiles):
            chosen = (np.arange(self.limit) * len(tiles)) // self.limit
            tiles = [tiles[i] for i in chosen]
        return ImageSet(
            torch.from_numpy(np.stack([tile.image for tile in tiles])),  # (n, C, h, w)
            data_range=(0.0, 1.0),
            groups=tuple(tile.group for tile in tiles),
            name=f"tiles of {folder.resolve().name}",
            citation=self.citation,
        )

    def _list(self, folder: Path) -> list[Path]:
        found = list_images(folder)
        if self.files is None:
            return found
        known = {file.name: file for file in found}
        for name in self.files:
            if name not in known or self.files.count(name) > 1:
                raise ConfigError(
                    "files",
                    f"names of npy files in {folder}, each once",
                    name,
                    f"Choose from: {', '.join(list(known)[:10])}.",
                )
        return [known[name] for name in self.files]

    def _cut(self, file: Path) -> "list[_Tile]":
        """The tiles of one image, row by row."""
        image = read_image(file)
        if image.ndim != 3:
            raise ShapeError(
                str(file),
                "shape (H, W) or (C, H, W)",
                image.shape,
                "Tiles are cut from flat images: save one slice per file.",
            )
        image = to_unit(image, *(self.window or robust_range(image)))
        trimmed = [n - n % self.block for n in image.shape[1:]]
        image = average_blocks(image[:, : trimmed[0], : trimmed[1]], self.block, 2, str(file))
        height, width = image.shape[1:]
        if height < self.size[0] or width < self.size[1]:
            raise ShapeError(
                str(file),
                f"at least {self.size[0]} × {self.size[1]} pixels, one tile",
                f"{height} × {width} after averaging",
                "Use smaller tiles, or leave it out with `files`.",
            )
        tiles = []
        for top, row in self._corners(height, 0):
            for left, column in self._corners(width, 1):
                tile = image[:, top : top + self.size[0], left : left + self.size[1]]
                if (tile > DARK).mean() >= self.content:
                    place = "" if self.region is None else f" region {row},{column}"
                    tiles.append(_Tile(tile, f"{file.name}{place}"))
        return tiles

    def _corners(self, length: int, axis: int) -> list[tuple[int, int]]:
        """First pixels of the tiles along an axis, each with the number of its region.

        What is left over is shared between both ends.
        """
        size = self.size[axis]
        stride = self.stride or size
        region = min(self.region or length, length)
        regions = length // region
        margin = (length - regions * region) // 2
        inside = range(0, region - size + 1, stride)
        spare = (region - size - inside[-1]) // 2
        return [
            (margin + number * region + spare + start, number)
            for number in range(regions)
            for start in inside
        ]


class _Tile(NamedTuple):
    """A tile `(C, h, w)` and its group."""

    image: np.ndarray
    group: str
