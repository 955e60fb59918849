"""Which few images carry a label."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from latens.errors import ConfigError

Draw = Literal["balanced", "random"]

_STREAM = 2


def labelled_rows(
    labels: Sequence[int] | np.ndarray, count: int, draw: Draw, seed: int
) -> np.ndarray:
    """Positions of the images whose label is known.

    Of one seed, fewer labels are among more labels.

    Args:
        labels: Class of each image, `(n,)`, integers.
        count: Number of labels.
        draw: The same number of every class (the first classes have one more where `count` is no
            multiple), or any images.
        seed: Seed of the draw.

    Returns:
        Positions, `(count,)`, ascending.

    Raises:
        ConfigError: If there are too few images, or too few of a class.
    """
    classes = np.asarray(labels)
    if not 1 <= count <= len(classes):
        raise ConfigError(
            "labels", f"from 1 to the {len(classes)} images", count, "Ask for fewer labels."
        )
    order = np.random.default_rng((seed, _STREAM)).permutation(len(classes))
    if draw == "random":
        return np.sort(order[:count])
    kinds = np.unique(classes)
    each, more = divmod(count, len(kinds))
    chosen = []
    for place, kind in enumerate(kinds):
        members = order[classes[order] == kind]
        wanted = each + (place < more)
        if wanted > len(members):
            raise ConfigError(
                "labels",
                f"at most {len(members)} of class {kind}",
                wanted,
                "Ask for fewer labels, or draw them at random.",
            )
        chosen.append(members[:wanted])
    return np.sort(np.concatenate(chosen))
