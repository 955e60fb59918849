"""Time and peak memory of a training step on volumes, against MONAI's `VarAutoEncoder`.

    python benchmarks/volumes.py --size 64 --batch 2

Both have 128 latents and see 4 modalities; the widths of ours are chosen so that both make the
same number of multiply-adds in a forward and backward pass (printed, within a few per cent). A
step is loss, gradients and Adam. Every measurement has a process of its own: time is the median
of the steps after the first, memory the largest resident set (`VmHWM`), less that of a
process that has only imported the same modules and made the batch; of compiled networks it
includes the compiler's. Results are added to `benchmarks/data/volumes.json`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

RESULTS = Path(__file__).parent / "data" / "volumes.json"
LATENTS, CHANNELS = 128, 4
OURS = ("ours", "ours, recomputed", "ours, compiled")


def batch(size: int, count: int) -> Tensor:
    """Volumes of smooth noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, CHANNELS, 8, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")


class Peer(nn.Module):
    """MONAI's network with mean squared error and KL."""

    def __init__(self, size: int, units: int) -> None:
        from monai.networks.nets import VarAutoEncoder

        super().__init__()
        self.net = VarAutoEncoder(
            spatial_dims=3,
            in_shape=(CHANNELS, size, size, size),
            out_channels=CHANNELS,
            latent_size=LATENTS,
            channels=(16, 32, 64, 128),
            strides=(2, 2, 2, 2),
            num_res_units=units,
        )

    def forward(self, x: Tensor) -> Tensor:
        reconstruction, loc, log_variance, _ = self.net(x)
        kl = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return nn.functional.mse_loss(reconstruction, x) + kl / x[0].numel()


class Ours(nn.Module):
    """The VAE of volumes with its evidence bound."""

    def __init__(self, size: int, width: int, patch: int, recompute: bool) -> None:
        from latens.models.volume_vae import VolumeVAE
        from latens.nets import Volumetric

        super().__init__()
        nets = Volumetric(width, 256, patch, 8, recompute=recompute)
        self.model = VolumeVAE((CHANNELS, size, size, size), dim=LATENTS, architecture=nets)
        self.step = 0

    def forward(self, x: Tensor) -> Tensor:
        from latens.distributions import NoiseStream
        from latens.objectives import reduce_terms

        self.step += 1
        noise = NoiseStream(0, self.step, device=x.device)
        terms = self.model.terms("elbo", x, x, noise, None)
        return reduce_terms(terms, self.model.event_size)


def operations(name: str, options: argparse.Namespace, width: int = 0) -> float:
    """Multiply-adds of a forward and backward pass per volume."""
    x = batch(options.size, 1)
    if name == "peer":
        model: nn.Module = Peer(options.size, options.units)
    else:
        model = Ours(options.size, width, options.patch, False)
    with FlopCounterMode(display=False) as counter:
        model(x).backward()
    return counter.get_total_flops() / 2


def make(name: str, options: argparse.Namespace) -> nn.Module:
    """The model that a child measures."""
    torch.manual_seed(0)
    if name == "peer":
        return Peer(options.size, options.units)
    return Ours(options.size, options.width, options.patch, name == "ours, recomputed")


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds per step and MiB, in this process."""
    from latens.training.hardware import Hardware

    x = batch(options.size, options.batch)
    if name == "nothing":
        Peer(16, options.units), Ours(16, 8, 2, False)
        return {"mib": peak()}
    model = make(name, options)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    seconds = []
    with Hardware(compiled=name == "ours, compiled").compiling(model):
        for _ in range(options.steps + 1):
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bf16):
                loss = model(x)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "mib": peak(), "loss": float(loss.detach())}


def peak() -> float:
    """Largest resident set of this process, MiB; `ru_maxrss` would begin at that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def matched_width(options: argparse.Namespace, target: float) -> int:
    """Width of ours whose multiply-adds are nearest to the peer's."""
    found = {8: operations("ours", options, 8)}
    while found[max(found)] < target:
        found[max(found) + 4] = operations("ours", options, max(found) + 4)
    return min(found, key=lambda width: abs(found[width] - target))


def main() -> None:
    """Measure, print ratios, add to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--units", type=int, default=2, help="residual units of the peer")
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--width", type=int, default=0, help="of ours; 0 to match the peer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    peer = operations("peer", options)
    options.width = options.width or matched_width(options, peer)
    ours = operations("ours", options, options.width)
    found: dict[str, dict[str, float]] = {}
    words = ("size", "batch", "steps", "units", "patch", "width", "threads")
    given = [f"--{word}={getattr(options, word)}" for word in words]
    given += ["--bf16"] if options.bf16 else []
    for name in ("nothing", "peer", *OURS):
        command = [sys.executable, __file__, *given, f"--child={name}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[name] = json.loads(output.splitlines()[-1])
    row = {word: getattr(options, word) for word in words} | {"bf16": options.bf16}
    row |= {"peer_multiply_adds": peer, "our_multiply_adds": ours, "measured": found}
    base = found["nothing"]["mib"]
    for name in OURS:
        row[f"time_ratio {name}"] = found[name]["seconds"] / found["peer"]["seconds"]
        memory = (found[name]["mib"] - base) / (found["peer"]["mib"] - base)
        row[f"memory_ratio {name}"] = memory
        print(f"{name}: {row[f'time_ratio {name}']:.2f} × time, {memory:.2f} × memory")
    print(f"multiply-adds {ours / 1e9:.3g} against {peer / 1e9:.3g} GMAC, width {options.width}")
    print(json.dumps(found))
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    RESULTS.write_text(json.dumps([*rows, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
