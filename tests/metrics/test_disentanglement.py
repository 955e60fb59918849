"""Scores of disentanglement on codes whose relation to the factors is known."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from latens.errors import ShapeError
from latens.metrics.disentanglement import (
    CHANCE,
    _one_hot,
    adjusted_information,
    completeness,
    correlations,
    disentanglement,
    importances,
    modularity,
    mutual_information_gap,
    separated_predictability,
)

RANDOM = np.random.default_rng(0)
N = 300
FACTORS = RANDOM.uniform(size=(N, 4))
SPARE = RANDOM.normal(size=(N, 6))


def scores(codes: np.ndarray, factors: np.ndarray = FACTORS) -> dict[str, float]:
    information, importance = adjusted_information(codes, factors), importances(codes, factors)
    return {
        "mig": mutual_information_gap(information),
        "modularity": modularity(information),
        "sap": separated_predictability(codes, factors),
        "disentanglement": disentanglement(importance),
        "completeness": completeness(importance),
    }


def test_a_latent_for_every_factor():
    """In other units, another order, and beside latents of noise."""
    codes = np.concatenate([SPARE, 3 - 2 * FACTORS[:, ::-1]], 1)
    found = scores(codes)
    assert found["mig"] == pytest.approx(1, abs=1e-12)
    assert found["modularity"] > 0.99
    assert found["sap"] > 0.95
    assert found["disentanglement"] > 0.95
    assert found["completeness"] > 0.95
    curved = adjusted_information(np.exp(3 * codes), FACTORS)
    assert mutual_information_gap(curved) == pytest.approx(1, abs=1e-12)


def test_factors_turned_by_half_a_right_angle():
    """Every latent is half of two factors, every factor half in two latents."""
    turn = np.kron(np.eye(2), [[1, 1], [-1, 1]])
    found = scores(np.concatenate([(FACTORS - 0.5) @ turn, SPARE], 1))
    assert found["mig"] < 0.1
    assert found["modularity"] == pytest.approx(1 - 1 / 3, abs=0.1)  # one of three others
    assert found["sap"] < 0.15
    # Two equal importances of four factors: 1 − log 2 / log 4; of ten latents 1 − log 2 / log 10.
    assert found["disentanglement"] == pytest.approx(0.5, abs=0.1)
    assert found["completeness"] == pytest.approx(1 - np.log(2) / np.log(10), abs=0.1)


def test_latents_that_know_nothing():
    found = [scores(RANDOM.normal(size=(N, 10))) for _ in range(10)]
    for name in ("mig", "modularity", "disentanglement", "completeness"):
        assert all(one[name] == 0 for one in found)
    assert max(one["sap"] for one in found) < 0.02


def test_what_each_score_asks_for():
    """Two latents for each factor: disentangled and not complete. One latent of two factors: the
    other way round. Factors that no latent knows count in MIG and SAP alone.
    """
    twice = scores(np.concatenate([FACTORS, FACTORS + 0.001 * SPARE[:, :4]], 1))
    assert twice["mig"] < 0.1
    assert twice["sap"] < 0.01
    assert twice["modularity"] > 0.99
    assert twice["disentanglement"] > 0.9
    assert twice["completeness"] < twice["disentanglement"]
    both = scores(np.concatenate([FACTORS[:, :1] + FACTORS[:, 1:2], SPARE], 1))
    assert both["completeness"] > 0.9
    assert both["disentanglement"] < 0.6
    assert both["modularity"] < 0.75
    half = scores(np.concatenate([FACTORS[:, :2], SPARE], 1))
    assert half["mig"] == pytest.approx(0.5, abs=1e-12)
    assert half["modularity"] > 0.99
    assert half["disentanglement"] > 0.95


def test_information_is_that_of_the_bins():
    codes = np.concatenate([FACTORS[:, :2] + 0.3 * SPARE[:, :2], SPARE[:, 2:4]], 1)
    found = adjusted_information(codes, FACTORS).share
    bins = 7  # five of 300 scans to a cell
    labels = [_one_hot(values, bins).argmax(2) for values in (codes, FACTORS)]
    assert all(set(np.bincount(column)) == {42, 43} for column in labels[0].T)
    for i in range(4):
        for j in range(4):
            # Margins are equal but for a scan, so that all averages of entropies are alike.
            expected = adjusted_mutual_info_score(labels[0][:, i], labels[1][:, j])
            assert found[i, j] == pytest.approx(max(expected, 0), abs=1e-9)
            plain = normalized_mutual_info_score(labels[0][:, i], labels[1][:, j])
            assert plain > expected


def test_chance_is_called_knowledge_as_seldom_as_stated():
    """In 1000 codes without knowledge; 1 % and four standard errors."""
    found = 0
    for _ in range(1000):
        codes, factors = RANDOM.normal(size=(100, 5)), RANDOM.uniform(size=(100, 5))
        found += bool(adjusted_information(codes, factors).known.any())
    assert found <= 1000 * (CHANCE + 4 * np.sqrt(CHANCE / 1000))


def test_separated_predictability_is_a_difference_of_squared_correlations():
    codes = np.stack([FACTORS[:, 0] + 0.1 * SPARE[:, 0], FACTORS[:, 0] + SPARE[:, 1]], 1)
    table = np.corrcoef(np.concatenate([codes, FACTORS[:, :2]], 1).T)[:2, 2:] ** 2
    expected = np.abs(table[0] - table[1]).mean()
    assert separated_predictability(codes, FACTORS[:, :2]) == pytest.approx(expected)


def test_shares_of_given_importances():
    table = np.asarray([[2.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 4]])
    half = 1 - np.log(2) / np.log(3)
    assert disentanglement(table) == pytest.approx((2 + 2 * half + 4) / 8)
    first = 1 + (2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(4)
    assert completeness(table) == pytest.approx((3 * first + 1 + 4) / 8)


def test_correlations_of_latents():
    codes = np.stack([SPARE[:, 0], SPARE[:, 0] + SPARE[:, 1], SPARE[:, 2] ** 2, SPARE[:, 2]], 1)
    exact = np.abs(np.corrcoef(codes.T))[np.triu_indices(4, 1)]
    np.testing.assert_allclose(correlations(codes), exact, atol=1e-12)


def test_what_does_not_fit():
    with pytest.raises(ShapeError, match="one row per scan"):
        adjusted_information(SPARE, FACTORS[:5])
    with pytest.raises(ShapeError, match="k ≥ 2"):
        importances(SPARE[:, :1], FACTORS)
    with pytest.raises(ShapeError, match="n ≥ 20"):
        separated_predictability(SPARE[:19], FACTORS[:19])
