"""Prepared scans on disk: npy and JSON, each in a folder named by what made it.

    CACHE/KEY/images.npy    (C, D, H, W), float32
    CACHE/KEY/masks.npy     (D, H, W), bytes: 1 brain, 2 lesion, 3 both
    CACHE/KEY/scan.json     settings, files with size and time of change, targets, affine

KEY is a hash of version, settings, libraries and files with their places, so a scan whose files or
preparation have changed is prepared anew. Removed are entries of other settings, and those whose
files have changed or are gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.scan_preparation import VERSION, Preparation, Prepared, prepare
from latens.data.subject_files import ScanFiles
from latens.errors import DataError, LatensError
from latens.store.atomic import explained, new_folder, remove_folder, write_array, write_json
from latens.store.hashing import content_hash
from latens.store.provenance import major_versions
from latens.store.safe import read_array, read_json

CARD = "scan.json"
KIND = "latens scan"
_LIBRARIES = ("monai", "numpy", "scipy", "torch")
"""What smooths and resamples; `major.minor` of each counts."""
_REMEDY = "Delete this folder: it is made again."


class ScanCache:
    """A folder of prepared scans.

    Args:
        folder: Made if it does not exist.
        how: Preparation of all scans in it.
    """

    def __init__(self, folder: Path, how: Preparation) -> None:
        self.folder = folder
        self.how = how
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def fill(self, scans: Sequence[ScanFiles]) -> list[Path]:
        """Entry of each scan; those that are missing are prepared, those out of date removed.

        Raises:
            DataError: If a scan cannot be prepared; entries made before stay.
            ShapeError: As `DataError`.
        """
        cards = [identity(scan, self.how) for scan in scans]
        entries = [self.folder / content_hash(card) for card in cards]
        self._sweep(entries, {place for card in cards for place in places(card)})
        for scan, card, entry in zip(scans, cards, entries, strict=True):
            if not (entry / CARD).is_file():
                save(entry, prepare(scan, self.how), card)
        return entries

    def _sweep(self, entries: Sequence[Path], known: set[str]) -> None:
        """Remove entries of other settings, of an earlier state of known files, and of files that
        are gone.
        """
        for path in self.folder.iterdir():
            if path in entries or not (path / CARD).is_file():
                continue
            try:
                card = read_json(path / CARD)
            except LatensError:
                continue  # somebody else's
            if not isinstance(card, dict) or card.get("kind") != KIND:
                continue
            settings = {key: card.get(key) for key in ("version", "settings")}
            current = {"version": VERSION, "settings": _settings(self.how)}
            own = places(card)
            stale = any(place in known or not Path(place).is_file() for place in own)
            if settings != current or stale:
                remove_folder(path)


def identity(scan: ScanFiles, how: Preparation) -> dict[str, Any]:
    """What determines a prepared scan: version, settings, and the state of its files."""
    files = {}
    for role, path in sorted(scan.files.items()):
        with explained(path):
            state = path.stat()
        files[role] = [str(path.resolve()), state.st_size, state.st_mtime_ns]
    return {
        "kind": KIND,
        "version": VERSION,
        "settings": _settings(how),
        "name": scan.name,
        "files": files,
    }


def places(card: Mapping[str, Any]) -> list[str]:
    """Paths of the files behind an entry."""
    return [str(path) for path, _, _ in card["files"].values()]


def save(entry: Path, scan: Prepared, card: dict[str, Any]) -> None:
    """Write an entry; it appears complete or not at all."""
    with new_folder(entry) as folder:
        write_array(folder / "images.npy", scan.images)
        write_array(folder / "masks.npy", (scan.brain + 2 * scan.lesion).astype(np.uint8))
        place = {
            # Text, since JSON knows neither NaN nor infinity.
            "targets": [repr(float(value)) for value in scan.targets],
            "affine": scan.affine.tolist(),
            "content": scan.content,
            "axes": list(scan.axes),
            "code": scan.code,
        }
        write_json(folder / CARD, {**card, **place})


def read_facts(entry: Path) -> dict[str, Any]:
    """Targets `(8,)`, affine `(4, 4)`, content, axes and code of an entry, as in `Prepared`.

    Raises:
        DataError: If the entry is damaged.
    """
    card = read_json(entry / CARD)
    try:
        return {
            "targets": np.asarray([float(text) for text in card["targets"]]),
            "affine": np.asarray(card["affine"], dtype=np.float64).reshape(4, 4),
            "content": str(card["content"]),
            "axes": tuple(str(axis) for axis in card["axes"]),
            "code": int(card["code"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(str(entry / CARD), "a card of latens", error, _REMEDY) from error


def read_entry(entry: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images `(C, D, H, W)`, brain and lesion `(D, H, W)` of an entry.

    Raises:
        DataError: If the entry is damaged.
    """
    images, masks = read_array(entry / "images.npy"), read_array(entry / "masks.npy")
    if images.ndim != 4 or images.shape[1:] != masks.shape or images.dtype != np.float32:
        got = f"{images.shape} and {masks.shape}"
        raise DataError(str(entry), "images and masks of one grid", got, _REMEDY)
    return images, masks & 1 > 0, masks & 2 > 0


def _settings(how: Preparation) -> dict[str, Any]:
    """The preparation, and the versions of what computes it, as JSON reads them back."""
    own = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(how).items()
    }
    versions = major_versions()
    return {**own, "packages": {name: versions[name] for name in _LIBRARIES}}
