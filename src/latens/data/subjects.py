"""Scans of subjects as the models of 3-D images see them, whatever they were made from.

A scan is one visit of one subject: C registered modalities on one grid, the mask of the brain
(or of the body part shown), the mask of the lesion (or of the shape), and what is known about
the lesion. Collections may be larger than memory, so scans are read by position, when asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latens.data.series import VolumeSeries, series_from_visits
from latens.data.volumes import Volume, write_volume
from latens.errors import ConfigError, DataError, ShapeError
from latens.store.hashing import content_hash
from latens.types import PathLike, Shape

MODALITIES = ("t1c", "t1n", "t2f", "t2w")
"""T1 with contrast agent, native T1, T2-FLAIR, T2: names and order of BraTS."""

TARGETS = (
    "log_volume",
    "centroid_s",
    "centroid_p",
    "centroid_l",
    "sphericity",
    "elongation",
    "flatness",
    "surface_to_volume",
)
"""Columns of `Subjects.targets`; see `latens.data.lesion_shape` for their equations."""

PARTS = {
    "volume": TARGETS[:1],
    "location": TARGETS[1:4],
    "shape": TARGETS[4:7],
}
"""What a partitioned model aligns with what. Shape means that which no change of size alters, so
that volume and shape can be independent; `surface_to_volume` (1/mm) follows from the two."""


@dataclass(frozen=True, eq=False)
class Scans:
    """Some scans in memory.

    Attributes:
        images: `(B, C, D, H, W)`, float32; zero outside the brain.
        brain: `(B, 1, D, H, W)`, bool.
        lesion: `(B, 1, D, H, W)`, bool; all False where there is none, or none is known.
    """

    images: Tensor
    brain: Tensor
    lesion: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: "slice | Tensor | list[int]") -> "Scans":
        return Scans(self.images[rows], self.brain[rows], self.lesion[rows])

    @staticmethod
    def joined(parts: "Iterable[Scans]", count: int) -> "Scans":
        """One after another, each held no longer than it takes to copy it.

        Args:
            parts: Blocks, one or more.
            count: Scans of all blocks together.
        """
        whole: Scans | None = None
        start = 0
        for part in parts:
            if whole is None:
                whole = Scans(
                    *(
                        block.new_empty(count, *block.shape[1:])
                        for block in (part.images, part.brain, part.lesion)
                    )
                )
            rows = slice(start, start + len(part))
            whole.images[rows] = part.images
            whole.brain[rows] = part.brain
            whole.lesion[rows] = part.lesion
            start = rows.stop
        assert whole is not None
        assert start == count
        return whole


@dataclass(frozen=True, eq=False)
class Subjects:
    """N scans, read when asked for, with all that is known about them.

    Args:
        read: Makes or reads the scans at some positions.
        shape: Shape of one scan, `(C, D, H, W)`.
        channels: Names of the C channels.
        names: Name of each scan, N of them, each once.
        targets: One row per scan, columns `TARGETS`, `(N, 8)`, float32: log volume (mm³),
            centroid from −1 to 1 along D, H, W, shape. NaN where unknown; the log volume is −inf
            where it is known that there is no lesion.
        affines: Millimetres (right, anterior, superior) of a voxel's index, `(N, 4, 4)`, float64.
        groups: Subject of each scan; scans of one subject are never split between roles. Every
            scan is its own subject by default.
        splits: `train`, `val` or `test` for each scan, where whoever published them has kept
            subjects whole in ways that `groups` cannot tell; none by default.
        axes: Directions of the axes of the files of each scan, which files written for it get;
            left, back, head by default.
        codes: NIfTI code of the space of each scan; 1, the scanner's, by default.
        times: Day of each scan, `(N,)`, float64, any origin; null where visits are not known.
        factors: True values behind made-up scans, `(N, F)`, float64.
        factor_names: Their F names.
        identity: Hash of what determines the content, for the names of results.
        name: Short name, for titles and tables.
        citation: Source to cite in a figure.

    Raises:
        ShapeError: If lengths differ.
        ConfigError: If a name occurs twice.
    """

    read: Callable[[Sequence[int]], Scans]
    shape: Shape
    channels: tuple[str, ...]
    names: tuple[str, ...]
    targets: Tensor
    affines: np.ndarray
    groups: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    axes: tuple[tuple[str, str, str], ...] = ()
    codes: tuple[int, ...] = ()
    times: Tensor | None = None
    factors: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    factor_names: tuple[str, ...] = ()
    identity: str = ""
    name: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        n = len(self.names)
        if not self.groups:
            object.__setattr__(self, "groups", self.names)
        if not self.axes:
            object.__setattr__(self, "axes", (("L", "P", "S"),) * n)
        if not self.codes:
            object.__setattr__(self, "codes", (1,) * n)
        if not self.factor_names:
            object.__setattr__(self, "factors", torch.empty(n, 0, dtype=torch.float64))
        expected = {
            "shape": ((len(self.channels), *self.shape[1:]), tuple(self.shape)),
            "targets": ((n, len(TARGETS)), tuple(self.targets.shape)),
            "affines": ((n, 4, 4), self.affines.shape),
            "groups": (n, len(self.groups)),
            "axes": (n, len(self.axes)),
            "codes": (n, len(self.codes)),
            "factors": ((n, len(self.factor_names)), tuple(self.factors.shape)),
        }
        if self.splits:
            expected["splits"] = (n, len(self.splits))
        if self.times is not None:
            expected["times"] = ((n,), tuple(self.times.shape))
        for argument, (right, found) in expected.items():
            if right != found or n == 0 or len(self.shape) != 4:
                raise ShapeError(
                    argument, f"{right} for {n} scans", found, "Give every scan one entry."
                )
        if len(set(self.names)) < n:
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ConfigError("names", "each name once", f"`{twice}` twice", "Rename one.")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Sequence[int] | np.ndarray | Tensor | slice) -> Scans:
        """The scans at some positions, in that order."""
        if isinstance(rows, slice):
            return self.read(range(*rows.indices(len(self))))
        return self.read(self._positions(rows))

    def blocks(self, size: int) -> Iterator[Scans]:
        """All scans in consecutive blocks of at most `size`."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def held(self, block: int = 16) -> "Subjects":
        """The same collection with all scans in memory."""
        scans = Scans.joined(self.blocks(block), len(self))
        return replace(self, read=lambda rows: scans[list(rows)])

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> "Subjects":
        """The scans at some positions as a collection of their own; nothing is read."""
        keep = self._positions(rows)
        return replace(
            self,
            read=lambda inner: self.read([keep[i] for i in inner]),
            names=tuple(self.names[i] for i in keep),
            targets=self.targets[keep],
            affines=self.affines[keep],
            groups=tuple(self.groups[i] for i in keep),
            splits=tuple(self.splits[i] for i in keep) if self.splits else (),
            axes=tuple(self.axes[i] for i in keep),
            codes=tuple(self.codes[i] for i in keep),
            times=None if self.times is None else self.times[keep],
            factors=self.factors[keep],
            identity=content_hash([self.identity, keep]),
        )

    def write(self, row: int, values: np.ndarray | Tensor, path: PathLike) -> Path:
        """Write a map of a scan as NIfTI, at its place in space and turned like its files.

        Args:
            row: Position of the scan.
            values: `(D, H, W)`, on the grid of the scan; stored as float32.
            path: File to write; `.gz` at the end means gzip.

        Returns:
            The path written.

        Raises:
            ShapeError: If the map is not on the grid of the scan.
            DataError: If the file cannot be written.
        """
        array = np.asarray(values)
        if array.shape != tuple(self.shape[1:]):
            raise ShapeError(
                "values",
                f"shape {tuple(self.shape[1:])}, the grid of the scan",
                array.shape,
                "Write one channel at a time.",
            )
        affine = self.affines[row]
        place = Volume(array, affine, self.axes[row], self.codes[row], "float32")
        return write_volume(path, array, affine, place)

    def target(self, *names: str) -> Tensor:
        """Columns of the targets by name, or those of parts (`PARTS`), `(N, k)`.

        Raises:
            ConfigError: If there is no such column.
        """
        return self.targets[:, self.columns(*names)]

    @staticmethod
    def columns(*names: str) -> list[int]:
        """Positions of the same columns among `TARGETS`.

        Raises:
            ConfigError: If there is no such column.
        """
        columns = []
        for name in names:
            for column in PARTS.get(name, (name,)):
                if column not in TARGETS:
                    raise ConfigError(
                        "names",
                        f"some of {', '.join((*PARTS, *TARGETS))}",
                        name,
                        "Choose among these.",
                    )
                columns.append(TARGETS.index(column))
        return columns

    def factor(self, name: str) -> Tensor:
        """True values of one factor, `(N,)`.

        Raises:
            ConfigError: If it is not known.
        """
        if name not in self.factor_names:
            raise ConfigError(
                "name",
                f"one of the {len(self.factor_names)} known factors",
                name,
                "See `factor_names`.",
            )
        return self.factors[:, self.factor_names.index(name)]

    @property
    def volumes(self) -> Tensor:
        """Volume of each lesion, `(N,)`, mm³, float64: 0 where there is none, NaN if unknown."""
        return self.targets[:, 0].double().exp()

    def series(self, limit: float | None = None, min_visits: int = 2) -> VolumeSeries:
        """Volumes over time, one series per subject.

        Args:
            limit: Limit of detection, mm³; default: the smallest positive volume.
            min_visits: Visits that every subject must have.

        Raises:
            DataError: If times or volumes are not known, or cannot make series.
        """
        if self.times is None:
            raise DataError(
                self.name or "subjects",
                "the time of each scan",
                "none",
                "Give the days of the visits, or take a source that knows them.",
            )
        return series_from_visits(
            self.groups,
            self.times.numpy(),
            self.volumes.numpy(),
            limit=limit,
            min_visits=min_visits,
            source=self.name or "subjects",
        )

    def _positions(self, rows: Sequence[int] | np.ndarray | Tensor) -> list[int]:
        index = np.asarray(rows)
        fits = index.ndim == 1 and index.size and np.issubdtype(index.dtype, np.integer)
        if not fits or index.min() < 0 or index.max() >= len(self):
            raise ConfigError(
                "rows",
                f"a non-empty list of integers from 0 to {len(self) - 1}",
                f"shape {index.shape}, {index.dtype}",
                "Give positions in this collection (for a mask, its `nonzero()`).",
            )
        return index.tolist()


class SubjectSource(ABC):
    """A place that scans come from, configured by its constructor.

    Constructing a source touches no file; `load` does.
    """

    @abstractmethod
    def load(self) -> Subjects:
        """Find or plan the scans; most are read or made later.

        Raises:
            DataError: If a file is missing, damaged or of the wrong kind.
            ShapeError: If arrays do not fit together.
        """
