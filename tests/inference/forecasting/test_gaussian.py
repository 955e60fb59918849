"""Pooled Gaussian forecasts against scikit-learn and statsmodels."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from inference.forecasting.growth_cases import uneven
from latens.inference.forecasting import GaussianProcess, MixedEffects


@pytest.mark.parametrize("order", [0.5, 1.5, math.inf])
def test_conditional_moments_against_scikit_learn(order: float) -> None:
    series = uneven().take(range(12))
    history, times, _ = series.split_last(3)
    model = GaussianProcess()
    model.order, model.unit = order, (6.0, 1.5, 40.0)
    model.theta = torch.tensor([-1.2, 0.3, -0.4, 0.1, 0.7], dtype=torch.float64)
    later = torch.cat([times, times + 50], 1)
    mean, std = model.moments(history, later)
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
    series = uneven()
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
