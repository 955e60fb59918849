"""Arrays that describe a posterior, and ranks, on posteriors that are known."""

import numpy as np
import pytest
import torch

from inference.fields.field_cases import SENSORS, operator_model, simulated, target_of
from latens.distributions import NoiseStream
from latens.inference.fields import DecodedSensors, FieldImportance, FieldLaplace
from latens.studies.pde.calibration import Ranks, of_fields, of_latents
from latens.studies.pde.outputs import correlations, described, first_rows, place_nodes

SCALE = 0.1


def test_correlations_are_those_of_numpy():
    draws = NoiseStream(3).normal((50, 2, 12), torch.float64).cumsum(-1)
    draws[..., 5] = 2.0
    found = correlations(draws, torch.tensor([0, 7]))
    for field in range(2):
        kept = [n for n in range(12) if n != 5]
        expected = np.corrcoef(draws[:, field, kept].numpy().T)
        np.testing.assert_allclose(found[field, 0, kept], expected[0], atol=1e-12)
        np.testing.assert_allclose(found[field, 1, kept], expected[kept.index(7)], atol=1e-12)
    assert (found[..., 5] == 0).all()


def test_points_lie_where_they_should():
    assert place_nodes((9, 11)).tolist() == [4 * 11 + 5, 6 * 11 + 2, 2 * 11 + 8]
    assert place_nodes((8,)).tolist() == [4, 2, 6]


def test_a_posterior_is_described_by_its_own_draws():
    model = operator_model()
    y, _ = simulated(model, 3, SCALE)
    posterior = FieldLaplace(target_of(model, SCALE), draws=200)(y, keys=[5, 6, 7], seed=2)
    arrays = described(first_rows(posterior, 2), 0.95)
    np.testing.assert_allclose(arrays["mean"], posterior.mean[:2], rtol=1e-6)
    np.testing.assert_allclose(arrays["upper"], posterior.interval().upper[:2], rtol=1e-6)
    many = posterior.sample(200)[:, :2].flatten(2)
    points = place_nodes((9, 9))
    np.testing.assert_allclose(arrays["marginals"], many[..., points], rtol=1e-5)
    lower, median, upper = arrays["predicted"]
    assert (lower < median).all()
    assert (median < upper).all()
    with torch.no_grad():
        w = model.push(posterior.pool[0])
        spread = DecodedSensors(model, SENSORS)(w).var(0) + SCALE**2
    width = (upper - lower)[0] / (2 * 1.96 * spread.sqrt().numpy())
    assert (np.abs(width - 1) < 0.35).all()  # 200 replicates; the interval is of quantiles


def test_ranks_find_a_posterior_that_is_too_narrow():
    """Weighted draws are those of the posterior, and pass; the same drawn together do not."""
    model = operator_model()
    predict = DecodedSensors(model, SENSORS)
    z = NoiseStream(4).normal((150, 2), torch.float64)
    with torch.no_grad():
        clean = predict(model.push(z))
    y = clean + SCALE * NoiseStream(5).normal((150, len(SENSORS)), torch.float64)
    ranks, target = Ranks(), target_of(model, SCALE)
    solver = FieldImportance(FieldLaplace(target, climbs=3, draws=1000), target, draws=1000)
    posterior = solver(y, keys=list(range(150)), seed=1)
    ranks.add("right", of_latents(posterior, z), posterior)
    for row, pool in enumerate(posterior.pool):
        posterior.pool[row] = pool.mean(0) + 0.4 * (pool - pool.mean(0))
    ranks.add("narrow", of_latents(posterior, z), posterior)
    found = dict(ranks.tests("model", 0))
    assert found["right"].p_adjusted.min() > 0.01
    # 999 relabellings: none is as extreme.
    assert found["narrow"].p_adjusted.min() == pytest.approx(1e-3)
    counted = 150 - found["right"].untrusted
    assert counted > 140
    assert found["right"].ranks["values at nodes"].shape == (counted, 9)


def test_too_few_fields_are_not_tested():
    ranks = Ranks()
    members = NoiseStream(1).normal((40, 10, 1, 4, 4))
    model = operator_model()
    y, _ = simulated(model, 10, SCALE)
    estimate = FieldLaplace(target_of(model, SCALE), climbs=1, draws=40)(y)
    ranks.add("few", of_fields(members), estimate)
    assert list(ranks.tests("data", 0)) == []
