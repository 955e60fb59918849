"""What precomputed trunks and compressed sensors save in the density of latents.

    python benchmarks/field_density.py [--repeats 7]

*Residual*: gradient in w of the mean square of the strong residual of Darcy's equation at 196
points, B fields, float32: with derivatives of a and u by nested automatic differentiation through
the trunks, by forward-mode Taylor through them at every call (as training does, since its trunks
change), and with both trunks evaluated once (`FixedResidual`). *Sensors*: gradient of the
log-likelihood of 64 latents given m readings, float64, with all of them and with what QR leaves.
The networks have the sizes of the preset `smooth` and eight latents, and random weights. Times are
CPU seconds of one thread, the smallest of the repeats, in alternation. Rows go to
`benchmarks/data/field_density.json`; a minute of one core.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from latens.data.field_families import WaveSums
from latens.distributions import NoiseStream
from latens.inference.fields import DecodedSensors, FieldTarget, FixedResidual, NoiseLevel
from latens.inference.fields.target import Readings
from latens.models.igno import IGNO
from latens.nets.decoded import DecodedField
from latens.nets.jets import Jet
from latens.objectives.equations import DarcyEquation
from latens.objectives.residuals import diffusion_residual
from latens.problems.pde import Darcy
from latens.training import one_thread

ROWS = Path(__file__).resolve().parent / "data" / "field_density.json"
FIELDS = (1, 16, 64)
SENSORS = (100, 1000, 10000)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with one_thread():
        found = {
            "residual": [residual(count, repeats) for count in FIELDS],
            "sensors": [sensors(count, repeats) for count in SENSORS],
        }
    ROWS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def operator_model() -> IGNO:
    """Untrained, with units of twelve fields."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = IGNO((1, 29, 29), (1, 29, 29), DarcyEquation(form="strong"), dim=8)
    a = WaveSums().fields(0, range(12), (29, 29))
    model.fit_units(a.float(), Darcy((1, 29, 29))(a).float())
    return model.requires_grad_(False)


def residual(count: int, repeats: int) -> dict[str, float]:
    """Seconds per gradient by three ways, and how far their residuals are from the first's."""
    model, w = operator_model(), NoiseStream(1).normal((count, 8))
    rows = torch.arange(model.equation.discs)
    fixed = FixedResidual(model, len(rows))
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "autograd": lambda v: by_autograd(model, v),
        "taylor": lambda v: model.equation.residual(model.coefficient(v), model.solution(v), rows),
        "fixed": fixed,
    }
    wanted = by_autograd(model, w).detach()
    found: dict[str, float] = {"fields": count}
    for name, way in ways.items():
        off = (way(w).detach() - wanted).abs().max() / wanted.abs().max()
        found[f"{name}_difference"] = rounded(float(off))
    times = fastest(
        {n: gradient(lambda v, f=f: f(v).square().mean(1), w) for n, f in ways.items()}, repeats
    )
    for name, seconds in times.items():
        found[f"{name}_seconds"] = rounded(seconds)
    for name in ("taylor", "fixed"):
        found[f"{name}_ratio"] = rounded(times["autograd"] / times[name])
    return found


def by_autograd(model: IGNO, w: Tensor) -> Tensor:
    """The residual with every field at points of its own, differentiated twice."""
    equation = model.equation
    assert isinstance(equation, DarcyEquation)
    points = equation.weak.centres.float()
    a = differentiated(model.coefficient(w), points, second=False)
    u = differentiated(model.solution(w), points, second=True)
    return diffusion_residual(a, u, equation.source)[:, 0] / equation.source


def differentiated(field: DecodedField, points: Tensor, second: bool) -> Jet:
    """Values and derivatives of a batch, `(B, 1, P)`; zeros for second ones not asked for."""
    codes = field.coefficients.flatten(0, -2)  # (B, K)
    count = len(codes)
    own = points.repeat(count, 1).requires_grad_()  # (B P, 2)
    basis = field.net.basis(own).unflatten(1, (count, -1))  # (K, B, P)
    value = torch.einsum("bk,kbp->bp", codes, basis) * field.scale + field.loc
    multiplier = field.condition.multiplier(own).value.unflatten(-1, (count, -1))
    value = value * multiplier
    (first,) = torch.autograd.grad(value.sum(), own, create_graph=True)  # (B P, 2)
    curved = [torch.zeros_like(first[:, 0])] * 2
    if second:
        curved = [
            torch.autograd.grad(first[:, i].sum(), own, create_graph=True)[0][:, i] for i in (0, 1)
        ]
    shape = (count, 1, 2, len(points))
    return Jet(
        value[:, None],
        first.unflatten(0, (count, -1)).mT.reshape(shape),
        torch.stack(curved).unflatten(1, (count, -1)).transpose(0, 1).reshape(shape),
    )


def sensors(count: int, repeats: int) -> dict[str, float]:
    """Seconds per gradient with all readings and with those that QR leaves."""
    model = operator_model().double()
    predict = DecodedSensors(model, NoiseStream(2).uniform((count, 2), torch.float64))
    y = predict(NoiseStream(3).normal((1, 8), torch.float64))
    y = y + 0.01 * NoiseStream(4).normal((1, count), torch.float64)
    level = NoiseLevel(torch.tensor([0.01], dtype=torch.float64))
    compressed, plain = (FieldTarget(model, predict, y, level) for _ in range(2))
    plain.readings, plain._compressed = Readings(y, None, None, 0.0), None
    v = NoiseStream(5).normal((64, 8), torch.float64)
    heights = [target.rows(64)(v) for target in (compressed, plain)]
    densities = {"all": plain.rows(64), "kept": compressed.rows(64)}
    times = fastest({name: gradient(f, v) for name, f in densities.items()}, repeats)
    frame = compressed.readings.frame
    return {
        "sensors": count,
        "kept": count if frame is None else frame.shape[1],
        "difference": rounded(float(((heights[0] - heights[1]) / heights[1]).abs().max())),
        "seconds_all": rounded(times["all"]),
        "seconds_kept": rounded(times["kept"]),
        "ratio": rounded(times["all"] / times["kept"]),
    }


def gradient(density: Callable[[Tensor], Tensor], at: Tensor) -> Callable[[], Tensor]:
    """Gradient of the sum of a density over rows, as a function of nothing."""

    def evaluate() -> Tensor:
        leaf = at.clone().requires_grad_()
        return torch.autograd.grad(density(leaf).sum(), leaf)[0]

    return evaluate


def fastest(calls: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Smallest CPU seconds of each call; short ones are made many times."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            made, begun = 0, time.process_time()
            while time.process_time() - begun < 0.1 or made == 0:
                call()
                made += 1
            best[name] = min(best[name], (time.process_time() - begun) / made)
    return best


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")


if __name__ == "__main__":
    main()
