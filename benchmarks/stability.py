"""Stability: exact answers of linear reconstructions at 32×32, and the price of an evaluation.

    python benchmarks/stability.py [RUN] [--model latent] [--images 50]

- `truth`: Tikhonov reconstructions of a blur and of Fourier samples, in float64: largest singular
  value against a dense decomposition, and worst case in the ball of the noise against the secular
  equation, as the lowest and the highest relative deviation over images; with long searches, and
  with the budgets of a check;
- `evaluation`, if RUN is a finished study of phantoms: every number of stability, range and null
  space of one of its solvers and of a Tikhonov baseline on fresh phantoms, with the seconds; the
  worst cases are compared with those of Tikhonov, Wiener and total variation.

Rows go to `benchmarks/data/stability.json`.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from latens import load  # noqa: E402
from latens.data import Phantoms  # noqa: E402
from latens.distributions import NoiseStream  # noqa: E402
from latens.evaluation import simulate  # noqa: E402
from latens.evaluation.ambiguity import measure_ambiguity, pair_rows  # noqa: E402
from latens.evaluation.measure import Rows  # noqa: E402
from latens.evaluation.null_space import measure_null_space  # noqa: E402
from latens.evaluation.stability import StabilitySettings, measure_stability  # noqa: E402
from latens.evaluation.stability.baselines import (  # noqa: E402
    fitted_tikhonov,
    fitted_variation,
    fitted_wiener,
)
from latens.inference import Amortised, Solver, TikhonovSolver  # noqa: E402
from latens.metrics import metric  # noqa: E402
from latens.models import Latent  # noqa: E402
from latens.problems import (  # noqa: E402
    FourierSampling,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
)
from oracles.secular import farthest  # noqa: E402

ROWS = HERE / "data" / "stability.json"
SIDE, IMAGES, BASELINE_PAIRS = 32, 4, 100
THRESHOLD = 0.1
"""Error that counts as a hallucination; phantoms lie in [0, 1]."""
LONG = StabilitySettings(
    search_draws=1,
    steps=400,
    polish_steps=50,
    level_steps=1,
    lipschitz_tolerance=1e-8,
    lipschitz_steps=400,
    random=19,
    image_steps=1,
    probes=1,
)
"""Budgets with which the searches for the slope and for the worst case arrive."""

Row = dict[str, float | int | str]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--model", default="latent")
    parser.add_argument("--images", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = (1, SIDE, SIDE)
    result: dict[str, object] = {
        "truth": [
            row
            for name, operator in (
                ("blur", GaussianBlur(shape, 1.5)),
                ("mri", FourierSampling(shape, 3)),
            )
            for row in truth(name, InverseProblem(operator, GaussianNoise(0.05)))
        ]
    }
    print(json.dumps(result, indent=1), flush=True)
    if arguments.run is not None:
        result["evaluation"] = evaluation(arguments.run, arguments.model, arguments.images)
        print(json.dumps(result["evaluation"], indent=1))
    ROWS.write_text(json.dumps(result, indent=1) + "\n")


def truth(name: str, problem: InverseProblem) -> list[Row]:
    """Deviations of the searches from dense linear algebra, for each budget."""
    x = Phantoms(size=(SIDE, SIDE), count=IMAGES + BASELINE_PAIRS, seed=5).load().x.double()
    noise = NoiseStream(5).normal((len(x), *problem.noise_shape), torch.float64)
    y = problem.simulate(x, noise)
    solver = TikhonovSolver.fit(problem, x[IMAGES:], y[IMAGES:])
    x, y = x[:IMAGES], y[:IMAGES]
    size = math.prod(problem.measurement_shape)
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *problem.measurement_shape)
    offset = solver.mean_of(torch.zeros_like(unit[:1]), [0], 0)
    matrix = (solver.mean_of(unit, [0] * size, 0) - offset).flatten(1).mT.numpy()
    norm = np.linalg.norm(matrix, 2)
    scale = problem.noise.scale  # pyright: ignore[reportAttributeAccessIssue]
    errors = (solver(y).mean - x).flatten(1).numpy()
    exact = [
        farthest(scale * matrix, e, size**0.5)[0] / float(t.norm())
        for e, t in zip(errors, x, strict=True)
    ]
    rows = []
    for budget, settings in (("long", LONG), ("default", StabilitySettings())):
        begin = time.process_time()
        found = measure_stability(solver, problem, x, y, range(IMAGES), 0, settings)
        seconds = time.process_time() - begin
        row: Row = {"problem": name, "budget": budget, "images": IMAGES}
        row |= {"lipschitz": float(norm), "worst case": float(np.mean(exact))}
        for label, ratio in (
            ("lipschitz", found.rows["lipschitz"] / norm),
            ("worst case", found.rows["worst_error"][:, 0] / np.array(exact)),
        ):
            row[f"{label}: lowest relative deviation"] = float(ratio.min() - 1)
            row[f"{label}: highest relative deviation"] = float(ratio.max() - 1)
        row["lipschitz: residual"] = found.diagnostics["lipschitz_residual"]
        row["processor_s"] = round(seconds, 1)
        rows.append(row)
    return rows


def evaluation(run: Path, name: str, images: int) -> list[Row]:
    """All numbers of one solver and of the baseline, with processor seconds."""
    found = load(run, name)
    assert found.problem is not None
    x = Phantoms(size=found.signal_shape[1:], count=images + BASELINE_PAIRS, seed=99).load().x
    y = simulate(found.problem, x, seed=99)
    baselines = fitted(found.problem, x[images:], y[images:])
    x, y = x[:images], y[:images]
    return [
        _evaluation(label, solver, found.problem, x, y, baselines)
        for label, solver in ((name, found.solver), ("tikhonov", baselines["baseline"]))
        if solver is not None
    ]


def fitted(problem: InverseProblem, x: torch.Tensor, y: torch.Tensor) -> dict[str, Solver | None]:
    """What worst cases are compared with, by the argument of `measure_stability`."""
    return {
        "baseline": fitted_tikhonov(problem, (x, y)),
        "wiener": fitted_wiener(problem, (x, y)),
        "variation": fitted_variation(problem, (x, y)),
    }


def _evaluation(
    name: str,
    solver: Solver,
    problem: InverseProblem,
    x: torch.Tensor,
    y: torch.Tensor,
    baselines: dict[str, Solver | None],
) -> Row:
    keys = range(len(x))
    row: Row = {"solver": name, "images": len(x)}
    begin = time.process_time()
    stability = measure_stability(solver, problem, x, y, keys, 0, StabilitySettings(), **baselines)
    row["stability: processor_s"] = round(time.process_time() - begin, 1)
    rows: Rows = dict(stability.rows)
    begin = time.process_time()
    split = measure_null_space(solver, problem, x, y, keys, 0, THRESHOLD)
    row["null space: processor_s"] = round(time.process_time() - begin, 1)
    rows |= split.rows
    if isinstance(solver, Amortised) and isinstance(solver.model, Latent):
        begin = time.process_time()
        pairs, found = measure_ambiguity(solver.model, problem, x, keys, 0)
        rows |= pairs | pair_rows(solver, problem, x, found, keys, 0)
        row["ambiguity: processor_s"] = round(time.process_time() - begin, 1)
    row |= {"rank of the range": split.rank, "cutoff": split.cutoff, **stability.diagnostics}
    row |= {entry: round(metric(entry).value(values), 4) for entry, values in rows.items()}
    return row


if __name__ == "__main__":
    main()
