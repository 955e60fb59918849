"""Reader of a sprite: many small images side by side in one PNG."""

from pathlib import Path

import numpy as np
import torch

from latens.data.images import ImageSet, Source, check_limit
from latens.errors import ConfigError, DataError, ShapeError


class Sprite(Source):
    """Grey images cut from one PNG, row by row, with values in [0, 1].

    Args:
        path: The file.
        edge: Edge of an image, pixels.
        limit: Only the first `limit` images.
        citation: Source to cite in figures.
    """

    def __init__(
        self, path: str, edge: int = 28, limit: int | None = None, citation: str = ""
    ) -> None:
        if edge < 1:
            raise ConfigError("edge", "1 pixel or more", edge, "Use the edge of one image.")
        self.path, self.edge = path, edge
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read and cut the file."""
        from matplotlib.image import imread

        file = Path(self.path)
        if not file.is_file():
            raise DataError(str(file), "a PNG file", "no such file", "Check the path.")
        try:
            picture = imread(file, format="png")
        except Exception as error:  # damaged bytes raise whatever they like
            got = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            raise DataError(str(file), "a PNG file", got, "Fetch it again.") from error
        if picture.ndim == 3:  # a grey picture saved in colour
            picture = picture[..., :3].mean(-1)
        if any(size % self.edge for size in picture.shape):
            raise ShapeError(
                str(file),
                f"sides that are multiples of {self.edge}",
                picture.shape,
                "State the edge of one image as `edge`.",
            )
        rows, columns = (size // self.edge for size in picture.shape)
        tiles = picture.reshape(rows, self.edge, columns, self.edge).swapaxes(1, 2)
        x = np.ascontiguousarray(tiles.reshape(-1, 1, self.edge, self.edge), dtype=np.float32)
        return ImageSet(
            torch.from_numpy(x[: self.limit]),
            data_range=(0.0, 1.0),
            name=file.stem,
            citation=self.citation,
        )
