"""Sets of images, and the sources that load them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError
from latens.store.hashing import array_fingerprint, content_hash
from latens.types import Shape

RANGE_TOLERANCE = 1e-5
"""Share of the range by which rounding to float32 may carry a value outside it."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with all that later steps must know about them.

    Args:
        x: Images, `(n, C, *spatial)`, float32, finite, not all the same value.
        data_range: Smallest and largest value an image of this kind may take, fixed for the
            whole set. PSNR and SSIM use its width L = hi − lo.
        y: Measurements paired with `x`, `(n, *measurement)`, float32, where a person has them.
        groups: Name of the unit (patient, specimen) that each image belongs to. Images of one
            group are never split between roles. Every image is its own group by default.
        factors: Ground-truth factors where they are known: name → array, `(n, ...)`.
        labels: Class of each image, where known.
        affines: Millimetres (right, anterior, superior) of a voxel's index, where known,
            `(n, 4, 4)`; a slice is a volume of depth 1.
        name: Short name of the set, for titles and tables.
        citation: Source to cite in a figure made from the images.

    Raises:
        ShapeError: If an array has the wrong rank, or lengths differ.
        DataError: If values are not finite, constant, or outside the range.
    """

    x: Tensor
    data_range: tuple[float, float] = field(kw_only=True)
    y: Tensor | None = field(default=None, kw_only=True)
    groups: tuple[str, ...] = field(default=(), kw_only=True)
    factors: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    labels: tuple | None = field(default=None, kw_only=True)
    affines: np.ndarray | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    citation: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_array("x", self.x, 3, "shape (n, C, *spatial)")
        if not self.groups:
            object.__setattr__(self, "groups", tuple(str(i) for i in range(len(self.x))))
        object.__setattr__(self, "data_range", _checked_range(self.data_range))
        if self.y is not None:
            _check_array("y", self.y, 2, "shape (n, *measurement)")
        self._check_lengths()
        self._check_values()

    def _check_lengths(self) -> None:
        lengths = {
            "groups": len(self.groups),
            **{f"factors[{name}]": len(values) for name, values in self.factors.items()},
        }
        if self.y is not None:
            lengths["y"] = len(self.y)
        if self.labels is not None:
            lengths["labels"] = len(self.labels)
        if self.affines is not None:
            lengths["affines"] = len(self.affines)
        for argument, length in lengths.items():
            if length != len(self.x):
                raise ShapeError(
                    argument,
                    f"one entry per image ({len(self.x)})",
                    length,
                    "Give every image exactly one entry, in the order of `x`.",
                )

    def _check_values(self) -> None:
        smallest, largest = (float(value) for value in torch.aminmax(self.x))
        if smallest == largest:
            raise DataError(
                "x",
                "images with more than one value",
                f"the constant {smallest:g}",
                "Check the files: there is nothing to learn from a constant.",
            )
        low, high = self.data_range
        slack = RANGE_TOLERANCE * (high - low)
        if smallest < low - slack or largest > high + slack:
            raise DataError(
                "data_range",
                f"a range that contains every value ({smallest:g} to {largest:g})",
                f"({low:g}, {high:g})",
                "Widen the range, or rescale the images into it.",
            )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def signal_shape(self) -> Shape:
        """Shape of one image, `(C, *spatial)`."""
        return tuple(self.x.shape[1:])

    def select(self, indices: Sequence[int] | np.ndarray | Tensor) -> "ImageSet":
        """The images at `indices`, in that order, with the same range, name and citation.

        Args:
            indices: Positions in this set, `(k,)`, integers from 0 to n − 1, k ≥ 1.

        Raises:
            ConfigError: If indices are missing, not integers, or outside the set.
        """
        rows = np.asarray(indices)
        fits = rows.ndim == 1 and rows.size and np.issubdtype(rows.dtype, np.integer)
        if not fits or rows.min() < 0 or rows.max() >= len(self):
            raise ConfigError(
                "indices",
                f"a non-empty list of integers from 0 to {len(self) - 1}",
                _describe_indices(rows),
                "Give positions in this set (for a mask, its `nonzero()`).",
            )
        keep = torch.as_tensor(rows.astype(np.int64))
        # Not built by the constructor: a single blank image is fine inside a set that is not.
        chosen = object.__new__(ImageSet)
        chosen.__dict__.update(
            self.__dict__,
            x=self.x[keep],
            y=None if self.y is None else self.y[keep],
            groups=tuple(self.groups[i] for i in rows),
            factors={name: np.asarray(values)[rows] for name, values in self.factors.items()},
            labels=None if self.labels is None else tuple(self.labels[i] for i in rows),
            affines=None if self.affines is None else self.affines[rows],
        )
        return chosen

    def fingerprint(self) -> str:
        """Hash of the content: arrays, groups and range; not of name, labels, factors or place."""
        return content_hash(
            {
                "x": array_fingerprint(self.x.cpu().numpy()),
                "y": None if self.y is None else array_fingerprint(self.y.cpu().numpy()),
                "groups": list(self.groups),
                "data_range": list(self.data_range),
            }
        )


class Source(ABC):
    """A place that images come from, configured by its constructor.

    Constructing a source touches no file; `load` does.
    """

    @abstractmethod
    def load(self) -> ImageSet:
        """Read or make the images.

        Raises:
            DataError: If a file is missing, damaged or of the wrong kind.
            ShapeError: If arrays do not fit together.
        """


def check_limit(limit: int | None) -> int | None:
    """`limit` itself, once it is known to be None or at least 1."""
    if limit is not None and limit < 1:
        raise ConfigError(
            "limit", "at least 1, or nothing", limit, "Leave it out to read every image."
        )
    return limit


def _check_array(argument: str, array: Tensor, axes: int, shape: str) -> None:
    if not isinstance(array, Tensor) or array.dtype != torch.float32:
        raise DataError(
            argument,
            "a float32 tensor",
            str(getattr(array, "dtype", type(array).__name__)),
            "Convert it with `torch.as_tensor(array, dtype=torch.float32)`.",
        )
    if array.ndim < axes or array.numel() == 0:
        raise ShapeError(
            argument,
            f"{shape} with n ≥ 1 and {axes} axes or more",
            f"shape {tuple(array.shape)}",
            "Add the missing axes; grey images have one channel: `x[:, None]`.",
        )
    if not all(torch.isfinite(end) for end in torch.aminmax(array)):  # no copy of a large array
        broken = int((~torch.isfinite(array)).sum())
        raise DataError(
            argument,
            "finite values",
            f"{broken} NaN or infinite values",
            "Repair or leave out the damaged images.",
        )


def _checked_range(data_range: tuple[float, float]) -> tuple[float, float]:
    ends = tuple(float(end) for end in data_range)
    if len(ends) != 2 or not np.all(np.isfinite(ends)) or not ends[0] < ends[1]:
        raise ConfigError(
            "data_range",
            "two finite numbers, the smaller first",
            ends,
            "State the range that an image of this kind can take, for example (0, 1).",
        )
    return ends[0], ends[1]


def _describe_indices(rows: np.ndarray) -> str:
    if rows.size and np.issubdtype(rows.dtype, np.integer) and rows.ndim == 1:
        return f"values from {rows.min()} to {rows.max()}"
    return f"an array of shape {rows.shape} and type {rows.dtype}"
