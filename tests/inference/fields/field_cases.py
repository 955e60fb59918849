"""A small neural operator as the truth itself, so that posteriors are known by quadrature."""

import math

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.inference.fields import DecodedSensors, FieldTarget, NoiseLevel
from latens.models.igno import IGNO
from latens.nets import AffineFlow, Conv
from latens.objectives.equations import DarcyEquation
from models.test_igno import pairs, strengthened

N = 9
SENSORS = torch.tensor(
    [[0.5, 0.25], [0.31, 0.77], [0.9, 0.61], [0.2, 0.14], [0.75, 0.5]], dtype=torch.float64
)


def operator_model(dim: int = 2, width: int = 8, curved: float = 1.0) -> IGNO:
    """Random weights, a flow away from the identity, readings that differ between latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = IGNO(
            (1, N, N),
            (1, N, N),
            DarcyEquation(count=5, radius=0.12),
            dim=dim,
            architecture=Conv(4, features=8),
            flow=AffineFlow(2, width=8),
            width=width,
            depth=3,
            levels=2,
        )
    model.fit_units(*pairs("darcy", 12))
    strengthened(model)
    with torch.no_grad():
        for p in model.flow.parameters():
            p.mul_(0.6 * curved)
        for net in (model.coefficient_net, model.solution_net):
            net.branch[0].weight.mul_(3)
            net.level_weights.mul_(8)
    return model.double().eval()


def simulated(model: IGNO, count: int, scale: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Readings of the model's own solutions and the z behind them."""
    z = NoiseStream(seed, 1).normal((count, model.dim), torch.float64)
    predict = DecodedSensors(model, SENSORS)
    noise = NoiseStream(seed, 2).normal((count, predict.size), torch.float64)
    with torch.no_grad():
        return predict(model.push(z)) + scale * noise, z


def target_of(model: IGNO, scale: float, **more):
    """Density of readings as the solvers take it."""
    predict = more.pop("predict", None) or DecodedSensors(model, SENSORS)
    spread = more.pop("spread", 0.0)
    level = NoiseLevel(torch.tensor(scale, dtype=torch.float64), spread)
    return lambda y: FieldTarget(model, predict, y, level, **more)


def quadrature(target: FieldTarget, row: int = 0, half: float = 5.0, n: int = 161):
    """Grid of positions `(n², 2)` and their posterior probabilities, for two coordinates."""
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    one = FieldTarget(
        target.model,
        target.predict,
        target.y[row : row + 1],
        target.noise,
        target.errors,
        target.coordinates,
    )
    with torch.no_grad():
        log_density = one.rows(len(grid))(grid)
    weight = torch.softmax(log_density, 0)
    evidence = torch.logsumexp(log_density, 0) + 2 * math.log(float(axis[1] - axis[0]))
    return grid, weight, evidence
