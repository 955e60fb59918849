"""Pooled Gaussian forecasts against scikit-learn and statsmodels."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from inference.forecasting.growth_cases import uneven
from latens.data import VolumeSeries, series_from_visits
from latens.inference.forecasting import GaussianProcess, MixedEffects


def seen_alone() -> VolumeSeries:
    """Patients without a censored reading, of whom other software knows what to make."""
    series = uneven()
    return series.take((~series.censored.any(1)).nonzero()[:, 0])


@pytest.mark.parametrize("order", [0.5, 1.5, math.inf])
def test_conditional_moments_against_scikit_learn(order: float) -> None:
    series = seen_alone().take(range(12))
    history, times, _ = series.split_last(3)
    model = GaussianProcess()
    model.order, model.unit = order, (6.0, 1.5, 40.0)
    model.theta = torch.tensor([-1.2, 0.3, -0.4, 0.1, 0.7], dtype=torch.float64)
    later = torch.cat([times, times + 50], 1)
    components, weights, std = model.conditional(history, later)
    assert len(weights) == 1
    mean = components[0]
    noise, centre, level, scale, length = model.theta.tolist()
    shape = RBF(math.exp(length)) if order == math.inf else Matern(math.exp(length), nu=order)
    kernel = ConstantKernel(math.exp(2 * level)) + ConstantKernel(math.exp(2 * scale)) * shape
    kernel = kernel + WhiteKernel(math.exp(2 * noise) + 1e-6)
    likelihood = model.log_likelihood(model.theta, history)
    for row in range(len(history)):
        n = int(history.visits[row])
        t = ((history.times[row, :n] - history.times[row, 0]) / 40.0).numpy()[:, None]
        y = ((history.log_volumes[row, :n] - 6.0) / 1.5).numpy() - centre
        peer = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(t, y)
        at = ((later[row] - history.times[row, 0]) / 40.0).numpy()[:, None]
        expected, spread = peer.predict(at, return_std=True)
        np.testing.assert_allclose(mean[row], 6.0 + 1.5 * (expected + centre), atol=1e-8)
        np.testing.assert_allclose(std[row], 1.5 * np.asarray(spread), atol=1e-8)
        value = peer.log_marginal_likelihood_value_
        assert float(likelihood[row]) == pytest.approx(value, abs=1e-8)


def test_pooled_maximum_is_a_maximum() -> None:
    series = uneven().take(range(30))
    model = GaussianProcess()
    model.fit(series)
    assert model.converged
    best = float(model.log_likelihood(model.theta, series).sum())
    for j in range(len(model.theta)):
        for step in (-0.05, 0.05):
            moved = model.theta.clone()
            moved[j] += step
            assert float(model.log_likelihood(moved, series).sum()) < best + 1e-3
    others = []
    for order in (0.5, 1.5, math.inf):
        model.order = order
        others.append(float(model.log_likelihood(model.theta, series).sum()))
    assert max(others) <= best + 1e-9


def test_mixed_effects_reach_the_likelihood_of_statsmodels() -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    series = seen_alone()
    model = MixedEffects()
    model.fit(series)
    rows, columns = series.mask.nonzero().unbind(1)
    loc, scale, unit = model.unit
    t = ((series.times - series.times[:, :1]) / unit)[rows, columns].numpy()
    y = ((series.log_volumes - loc) / scale)[rows, columns].numpy()
    design = np.stack([np.ones_like(t), t], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = statsmodels.MixedLM(y, design, rows.numpy(), design).fit(reml=False)
    ours = float(model.log_likelihood(model.theta, series).sum())
    assert ours == pytest.approx(float(peer.llf), abs=0.05)
    np.testing.assert_allclose(model.theta[1:3], peer.fe_params, atol=0.03)


LIMIT = 20.0


def censored_case() -> VolumeSeries:
    """Zeros before, between and after readings; one patient with nothing else but one reading."""
    volumes = {
        "between": [30.0, 0.0, 0.0, 45.0, 0.0],
        "before": [0.0, 25.0, 70.0],
        "seen": [50.0, 60.0],
        "gone": [0.0, 0.0, 0.0, 22.0],
    }
    rows = [(name, 20.0 * k, v) for name, own in volumes.items() for k, v in enumerate(own)]
    names, times, values = zip(*rows, strict=True)
    return series_from_visits(names, times, values, limit=LIMIT)


def parameters(kind: type) -> torch.Tensor:
    theta = (
        [-0.7, 0.2, -0.3, -0.1, 0.4] if kind is GaussianProcess else [-0.7, 0.2, -0.1, 0, 0, -1]
    )
    return torch.tensor(theta, dtype=torch.float64)


def joint(model, series: VolumeSeries, row: int, later: list[float]) -> tuple[np.ndarray, ...]:
    """Mean and covariance of the readings of a patient and of later ones, log volume."""
    n = int(series.visits[row])
    t = torch.cat([series.times[row, :n] - series.times[row, 0], torch.tensor(later)])[None] / 40
    mean = 3.0 + 0.8 * model.mean(model.theta, t)[0].numpy()
    k = model.covariance(model.theta, t, t)[0].numpy()
    return mean, 0.64 * (k + float(model.noise_variance(model.theta)) * np.eye(len(mean)))


@pytest.mark.parametrize("kind", [MixedEffects, GaussianProcess])
def test_censored_readings_against_the_multivariate_normal(kind: type) -> None:
    """The density of what was seen times the probability that the rest lies below the limit, and
    forecasts given both, against scipy's integral and against rejection.
    """
    series, model = censored_case(), kind()
    model.unit, model.theta = (3.0, 0.8, 40.0), parameters(kind)
    found = model.log_likelihood(model.theta, series)
    later = [130.0, 200.0]
    at = series.times[:, :1] + torch.tensor(later, dtype=torch.float64)
    mean, weights, std = model.conditional(series, at)
    average = (weights[..., None] * mean).sum(0)
    spread = (weights[..., None] * (mean - average).square()).sum(0) + std.square()
    forecast = model.forecast(series, at)
    for row in range(len(series)):
        n = int(series.visits[row])
        loc, cov = joint(model, series, row, later)
        hidden = np.append(series.censored[row, :n].numpy(), [False, False])
        seen = np.append(~series.censored[row, :n].numpy(), [False, False])
        y = series.log_volumes[row, :n].numpy()[seen[:n]]
        density = multivariate_normal.logpdf(y, loc[seen], cov[np.ix_(seen, seen)])
        gain = np.linalg.solve(cov[np.ix_(seen, seen)], cov[seen]).T
        loc, cov = loc + gain @ (y - loc[seen]), cov - gain @ cov[seen]
        expected = density + seen.sum() * math.log(0.8)  # in standard units
        if hidden.any():
            inside = cov[np.ix_(hidden, hidden)]
            limit = np.full(hidden.sum(), math.log(LIMIT))
            probability = multivariate_normal.cdf(limit, loc[hidden], inside, abseps=1e-7)
            expected += math.log(probability)
        assert float(found[row]) == pytest.approx(expected, abs=0.02)
        keep = np.append(np.flatnonzero(hidden), [n, n + 1])
        draws = np.random.default_rng(0).multivariate_normal(
            loc[keep], cov[np.ix_(keep, keep)], 1_000_000
        )
        below = draws[(draws[:, :-2] < math.log(LIMIT)).all(1)][:, -2:]
        # 64 points are .008 from 8192 at worst; rejection has its standard errors, and so have
        # 999 draws.
        close = 0.015 + 4 * below.std(0).max() / math.sqrt(len(below))
        np.testing.assert_allclose(average[row], below.mean(0), rtol=0, atol=close)
        np.testing.assert_allclose(spread[row].sqrt(), below.std(0), rtol=0, atol=close)
        unseen = (below < math.log(LIMIT)).mean(0)
        np.testing.assert_allclose(forecast.unseen[row], unseen, atol=0.06)


def test_a_patient_alone_has_the_likelihood_it_has_among_others() -> None:
    series, model = censored_case(), MixedEffects()
    model.unit, model.theta = (3.0, 0.8, 40.0), parameters(MixedEffects)
    together = model.log_likelihood(model.theta, series)
    for row in range(len(series)):
        alone = model.log_likelihood(model.theta, series.take([row]))
        torch.testing.assert_close(alone, together[[row]], rtol=0, atol=1e-10)


@pytest.mark.parametrize("log_sigma", [0.0, -0.5, -1.0, -1.5])
def test_censored_readings_that_are_a_surprise(log_sigma: float) -> None:
    """A lesion of 9000 mm³ that is gone at the next two visits, 6 to 28 standard deviations below
    what was expected, against an integral over the first of them; and the gradient.
    """
    volumes = [26_000.0, 16_000.0, 11_000.0, 9_000.0, 0.0, 0.0]
    times = [0.0, 60.0, 100.0, 145.0, 185.0, 235.0]
    series = series_from_visits(["gone"] * 6, times, volumes, limit=LIMIT)
    model = MixedEffects()
    model.unit = (3.0, 0.8, 40.0)
    model.theta = parameters(MixedEffects)
    model.theta[0], model.theta[5] = log_sigma, -3.0
    loc, cov = joint(model, series, 0, [])
    y = series.log_volumes[0, :4].numpy()
    gain = np.linalg.solve(cov[:4, :4], cov[:4]).T
    expected = multivariate_normal.logpdf(y, loc[:4], cov[:4, :4]) + 4 * math.log(0.8)
    mean, cov = (loc + gain @ (y - loc[:4]))[4:], (cov - gain @ cov[:4])[4:, 4:]
    first = math.log(LIMIT) - np.linspace(0, 3, 300_001)
    slope = cov[0, 1] / cov[0, 0]
    rest = math.sqrt(cov[1, 1] - slope * cov[0, 1])
    log_density = norm.logpdf(first, mean[0], math.sqrt(cov[0, 0]))
    log_density += norm.logcdf(math.log(LIMIT), mean[1] + slope * (first - mean[0]), rest)
    expected += logsumexp(log_density) + math.log(1e-5)
    found = model.log_likelihood(model.theta, series)
    # 64 points leave an error of a few percent of so small a probability.
    assert float(found[0]) == pytest.approx(expected, abs=0.05)
    theta = model.theta.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model.log_likelihood(p, series), theta, rtol=1e-4)


def test_lines_below_the_limit_are_found_and_not_bent() -> None:
    """A third of the readings are censored, most of them late: as readings at the limit they make
    the fall of the population slower.
    """
    generator = np.random.default_rng(3)
    names, times, values = [], [], []
    for k in range(150):
        level, slope = generator.normal(4.5, 0.8), generator.normal(-0.02, 0.005)
        for t in np.arange(6) * 15.0:
            y = level + slope * t + generator.normal(0, 0.3)
            names.append(str(k))
            times.append(t)
            values.append(math.exp(y) if y > math.log(LIMIT) else 0.0)
    series = series_from_visits(names, times, values, limit=LIMIT)
    share = float(series.censored.sum() / series.mask.sum())
    assert 0.2 < share < 0.5
    at_limit = series_from_visits(names, times, np.maximum(values, LIMIT), limit=LIMIT - 1e-9)
    slopes, scatters = [], []
    for case in (series, at_limit):
        model = MixedEffects()
        model.fit(case)
        assert model.converged
        _, scale, unit = model.unit
        slopes.append(float(model.theta[2]) * scale / unit)
        scatters.append(float(model.noise_variance(model.theta).sqrt()) * scale)
    # Standard errors of the slope and of the scatter over 150 patients are near .0006 and .01.
    assert slopes[0] == pytest.approx(-0.02, abs=0.0025)
    assert scatters[0] == pytest.approx(0.3, abs=0.03)
    assert slopes[1] != pytest.approx(-0.02, abs=0.0025)
