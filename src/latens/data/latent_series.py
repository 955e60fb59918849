"""Latents of scans over time: what an encoder said of every visit of every subject.

One row of a series is q(z | scan) = N(loc, diag variance) with the day of the scan and, where it
is known, the volume that was measured on it. The file is one `safetensors` file: arrays, and all
words in its header as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latens.data.series import VolumeSeries, series_from_visits
from latens.errors import DataError, LatensError, ShapeError
from latens.store import write_bytes
from latens.types import PathLike, Shape

SUFFIX = ".safetensors"
FORMAT = "latens latent series 1"
_ARRAYS = ("times", "loc", "variance", "log_volumes", "affines")


@dataclass(frozen=True, eq=False)
class LatentSeries:
    """Encoded visits, one row each; a subject's rows in order of time.

    Args:
        patients: Subject of each visit, n.
        times: Day of each visit, `(n,)`, float64, increasing within a subject.
        loc: Mean of q(z | scan), `(n, k)`, float32.
        variance: Variances of q, `(n, k)`, float32; its covariance is diagonal.
        log_volumes: Log of the volume measured at the visit (mm³), `(n,)`, float64: −∞ where
            there is no lesion, NaN where nothing was measured.
        affines: Millimetres of a voxel's index, `(n, 4, 4)`, float64.
        axes: Directions of the axes of the files of each scan.
        codes: NIfTI code of the space of each scan.
        shape: `(C, D, H, W)` of the scans.
        channels: Names of the C channels.
        volume_units: Mean and standard deviation that turn the first latent into a log volume;
            null where no latent means one.
        encoder: Hash of the fit whose encoder was used.

    Raises:
        ShapeError: If the arrays do not fit each other.
        DataError: If latents are not finite, or a variance is not positive.
    """

    patients: tuple[str, ...]
    times: Tensor
    loc: Tensor
    variance: Tensor
    log_volumes: Tensor
    affines: Tensor
    axes: tuple[tuple[str, str, str], ...]
    codes: tuple[int, ...]
    shape: Shape
    channels: tuple[str, ...]
    volume_units: tuple[float, float] | None
    encoder: str

    def __post_init__(self) -> None:
        n, k = len(self.patients), self.loc.shape[-1]
        expected = {
            "times": (n,),
            "loc": (n, k),
            "variance": (n, k),
            "log_volumes": (n,),
            "affines": (n, 4, 4),
        }
        found = {name: tuple(getattr(self, name).shape) for name in expected}
        counts = (n, n) == (len(self.axes), len(self.codes))
        if found != expected or not counts or not n or len(self.shape) != 4:
            raise ShapeError(
                "latent series", f"{expected}", found, "Encode the scans again with latens."
            )
        positive = bool((self.variance > 0).all())
        if not positive or not bool(torch.isfinite(self.loc).all()):
            raise DataError(
                "latent series",
                "finite means and positive variances",
                "others",
                "Look for scans that the encoder cannot read, and encode again.",
            )
        self._check_times()

    def _check_times(self) -> None:
        seen: set[tuple[str, float]] = set()
        for patient, time in zip(self.patients, self.times.tolist(), strict=True):
            if (patient, time) in seen or not np.isfinite(time):
                raise DataError(
                    "latent series",
                    "one visit of a subject at a time",
                    f"two of `{patient}` at {time:g} days",
                    "Correct the days in visits.csv.",
                )
            seen.add((patient, time))

    @property
    def dim(self) -> int:
        """Number of latents k."""
        return self.loc.shape[1]

    @property
    def read_log_volumes(self) -> Tensor:
        """Log volumes that were measured; where none was, those that the first latent means.

        `(n,)`, float64; −∞ where there is no lesion, NaN where neither is known.
        """
        if self.volume_units is None:
            return self.log_volumes
        loc, scale = self.volume_units
        meant = loc + scale * self.loc[:, 0].double()
        return torch.where(self.log_volumes.isnan(), meant, self.log_volumes)

    def volumes(self, min_visits: int = 2, limit: float | None = None) -> VolumeSeries:
        """Volumes of the same visits, one series per subject.

        Raises:
            DataError: If volumes are not known, or as `series_from_visits`.
        """
        logs = self.read_log_volumes
        if bool(logs.isnan().any()):
            row = int(logs.isnan().nonzero()[0])
            raise DataError(
                "latent series",
                "a volume at every visit",
                f"none for `{self.patients[row]}` at {float(self.times[row]):g} days",
                "Add segmentations, or encode with a model of stage exp3.",
            )
        return series_from_visits(
            self.patients,
            self.times.numpy(),
            logs.exp().numpy(),
            limit=limit,
            min_visits=min_visits,
            source="latent series",
        )

    def rows(self, patient: str) -> list[int]:
        """Positions of the visits of a subject, the earliest first.

        Raises:
            DataError: If there is no such subject.
        """
        found = [row for row, name in enumerate(self.patients) if name == patient]
        if not found:
            raise DataError(
                "latent series", "visits of every patient", f"none of `{patient}`", "Encode them."
            )
        return sorted(found, key=lambda row: float(self.times[row]))

    def save(self, path: PathLike) -> Path:
        """Write the file; returns its path.

        Raises:
            DataError: If it cannot be written.
        """
        words = {
            "format": FORMAT,
            "patients": list(self.patients),
            "axes": [list(axes) for axes in self.axes],
            "codes": list(self.codes),
            "shape": list(self.shape),
            "channels": list(self.channels),
            "volume_units": None if self.volume_units is None else list(self.volume_units),
            "encoder": self.encoder,
        }
        arrays = {name: getattr(self, name).contiguous() for name in _ARRAYS}
        return write_bytes(path, save(arrays, {"latens": json.dumps(words)}))

    @staticmethod
    def load(path: PathLike) -> "LatentSeries":
        """Read a file that `save` wrote.

        Raises:
            DataError: If it is missing, damaged or something else.
        """
        file = Path(path)
        if not file.is_file():
            raise DataError(str(file), "a file of latent series", "no such file", "Check it.")
        try:
            with safe_open(file, "pt") as content:
                words = json.loads((content.metadata() or {})["latens"])
                arrays = {name: content.get_tensor(name) for name in _ARRAYS}
            if words["format"] != FORMAT:
                raise ValueError(f"format {words['format']}")
            units = words["volume_units"]
            return LatentSeries(
                patients=tuple(words["patients"]),
                **arrays,
                axes=tuple(tuple(axes) for axes in words["axes"]),
                codes=tuple(words["codes"]),
                shape=tuple(words["shape"]),
                channels=tuple(words["channels"]),
                volume_units=None if units is None else (float(units[0]), float(units[1])),
                encoder=str(words["encoder"]),
            )
        except LatensError:
            raise
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                str(file),
                "latent series as `latens encode` writes them",
                " ".join(str(error).split())[:200],
                "Encode the scans again.",
            ) from error


def order_of_visits(groups: Sequence[str], times: Tensor) -> list[int]:
    """Rows by subject in order of first appearance, then by time."""
    first = {name: row for row, name in reversed(list(enumerate(groups)))}
    place = np.asarray([first[name] for name in groups])
    return np.lexsort((times.numpy(), place)).tolist()


def is_latent_series(path: PathLike) -> bool:
    """Whether a file of this name holds latent series."""
    return str(path).lower().endswith(SUFFIX)
