"""Last value and growth curves, against known curves and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from inference.forecasting.growth_cases import uneven
from latens.data import series_from_visits
from latens.errors import DataError
from latens.inference.forecasting import (
    EXPONENTIAL,
    GOMPERTZ,
    LOGISTIC,
    FittedCurve,
    LastValue,
)
from latens.inference.forecasting.curves import fit_curve

TIMES = np.array([0.0, 20.0, 55.0, 80.0, 130.0])


def history_of(log_volumes: np.ndarray, limit: float = 1e-3):
    volumes = np.where(log_volumes > math.log(limit), np.exp(log_volumes), 0.0)
    return series_from_visits(["p"] * len(TIMES), TIMES, volumes, limit=limit)


KNOWN = {
    "exponential": (EXPONENTIAL, lambda t: 5.0 + 0.01 * t),
    "logistic": (LOGISTIC, lambda t: 7.0 - np.log(1 + 30 * np.exp(-0.04 * t))),
    "Gompertz": (GOMPERTZ, lambda t: 8.0 - 4.0 * np.exp(-0.015 * t)),
    "regression": (GOMPERTZ, lambda t: 3.0 + 4.0 * np.exp(-0.03 * t)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_exact_curves_are_continued(name: str) -> None:
    curve, truth = KNOWN[name]
    later = np.array([[150.0, 200.0]])
    found = fit_curve(curve, history_of(truth(TIMES)), torch.from_numpy(later), 0.1)
    np.testing.assert_allclose(found.numpy(), truth(later), atol=0.02)


def test_gompertz_is_the_least_squares_fit() -> None:
    noise = np.array([0.1, -0.15, 0.05, 0.12, -0.08])
    y = 8.0 - 4.0 * np.exp(-0.015 * TIMES) + noise
    later = np.array([[150.0]])

    def curve(p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return p[0] - p[1] * np.exp(-np.exp(p[2]) * t)

    best = optimize.least_squares(lambda p: curve(p, TIMES) - y, [8.0, 4.0, -4.0])
    found = fit_curve(GOMPERTZ, history_of(y), torch.from_numpy(later), 0.1)
    assert float(found[0, 0]) == pytest.approx(float(curve(best.x, later)[0, 0]), abs=2e-3)


def test_zeros_are_censored_not_read_as_the_limit() -> None:
    limit, sigma = 20.0, 0.3
    y = np.array([6.0, 5.0, 3.6, 0.0, 0.0])  # the last two below log 20 = 3.0
    later = np.array([[150.0]])
    seen = y > math.log(limit)

    def loss(p: np.ndarray) -> float:
        f = p[0] + p[1] * TIMES
        below = stats.norm.logcdf((math.log(limit) - f[~seen]) / sigma).sum()
        return 0.5 * (((y - f)[seen] / sigma) ** 2).sum() - below

    best = optimize.minimize(loss, [6.0, -0.02], method="Nelder-Mead", tol=1e-10).x
    expected = best[0] + best[1] * 150.0
    found = fit_curve(EXPONENTIAL, history_of(y, limit), torch.from_numpy(later), sigma)
    assert float(found[0, 0]) == pytest.approx(expected, abs=2e-2)
    assert expected < math.log(limit) - 0.5  # where the last value would stand


def test_few_visits_fall_back() -> None:
    y = 5.0 + 0.01 * TIMES
    later = torch.tensor([[150.0]], dtype=torch.float64)
    three = history_of(y).first(torch.tensor([3]))
    line = fit_curve(EXPONENTIAL, three, later, 0.1)
    assert float(line) == pytest.approx(6.5, abs=1e-3)
    assert torch.equal(fit_curve(GOMPERTZ, three, later, 0.1), line)
    two = history_of(y).first(torch.tensor([2]))
    assert float(fit_curve(LOGISTIC, two, later, 0.1)) == pytest.approx(5.2)


def test_last_value_adds_the_errors_of_others() -> None:
    series = uneven()
    model = LastValue("last", 3)
    model.fit(series)
    history, times, truth = series.split_last(3)
    errors = (truth - history.last_log_volumes[:, None])[:, 0]
    seen = history.last_log_volumes > series.log_limit
    assert int(seen.sum()) >= 20
    draws = model.forecast(history, times, draws=4000).draws[..., 0]
    row = int(seen.nonzero()[0])
    made = draws[:, row] - history.last_log_volumes[row]
    allowed = errors[seen].clamp(min=float(series.log_limit - history.last_log_volumes[row]))
    distance = (made[:, None] - allowed).abs().min(1).values
    assert float(distance.max()) < 1e-9
    share = float((made == 0).double().mean())
    assert share == pytest.approx(float((allowed == 0).double().mean()), abs=0.03)


def test_next_visits_give_more_errors_than_last_ones() -> None:
    series = uneven()
    last, following = LastValue("last", 3), LastValue("next", 3)
    last.fit(series)
    following.fit(series)
    seen = {False, True}
    count = {kind: sum(len(m.errors[kind]) for kind in seen) for kind, m in enumerate([last])}
    assert count[0] <= 2 * len(series)
    assert len(following.errors[False]) > len(last.errors[False])


def test_too_few_visits_for_any_error() -> None:
    with pytest.raises(DataError, match="at least 9 visits"):
        LastValue("last", 9).fit(uneven())
    with pytest.raises(DataError, match="a patient with 9 visits"):
        FittedCurve(GOMPERTZ, "next", 9).fit(uneven())
