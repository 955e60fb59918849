"""Hierarchical Gompertz: likelihood, integrals, samplers, forecasts of simulated patients."""

import math

import pytest
import torch

from inference.forecasting.growth_cases import uneven
from latens.data import series_from_visits
from latens.distributions import NoiseStream
from latens.errors import ConfigError
from latens.inference.forecasting import HierarchicalGompertz, hierarchical
from latens.inference.forecasting.hierarchical import effects_density, log_marginals
from latens.inference.forecasting.points import own_points, prior_points
from latens.metrics.importance import effective_size
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


FALLING = [5.83, 4.07, 3.91, 3.77, 3.02]
RESTING = [8.08, 7.83, 7.75, 7.92, 7.83, 7.87, 7.94, 7.93, 7.88, 8.06, 7.92, 7.91, 8.11, 8.31]
REPEATING = [10.87, 10.87, 10.87, 10.87, 10.87, 10.91, 10.87, 10.87, 10.91]
KNOWN = {
    "plateau": 4.7,
    "plateau_spread": 2.1,
    "rate": -3.4,
    "rate_spread": -3.9,
    "effect": -4.1,
    "effect_spread": 0.7,
    "decay": -0.8,
    "scale": -0.4,
    "scale_spread": -0.4,
    "scale_size": -0.3,
    "scale_gap": 0.3,
    "ratio": 1.2,
    "wide": -2.9,
    "repeat_move": -3.3,
}
"""Population parameters under which these patients are surprising."""


def surprising() -> tuple[torch.Tensor, Visits]:
    """θ, and patients with a narrow peak beside the mass, and with a sharp posterior."""
    theta = THETA.clone()
    for name, value in KNOWN.items():
        theta[list(POPULATION).index(name)] = value
    rows = [RESTING, REPEATING, FALLING]
    level = torch.zeros(3, len(RESTING), dtype=torch.float64)
    for row, values in zip(level, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    mask = level > 0
    since = torch.where(mask, torch.arange(len(RESTING)).double(), 0.0)
    return theta, Visits(level, since, mask, torch.zeros_like(mask))


def test_points_of_surprising_patients_are_worth_many() -> None:
    """Integrals and mean effects against plain Monte Carlo of the prior."""
    theta, visits = surprising()
    points = own_points(theta, visits, 512, 0)
    log_weights = run_filter(theta, points.effects, visits)[0] + points.log_weights
    assert bool((effective_size(log_weights) > 100).all())
    plain = NoiseStream(3).normal((100_000, 1, EFFECTS), torch.float64).expand(-1, 3, -1)
    parts = [run_filter(theta, part, visits)[0] for part in plain.split(20_000)]
    of_prior = torch.cat(parts)
    expected = of_prior.logsumexp(0) - math.log(len(plain))
    error = (
        effective_size(of_prior).rsqrt() + effective_size(log_weights).rsqrt()
    )  # of the log, roughly
    assert bool(((log_weights.logsumexp(0) - expected).abs() < 4 * error).all())
    mine, known = log_weights.softmax(0)[..., None], of_prior.softmax(0)[..., None]
    mean = (known * plain).sum(0)  # (3, 5)
    spread = (known * (plain - mean).square()).sum(0).sqrt()
    found = (mine * points.effects).sum(0)
    assert bool(((found - mean).abs() < 4 * error[:, None] * spread).all())


def test_a_patient_of_few_points_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    series = series_from_visits(
        ["a"] * 4 + ["b"] * 3, [0, 1, 2, 3, 0, 1, 2], [300, 20, 15, 7, 5, 6, 7], limit=1.0
    )
    model = HierarchicalGompertz(parameter_draws=1)
    times = series.last_times[:, None] + 1
    assert model.forecast(series, times).doubts == ("", "")
    assert model.forecast(series, times).diagnostics["patients_of_few_draws"] == 0
    sizes = torch.tensor([3.2, 50.0], dtype=torch.float64)
    monkeypatch.setattr(hierarchical, "effective_size", lambda log_weights: sizes)
    found = model.forecast(series, times)
    assert found.doubts[0].startswith("few effective draws (3.2, 20 are needed)")
    assert "--sampler nuts" in found.doubts[0]
    assert found.doubts[1] == ""
    assert found.diagnostics["patients_of_few_draws"] == 1
    assert found.diagnostics["smallest_effective_points"] == pytest.approx(3.2)


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
