"""IGNO: shapes, densities and what each stage trains."""

import math

import pytest
import torch
from torch import Tensor

from latens.data.field_families import TwoValuedFields, WaveSums
from latens.distributions import NoiseStream, draw
from latens.distributions.two_valued import TwoValued
from latens.errors import ConfigError, DataError, ShapeError
from latens.inference.fields import DecodedSensors
from latens.models.igno import IGNO
from latens.nets import AffineFlow, Conv
from latens.objectives import reduce_terms
from latens.objectives.equations import BurgersEquation, DarcyEquation, EITEquation
from latens.problems.pde import EIT, Burgers, Darcy
from latens.problems.pde.ring import interpolated
from latens.training import Training, fit_model

N = 9
SMALL = {
    "architecture": Conv(4, features=8),
    "flow": AffineFlow(2, width=8),
    "width": 8,
    "depth": 3,
    "levels": 2,
    "dim": 3,
}
MAKE = {
    "darcy": lambda **more: IGNO(
        (1, N, N), (1, N, N), DarcyEquation(count=5, radius=0.12), **{**SMALL, **more}
    ),
    "eit": lambda **more: IGNO(
        (1, N, N), (3, N, N), EITEquation((1, 7, 20), count=5, radius=0.12), **{**SMALL, **more}
    ),
    "burgers": lambda **more: IGNO(
        (1, 16), (1, 16), BurgersEquation(time=0.1, count=6), **{**SMALL, **more}
    ),
}


def pairs(name: str, count: int, two: bool = False) -> tuple[Tensor, Tensor]:
    if name == "burgers":
        a = 0.5 * NoiseStream(0, 1).normal((count, 1, 16))
        return a, Burgers((1, 16), time=0.1, steps=8)(a)
    family = TwoValuedFields(modes=3) if two else WaveSums()
    a = family.fields(0, range(count), (N, N)).float()
    solver = EIT((1, N, N), [1, 7, 20]) if name == "eit" else Darcy((1, N, N))
    u = solver.potential(a) if isinstance(solver, EIT) else solver.field(a)
    return a, u


def made(name: str, **more) -> IGNO:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MAKE[name](**more)
    model.fit_units(*pairs(name, 12, more.get("values") == "two-valued"))
    return model


def strengthened(model: IGNO) -> IGNO:
    """With a flow far from the identity."""
    with torch.no_grad():
        for index, p in enumerate(model.flow.parameters()):
            p.copy_(NoiseStream(index).normal(p.shape) / max(p.shape[-1], 2) ** 0.5)
    return model


@pytest.mark.parametrize("name", MAKE)
def test_shapes_and_leading_axes(name):
    model = strengthened(made(name))
    a, u = pairs(name, 4)
    z = NoiseStream(1).normal((5, 4, 3))
    w = model.push(z)
    assert w.shape == z.shape
    torch.testing.assert_close(model.pull(w), z, rtol=1e-4, atol=1e-4)
    decoded = model.decode(w)
    assert decoded.batch_shape == (5, 4)
    assert decoded.event_shape == a.shape[1:]
    torch.testing.assert_close(model.decode(w[2]).mean, decoded.mean[2])
    at = model.solution(w[0]).value(model.outputs)
    assert at.reshape(u.shape).shape == u.shape
    assert at.shape[:2] == (4, model.equation.patterns)
    assert bool((torch.tanh(w).abs() < 1).all())


def test_solutions_at_rest_are_what_sensors_read_and_what_a_uniform_flow_shifts():
    """u = c + v(x − c T, T) with c the mean of the decoded coefficient, at nodes and between."""
    model = strengthened(made("burgers")).double()
    w = model.push(NoiseStream(2).normal((4, 3), torch.float64))
    u, v = model.solved(w)[:, 0], model.solution(w).value(model.outputs)[:, 0]
    velocity = model.decode(w).mean.mean(-1)[:, 0]
    torch.testing.assert_close(u.mean(-1), v.mean(-1) + velocity)
    nodes = torch.arange(16, dtype=torch.float64) / 16
    torch.testing.assert_close(DecodedSensors(model, nodes)(w), u)
    for row in range(4):
        back = interpolated(u[row], nodes + 0.1 * velocity[row]) - velocity[row]
        torch.testing.assert_close(back, v[row])
    between = DecodedSensors(model, nodes + 0.02)
    torch.testing.assert_close(between(w), interpolated(u, (nodes + 0.02).expand(4, -1)))
    assert between.linear is None


def test_density_of_the_code_follows_from_that_of_z():
    """log p(w) by the change of variables, with the Jacobian of T by automatic differentiation."""
    model = strengthened(made("darcy")).double()
    z = NoiseStream(1).normal((6, 3), torch.float64)
    normal = -0.5 * (z.square().sum(1) + 3 * math.log(2 * math.pi))
    slopes = torch.stack([torch.autograd.functional.jacobian(model.push, row) for row in z])
    expected = normal - torch.linalg.slogdet(slopes)[1]
    assert (torch.linalg.slogdet(slopes)[1].abs() > 0.05).any()
    torch.testing.assert_close(model.log_density(model.push(z)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("evidence", ["pairs", "residual", "both"])
@pytest.mark.parametrize("schedule", ["staged", "joint"])
@pytest.mark.parametrize(("name", "two"), [("darcy", 0), ("darcy", 1), ("eit", 0), ("burgers", 0)])
def test_every_stage_trains_its_own_parameters(name, two, schedule, evidence):
    values = "two-valued" if two else "continuous"
    model = made(name, schedule=schedule, evidence=evidence, values=values, discs=4)
    x, y = pairs(name, 6, bool(two))
    owned = []
    for stage in model.stages:
        model.zero_grad()
        terms = model.terms(stage, x, y, NoiseStream(3), None)
        loss = reduce_terms(terms, model.stage_event_size(stage))
        assert terms.log_likelihood.shape == (6,)
        assert bool(torch.isfinite(loss))
        loss.backward()
        chosen = list(model.stage_parameters(stage))
        owned += chosen
        moved = [p for p in chosen if p.grad is not None and bool((p.grad != 0).any())]
        idle = {"solution_scale", "residual_scale", "coefficient_scale"}
        names = {n for n, p in model.named_parameters() if any(p is c for c in chosen)}
        still = names - {n for n, p in model.named_parameters() if any(p is m for m in moved)}
        # the linear paths and last layers of a flow start at zero and shield what is below them
        assert all(n.split(".")[0] in idle or n.startswith("flow.") for n in still), still
    assert len(owned) == len(list(model.parameters()))


def test_evidence_is_read_where_it_should_be():
    """The residual sees the coefficient and no label; pairs see the label."""
    model = made("darcy", evidence="residual", discs=25)
    x, y = pairs("darcy", 6)
    with torch.no_grad():
        model.residual_scale.set(0.1)
    right = model.terms("fields", x, y, NoiseStream(3), None).log_likelihood
    other = model.terms("fields", x, 2 * y, NoiseStream(3), None).log_likelihood
    assert torch.equal(right, other)
    seen = [model._evidence(a, y, 0 * x[:, 0, 0, :3], NoiseStream(3)) for a in (x, 3 * x)]
    assert (seen[0] - seen[1]).abs().min() > 1e-3
    labels = made("darcy", evidence="pairs")
    same = labels.terms("fields", x, y, NoiseStream(3), None).log_likelihood
    moved = labels.terms("fields", x, 2 * y, NoiseStream(3), None).log_likelihood
    assert (same - moved).abs().min() > 1e-3


def test_two_values():
    logits = torch.tensor([[[0.0, 2.0]], [[-1.0, 5.0]]], dtype=torch.float64)
    low, high = torch.tensor(5.0), torch.tensor(10.0)
    d = TwoValued(logits, low, high, 2)
    p = torch.sigmoid(logits)
    assert (d.batch_shape, d.event_shape) == ((2,), (1, 2))
    torch.testing.assert_close(d.mean, 5 + 5 * p)
    torch.testing.assert_close(d.variance, 25 * p * (1 - p))
    total = sum(
        d.log_prob(torch.tensor([[[a, b]], [[a, b]]], dtype=torch.float64)).exp()
        for a in (5.0, 10.0)
        for b in (5.0, 10.0)
    )
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))
    noise = NoiseStream(0).normal((4000, 2, 1, 2), torch.float64)
    share = (draw(d, noise) == 10).double().mean(0)
    assert ((share - p).abs() < 4 * (p * (1 - p) / 4000).sqrt()).all()


@pytest.mark.parametrize("name", MAKE)
def test_last_layers_are_solved(name):
    """Scales are the errors on validation pairs; where a few numbers make a field, they fall."""
    model = made(name)
    x, y = pairs(name, 60)
    train, validation = (x[:40], y[:40]), (x[40:], y[40:])
    with torch.no_grad():
        model.encoder_net.head.bias[3:] = -5.0  # a posterior narrow enough to carry information
        model.encoder_net.head.weight[:3] *= 20
        model.fit_scale(*validation, NoiseStream(0))
        before = (model.coefficient_scale.value.item(), model.solution_scale.value.item())
        model.solve_last_layers(train, validation, NoiseStream(0))
        after = (model.coefficient_scale.value.item(), model.solution_scale.value.item())
    factor = 1.02 if name == "burgers" else 0.9  # its fields are noise, which no code can carry
    assert after[0] < factor * before[0]
    assert after[1] < factor * before[1]


def fitted(folder=None) -> tuple[IGNO, list]:
    model = made("darcy")
    settings = Training(
        max_steps=40,
        batch_size=16,
        learning_rate=5e-3,
        warmup_steps=5,
        kl_warmup_steps=10,
        validate_every=10,
    )
    x, y = pairs("darcy", 40)
    result = fit_model(model, (x[:32], y[:32]), (x[32:], y[32:]), settings, 0, resume=folder)
    return model, result.history


def test_it_trains_in_the_common_loop_and_resumes(tmp_path):
    model, history = fitted()
    losses = [v for s, _, q, v in history if (s, q) == ("fields", "val/loss")]
    assert min(losses) < losses[0] - 0.3
    assert {stage for stage, *_ in history} == {"fields", "prior"}
    first, _ = fitted(tmp_path)
    (tmp_path / "prior.ckpt").unlink()
    again, _ = fitted(tmp_path)  # stage `fields` from its checkpoint, `prior` anew
    for a, b, c in zip(model.parameters(), first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize(
    ("more", "error", "name"),
    [
        ({"values": "many"}, ConfigError, "values"),
        ({"evidence": "none"}, ConfigError, "evidence"),
        ({"schedule": "late"}, ConfigError, "schedule"),
        ({"dim": 1}, ConfigError, "dim"),
    ],
)
def test_settings_that_make_no_sense(more, error, name):
    with pytest.raises(error, match=name):
        MAKE["darcy"](**more)


def test_data_that_do_not_fit():
    with pytest.raises(ShapeError, match="3 fields"):
        IGNO((1, N, N), (1, N, N), EITEquation((1, 2, 3)), **SMALL)
    model = MAKE["darcy"](values="two-valued")
    with pytest.raises(DataError, match="two values"):
        model.fit_units(*pairs("darcy", 4))
