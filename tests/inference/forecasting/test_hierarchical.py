"""Hierarchical Gompertz: likelihood, integrals, samplers, forecasts of simulated patients."""

import math

import pytest
import torch

from inference.forecasting.growth_cases import uneven
from latens.distributions import NoiseStream
from latens.errors import ConfigError
from latens.inference.forecasting import HierarchicalGompertz
from latens.inference.forecasting.hierarchical import (
    effects_density,
    log_marginals,
    own_points,
    prior_points,
)
from latens.models.hierarchical_gompertz import (
    EFFECTS,
    POPULATION,
    Filter,
    log_prior,
    prior_start,
    run_filter,
)
from latens.models.visits import Visits, usual_gap, visits_of

THETA = prior_start(torch.float64)


def sorted_visits(count: int = 12, *, ended: bool = False) -> Visits:
    series = uneven()
    order = series.visits.argsort(descending=True, stable=True)[torch.arange(0, 60, 60 // count)]
    part = series.take(order)
    return visits_of(part, usual_gap(part), part.log_limit, ended=ended, dtype=torch.float64)


def row_of(visits: Visits, row: int) -> Visits:
    n = int(visits.mask[row].sum())
    parts = (visits.level, visits.since, visits.mask, visits.final)
    return Visits(*(part[row : row + 1, :n] for part in parts))


def test_likelihood_of_a_batch_is_that_of_its_rows() -> None:
    visits = sorted_visits(ended=True)
    effects = NoiseStream(0).normal((5, 12, EFFECTS), torch.float64)
    total, state = run_filter(THETA, effects, visits)
    for row in range(12):
        alone, end = run_filter(THETA, effects[:, row : row + 1], row_of(visits, row))
        torch.testing.assert_close(total[:, row : row + 1], alone)
        torch.testing.assert_close(state.level[:, row : row + 1], end.level)
        torch.testing.assert_close(state.repeated[:, row : row + 1], end.repeated)
        torch.testing.assert_close(state.fall[:, row : row + 1], end.fall)


def test_without_growth_the_centre_is_the_last_value() -> None:
    names = list(POPULATION)
    theta = THETA.clone()
    theta[names.index("rate")] = theta[names.index("effect")] = -40.0
    theta[names.index("gain")] = 1.0
    effects = torch.zeros(1, EFFECTS, dtype=torch.float64)
    state = Filter(theta, effects, torch.tensor([5.0], dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    reading = state.reading(5 * one, 0 * one, one, 0 * one)
    assert float(reading.loc) == pytest.approx(5.0)
    state.observe(5 * one, 6.5 * one)
    assert float(state.level) == pytest.approx(6.5)
    assert float(state.reading(6.5 * one, one, 3 * one, 0 * one).loc) == pytest.approx(6.5)


def test_marginals_against_plain_monte_carlo() -> None:
    visits = sorted_visits(6)
    plain = NoiseStream(3).normal((60_000, 1, EFFECTS), torch.float64).expand(-1, 6, -1)
    log_likelihood = run_filter(THETA, plain, visits)[0]
    expected = log_likelihood.logsumexp(0) - math.log(len(plain))
    share = log_likelihood.softmax(0)
    error = share.square().sum(0).sqrt()  # standard error of the log, roughly
    found = log_marginals(THETA, visits, own_points(THETA, visits, 2048, 0))
    assert bool(((found - expected).abs() < 5 * error + 0.02).all())
    rough = log_marginals(THETA, visits, prior_points(4096, 6, 1))
    assert bool(((rough - expected).abs() < 5 * error + 0.1).all())


def test_density_for_samplers_is_prior_times_likelihood() -> None:
    visits = sorted_visits(4)
    rows = NoiseStream(1).normal((8, EFFECTS), torch.float64)  # two chains of four patients
    value = effects_density(THETA, visits, 2)(rows)
    for patient in range(4):
        for chain in range(2):
            effects = rows[2 * patient + chain][None, None]
            alone, _ = run_filter(THETA, effects, row_of(visits, patient))
            expected = float(alone) - 0.5 * float(effects.square().sum())
            assert float(value[2 * patient + chain]) == pytest.approx(expected)


@pytest.mark.slow
def test_importance_resampling_agrees_with_nuts() -> None:
    series = uneven().take(range(40, 52))
    history, times, _ = series.split_last(3)
    forecasts = []
    for sampler in ("importance", "nuts"):
        model = HierarchicalGompertz(
            "last", points=32, parameter_draws=1, sampler=sampler, warmup=150, chains=6
        )
        model.unit, model.log_limit = usual_gap(series), series.log_limit
        model.theta = THETA
        forecasts.append(model.forecast(history, times, draws=2999))
    levels = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    first, second = (f.draws[..., 0].quantile(levels, dim=0) for f in forecasts)
    spread = second[-1] - second[0]
    assert float(((first - second).abs().mean(0) / spread).max()) < 0.06
    assert forecasts[0].diagnostics["smallest_effective_points"] > 30


def test_the_fit_is_a_maximum_and_knows_its_uncertainty() -> None:
    series = uneven()
    model = HierarchicalGompertz("last", points=16, rounds=1)
    model.fit(series, seed=0)
    assert model.converged
    visits, _ = model._sorted(series, ended=True)
    points = prior_points(16, len(series), 0)

    def value(theta: torch.Tensor) -> float:
        return float(log_prior(theta) + log_marginals(theta, visits, points).sum())

    best = value(model.theta)
    spread = model.spread.diagonal().sqrt()
    for j in range(len(THETA)):
        step = torch.zeros_like(THETA)
        step[j] = 0.3 * float(spread[j])
        assert value(model.theta + step) < best + 0.02
        assert value(model.theta - step) < best + 0.02
    prior = torch.tensor([s for _, s in POPULATION.values()], dtype=torch.float64)
    assert bool((spread > 0).all() & (spread <= prior + 1e-9).all())
    assert float((spread / prior).min()) < 0.5  # some parameters are learned


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="a power of two"):
        HierarchicalGompertz(points=12)
