"""Which scans a fit has seen, told by their content: names and collections change."""

from collections.abc import Iterable
from pathlib import Path

from latens.data import Scans, Subjects
from latens.errors import DataError
from latens.store import array_fingerprint, read_json

ROLES = ("test", "validation", "train")
"""Of two roles of one scan the last counts."""
LEARNED = ("validation", "train")
"""Roles of scans that shaped the weights, or chose them."""
BLOCK = 16


def fingerprints(scans: Scans | Subjects) -> list[str]:
    """Hash of the images of each scan, bit by bit as they were prepared; masks do not matter.

    Args:
        scans: In memory, or a collection, which is read block by block.
    """
    starts = range(0, len(scans), BLOCK)
    blocks: Iterable[Scans] = (scans[start : start + BLOCK] for start in starts)
    return [array_fingerprint(image.numpy()) for block in blocks for image in block.images]


def trained_roles(subjects: Subjects, fit: Path) -> dict[str, str]:
    """Role that each scan had in a training, by name; scans that it has not seen are left out.

    Args:
        subjects: Scans, prepared as those of the training.
        fit: Folder of the fit.

    Raises:
        DataError: If the fit does not say what it was trained on.
    """
    path = fit / "fit.json"
    try:
        known = {content: role for role in ROLES for content in read_json(path)["scans"][role]}
    except (KeyError, TypeError) as error:
        raise DataError(
            str(path),
            "the scans of every role",
            f"no {error}",
            "Run the study again, with this version of latens.",
        ) from error
    found = zip(subjects.names, fingerprints(subjects), strict=True)
    return {name: known[content] for name, content in found if content in known}
