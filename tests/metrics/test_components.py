"""Numbers of components and classes against definitions, known values and scikit-learn."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss

from latens.errors import DataError, ShapeError
from latens.metrics.classes import (
    brier,
    class_log_loss,
    correct,
    expected_calibration_error,
    reliability,
)
from latens.metrics.components import (
    active_components,
    certainty,
    combined_strangeness,
    component_entropy,
    component_information,
    components_per_label,
    effective_components,
    label_coverage,
    latent_information,
    rank_correlation,
    scale_calibration_error,
    scale_reliability,
    tau_sparsity,
    usage_entropy,
)

GENERATOR = np.random.default_rng(0)
Q = GENERATOR.dirichlet(np.full(4, 0.3), 200)
LABELS = GENERATOR.integers(0, 4, 200)


def test_use_of_components():
    usage = Q.mean(0)
    assert usage_entropy(Q) == pytest.approx(stats.entropy(usage))
    assert effective_components(np.eye(7)) == pytest.approx(7)
    assert effective_components(np.tile([1.0, 0, 0], (5, 1))) == pytest.approx(1)
    assert active_components([[0.5, 0.495, 0.005]]) == 2
    np.testing.assert_allclose(component_entropy(Q), stats.entropy(Q, axis=1))


def test_information_in_components():
    assert component_information(np.eye(5)) == pytest.approx(math.log(5))
    assert component_information(np.full((6, 3), 1 / 3)) == pytest.approx(0, abs=1e-12)
    joint = Q / len(Q)
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    expected = (joint * np.log(joint / independent)).sum()
    assert component_information(Q) == pytest.approx(expected)


def test_information_in_latents_of_a_gaussian_channel():
    """z = x + noise: I = ½ log(1 + s²); far apart it saturates at log n."""
    n, s = 1500, 1.5
    x = s * GENERATOR.standard_normal(n)
    z = x + GENERATOR.standard_normal(n)
    found = latent_information(stats.norm.logpdf(z[:, None], x[None, :], 1.0))
    assert found == pytest.approx(0.5 * math.log(1 + s**2), abs=0.06)
    far = 100.0 * np.arange(20.0)
    table = stats.norm.logpdf(far[:, None], far[None, :], 1.0)
    assert latent_information(table) == pytest.approx(math.log(20))
    with pytest.raises(ShapeError, match="log_density"):
        latent_information(np.zeros((3, 2)))


def test_meaning_of_components():
    tau = np.array([[0.9, 0.05, 0.05], [0.02, 0.96, 0.02], [0.8, 0.2, 0.0], [0.0, 0.1, 0.9]])
    used = np.array([[0.4, 0.3, 0.295, 0.005]])
    assert label_coverage(tau, used) == 2  # the component of the last class is not active
    assert label_coverage(tau, np.full((1, 4), 0.25)) == 3
    np.testing.assert_array_equal(components_per_label(tau), [2, 2, 1])
    assert tau_sparsity(tau) == pytest.approx(4 / 12)
    assert tau_sparsity(np.eye(10)) == pytest.approx(0.9)
    q = np.array([[0.5, 0.5, 0, 0], [0, 0, 1.0, 0]])
    np.testing.assert_allclose(certainty(q, tau), [0.48, 0.8])


def test_classes_against_scikit_learn():
    assert class_log_loss(Q, LABELS).mean() == pytest.approx(log_loss(LABELS, Q))
    right = correct(Q, LABELS)
    assert right.mean() == pytest.approx((Q.argmax(1) == LABELS).mean())
    two = np.stack([1 - Q[:, 0], Q[:, 0]], 1)
    outcome = (LABELS == 0).astype(int)
    expected = 2 * brier_score_loss(outcome, Q[:, 0])
    assert brier(two, outcome).mean() == pytest.approx(expected)


def test_calibration_of_classes_bin_by_bin():
    table = reliability(Q, LABELS, 10)
    confidence, right = Q.max(1), Q.argmax(1) == LABELS
    total = 0.0
    for j in range(10):
        inside = (confidence >= j / 10) & (confidence < (j + 1) / 10)
        assert table[j, 0] == pytest.approx(inside.mean())
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(Q, LABELS, 10) == pytest.approx(total)
    assert total > 0.1
    assert expected_calibration_error(np.eye(4), np.arange(4)) == 0


def test_calibrated_probabilities_have_little_error():
    p = GENERATOR.dirichlet(np.ones(3), 20000)
    y = (p.cumsum(1) > GENERATOR.random(20000)[:, None]).argmax(1)
    assert expected_calibration_error(p, y) < 0.015
    sharpened = p**3 / (p**3).sum(1, keepdims=True)
    assert expected_calibration_error(sharpened, y) > 0.1


@pytest.mark.parametrize(
    ("p", "y", "error"),
    [
        (np.full((2, 2), 0.5), [0], ShapeError),
        (np.full((2, 2), 0.5), [0, 2], DataError),
        (np.full((2, 2), 0.5), [0, -1], DataError),
        (np.full((2, 2), 0.7), [0, 1], DataError),
    ],
)
def test_what_is_no_classification(p, y, error):
    with pytest.raises(error):
        correct(p, y)


def test_combination_of_scores_by_their_tails():
    """Nine usual scores: the largest lies above u = 7, by 1 or by 3."""
    usual = np.stack([np.arange(9.0), np.append(np.arange(8.0), 10.0)[::-1]], 1)
    found = combined_strangeness([[4.0, 4.0], [7.0, 7.5], [100.0, 4.0], [-5.0, 70.0]], usual)
    middle, start = -math.log(6 / 10), -math.log(2 / 10)
    expected = [2 * middle, -math.log(3 / 10) + start + 0.5 / 3, start + 93 + middle, start + 21]
    np.testing.assert_allclose(found, expected)
    with pytest.raises(DataError, match="finite"):
        combined_strangeness([[np.nan, 0]], usual)
    with pytest.raises(ShapeError, match="usual"):
        combined_strangeness([[0.0, 0.0]], usual[:1])


def test_fisher_is_chi_square_for_usual_images():
    usual = GENERATOR.standard_normal((20000, 3))
    found = combined_strangeness(GENERATOR.standard_normal((5000, 3)), usual)
    assert stats.kstest(2 * found, stats.chi2(6).cdf).pvalue > 1e-3


def test_rank_correlation():
    a, b = GENERATOR.integers(0, 5, 50), GENERATOR.standard_normal(50)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert rank_correlation(np.ones(50), b) == 0


def test_reliability_of_sigma_bin_by_bin():
    sigma = GENERATOR.permutation(np.linspace(0.1, 1.0, 35))
    error = GENERATOR.gamma(2.0, 0.1, 35)
    found = scale_reliability(sigma, error)
    assert found.shape == (10, 3)
    ranks, start = np.argsort(sigma), 0
    for share, stated, seen in found:
        own = ranks[start : start + round(35 * share)]
        assert len(own) in (3, 4)
        assert stated == pytest.approx(math.sqrt(np.mean(sigma[own] ** 2)))
        assert seen == pytest.approx(math.sqrt(np.mean(error[own])))
        start += len(own)
    assert start == 35
    expected = sum(p * abs(s - e) / s for p, s, e in found)
    assert scale_calibration_error(sigma, error) == pytest.approx(expected)
    np.testing.assert_allclose(
        scale_reliability(np.full(9, 0.2), np.full(9, 0.09)), [[1, 0.2, 0.3]]
    )
    assert len(scale_reliability([0.1, 0.2], [1.0, 1.0])) == 2


def test_sigma_is_calibrated_where_errors_are_drawn_from_it():
    sigma = GENERATOR.uniform(0.1, 0.5, 4000)
    error = sigma**2 * GENERATOR.chisquare(50, 4000) / 50
    assert scale_calibration_error(sigma, error) < 0.02
    assert scale_calibration_error(2 * sigma, error) == pytest.approx(0.5, abs=0.02)
    assert scale_calibration_error(np.full(4000, sigma.mean()), error) < 0.1
    flat = GENERATOR.permutation(sigma)  # right on average, wrong of each image
    assert scale_calibration_error(flat, error) > 0.2


@pytest.mark.parametrize(("sigma", "error"), [([], []), ([0.1], [0.1, 0.2]), ([[0.1]], [[0.1]])])
def test_what_has_no_reliability(sigma, error):
    with pytest.raises(ShapeError, match="scale"):
        scale_reliability(sigma, error)
