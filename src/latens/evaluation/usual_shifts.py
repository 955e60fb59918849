"""The shifts of the deep check `reliability`."""

from collections.abc import Sequence

from latens.data import ImageSet
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.evaluation.lost_samples import LostShare
from latens.evaluation.shifts import (
    KernelWidth,
    MagnitudeNoise,
    NoiseLevel,
    OtherImages,
    PhotonNoise,
    Shift,
)
from latens.problems import InverseProblem


def applicable_shifts(
    images: ImageSet, problem: InverseProblem, others: Sequence[ImageSet] = ()
) -> list[Shift]:
    """Those of the usual shifts that make sense for a problem.

    Args:
        images: Test set with measurements.
        problem: Operator and noise as the solver was made for.
        others: Sets of images of another kind, of the same shape; each is a shift of its own.
    """
    low, high = images.data_range
    inverted = ImageSet(
        low + high - images.x,
        data_range=images.data_range,
        groups=images.groups,
        name="inverted contrast",
    )
    usual: list[Shift] = [
        KernelWidth(1.5),
        NoiseLevel(2.0),
        PhotonNoise(),
        MagnitudeNoise(),
        LostShare(),
        OtherImages(inverted),
    ]
    found: list[Shift] = []
    for shift in usual:
        try:
            shift.apply(images, problem, 0)
        except (ConfigError, ShapeError, UnsupportedError):  # or larger than the image
            continue
        found.append(shift)
    return [*found, *map(OtherImages, others)]
