"""What a posterior costs beside a point inversion, and a hundred posteriors beside one.

    python benchmarks/posterior_cost.py RUN [--model latent] [--images 100]

RUN is a finished study of phantoms with a `latent` model; its first data seed at the largest N is
used. On fresh phantoms:

- `point`: the most probable latents from 64 starts of the prior, to the tolerance of `LatentMAP`;
- `posterior`: chains, started from the amortised posterior or from the prior, with the fewest
  draws (doubled from 100) at which R̂ < 1.01 and every bulk size is 100 or more;
- `together`: chains of equal length for all images in one batch, and one image at a time.

Rows go to `benchmarks/data/posterior_cost.json`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from torch import Tensor

from latens import load
from latens.data import Phantoms
from latens.evaluation import simulate
from latens.inference import Amortised, LatentChains, LatentMAP
from latens.inference.starts import Start

ROWS = Path(__file__).resolve().parent / "data" / "posterior_cost.json"
MOST_DRAWS = 6400
"""Chains that are not there by then do not get there."""
CHAINS = 4
Row = dict[str, float | int | str]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="latent")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--singles", type=int, default=5)
    arguments = parser.parse_args()
    found = load(arguments.run, arguments.model)
    assert isinstance(found.solver, Amortised)
    x = Phantoms(size=found.signal_shape[1:], count=arguments.images, seed=99).load().x
    y = simulate(found.problem, x, seed=99)
    rows = {
        "ratio": [ratio(found.solver, y[i : i + 1], i) for i in range(3)],
        "together": together(found.solver, y, arguments.singles),
    }
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def ratio(solver: Amortised, y: Tensor, key: int) -> Row:
    """A posterior against a point inversion of one measurement."""
    climbs = LatentMAP(solver.model, solver.problem, climbs=64, start="prior")
    begin = time.perf_counter()
    point = climbs(y, keys=[key])
    point_s = time.perf_counter() - begin
    row: Row = {"point_s": round(point_s, 2), "gradients of point": point.diagnostics["gradients"]}
    for start in ("amortised", "prior"):
        found = sufficient(solver, y, key, start)
        row |= {f"{start}: {name}": value for name, value in found.items()}
        row[f"{start}: ratio"] = round(float(found["seconds"]) / point_s, 2)
    return row


def sufficient(solver: Amortised, y: Tensor, key: int, start: Start) -> Row:
    """The cheapest chains of one measurement that pass, by doubling."""
    draws = 100
    while True:
        chains = LatentChains(
            solver.model, solver.problem, chains=CHAINS, draws=draws, start=start
        )
        begin = time.perf_counter()
        posterior = chains.solve(y, [key], 0)
        seconds = time.perf_counter() - begin
        worst = posterior.chains.diagnoses[0]
        passed = worst.rhat < 1.01 and worst.bulk_ess >= 100
        if passed or draws >= MOST_DRAWS:
            return {
                "seconds": round(seconds, 2),
                "draws": draws,
                "gradients": posterior.diagnostics["gradients"],
                "rhat": round(worst.rhat, 4),
                "bulk_ess": round(worst.bulk_ess),
                "passed": str(passed),
            }
        draws *= 2


def together(solver: Amortised, y: Tensor, singles: int) -> Row:
    """Chains of all measurements in one batch against one measurement at a time."""
    chains = LatentChains(solver.model, solver.problem, chains=CHAINS, draws=100, warmup=100)
    begin = time.perf_counter()
    both = chains.solve(y, range(len(y)), 0)
    batch_s = time.perf_counter() - begin
    each = []
    for i in range(singles):
        begin = time.perf_counter()
        single = chains.solve(y[i : i + 1], [i], 0)
        each.append(time.perf_counter() - begin)
    single_s = statistics.median(each)
    return {
        "measurements": len(y),
        "batch_s": round(batch_s, 2),
        "single_s": round(single_s, 2),
        "ratio to singles": round(batch_s / (len(y) * single_s), 3),
        "gradients of the batch": both.diagnostics["gradients"],
        "gradients of a single": single.diagnostics["gradients"],
    }


if __name__ == "__main__":
    main()
