"""Readers of the public test fields of IGNO: coefficients and solutions on nodes of a square.

Every reader returns fields with rows along y and columns along x: entry (i, j) belongs to
x = j / (width − 1), y = i / (height − 1), as in `latens.problems.pde`. The files differ:

| file | array | axes as stored |
|---|---|---|
| Darcy, piecewise constant | `coe`, `u` | (field, y, x) |
| Darcy, one smooth case | `a`, `u` | nodes row by row, x fastest |
| EIT | `a_sol`, `u_sol`, `dux_sol`, `duy_sol` | (x, y, pattern) |

The grid arrays in the files are checked against this on reading.

References:
    Zang, Koutsourelakis (2025), DGenNO: deep generative neural operator,
    https://arxiv.org/abs/2502.06250, https://github.com/yaohua32/DGenNO.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latens.errors import DataError
from latens.store.hdf5 import read_hdf5
from latens.types import PathLike

CITATION = "Zang, Koutsourelakis (2025), DGenNO, arXiv:2502.06250"
TOLERANCE = 1e-6
"""Largest distance of a stored node from where it belongs; positions may be float32."""


@dataclass(frozen=True)
class DarcyFields:
    """Coefficients and solutions of −∇·(a ∇u) = 10, u = 0 on the boundary.

    Attributes:
        coefficient: a, `(n, 1, height, width)`.
        solution: u, shape of `coefficient`.
        sensors: Positions (x, y) of the published sensors, `(m, 2)`, or None.
    """

    coefficient: Tensor
    solution: Tensor
    sensors: Tensor | None = None


@dataclass(frozen=True)
class EITFields:
    """One conductivity and the potentials of the 20 published boundary patterns.

    Attributes:
        coefficient: a, `(1, height, width)`.
        potential: u_l, `(20, height, width)`.
        gradient: (∂u_l/∂x, ∂u_l/∂y), `(20, 2, height, width)`.
        code: Numbers from which the conductivity was made, `(4,)`.
    """

    coefficient: Tensor
    potential: Tensor
    gradient: Tensor
    code: Tensor


def read_darcy_fields(path: PathLike) -> DarcyFields:
    """Piecewise-constant Darcy fields, `X`, `Y`, `coe` and `u` of a file.

    Raises:
        DataError: If the file is damaged, an array missing, not finite or of another grid.
    """
    arrays = _finite(path, ("X", "Y", "coe", "u"))
    shape = _shape(path, arrays["coe"], 3)
    _require(path, "u", arrays["u"], arrays["coe"].shape)
    _require_grid(path, arrays["X"], arrays["Y"], shape[1:])
    return DarcyFields(_tensor(arrays["coe"])[:, None], _tensor(arrays["u"])[:, None])


def read_darcy_case(path: PathLike) -> DarcyFields:
    """One smooth Darcy field with its sensors, `a`, `u`, `x` and `index_obs` of a file.

    Raises:
        DataError: If the file is damaged, an array missing, not finite or of another grid.
    """
    arrays = _finite(path, ("a", "u", "x", "index_obs"))
    nodes = _shape(path, arrays["a"], 2)[0]
    edge = math.isqrt(nodes)
    _require(path, "a", arrays["a"], (edge * edge, 1))
    _require(path, "u", arrays["u"], (nodes, 1))
    _require(path, "x", arrays["x"], (nodes, 2))
    x, y = (arrays["x"][:, k].reshape(edge, edge) for k in (0, 1))
    _require_grid(path, x, y, (edge, edge))
    index = arrays["index_obs"]
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= nodes:
        raise DataError(
            f"{path}: index_obs", f"numbers of nodes below {nodes}", _describe(index), "Check it."
        )
    steps = np.stack([index % edge, index // edge], -1)
    return DarcyFields(
        _tensor(arrays["a"]).reshape(1, 1, edge, edge),
        _tensor(arrays["u"]).reshape(1, 1, edge, edge),
        torch.from_numpy(steps / (edge - 1)),
    )


def read_eit_fields(path: PathLike) -> EITFields:
    """Conductivity, potentials and their gradients, of an EIT file.

    Raises:
        DataError: If the file is damaged, an array missing, not finite or of another grid, or
            the conductivity differs between patterns.
    """
    names = ("X", "Y", "a_sol", "u_sol", "dux_sol", "duy_sol", "coe_val", "g_l")
    arrays = _finite(path, names)
    shape = _shape(path, arrays["a_sol"], 3)
    for name in ("u_sol", "dux_sol", "duy_sol"):
        _require(path, name, arrays[name], shape)
    _require_grid(path, arrays["X"].T, arrays["Y"].T, (shape[1], shape[0]))
    count = shape[2]
    if not np.array_equal(arrays["g_l"].ravel(), np.arange(1, count + 1)):
        raise DataError(f"{path}: g_l", "patterns in order", _describe(arrays["g_l"]), "Sort it.")
    a, u, x, y = (arrays[name].transpose(2, 1, 0) for name in names[2:6])
    if not (a == a[:1]).all():
        raise DataError(f"{path}: a_sol", "one conductivity", "several", "Choose another file.")
    gradient = np.stack([x, y], 1)
    code = arrays["coe_val"][:, 0]
    return EITFields(_tensor(a[:1]), _tensor(u), _tensor(gradient), _tensor(code))


def read_eit_codes(path: PathLike) -> Tensor:
    """Codes of the training conductivities, zero where a code is shorter, `(n, 4)`.

    Raises:
        DataError: If the file is damaged, an array missing or not finite.
    """
    arrays = _finite(path, ("coe_val", "coe_mask"))
    _shape(path, arrays["coe_val"], 2)
    _require(path, "coe_mask", arrays["coe_mask"], arrays["coe_val"].shape)
    return _tensor((arrays["coe_val"] * arrays["coe_mask"]).T)


def _finite(path: PathLike, names: Sequence[str]) -> dict[str, np.ndarray]:
    arrays = read_hdf5(path, names)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name}", "finite numbers", "NaN or infinity", "Repair it.")
    return arrays


def _shape(path: PathLike, array: np.ndarray, axes: int) -> tuple[int, ...]:
    if array.ndim != axes:
        raise DataError(str(path), f"fields with {axes} axes", _describe(array), "Check it.")
    return array.shape


def _require(path: PathLike, name: str, array: np.ndarray, shape: Sequence[int]) -> None:
    if array.shape != tuple(shape):
        raise DataError(f"{path}: {name}", f"shape {tuple(shape)}", _describe(array), "Check it.")


def _require_grid(path: PathLike, x: np.ndarray, y: np.ndarray, shape: Sequence[int]) -> None:
    rows, columns = (np.arange(n) / (n - 1) for n in shape)
    for name, found, wanted in (("x", x, columns[None, :]), ("y", y, rows[:, None])):
        if found.shape != tuple(shape) or np.abs(found - wanted).max() > TOLERANCE:
            raise DataError(
                f"{path}: nodes",
                f"a uniform grid of {shape} nodes of the unit square, rows along y",
                f"other values of {name}, {_describe(found)}",
                "This reader knows the public files only.",
            )


def _describe(array: np.ndarray) -> str:
    return f"shape {array.shape}, {array.dtype}"


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
