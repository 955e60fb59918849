"""Do the sampled posteriors of `latent` reach the exact one, where it is known? 64 × 64.

    python benchmarks/latent_truth.py [--images 8] [--pairs 8192] [--only NAME …]

The field is that of `linear_gaussian.py`. An affine `latent` has the exact decoder, and an
amortised posterior from few pairs. Each method then finds p(z | y), and what it draws of x is
compared with the closed form by FFT. Rows go to `benchmarks/data/latent_truth.json`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.inference import (
    SAMPLERS,
    Amortised,
    LatentChains,
    LatentImportance,
    LatentLaplace,
    LatentMAP,
    Posterior,
    Solver,
)
from latens.inference.samplers import HMC, NUTS
from latens.models import Latent
from latens.nets import Linear
from latens.problems import InverseProblem
from latens.store import Status
from oracles.affine_posterior import TEST
from oracles.exact_maximum import solve
from oracles.few_modes import FewModes, few_modes

FIELD = json.loads((Path(__file__).parent / "data" / "linear_gaussian.json").read_text())["field"]
ROWS = Path(__file__).resolve().parent / "data" / "latent_truth.json"
DRAWS = 1000
CHAINS = {"chains": 16, "draws": 800, "warmup": 200}
Row = dict[str, object]

METHODS: dict[str, Callable[[Latent, InverseProblem], Solver]] = {
    "amortised": Amortised,
    "map": LatentMAP,
    "laplace": LatentLaplace,
    "importance": lambda model, problem: LatentImportance(model, problem, draws=20_000),
    "refined": lambda model, problem: SAMPLERS["refined"](model, problem, Status.CONVERGED),
    "hmc": lambda model, problem: LatentChains(model, problem, kernel=HMC(), **CHAINS),
    "nuts": lambda model, problem: LatentChains(model, problem, kernel=NUTS(), **CHAINS),
}


def main() -> None:
    """Measure every method and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2**13, help="of the amortised posterior")
    parser.add_argument("--only", nargs="*", choices=list(METHODS), default=list(METHODS))
    arguments = parser.parse_args()
    field = few_modes(**FIELD)
    torch.manual_seed(0)
    shape = (1, *field.spatial)
    model = Latent(shape, shape, dim=len(field.modes), scale="shared", architecture=Linear())
    solve(model, field, arguments.pairs, seed=0, known_decoder=True)
    model.double()
    y = field.pairs(arguments.images, NoiseStream(TEST))[1].double()
    rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.is_file() else []
    for name in arguments.only:
        key: Row = {"method": name, "pairs": arguments.pairs, "images": arguments.images}
        rows = [row for row in rows if not key.items() <= row.items()]
        rows.append(key | measure(METHODS[name](model, field.problem), field, y))
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)


def measure(solver: Solver, field: FewModes, y: Tensor) -> Row:
    """Errors of mean and variance against the closed form, averaged over images."""
    begin = time.perf_counter()
    estimate = solver(y)
    made = estimate.make_draws(DRAWS) if isinstance(estimate, Posterior) else None
    mean = estimate.mean if made is None else made.loc.mean(0)  # (B, 1, *spatial)
    seconds = time.perf_counter() - begin
    exact = field.oracle.posterior_mean(y)
    error = (mean - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    row: Row = {"mean error": _round(error.mean()), "seconds": round(seconds, 1)}
    if made is None:
        return row
    monte_carlo = (made.loc.var(0).sum((1, 2, 3)) / DRAWS).sqrt() / exact.flatten(1).norm(dim=1)
    regions = field.regions(4).flatten(1)
    draws = made.values  # (M, B, 1, *spatial)
    along = draws.flatten(2) @ regions.mT  # (M, B, R)
    truth = field.oracle.region_covariance(field.regions(4)).diagonal()
    return row | {
        "of which Monte Carlo": _round(monte_carlo.mean()),
        "pixel ratio": _round((draws.var(0) / field.oracle.posterior_variance).mean()),
        "region ratio": _round((along.var(0) / truth).mean()),
        "status": str(estimate.status),
        "diagnostics": {name: _round(value) for name, value in estimate.diagnostics.items()},
    }


def _round(value: Tensor | float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
