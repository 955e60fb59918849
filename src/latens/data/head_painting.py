"""Heads painted on a grid: how much of each voxel is white or grey matter, fluid, lesion.

A surface f = 1 lies at the signed distance d ≈ (f − 1)/‖∇f‖ from a voxel, which the body inside
covers by the share clip(½ − d/h, 0, 1), h the edge of a voxel. Layers are laid from the front:
each takes its share of what those before have left. Lengths are millimetres, axes S, P, L.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from latens.data.heads import lesion_axes, lobes, rotations

HALF_FIELD = 88.0
"""Half the field of view, mm."""
WAVELENGTH = 30.0
"""Of the folds of the cortex, mm."""
TISSUES = ("white", "grey", "fluid", "rim", "core", "oedema")


def semi_axes(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Semi-axes of the lesions, mm, `(n, 3)`."""
    names = ("log_volume", "lesion_elongation", "lesion_flattening", "lobulation", "lobe_mixture")
    return lesion_axes(*(values[name] for name in names))


@functools.lru_cache(maxsize=4)
def _grid(size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Coordinates S, P, L of voxel centres, −1 to 1, to broadcast against (n, D, H, W)."""
    axes = [(2 * np.arange(n, dtype=np.float32) + 1) / n - 1 for n in size]
    return tuple(axis.reshape([1, *np.roll([-1, 1, 1], k)]) for k, axis in enumerate(axes))


def bias_field(values: Mapping[str, np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """Smooth positive field b, (n, D, H, W): a product over the axes."""
    field = np.ones((1, 1, 1, 1), dtype=np.float32)
    for axis, q in zip("spl", _grid(size), strict=True):
        slope, bowl = _column(values[f"bias_{axis}"]), _column(values["bias_centre"])
        field = field * np.exp(slope * q + bowl * (q * q - np.float32(1 / 3)))
    return field


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(-1, 1, 1, 1)


def _turned(
    points: Sequence[np.ndarray], centre: Sequence[np.ndarray], turn: np.ndarray
) -> list[np.ndarray]:
    """Coordinates Rᵀ(p − c) of points on the grid, three arrays (n, D, H, W)."""
    offset = [p - _column(c) for p, c in zip(points, centre, strict=True)]
    rows = [[_column(turn[:, j, k]) * offset[j] for j in range(3)] for k in range(3)]
    return [first + second + third for first, second, third in rows]


def _distance(local: Sequence[np.ndarray], axes: Sequence[np.ndarray]) -> np.ndarray:
    """Signed distance to an ellipsoid, mm, to first order: (f − 1)/‖∇f‖, negative inside."""
    scaled = [x / _column(a) for x, a in zip(local, axes, strict=True)]
    level = np.sqrt(sum(x * x for x in scaled))
    slope = np.sqrt(sum((x / _column(a)) ** 2 for x, a in zip(scaled, axes, strict=True)))
    return (level - 1) * level / (slope + np.float32(1e-9))


def paint_heads(
    values: Mapping[str, np.ndarray], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissues of n heads on a grid over the field of view.

    Args:
        values: Factors by name, `(n,)` each.
        size: Voxels along D, H, W.

    Returns:
        Shares of the `TISSUES`, `(n, 6, D, H, W)`, float32; brain and lesion, `(n, D, H, W)`,
        bool: voxels whose centre lies in them.
    """
    voxel = np.float32(np.prod([2 * HALF_FIELD / n for n in size]) ** (1 / 3))
    points = [np.float32(HALF_FIELD) * q for q in _grid(size)]

    def cover(distance: np.ndarray) -> np.ndarray:
        return np.clip(np.float32(0.5) - distance / voxel, 0, 1)

    head = [HALF_FIELD * values[f"head_{axis}"] for axis in "spl"]
    turn = rotations(values["head_roll"], values["head_yaw"], values["head_pitch"])
    x = _turned(points, head, turn)
    axes = [values["brain_height"], values["brain_length"], values["brain_width"]]
    widened = 1 + _column(values["brain_taper"] / values["brain_length"]) * x[1]
    to_brain = _distance([x[0], x[1], x[2] / widened], axes)
    inside = cover(to_brain)

    to_lesion, to_core = _lesion_distances(values, points)
    lesion = to_lesion < 0
    weights = np.zeros((len(inside), len(TISSUES), *size), dtype=np.float32)
    left = np.ones_like(inside)

    def lay(tissue: str, share: np.ndarray) -> None:
        """Give a tissue its share of what the layers before have left."""
        part = left * share
        weights[:, TISSUES.index(tissue)] += part
        np.subtract(left, part, out=left)

    lay("core", cover(to_core))
    lay("rim", cover(to_lesion))
    lay("oedema", inside * cover(to_lesion - _column(values["oedema_width"])))
    for ventricle in _ventricles(values, x):
        lay("fluid", inside * cover(ventricle))
    for grey in _grey_bodies(values, x):
        lay("grey", inside * cover(grey))
    folds = np.float32(1)
    for part in x:
        folds = folds * np.cos(np.float32(2 * np.pi / WAVELENGTH) * part)
    depth = to_brain + _column(values["rim_width"])
    to_white = depth + _column(values["cortex_width"]) + _column(values["fold_depth"]) * folds
    lay("white", cover(to_white))
    lay("grey", cover(depth))
    lay("fluid", inside)
    return weights, (to_brain < 0) | lesion, lesion


def _lesion_distances(
    values: Mapping[str, np.ndarray], points: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to the lesion and to its core, mm, to first order."""
    centre = [HALF_FIELD * values[f"lesion_{axis}"] for axis in "spl"]
    turn = rotations(values["lesion_roll"], values["lesion_yaw"], values["lesion_pitch"])
    local = _turned(points, centre, turn)
    axes = semi_axes(values).T
    scaled = [x / _column(a) for x, a in zip(local, axes, strict=True)]
    radius = np.sqrt(sum(x * x for x in scaled)) + np.float32(1e-9)
    rho = lobes(
        [x / radius for x in scaled],
        _column(values["lobulation"]),
        _column(values["lobe_mixture"]),
    )
    slope = np.sqrt(sum((x / _column(a)) ** 2 for x, a in zip(scaled, axes, strict=True)))
    level = radius / rho
    unit = radius * rho / (slope + np.float32(1e-9))  # 1/‖∇ level‖, the lobes' slope left out
    return (level - 1) * unit, (level - _column(values["core_share"])) * unit


def _ventricles(values: Mapping[str, np.ndarray], x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Signed distances to the two lateral ventricles, mm."""
    distances = []
    for side in (-1, 1):
        size = values["ventricle_size"] * (1 + side * values["ventricle_asymmetry"])
        zero = np.zeros_like(size)
        turn = rotations(zero, side * values["ventricle_angle"], zero)
        centre = [zero + 6.0, zero + 2.0, side * values["ventricle_spread"]]
        local = _turned(x, centre, turn)
        distances.append(_distance(local, [9.0 * size, values["ventricle_length"], 6.5 * size]))
    return distances


def _grey_bodies(values: Mapping[str, np.ndarray], x: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Signed distances to the deep nuclei and the cerebellum, mm."""
    distances = []
    size = values["nuclei_size"]
    for side in (-1, 1):
        aside = side * (values["ventricle_spread"] + 12.0)
        local = [x[0] + np.float32(4), x[1] - _column(values["nuclei_p"]), x[2] - _column(aside)]
        distances.append(_distance(local, [size, 1.3 * size, 0.9 * size]))
    size = values["cerebellum_size"]
    below, behind = -0.5 * values["brain_height"], 0.5 * values["brain_length"]
    local = [x[0] - _column(below), x[1] - _column(behind), x[2]]
    distances.append(_distance(local, [0.75 * size, size, 1.4 * size]))
    return distances
