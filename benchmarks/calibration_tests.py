"""Measured size and power of the calibration tests, beside those of sbi, and their speed.

    python benchmarks/calibration_tests.py [--only tests speed] [--at-most N]

500 images of a smooth Gaussian field, 8 × 8, behind a blur of which half of the pixels are not
measured; the posterior is known. Each wrong posterior of `tests/oracles/masked_field.py` is wrong
in one way. A row holds how often a test rejects at 5 %; `all, Holm` is the verdict of the library,
one alarm or more among all tests after Holm's rule. Where sbi is importable, its tests see the
same truth and draws. `speed` times simulation-based calibration of 500 images in blocks against a
loop over images, through the same functions.

Rows go to `benchmarks/data/calibration_tests.json`; a row that is there with as many data sets
(or with the N of `--at-most`) is not measured again. About 25 minutes of one core.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.evaluation import calibration as library
from latens.evaluation.calibration import model_calibration, uniformity_tests
from latens.evaluation.quantities import fit_quantities
from latens.inference import Amortised
from latens.metrics import holm_adjusted, principal_directions
from latens.models import Latent
from latens.nets import Architecture, Conv, Linear
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from oracles.masked_field import WRONG, MaskedField

ROWS = Path(__file__).resolve().parent / "data" / "calibration_tests.json"
IMAGES = 500
DRAWS = (8, 20, 100)
REPLICATES = {"exact": 400, "narrow": 100, "prior": 100}
"""Data sets for each posterior; 50 for the others."""

SPEED: dict[str, tuple[int, Callable[[], Architecture]]] = {
    "linear decoder, 16 x 16": (16, Linear),
    "convolutions, 28 x 28": (28, lambda: Conv(8, features=32)),
}
Row = dict[str, object]


def main() -> None:
    """Measure what is missing and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = {"tests": tests, "speed": speed}
    parser.add_argument("--only", nargs="*", choices=list(parts), default=list(parts))
    parser.add_argument("--at-most", type=int, default=10**6, help="data sets of each kind")
    arguments = parser.parse_args()
    rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.is_file() else []
    for name in arguments.only:
        for found in parts[name](rows, arguments.at_most):
            kind = {key: found[0].get(key) for key in ("part", "posterior", "draws", "model")}
            rows = [row for row in rows if any(row.get(k) != v for k, v in kind.items())]
            rows += found
            ROWS.parent.mkdir(exist_ok=True)
            ROWS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
            for row in found:
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def tests(rows: list[Row], at_most: int) -> Iterator[list[Row]]:
    """Rejection rates of every test for each M and posterior."""
    field = MaskedField()
    measured = {
        (row["draws"], row["posterior"]): row["replicates"] for row in rows if "posterior" in row
    }
    for draws in DRAWS:
        for posterior in ("exact", *WRONG):
            asked = min(at_most, REPLICATES.get(posterior, 50))
            there = measured.get((draws, posterior), 0)
            assert isinstance(there, int)
            if there < asked:
                yield rejections(field, draws, posterior, asked)


def rejections(field: MaskedField, draws: int, posterior: str, replicates: int) -> list[Row]:
    """How often each test rejects at 5 %, one row per test."""
    directions = _directions(field)
    counts: Counter[tuple[str, str]] = Counter()
    names: dict[tuple[str, str], None] = {}
    begin = time.process_time()
    for replicate in range(replicates):
        members, y = simulate(field, draws, posterior, replicate)
        quantities = fit_quantities(members, y, field.problem, directions, replicate)
        values = {
            name: numbers.numpy()
            for name, numbers in quantities(members, y, list(range(IMAGES))).items()
        }
        found, _ = uniformity_tests(values, np.random.default_rng([draws, replicate]))
        p = {(test.test, test.quantity): test.p_value for test in found}
        p["Holm", "all"] = float(holm_adjusted(found).min())
        p |= peer_p_values(members, replicate)
        names |= dict.fromkeys(p)
        counts.update(name for name, value in p.items() if value <= 0.05)
    seconds = (time.process_time() - begin) / replicates
    return [
        {
            "part": "tests",
            "posterior": posterior,
            "draws": draws,
            "test": test,
            "quantity": quantity,
            "rate": round(counts[test, quantity] / replicates, 4),
            "error": round(_binomial_error(counts[test, quantity], replicates), 4),
            "replicates": replicates,
            "seconds": round(seconds, 2),
        }
        for test, quantity in names
    ]


def simulate(
    field: MaskedField, draws: int, posterior: str, replicate: int
) -> tuple[Tensor, Tensor]:
    """Truth and draws, `(M + 1, n, 1, 8, 8)`, and measurements, in float32."""
    stream = NoiseStream(draws, replicate)
    size = field.problem.measurement_shape[0]
    x, y = field.pairs(stream.normal((IMAGES, 64)), stream.normal((IMAGES, size)))
    sample = field.draws(y, stream.normal((draws, IMAGES, 64)), posterior)
    return torch.cat([x[None], sample]), y


def peer_p_values(members: Tensor, replicate: int) -> dict[tuple[str, str], float]:
    """p-values of sbi's SBC (Kolmogorov–Smirnov) and TARP with its own references."""
    try:
        from sbi.diagnostics.sbc import check_uniformity_frequentist
        from sbi.diagnostics.tarp import _run_tarp, check_tarp, get_tarp_references
    except ImportError:
        return {}
    draws, flat = len(members) - 1, members.flatten(2)
    ranks = (flat[1:] < flat[0]).sum(dim=0).float()[:, ::8]  # 8 of the 64 pixels
    p = check_uniformity_frequentist(ranks, draws)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(replicate)
        references = get_tarp_references(flat[0])
    ecp, alpha = _run_tarp(flat[1:], flat[0], references, z_score_theta=True)
    _, tarp = check_tarp(ecp, alpha)
    return {
        ("sbi SBC, KS", "one pixel"): float(p[0]),
        ("sbi SBC, KS, Bonferroni", "pixels (8)"): min(1.0, 8 * float(p.min())),
        ("sbi TARP, KS", "x"): float(tarp),
    }


def speed(rows: list[Row], at_most: int) -> Iterator[list[Row]]:
    """Seconds of simulation-based calibration in blocks and one image at a time."""
    measured = {row["model"] for row in rows if row["part"] == "speed"}
    for name, (side, architecture) in SPEED.items():
        if name in measured:
            continue
        shape = (1, side, side)
        torch.manual_seed(0)
        model = Latent(shape, shape, dim=8, architecture=architecture())
        problem = InverseProblem(GaussianBlur(shape, 1.0), GaussianNoise(0.1))
        solver = Amortised(model, problem)
        model_calibration(solver, 40)  # what is made at first use
        blocks = _seconds(lambda solver=solver: model_calibration(solver, IMAGES))
        whole, library.BLOCK_BYTES = library.BLOCK_BYTES, 1
        try:
            loop = _seconds(lambda solver=solver: model_calibration(solver, IMAGES))
        finally:
            library.BLOCK_BYTES = whole
        yield [
            {
                "part": "speed",
                "model": name,
                "images": IMAGES,
                "draws": 39,
                "blocks_s": round(blocks, 2),
                "loop_s": round(loop, 2),
                "ratio": round(loop / blocks, 1),
            }
        ]


def _directions(field: MaskedField) -> Tensor:
    """Principal directions of signals that are not tested."""
    stream = NoiseStream(1_000_003)
    size = field.problem.measurement_shape[0]
    return principal_directions(
        field.pairs(stream.normal((1000, 64)), stream.normal((1000, size)))[0], 8
    )


def _binomial_error(hits: int, replicates: int) -> float:
    """Standard error of a rate, never 0: of the rate with one hit and one miss added."""
    rate = (hits + 1) / (replicates + 2)
    return sqrt(rate * (1 - rate) / replicates)


def _seconds(job: Callable[[], object]) -> float:
    """Seconds of the processor, which other programs on the machine do not change."""
    begin = time.process_time()
    job()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
