"""What the scans of phantom subjects allow: noise, linear latents, and what an encoder can read.

    python benchmarks/phantom_bounds.py                 # noise and principal components, 1 minute
    python benchmarks/phantom_bounds.py --minutes 4     # and the encoder, trained that long

*Noise*: mean square distance of scans from their mean image, over that of the noise: the largest
ratio "error with z = 0 over error with μ" that any decoder can reach. *Principal components*: the
same ratio for the best linear latents. *Encoder*: the layers of the encoder of `exp3` trained by
the known quantities alone, without any decoder; R² on 300 held-out subjects: what a partitioned
VAE with this encoder can hope for after as many scans. All at 4 × 32³.
"""

import argparse
import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from latens.data import PhantomSubjects, Subjects
from latens.data.subjects import PARTS
from latens.nets import Volumetric

SIZE, COUNT, HELD_OUT, BATCH = (32, 32, 32), 5000, 300, 16
LINEAR = 1200
COMPONENTS = (7, 32, 64, 96, 128, 300)


def noise(subjects: Subjects, x: Tensor) -> None:
    """Ratio that noise allows."""
    still: Any = copy.copy(subjects.read)  # paints the same scans
    still.values = {**still.values, "noise": 0 * still.values["noise"]}
    clean = still(range(len(x))).images
    distance, floor = (x - x.mean(0)).square().mean(), (x - clean).square().mean()
    print(f"from the mean image {distance:.4f}, noise {floor:.4f}: ratio {distance / floor:.1f}")


def components(x: Tensor) -> None:
    """Ratio of principal components of most scans, on the last 200."""
    train, test = x[:-200].flatten(1), x[-200:].flatten(1)
    centred, held = train - train.mean(0), test - train.mean(0)
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())
    largest = values.flip(0)[: max(COMPONENTS)].sqrt().float()
    directions = centred.T @ vectors.flip(1)[:, : max(COMPONENTS)].float() / largest
    codes, total = (held @ directions).square(), held.square().sum(1).mean()
    for count in COMPONENTS:
        left = total - codes[:, :count].sum(1).mean()
        print(f"{count:>4} principal components: ratio {total / left:.2f}")


def encoder(subjects: Subjects, minutes: float) -> None:
    """R² of the encoder alone against the number of scans that it has seen."""
    targets = subjects.target(*PARTS)
    y = (targets - targets.mean(0)) / targets.std(0)
    torch.manual_seed(0)
    net = Volumetric(16, 256, 2, 4).posterior([(4, *SIZE)], y.shape[1], (4, *SIZE))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    order = torch.randperm(COUNT - HELD_OUT)
    held = subjects[slice(COUNT - HELD_OUT, COUNT)].images
    start, seen, looks, painting = time.perf_counter(), 0, 0, 0.0
    while (spent := time.perf_counter() - start - painting) < 60 * minutes:
        for group in optimiser.param_groups:  # linear to zero
            group["lr"] = 2e-3 * min(1.0, (seen + BATCH) / 1600) * (1 - spent / (60 * minutes))
        rows = order[[(seen + k) % len(order) for k in range(BATCH)]]
        before = time.perf_counter()
        x = subjects[rows].images
        painting += time.perf_counter() - before
        loss = (net(x).mean - y[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        seen += BATCH
        if spent > 60 * minutes * (looks + 1) / 6:
            looks += 1
            report(net, held, y[-HELD_OUT:], seen)
    report(net, held, y[-HELD_OUT:], seen)


@torch.no_grad()
def report(net: nn.Module, held: Tensor, y: Tensor, seen: int) -> None:
    """R² of every part on held-out subjects."""
    read = torch.cat([net(part).mean for part in held.split(50)])
    r2 = 1 - (read - y).square().mean(0) / y.var(0)
    found, first = [], 0
    for name, columns in PARTS.items():
        found.append(f"{name} {r2[first : first + len(columns)].mean():.3f}")
        first += len(columns)
    print(f"{seen:>7} scans: R² {', '.join(found)}", flush=True)


def main() -> None:
    """Print every bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="of training the encoder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    subjects = PhantomSubjects(SIZE, COUNT).load()
    x = subjects[slice(0, LINEAR)].images
    noise(subjects, x)
    components(x)
    if options.minutes:
        encoder(subjects, options.minutes)


if __name__ == "__main__":
    main()
