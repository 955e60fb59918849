"""What a posterior costs beside a point inversion, and a hundred posteriors beside one.

    python benchmarks/posterior_cost.py RUN [--model latent] [--images 100] [--cases 3]

RUN is a finished study of phantoms with a `latent` model; its first data seed at the largest N is
used. On fresh phantoms:

- `point`: the most probable latents from 64 starts of the prior, to the tolerance of `LatentMAP`;
- `posterior`: chains, started from the amortised posterior or from the prior, with the fewest
  draws (those of `KINDS`, then half as many more each time) at which R̂ < 1.01 and every bulk size
  is 100 or more, and the fewest that the library trusts; where that costs more than `MOST` points,
  the row says that it did not pass, with what was spent;
- `together`: chains of equal length for all images in one batch, and one image at a time.

Times are seconds of one core, so that other work beside it does not count. Rows go to
`benchmarks/data/posterior_cost.json`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from latens import load
from latens.data import Phantoms
from latens.evaluation import simulate
from latens.inference import Amortised, LatentChains, LatentMAP
from latens.inference.starts import Start

ROWS = Path(__file__).resolve().parent / "data" / "posterior_cost.json"
RULES = ("bar", "trusted")
"""R̂ < 1.01 and bulk sizes of 100, and beside these every diagnosis of the library."""
LONGER = 1.5
MOST = 60
"""Chains that cost more than so many point inversions are not made longer."""
KINDS: dict[str, dict[str, int]] = {
    "long": {"chains": 4, "warmup": 200, "draws": 400},
    "middle": {"chains": 32, "superchains": 4, "warmup": 40, "draws": 24},
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
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = load(arguments.run, arguments.model)
    assert isinstance(found.solver, Amortised)
    x = Phantoms(size=found.signal_shape[1:], count=arguments.images, seed=99).load().x
    y = simulate(found.problem, x, seed=99)
    rows = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
    if arguments.only != "together":
        asked = set(product(arguments.starts, arguments.kinds))
        kept = [r for r in rows.get("ratio", []) if (r["start"], r["kind"]) not in asked]
        made = [
            row
            for i in range(arguments.cases)
            for row in ratio(found.solver, y[i : i + 1], i, arguments.starts, arguments.kinds)
        ]
        rows["ratio"] = kept + made
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.only != "ratio":
        rows["together"] = together(found.solver, y, arguments.singles)
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def ratio(
    solver: Amortised, y: Tensor, key: int, starts: Sequence[Start], kinds: Sequence[str]
) -> Iterator[Row]:
    """A posterior against a point inversion of one measurement."""
    climbs = LatentMAP(solver.model, solver.problem, climbs=64, start="prior")
    begin = time.process_time()
    climbs(y, keys=[key])
    point_s = time.process_time() - begin
    for start, kind in product(starts, kinds):
        for found in sufficient(solver, y, key, start, kind, MOST * point_s):
            row: Row = {"measurement": key, "start": start, "kind": kind}
            row |= {"point_s": round(point_s, 2), **found}
            row["ratio"] = round(float(found["seconds"]) / point_s, 2)
            print(row, flush=True)
            yield row


def sufficient(
    solver: Amortised, y: Tensor, key: int, start: Start, kind: str, most_s: float
) -> Iterator[Row]:
    """The cheapest chains of one measurement that pass each rule, or the last affordable ones."""
    settings, rules = dict(KINDS[kind]), list(RULES)
    while rules:
        chains = LatentChains(solver.model, solver.problem, start=start, **settings)
        begin = time.process_time()
        posterior = chains.solve(y, [key], 0)
        seconds = time.process_time() - begin
        worst = posterior.chains.diagnoses[0]
        passed = worst.rhat < 1.01 and worst.bulk_ess >= 100
        met = {"bar": passed, "trusted": passed and worst.trusted}
        for rule in RULES:
            if rule in rules and (met[rule] or LONGER * seconds > most_s):
                rules.remove(rule)
                yield {
                    "rule": rule,
                    "seconds": round(seconds, 2),
                    "draws": settings["draws"],
                    "gradients": posterior.diagnostics["gradients"],
                    "rhat": round(worst.rhat, 4),
                    "bulk_ess": round(worst.bulk_ess),
                    "passed": int(met[rule]),
                }
        settings["draws"] = round(LONGER * settings["draws"])


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
