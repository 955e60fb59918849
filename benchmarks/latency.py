"""Time from measurement to posterior: one image, a hundred in one batch, a hundred in a loop.

    python benchmarks/latency.py

A posterior here is mean, standard deviation and 95 % interval from 39 draws. Weights are random:
time does not depend on them. One thread.
"""

import json
import time
from pathlib import Path

import torch

from latens.inference import Amortised, Ensemble
from latens.models import CVAE, Latent
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from latens.training import one_thread

SHAPE = (1, 28, 28)


def posterior(solver, y: torch.Tensor) -> None:
    """Everything that a user reads."""
    estimate = solver(y)
    _ = estimate.mean, estimate.std, estimate.interval(0.95)


def seconds(function, repeats: int) -> float:
    """Smallest wall time of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and write the rows."""
    problem = InverseProblem(GaussianBlur(SHAPE, width=1.5), GaussianNoise(0.05))
    torch.manual_seed(0)
    cvae, latent = CVAE(SHAPE, SHAPE), Latent(SHAPE, SHAPE)
    solvers = {
        "cvae": Amortised(cvae, problem),
        "latent": Amortised(latent, problem),
        "cvae ensemble of 2": Ensemble([Amortised(cvae, problem), Amortised(cvae, problem)]),
    }
    y = torch.randn(100, *SHAPE)
    rows = []
    with one_thread():
        for name, solver in solvers.items():
            one = seconds(lambda solver=solver: posterior(solver, y[:1]), 10)
            batch = seconds(lambda solver=solver: posterior(solver, y), 3)
            loop = seconds(lambda solver=solver: [posterior(solver, v[None]) for v in y], 1)
            rows.append({"solver": name, "one_s": one, "hundred_s": batch, "loop_s": loop})
            print(
                f"{name:<20} one {one * 1e3:6.1f} ms   hundred {batch:5.2f} s   "
                f"loop of hundred {loop:5.2f} s   ratio {batch / loop:.2f}"
            )
    path = Path(__file__).parent / "data" / "latency.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
