"""How long must chains be until R̂ of hundreds of latents shows that they agree?

    python benchmarks/chain_length.py RUN [--model latent] [--images 2]

RUN is a finished study of phantoms with a `latent` model. Four chains of 1600 draws are run once,
and judged by their first 200, 400, 800 and all; the short chains of `refined` beside them. Rows go
to `benchmarks/data/chain_length.json`.
"""

import argparse
import json
import time
from pathlib import Path

from latens import load
from latens.data import Phantoms
from latens.evaluation import simulate
from latens.inference import SAMPLERS, Amortised, LatentChains
from latens.metrics import bulk_ess, rhat

ROWS = Path(__file__).resolve().parent / "data" / "chain_length.json"
DRAWS = (200, 400, 800, 1600)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="latent")
    parser.add_argument("--images", type=int, default=2)
    arguments = parser.parse_args()
    found = load(arguments.run, arguments.model)
    assert isinstance(found.solver, Amortised)
    x = Phantoms(size=found.signal_shape[1:], count=arguments.images, seed=99).load().x
    y = simulate(found.problem, x, seed=99)
    model, problem = found.solver.model, found.solver.problem
    begin = time.perf_counter()
    posterior = LatentChains(model, problem, draws=DRAWS[-1])(y)
    seconds = time.perf_counter() - begin
    draws = posterior.chains.of_problems
    rows: dict[str, object] = {"seconds of 4 chains": round(seconds, 1)}
    for count in DRAWS:
        values, sizes = rhat(draws[:count]), bulk_ess(draws[:count])
        rows[str(count)] = {
            "largest R̂": [round(float(v), 4) for v in values.amax(-1)],
            "median R̂": [round(float(v), 4) for v in values.median(-1).values],
            "smallest bulk size": [round(float(v)) for v in sizes.amin(-1)],
        }
    begin = time.perf_counter()
    short = SAMPLERS["refined"](model, problem, found.solver.status)(y)
    rows["refined"] = {
        "seconds": round(time.perf_counter() - begin, 1),
        "largest nested R̂": [round(d.rhat, 4) for d in short.chains.diagnoses],
        "by chance": [round(d.chance, 4) for d in short.chains.diagnoses],
        "smallest bulk size": [round(d.bulk_ess) for d in short.chains.diagnoses],
        "warnings": [d.warnings for d in short.chains.diagnoses],
    }
    ROWS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(rows, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
