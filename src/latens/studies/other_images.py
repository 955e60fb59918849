"""Whether images of another kind can stand where those of a study do."""

import torch

from latens.data import ImageSet
from latens.errors import ConfigError, DataError

FAR, DARK = 0.5, 0.1
"""How far images may leave the range of the data, and how high in it their largest value must
lie, in widths of the range: beyond that they are in other units, and nothing is learned from a
solver that notices it."""


def check_other_images(others: ImageSet, images: ImageSet) -> None:
    """Refuse other images that the operator or the solvers of a study cannot take.

    Args:
        others: Images of another kind.
        images: Those of the study.

    Raises:
        ConfigError: If they have another shape.
        DataError: If they are in other units.
    """
    if others.signal_shape != images.signal_shape:
        raise ConfigError(
            "other_images",
            f"images of shape {images.signal_shape}, that of the data",
            others.signal_shape,
            "Choose images of the same size and channels, or crop or resample the files.",
        )
    low, high = images.data_range
    least, most = (float(end) for end in torch.aminmax(others.x))
    width = high - low
    if least < low - FAR * width or not low + DARK * width <= most <= high + FAR * width:
        raise DataError(
            "other_images",
            f"images in the units of the data, which range from {low:g} to {high:g}",
            f"values from {least:g} to {most:g}",
            "Rescale the files, or state the `data_range` of the data.",
        )
