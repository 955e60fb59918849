"""Networks that are trained at the time of an inversion, against what they should become."""

import pytest
import torch

from inference.fields.field_cases import SENSORS, operator_model, quadrature, target_of
from latens.distributions import NoiseStream, diagonal_normal
from latens.errors import DataError, NumericalError, UnsupportedError
from latens.inference.fields import (
    DeclaredReadings,
    DecodedSensors,
    FieldAmortised,
    FieldImportance,
    FieldTarget,
    FittedSensors,
    HeldOutErrors,
    NoiseLevel,
    fit_sensors,
    train_amortised,
)
from latens.inference.fields.fitting import descend

RATIO = 0.4


def held_out(model) -> HeldOutErrors:
    """Errors of readings with a bias and one direction."""
    size = len(SENSORS)
    direction = torch.ones(size, 1, dtype=torch.float64) / size**0.5
    return HeldOutErrors(
        torch.zeros(2, *model.signal_shape, dtype=torch.float64),
        torch.zeros(2, size, dtype=torch.float64),
        torch.full((size,), 0.05, dtype=torch.float64),
        direction,
        torch.tensor([0.02], dtype=torch.float64),
        torch.zeros(81, 1, dtype=torch.float64),
        remainder=0.01,
    )


def test_simulated_readings_have_the_declared_moments():
    model = operator_model()
    predict, errors = DecodedSensors(model, SENSORS), held_out(model)
    z, y, scale = DeclaredReadings(model, predict, errors, RATIO).simulate(6000, NoiseStream(2))
    w = model.push(z)
    left = (y - predict(w) - errors.bias).detach()
    covariance = left.mT @ left / len(left)
    total = scale.square().mean() * torch.eye(5, dtype=torch.float64)
    along = errors.directions @ errors.directions.mT
    total = total + errors.variances * along
    total = total + 0.01 * (torch.eye(5, dtype=torch.float64) - along)
    assert (covariance - total).abs().max() < 0.08 * total.max()
    size = (predict(w) + errors.bias).square().mean(1).sqrt()
    torch.testing.assert_close(scale.sort().values, (RATIO * size).sort().values)
    together = torch.corrcoef(torch.stack([scale, size]))[0, 1]
    assert abs(together) < 4 / 6000**0.5  # σ says nothing about its own field


def test_trained_posterior_is_the_posterior():
    """Expected log q against quadrature, and weighted draws against its moments."""
    model = operator_model()
    predict, errors = DecodedSensors(model, SENSORS), held_out(model)
    declared = DeclaredReadings(model, predict, errors, RATIO)
    network = train_amortised(declared, width=64, steps=500, rate=3e-3)
    z, y, scale = declared.simulate(12, NoiseStream(9))
    assert z.requires_grad is False
    gaps = []
    solver = FieldAmortised(
        network, lambda y: FieldTarget(model, predict, y, NoiseLevel(scale), errors), draws=1500
    )
    posterior = solver(y, seed=4)
    exact = FieldImportance(solver, solver.target, draws=1500).correct(posterior)
    believed = 0
    for row in range(12):
        noise = NoiseLevel(scale[row : row + 1])
        target = FieldTarget(model, predict, y[row : row + 1], noise, errors)
        grid, weight, evidence = quadrature(target)
        with torch.no_grad():
            log_posterior = target.rows(1)(z[row : row + 1]) - evidence
        gaps.append(float(log_posterior - posterior.q.log_prob(z)[row]))
        if exact.k[row] > 0.5:
            continue
        believed += 1
        mean = weight @ grid
        variance = weight @ (grid - mean).square()
        error = (variance * (1 / exact.size[row] + 1 / 1500)).sqrt()
        pool = exact.pool[row]
        assert ((pool.mean(0) - mean).abs() < 4.5 * error).all()
        assert ((pool.var(0) / variance - 1).abs() < 0.35).all()
    assert abs(sum(gaps) / 12) < 0.25  # nats, of a prior-to-posterior gain of a few
    assert believed >= 6
    assert posterior.sample(39).shape == (39, 12, 1, 9, 9)


def test_density_is_that_of_the_draws():
    """log q integrates to one over a grid that holds the draws."""
    model = operator_model()
    predict = DecodedSensors(model, SENSORS)
    declared = DeclaredReadings(model, predict, None, RATIO)
    network = train_amortised(declared, width=16, steps=60)
    _, y, scale = declared.simulate(2, NoiseStream(9))
    target = lambda y: FieldTarget(model, predict, y, NoiseLevel(scale))  # noqa: E731
    posterior = FieldAmortised(network, target, draws=4000)(y, seed=1)
    axis = torch.linspace(-7, 7, 141, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = posterior.log_density(grid.expand(2, -1, 2)).exp()
    mass = density.sum(1) * float(axis[1] - axis[0]) ** 2
    torch.testing.assert_close(mass, torch.ones_like(mass), atol=5e-3, rtol=0)
    mean = (density[..., None] * grid).sum(1) / density.sum(1, keepdim=True)
    for row in range(2):
        pool = posterior.pool[row]
        assert ((pool.mean(0) - mean[row]).abs() < 4.5 * pool.std(0) / 4000**0.5).all()


def test_unknown_noise_is_refused():
    model = operator_model()
    declared = DeclaredReadings(model, DecodedSensors(model, SENSORS), None, RATIO)
    network = train_amortised(declared, width=8, steps=2)
    solver = FieldAmortised(network, target_of(model, 0.1, spread=1.0))
    with pytest.raises(UnsupportedError, match="spread"):
        solver(declared.simulate(2, NoiseStream(0))[1])


class Codes:
    """Encoder that is sure of two numbers of a field."""

    dim = 2

    def encoder(self, a):
        loc = a.flatten(1)[:, :2]
        return diagonal_normal(loc, torch.full_like(loc, 1e-4), 1)


def nonlinear(w: torch.Tensor, size: int = 7) -> torch.Tensor:
    wave = torch.arange(1, size + 1, dtype=w.dtype)
    return 3 + torch.sin(0.2 * wave * w[:, :1]) * torch.exp(-0.05 * wave * w[:, 1:2].square())


def test_fitted_sensors_read_what_fields_give():
    a = 0.8 * NoiseStream(1).normal((1500, 1, 2, 2), torch.float64)
    predict = fit_sensors(Codes(), a, nonlinear(a.flatten(1)), width=48, steps=1200)  # pyright: ignore[reportArgumentType]
    w = 0.8 * NoiseStream(2).normal((300, 2), torch.float64)
    truth = nonlinear(w)
    spread = (truth - truth.mean(0)).square().mean().sqrt()
    assert (predict(w) - truth).square().mean().sqrt() < 0.02 * spread
    torch.testing.assert_close(predict.linear(w), predict(w))
    assert isinstance(predict, FittedSensors)
    assert predict.size == 7


def test_fitted_sensors_need_fields():
    with pytest.raises(DataError, match="40"):
        fit_sensors(Codes(), torch.zeros(9, 1, 2, 2), torch.zeros(9, 3))  # pyright: ignore[reportArgumentType]


def test_a_loss_that_leaves_the_numbers_is_named():
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(NumericalError, match="step 0"):
        descend([weight], lambda: (weight / 0).sum(), 3, 0.1)
    assert descend([weight], lambda: weight.square().sum(), 400, 0.05) < 1e-3
