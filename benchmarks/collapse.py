"""Posterior collapse on phantom subjects: what each recipe does, measured.

    python benchmarks/collapse.py

Two traps and four recipes on 4 × 16³ scans of 320 phantom subjects with more than 50 factors, 64
latents, the same network, budget and seeds. `mean` is the loss "mean squared error + KL": a
Gaussian decoder of variance D/2. `learned` is the evidence bound with a learned scale of each
modality. Capacity is of 40 nats with the weight γ of Burgess et al., and with one that just holds
it; free bits of .1 bind where the likelihood is the wrong one, 2 nats beside the right one. For
DIP-VAE-II three estimates of the penalty meet at batches of 4 and 16, with weights in nats, at
batches of 4 with 3 and 10 times those, and after the division by D. Writes
`benchmarks/data/collapse.json` and prints a table.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.distributions import Distribution

from latens.data import PhantomSubjects
from latens.distributions import NoiseStream
from latens.models.volume_vae import VolumeVAE
from latens.nets import Volumetric
from latens.nets.scale import FixedScale
from latens.objectives.covariance import CovariancePenalty, covariance, squares
from latens.objectives.dip import Dip, DipPenalty
from latens.objectives.kl_control import KLControl
from latens.training import Training, fit_model
from latens.training.diagnostics import latent_use
from latens.training.volumes import VolumeData

RESULTS = Path(__file__).parent / "data" / "collapse.json"
DIM, SIZE, COUNT, HELD_OUT = 64, 16, 400, 80
TIMES = {"": 1.0, ", λ times 3": 3.0, ", λ times 10": 10.0}
TIMES[", λ after the division by D"] = float(4 * SIZE**3)
ROWS = {", λ times 3": (4,), ", λ times 10": (4,)}
"""Sizes of batches, where they are not 4 and 16."""
KINDS = {"plain squares": "plain", "U-statistic": "squares", "buffered": "buffered"}
MODALITIES = ("t1c", "t1n", "t2f", "t2w")


class PlainSquares(DipPenalty):
    """The penalty as usually coded: squares of the sample covariance."""

    def forward(self, q: Distribution) -> CovariancePenalty:
        whole = covariance(q.mean) + torch.diag(q.variance.mean(0))
        variance = whole.diagonal()
        off = whole.square().sum() - variance.square().sum()
        floor = squares(q.mean, q.variance).floor
        return CovariancePenalty(off, (variance - 1).square().sum(), floor)


def vae(control: KLControl = KLControl(), dip: Dip | None = None) -> VolumeVAE:  # noqa: B008
    """The model of every arm."""
    nets = Volumetric(8, 128, 2, 4)
    return VolumeVAE((4, SIZE, SIZE, SIZE), dim=DIM, architecture=nets, control=control, dip=dip)


def mean_squares(control: KLControl = KLControl()) -> VolumeVAE:  # noqa: B008
    """The same with the variance that "mean squared error + KL" implies."""
    model = vae(control)
    variance = model.event_size / 2
    model.decoder_net.scale = FixedScale(1e-3, 1e6, math.sqrt(variance))
    return model


def dip_vae(kind: str, start: int, times: float) -> VolumeVAE:
    """DIP-VAE-II with one of the three estimates, λ = 10 and 5 nats times a factor, from a step on
    that the ramp doubles.
    """
    estimator = "squares" if kind == "plain" else kind
    settings = Dip(10 * times, 5 * times, start, start, estimator)  # pyright: ignore
    model = vae(dip=settings)
    if kind == "plain":
        model.dip = PlainSquares(DIM, settings)
    return model


def arms(steps: int) -> dict[str, tuple[Callable[[], VolumeVAE], int]]:
    """Models and batch sizes by name."""
    free, cycles = KLControl(free_bits=0.1), KLControl(cycles=4, cycle_steps=steps // 5)
    sample = KLControl(free_bits=0.1, over="sample")
    capacity = KLControl(capacity=40.0, capacity_steps=steps // 2)
    least = KLControl(capacity=40.0, capacity_steps=steps // 2, capacity_weight=10.0)
    return {
        "mean": (mean_squares, 16),
        "mean, free bits .1 of the batch": (partial(mean_squares, free), 16),
        "mean, free bits .1 of each sample": (partial(mean_squares, sample), 16),
        "mean, 4 cycles": (partial(mean_squares, cycles), 16),
        "mean, capacity 40, γ 1000": (partial(mean_squares, capacity), 16),
        "mean, capacity 40, γ 10": (partial(mean_squares, least), 16),
        "learned": (vae, 16),
        "learned, free bits .1 of the batch": (partial(vae, free), 16),
        "learned, free bits 2 of the batch": (partial(vae, KLControl(free_bits=2.0)), 16),
        "learned, 4 cycles": (partial(vae, cycles), 16),
        "learned, capacity 40, γ 1000": (partial(vae, capacity), 16),
        "learned, capacity 40, γ 10": (partial(vae, least), 16),
        "learned, batches of 4": (vae, 4),
        **{
            f"learned, DIP, {word}, batches of {rows}{after}": (
                partial(dip_vae, kind, steps // 4, times),
                rows,
            )
            for after, times in TIMES.items()
            for rows in ROWS.get(after, (4, 16))
            for word, kind in KINDS.items()
        },
    }


def correlation(loc: torch.Tensor) -> float:
    """Root mean square correlation between posterior means of active units."""
    active = loc[:, loc.var(0) >= 0.01]
    if active.shape[1] < 2:
        return math.nan
    matrix = torch.corrcoef(active.T)
    off = matrix[~torch.eye(len(matrix), dtype=torch.bool)]
    return float(off.square().mean().sqrt())


def main() -> None:
    """Train every arm, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of the arms")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = PhantomSubjects((SIZE,) * 3, COUNT).load().held()[:].images
    pair = x[HELD_OUT:], torch.zeros(len(x) - HELD_OUT, 0)
    held = x[:HELD_OUT], torch.zeros(HELD_OUT, 0)
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    done = {(row["arm"], row["seed"], row["steps"]) for row in rows}
    for name, (make, batch_size) in arms(options.steps).items():
        for seed in range(options.seeds):
            if (name, seed, options.steps) in done or options.only not in name:
                continue
            start = time.perf_counter()
            torch.manual_seed(seed)
            model = make()
            settings = Training(
                max_steps=options.steps,
                batch_size=batch_size,
                warmup_steps=20,
                kl_warmup_steps=0,
                validate_every=options.steps,
            )
            fit_model(model, pair, held, settings, seed, make_data=partial(VolumeData))
            use = latent_use(model, held[0], NoiseStream(seed, 0), MODALITIES, 8.0)
            numbers = use.numbers
            rows.append(
                {
                    "arm": name,
                    "seed": seed,
                    "steps": options.steps,
                    "active_units": numbers["diag/au_count"],
                    "kl": numbers["diag/kl_raw"],
                    "mse": numbers["diag/recon_mu_mse"],
                    "z0_ratio": numbers["diag/recon_z0_mse"] / numbers["diag/recon_mu_mse"],
                    "correlation": correlation(use.loc),
                    "verdict": use.diagnosis.verdict,
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
