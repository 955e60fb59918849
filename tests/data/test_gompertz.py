"""Closed form of treated Gompertz growth, and the simulation of it."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from latens.data import GrowthSimulation, treated_gompertz
from latens.errors import ConfigError


def _tensors(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.2, 0.2 + 1e-9, 3.0])
def test_closed_form_against_a_solver(decay: float) -> None:
    rate, plateau, effect, since, gap, level = 0.2, 9.0, 0.7, 1.5, 4.0, 6.0

    def drift(t: float, y: np.ndarray) -> np.ndarray:
        return rate * (plateau - y) - effect * np.exp(-decay * t)

    solved = solve_ivp(drift, (since, since + gap), [level], rtol=1e-11, atol=1e-12).y[0, -1]
    found = treated_gompertz(*_tensors(level, gap, since, rate, plateau, effect, decay))
    assert float(found) == pytest.approx(solved, abs=1e-7)


def test_gradient_where_the_two_rates_meet() -> None:
    def value(rate: torch.Tensor) -> torch.Tensor:
        others = _tensors(6.0, 4.0, 1.5, 9.0, 0.7, 0.2)
        level, gap, since, plateau, effect, decay = others
        return treated_gompertz(level, gap, since, rate, plateau, effect, decay)

    for rate in (0.2, 0.2 + 1e-7, 0.25):
        point = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(value(point), point)
        high, low = value(point.detach() + 1e-4), value(point.detach() - 1e-4)
        assert float(slope) == pytest.approx(float(high - low) / 2e-4, rel=1e-3)


def test_simulated_readings_scatter_around_the_truth() -> None:
    simulation = GrowthSimulation(count=400, noise=0.2, limit=1e-3)
    series, truth = simulation.make(1)
    error = series.log_volumes - truth
    assert float(error.mean()) == pytest.approx(0, abs=0.02)
    assert float(error.std()) == pytest.approx(0.2, rel=0.05)
    assert bool((torch.diff(series.times, dim=1) > 0).all())
    again, _ = simulation.make(1)
    other, _ = simulation.make(2)
    assert torch.equal(series.volumes, again.volumes)
    assert not torch.equal(series.volumes, other.volumes)


def test_repeats_and_zeros() -> None:
    series, truth = GrowthSimulation(count=500, repeat=0.3, effect=0.2, limit=50.0).make(0)
    same = series.volumes[:, 1:] == series.volumes[:, :-1]
    seen = ~series.censored[:, :-1]
    assert float(same[seen].double().mean()) == pytest.approx(0.3, abs=0.03)
    assert bool(series.censored.any())
    assert bool((series.volumes[series.censored] == 0).all())
    new_zero = series.censored[:, 1:] & ~series.censored[:, :-1]
    assert float(truth[:, 1:][new_zero].max()) < series.log_limit + 5 * 0.1


def test_bad_numbers() -> None:
    with pytest.raises(ConfigError, match="visits ≥ 2"):
        GrowthSimulation(visits=1)
    with pytest.raises(ConfigError, match="repeat"):
        GrowthSimulation(repeat=1.0)
