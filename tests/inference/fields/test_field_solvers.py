"""Solvers of readings against quadrature over two latents."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier

from inference.fields.field_cases import SENSORS, operator_model, quadrature, simulated, target_of
from latens.distributions import NoiseStream
from latens.inference.fields import (
    ChainPosterior,
    DecodedSensors,
    FieldChains,
    FieldImportance,
    FieldLaplace,
    FieldMAP,
    held_out_errors,
)
from latens.inference.samplers import HMC, NUTS
from latens.problems.pde import Darcy
from models.test_igno import pairs

SCALE = 0.3


def agreed(posterior: ChainPosterior) -> bool:
    """Whether no chain diverged and R̂ is what chains that agree show by chance."""
    return all(d.rhat < d.chance and not d.divergences for d in posterior.chains.diagnoses)


def test_maximum_is_the_highest_point_of_the_grid():
    model = operator_model()
    y, _ = simulated(model, 3, SCALE)
    solver = FieldMAP(target_of(model, SCALE))
    target, found = solver.maximum(y, range(3), 0)
    for row in range(3):
        grid, weight, _ = quadrature(target, row, n=401)
        best = grid[weight.argmax()]
        assert (found.position[row] - best).abs().max() < 0.03
    estimate = solver(y)
    w = model.push(found.position)
    torch.testing.assert_close(estimate.mean, model.decode(w).mean)
    assert bool(estimate.trusted.all())


@pytest.mark.parametrize(
    ("kernel", "coordinates"),
    [
        (HMC(max_steps=32), "z"),
        pytest.param(HMC(max_steps=32), "beta", marks=pytest.mark.slow),
        pytest.param(NUTS(max_depth=5), "z", marks=pytest.mark.slow),
    ],
)
def test_chains_find_the_posterior(kernel, coordinates):
    model = operator_model()
    y, _ = simulated(model, 2, SCALE)
    solver = FieldChains(
        target_of(model, SCALE, coordinates=coordinates),
        kernel=kernel,
        chains=12,
        draws=150,
        warmup=80,
    )
    posterior = solver(y, seed=1)
    assert agreed(posterior)
    plain = target_of(model, SCALE)(y)
    for row in range(2):
        grid, weight, _ = quadrature(plain, row)
        beta = torch.tanh(model.push(grid))
        mean, square = weight @ beta, weight @ beta.square()
        found = torch.tanh(posterior.target.latents(posterior.pool[row]))
        error = ((square - mean.square()) / len(found)).sqrt()
        assert ((found.mean(0) - mean).abs() < 4.5 * error).all()
        ratio = found.var(0) / (square - mean.square())
        assert ((ratio - 1).abs() < 0.2).all()


@pytest.mark.slow
def test_z_and_beta_cannot_be_told_apart():
    """A classifier of draws in z and draws in β, both as β, does no better than chance."""
    model = operator_model()
    y, _ = simulated(model, 1, SCALE)
    draws = []
    for coordinates in ("z", "beta"):
        solver = FieldChains(
            target_of(model, SCALE, coordinates=coordinates),
            kernel=HMC(max_steps=32),
            chains=48,
            draws=200,
            warmup=80,
        )
        posterior = solver(y, seed=3)
        pool = posterior.pool[0]
        order = NoiseStream(0).permutation(len(pool))[:2000]
        assert len(order) == 2000
        draws.append(torch.tanh(posterior.target.latents(pool[order])))
    x = torch.cat(draws).detach().numpy()
    label = [0] * 2000 + [1] * 2000
    x = (x - x.mean(0)) / x.std(0)
    net = MLPClassifier((20, 20), max_iter=300, random_state=0)
    score = cross_val_score(net, x, label, cv=4).mean()
    assert abs(score - 0.5) < 0.03
    moved = x.copy()
    moved[2000:] += 0.5  # the test has power
    assert cross_val_score(LogisticRegression(), moved, label, cv=4).mean() > 0.55


def test_laplace_is_a_gaussian_with_the_curvature():
    model = operator_model(curved=0.3)
    y, _ = simulated(model, 2, 0.1)
    posterior = FieldLaplace(target_of(model, 0.1), draws=4000)(y)
    for row in range(2):
        grid, weight, _ = quadrature(posterior.target, row, n=801)
        mean = weight @ grid
        std = (weight @ (grid - mean).square()).sqrt()
        found = posterior.pool[row]
        assert ((found.mean(0) - mean).abs() < 0.35 * std).all()
        assert ((found.std(0) / std - 1).abs() < 0.35).all()


@pytest.mark.slow
def test_noise_level_is_found():
    model = operator_model()
    y, _ = simulated(model, 1, SCALE)
    target = target_of(model, 0.5 * SCALE, spread=1.0)
    solver = FieldChains(target, kernel=HMC(max_steps=32), draws=200, chains=16, warmup=100)
    posterior = solver(y, seed=2)
    assert agreed(posterior)
    axis = torch.linspace(-3, 4, 71, dtype=torch.float64)
    weights = []
    for level in axis:
        fixed = target_of(model, float(0.5 * SCALE * level.exp()))(y)
        weights.append(quadrature(fixed, n=81)[2] - 0.5 * level.square())
    weight = torch.softmax(torch.stack(weights), 0)
    mean = weight @ axis
    std = (weight @ (axis - mean).square()).sqrt()
    level = posterior.pool[0][:, -1]
    assert abs(level.mean() - mean) < 4.5 * std / len(level) ** 0.5 + 0.01
    assert abs(level.std() / std - 1) < 0.15


def test_weights_turn_laplace_into_the_posterior():
    """Draws of a Gaussian, of this density or of a wider one, become those of the density."""
    model = operator_model()
    y, _ = simulated(model, 3, SCALE)
    exact = target_of(model, SCALE)
    for proposal in (exact, target_of(model, 1.3 * SCALE)):
        weighting = FieldImportance(FieldLaplace(proposal, draws=4000), exact, draws=4000)
        posterior = weighting(y, seed=5)
        believed = 0
        for row in range(3):
            if posterior.k[row] > 0.5:
                continue
            believed += 1
            grid, weight, _ = quadrature(posterior.target, row)
            mean = weight @ grid
            variance = weight @ (grid - mean).square()
            error = (variance * (1 / posterior.size[row] + 1 / 4000)).sqrt()
            found = posterior.pool[row]
            assert ((found.mean(0) - mean).abs() < 4.5 * error).all()
            assert ((found.var(0) / variance - 1).abs() < 0.15).all()
        assert believed >= 2
    assert posterior.sample(39).shape == (39, 3, 1, 9, 9)


def test_a_solver_may_start_where_another_ended():
    model = operator_model()
    y, _ = simulated(model, 2, SCALE)
    _, first = FieldMAP(target_of(model, 2 * SCALE)).maximum(y, range(2), 0)
    second = FieldMAP(target_of(model, SCALE), start=first.position[:, None], adam_steps=0)
    _, found = second.maximum(y, range(2), 0)
    _, direct = FieldMAP(target_of(model, SCALE)).maximum(y, range(2), 0)
    assert (found.log_density <= direct.log_density + 1e-3).all()
    assert found.gradients < direct.gradients
    assert bool(found.converged.all())


class Biased(DecodedSensors):
    """A surrogate that is off."""

    def __call__(self, w):
        return super().__call__(w) + 0.3 * SCALE * torch.tanh(w[..., :1])


@pytest.mark.slow
def test_importance_weights_undo_a_wrong_surrogate():
    model = operator_model()
    y, _ = simulated(model, 2, SCALE)
    off = target_of(model, SCALE, predict=Biased(model, SENSORS))
    exact = target_of(model, SCALE)
    chains = FieldChains(off, kernel=HMC(max_steps=32), chains=24, draws=200, warmup=80)
    posterior = chains(y, seed=5)
    corrected = FieldImportance(chains, exact, draws=1500).correct(posterior)
    assert bool((corrected.k < 0.7).all())
    target = exact(y)
    improved = []
    for row in range(2):
        grid, weight, _ = quadrature(target, row)
        mean = weight @ grid
        std = (weight @ (grid - mean).square()).sqrt()
        before, after = (
            ((p.pool[row].mean(0) - mean) / std).abs().max() for p in (posterior, corrected)
        )
        assert after < 5 / corrected.size[row] ** 0.5
        improved.append(float(before / after))
    assert max(improved) > 1.5
    assert corrected.sample(39).shape == (39, 2, 1, 9, 9)


def test_draws_carry_the_errors_of_the_model():
    """Mean and spread of draws are those of decoded draws plus what held-out pairs say."""
    model = operator_model()
    a = pairs("darcy", 200)[0].double()
    predict = DecodedSensors(model, SENSORS)
    errors = held_out_errors(model, predict, a, Darcy((1, 9, 9), SENSORS)(a))
    y, _ = simulated(model, 2, SCALE)
    solver = FieldLaplace(target_of(model, SCALE, errors=errors), draws=1500)
    posterior = solver(y)
    made = posterior.make_draws(1500)
    spread = (made.variance.mean(0) + made.loc.var(0)).sqrt()
    assert ((made.values.mean(0) - made.loc.mean(0)).abs() < 0.2 * spread).all()
    assert ((made.values.std(0) / spread - 1).abs() < 0.2).all()
    assert posterior.includes_decoder_spread
    assert posterior.replicates(50).shape == (50, 2, 5)


def test_misfit_against_quadrature():
    """Without errors the misfit of readings made from w is χ² with as many degrees as sensors."""
    model = operator_model()
    y, _ = simulated(model, 2, SCALE)
    y = torch.cat([y, y[:1] + 4 * SCALE * torch.tensor([1.0, -1, 1, -1, 1])])
    posterior = FieldChains(
        target_of(model, SCALE), kernel=HMC(max_steps=32), chains=12, draws=150, warmup=80
    )(y, seed=1)
    found = posterior.misfit_p_value(1500)
    target = target_of(model, SCALE)(y)
    for row in range(3):
        grid, weight, _ = quadrature(target, row)
        with torch.no_grad():
            left = (y[row] - target.predict(model.push(grid))) / SCALE
        tail = torch.special.gammaincc(torch.tensor(2.5).double(), left.square().sum(1) / 2)
        expected = float(weight @ tail)
        error = (expected * (1 - expected) / 1500) ** 0.5
        assert abs(float(found[row]) - expected) < 4.5 * error + 1 / 1500
    assert found[2] < 0.02 < found[:2].min()


def test_misfit_with_errors_is_that_of_their_covariance():
    model = operator_model()
    a = pairs("darcy", 200)[0].double()
    predict = DecodedSensors(model, SENSORS)
    errors = held_out_errors(model, predict, a, Darcy((1, 9, 9), SENSORS)(a))
    y, _ = simulated(model, 2, SCALE)
    target = target_of(model, SCALE, errors=errors)(y)
    across = torch.eye(5) - errors.directions @ errors.directions.mT
    covariance = (errors.directions * errors.variances) @ errors.directions.mT
    covariance = covariance + errors.remainder * across + SCALE**2 * torch.eye(5)
    normal = torch.distributions.MultivariateNormal(errors.bias, covariance)
    difference = NoiseStream(4, 0).normal((7, 2, 5), torch.float64)
    scale = torch.full((7, 2), SCALE, dtype=torch.float64)
    found = target.misfit(difference, scale)
    torch.testing.assert_close(found, -normal.log_prob(difference), rtol=1e-6, atol=1e-6)


def test_readings_of_the_model_are_not_doubted_and_others_are():
    """Small pools are gone through several times; the smallest value is 1/(count + 1)."""
    model = operator_model()
    y, _ = simulated(model, 60, SCALE)
    solver = FieldLaplace(target_of(model, SCALE), draws=40)
    assert (solver(y).misfit_p_value() < 0.01).sum() <= 3  # at most a share of .01 is expected
    far = y + 50 * SCALE * torch.tensor([1.0, -1, 1, -1, 1])
    assert (solver(far).misfit_p_value() == 1 / 201).all()


def test_rows_do_not_depend_on_their_batch():
    model = operator_model()
    y, _ = simulated(model, 3, SCALE)
    solver = FieldChains(target_of(model, SCALE), kernel=HMC(max_steps=8), draws=30, warmup=20)
    together = solver(y, keys=[4, 8, 9], seed=6)
    alone = solver(y[1:2], keys=[8], seed=6)
    torch.testing.assert_close(together.pool[1][:5], alone.pool[0][:5], rtol=1e-6, atol=1e-6)
