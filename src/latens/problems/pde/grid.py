"""Rectangular grids of the unit square: nodes, bilinear interpolation, sensors.

Values of a field stand in an array `(height, width)`: entry (i, j) belongs to the node at
x = j / (width − 1), y = i / (height − 1). Row 0 is the lower side of the square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array, kron
from torch import Tensor

from latens.errors import ConfigError, ShapeError

COINCIDENT = 1e-9
"""Distance below which two sensors count as one."""


@dataclass(frozen=True)
class Grid:
    """Nodes of bilinear elements on the unit square.

    Args:
        height: Number of nodes along y, at least 3.
        width: Number of nodes along x, at least 3.

    Raises:
        ConfigError: If there is no interior node.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 3:
            raise ConfigError(
                "signal_shape",
                "at least 3 nodes along each axis",
                (self.height, self.width),
                "Use a finer grid: the nodes of the boundary carry no unknowns.",
            )

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.height * self.width

    def refined(self, factor: int) -> "Grid":
        """Grid whose elements have 1/factor of the edge; it contains every node of this one."""
        if factor < 1:
            raise ConfigError("refine", "at least 1", factor, "Use 1 for the grid itself.")
        return Grid(factor * (self.height - 1) + 1, factor * (self.width - 1) + 1)

    def points(self) -> Tensor:
        """Positions (x, y) of the nodes, row by row, `(height · width, 2)`, float64."""
        y, x = torch.meshgrid(_axis(self.height), _axis(self.width), indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2)

    def boundary(self) -> Tensor:
        """Flat indices of the boundary nodes, counter-clockwise from (0, 0), `(perimeter,)`."""
        index = torch.arange(self.nodes).reshape(self.height, self.width)
        sides = [index[0, :-1], index[:-1, -1], index[-1, 1:].flip(0), index[1:, 0].flip(0)]
        return torch.cat(sides)

    def interpolation(self, points: Tensor) -> csr_array:
        """Matrix from nodal values to those of the bilinear interpolant, `(m, nodes)`.

        Args:
            points: Positions (x, y) in the unit square, `(m, 2)`.
        """
        x, y = points.double().numpy().T
        (left, right), (below, above) = _hats(x, self.width), _hats(y, self.height)
        rows = np.tile(np.arange(len(x)), 4)
        corners = [(b, a) for b in (below, above) for a in (left, right)]
        columns = np.concatenate([b[0] * self.width + a[0] for b, a in corners])
        weights = np.concatenate([b[1] * a[1] for b, a in corners])
        matrix = csr_array((weights, (rows, columns)), (len(x), self.nodes))
        matrix.eliminate_zeros()  # a sensor on a node reads this node alone
        return matrix

    def prolongation(self, factor: int) -> csr_array:
        """Matrix from nodal values to those on the refined grid, `(refined nodes, nodes)`."""
        fine = self.refined(factor)
        return csr_array(
            kron(_refinement(self.height, fine.height), _refinement(self.width, fine.width))
        )


def sensor_points(sensors: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Positions of sensors as a tensor `(m, 2)`, float64, once they are known to be usable.

    Args:
        sensors: Positions (x, y), `(m, 2)`.

    Raises:
        ShapeError: If they are not m ≥ 1 pairs.
        ConfigError: If one is not finite, lies outside the unit square, or repeats another.
    """
    try:
        points = torch.as_tensor(sensors, dtype=torch.float64).cpu()
    except (TypeError, ValueError) as error:
        raise ShapeError(
            "sensors", "pairs (x, y)", type(sensors).__name__, "Use for example [[0.5, 0.25]]."
        ) from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ShapeError(
            "sensors", "shape (m, 2), m ≥ 1", tuple(points.shape), "Give pairs (x, y)."
        )
    if not torch.isfinite(points).all():
        raise ConfigError("sensors", "finite positions", "NaN or infinity", "Leave them out.")
    outside = ((points < 0) | (points > 1)).any(1)
    if outside.any():
        first = tuple(points[outside][0].tolist())
        raise ConfigError(
            "sensors",
            "positions in the unit square",
            f"{int(outside.sum())} outside, the first at {first}",
            "Rescale the domain to [0, 1]², or leave them out.",
        )
    require_distinct(points)
    return points


def require_distinct(points: Tensor) -> None:
    """Check that no two sensors coincide.

    Raises:
        ConfigError: If two rows of `points`, `(m, p)`, agree to 1e-9.
    """
    _, place, count = torch.unique(
        torch.round(points / COINCIDENT), dim=0, return_inverse=True, return_counts=True
    )
    repeated = (count[place] > 1).nonzero()[:, 0]
    if len(repeated):
        raise ConfigError(
            "sensors",
            "distinct positions",
            f"{len(repeated)} that coincide, the first at {tuple(points[repeated[0]].tolist())}",
            "Keep one of each; several readings at one place belong into the noise level.",
        )


def _axis(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64) / (count - 1)


def _hats(t: np.ndarray, count: int) -> tuple[tuple, tuple]:
    """The two neighbours on an axis of `count` nodes and their weights."""
    scaled = t * (count - 1)
    nearest = np.round(scaled)
    scaled = np.where(np.abs(scaled - nearest) < 1e-12 * count, nearest, scaled)
    left = np.clip(np.floor(scaled), 0, count - 2).astype(np.int64)
    share = scaled - left
    return (left, 1 - share), (left + 1, share)


def _refinement(coarse: int, fine: int) -> csr_array:
    """Linear interpolation from `coarse` to `fine` nodes of an interval, `(fine, coarse)`."""
    factor = (fine - 1) // (coarse - 1)
    index = np.arange(fine)
    left = np.minimum(index // factor, coarse - 2)
    share = (index - left * factor) / factor
    entries = np.concatenate([1 - share, share])
    columns = np.concatenate([left, left + 1])
    matrix = csr_array((entries, (np.tile(index, 2), columns)), (fine, coarse))
    matrix.eliminate_zeros()
    return matrix
