"""Densities of readings: against dense Gaussians, compression without loss, two coordinates."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from inference.fields.field_cases import (
    SENSORS,
    operator_model,
    quadrature,
    simulated,
    target_of,
)
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, ShapeError
from latens.inference.fields import (
    DecodedSensors,
    FieldTarget,
    HeldOutErrors,
    NoiseLevel,
    SolvedSensors,
    held_out_errors,
)
from latens.inference.fields.target import Readings, standard_log_prob
from latens.problems.pde import Darcy, Grid
from models.test_igno import pairs


def normal(*shape: int, seed: int = 0):
    return NoiseStream(seed, 7).normal(shape, torch.float64)


def errors(m: int, k: int, n: int = 40) -> HeldOutErrors:
    """Errors with given directions; readings and fields of the pairs are consistent with them."""
    directions = torch.linalg.qr(normal(m, k))[0]
    variances = torch.linspace(0.5, 0.01, k, dtype=torch.float64)
    bias = 0.1 * normal(m, seed=1)
    scores = normal(n, k, seed=2) * variances.sqrt()
    leak = 0.3 * normal(81, k, seed=3)
    field = (scores / variances) @ leak.mT + 0.1 * normal(n, 81, seed=4)
    return HeldOutErrors(
        field.unflatten(1, (1, 9, 9)),
        bias + scores @ directions.mT,
        bias,
        directions,
        variances,
        leak,
        remainder=0.03,
    )


def test_readings_are_a_dense_gaussian():
    known = errors(9, 3)
    y, mean = normal(4, 9, seed=5), normal(4, 9, seed=6)
    scale = torch.tensor([0.1, 0.2, 0.5, 1.0], dtype=torch.float64)
    readings = Readings(y, known, None, 0.0)
    found = readings.log_prob(readings.y - mean, readings.rest, scale)
    covariance = (known.directions * known.variances) @ known.directions.mT
    eye = torch.eye(9, dtype=torch.float64)
    covariance = covariance + 0.03 * (eye - known.directions @ known.directions.mT)
    covariance = covariance + scale.square()[:, None, None] * eye
    torch.testing.assert_close(found, MultivariateNormal(mean, covariance).log_prob(y))


def test_variance_that_no_direction_holds_is_kept():
    """Errors of 100 pairs in 80 directions, of which 25 are kept."""
    model, a = operator_model(), pairs("darcy", 100)[0].double()
    points = Grid(9, 10).points() * 0.9 + 0.05
    predict = DecodedSensors(model, points)
    with torch.no_grad():
        rough = Darcy((1, 9, 9), points)(a) + 0.3 * normal(100, 90)
    known = held_out_errors(model, predict, a, rough)
    assert known.directions.shape == (90, 25)
    total = float(known.readings.var(0).sum())
    kept = float(known.variances.sum())
    assert known.remainder * (90 - 25) == pytest.approx(total - kept)
    assert kept < 0.9 * total


@pytest.mark.parametrize("with_errors", [False, True])
def test_compression_changes_nothing(with_errors):
    model = operator_model(width=3)
    points = Grid(9, 8).points() * 0.9 + 0.05  # 72 sensors, 9 functions
    predict = DecodedSensors(model, points)
    assert predict.size > 4 * len(predict.basis)
    known = errors(72, 5) if with_errors else None
    with torch.no_grad():
        y = predict(normal(3, 2)) + 0.05 * normal(3, 72, seed=2)
    level = NoiseLevel(torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64))
    compressed = FieldTarget(model, predict, y, level, known)
    assert compressed.readings.frame.shape == (72, 9 + 5 * with_errors)
    plain = FieldTarget(model, predict, y, level, known)
    plain.readings = Readings(y - (0 if known is None else known.bias), known, None, 0.0)
    plain._compressed = None
    v = normal(12, 2, seed=9)
    torch.testing.assert_close(compressed.rows(4)(v), plain.rows(4)(v), rtol=1e-9, atol=1e-9)


def test_density_by_hand():
    model = operator_model()
    y, _ = simulated(model, 2, 0.1)
    target = target_of(model, 0.1)(y)
    z = normal(6, 2)
    w = model.push(z)
    expected = Normal(target.predict(w), 0.1).log_prob(y.repeat_interleave(3, 0)).sum(-1)
    expected = expected + standard_log_prob(z)
    torch.testing.assert_close(target.rows(3)(z), expected)
    box = target_of(model, 0.1, coordinates="beta")(y)
    jacobian = model.log_density(w) - standard_log_prob(z)
    torch.testing.assert_close(box.rows(3)(w), expected + jacobian)


def test_unknown_noise_has_a_log_normal_prior():
    model = operator_model()
    y, _ = simulated(model, 1, 0.1)
    known = target_of(model, 0.2)(y)
    target = target_of(model, 0.1, spread=0.5)(y)
    z = normal(4, 2)
    level = torch.full((4, 1), math.log(2) / 0.5, dtype=torch.float64)
    v = torch.cat([z, level], 1)
    assert target.dim == 3
    expected = known.rows(4)(z) + Normal(0.0, 1.0).log_prob(level[:, 0])
    torch.testing.assert_close(target.rows(4)(v), expected)
    torch.testing.assert_close(target.scales(v[:, None]), torch.full_like(level, 0.2))


def test_both_coordinates_have_one_evidence():
    model = operator_model()
    y, _ = simulated(model, 1, 0.3)
    z_grid = quadrature(target_of(model, 0.3)(y), n=401, half=6)
    w_grid = quadrature(target_of(model, 0.3, coordinates="beta")(y), n=401, half=9)
    assert abs(z_grid[2] - w_grid[2]) < 2e-3
    means = [
        weight @ torch.tanh(w)
        for w, weight in ((model.push(z_grid[0]), z_grid[1]), (w_grid[0], w_grid[1]))
    ]
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=2e-3)


def test_weight_of_the_equation():
    model = operator_model()
    y, _ = simulated(model, 1, 0.3)
    plain, weighted = (
        target_of(model, 0.3, equation_weight=rho, equation_points=7)(y) for rho in (0.0, 2.5)
    )
    v = normal(5, 2)
    w = model.push(v)
    rows = torch.linspace(0, 24, 7).round().long()
    field = model.coefficient(w)
    r = model.equation.residual(field, model.solution(w), rows)
    expected = plain.rows(5)(v) - 2.5 * r.square().mean(1)
    torch.testing.assert_close(weighted.rows(5)(v), expected)
    assert (weighted.rows(5)(v) - plain.rows(5)(v)).abs().min() > 1e-3


def test_solved_sensors_are_those_of_the_operator():
    model = operator_model()
    w = model.push(0.3 * normal(3, 2))
    operator = Darcy((1, 17, 17), SENSORS)
    predict = SolvedSensors(model, operator, floor=1e-3)
    a = predict.coefficient(w)
    points = Grid(17, 17).points()
    direct = model.coefficient(w).value(points).unflatten(-1, (1, 17, 17))
    safe = direct > 0.05
    assert safe.double().mean() > 0.5
    torch.testing.assert_close(a[safe], direct[safe], rtol=1e-6, atol=1e-6)
    assert bool((a >= 1e-3).all())
    torch.testing.assert_close(predict(w), operator(a))
    assert torch.autograd.gradcheck(predict, w.detach().requires_grad_(), atol=1e-5)


def test_errors_of_held_out_pairs():
    model = operator_model()
    a = pairs("darcy", 60)[0].double()
    predict = DecodedSensors(model, SENSORS)
    clean = Darcy((1, 9, 9), SENSORS)(a)
    found = held_out_errors(model, predict, a, clean)
    w = model.encoder(a).mean
    torch.testing.assert_close(found.field, a - model.decode(w).mean)
    torch.testing.assert_close(found.readings, clean - predict(w))
    covariance = torch.cov(found.readings.mT)
    kept = (found.directions * found.variances) @ found.directions.mT
    torch.testing.assert_close(kept, covariance)
    torch.testing.assert_close(found.bias, found.readings.mean(0))
    cross = (found.field - found.field.mean(0)).flatten(1).mT @ (found.readings - found.bias) / 59
    torch.testing.assert_close(found.leak @ found.directions.mT, cross)


def test_corrections_follow_the_conditional_gaussian():
    """Moments of r given the readings, with many held-out pairs of a joint Gaussian."""
    known = errors(6, 4, n=20000)
    innovation = normal(6, seed=11)
    scale = torch.tensor(0.4, dtype=torch.float64)
    rows = torch.arange(20000)
    made = known.corrections(
        innovation.expand(20000, 6), scale.expand(20000), rows, normal(20000, 6, seed=12)
    )
    mean, variance = known.expected(innovation, scale)
    total = known.variances + 0.16
    gain = known.leak / total
    by_hand = known.field.mean(0).flatten() + gain @ ((innovation - known.bias) @ known.directions)
    torch.testing.assert_close(mean.flatten(), by_hand)
    assert ((made.mean(0) - mean).abs() < 5 * (variance / 20000).sqrt()).all()
    assert ((made.var(0) / variance - 1).abs() < 0.06).all()
    assert (variance < known.field.var(0)).all()


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda m, y: target_of(m, 0.1, coordinates="w")(y), ConfigError, "coordinates"),
        (lambda m, y: target_of(m, -0.1)(y), ConfigError, "scale"),
        (lambda m, y: target_of(m, 0.1, equation_weight=-1.0)(y), ConfigError, "equation_weight"),
        (lambda m, y: target_of(m, 0.1)(y[:, :4]), ShapeError, "readings"),
        (lambda m, y: target_of(m, 0.1)(y * math.nan), DataError, "NaN"),
        (lambda m, y: DecodedSensors(m, [[0.5, 1.2]]), ConfigError, "outside"),
        (lambda m, y: DecodedSensors(m, [[0.5, 0.2], [0.5, 0.2]]), ConfigError, "coincide"),
        (lambda m, y: SolvedSensors(m, Darcy((1, 9, 9), SENSORS), 0.0), ConfigError, "floor"),
    ],
)
def test_input_that_makes_no_sense(make, error, name):
    model = operator_model()
    y, _ = simulated(model, 1, 0.1)
    with pytest.raises(error, match=name):
        make(model, y)
