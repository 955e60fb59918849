"""Our solutions against the public fields of IGNO, with the mesh refined.

    python benchmarks/pde_fields.py FOLDER

FOLDER holds `pwc_test_in.mat`, `smh_inverse_coe.mat`, `problem_EIT.mat` and `inverse_EIT_in.mat`.
Rows, relative L2 errors of the pressure or of the mean potential, go to
`benchmarks/data/pde_fields.json`. A minute.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from latens.data.pde_fields import read_darcy_case, read_darcy_fields, read_eit_fields
from latens.problems.pde import EIT, Darcy

ROWS = Path(__file__).resolve().parent / "data" / "pde_fields.json"
REFINED = (1, 2, 4)
EVERY = 10
"""Of the 200 piecewise fields every tenth is solved."""


def main() -> None:
    """Measure, print and write."""
    folder = Path(sys.argv[1])
    fields = read_darcy_fields(folder / "pwc_test_in.mat")
    a, u = fields.coefficient[::EVERY].double(), fields.solution[::EVERY].double()
    case = read_darcy_case(folder / "smh_inverse_coe.mat")
    smooth, pressure = case.coefficient.double(), case.solution.double()
    rows = {
        "piecewise Darcy, bilinear a": by_mesh(
            lambda r: error(Darcy((1, 29, 29), refine=r)(a), u)
        ),
        "piecewise Darcy, a node's value up to half an element": by_mesh(
            lambda r: error(nearest(a, r), u)
        ),
        "smooth Darcy, bilinear a": by_mesh(
            lambda r: error(Darcy((1, 29, 29), refine=r)(smooth), pressure)
        ),
        "smooth Darcy, a by cubic splines": {"4": round(error(splined(smooth), pressure), 5)},
    }
    for name in ("problem_EIT.mat", "inverse_EIT_in.mat"):
        rows[f"EIT, {name}"] = by_mesh(lambda r, name=name: tomography(folder / name, r))
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def by_mesh(measure) -> dict[str, float]:
    """A measurement for each refinement."""
    return {str(r): round(measure(r), 5) for r in REFINED}


def error(found: Tensor, expected: Tensor) -> float:
    """Relative L2 error, `(n, 1, H, W)`, mean over fields."""
    ratio = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    return float(ratio.mean())


def nearest(a: Tensor, refine: int) -> Tensor:
    """Pressure if each node's value reaches half an element far, on the nodes of `a`."""
    index = (torch.arange(56) + 1) // 2
    cells = a[..., index, :][..., index]
    return Darcy((1, 56, 56), coefficient="element", refine=refine)(cells)[..., ::2, ::2]


def splined(a: Tensor) -> Tensor:
    """Pressure of a coefficient interpolated by cubic splines on a mesh four times finer."""
    axis, fine = np.linspace(0, 1, 29), np.linspace(0, 1, 113)
    values = RectBivariateSpline(axis, axis, a[0, 0].numpy())(fine, fine)
    return Darcy((1, 113, 113))(torch.from_numpy(values)[None, None])[..., ::4, ::4]


def tomography(path: Path, refine: int) -> float:
    """Error of the potentials, mean over patterns."""
    fields = read_eit_fields(path)
    found = EIT((1, 32, 32), refine=refine).potential(fields.coefficient)
    return error(found[:, None], fields.potential[:, None])


if __name__ == "__main__":
    main()
