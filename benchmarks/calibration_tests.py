"""Measured size and power of the calibration tests, beside those of sbi, and their speed.

    python benchmarks/calibration_tests.py [--only tests few speed] [--at-most N]

500 images of a smooth Gaussian field, 8 × 8, behind a blur of which half of the pixels are not
measured; the posterior is known. Each wrong posterior of `tests/oracles/masked_field.py` is wrong
in one way. A row holds how often a test rejects at 5 %; `all, together` is the verdict of the
library, one alarm or more among all tests after adjustment by relabelling, and `all, Holm` what
Holm's rule would say of the same p-values without the local test. `log q(x | y)` ranks the density
of the wrong posterior itself, which is that of the latents of a linear model too; `LC2ST, held
out` is the test of `latens.metrics.lc2st`. Where sbi is importable, its tests see the same truth
and draws. `few` is the same for 24 and 50 images, the numbers that checks use, with 39 draws, and
adds the power that `evaluation.sight` foretells from draws of the exact posterior. `speed` times
simulation-based calibration of 500 images in blocks against a loop over images, through the same
functions.

Rows go to `benchmarks/data/calibration_tests.json`; a row that is there with as many data sets
(or with the N of `--at-most`) is not measured again.
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
from numpy.typing import NDArray
from torch import Tensor

from latens.distributions import NoiseStream
from latens.evaluation import calibration as library
from latens.evaluation.calibration import model_calibration, uniformity_tests
from latens.evaluation.calibration_numbers import Numbers
from latens.evaluation.quantities import fit_quantities
from latens.evaluation.sight import alterations, power_of_ranks
from latens.inference import Amortised
from latens.metrics import holm, lc2st, principal_directions
from latens.models import Latent
from latens.nets import Architecture, Conv, Linear
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem
from oracles.masked_field import WRONG, MaskedField

ROWS = Path(__file__).resolve().parent / "data" / "calibration_tests.json"
IMAGES = 500
DRAWS = (8, 20, 100)
FEW = (24, 50)
FEW_DRAWS = 39
HELD_OUT = 20
"""Data sets of each kind on which classifiers are trained a hundred times."""

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
    parts = {"tests": tests, "few": few, "speed": speed}
    parser.add_argument("--only", nargs="*", choices=list(parts), default=list(parts))
    parser.add_argument("--at-most", type=int, default=10**6, help="data sets of each kind")
    arguments = parser.parse_args()
    rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.is_file() else []
    for name in arguments.only:
        for found in parts[name](rows, arguments.at_most):
            kind = {
                key: found[0].get(key) for key in ("part", "posterior", "draws", "images", "model")
            }
            rows = [row for row in rows if any(row.get(k) != v for k, v in kind.items())]
            rows += found
            ROWS.parent.mkdir(exist_ok=True)
            ROWS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
            for row in found:
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def tests(rows: list[Row], at_most: int) -> Iterator[list[Row]]:
    """Rejection rates of every test for each M and posterior."""
    field = MaskedField()
    for draws in DRAWS:
        for posterior in ("exact", *WRONG):
            asked = min(at_most, REPLICATES.get(posterior, 50))
            if _there(rows, "tests", IMAGES, draws, posterior) < asked:
                yield rejections(field, "tests", IMAGES, draws, posterior, asked)


def few(rows: list[Row], at_most: int) -> Iterator[list[Row]]:
    """Rejection rates for as few images as checks use, and the power that is foretold."""
    field = MaskedField()
    for images in FEW:
        for posterior in ("exact", *WRONG):
            asked = min(at_most, REPLICATES.get(posterior, 50))
            if _there(rows, "few", images, FEW_DRAWS, posterior) < asked:
                yield rejections(field, "few", images, FEW_DRAWS, posterior, asked)
        asked = min(at_most, 20)
        if _there(rows, "few", images, FEW_DRAWS, "foretold") < asked:
            yield foretold(field, images, asked)


def foretold(field: MaskedField, images: int, replicates: int) -> list[Row]:
    """Mean over data sets of the power that the check states, one row per wrong posterior."""
    directions, said = _directions(field), []
    keys = list(range(images))
    for replicate in range(replicates):
        members, y = simulate(field, FEW_DRAWS, "exact", replicate, images)
        quantities = fit_quantities(members, y, field.problem, directions, replicate)
        altered = {
            name: _arrays(quantities(alter(members, keys, replicate), y, keys))
            for name, alter in alterations().items()
        }
        values = _arrays(quantities(members, y, keys))
        rng = np.random.default_rng([images, replicate])
        said.append(power_of_ranks(values, altered, rng))
    rows: list[Row] = []
    for kind in said[0]:
        powers = np.array([power[kind] for power in said])
        rows.append(
            {
                "part": "few",
                "posterior": "foretold",
                "images": images,
                "draws": FEW_DRAWS,
                "test": "power",
                "quantity": kind,
                "rate": round(float(powers.mean()), 4),
                "error": round(float(powers.std(ddof=1)) / sqrt(replicates), 4),
                "replicates": replicates,
            }
        )
    return rows


def rejections(
    field: MaskedField, part: str, images: int, draws: int, posterior: str, replicates: int
) -> list[Row]:
    """How often each test rejects at 5 %, one row per test."""
    directions = _directions(field)
    counts: Counter[tuple[str, str]] = Counter()
    names: Counter[tuple[str, str]] = Counter()
    begin = time.process_time()
    for replicate in range(replicates):
        members, y = simulate(field, draws, posterior, replicate, images)
        quantities = fit_quantities(members, y, field.problem, directions, replicate)
        values = _arrays(quantities(members, y, list(range(images))))
        values["log q(x | y)"] = -log_density(field, members, y, posterior)
        summaries = (quantities.summaries(s, 4) for s in (members, quantities.regularised(y)))
        theta, given = (numbers.double().numpy() for numbers in summaries)
        told = Numbers(values, (theta, given), {}, (), 0).told
        rng = np.random.default_rng([draws, replicate])
        found, _ = uniformity_tests(values, rng, local=told)
        p = {(test.test, test.quantity): test.p_value for test in found}
        p["together", "all"] = min(test.p_adjusted for test in found)
        ranked = [test.p_value for test in found if test.test != "classifier"]
        p["Holm", "all"] = float(holm(ranked).min())
        p |= peer_p_values(members, replicate)
        if replicate < HELD_OUT and told is not None:
            p |= held_out_p_values(*told, replicate)
        names.update(list(p))
        counts.update(name for name, value in p.items() if value <= 0.05)
    seconds = (time.process_time() - begin) / replicates
    return [
        {
            "part": part,
            "posterior": posterior,
            "images": images,
            "draws": draws,
            "test": test,
            "quantity": quantity,
            "rate": round(counts[test, quantity] / sets, 4),
            "error": round(_binomial_error(counts[test, quantity], sets), 4),
            "replicates": sets,
            "seconds": round(seconds, 2),
        }
        for (test, quantity), sets in names.items()
    ]


def simulate(
    field: MaskedField, draws: int, posterior: str, replicate: int, images: int = IMAGES
) -> tuple[Tensor, Tensor]:
    """Truth and draws, `(M + 1, n, 1, 8, 8)`, and measurements, in float32."""
    stream = NoiseStream(draws, replicate)
    size = field.problem.measurement_shape[0]
    x, y = field.pairs(stream.normal((images, 64)), stream.normal((images, size)))
    sample = field.draws(y, stream.normal((draws, images, 64)), posterior)
    return torch.cat([x[None], sample]), y


def log_density(
    field: MaskedField, members: Tensor, y: Tensor, posterior: str
) -> NDArray[np.float64]:
    """log q(x | y) of the posterior that made the draws, without its constant, `(M + 1, n, 1)`."""
    flat = members.flatten(2).double()
    none = torch.zeros(1, len(y), 64, dtype=torch.float64)
    mean = field.draws(y.double(), none, posterior).flatten(2)
    root = field.roots[0] if posterior == "prior" else field.roots[1]
    if posterior == "uncorrelated":
        root = field.posterior_covariance.diagonal().sqrt().diag()
    white = torch.linalg.solve_triangular(root, (flat - mean).flatten(0, 1).T, upper=False)
    return -0.5 * white.square().sum(0).reshape(*flat.shape[:2], 1).numpy()


def held_out_p_values(
    theta: NDArray[np.float64], given: NDArray[np.float64], replicate: int
) -> dict[tuple[str, str], float]:
    """p-values of tests that train classifiers: ours on held-out images, and LC2ST of sbi.

    sbi asks at one y, here that of the first image, which does not train; 19 networks under the
    null are few, and exact at 5 % all the same.
    """
    found = lc2st(theta[0], theta[1:9], given, np.random.default_rng(replicate))
    p = {("LC2ST, held out", f"local ({theta.shape[2]})"): found.p_value}
    try:
        from sbi.diagnostics.lc2st import LC2ST
    except ImportError:
        return p
    truth, draws, y = (torch.from_numpy(a).float() for a in (theta[0], theta[1:], given))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(replicate)
        peer = LC2ST(truth[1:], y[1:], draws[0, 1:], seed=replicate, num_trials_null=19)
        peer.train_under_null_hypothesis(verbosity=0)
        peer.train_on_observed_data(verbosity=0)
        p["sbi LC2ST", "one y"] = float(peer.p_value(draws[:, 0], y[:1]))
    return p


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


def _there(rows: list[Row], part: str, images: int, draws: int, posterior: str) -> int:
    """Data sets behind the verdict or the power that is there, 0 without them."""
    key = part, images, draws, posterior
    sets = [
        row["replicates"]
        for row in rows
        if tuple(row.get(k) for k in ("part", "images", "draws", "posterior")) == key
        and row["test"] in ("together", "power")
    ]
    return max((n for n in sets if isinstance(n, int)), default=0)


def _arrays(found: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {name: numbers.double().numpy() for name, numbers in found.items()}


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
