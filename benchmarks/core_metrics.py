"""What the core metrics of one evaluation cost: 200 images of 64 × 64.

    python benchmarks/core_metrics.py [--images 200] [--side 64]

The solver costs nothing: of images that are smooth Gaussian fields in white noise it knows the
Gaussian posterior of every pixel, or as many draws from that as it is asked for. One thread;
seconds of the processor for metrics and their intervals, least of three repetitions, and the
largest resident set so far above that at the start. Rows go to
`benchmarks/data/core_metrics.json`.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

import latens
from latens.distributions import NoiseStream
from latens.problems import GaussianNoise, Identity, InverseProblem

ROWS = Path(__file__).resolve().parent / "data" / "core_metrics.json"
NOISE, REFERENCES = 0.5, 400


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = (1, options.side, options.side)
    fields = smooth(options.images + REFERENCES, options.side)
    x, reference = fields[: options.images], fields[options.images :]
    problem = InverseProblem(Identity(shape), GaussianNoise(NOISE))
    spread = NOISE / (1 + NOISE**2) ** 0.5

    def closed(y: Tensor) -> Independent:
        return Independent(Normal(y / (1 + NOISE**2), torch.full_like(y, spread)), 3)

    def sampled(y: Tensor, draws: int) -> Tensor:
        noise = NoiseStream(1, 0).normal((draws, *y.shape))
        return y / (1 + NOISE**2) + spread * noise

    rows, before = [], peak()
    for name, solver in (("closed form", closed), ("draws", sampled)):
        seconds = []
        for _ in range(3):
            start = time.process_time()
            found = latens.evaluate(solver, problem, x, reference=reference)
            seconds.append(time.process_time() - start)
        row = {
            "posterior": name,
            "images": options.images,
            "side": options.side,
            "metrics": len(found.metrics),
            "seconds": min(seconds),
            "mib": peak() - before,
        }
        rows.append(row)
        print(row)
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")


def smooth(count: int, side: int) -> Tensor:
    """Fields with variance 1 and a correlation length of four pixels, `(count, 1, side, side)`."""
    white = NoiseStream(0, 0).normal((count, side, side))
    frequency = torch.fft.fftfreq(side)
    square = frequency[:, None] ** 2 + frequency[None] ** 2
    filtered = torch.fft.ifft2(torch.fft.fft2(white) * torch.exp(-square * 4**2 * 3)).real
    return (filtered / filtered.std())[:, None]


def peak() -> float:
    """Largest resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
