"""What holds for every forecaster."""

from collections.abc import Callable

import pytest
import torch

from inference.forecasting.growth_cases import shifted, uneven
from latens.errors import ConfigError, ShapeError
from latens.inference.forecasting import (
    EXPONENTIAL,
    GOMPERTZ,
    LOGISTIC,
    FittedCurve,
    Forecaster,
    GaussianProcess,
    HierarchicalGompertz,
    LastValue,
    LatentODEForecaster,
    MixedEffects,
)
from latens.training import Training

BUDGET = Training(
    max_steps=20, batch_size=16, warmup_steps=2, kl_warmup_steps=5, validate_every=10
)
MAKERS: dict[str, Callable[[], Forecaster]] = {
    "last value": lambda: LastValue("last", 3),
    "last value, next": LastValue,
    "exponential": lambda: FittedCurve(EXPONENTIAL, "last", 3),
    "logistic": lambda: FittedCurve(LOGISTIC, "last", 3),
    "Gompertz": lambda: FittedCurve(GOMPERTZ, "next", 3),
    "mixed effects": MixedEffects,
    "Gaussian process": GaussianProcess,
    "hierarchical": lambda: HierarchicalGompertz("last", points=8, rounds=2, parameter_draws=3),
    "latent ODE": lambda: LatentODEForecaster("last", members=2, training=BUDGET, width=8),
}


@pytest.fixture(scope="module", params=MAKERS)
def fitted(request: pytest.FixtureRequest) -> Forecaster:
    forecaster = MAKERS[request.param]()
    forecaster.fit(uneven().take(range(40)), seed=1)
    return forecaster


@pytest.fixture(scope="module")
def cases():
    return uneven().take(range(40, 60)).split_last(3)


def test_draws_are_finite_and_not_below_the_limit(fitted: Forecaster, cases) -> None:
    history, times, _ = cases
    both = torch.cat([times, times + 60], 1)
    forecast = fitted.forecast(history, both, draws=99)
    assert forecast.draws.shape == (99, len(history), 2)
    assert forecast.draws.dtype == torch.float64
    assert bool(forecast.draws.isfinite().all())
    assert float(forecast.draws.min()) >= history.log_limit
    band = forecast.interval(0.9)
    assert bool((band.lower <= forecast.median).all() & (forecast.median <= band.upper).all())
    assert bool((band.upper > band.lower).any())
    assert fitted.label


def test_patients_with_one_visit_are_forecast(fitted: Forecaster, cases) -> None:
    history, _, _ = cases
    first = history.first(torch.ones(len(history), dtype=torch.long))
    times = first.last_times[:, None] + torch.tensor([20.0, 3000.0], dtype=torch.float64)
    forecast = fitted.forecast(first, times, draws=39)
    assert bool(forecast.draws.isfinite().all())
    assert 0 <= forecast.diagnostics.get("largest_halving_error", 0.0) < 0.1


def test_a_patient_does_not_depend_on_the_others(fitted: Forecaster, cases) -> None:
    history, times, _ = cases
    keys = list(range(100, 100 + len(history)))
    together = fitted.forecast(history, times, keys=keys, draws=39)
    rows = [7, 2]
    alone = fitted.forecast(
        history.take(rows), times[rows], keys=[keys[r] for r in rows], draws=39
    )
    torch.testing.assert_close(alone.draws, together.draws[:, rows], rtol=1e-9, atol=1e-9)


def test_the_calendar_does_not_matter(fitted: Forecaster, cases) -> None:
    history, times, _ = cases
    here = fitted.forecast(history, times, draws=39)
    there = fitted.forecast(shifted(history, 1000.0), times + 1000, draws=39)
    torch.testing.assert_close(here.draws, there.draws, rtol=1e-6, atol=1e-6)


def test_the_seed_names_the_draws(fitted: Forecaster, cases) -> None:
    history, times, _ = cases
    first, again = (fitted.forecast(history, times, seed=5, draws=39) for _ in range(2))
    other = fitted.forecast(history, times, seed=6, draws=39)
    assert torch.equal(first.draws, again.draws)
    assert not torch.equal(first.draws, other.draws)


def test_times_are_checked(fitted: Forecaster, cases) -> None:
    history, times, _ = cases
    with pytest.raises(ConfigError, match="after the last visit"):
        fitted.forecast(history, history.last_times[:, None])
    with pytest.raises(ConfigError, match="increasing"):
        fitted.forecast(history, torch.cat([times, times], 1))
    with pytest.raises(ShapeError, match="one row of times per patient"):
        fitted.forecast(history, times[:3])


def test_targets_are_checked() -> None:
    with pytest.raises(ConfigError, match="next or last"):
        LastValue("soon")  # pyright: ignore[reportArgumentType]
