"""Batched reference solutions against a loop of scikit-fem assemblies and solves.

    python benchmarks/pde_solvers.py [--fields 200] [--repeats 5]

The loop does what one would write with scikit-fem for one coefficient: assemble the stiffness
matrix of the same bilinear elements, remove the boundary, factorise with SuperLU once, solve all
right-hand sides (the tuned loop; the plain one calls `condense` and `solve`, as its documentation
has it, for each right-hand side); for the gradient of ½‖y‖² one adjoint solve with the same
factor and the derivative of the assembly, pattern by pattern (20 vector assemblies for EIT, which
flatters that ratio). Everything that does not depend on the coefficient stands before the loop;
loops run over a fifth of the fields, scaled up. Both sides are checked to agree. Times are CPU
seconds of the process, one thread, smallest of the repeats, measured in alternation since other
work may share the machine.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import skfem
import torch
from scipy.linalg import get_lapack_funcs
from scipy.sparse.linalg import splu
from skfem.helpers import dot, grad

from latens.data import GaussianField
from latens.problems.pde import EIT, Darcy
from latens.problems.pde.assembly import stiffness_map
from latens.problems.pde.band_solve import _band, _Factor
from latens.problems.pde.eit import boundary_values
from latens.training import one_thread


class Loop:
    """Darcy and EIT for one coefficient at a time."""

    def __init__(self, nodes: int, operator: Darcy | EIT) -> None:
        axis = np.linspace(0, 1, nodes)
        mesh = skfem.MeshQuad.init_tensor(axis, axis)
        self.basis = skfem.Basis(mesh, skfem.ElementQuad1())
        order = np.lexsort(self.basis.doflocs)
        self.place = np.argsort(order)  # of each degree of freedom among the nodes, row by row
        self.rim = order[operator.diffusion.grid.boundary().numpy()]
        self.inner = self.basis.complement_dofs(mesh.boundary_nodes())
        self.form = skfem.BilinearForm(lambda u, v, w: w.a * dot(grad(u), grad(v)))
        load = skfem.LinearForm(lambda v, w: 10.0 * v).assemble(self.basis)
        self.tomography = isinstance(operator, EIT)
        self.start = np.zeros((nodes**2, 1))  # values of u on the boundary, (nodes, k)
        if self.tomography:
            points = torch.from_numpy(mesh.p[:, self.rim].T)
            self.start = np.zeros((nodes**2, len(operator.patterns)))
            self.start[self.rim] = boundary_values(operator.patterns, points).mT.numpy()
        self.load = np.zeros_like(self.start) if self.tomography else load[:, None]
        self.steps = 1 / (nodes - 1)
        self.derivative = skfem.LinearForm(lambda v, w: v * dot(grad(w.u), grad(w.p)))

    def plain(self, a: np.ndarray) -> list[np.ndarray]:
        """The same as scikit-fem's documentation would have it: condense and solve."""
        matrix = self.form.assemble(self.basis, a=self.basis.interpolate(a[self.place]))
        fixed = self.rim
        solutions = []
        for load, start in zip(self.load.T, self.start.T, strict=True):
            u = skfem.solve(*skfem.condense(matrix, load, x=start, D=fixed))
            solutions.append((matrix @ u)[fixed] / self.steps if self.tomography else u)
        return solutions

    def __call__(self, a: np.ndarray, gradient: bool) -> np.ndarray:
        """Measurement of one coefficient `(nodes,)`, or the gradient of half its square."""
        coefficient = self.basis.interpolate(a[self.place])
        matrix = self.form.assemble(self.basis, a=coefficient)
        inner, rows = self.inner, matrix[self.inner]
        factor = splu(rows[:, inner].tocsc(), permc_spec="MMD_AT_PLUS_A")
        u = self.start.copy()
        u[inner] = factor.solve((self.load - matrix @ self.start)[inner])
        y = (matrix @ u)[self.rim] / self.steps if self.tomography else u
        if not gradient:
            return y
        p = np.zeros_like(u)
        if self.tomography:
            p[self.rim] = y / self.steps
            p[inner] = factor.solve(-(matrix @ p)[inner])
        else:
            p[inner] = -factor.solve(y[inner])
        total = np.zeros(len(a))
        for k in range(u.shape[1]):
            fields = {"u": self.basis.interpolate(u[:, k]), "p": self.basis.interpolate(p[:, k])}
            total += self.derivative.assemble(self.basis, **fields)
        out = np.empty_like(total)
        out[self.place] = total
        return out


def seconds(function) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def batched(operator, a: torch.Tensor, gradient: bool) -> torch.Tensor:
    """All measurements, or the gradients of half their squares."""
    if not gradient:
        with torch.no_grad():
            return operator(a)
    leaf = a.clone().requires_grad_()
    return torch.autograd.grad(0.5 * operator(leaf).square().sum(), leaf)[0]


def compare(name: str, operator, nodes: int, fields: int, repeats: int) -> list[dict]:
    """Rows for the forward map and for the gradient."""
    a = GaussianField((nodes, nodes), tau=3.0, scale=20.0).draw(0, range(fields), torch.float64)
    a = a.exp()
    loop = Loop(nodes, operator)
    flat = a.flatten(1).numpy()
    rows = []
    for gradient in (False, True):
        ours = batched(operator, a[:2], gradient).flatten(1)
        for k in range(2):
            theirs = loop(flat[k], gradient)
            if not gradient:
                theirs = theirs if loop.tomography else theirs[np.argsort(loop.place)]
                theirs = theirs.T.ravel()
            np.testing.assert_allclose(ours[k].numpy(), theirs, rtol=1e-7, atol=1e-9)
        ours, tuned, plain = [], [], []
        for _ in range(repeats):
            ours.append(seconds(partial(batched, operator, a, gradient)))
            # a fifth of the fields: the loops are slow, and linear in their number
            part = flat[: max(1, fields // 5)]
            scale = fields / len(part)
            tuned.append(scale * seconds(lambda g=gradient, p=part: [loop(row, g) for row in p]))
            if not gradient:
                plain.append(scale * seconds(lambda p=part: [loop.plain(row) for row in p]))
        ours_s, loop_s = min(ours), min(tuned)
        ratios = [b / a for a, b in zip(ours, tuned, strict=True)]
        rows.append(
            {
                "problem": name,
                "what": "gradient" if gradient else "forward",
                "fields": fields,
                "batched_ms": 1e3 * ours_s / fields,
                "loop_ms": 1e3 * loop_s / fields,
                "plain_loop_ms": 1e3 * min(plain) / fields if plain else None,
                "plain_ratio": min(plain) / ours_s if plain else None,
                "ratio": loop_s / ours_s,
                "smallest_ratio": min(ratios),
            }
        )
        print(
            f"{name:<6} {rows[-1]['what']:<9} batched {rows[-1]['batched_ms']:6.2f} ms   "
            f"loop {rows[-1]['loop_ms']:6.2f} ms   ratio {rows[-1]['ratio']:5.1f} "
            f"(smallest {min(ratios):.1f})"
            + (f"   plain loop {rows[-1]['plain_loop_ms']:6.2f} ms" if plain else "")
        )
    return rows


def candidates(nodes: int, repeats: int) -> list[dict]:
    """Direct solvers for one matrix with one right-hand side, per matrix, in alternation."""
    a = GaussianField((nodes, nodes), scale=20.0).draw(1, range(20), torch.float64).exp()
    operator = Darcy((1, nodes, nodes))
    entries = operator.diffusion.entries(a.flatten(1))
    band = _band(entries)
    width, unknowns = nodes - 2, (nodes - 2) ** 2
    dense = torch.zeros(20, unknowns, unknowns, dtype=torch.float64)
    index = torch.arange(unknowns)
    for offset in range(width + 2):
        column = index[: unknowns - offset]
        dense[:, column + offset, column] = band[:, : unknowns - offset, offset]
        dense[:, column, column + offset] = band[:, : unknowns - offset, offset]
    from scipy.sparse import csc_array

    sparse = [csc_array(matrix.numpy()) for matrix in dense]
    right = torch.ones(20, unknowns, 1, dtype=torch.float64)
    (substitute,) = get_lapack_funcs(("pbtrs",), dtype=np.float64)

    def banded():
        for factor, b in zip(_Factor.apply(entries).numpy(), right.numpy(), strict=True):
            substitute(factor.T, b, lower=1)

    def blocks():
        views = dense.reshape(20, width, width, width, width)
        factors, below, y = [], [], []
        schur, load = views[:, 0, :, 0], right.reshape(20, width, width, 1)
        rest = load[:, 0]
        for i in range(width):
            factors.append(torch.linalg.cholesky(schur))
            y.append(torch.linalg.solve_triangular(factors[i], rest, upper=False))
            if i + 1 < width:
                coupling = views[:, i + 1, :, i].mT
                below.append(torch.linalg.solve_triangular(factors[i], coupling, upper=False))
                schur = views[:, i + 1, :, i + 1] - below[i].mT @ below[i]
                rest = load[:, i + 1] - below[i].mT @ y[i]
        x = torch.linalg.solve_triangular(factors[-1].mT, y[-1], upper=True)
        for i in reversed(range(width - 1)):
            rest = y[i] - below[i] @ x
            x = torch.linalg.solve_triangular(factors[i].mT, rest, upper=True)

    def superlu():
        options = {"SymmetricMode": True}
        for matrix, b in zip(sparse, right.numpy(), strict=True):
            splu(matrix, "MMD_AT_PLUS_A", 0.0, options=options).solve(b)

    def dense_cholesky():
        torch.cholesky_solve(right, torch.linalg.cholesky(dense))

    solvers = {
        "banded Cholesky (LAPACK)": banded,
        "block elimination (torch, batched)": blocks,
        "SuperLU, symmetric mode": superlu,
        "dense Cholesky (torch, batched)": dense_cholesky,
    }
    times: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(repeats):
        for name, solve in solvers.items():
            times[name].append(seconds(solve))
    rows = []
    for name, values in times.items():
        rows.append({"problem": f"solver, {nodes}²", "what": name, "ms": 1e3 * min(values) / 20})
        print(f"{nodes}² nodes   {name:<36} {rows[-1]['ms']:7.2f} ms")
    return rows


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description="Batched PDE solutions against a loop.")
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    start = time.process_time()
    stiffness_map(Darcy((1, 29, 29)).diffusion.grid, "nodal", 1)
    print(f"structure of 29² nodes, once: {1e3 * (time.process_time() - start):.0f} ms")
    with one_thread():
        rows = compare("Darcy", Darcy((1, 29, 29)), 29, given.fields, given.repeats)
        rows += compare("EIT", EIT((1, 32, 32)), 32, given.fields, given.repeats)
        rows += candidates(29, given.repeats)
    path = Path(__file__).parent / "data" / "pde_solvers.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
