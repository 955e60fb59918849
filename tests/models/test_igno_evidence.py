"""What an IGNO learns from the equation alone: solutions that it was never shown."""

import torch
from torch import Tensor

from latens.data.field_families import WaveSums
from latens.distributions import NoiseStream
from latens.models.igno import IGNO
from latens.nets import AffineFlow, Dense
from latens.objectives.equations import DarcyEquation
from latens.problems.pde import Darcy
from latens.training import Training, fit_model

N = 13
FINE = 4 * (N - 1) + 1


def pairs(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Coefficients and solutions of a mesh four times finer, at the nodes."""
    a = WaveSums().fields(0, range(first, first + count), (FINE, FINE))
    u = Darcy((1, FINE, FINE))(a)
    return tuple(field[..., ::4, ::4].float() for field in (a, u))  # pyright: ignore


def relative(found: Tensor, truth: Tensor) -> float:
    return float(((found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).mean())


def trained(u: Tensor, a: Tensor, **more) -> IGNO:
    """A small model after 500 steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = IGNO(
            (1, N, N),
            (1, N, N),
            DarcyEquation(count=8, radius=0.07),
            dim=2,
            architecture=Dense(32),
            flow=AffineFlow(2, width=16),
            width=24,
            depth=3,
            levels=2,
            modes=4,
            **more,
        )
    settings = Training(
        max_steps=500,
        batch_size=32,
        learning_rate=5e-3,
        warmup_steps=20,
        kl_warmup_steps=100,
        validate_every=100,
        patience=100,
    )
    train, validation = (a[:200], u[:200]), (a[200:], u[200:])
    fit_model(model, train, validation, settings, 0)
    model.solve_last_layers(train, validation, NoiseStream(0, 3))
    return model


def errors(model: IGNO) -> tuple[float, float]:
    """Relative errors of the decoded u and a of held-out fields, from the mean of q(w | a)."""
    a, u = pairs(1000, 40)
    with torch.no_grad():
        w = model.encoder(a).mean
        found = model.solution(w).value(model.outputs).reshape(u.shape)
        return relative(found, u), relative(model.decode(w).mean, a)


def of_means(a: Tensor, u: Tensor) -> tuple[float, float]:
    """Relative errors of the mean fields: of a model that tells no field from another."""
    known = pairs(1000, 40)
    of_a, of_u = (
        relative(fields.mean(0, keepdim=True).expand_as(truth), truth)
        for fields, truth in zip((a, u), known, strict=True)
    )
    return of_u, of_a


def test_solutions_are_learned_from_the_equation_alone():
    """The solutions given are those of other fields: the best they could teach is their mean.

    The equation teaches as much as pairs do.
    """
    a, u = pairs(0, 240)
    wrong = u[NoiseStream(0, 5).permutation(len(u))]
    of_u, of_a = errors(trained(wrong, a, evidence="residual"))
    mean_u, mean_a = of_means(a, u)
    with_pairs, _ = errors(trained(u, a, evidence="pairs"))
    assert of_u < 1.25 * with_pairs < 0.3 * mean_u
    assert of_a < 0.1 * mean_a


def test_joint_training_learns_both_fields():
    a, u = pairs(0, 240)
    of_u, of_a = errors(trained(u, a, evidence="pairs", schedule="joint"))
    mean_u, mean_a = of_means(a, u)
    assert of_u < 0.75 * mean_u
    assert of_a < 0.75 * mean_a
