"""The core set: names, statistics of means, and values of known rows."""

import pickle

import numpy as np
import pytest

from latens.errors import ConfigError
from latens.metrics import CALIBRATION_LEVELS, CATALOGUE, metric
from latens.metrics.metric import Kinked

CORE = [
    *("psnr", "ssim", "nmse", "mse", "data_chi2", "interval_width", "crps"),
    *("rre", "data_deviance", "psnr_draw", "ssim_draw"),
    *("ce_pixel", "ace_pixel", "rmsce_pixel", "coverage_pixel", "n_eff_pixel"),
    *("ce_region", "ace_region", "coverage_region"),
    *("ce_principal", "ace_principal", "coverage_principal", "mahalanobis_principal"),
    *("spread_skill", "z_variance", "mse_draw_ratio", "nll", "nll_pixel"),
    *("variance_within", "variance_between", "between_share"),
    *("null_variance_within", "null_variance_between"),
    *("interval_score", "energy_score", "variogram_score", "ence", "uce"),
    *("ause", "aurg", "ause_reference", "error_rank_correlation"),
    *("lipschitz", "lipschitz_whitened", "condition_number", "mean_square_gain"),
    *("lipschitz_ball", "noise_amplification_max", "expected_chi2"),
    *("noise_amplification", "noise_amplification_q95"),
    *("relative_worst_error_1", "relative_worst_error_2", "relative_worst_error_5"),
    *("relative_worst_error_10", "worst_over_wiener", "worst_over_tv"),
    *("image_attack_perturbation", "image_attack_change"),
    *("worst_error_25", "worst_error_50", "worst_error", "worst_error_200", "worst_excess"),
    *("worst_over_baseline", "worst_patch_error"),
    *("transferred_error", "transferred_over_baseline"),
    *("image_attack", "image_attack_error", "more_samples"),
    *("contrast_recovery_2", "contrast_recovery_5", "contrast_recovery_10"),
    *("worst_coverage_pixel", "worst_coverage_region", "worst_width", "posterior_lipschitz"),
    "posterior_energy",
    *("null_error", "range_mse", "null_variance", "spread_skill_range", "spread_skill_null"),
    *("injected_content", "hallucinated", "unflagged"),
    *("ambiguity", "ambiguity_error", "ambiguity_slope"),
    *("conformal_margin", "conformal_coverage", "conformal_width", "conformal_gain"),
    *("conformal_miss_narrow", "conformal_miss_wide", "conformal_miss_block"),
    "conformal_bad_images",
    *("gap_shift", "gap_w2", "gap_spread", "gap_kl", "gap_crps", "gap_coverage_region"),
]


def test_the_core_set_is_complete_and_unique():
    names = [entry.name for entry in CATALOGUE]
    assert sorted(names) == sorted(CORE)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_statistics_take_many_means_at_once(entry):
    rows = np.random.default_rng(0).uniform(0.1, 1, size=(50, len(entry.components)))
    weights = np.random.default_rng(1).multinomial(50, np.full(50, 0.02), size=7) / 50
    many = entry.statistic(weights @ rows)
    assert many.shape == (7,)
    for replicate, weight in zip(many, weights, strict=True):
        repeated = np.repeat(rows, np.round(weight * 50).astype(int), axis=0)
        assert entry.value(repeated) == pytest.approx(replicate)
    assert entry.support[0] <= entry.value(rows) <= entry.support[1]
    assert pickle.loads(pickle.dumps(entry)).value(rows) == entry.value(rows)
    assert entry.definition.endswith(".")


def test_signed_and_absolute_coverage_errors():
    signs = np.where(np.arange(len(CALIBRATION_LEVELS)) % 3 == 0, -0.1, 0.2)
    rows = np.stack([signs + 0.3, signs - 0.3])  # the noise of single images cancels
    assert metric("ce_region").value(rows) == pytest.approx(signs.mean())
    assert metric("ace_region").value(rows) == pytest.approx(np.abs(signs).mean())


def test_readers_are_told_what_a_bound_does_not_say():
    posterior, pair = metric("posterior_lipschitz"), metric("ambiguity")
    assert "marginals" in posterior.label
    assert "Correlations between elements do not enter" in posterior.definition
    assert "it bounds no error at x alone, such as `worst_error`" in pair.definition


def test_root_mean_square_coverage_error_by_hand():
    signs = np.where(np.arange(len(CALIBRATION_LEVELS)) == 4, -0.3, 0.1)
    rows = np.stack([signs + 0.3, signs - 0.3])
    expected = np.sqrt((8 * 0.01 + 0.09) / 9)
    assert metric("rmsce_pixel").value(rows) == pytest.approx(expected)
    assert metric("rmsce_pixel").value(rows) > metric("ace_pixel").value(rows)


def test_effective_pixels_of_known_dependence():
    """Images of 40 independent blocks of equal pixels have 40 effective pixels."""
    rng = np.random.default_rng(2)
    inside = np.repeat(rng.random((20_000, 40)) < 0.9, 25, axis=1)
    share = inside.mean(axis=1)
    found = metric("n_eff_pixel").value(np.stack([share, share**2], axis=1))
    assert found == pytest.approx(40, rel=5 * np.sqrt(2 / 20_000))  # of a variance
    whole = np.array([0.0, 1.0, 1.0, 1.0])
    assert metric("n_eff_pixel").value(np.stack([whole, whole**2], axis=1)) == 1.0
    same = np.full((5, 2), [0.5, 0.25])
    assert metric("n_eff_pixel").value(same) == np.inf


@pytest.mark.parametrize(
    "entry",
    [entry for entry in CATALOGUE if isinstance(entry.statistic, Kinked)],
    ids=lambda entry: entry.name,
)
def test_a_norm_bounds_what_a_kinked_statistic_changes_by(entry):
    """|f(a) − f(b)| ≤ ‖θ(a) − θ(b)‖, which its interval rests on."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.1, 1, size=(2, 200, len(entry.components)))
    f = entry.statistic
    bound = f.norm(f.deviations(a) - f.deviations(b))
    change = np.abs(f(a) - f(b))
    assert (change <= bound + 1e-12).all()
    assert (change > 0).all()


def test_the_metrics_with_a_kink():
    kinked = {entry.name for entry in CATALOGUE if isinstance(entry.statistic, Kinked)}
    errors = {"ace_pixel", "ace_region", "ace_principal", "rmsce_pixel"}
    assert kinked == errors | {"ence", "uce", "conformal_miss_block"}


def test_ratios_are_taken_after_averaging():
    rows = np.array([[4.0, 1.0], [4.0, 7.0]])
    assert metric("spread_skill").value(rows) == pytest.approx(1.0)
    assert metric("mse_draw_ratio").value(rows) == pytest.approx(1.0)


def test_unknown_names_and_wrong_columns():
    with pytest.raises(ConfigError, match="spread_skill"):
        metric("ssr")
    with pytest.raises(ConfigError, match="spread, skill"):
        metric("spread_skill").value(np.ones((4, 3)))
