"""What a posterior costs beside a point inversion, and a hundred posteriors beside one.

    python benchmarks/posterior_cost.py RUN [--model latent] [--images 100] [--cases 3]

RUN is a finished study of phantoms with a `latent` model; its first data seed at the largest N is
used. On fresh phantoms:

- `point`: the most probable latents from 64 starts of the prior, to the tolerance of `LatentMAP`;
- `posterior`: chains, started from the amortised posterior or from the prior, with the fewest
  draws (doubled from those of `KINDS`) at which R̂ < 1.01 and every bulk size is 100 or more; where
  that costs more than `MOST` points, the row says that it did not pass, with what was spent;
- `together`: chains of equal length for all images in one batch, and one image at a time.

Times are seconds of one core, so that other work beside it does not count. Rows go to
`benchmarks/data/posterior_cost.json`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from latens import load
from latens.data import Phantoms
from latens.evaluation import simulate
from latens.inference import Amortised, LatentChains, LatentMAP
from latens.inference.starts import Start

ROWS = Path(__file__).resolve().parent / "data" / "posterior_cost.json"
MOST = 60
"""Chains that cost more than so many point inversions are not made longer."""
KINDS: dict[str, dict[str, int]] = {
    "long": {"chains": 4, "warmup": 200, "draws": 400},
    "middle": {"chains": 32, "superchains": 4, "warmup": 40, "draws": 25},
    "short": {"chains": 256, "superchains": 8, "warmup": 30, "draws": 12},
}
"""A few long chains, judged by R̂, and more and shorter ones, judged by nested R̂."""
STARTS: tuple[Start, ...] = ("amortised", "prior")
Row = dict[str, float | int | str]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="latent")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--singles", type=int, default=5)
    parser.add_argument("--cases", type=int, default=3, help="measurements of `posterior`")
    parser.add_argument("--only", choices=("ratio", "together"), help="one of the two parts")
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = load(arguments.run, arguments.model)
    assert isinstance(found.solver, Amortised)
    x = Phantoms(size=found.signal_shape[1:], count=arguments.images, seed=99).load().x
    y = simulate(found.problem, x, seed=99)
    rows = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
    if arguments.only != "together":
        kept = [row for row in rows.get("ratio", []) if row["start"] not in arguments.starts]
        rows["ratio"] = kept + [
            ratio(found.solver, y[i : i + 1], i, start)
            for i in range(arguments.cases)
            for start in arguments.starts
        ]
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.only != "ratio":
        rows["together"] = together(found.solver, y, arguments.singles)
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def ratio(solver: Amortised, y: Tensor, key: int, start: Start) -> Row:
    """A posterior against a point inversion of one measurement."""
    climbs = LatentMAP(solver.model, solver.problem, climbs=64, start="prior")
    begin = time.process_time()
    point = climbs(y, keys=[key])
    point_s = time.process_time() - begin
    row: Row = {
        "measurement": key,
        "start": start,
        "point_s": round(point_s, 2),
        "gradients of point": point.diagnostics["gradients"],
    }
    for kind in KINDS:
        found = sufficient(solver, y, key, start, kind, MOST * point_s)
        found["ratio"] = round(float(found["seconds"]) / point_s, 2)
        row |= {f"{kind}: {name}": value for name, value in found.items()}
        print(start, kind, found, flush=True)
    return row


def sufficient(
    solver: Amortised, y: Tensor, key: int, start: Start, kind: str, most_s: float
) -> Row:
    """The cheapest chains of one measurement that pass, by doubling, or the last affordable."""
    settings = dict(KINDS[kind])
    while True:
        chains = LatentChains(solver.model, solver.problem, start=start, **settings)
        begin = time.process_time()
        posterior = chains.solve(y, [key], 0)
        seconds = time.process_time() - begin
        worst = posterior.chains.diagnoses[0]
        passed = worst.rhat < 1.01 and worst.bulk_ess >= 100
        if passed or 2 * seconds > most_s:
            return {
                "seconds": round(seconds, 2),
                "draws": settings["draws"],
                "gradients": posterior.diagnostics["gradients"],
                "rhat": round(worst.rhat, 4),
                "bulk_ess": round(worst.bulk_ess),
                "passed": str(passed),
            }
        settings["draws"] *= 2


def together(solver: Amortised, y: Tensor, singles: int) -> Row:
    """Chains of all measurements in one batch against one measurement at a time."""
    chains = LatentChains(solver.model, solver.problem, chains=4, draws=100, warmup=100)
    begin = time.process_time()
    both = chains.solve(y, range(len(y)), 0)
    batch_s = time.process_time() - begin
    each = []
    for i in range(singles):
        begin = time.process_time()
        single = chains.solve(y[i : i + 1], [i], 0)
        each.append(time.process_time() - begin)
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
