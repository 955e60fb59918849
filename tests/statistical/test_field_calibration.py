"""Simulation-based calibration of the inversion of a neural operator.

z ~ N(0, I), readings from the operator itself: ranks of every coordinate of β and of the
log-likelihood among posterior draws are uniform. With σ doubled in the posterior they are not.
"""

import numpy as np
import pytest
import torch

from inference.fields.field_cases import operator_model, simulated, target_of
from latens.inference.fields import FieldChains
from latens.inference.samplers import HMC
from latens.metrics.uniformity import ecdf_test

pytestmark = pytest.mark.slow
SCALE, PAIRS, DRAWS = 0.3, 120, 39


def p_values(assumed: float) -> np.ndarray:
    """p of uniform ranks: two coordinates of β, and the misfit."""
    model = operator_model()
    y, z = simulated(model, PAIRS, SCALE, seed=11)
    solver = FieldChains(
        target_of(model, assumed), kernel=HMC(max_steps=32), chains=6, draws=100, warmup=80
    )
    posterior = solver(y, seed=4)
    diagnoses = posterior.chains.diagnoses
    assert sum(d.rhat < d.chance and not d.divergences for d in diagnoses) > 0.9 * PAIRS
    v = posterior.positions(DRAWS)
    with torch.no_grad():
        w, truth = posterior.target.latents(v), model.push(z)
        misfit = posterior.innovation(w).square().sum(-1, keepdim=True)
        true_misfit = posterior.innovation(truth[None]).square().sum(-1, keepdim=True)[0]
    draws = torch.cat([torch.tanh(w), misfit], -1)
    exact = torch.cat([torch.tanh(truth), true_misfit], -1)
    ranks = (draws < exact).sum(0).numpy()  # (PAIRS, 3)
    return np.ravel(ecdf_test(ranks, DRAWS)[1])


def test_ranks_are_uniform():
    assert p_values(SCALE).min() > 0.01 / 3


def test_a_wrong_noise_level_is_seen():
    assert p_values(2 * SCALE).min() < 1e-3
